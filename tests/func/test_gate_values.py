# SPDX-License-Identifier: Apache-2.0
"""hutch-gate: credentials whose values are not there yet. The test plays hutch-secret."""
import select
import socket
import struct
import threading
import time

import pytest

from gate_driver import PATIENCE, HttpServer, credential, credential_of, rule
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)

GET, VALUE, NONE, FAILED, LASTING, WATCH = 1, 2, 3, 4, 5, 6
HEAD = struct.Struct("=HHII")  # type, zero, id, len
HOST = "api.example.test"


class Broker:
    """The other end of the gate's socket to hutch-secret."""

    def __init__(self):
        self.sock, self.gates = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE)

    def question(self):
        data = self.sock.recv(65536)
        kind, zero, ident, length = HEAD.unpack_from(data)
        assert (kind, zero, length) == (GET, 0, len(data) - HEAD.size), data
        return ident, data[HEAD.size:].decode()

    def quiet(self, seconds=0.3):
        return not select.select([self.sock], [], [], seconds)[0]

    def answer(self, ident, kind=VALUE, data=b"", length=None):
        self.sock.send(HEAD.pack(kind, 0, ident, len(data) if length is None else length) + data)


class World:
    def __init__(self, gate, serve, pki):
        self.make_gate, self.pki = gate, pki
        self.server = serve(HttpServer(tls=pki.context()))
        self.broker = Broker()

    def gate(self, *services, **more):
        services = services or ("svc",)
        more.setdefault("resolves", {HOST: self.server.address})
        g = self.make_gate(rules=[rule(HOST)], credentials=[
            credential(s, HOST, header=f"X-{s}", fmt="%s") for s in services],
            broker=self.broker.gates, **more)
        self.broker.gates.close()
        return g

    def got(self, header="x-svc"):
        return [r.headers.get(header) for r in self.server.requests]


@pytest.fixture
def world(gate, serve, pki):
    return World(gate, serve, pki)


class Request(threading.Thread):
    def __init__(self, conn, **kw):
        super().__init__(daemon=True)
        self.conn, self.kw, self.response = conn, kw, None
        self.start()

    def run(self):
        self.response = self.conn.request(**self.kw)

    def result(self):
        self.join(PATIENCE)
        assert self.response, "no response"
        return self.response


def conn(g):
    return g.open(HOST, 443).tls()


def test_request_waits_for_the_value(world):
    g = world.gate()
    r = Request(conn(g))
    ident, service = world.broker.question()
    assert service == "svc"
    assert world.broker.quiet() and not world.server.requests
    world.broker.answer(ident, data=b"fetched")
    assert r.result()[0] == 200
    assert world.got() == ["fetched"]
    assert g.audit(1)[0]["credential"] == "svc"


def test_nothing_is_kept_for_the_next_request(world):
    g = world.gate()
    c = conn(g)
    for value in (b"one", b"two", b""):
        r = Request(c, headers=["X-svc: proxy-managed"])
        world.broker.answer(world.broker.question()[0], VALUE if value else NONE, data=value)
        assert r.result()[0] == 200
    assert world.got() == ["one", "two", None]
    assert world.broker.quiet()


def test_requests_share_a_question(world):
    """The next one: the answer to one that was asked before they came may be older than they are."""
    g = world.gate()
    first, *conns = [conn(g) for _ in range(6)]
    r = Request(first)
    ident, _ = world.broker.question()
    requests = [Request(c) for c in conns]
    assert world.broker.quiet(1)  # one at a time
    world.broker.answer(ident, data=b"first")
    assert r.result()[0] == 200
    asked = 0
    while any(r.is_alive() for r in requests):
        if not world.broker.quiet(0.05):
            asked += 1
            world.broker.answer(world.broker.question()[0], data=b"shared")
    assert [r.result()[0] for r in requests] == [200] * 5 and asked < 5
    assert world.got() == ["first"] + ["shared"] * 5


def test_several_credentials_for_one_request(world):
    g = world.gate("one", "two", "three")
    r = Request(conn(g))
    asked = dict(reversed(world.broker.question()) for _ in range(3))
    assert sorted(asked) == ["one", "three", "two"]
    world.broker.answer(asked["two"], data=b"2")
    world.broker.answer(asked["three"], data=b"3")
    assert world.broker.quiet() and not world.server.requests
    world.broker.answer(asked["one"], data=b"1")
    assert r.result()[0] == 200
    assert [world.got(f"x-{s}") for s in ("one", "two", "three")] == [["1"], ["2"], ["3"]]


