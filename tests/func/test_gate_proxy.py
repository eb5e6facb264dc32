# SPDX-License-Identifier: Apache-2.0
"""hutch-gate behind the host's HTTP proxy: settings, CONNECT, absolute form, refusals; no VM."""
import base64
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from gate_driver import HttpServer, Server, credential, parse_head, rule
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)

USER, PASSWORD = "user", "pr0xy-p@ss-5512"


class Proxy(Server):
    """A proxy for which every name is one server on loopback. @answer(line, headers) may give the
    bytes to answer a request with instead."""

    def __init__(self, to, auth=None, answer=None):
        self.to, self.auth, self.answer = to, auth, answer
        self.heads = []
        super().__init__(self._proxy)

    def _proxy(self, sock):
        raw = b""
        while b"\r\n\r\n" not in raw:
            data = sock.recv(65536)
            if not data:
                return
            raw += data
        head, rest = raw.split(b"\r\n\r\n", 1)
        line, headers = parse_head(head + b"\r\n\r\n")
        self.heads.append((line, headers))
        answer = self.answer and self.answer(line, headers)
        if self.auth and headers.get("proxy-authorization") != self.auth:
            answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        if answer:
            sock.sendall(answer)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
            return
        up = socket.create_connection(("127.0.0.1", self.to))
        if line[0] == "CONNECT":
            sock.sendall(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
            up.sendall(rest)
        else:
            up.sendall(raw)
        t = threading.Thread(target=pump, args=(up, sock), daemon=True)
        t.start()
        pump(sock, up)
        t.join()
        up.close()


def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def settings(proxy, **more):
    return {"all_proxy": f"http://127.0.0.1:{proxy.port}", **more}


def test_tls_passes_through_connect(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context()))
    p = serve(Proxy(s.port))
    g = gate(rules=[rule("www.example.test")], env=settings(p))
    c = g.open("www.example.test", 443).tls(ca=pki.ca)
    assert c.request()[0] == 200
    assert p.heads[0][0] == ["CONNECT", "www.example.test:443", "HTTP/1.1"]
    c.close()
    line = g.audit(1)[0]
    assert line["proxy"] == f"127.0.0.1:{p.port}" and "addr" not in line


def test_credentials_are_injected_behind_it(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context()))
    p = serve(Proxy(s.port))
    g = gate(rules=[rule("api.example.test")], credentials=[credential("svc", "api.example.test")],
             secrets={"svc": "the-value"}, env=settings(p))
    c = g.open("api.example.test", 443).tls()
    assert c.request()[0] == 200 and c.request()[0] == 200
    assert s.requests[0].headers["authorization"] == "Bearer the-value"
    assert len(p.heads) == 1


def test_plain_http_is_asked_for_in_absolute_form(gate, serve):
    s = serve(HttpServer())
    p = serve(Proxy(s.port, auth="Basic " + base64.b64encode(
        f"{USER}:{PASSWORD}".encode()).decode()))
    g = gate(rules=[rule("www.example.test:80"), rule("www.example.test:8080"),
                    rule("GET ruled.example.test:80/a")],
             env={"http_proxy": f"http://{USER}:{PASSWORD.replace('@', '%40')}@127.0.0.1:{p.port}"})
    c = g.open("www.example.test", 80)
    assert c.request(path="/a/b?c=d")[0] == 200
    # The connection is kept, and what a guest says to a proxy is not for it.
    assert c.request(path="http://www.example.test/x",
                     headers=["Proxy-Authorization: Basic Z3Vlc3Q6"])[0] == 200
    c.close()
    assert g.open("www.example.test", 8080).request(host="www.example.test:8080")[0] == 200
    got = [(r.path, r.headers["host"]) for r in s.requests]
    assert got == [("http://www.example.test/a/b?c=d", "www.example.test"),
                   ("http://www.example.test/x", "www.example.test"),
                   ("http://www.example.test:8080/", "www.example.test:8080")]
    # Path rules go on judging what is sent.
    assert g.open("ruled.example.test", 80).request(path="/b/%2e%2e/a")[0] == 200
    assert s.requests[-1].path == "http://ruled.example.test/a"
    assert g.open("ruled.example.test", 80).request(path="/b")[0] == 403
    log = str(g.audit(5)) + g.log()
    assert PASSWORD not in log and base64.b64encode(PASSWORD.encode()).decode() not in log
    with open(f"/proc/{g.proc.pid}/environ", "rb") as f:
        assert PASSWORD.encode() not in f.read()


def test_guest_has_no_say_in_the_login_of_the_proxy(gate, serve):
    s = serve(HttpServer())
    p = serve(Proxy(s.port))
    g = gate(rules=[rule("www.example.test:80")], env=settings(p))
    assert g.open("www.example.test", 80).request(
        headers=["Proxy-Authorization: Basic Z3Vlc3Q6", "X-Other: 1"])[0] == 200
    seen = p.heads[0][1]
    assert "x-other" in seen and "proxy-authorization" not in seen


def test_no_proxy_and_own_addresses_are_direct(gate, serve):
    s = serve(HttpServer())
    p = serve(Proxy(s.port, answer=lambda *a: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))
    g = gate(rules=[rule("**:*"), rule("127.0.0.0/8:*"), rule(f"host.hutch.internal:{s.port}")],
             resolves={"said.test": s.address},
             env=settings(p, no_proxy="localhost,.direct.test"))
    for host in ("said.test", "127.0.0.1", "host.hutch.internal"):
        assert g.open(host, s.port).request(host=f"{host}:{s.port}")[0] == 200
    # Nobody knows the name here: an error of the look-up, not of the proxy.
    body = g.open("www.direct.test", 80).request()[2]
    assert b"look up www.direct.test" in body
    assert p.heads == []
    assert g.open("www.proxied.test", 80).request()[0] == 500


