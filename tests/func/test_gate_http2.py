# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 through the gate: frames on both sides, then real clients and servers."""
import json
import os
import ssl
import subprocess
import threading
import time

import pytest
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from conftest import wait_for
from gate_client import Guest
from gate_driver import PATIENCE, Nobody, Server, credential, rule
from http2_peer import Client, Http2Server
from programs import free_port, running
from test_gate import SECRET, gate, pki, serve  # noqa: F401 (fixtures)

API = "api.example.test"


def context(pki, *alpn):
    ctx = pki.context()
    ctx.set_alpn_protocols(list(alpn))
    return ctx


@pytest.fixture
def h2(gate, serve, pki):  # noqa: F811
    """Makes an HTTP/2 server behind a gate that reads its requests, because of a credential."""
    def make(handler=None, rules=(), alpn=("h2", "http/1.1"), **kw):
        s = serve(Http2Server(handler, tls=context(pki, *alpn), **kw))
        g = gate(rules=[rule(f"{API}:443"), *rules], credentials=[credential("api", API)],
                 secrets={"api": SECRET}, resolves={API: s.address})
        return s, g
    return make


def connect(g, alpn=("h2", "http/1.1"), host=API, **kw):
    c = g.open(host, 443).tls(alpn=alpn)
    assert c.sock.selected_alpn_protocol() == "h2"
    return Client(c, **kw)


# ---- which protocol ----


@pytest.mark.parametrize("server, guest, expected", [
    (("h2", "http/1.1"), ("h2", "http/1.1"), "h2"),
    (("h2", "http/1.1"), ("http/1.1",), "http/1.1"),
    (("http/1.1",), ("h2", "http/1.1"), "http/1.1"),
    (("h2",), ("h2",), "h2"),
    (None, ("h2", "http/1.1"), None),
])
def test_protocol_is_the_servers_choice(gate, serve, pki, server, guest, expected):  # noqa: F811
    offered = []
    ctx = pki.context() if server is None else context(pki, *server)
    if server is None:
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(pki.cert, pki.key)

    def handler(sock):
        offered.append(sock.selected_alpn_protocol())
        sock.recv(100)
    s = serve(Server(handler, tls=ctx))
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={API: s.address})
    c = g.open(API, 443).tls(alpn=guest)
    assert c.sock.selected_alpn_protocol() == expected
    c.send(b"x")
    wait_for(lambda: offered, what="the server's handshake")
    assert offered == [expected]


def test_request_and_credential(h2):
    s, g = h2(lambda r: r.respond(b"hello " + r.read_all()))
    c = connect(g)
    r = c.request("/v1/things?q=1", "POST", [("content-type", "text/plain"),
                                             ("authorization", "Bearer proxy-managed")], b"you")
    assert (r.status, bytes(r.body)) == (200, b"hello you")
    got = s.requests[0]
    assert got.headers["authorization"] == f"Bearer {SECRET}"
    assert [v for n, v in got.list if n == "authorization"] == [f"Bearer {SECRET}"]
    assert got.headers[":path"] == "/v1/things?q=1"
    assert got.headers[":authority"] == API and got.headers[":scheme"] == "https"
    line = g.audit(1)[-1]
    assert line["method"] == "POST" and line["path"] == "/v1/things" and line["status"] == 200
    assert line["bytes_up"] == 3 and line["bytes_down"] == 9 and line["credential"] == "api"
    assert "ttfb_ms" in line and line["verdict"] == "allow" and line["proto"] == "https"


def test_value_that_comes_back_is_masked(h2):
    def handler(r):
        r.read_all()
        seen = r.headers["authorization"]
        r.head(200, ("x-echo", seen))
        for c in f"<{seen}>":
            r.data(c.encode())
        r.end_with(("x-trailer", seen))
    s, g = h2(handler)
    r = connect(g).request(method="POST", body=b"x")
    hidden = "Bearer " + "*" * len(SECRET)
    assert r.headers["x-echo"] == hidden and dict(r.trailers)["x-trailer"] == hidden
    shown = bytes(r.body).decode()
    assert len(shown) == len(hidden) + 2 and SECRET[3:] not in shown
    assert s.requests[0].headers["authorization"] == f"Bearer {SECRET}"


def test_compressed_answer_to_a_credential_is_stopped(h2):
    s, g = h2(lambda r: r.respond(b"x", 200, ("content-encoding", "gzip")))
    r = connect(g).request()
    assert r.status == 502 and b"compressed" in r.body


