# SPDX-License-Identifier: Apache-2.0
"""hutch-gate: rules about requests, and every way in which a request can contradict itself."""
import json
import os
import ssl
import subprocess
import sys

import pytest

from gate_driver import HttpServer, Server, credential, rule, send_response
from test_gate import SECRET, gate, pki, serve  # noqa: F401 (fixtures)


@pytest.fixture
def api(gate, serve, pki):
    """An HTTPS server behind api.example.test, and a gate with the rules of the test."""
    class Api:
        server = serve(HttpServer(tls=pki.context()))

        @staticmethod
        def gate(*rules, **more):
            return gate(rules=[r if isinstance(r, dict) else rule(r) for r in rules],
                        resolves={"api.example.test": Api.server.address}, ca_file=pki.ca, **more)

        @staticmethod
        def paths():
            return [r.path for r in Api.server.requests]

    return Api


def deny(target):
    return rule(target, allow=False)


def refused(response, code="policy"):
    status, headers, body = response
    assert status == 403 and headers["x-hutch-refused"] == code, response
    return body.decode()


def conn(g, port=443):
    return g.open("api.example.test", port).tls()


# ---- methods and paths ----


def test_method_and_path_rule(api):
    g = api.gate("GET,HEAD api.example.test/v1/**")
    c = conn(g)
    assert c.request(path="/v1/a?q=1")[0] == 200
    assert c.request("HEAD", "/v1/b")[0] == 200
    text = refused(c.request("POST", "/v1/a", body=b"x"))
    assert 'GET,HEAD api.example.test/v1/**' in text
    assert "hutch policy allow 'POST api.example.test:443/v1/a'" in text
    refused(conn(g).request(path="/v2"))
    assert api.paths() == ["/v1/a?q=1", "/v1/b"]
    lines = g.audit(4)
    assert [x["verdict"] for x in lines] == ["allow", "allow", "deny", "deny"]
    assert lines[0]["rule"] == "GET,HEAD api.example.test/v1/**"
    assert lines[2]["method"] == "POST" and lines[2]["path"] == "/v1/a" and "rule" not in lines[2]


def test_deny_rule_for_requests(api):
    g = api.gate("api.example.test", deny("DELETE api.example.test"),
                 deny("api.example.test/admin/**"))
    c = conn(g)
    assert c.request(path="/x")[0] == 200
    text = refused(c.request("DELETE", "/x"))
    assert "DELETE api.example.test" in text
    for path in ("/admin", "/ADMIN/x", "//admin/x", "/x/../admin", "/%61dmin/", "/%2Fadmin/x",
                 "/x%2f..%2fadmin", "/admin;x/y", "/x/..;/admin", "/%2561dmin", "\\admin",
                 "/\\admin", "/x/%2e%2e/admin", "/x/.%2E/admin/x"):
        c = conn(g)
        c.send(f"GET {path} HTTP/1.1\r\nHost: api.example.test\r\n\r\n".encode())
        assert c.response()[0] in (400, 403), path
    assert api.paths() == ["/x"]


@pytest.mark.parametrize("path", [
    "/pub/../secret", "/pub/%2e%2e/secret", "/pub/..%2fsecret", "/pub/..%5csecret",
    "/pub/..\\secret", "/pub/%252e%252e%252fsecret", "/pub//../../secret", "/pub/..;/secret",
    "/pub/%c0%ae%c0%ae/secret", "/pub/%00", "/pub/%", "/pub/%zz", "/pub/..%00/secret", "/PUB/x",
    "/pub%2Fx/../../secret", "/./secret", "/pub/./../secret", "/pub/a%0d%0aX: y"])
def test_no_way_around_a_path(api, path):
    g = api.gate("GET api.example.test/pub/**")
    c = conn(g)
    assert c.request(path="/pub/ok")[0] == 200
    c.send(f"GET {path} HTTP/1.1\r\nHost: api.example.test\r\n\r\n".encode())
    assert c.response()[0] in (400, 403)
    assert api.paths() == ["/pub/ok"]
    assert g.audit(2)[1]["verdict"] in ("deny", "error")


def test_the_server_sees_the_path_that_was_judged(api):
    g = api.gate("api.example.test/pub/**")
    c = conn(g)
    for path in ("/x/../pub/%61?q=/../%61", "/pub/./b", "/pub/a%2fb", "http://API.example.test/pub/?",
                 "/%70ub/~"):
        assert c.request(path=path)[0] == 200
    assert api.paths() == ["/pub/a?q=/../%61", "/pub/b", "/pub/a%2Fb", "/pub/?", "/pub/~"]