def test_reason_reaches_the_client(world):
    g = world.gate()
    c = conn(g)
    r = Request(c)
    world.broker.answer(world.broker.question()[0], FAILED, b"the command ended with exit 3")
    code, headers, body = r.result()
    assert code == 403 and headers["x-hutch-refused"] == "credential"
    assert b"credential svc: the command ended with exit 3" in body
    assert not world.server.requests
    line = g.audit(1)[0]
    assert line["status"] == 403 and "credential" not in line


def test_no_value_is_no_failure(world):
    g = world.gate()
    r = Request(conn(g), headers=["X-svc: proxy-managed"])
    world.broker.answer(world.broker.question()[0], NONE)
    assert r.result()[0] == 200
    assert world.got() == [None]


@pytest.mark.parametrize("started", [True, False])
def test_fails_without_the_process(world, started):
    g = world.gate()
    if not started:
        world.broker.sock.close()
    r = Request(conn(g), headers=["X-svc: proxy-managed"])
    if started:
        world.broker.question()
        world.broker.sock.close()
    code, headers, body = r.result()
    assert code == 403 and headers["x-hutch-refused"] == "credential"
    assert b"the process that fetches credentials" in body
    assert conn(g).request()[0] == 403  # and stays so
    assert not world.server.requests


def test_fails_when_there_never_was_one(world):
    world.broker.gates = socket.socket()
    g = world.make_gate(rules=[rule(HOST)], resolves={HOST: world.server.address},
                        credentials=[credential("svc", HOST)], broker=False)
    assert conn(g).request()[0] == 403
    assert not world.server.requests


@pytest.mark.parametrize("packet", [
    b"", b"x", HEAD.pack(VALUE, 0, 1, 5) + b"four", HEAD.pack(VALUE, 0, 1, 0),
    HEAD.pack(VALUE, 1, 1, 1) + b"v", HEAD.pack(GET, 0, 1, 1) + b"v",
    HEAD.pack(FAILED, 0, 1, 3) + b"a\nb", HEAD.pack(99, 0, 1, 0),
    HEAD.pack(VALUE, 0, 1, 65537) + b"v" * 65537, HEAD.pack(WATCH, 0, 0, 0)], ids=range(10))
def test_malformed_answer_ends_the_link(world, packet):
    g = world.gate()
    r = Request(conn(g))
    world.broker.question()
    world.broker.sock.send(packet)
    assert r.result()[0] == 403
    assert not world.server.requests


def test_answer_to_nobody_is_ignored(world):
    g = world.gate()
    r = Request(conn(g))
    ident, _ = world.broker.question()
    world.broker.answer(ident + 1, data=b"wrong")
    world.broker.answer(ident, data=b"right")
    world.broker.answer(ident, data=b"late")
    assert r.result()[0] == 200
    assert world.got() == ["right"]


def test_guest_leaves_while_it_waits(world):
    g = world.gate()
    c = conn(g)
    c.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    ident, _ = world.broker.question()
    c.close()
    g.audit(1)
    world.broker.answer(ident, data=b"nobody")
    r = Request(conn(g))
    world.broker.answer(world.broker.question()[0], data=b"next")
    assert r.result()[0] == 200
    assert world.got() == ["next"]


def test_slow_server_and_slow_value(world):
    """The server closes while the value is being fetched: the client is told, nothing is sent."""
    g = world.gate(resolves={HOST: "127.0.0.1:1"})
    r = Request(conn(g))
    ident, _ = world.broker.question()
    assert r.result()[0] == 502
    world.broker.answer(ident, data=b"late")
    r = Request(conn(g))
    world.broker.question()
    assert r.result()[0] == 502


def test_body_is_asked_for_when_the_value_comes_last(world):
    """Everything else is there: nothing but the value's arrival moves the request."""
    place = "placeholder-0000-aaaa"
    g = world.make_gate(rules=[rule(HOST)], resolves={HOST: world.server.address}, broker=world.broker.gates,
                        credentials=[credential_of("svc", {"domain": HOST, "kind": "placeholder",
                                                           "placeholder": place, "in_body": True})])
    world.broker.gates.close()
    c = conn(g)
    c.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(place)}\r\n"
           "Expect: 100-continue\r\n\r\n".encode())
    ident, _ = world.broker.question()
    time.sleep(0.5)
    world.broker.answer(ident, data=b"real")
    assert c.recv_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    c.send(place.encode())
    assert c.response()[0] == 200 and world.server.requests[-1].body == b"real"


def test_value_does_not_reach_the_log(world):
    g = world.gate()
    r = Request(conn(g))
    world.broker.answer(world.broker.question()[0], data=b"s3cret-value")
    assert r.result()[0] == 200
    g.audit(1)
    assert "s3cret-value" not in g.log()