def test_streams_are_requests_of_their_own(h2):
    gates = {p: threading.Event() for p in ("/a", "/b", "/c")}

    def handler(r):
        gates[r.headers[":path"]].wait(PATIENCE)
        r.respond(r.headers[":path"].encode())
    s, g = h2(handler)
    c = connect(g)
    streams = {p: c.start(p) for p in gates}
    for p in ("/c", "/a", "/b"):  # not in the order of the requests
        gates[p].set()
        assert bytes(c.finish(streams[p]).body) == p.encode()
    assert len(s.connections) == 1
    assert sorted(x["path"] for x in g.audit(3)) == ["/a", "/b", "/c"]


# ---- refusals ----


def test_denied_destination_explains_itself_over_either(gate):  # noqa: F811
    g = gate(rules=[rule("other.example.test:443")])
    c = connect(g, alpn=("h2",), host="www.example.test")
    r = c.request(headers=[("accept", "application/json")])
    assert r.status == 403 and r.headers["x-hutch-refused"] == "policy"
    said = json.loads(bytes(r.body))
    assert said["code"] == "policy" and "www.example.test" in said["host"]
    assert c.wait(lambda: c.goaway is not None)
    assert c.goaway == ErrorCodes.NO_ERROR
    conn = g.open("www.example.test", 443).tls(alpn=("h2", "http/1.1"))
    assert conn.sock.selected_alpn_protocol() == "http/1.1"
    assert conn.request()[0] == 403
    assert [x["verdict"] for x in g.audit(2)] == ["deny", "deny"]


def test_unreachable_server_explains_itself(gate, serve):  # noqa: F811
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={API: serve(Nobody()).address})
    r = connect(g, alpn=("h2",)).request()
    assert r.status == 502 and b"could not reach" in r.body
    assert g.audit(1)[-1]["status"] == 502


def test_unverified_server_is_not_asked(gate, serve, pki):  # noqa: F811
    ctx = pki.context("stranger")
    ctx.set_alpn_protocols(["h2"])
    s = serve(Http2Server(tls=ctx))
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={API: s.address})
    r = connect(g, alpn=("h2",)).request()
    assert r.status == 502 and b"certificate" in r.body
    assert s.requests == []


@pytest.mark.parametrize("what, status", [
    (dict(authority="other.example.test"), 403),
    (dict(authority=f"{API}:8443"), 403),
    (dict(scheme="http"), 403),
    (dict(headers=[("host", "other.example.test")]), 400),
    (dict(method="TRACE"), 501),
    (dict(headers=[("content-length", "0"), ("content-length", "0")]), None),
    (dict(headers=[("content_length", "5")]), 400),
    (dict(path="/a b"), None),
    (dict(path="http://other.example.test/"), None),
    (dict(headers=[("x", "a\rb")]), None),
    (dict(headers=[("Upper", "a")]), None),
    (dict(headers=[("transfer-encoding", "chunked")]), None),
    (dict(headers=[("connection", "close")]), None),
    (dict(headers=[("x%d" % i, "v") for i in range(200)]), 431),
    (dict(headers=[("x", "v" * 70000)]), 431),
])
def test_what_contradicts_itself_is_refused(h2, what, status):
    s, g = h2()
    c = connect(g)
    r = c.request(**what)
    if status:
        assert r.status == status, bytes(r.body)
    else:  # nghttp2's refusal: a reset, or our answer
        assert r.reset is not None or 400 <= (r.status or 0) < 600
    assert s.requests == []
    assert c.request("/ok").status == 200  # the connection goes on


def test_connect_is_refused_with_a_reason(h2):
    s, g = h2()
    c = connect(g)

    def send(conn):
        stream = conn.get_next_available_stream_id()
        from http2_peer import Response
        c.responses[stream] = Response()
        conn.send_headers(stream, [(":method", "CONNECT"), (":authority", f"{API}:443")])
        return stream
    r = c.finish(c.do(send))
    assert r.status == 403 and b"CONNECT" in r.body
    r = c.request(method="CONNECT", headers=[(":protocol", "websocket")])
    assert r.reset is not None or r.status == 403
    assert s.requests == []


