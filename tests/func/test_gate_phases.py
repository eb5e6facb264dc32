# SPDX-License-Identifier: Apache-2.0
"""hutch-gate: what is in force while kits are installed is closed for good when that has ended."""
import json

from gate_driver import EchoServer, HttpServer, Server, credential, rule
from test_gate import SECRET, gate, pki, serve  # noqa: F401 (fixtures)
from test_gate_udp import echo_server


def during(phase, target, **more):
    return {**rule(target, **more), "phase": phase}


def test_rules_belong_to_their_phase(gate, serve):
    web = serve(HttpServer())
    names = ("always.test", "install.test", "runtime.test", "both.test")
    g = gate(phase="install", resolves={n: web.address for n in names},
             rules=[rule("always.test:80"), during("install", "install.test:80", source="kit a"),
                    during("runtime", "runtime.test:80", source="kit b"), rule("both.test:80"),
                    during("install", "both.test:80", allow=False)])

    def status(name):
        code, _, body = g.open(name, 80).request()
        return code, body.decode()

    assert [status(n)[0] for n in names] == [200, 200, 403, 403]
    assert 'after the installation only: rule "runtime.test:80" (kit b, runtime)' in status(
        "runtime.test")[1]
    assert g.configure(phase="runtime")["phase"] == "runtime"
    assert [status(n)[0] for n in names] == [200, 403, 200, 200]
    assert 'while kits are installed only: rule "install.test:80" (kit a, install)' in status(
        "install.test")[1]
    assert len(web.requests) == 5
    lines = {x["name"]: x for x in g.audit() if x["verdict"] == "allow"}
    assert lines["install.test"]["source"] == "kit a, install"
    assert lines["runtime.test"]["source"] == "kit b, runtime"
    assert lines["always.test"]["source"] == "test"
    denied = [x for x in g.audit() if x["verdict"] == "deny" and x["name"] == "both.test"]
    assert [x["source"] for x in denied] == ["test, install"]


def test_there_is_no_way_back(gate, serve):
    web = serve(HttpServer())
    g = gate(phase="install", resolves={"i.test": web.address},
             rules=[during("install", "i.test:80")])
    assert g.open("i.test", 80).request()[0] == 200
    assert g.configure(phase="runtime")["event"] == "ready"
    answer = g.configure(phase="install")
    assert answer["event"] == "notice" and "has ended for good" in answer["text"]
    assert answer["phase"] == "runtime"
    assert g.open("i.test", 80).request()[0] == 403
    # no word about it is no way back either
    g.phase = None
    assert g.configure()["phase"] == "runtime"
    assert g.open("i.test", 80).request()[0] == 403


def test_a_sandbox_that_is_installed_begins_after_it(gate, serve):
    web = serve(HttpServer())
    for phase in (None, "runtime"):
        g = gate(phase=phase, resolves={"i.test": web.address, "r.test": web.address},
                 rules=[during("install", "i.test:80"), during("runtime", "r.test:80")])
        assert g.open("i.test", 80).request()[0] == 403
        assert g.open("r.test", 80).request()[0] == 200


def test_new_rules_do_not_end_the_installation(gate, serve):
    web = serve(HttpServer())
    g = gate(phase="install", resolves={"i.test": web.address, "new.test": web.address},
             rules=[during("install", "i.test:80")])
    c = g.open("i.test", 80)
    assert c.request()[0] == 200
    g.configure(rules=g.network["rules"] + [rule("new.test:80")])
    assert c.request()[0] == 200  # the same connection
    assert g.open("new.test", 80).request()[0] == 200


def test_connections_of_the_installation_are_cut(gate, pki, serve):
    """Whatever they are, and whatever their rules say: an install step made them."""
    tls = serve(Server(lambda sock: sock.sendall(sock.recv(100)), tls=pki.context()))
    web = serve(HttpServer())
    with EchoServer() as port:
        echo = f"127.0.0.1:{port}"
        g = gate(phase="install", rules=[during("install", "raw.test:7"), rule("keep.test:7"),
                                         during("install", "api.example.test"), rule("web.test:80")],
                 resolves={"raw.test": echo, "keep.test": echo, "api.example.test": tls.address,
                           "web.test": web.address})
        raw, keep = g.open("raw.test", 7), g.open("keep.test", 7)
        for c in (raw, keep):
            c.send(b"hello\n")
            assert c.recv_exactly(6) == b"hello\n"
        inside = g.open("api.example.test", 443)
        inside.tls(ca=pki.ca)
        request = g.open("web.test", 80)
        assert request.request()[0] == 200
        g.configure(phase="runtime")
        assert raw.was_reset() and keep.was_reset() and inside.was_reset() and request.was_reset()
        again = g.open("keep.test", 7)
        again.send(b"again\n")
        assert again.recv_exactly(6) == b"again\n"
    ended = [x for x in g.audit(4) if x.get("reason") == "the installation has ended"]
    assert sorted(x["name"] for x in ended)[:3] == ["api.example.test", "keep.test", "raw.test"]


def test_datagrams_of_the_installation_are_cut(gate):
    with echo_server() as (port, _):
        g = gate(phase="install", rules=[during("install", "udp time.test:123")],
                 resolves={"time.test": f"127.0.0.1:{port}"})
        g.datagram("time.test", 123, b"ping")
        assert g.next_datagram()[3] is not None
        g.configure(phase="runtime")
        assert g.next_datagram()[3] is None  # refused
        g.datagram("time.test", 123, b"ping")
        assert g.next_datagram()[3] is None


def test_credentials_belong_to_their_phase(gate, serve, pki):
    api = serve(HttpServer(tls=pki.context()))
    seen = [{**credential("key", "api.example.test"), "phase": "install"},
            {**credential("other", "api.example.test", header="X-Other", fmt="%s"),
             "phase": "runtime"}]
    g = gate(phase="install", rules=[rule("api.example.test")], credentials=seen,
             secrets={"key": SECRET, "other": "another-secret-value"}, ca_file=pki.ca,
             resolves={"api.example.test": api.address})
    assert g.open("api.example.test", 443).tls().request()[0] == 200
    g.configure(phase="runtime")
    assert g.open("api.example.test", 443).tls().request()[0] == 200
    first, second = [r.headers for r in api.requests]
    assert first["authorization"] == f"Bearer {SECRET}" and "x-other" not in first
    assert second["x-other"] == "another-secret-value" and "authorization" not in second
    assert [x["credential"] for x in g.audit(2)] == ["key", "other"]


def test_a_phase_is_one_of_two(gate):
    g = gate()
    for phase in ("later", 1, "always", ""):
        message = {"op": "configure", "name": "testbox", "phase": phase, "network": g.network}
        assert g.configure_raw(message)["event"] == "notice", phase
    bad = json.loads(json.dumps(g.network))
    bad["rules"] = [{**rule("a.test"), "phase": "always"}]
    assert "says nothing" in g.configure_raw(
        {"op": "configure", "name": "testbox", "network": bad})["text"]