def test_fields_that_override_are_dropped(api):
    g = api.gate("GET api.example.test/pub")
    conn(g).request(path="/pub", headers=["X-HTTP-Method-Override: DELETE", "x-original-url: /secret",
                                          "X-Rewrite-URL: /secret", "X-Other: kept",
                                          # the same field to whoever makes variables of fields
                                          "X_HTTP_Method_Override: DELETE", "x-original_url: /"])
    seen = api.server.requests[0].headers
    assert sorted(seen) == ["host", "x-other"]


def test_rules_about_requests_on_plain_http(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("GET a.test:80/x/*")], resolves={"a.test": s.address})
    c = g.open("a.test", 80)
    assert c.request(path="/x/1")[0] == 200
    refused(c.request(path="/x/1/2"))
    assert len(s.requests) == 1


def test_only_http_passes_where_requests_are_ruled(gate, serve):
    s = serve(Server(lambda sock: sock.sendall(b"220 hello\r\n")))
    g = gate(rules=[rule("ANY a.test:*")], resolves={"a.test": s.address})
    c = g.open("a.test", 5432)
    c.send(b"\0\0\0\x08\x04\xd2\x16\x2f")
    assert c.was_reset()
    assert "HTTP rule" in g.audit(1)[0]["reason"]


def test_websocket_needs_its_request_allowed(api):
    def reply(request):
        request.conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                          b"Upgrade: websocket\r\n\r\n")
        request.conn.send(request.conn.recv_some())
        return False

    api.server.reply = reply
    g = api.gate("GET api.example.test/ws")
    up = ["Connection: Upgrade", "Upgrade: websocket"]
    refused(conn(g).request(path="/other", headers=up))
    c = conn(g)
    assert c.request(path="/ws", headers=up)[0] == 101
    c.send(b"ping")
    assert c.recv_exactly(4) == b"ping"


def test_new_http_rule_ends_what_is_not_read(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context()))
    g = gate(rules=[rule("api.example.test")], resolves={"api.example.test": s.address},
             ca_file=pki.ca)
    tunnel = g.open("api.example.test", 443).tls(ca=pki.ca)
    assert tunnel.request()[0] == 200
    g.configure(rules=[rule("api.example.test"), deny("api.example.test/admin/**")])
    assert tunnel.was_reset()
    c = g.open("api.example.test", 443).tls()  # our certificate: it is read from now on
    assert c.request(path="/x")[0] == 200
    g.configure(rules=[rule("GET api.example.test/x")])
    assert c.request(path="/x")[0] == 200
    refused(c.request(path="/y"))


def test_new_rule_ends_the_request_that_is_under_way(api):
    api.server.reply = lambda request: request.conn.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")  # and no more
    g = api.gate("api.example.test/a/**")
    c = conn(g)
    c.send(b"GET /a/slow HTTP/1.1\r\nHost: api.example.test\r\n\r\n")
    assert c.recv_until(b"\r\n\r\n")
    g.configure(rules=[rule("api.example.test/b/**")])
    assert c.was_reset()
    assert g.audit(1)[0]["verdict"] == "deny"


def test_credential_with_a_rule_about_requests(api):
    g = api.gate("GET api.example.test/v1/*", credentials=[credential("api", "api.example.test")],
                 secrets={"api": SECRET})
    assert conn(g).request(path="/v1/me", headers=["Authorization: Bearer proxy-managed"])[0] == 200
    refused(conn(g).request(path="/v2/me"))
    assert len(api.server.requests) == 1
    assert api.server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


def test_udp_rule_allows_no_tcp(gate, serve):
    s = serve(Server(lambda sock: None))
    g = gate(rules=[rule("udp a.test:*")], resolves={"a.test": s.address})
    assert g.open("a.test", 80).request()[0] == 403
    assert s.accepted == 0


# ---- identity: name, SNI, Host ----


def test_domain_fronting(api):
    """The name and SNI of an allowed host, the Host of another one, whatever order they come in."""
    g = api.gate("api.example.test", "www.example.test",
                 credentials=[credential("api", "api.example.test")], secrets={"api": SECRET})
    refused(conn(g).request(host="www.example.test"), "identity")
    c = conn(g)
    assert c.request()[0] == 200
    refused(c.request(host="www.example.test"), "identity")
    c = g.open("api.example.test", 443).tls(server_name="www.example.test")
    refused(c.request(host="api.example.test"), "identity")
    assert conn(g).request(path="https://www.example.test/")[0] == 400  # Host differs from target
    assert len(api.server.requests) == 1


@pytest.mark.parametrize("host", ["API.Example.TEST", "api.example.test.", "api.example.test:443",
                                  "API.EXAMPLE.TEST.:443"])
def test_other_spellings_of_the_same_host(api, host):
    g = api.gate("ANY api.example.test")
    assert conn(g).request(host=host)[0] == 200