def test_http_rules_judge_each_stream(gate, serve, pki):  # noqa: F811
    s = serve(Http2Server(tls=context(pki, "h2")))
    g = gate(rules=[rule(f"GET {API}:443/v1/**")], resolves={API: s.address})
    c = connect(g, alpn=("h2",))
    assert c.request("/v1/a").status == 200
    r = c.request("/v2/a")
    assert r.status == 403 and r.headers["x-hutch-refused"] == "policy"
    assert c.request("/v1/a", "DELETE").status == 403
    assert c.request("/v1/../v2/a").status == 403
    assert c.request("/v1/%2e%2e/v2/a").status == 403
    r = c.request("/v1/./b", headers=[("x-http-method-override", "DELETE"),
                                      ("x_http_method_override", "DELETE"),
                                      ("x-original-url", "/v2"), ("x-other", "1")])
    assert r.status == 200
    assert s.requests[-1].headers[":path"] == "/v1/b"
    assert "x-http-method-override" not in s.requests[-1].headers
    assert "x_http_method_override" not in s.requests[-1].headers
    assert "x-original-url" not in s.requests[-1].headers
    assert s.requests[-1].headers["x-other"] == "1"
    assert len(s.connections) == 1


def test_new_rules_reach_open_streams(gate, serve, pki):  # noqa: F811
    s = serve(Http2Server(lambda r: r.head(), tls=context(pki, "h2")))  # and no end
    g = gate(rules=[rule(f"GET {API}:443/v1/**"), rule(f"GET {API}:443/v2/**")],
             resolves={API: s.address})
    c = connect(g, alpn=("h2",))
    one, two = c.start("/v1/a"), c.start("/v2/a")
    c.wait(lambda: c.responses[one].status and c.responses[two].status)
    g.configure(rules=[rule(f"GET {API}:443/v2/**")])
    assert c.finish(one).reset == ErrorCodes.CANCEL
    assert c.responses[two].reset is None
    line = g.audit(1)[-1]
    assert line["verdict"] == "deny" and line["path"] == "/v1/a"
    g.configure(rules=[])
    assert c.wait(lambda: c.closed)


def test_required_credential_without_value(gate, serve, pki):  # noqa: F811
    s = serve(Http2Server(tls=context(pki, "h2")))
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API, required=True)],
             resolves={API: s.address})
    c = connect(g, alpn=("h2",))
    r = c.request()
    assert r.status == 403 and r.headers["x-hutch-refused"] == "credential"
    g.set_secret("api", SECRET)
    assert c.request().status == 200
    g.remove_secret("api")
    assert c.request().status == 403
    assert [q.headers.get("authorization") for q in s.requests] == [f"Bearer {SECRET}"]


# ---- what passes in both directions ----


def test_trailers_interim_and_early_hints(h2):
    def handler(r):
        r.head(103, ("link", "</style.css>; rel=preload"))
        r.read_all()
        r.head(200, ("content-type", "application/grpc"))
        r.data(b"message")
        r.end_with(("grpc-status", "0"), ("grpc-message", "fine"))
    s, g = h2(handler)
    c = connect(g)
    stream = c.start("/x", "POST", [("te", "trailers")], end=False)
    c.do(lambda h: h.send_data(stream, b"abc"))
    c.do(lambda h: h.send_headers(stream, [("x-checksum", "1")], end_stream=True))
    r = c.finish(stream)
    assert r.interim == [{":status": "103", "link": "</style.css>; rel=preload"}]
    assert bytes(r.body) == b"message"
    assert r.trailers == [("grpc-status", "0"), ("grpc-message", "fine")]
    assert s.requests[0].trailers == [("x-checksum", "1")]
    assert s.requests[0].headers["te"] == "trailers"


def test_trailers_only_response_and_head(h2):
    def handler(r):
        if r.headers[":method"] == "HEAD":
            r.head(200, ("content-length", "12345"), end=True)
        else:
            r.head(200, ("grpc-status", "12"), end=True)
    s, g = h2(handler)
    c = connect(g)
    assert c.request("/x", "POST", body=b"m").headers["grpc-status"] == "12"
    r = c.request("/x", "HEAD")
    assert r.status == 200 and r.headers["content-length"] == "12345" and not r.body


def test_events_arrive_as_sent(h2):
    go = threading.Event()

    def handler(r):
        r.head(200, ("content-type", "text/event-stream"))
        for i in range(3):
            r.data(b"data: %d\n\n" % i)
            assert go.wait(PATIENCE)
            go.clear()
        r.data(b"", end=True)
    s, g = h2(handler)
    c = connect(g)
    stream = c.start()
    for i in range(3):
        c.wait(lambda: c.responses[stream].body.endswith(b"data: %d\n\n" % i))
        go.set()
    assert c.finish(stream).ended