@pytest.mark.parametrize("answer,text", [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
     b"wants a user name and password (407)"),
    (b"HTTP/1.1 403 Not \x01allowed\r\nContent-Length: 3\r\n\r\nno!", b"cannot be read"),
    (b"HTTP/1.1 403 Not allowed\r\nContent-Length: 3\r\n\r\nno!", b"443: 403 Not allowed"),
    (b"HTTP/1.1 100 Continue\r\n\r\n", b"100 Continue"),
    (b"SSH-2.0-OpenSSH\r\n\r\n", b"cannot be read"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, b"too long"),
    (b"HTTP/1.1 200 OK\r\nX: y\r\n", b"has closed the connection"),
    (b"", b"has closed the connection"),
], ids=["407", "control", "403", "100", "ssh", "long", "cut", "nothing"])
def test_refusal_of_the_proxy_is_explained(gate, serve, pki, answer, text):
    p = serve(Server(lambda sock: (sock.recv(65536), sock.sendall(answer),
                                   sock.shutdown(socket.SHUT_WR), sock.recv(1))))
    g = gate(rules=[rule("www.example.test")], env=settings(p))
    c = g.open("www.example.test", 443).tls()
    code, headers, body = c.request()
    assert code == 502 and headers["x-hutch-refused"] == "upstream", body
    assert text in body, body
    assert b"\x01" not in body


def test_407_for_a_plain_request(gate, serve):
    p = serve(Proxy(1, auth="Basic never"))
    g = gate(rules=[rule("www.example.test:80")],
             env={"HTTP_PROXY": f"http://u:{PASSWORD}@127.0.0.1:{p.port}"})
    code, _, body = g.open("www.example.test", 80).request()
    assert code == 502 and b"another user name and password (407)" in body
    assert PASSWORD.encode() not in body


def test_proxies_that_cannot_be_used(gate, serve):
    for value, text in (("socks5://127.0.0.1:1", b"socks5 proxies are not supported"),
                        ("http://127.0.0.1:1", b"the proxy 127.0.0.1:1: connect"),
                        ("http://no-such-proxy.invalid:1", b"the proxy no-such-proxy.invalid:1")):
        g = gate(rules=[rule("www.example.test")], env={"https_proxy": value})
        code, _, body = g.open("www.example.test", 443).tls().request()
        assert code == 502 and text in body, body


def test_bytes_behind_the_answer_are_the_servers(gate, serve):
    def greet(sock):
        sock.sendall(b"SSH-2.0-hello\r\n")
        while data := sock.recv(65536):
            sock.sendall(data)

    s = serve(Server(greet))

    def slow(sock):
        """The answer in single bytes, and the greeting right behind it."""
        sock.recv(65536)
        up = socket.create_connection(("127.0.0.1", s.port))
        data = b"HTTP/1.1 200 OK\r\n\r\n" + up.recv(100)
        for i in range(len(data)):
            sock.sendall(data[i:i + 1])
        t = threading.Thread(target=pump, args=(up, sock), daemon=True)
        t.start()
        pump(sock, up)
        up.close()

    p = serve(Server(slow))
    g = gate(rules=[rule("ssh.example.test:22"), rule("odd.example.test:7777")], env=settings(p))
    for host, port in (("ssh.example.test", 22), ("odd.example.test", 7777)):
        c = g.open(host, port)
        assert c.recv_until(b"\r\n") == b"SSH-2.0-hello\r\n"
        c.send(b"back")
        assert c.recv_exactly(4) == b"back"
        c.close()


def test_each_protocol_takes_its_own(gate, serve, pki):
    plain, tls = serve(HttpServer()), serve(HttpServer(tls=pki.context()))
    p_http, p_tls = serve(Proxy(plain.port)), serve(Proxy(tls.port))
    g = gate(rules=[rule("www.example.test:*")],
             env={"http_proxy": f"127.0.0.1:{p_http.port}",
                  "https_proxy": f"127.0.0.1:{p_tls.port}"})
    assert g.open("www.example.test", 8080).request(host="www.example.test:8080")[0] == 200
    assert g.open("www.example.test", 8443).tls(ca=pki.ca).request(
        host="www.example.test:8443")[0] == 200
    assert p_http.heads[0][0][:2] == ["GET", "http://www.example.test:8080/"]
    assert p_tls.heads[0][0][:2] == ["CONNECT", "www.example.test:8443"]
    # Anything else has none of the two.
    c = g.open("www.example.test", 5432)
    c.send(b"\0\0\0\x08\x04\xd2\x16\x2f")
    assert c.was_reset()
    assert len(p_http.heads) == len(p_tls.heads) == 1


def test_denied_reaches_no_proxy(gate, serve):
    p = serve(Proxy(1))
    g = gate(rules=[rule("www.example.test")], env=settings(p))
    assert g.open("other.example.test", 80).request()[0] == 403
    assert g.open("other.example.test", 443).tls().request()[0] == 403
    # A request that contradicts its connection does not either.
    assert g.open("www.example.test", 443).tls("other.example.test").request()[0] == 403
    assert not any("other" in str(h) for h in p.heads)


def test_real_proxy():
    """tinyproxy, with names and addresses of our own."""
    probe = subprocess.run(["unshare", "-rmn", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip("no namespaces here: " + probe.stderr)
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    if not shutil.which("tinyproxy"):
        pytest.skip("tinyproxy is not installed (tools/deps test)")
    script = os.path.join(os.path.dirname(__file__), "ns_proxy.py")
    r = subprocess.run(["unshare", "-rmn", sys.executable, script], capture_output=True, text=True,
                       timeout=600)
    assert r.returncode == 0 and "proxies: ok" in r.stdout, r.stdout + r.stderr