@pytest.mark.parametrize("host", [
    "api.example.test:444", "api.example.test:0443", "api.example.test:", "127.0.0.1",
    "[::1]", "api.example.test,www.example.test", "api.example.test@www.example.test",
    "xn--pi-1ia.example.test", "\u00e4pi.example.test", "api.example.test..", ".api.example.test",
    "api.example.test\u3002", "api%2eexample.test", "api.example.test/", "2130706433", "0x7f.1"])
def test_hosts_that_are_not_this_one(api, host):
    g = api.gate("ANY api.example.test")
    c = conn(g)
    c.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert c.response()[0] in (400, 403)
    assert api.server.requests == []


def test_two_hosts_and_no_host(api):
    g = api.gate("ANY api.example.test")
    for head in (b"GET / HTTP/1.1\r\nHost: api.example.test\r\nHost: www.example.test\r\n\r\n",
                 b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
                 b"GET https://www.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
                 b"GET http://api.example.test:80/ HTTP/1.1\r\nHost: api.example.test\r\n\r\n",
                 b"GET https://u@api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\n\r\n"):
        c = conn(g)
        c.send(head)
        assert c.response()[0] in (400, 403), head
    assert api.server.requests == []


def test_server_name_absent(api):
    """Without SNI, the name of the address and Host have to agree; a credential wants all three."""
    g = api.gate("ANY api.example.test")

    def no_sni():
        c = g.open("api.example.test", 443)
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.check_hostname = False
        ctx.load_verify_locations(cadata=g.ca_pem)
        c.sock = ctx.wrap_socket(c.sock)
        return c

    assert no_sni().request()[0] == 200
    refused(no_sni().request(host="www.example.test"), "identity")
    g.configure(credentials=[credential("api", "api.example.test")])
    refused(no_sni().request(), "identity")


def test_address_literals(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule(f"GET 127.0.0.0/8:{s.port}/x")])
    host = f"127.0.0.1:{s.port}"
    assert g.open("127.0.0.1", s.port).request(host=host, path="/x")[0] == 200
    refused(g.open("127.0.0.1", s.port).request(host=host, path="/y"))
    refused(g.open("127.0.0.1", s.port).request(host=f"localhost:{s.port}", path="/x"), "identity")
    refused(g.open("127.0.0.1", s.port).request(host=f"127.0.0.2:{s.port}", path="/x"), "identity")
    for text in ("2130706433", "0177.0.0.1", "127.1", "0x7f000001", "[::ffff:127.0.0.1]"):
        c = g.open("127.0.0.1", s.port)
        c.send(f"GET /x HTTP/1.1\r\nHost: {text}:{s.port}\r\n\r\n".encode())
        assert c.response()[0] in (200, 400, 403)
    assert len(s.requests) <= 2  # "[::ffff:127.0.0.1]" is the same address


def test_names_in_capitals_and_with_a_dot_are_one_name(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("A.Test.:80")], resolves={"a.test": s.address})
    assert g.lookup("A.TEST") == g.lookup("a.test")
    assert g.open("A.tEST", 80).request(host="a.test.")[0] == 200


def test_idna_name_is_its_own(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("xn--bcher-kva.test:80")], resolves={"xn--bcher-kva.test": s.address})
    c = g.open("xn--bcher-kva.test", 80)
    assert c.request(host="XN--Bcher-KVA.test")[0] == 200
    c.send("GET / HTTP/1.1\r\nHost: b\u00fccher.test\r\n\r\n".encode())
    assert c.response()[0] == 400
    assert g.open("bcher.test", 80).request()[0] == 403