def test_both_directions_at_once(h2):
    def handler(r):
        r.head(200)
        sent = 0
        while not (r.ended.is_set() and sent == len(r.body)):
            with r.conn.lock:
                part = bytes(r.body[sent:])
            if part:
                r.data(part)
                sent += len(part)
            else:
                time.sleep(0.005)
        r.data(b"", end=True)
    s, g = h2(handler)
    c = connect(g)
    stream = c.start(method="POST", end=False)
    for i in range(5):
        c.do(lambda h: h.send_data(stream, b"ping %d;" % i))
        c.wait(lambda: bytes(c.responses[stream].body).count(b";") == i + 1)
    c.do(lambda h: h.end_stream(stream))
    assert bytes(c.finish(stream).body) == b"".join(b"ping %d;" % i for i in range(5))


def test_large_bodies(h2):
    size = 20 << 20
    blob = os.urandom(1 << 20) * 20

    def handler(r):
        if r.headers[":method"] == "PUT":
            r.respond(b"%d" % len(r.read_all()))
        else:
            r.respond(blob)
    s, g = h2(handler)
    c = connect(g)
    assert bytes(c.request("/up", "PUT", body=blob).body) == b"%d" % size
    assert bytes(s.requests[0].body) == blob
    assert bytes(c.request("/down").body) == blob
    assert [x["bytes_up"] for x in g.audit(2)] == [size, 0]


def test_slow_reader_holds_the_sender_back(h2):
    """What nobody reads stays with the server but for the windows; other streams go on."""
    sent = [0]

    def handler(r):
        if r.headers[":path"] == "/small":
            r.respond(b"small")
            return
        r.head(200)
        while sent[0] < 64 << 20:
            r.data(b"x" * 65536)
            sent[0] += 65536
    s, g = h2(handler)
    c = connect(g, read=False)
    c.do(lambda h: h.increment_flow_control_window(1 << 24))  # of the connection, not of streams
    c.start("/big")
    last = -1
    while last != sent[0]:
        last = sent[0]
        time.sleep(0.5)
    assert sent[0] < 4 << 20
    assert bytes(c.request("/small").body) == b"small"


def test_slow_server_holds_the_guest_back(h2):
    s, g = h2(lambda r: r.read_all(), read=False)
    c = connect(g)
    stream = c.start("/big", "POST", end=False)
    sent = 0
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if sent >= 65535:  # that much has to go; whether more does is seen in a while
            deadline = min(deadline, time.monotonic() + 3)
        with c.lock:
            room = min(c.h2.local_flow_control_window(stream), c.h2.max_outbound_frame_size)
            if room:
                c.h2.send_data(stream, b"x" * room)
                c.flush()
                sent += room
        if not room:
            time.sleep(0.01)
    assert 65535 <= sent < 1 << 20
    wait_for(lambda: len(s.requests[0].body) >= 65535, what="what has been sent")
    assert len(s.requests[0].body) == 65535