def test_rebinding():
    """With a name server of our own, in namespaces of our own."""
    probe = subprocess.run(["unshare", "-rmn", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip("no namespaces here: " + probe.stderr)
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    script = os.path.join(os.path.dirname(__file__), "ns_rebinding.py")
    r = subprocess.run(["unshare", "-rmn", sys.executable, script], capture_output=True, text=True,
                       timeout=600)
    assert r.returncode == 0 and "rebinding: ok" in r.stdout, r.stdout + r.stderr


# ---- questions to the user ----


def test_refusal_becomes_a_question(gate):
    g = gate(rules=[rule("a.test"), rule("bad.test:80", allow=False)])
    _, _, body = g.open("ask.test", 80).request(headers=["Accept: application/json"])
    j = json.loads(body)
    text = g.open("ask.test", 80).request()[2].decode()
    found = g.pending(lambda q: q and q["ask.test:80"]["times"] == 2)
    ident = found["ask.test:80"]["id"]
    assert j["approve"] == f"hutch policy approve testbox/{ident}"
    assert f"hutch policy approve testbox/{ident}" in text and "Tell your user" in text
    # What a rule denies, or what contradicts itself, is no question.
    assert "approve" not in g.open("bad.test", 80).request()[2].decode()
    g.open("a.test", 443).tls(server_name="b.test").request()
    assert set(g.pending()) == {"ask.test:80"}
    g.configure()
    assert g.questions == [f"asks for ask.test:80: hutch policy approve testbox/{ident}"]


def test_questions_of_every_kind_of_refusal(gate, api, pki):
    g = api.gate("GET api.example.test/v1/*")
    assert g.open("ssh.test", 22) is None
    assert g.open("192.0.2.7", 80).request(host="192.0.2.7")[0] == 403
    with pytest.raises(ssl.SSLCertVerificationError):
        g.open("pinned.test", 443).tls(ca=pki.ca)
    refused(conn(g).request("POST", "/v1/x"))
    refused(conn(g).request(path="/v2/*"))  # no rule can say that
    assert set(g.pending(lambda q: len(q) == 4)) == {
        "ssh.test:22", "192.0.2.7:80", "pinned.test:443", "POST api.example.test:443/v1/x"}


def test_approved_until_it_stops(gate, serve):
    s = serve(HttpServer())
    g = gate(resolves={"ask.test": s.address})
    assert g.open("ask.test", 80).request()[0] == 403
    ident = g.pending(lambda q: q)["ask.test:80"]["id"]
    g.answer("approve", "00000000")
    g.answer("approve", ident)
    assert g.pending(lambda q: not q) == {}
    assert g.open("ask.test", 80).request()[0] == 200
    g.configure(rules=[rule("other.test")])  # stays through a change of rules
    assert g.open("ask.test", 80).request()[0] == 200
    assert g.audit(3)[-1]["source"] == "user, until it stops"
    g.configure(rules=[rule("**:80", allow=False)])  # and deny wins
    assert g.open("ask.test", 80).request()[0] == 403
    assert gate(rules=[]).open("ask.test", 80).request()[0] == 403


def test_dismissed_is_not_asked_again(gate):
    g = gate()
    g.open("ask.test", 80).request()
    ident = g.pending(lambda q: q)["ask.test:80"]["id"]
    g.answer("dismiss", ident)
    assert g.pending(lambda q: not q) == {}
    assert "approve" not in g.open("ask.test", 80).request()[2].decode()
    assert g.open("other.test", 80).request()[0] == 403
    assert set(g.pending(lambda q: q)) == {"other.test:80"}


def test_rules_answer_questions(gate):
    g = gate()
    for name in ("a.test", "b.test", "c.test"):
        g.open(name, 80).request()
    assert len(g.pending(lambda q: len(q) == 3)) == 3
    g.configure(rules=[rule("a.test:80"), rule("**.test:*", allow=False)])
    assert g.pending(lambda q: not q) == {}


def test_questions_are_bounded(gate):
    g = gate()
    for i in range(200):
        g.open(f"n{i}.test", 80).close()

    def unasked():
        with open(f"{g.box_dir}/pending.json") as f:
            return json.load(f)["unasked"]

    found = g.pending(lambda q: q and len(q) + unasked() == 200)
    assert len(found) + unasked() == 200
    assert 8 <= len(found) <= 32
    assert len({q["id"] for q in found.values()}) == len(found)
    # what is open already is still counted
    first = next(iter(found))
    g.open(first.rsplit(":", 1)[0], 80).request()
    assert g.pending(lambda q: q[first]["times"] == 2)


def test_questions_of_an_earlier_start_are_gone(gate):
    g = gate()
    g.open("ask.test", 80).request()
    assert g.pending(lambda q: q)
    assert gate().pending() == {}


# ---- learning ----


def test_learning_allows_nothing_and_records_everything(api, gate, pki):
    g = api.gate("api.example.test", "raw.test:7")
    g.configure(learn=True)
    for _ in range(2):
        g.lookup("never.test")
    assert g.open("ask.test", 80).request(path="/a?b")[0] == 403
    assert conn(g).request("POST", "/v1/x")[0] == 200  # our certificate: it is read
    text = g.open("ask.test", 443).tls().request(path="/c")[2].decode()
    assert "hutch policy approve" not in text and g.pending() == {}
    lines = g.audit(6)
    assert [x["name"] for x in lines if x["proto"] == "dns"] == [
        "never.test", "ask.test", "api.example.test"]
    assert [(x["verdict"], x["method"], x["path"]) for x in lines if x["proto"] != "dns"] == [
        ("deny", "GET", "/a"), ("allow", "POST", "/v1/x"), ("deny", "GET", "/c")]
    del g.network["learn"]
    g.configure()
    g.open("api.example.test", 443).tls(ca=pki.ca)  # untouched again


def test_learning_leaves_alone_what_is_not_http(api, pki):
    g = api.gate("api.example.test")
    g.configure(learn=True)
    c = g.open("api.example.test", 443).tls(ca=pki.ca, alpn=("imap",))
    assert c.request()[0] == 200