@pytest.mark.parametrize("code", [ErrorCodes.CANCEL, ErrorCodes.REFUSED_STREAM,
                                  ErrorCodes.INTERNAL_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
@pytest.mark.parametrize("answered", [False, True])
def test_resets_pass_with_their_code(h2, code, answered):
    def handler(r):
        if answered:
            r.head(200)
            r.data(b"part")
        r.conn.do(lambda h: h.reset_stream(r.stream, code))
    s, g = h2(handler)
    c = connect(g)
    r = c.finish(c.start())
    assert r.reset == code and not r.ended
    line = g.audit(1)[-1]
    assert line["verdict"] == "error" and code.name in line["reason"]
    # And the other way.
    s.handle = lambda r: r.head(200)
    stream = c.start()
    c.wait(lambda: c.responses[stream].status == 200)
    c.do(lambda h: h.reset_stream(stream, code))
    wait_for(lambda: s.requests[-1].reset is not None, what="the reset")
    assert s.requests[-1].reset == code


def test_answer_before_the_request_has_ended(h2):
    """The rest of the upload is not wanted: no error, and the connection stays good."""
    def handler(r):
        if r.headers[":method"] == "GET":
            r.respond(b"fine")
            return
        wait_for(lambda: r.body, what="the upload to begin")
        r.respond(b"too large", 413)
        r.conn.do(lambda h: h.reset_stream(r.stream, ErrorCodes.NO_ERROR))
    s, g = h2(handler)
    c = connect(g)
    stream = c.start("/x", "POST", end=False)
    c.do(lambda h: h.send_data(stream, b"x" * 10000))
    r = c.responses[stream]
    c.wait(lambda: r.reset is not None)
    assert r.status == 413 and bytes(r.body) == b"too large" and r.reset == ErrorCodes.NO_ERROR
    assert c.request("/y").status == 200
    assert g.audit(1)[0]["verdict"] == "allow" and g.audit()[0]["status"] == 413


def test_cut_response_does_not_look_complete(h2):
    def handler(r):
        r.head(200)
        r.data(b"part")
        r.conn.channel.shutdown()
    s, g = h2(handler)
    c = connect(g)
    r = c.finish(c.start())
    assert r.reset is not None and not r.ended
    assert c.wait(lambda: c.goaway is not None or c.closed)
    assert g.audit(1)[-1]["verdict"] == "error"


def test_server_that_ends_without_an_answer(h2):
    s, g = h2(lambda r: r.conn.channel.shutdown())
    r = connect(g).request()
    assert r.status == 502 and b"without an answer" in r.body


def test_goaway_passes_and_streams_finish(h2):
    go = threading.Event()

    def announce_end(h):
        h.close_connection(last_stream_id=1)
        # Python's h2 takes nothing more after its own GOAWAY, though open streams go on.
        h.state_machine.state = ConnectionState.SERVER_OPEN

    def handler(r):
        r.head(200)
        r.conn.do(announce_end)
        go.wait(PATIENCE)
        r.data(b"done", end=True)
    s, g = h2(handler)
    c = connect(g)
    stream = c.start()
    assert c.wait(lambda: c.goaway is not None)
    assert c.goaway == ErrorCodes.NO_ERROR
    go.set()
    assert c.wait(lambda: bytes(c.responses[stream].body) == b"done")
    c.wait(lambda: c.closed)
    assert g.audit(1)[-1]["status"] == 200
    assert connect(g).start() == 1  # a new connection


def test_concurrency_is_the_servers(h2):
    go = threading.Event()

    def handler(r):
        go.wait(PATIENCE)
        r.respond(b"x")
    s, g = h2(handler, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 3})
    c = connect(g)
    c.wait(lambda: c.h2.remote_settings.max_concurrent_streams == 3)
    streams = [c.start() for _ in range(3)]
    wait_for(lambda: len(s.requests) >= 3, what="three requests")
    assert len(s.requests) == 3
    go.set()
    assert all(c.finish(x).status == 200 for x in streams)


def test_push_is_off(h2):
    def handler(r):
        with pytest.raises(Exception):
            r.conn.h2.push_stream(r.stream, 2, [(":method", "GET"), (":path", "/p"),
                                                (":scheme", "https"), (":authority", API)])
        r.respond(b"x")
    s, g = h2(handler)
    assert connect(g).request().status == 200
    assert s.errors == []


# ---- floods ----


def flood(c, what, count):
    """Repeats @what until the connection ends; how often it could be done."""
    done = 0
    try:
        for _ in range(count):
            what()
            done += 1
            if c.closed:
                break
    except Exception:
        pass
    c.wait(lambda: c.closed or c.goaway is not None)
    return done


def test_rapid_reset_ends_the_connection(h2):
    s, g = h2(lambda r: None)
    c = connect(g)

    def once():
        stream = c.start()
        c.do(lambda h: h.reset_stream(stream, ErrorCodes.CANCEL))
    flood(c, once, 5000)
    assert c.goaway == ErrorCodes.ENHANCE_YOUR_CALM or c.closed
    assert len(s.requests) < 2500
    assert connect(g).start() == 1


@pytest.mark.parametrize("frame", [
    b"\0\0\x08\x06\0\0\0\0\0" + b"12345678",          # PING
    b"\0\0\0\x04\0\0\0\0\0",                           # SETTINGS
], ids=["ping", "settings"])
def test_floods_of_what_has_to_be_answered(h2, frame):
    """Nobody reads the answers: the gate stops reading, or ends it."""
    s, g = h2()
    conn = g.open(API, 443).tls(alpn=("h2",))
    conn.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
    conn.sock.settimeout(2)
    try:
        for _ in range(2000):
            conn.send(frame * 1000)
    except OSError:
        pass
    else:
        conn.was_reset()
    assert connect(g).request().status == 200


def test_endless_head_ends_the_connection(h2):
    s, g = h2()
    conn = g.open(API, 443).tls(alpn=("h2",))
    conn.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
    conn.send(b"\0\0\1\1\0\0\0\0\1" + b"\x82")  # HEADERS without END_HEADERS
    field = b"\0\1a\x7f\x80\x7d" + b"v" * (127 + (0x7d << 7))  # literal, length with prefix
    try:
        for _ in range(1000):
            conn.send(len(field).to_bytes(3, "big") + b"\x09\0\0\0\0\1" + field)
    except OSError:
        pass
    assert s.requests == []
    try:
        while conn.sock.recv(65536):
            pass
    except ConnectionError:
        pass
    assert connect(g).request().status == 200


def test_many_streams_that_are_never_answered(h2):
    s, g = h2(lambda r: None)
    c = connect(g)
    for _ in range(100):
        c.start()
    wait_for(lambda: len(s.requests) >= 100, what="the requests")
    assert len(s.requests) == 100
    c.close()
    lines = g.audit(100)
    assert len(lines) == 100 and all("went away" in x["reason"] for x in lines)


# ---- without TLS ----


def test_cleartext_with_prior_knowledge(gate, serve):  # noqa: F811
    s = serve(Http2Server())
    g = gate(rules=[rule("a.test:80")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={"a.test": s.address})
    c = Client(g.open("a.test", 80))
    r = c.request("/p", headers=[("authorization", "Bearer mine")])
    assert r.status == 200 and bytes(r.body) == b"hello"
    assert s.requests[0].headers["authorization"] == "Bearer mine"
    assert c.request(authority="b.test").status == 403
    assert c.request(scheme="https").status == 403
    assert len(s.requests) == 1
    line = g.audit(1)[0]
    assert line["proto"] == "http" and line["path"] == "/p"


def test_cleartext_denied_and_to_a_server_that_does_not_speak_it(gate, serve):  # noqa: F811
    def old(sock):
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    s = serve(Server(old))
    g = gate(rules=[rule("a.test:80")], resolves={"a.test": s.address})
    c = Client(g.open("b.test", 80))
    assert c.request().status == 403
    r = Client(g.open("a.test", 80)).request()
    assert r.status == 502, bytes(r.body)


# ---- real clients and servers ----


@pytest.fixture
def guest(tmp_path):
    running = []

    def make(g, **kw):
        c = Guest(g, tmp_path, **kw)
        c.__enter__()
        running.append(c)
        return c
    yield make
    for c in running:
        c.__exit__(None, None, None)


def test_curl_http2(h2, guest):
    s, g = h2(lambda r: r.respond(b"hello " + r.read_all()))
    c = guest(g)
    out = c.ok("curl", "-sS", "--http2", "-w", "%{http_version} %{http_code}", "-d", "you",
               f"https://{API}/x")
    assert out == "hello you2 200"
    assert s.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    out = c.ok("curl", "-sS", "--http2", "-w", "%{http_version} %{http_code}",
               "https://www.example.test/x")
    assert "blocked by hutch policy" in out and out.endswith(" 403")


def test_curl_prior_knowledge(gate, serve, guest):  # noqa: F811
    s = serve(Http2Server())
    g = gate(rules=[rule("a.test:80")], resolves={"a.test": s.address})
    out = guest(g).ok("curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version}",
                      "http://a.test/x")
    assert out == "hello2"


@pytest.fixture
def nghttpd(pki, tmp_path):  # noqa: F811
    """nghttpd, a server on nghttp2."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "big").write_bytes(b"0123456789abcdef" * (1 << 18))
    (root / "small").write_bytes(b"small")
    port = free_port()
    with running(port, ["nghttpd", "-a", "127.0.0.1", "-d", str(root), "--echo-upload", str(port),
                        str(pki.key), str(pki.cert)]):
        yield f"127.0.0.1:{port}"


def test_nghttp_and_h2load_against_nghttpd(gate, guest, nghttpd):  # noqa: F811
    g = gate(rules=[rule(f"GET,POST {API}:443/**")], resolves={API: nghttpd})
    c = guest(g)
    out = c.run("nghttp", "--no-dep", "-m", "20", f"https://{API}/big")
    assert out.returncode == 0 and len(out.stdout) == 20 * (4 << 20)
    out = c.ok("h2load", "-n", "500", "-c", "4", "-m", "20", f"https://{API}/small")
    assert "500 succeeded, 0 failed" in out
    blob = os.path.join(c.home, "blob")
    with open(blob, "wb") as f:
        f.write(os.urandom(3 << 20))
    out = c.run("curl", "-sS", "--http2", "--data-binary", f"@{blob}", f"https://{API}/echo")
    with open(blob, "rb") as f:
        assert out.stdout == f.read()


GRPC_SERVER = r'''
import sys
from concurrent import futures
import grpc

class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        same = dict(request_deserializer=None, response_serializer=None)
        if name == "Unary":
            return grpc.unary_unary_rpc_method_handler(self.unary, **same)
        if name == "Fail":
            return grpc.unary_unary_rpc_method_handler(self.fail, **same)
        if name == "Stream":
            return grpc.stream_stream_rpc_method_handler(self.stream, **same)

    def unary(self, request, context):
        meta = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-seen", meta.get("authorization", "none")),))
        return request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    def stream(self, requests, context):
        for r in requests:
            yield b"<" + r + b">"

server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Echo(),))
if len(sys.argv) > 1:
    key, cert = (open(p, "rb").read() for p in sys.argv[1:3])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
'''

GRPC_CLIENT = r'''
import sys
import grpc
target, ca = sys.argv[1], sys.argv[2]
if ca:
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(open(ca, "rb").read()))
else:
    channel = grpc.insecure_channel(target)
reply, call = channel.unary_unary("/t.Echo/Unary").with_call(b"hello", timeout=120)
assert reply == b"hello"
print("seen", dict(call.trailing_metadata())["x-seen"])
big = b"x" * 3000000
assert channel.unary_unary("/t.Echo/Unary")(big, timeout=120) == big
try:
    channel.unary_unary("/t.Echo/Fail")(b"", timeout=120)
except grpc.RpcError as e:
    print("failed", e.code().name, e.details())
# each answer is read before the next question is sent
import queue
q = queue.Queue()
answers = channel.stream_stream("/t.Echo/Stream")(iter(q.get, None), timeout=120)
for i in range(5):
    q.put(b"%d" % i)
    assert next(answers) == b"<%d>" % i
q.put(None)
assert list(answers) == []
try:
    channel.unary_unary("/t.Echo/Denied")(b"", timeout=120)
except grpc.RpcError as e:
    print("denied", e.code().name)
'''


@pytest.fixture
def grpc_server(pki):  # noqa: F811
    running = []

    def make(*args):
        p = subprocess.Popen(["/usr/bin/python3", "-c", GRPC_SERVER, *map(str, args)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(p)
        return f"127.0.0.1:{int(p.stdout.readline())}"
    yield make
    for p in running:
        p.stdin.close()
        p.wait(PATIENCE)


def test_grpc_over_tls(gate, guest, grpc_server, pki):  # noqa: F811
    to = grpc_server(pki.key, pki.cert)
    g = gate(rules=[rule(f"POST {API}:443/t.Echo/**"), rule(f"{API}:443/t.Echo/Denied", allow=False)],
             credentials=[credential("api", API)], secrets={"api": SECRET}, resolves={API: to})
    c = guest(g)
    out = c.ok("/usr/bin/python3", "-c", GRPC_CLIENT, f"{API}:443", c.ca)
    # The server saw the value; the trailer in which it sends it back shows that and no more.
    assert out.splitlines() == ["seen Bearer " + "*" * len(SECRET), "failed NOT_FOUND no such thing",
                                "denied PERMISSION_DENIED"]
    lines = g.audit(5)
    assert [x["path"] for x in lines] == [f"/t.Echo/{n}" for n in
                                          ("Unary", "Unary", "Fail", "Stream", "Denied")]


def test_grpc_without_tls(gate, guest, grpc_server):  # noqa: F811
    g = gate(rules=[rule("POST a.test:80/t.Echo/**"), rule("a.test:80/t.Echo/Denied", allow=False)],
             resolves={"a.test": grpc_server()})
    out = guest(g).ok("/usr/bin/python3", "-c", GRPC_CLIENT, "a.test:80", "")
    assert out.splitlines() == ["seen none", "failed NOT_FOUND no such thing",
                                "denied PERMISSION_DENIED"]
