# SPDX-License-Identifier: Apache-2.0
"""hutch-gate from both of its sides: a guest behind the link, servers in front, no VM."""
import base64
import hashlib
import json
import os
import random
import resource
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import threading
import time

import pytest

from gate_driver import (DNS_QUERY, GATEWAY, MSG, PATIENCE, TCP_OPEN, TCP_REFUSE, Conn, EchoServer,
                         Gate, HttpServer, Nobody, Server, credential, dns_addresses, dns_question, dns_rcode,
                         rule, send_response)

SECRET = "s3cr3t-value-0123456789"
NAMES = ["api.example.test", "www.example.test", "other.example.test", "host.hutch.internal"]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A certificate authority for the outside world, and a server certificate for NAMES."""
    d = tmp_path_factory.mktemp("pki")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=d, check=True, capture_output=True)

    for ca in ("ca", "stranger"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days", "10", "-subj",
                f"/CN=Test {ca}", "-addext", "keyUsage=critical,keyCertSign")
        san = ",".join(f"DNS:{n}" for n in NAMES) + ",IP:127.0.0.1"
        (d / "ext").write_text(f"subjectAltName={san}\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                f"{ca}-server.key", "-out", f"{ca}.csr", "-subj", "/CN=server")
        openssl("x509", "-req", "-in", f"{ca}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
                "-days", "9", "-extfile", "ext", "-out", f"{ca}-server.pem", "-CAcreateserial")

    class Pki:
        ca = str(d / "ca.pem")
        cert, key = d / "ca-server.pem", d / "ca-server.key"

        @staticmethod
        def context(name="ca"):
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(d / f"{name}-server.pem", d / f"{name}-server.key")
            ctx.set_alpn_protocols(["http/1.1"])
            return ctx

    return Pki


@pytest.fixture
def gate(tmp_path, pki):
    """Makes gates; all of them have to end well."""
    running = []

    def make(**kw):
        kw.setdefault("ca_file", pki.ca)
        g = Gate(str(tmp_path), **kw)
        g.__enter__()
        running.append(g)
        return g

    yield make
    for g in running:
        g.__exit__(None, None, None)


@pytest.fixture
def serve():
    """Makes servers and stops them."""
    running = []

    def make(server):
        running.append(server)
        return server

    yield make
    for s in running:
        s.__exit__()


def echo(sock):
    while True:
        data = sock.recv(65536)
        if not data:
            sock.sendall(b"<eof>")
            sock.shutdown(socket.SHUT_WR)
            return
        sock.sendall(data)


# ---- start and end ----


def test_makes_its_authority_once(gate, tmp_path):
    g = gate()
    assert g.ca_pem.startswith("-----BEGIN CERTIFICATE-----")
    key = os.stat(os.path.join(g.box_dir, "ca.key"))
    assert stat.S_IMODE(key.st_mode) == 0o600
    text = subprocess.run(["openssl", "x509", "-noout", "-text"], input=g.ca_pem, text=True,
                          capture_output=True, check=True).stdout
    assert "CN = Hutch sandbox testbox" in text
    assert "CA:TRUE" in text
    assert gate().ca_pem == g.ca_pem


def test_damaged_authority_is_made_anew(gate):
    g = gate()
    with open(os.path.join(g.box_dir, "ca.key"), "w") as f:
        f.write("nonsense")
    assert gate().ca_pem != g.ca_pem


@pytest.mark.parametrize("side", ["link", "control"])
def test_ends_when_the_other_side_has_gone(tmp_path, side):
    g = Gate(str(tmp_path))
    g.__enter__()
    if side == "link":
        g.link.shutdown(socket.SHUT_RDWR)
    else:
        g.control.shutdown(socket.SHUT_RDWR)
    assert g.proc.wait(PATIENCE) == 0, g.log()
    g.__exit__(None, None, None)


def test_bad_first_configuration_is_told(tmp_path):
    g = Gate(str(tmp_path), rules=[rule("not a host!")])
    with pytest.raises(KeyError):  # no "ca" in an error event
        g.__enter__()
    assert g.proc.wait(PATIENCE) == 1


def test_bad_reconfiguration_changes_nothing(gate, serve):
    s = serve(Server(echo))
    g = gate(rules=[rule("raw.test:7")], resolves={"raw.test": s.address})
    reply = g.configure(rules=[rule("raw.test:7"), rule("***")])
    assert reply["event"] == "notice" and "***" in reply["text"]
    assert g.open("raw.test", 7) is not None
    for line in (b"{}\n", b"nonsense\n", b"\0\0\n", b'{"op":"configure"}\n'):
        g.control.sendall(line)
        assert g.read_event()["event"] == "notice"
    c = g.open("raw.test", 7)
    c.send(b"\0still here")
    assert c.recv_exactly(11) == b"\0still here"


def test_drops_privileges(gate):
    g = gate()
    with open(f"/proc/{g.proc.pid}/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == 0
    assert int(status["CapPrm"], 16) == 0


# ---- DNS ----


def test_dns(gate):
    g = gate(rules=[rule("a.test:443")])
    a = g.lookup("a.test")
    b = g.lookup("b.test")
    assert a != b
    assert a.startswith("198.1") and b.startswith("198.1")
    assert g.lookup("a.test") == a
    assert g.lookup("A.TeSt") == a
    assert g.lookup("host.hutch.internal").startswith("198.1")
    for qtype in (28, 65, 64, 16, 15):  # AAAA HTTPS SVCB TXT MX
        reply = g.ask(dns_question("a.test", qtype))
        assert dns_rcode(reply) == 0 and dns_addresses(reply) == []


def test_dns_over_tcp(gate):
    g = gate()
    c = g.open(GATEWAY, 53)
    q = dns_question("a.test")
    c.send(struct.pack("!H", len(q)) + q[:5])
    time.sleep(0.05)
    c.send(q[5:] + struct.pack("!H", len(q)) + q)
    for _ in range(2):
        size = struct.unpack("!H", c.recv_exactly(2))[0]
        assert dns_addresses(c.recv_exactly(size)) == [g.lookup("a.test")]
    c.sock.shutdown(socket.SHUT_WR)
    assert c.recv_all() == b""


def test_hostile_link_messages_are_survived(gate):
    g = gate(rules=[rule("a.test:443")])
    for data in (b"x", b"\0" * 20, b"\xff" * 4096, dns_question("x.test")):
        g.link.send(data)
    assert g.ask(b"", timeout=0.2) is None
    assert g.ask(dns_question("x.test")[:5], timeout=0.2) is None
    assert dns_rcode(g.ask(dns_question("x.test")[:20])) != 0
    g.send_link(TCP_OPEN, 900, 1, 1)  # without its descriptor
    g.send_link(DNS_QUERY, 901, data=b"x", fds=[0])  # with one too many
    g.send_link(77, 902)
    r, w = os.pipe()
    g.send_link(TCP_OPEN, 903, 0xc6120001, 443, fds=[r])  # not a socket
    g.wait_for(lambda: g.events.get(903) == [TCP_REFUSE])
    os.close(r)
    os.close(w)
    assert g.lookup("a.test")


def test_addresses_that_nothing_belongs_to_are_refused(gate):
    g = gate(rules=[rule("**:*")])
    assert g.open("198.18.200.200", 443) is None  # synthetic, never given out
    assert g.open(GATEWAY, 80) is None


# ---- tunnels ----


def test_tls_tunnel_is_untouched(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context()))
    g = gate(rules=[rule("api.example.test")], resolves={"api.example.test": s.address})
    c = g.open("api.example.test", 443).tls(ca=pki.ca)  # the server's own certificate
    assert c.request(path="/x")[2] == b"hello"
    c.close()
    line = g.audit(1)[0]
    assert line["verdict"] == "allow" and line["proto"] == "tls"
    assert line["name"] == "api.example.test" and line["port"] == 443
    assert line["rule"] == "api.example.test" and line["source"] == "test"
    assert line["bytes_up"] > 100 and line["bytes_down"] > 100
    assert line["box"] == "testbox" and line["time"].endswith("Z")


def test_tunnel_both_ways_and_half_close(gate, serve):
    s = serve(Server(echo))
    g = gate(rules=[rule("raw.test:7")], resolves={"raw.test": s.address})
    c = g.open("raw.test", 7)
    data = os.urandom(3 << 20)
    sender = threading.Thread(target=lambda: (c.send(data), c.sock.shutdown(socket.SHUT_WR)))
    sender.start()
    got = c.recv_all()
    sender.join()
    assert got == data + b"<eof>"
    c.close()
    line = g.audit(1)[0]
    assert line["proto"] == "tcp" and line["verdict"] == "allow"
    assert (line["bytes_up"], line["bytes_down"]) == (len(data), len(data) + 5)


def test_server_first_protocol(gate, serve):
    def ssh(sock):
        sock.sendall(b"SSH-2.0-test\r\n")
        assert sock.recv(100) == b"SSH-2.0-guest\r\n"
        sock.sendall(b"bye")

    s = serve(Server(ssh))
    g = gate(rules=[rule("git.test:22")], resolves={"git.test": s.address})
    c = g.open("git.test", 22)
    assert c.recv_until(b"\n") == b"SSH-2.0-test\r\n"
    c.send(b"SSH-2.0-guest\r\n")
    assert c.recv_all() == b"bye"


def test_server_that_closes_or_resets_at_once(gate, serve):
    def rst(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    fin, rst = serve(Server(lambda sock: None)), serve(Server(rst))
    g = gate(rules=[rule("**:*")], resolves={"fin.test": fin.address, "rst.test": rst.address})
    assert g.open("fin.test", 7).recv_all() == b""
    c = g.open("rst.test", 7)
    assert c.was_reset()
    assert [x["verdict"] for x in g.audit(2)] == ["allow", "error"]


def test_guest_that_leaves_frees_the_server(gate, serve):
    gone = threading.Event()

    def wait(sock):
        sock.sendall(b"x")
        assert sock.recv(10) == b""
        gone.set()

    s = serve(Server(wait))
    g = gate(rules=[rule("raw.test:7")], resolves={"raw.test": s.address})
    c = g.open("raw.test", 7)
    assert c.recv_some() == b"x"
    c.close()
    assert gone.wait(PATIENCE)


def test_unreachable_server(gate, serve):
    g = gate(rules=[rule("raw.test:*")], resolves={"raw.test": serve(Nobody()).address})
    c = g.open("raw.test", 9)
    c.send(b"\x01\x02\x03")
    assert c.was_reset()
    line = g.audit(1)[0]
    assert line["verdict"] == "error" and "refused" in line["reason"]
    c = g.open("raw.test", 80)
    code, headers, body = c.request()
    assert code == 502 and headers["x-hutch-refused"] == "upstream"
    assert b"Connection refused" in body


# ---- denied ----


def check_denied(response, host, port):
    code, headers, body = response
    assert code == 403
    assert headers["x-hutch-refused"] == "policy"
    assert headers["connection"] == "close"
    text = body.decode()
    assert "blocked by hutch policy" in text
    assert f"{host}:{port}" in text
    assert f"hutch policy allow {host}:{port}" in text
    assert len(text) < 1200


def test_denied_http(gate):
    g = gate(rules=[rule("a.test")])
    check_denied(g.open("evil.test", 80).request(path="/steal?data=1"), "evil.test", 80)
    line = g.audit(1)[0]
    assert line["verdict"] == "deny" and line["proto"] == "http" and line["status"] == 403
    assert line["method"] == "GET" and line["path"] == "/steal"
    assert "data=1" not in json.dumps(line)


def test_denied_https_is_explained_inside_tls(gate):
    g = gate(rules=[rule("a.test")])
    c = g.open("evil.test", 443).tls()
    check_denied(c.request(), "evil.test", 443)
    line = g.audit(1)[0]
    assert line["verdict"] == "deny" and line["status"] == 403 and line["name"] == "evil.test"


def test_denied_https_of_a_client_that_does_not_trust_us(gate, pki):
    g = gate()
    with pytest.raises(ssl.SSLCertVerificationError):
        g.open("evil.test", 443).tls(ca=pki.ca)
    line = g.audit(1)[0]
    assert line["verdict"] == "deny" and line["name"] == "evil.test"


def test_denied_json(gate):
    g = gate(rules=[rule("**.evil.test:80", allow=False, source="kit strict"), rule("**:*")])
    c = g.open("www.evil.test", 80)
    code, headers, body = c.request(headers=["Accept: application/json, text/*;q=0.5"])
    assert code == 403 and headers["content-type"].startswith("application/json")
    j = json.loads(body)
    assert j["error"] == "blocked by hutch policy"
    assert j["host"] == "www.evil.test" and j["port"] == 80
    assert "**.evil.test:80" in j["rule"] and "kit strict" in j["rule"]
    assert j["reason"]


def test_denied_head_has_no_body(gate):
    code, headers, body = gate().open("evil.test", 80).request("HEAD")
    assert code == 403 and int(headers["content-length"]) > 0 and body == b""


def test_denied_raw(gate):
    g = gate()
    c = g.open("evil.test", 5432)
    c.send(struct.pack("!II", 8, 80877103))
    assert c.was_reset()
    assert g.audit(1)[0]["verdict"] == "deny"


def test_denied_server_first_port_is_refused_outright(gate):
    g = gate()
    assert g.open("evil.test", 22) is None
    line = g.audit(1)[0]
    assert line["verdict"] == "deny" and line["port"] == 22


def test_denied_and_silent_is_reset(gate):
    g = gate()
    began = time.monotonic()
    assert g.open("evil.test", 8443).was_reset()
    assert time.monotonic() - began > 2


def test_other_port_of_an_allowed_host_is_denied(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("a.test:443")], resolves={"a.test": s.address})
    code, _, body = g.open("a.test", 80).request()
    assert code == 403 and s.accepted == 0


def test_no_rules_means_nothing(gate, serve):
    s = serve(HttpServer())
    g = gate(resolves={"a.test": s.address})
    assert g.open("a.test", 80).request()[0] == 403
    assert s.accepted == 0


# ---- identity ----


def test_server_name_must_agree(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context()))
    g = gate(rules=[rule("api.example.test")], resolves={"api.example.test": s.address})
    c = g.open("api.example.test", 443).tls(server_name="other.example.test")
    code, headers, body = c.request(host="other.example.test")
    assert code == 403 and headers["x-hutch-refused"] == "identity"
    assert b"other.example.test" in body
    assert s.requests == []
    line = g.audit(1)[0]
    assert line["verdict"] == "deny" and "other.example.test" in line["reason"]


def test_host_must_agree_on_every_request(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("a.test:80")], resolves={"a.test": s.address})
    c = g.open("a.test", 80)
    code, headers, _ = c.request(host="b.test")
    assert code == 403 and headers["x-hutch-refused"] == "identity"
    assert s.requests == []
    c = g.open("a.test", 80)
    assert c.request()[0] == 200
    assert c.request(host="A.TEST:80")[0] == 200
    code, headers, _ = c.request(host="b.test")
    assert code == 403 and headers["x-hutch-refused"] == "identity"
    code, _, _ = g.open("a.test", 80).request(host="a.test:8080")
    assert code == 403
    assert len(s.requests) == 2


def test_absolute_target_must_agree(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("a.test:80")], resolves={"a.test": s.address})
    assert g.open("a.test", 80).request(path="http://b.test/")[0] in (400, 403)
    assert g.open("a.test", 80).request(path="https://a.test/")[0] in (400, 403)
    assert s.requests == []
    assert g.open("a.test", 80).request(path="http://a.test/x?y")[0] == 200
    assert s.requests[0].path == "/x?y"


def test_connect_is_refused_readably(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("a.test:80")], resolves={"a.test": s.address})
    code, _, body = g.open("a.test", 80).request("CONNECT", "a.test:80", host="a.test:80")
    assert code == 403 and b"CONNECT" in body
    assert s.requests == []


def test_plain_address_needs_a_rule_for_it(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("**:*")])
    assert g.open("127.0.0.1", 80).request()[0] == 403
    g.configure(rules=[rule(f"127.0.0.1:{s.port}")])
    assert g.open("127.0.0.1", s.port).request(host=f"127.0.0.1:{s.port}")[0] == 200
    assert g.open("127.0.0.1", s.port).request(host="a.test")[0] == 403


def test_private_results_are_refused(gate, serve):
    """localhost-like names in /etc/hosts: the name is allowed, its address is not."""
    s = serve(HttpServer())
    hosts = [n for n in local_names() if n not in ("localhost",)]
    if not hosts:
        pytest.skip("no name for a private address in /etc/hosts")
    name, addr = hosts[0], local_names()[hosts[0]]
    g = gate(rules=[rule(f"{name}:{s.port}"), rule("0.0.0.0/0:*")])
    code, headers, body = g.open(name, s.port).request(host=f"{name}:{s.port}")
    assert code == 403 and headers["x-hutch-refused"] == "policy"
    assert addr.encode() in body
    assert s.accepted == 0
    g.configure(rules=[rule(f"{name}:{s.port}"), rule(f"{addr}:{s.port}")])
    code = g.open(name, s.port).request(host=f"{name}:{s.port}")[0]
    assert code == (200 if addr == "127.0.0.1" else 502)  # where the server is


def local_names():
    out = {}
    with open("/etc/hosts") as f:
        for line in f:
            fields = line.split("#")[0].split()
            if len(fields) > 1 and fields[0].split(".")[0] in ("127", "10", "172", "192"):
                for name in fields[1:]:
                    out.setdefault(name.lower(), fields[0])
    return out


def test_host_loopback_by_exact_rule_only(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("**:*")])
    code, _, body = g.open("host.hutch.internal", s.port).request(
        host=f"host.hutch.internal:{s.port}")
    assert code == 403 and b"host.hutch.internal" in body and s.accepted == 0
    g.configure(rules=[rule(f"host.hutch.internal:{s.port}")])
    code, _, _ = g.open("host.hutch.internal", s.port).request(
        host=f"host.hutch.internal:{s.port}")
    assert code == 200


# ---- credentials ----


@pytest.fixture
def api(gate, serve, pki):
    """A gate with a credential for api.example.test, and the server that gets it."""

    class Api:
        pass

    a = Api()
    a.reply = send_response
    a.server = serve(HttpServer(lambda r: a.reply(r), tls=pki.context()))

    def make(**kw):
        kw.setdefault("credentials", [credential("svc", "api.example.test")])
        kw.setdefault("secrets", {"svc": SECRET + "\n"})
        kw.setdefault("rules", [rule("api.example.test"), rule("www.example.test")])
        kw.setdefault("resolves", {n: a.server.address for n in NAMES})
        return gate(**kw)

    a.gate = make
    return a


def test_credential_reaches_the_server_only(api):
    g = api.gate()
    c = g.open("api.example.test", 443).tls()
    code, _, body = c.request(headers=["Authorization: Bearer proxy-managed", "X-Other: 1"])
    assert (code, body) == (200, b"hello")
    got = api.server.requests[0]
    assert got.headers["authorization"] == f"Bearer {SECRET}"
    assert got.headers["x-other"] == "1"
    assert b"proxy-managed" not in got.raw
    # set when the guest sends none, replaced whatever it sends
    c.request()
    c.request(headers=["AUTHORIZATION: mine"])
    for r in api.server.requests[1:]:
        assert r.headers["authorization"] == f"Bearer {SECRET}"
    lines = g.audit(3)
    assert [x["credential"] for x in lines] == ["svc"] * 3
    assert all(x["proto"] == "https" and x["verdict"] == "allow" for x in lines)
    assert c.request(headers=["authorization: mine", "AUTHORIZATION: twice"])[0] == 400
    c.close()
    for root, _, files in os.walk(g.box_dir):
        for name in files:
            with open(os.path.join(root, name), "rb") as f:
                assert SECRET.encode() not in f.read(), name
    assert SECRET not in g.log()


def test_credential_is_not_sent_elsewhere(api):
    g = api.gate()
    c = g.open("www.example.test", 443)
    # no credential belongs there: the tunnel shows the server's own certificate
    c = c.tls(ca=g.ca_file)
    c.request(headers=["Authorization: Bearer proxy-managed"])
    assert api.server.requests[0].headers["authorization"] == "Bearer proxy-managed"


def test_credential_never_on_plain_http(gate, serve):
    s = serve(HttpServer())
    g = gate(rules=[rule("api.example.test:80")], resolves={"api.example.test": s.address},
             credentials=[credential("svc", "api.example.test:80")], secrets={"svc": SECRET})
    assert g.open("api.example.test", 80).request()[0] == 200
    assert "authorization" not in s.requests[0].headers


def test_credential_needs_the_whole_identity(api):
    g = api.gate()
    c = g.open("api.example.test", 443).tls()
    assert c.request(host="www.example.test")[0] == 403
    c = g.open("api.example.test", 443).tls()
    assert c.request()[0] == 200
    assert c.request(host="www.example.test")[0] == 403
    c = g.open("api.example.test", 443).tls(server_name="www.example.test")
    assert c.request(host="api.example.test")[0] == 403
    c = g.open("www.example.test", 443).tls(server_name="api.example.test")
    assert c.request()[0] == 403
    # without a server name at all
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.load_verify_locations(cadata=g.ca_pem)
    c = g.open("api.example.test", 443)
    c.sock = ctx.wrap_socket(c.sock)
    code, headers, _ = c.request()
    assert code == 403 and headers["x-hutch-refused"] == "identity"
    # raw bytes never pass
    c = g.open("api.example.test", 443)
    c.send(b"\x00\x01raw")
    assert c.was_reset()
    assert len(api.server.requests) == 1


def test_revoked_between_two_requests(api):
    g = api.gate()
    c = g.open("api.example.test", 443).tls()
    c.request()
    g.remove_secret("svc")
    c.request(headers=["Authorization: Bearer proxy-managed"])
    c.request(headers=["Authorization: my own"])
    g.set_secret("svc", "new-one")
    c.request()
    got = [r.headers.get("authorization") for r in api.server.requests]
    assert got == [f"Bearer {SECRET}", None, "my own", "Bearer new-one"]
    assert api.server.accepted == 1
    assert [x.get("credential") for x in g.audit(4)] == ["svc", None, None, "svc"]


def test_required_credential_without_value(api):
    g = api.gate(credentials=[credential("svc", "api.example.test", required=True)], secrets={})
    code, headers, body = g.open("api.example.test", 443).tls().request()
    assert code == 403 and headers["x-hutch-refused"] == "credential"
    assert b"hutch secret set svc" in body
    assert api.server.requests == []


def test_without_a_store(api):
    g = api.gate(store=False)
    c = g.open("api.example.test", 443).tls()
    assert c.request(headers=["Authorization: Bearer proxy-managed"])[0] == 200
    assert "authorization" not in api.server.requests[0].headers


def test_basic_scheme(api):
    g = api.gate(credentials=[credential("svc", "api.example.test", username="x-token")])
    guest = base64.b64encode(b"x-token:proxy-managed").decode()
    c = g.open("api.example.test", 443).tls()
    c.request(headers=[f"Authorization: Basic {guest}"])
    want = base64.b64encode(f"x-token:{SECRET}".encode()).decode()
    assert api.server.requests[0].headers["authorization"] == f"Basic {want}"
    g.remove_secret("svc")
    c.request(headers=[f"Authorization: Basic {guest}"])
    assert "authorization" not in api.server.requests[1].headers


@pytest.mark.parametrize("size", range(1, 8))
def test_basic_scheme_padding(api, size):
    g = api.gate(credentials=[credential("svc", "api.example.test", username="u")],
                 secrets={"svc": "p" * size})
    g.open("api.example.test", 443).tls().request()
    sent = api.server.requests[0].headers["authorization"].split()[1]
    assert base64.b64decode(sent, validate=True) == b"u:" + b"p" * size


def test_two_credentials_for_one_destination(api):
    g = api.gate(credentials=[credential("absent", "api.example.test", "X-Key", "%s"),
                              credential("one", "api.example.test", "x-key", "%s"),
                              credential("two", "*.example.test", "Authorization", "token %s")],
                 secrets={"one": "111", "two": "222"})
    c = g.open("api.example.test", 443).tls()
    c.request(headers=["x-key: proxy-managed"])
    got = api.server.requests[0].headers
    assert got["x-key"] == "111" and got["authorization"] == "token 222"
    assert g.audit(1)[0]["credential"] == "one, two"


@pytest.mark.parametrize("value", ["two\nlines", "nul\0byte", "cr\rhere", "tail\n\n"])
def test_value_that_cannot_be_a_header(api, value):
    g = api.gate(secrets={"svc": value})
    code, headers, body = g.open("api.example.test", 443).tls().request()
    assert code == 403 and headers["x-hutch-refused"] == "credential"
    assert b"svc" in body and value[:3].encode() not in body.replace(b"svc", b"")
    assert api.server.requests == []


@pytest.mark.parametrize("header", ["Host", "content-length", "Transfer-Encoding", "bad header"])
def test_reserved_header_is_refused_at_configure(tmp_path, header):
    g = Gate(str(tmp_path), rules=[rule("a.test")],
             credentials=[credential("svc", "a.test", header, "%s")])
    with pytest.raises(KeyError):
        g.__enter__()
    assert g.proc.wait(PATIENCE) == 1


def test_untrusted_server_gets_nothing(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context("stranger")))
    g = gate(rules=[rule("api.example.test")], resolves={"api.example.test": s.address},
             credentials=[credential("svc", "api.example.test")], secrets={"svc": SECRET})
    code, headers, body = g.open("api.example.test", 443).tls().request()
    assert code == 502 and headers["x-hutch-refused"] == "upstream"
    assert b"certificate is not valid" in body
    assert s.requests == []
    line = g.audit(1)[0]
    assert line["verdict"] == "error" and "certificate" in line["reason"]


def test_server_with_the_wrong_name_gets_nothing(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context()))
    g = gate(rules=[rule("absent.example.test")], resolves={"absent.example.test": s.address},
             credentials=[credential("svc", "absent.example.test")], secrets={"svc": SECRET})
    code, _, body = g.open("absent.example.test", 443).tls().request()
    assert code == 502 and b"mismatch" in body.lower()
    assert s.requests == []


def test_trace_would_show_the_credential(api):
    g = api.gate()
    assert g.open("api.example.test", 443).tls().request("TRACE")[0] >= 400
    assert api.server.requests == []


def test_policy_change_stops_a_credential(api):
    g = api.gate()
    c = g.open("api.example.test", 443).tls()
    assert c.request()[0] == 200
    g.configure(rules=[rule("www.example.test")])
    assert c.was_reset()
    assert g.open("api.example.test", 443).tls().request()[0] == 403
    assert len(api.server.requests) == 1


def test_client_without_alpn_and_with_h2_first(api):
    g = api.gate()
    assert g.open("api.example.test", 443).tls(alpn=None).request()[0] == 200
    c = g.open("api.example.test", 443).tls(alpn=("h2", "http/1.1"))
    assert c.sock.selected_alpn_protocol() == "http/1.1"
    assert c.request()[0] == 200


# ---- HTTP ----


@pytest.fixture(params=["http", "https"])
def web(request, gate, serve, pki):
    """A web server behind the proxy, plain and intercepted."""
    secure = request.param == "https"

    class Web:
        reply = staticmethod(send_response)

    w = Web()
    w.server = serve(HttpServer(lambda r: w.reply(r), tls=pki.context() if secure else None))
    w.port = 443 if secure else 80
    host = f"www.example.test:{w.port}"
    w.gate = gate(rules=[rule(host)], resolves={"www.example.test": w.server.address},
                  credentials=[credential("svc", host)], secrets={"svc": SECRET})

    def connect():
        c = w.gate.open("www.example.test", w.port)
        return c.tls() if secure else c

    w.open = connect
    return w


BIG = 20 << 20


def test_big_bodies_with_length(web):
    data = os.urandom(BIG)
    web.reply = lambda r: send_response(r, r.body)
    c = web.open()
    c.sock.settimeout(120)
    # One thread: Python's TLS objects cannot be read and written at the same time.
    code, _, body = c.request("POST", "/up", body=data)
    assert code == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(data).digest()
    line = web.gate.audit(1)[0]
    assert line["bytes_up"] == BIG and line["bytes_down"] == BIG


def test_big_bodies_chunked_with_trailer(web):
    data = os.urandom(BIG)

    def reply(r):
        assert r.conn.trailers == [b"X-Sum: 1"]
        out = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
        for at in range(0, len(r.body), 100000):
            part = r.body[at:at + 100000]
            out.append(b"%x;ext=1\r\n" % len(part) + part + b"\r\n")
        r.conn.send(b"".join(out) + b"0\r\nX-Tail: 2\r\n\r\n")

    web.reply = reply
    c = web.open()
    c.sock.settimeout(120)

    c.send(b"POST /up HTTP/1.1\r\nHost: www.example.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for at in range(0, BIG, 70000):
        part = data[at:at + 70000]
        c.send(b"%X\r\n" % len(part) + part + b"\r\n")
    c.send(b"0\r\nX-Sum: 1\r\n\r\n")
    code, _, body = c.response()
    assert code == 200 and body == data
    assert c.trailers == [b"X-Tail: 2"]


def test_bodies_stream_in_both_directions_at_once(web):
    """Each chunk comes back before the next one is sent: nothing waits for a whole body."""
    def handler(sock):
        conn = Conn(None, 0, sock, "")
        conn.recv_until(b"\r\n\r\n")
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(line := conn.recv_until(b"\r\n"), 16):
            conn.send(line + conn.recv_exactly(size + 2))
        conn.send(b"0\r\n\r\n")
        conn.recv_until(b"\r\n")

    web.server.handler = handler
    c = web.open()
    c.send(b"POST / HTTP/1.1\r\nHost: www.example.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert c.recv_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    for size in (1, 10, 1000, 30000, 7, 65536, 1):
        part = b"%x\r\n" % size + os.urandom(size) + b"\r\n"
        c.send(part)
        got = b""
        while len(got) < size:
            n = int(c.recv_until(b"\r\n"), 16)
            got += c.recv_exactly(n + 2)[:-2]
        assert got == part[-size - 2:-2]
    c.send(b"0\r\n\r\n")
    assert c.recv_exactly(5) == b"0\r\n\r\n"


def test_keep_alive_and_pipelining(web):
    web.reply = lambda r: send_response(r, r.path.encode())
    c = web.open()
    one = b"GET /%d HTTP/1.1\r\nHost: www.example.test\r\n\r\n"
    c.send(b"".join(one % i for i in range(20)))
    for i in range(20):
        assert c.response()[2] == b"/%d" % i
    assert web.server.accepted == 1
    assert [x["path"] for x in web.gate.audit(20)] == [f"/{i}" for i in range(20)]


def test_head_204_304(web):
    web.reply = lambda r: send_response(r, b"12345")
    c = web.open()
    code, headers, body = c.request("HEAD")
    assert headers["content-length"] == "5" and body == b""
    web.reply = lambda r: r.conn.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert c.request()[0] == 204
    web.reply = lambda r: r.conn.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
    assert c.request()[0] == 304
    web.reply = lambda r: send_response(r, b"end")
    assert c.request()[2] == b"end"


def test_100_continue(web):
    c = web.open()
    c.send(b"PUT / HTTP/1.1\r\nHost: www.example.test\r\nExpect: 100-continue\r\n"
           b"Content-Length: 4\r\n\r\n")
    assert c.recv_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
    c.send(b"data")
    assert c.response()[0] == 200
    assert web.server.requests[0].body == b"data"


def test_upgrade(web):
    def reply(r):
        r.conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\n\r\nfirst")
        while True:
            try:
                data = r.conn.recv_some()
            except OSError:
                return False
            if not data:
                return False
            r.conn.send(data[::-1])

    web.reply = reply
    c = web.open()
    assert c.request(headers=["Upgrade: websocket", "Connection: Upgrade"])[0] == 101
    assert c.recv_exactly(5) == b"first"
    words = (b"abc", b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
    for word in words:
        c.send(word)
        assert c.recv_exactly(len(word)) == word[::-1]
    c.close()
    line = web.gate.audit(1)[0]
    assert line["status"] == 101 and line["verdict"] == "allow"
    assert line["bytes_up"] == sum(map(len, words))
    assert line["bytes_down"] == 5 + sum(map(len, words))


def test_upgrade_to_http2_is_not_passed_on(web):
    c = web.open()
    assert c.request(headers=["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings",
                              "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"])[0] == 200
    assert "upgrade" not in web.server.requests[0].headers
    assert "http2-settings" not in web.server.requests[0].headers


def test_unasked_upgrade_is_an_error(web):
    web.reply = lambda r: r.conn.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    c = web.open()
    assert c.request()[0] == 502


def test_response_until_close(web):
    def reply(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"z" * 300000)
        return False

    web.reply = reply
    code, _, body = web.open().request()
    assert code == 200 and body == b"z" * 300000


def test_cut_response_does_not_look_complete(web):
    def reply(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
        return False

    web.reply = reply
    c = web.open()
    c.send(b"GET / HTTP/1.1\r\nHost: www.example.test\r\n\r\n")
    assert c.was_reset()
    assert web.gate.audit(1)[0]["verdict"] == "error"


@pytest.mark.parametrize("raw", [
    b"",
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
], ids=["nothing", "garbage", "both framings", "two lengths", "long"])
def test_bad_response_is_explained(web, raw):
    def reply(r):
        r.conn.send(raw)
        return False

    web.reply = reply
    code, headers, _ = web.open().request()
    assert code == 502 and headers["x-hutch-refused"] == "upstream"


def test_answer_before_the_question_is_not_used(web):
    """Surplus bytes of one response must not become the next one."""
    web.reply = lambda r: r.conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                                      b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    c = web.open()
    assert c.request()[2] == b"ok"
    try:
        assert c.request()[2] != b"forged"
    except (AssertionError, OSError) as e:
        assert "forged" not in str(e)


SMUGGLE = [
    b"POST / HTTP/1.1\r\nHost: www.example.test\r\nContent-Length: 6\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
    b"POST / HTTP/1.1\r\nHost: www.example.test\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: www.example.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: www.example.test\r\nTransfer-Encoding : chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: www.example.test\r\nHost: evil.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: www.example.test\r\n folded: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: www.example.test\r\nX: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: www.example.test\nX: y\n\n",
    b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: www.example.test\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("raw", SMUGGLE, ids=range(len(SMUGGLE)))
def test_ambiguous_requests_are_refused(web, raw):
    c = web.open()
    c.send(raw)
    code, _, _ = c.response()
    assert 400 <= code < 600
    assert web.server.requests == []


def test_bad_chunk_ends_the_request(web):
    c = web.open()
    c.send(b"POST / HTTP/1.1\r\nHost: www.example.test\r\nTransfer-Encoding: chunked\r\n\r\n"
           b"5\r\nhello\r\nzz\r\n")
    assert c.response()[0] == 400


def test_server_that_closes_a_kept_connection(web):
    def reply(r):
        send_response(r)
        return False

    web.reply = reply
    c = web.open()
    assert c.request()[0] == 200
    assert c.recv_all() == b""  # told in time, so that the client opens a new one
    assert web.open().request()[0] == 200


def test_http_1_0(web):
    c = web.open()
    c.send(b"GET / HTTP/1.0\r\nHost: www.example.test\r\n\r\n")
    assert c.response()[2] == b"hello"
    assert c.recv_all() == b""


def test_early_answer_while_the_body_is_still_coming(web):
    read = threading.Event()

    def handler(sock):
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        read.wait(PATIENCE)

    web.server.handler = handler
    c = web.open()
    c.send(b"POST / HTTP/1.1\r\nHost: www.example.test\r\nContent-Length: 100000000\r\n\r\nstart")
    code, _, body = c.response()
    assert (code, body) == (413, b"big")
    read.set()


# ---- rules at run time, load ----


def test_reconfigure(gate, serve):
    s = serve(Server(echo))
    g = gate(rules=[rule("raw.test:7")], resolves={"raw.test": s.address, "two.test": s.address})
    c = g.open("raw.test", 7)
    c.send(b"\1")
    assert c.recv_exactly(1) == b"\1"
    g.configure(rules=[rule("two.test:7")])
    assert c.was_reset()  # what was allowed ends at once
    d = g.open("raw.test", 7)
    d.send(b"\0")
    assert d.was_reset()
    e = g.open("two.test", 7)
    e.send(b"\2")
    assert e.recv_exactly(1) == b"\2"
    reasons = [x.get("reason") for x in g.audit(2)]
    assert all(reasons)


def test_many_connections_at_once(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context()))
    raw = serve(Server(echo))
    g = gate(rules=[rule("raw.test:7"), rule("api.example.test")],
             resolves={"raw.test": raw.address, "api.example.test": s.address},
             credentials=[credential("svc", "api.example.test")], secrets={"svc": SECRET})
    conns = []
    for i in range(300):
        c = g.open("raw.test", 7)
        c.send(b"\0ello %03d" % i)
        conns.append(c)
    for i, c in enumerate(conns):
        assert c.recv_exactly(9) == b"\0ello %03d" % i
    secure = [g.open("api.example.test", 443).tls() for _ in range(20)]
    for c in secure:
        assert c.request()[0] == 200
    for c in conns + secure:
        c.close()
    assert len(g.audit(320)) == 320


def test_thousands_of_connections(gate, serve):
    """Open ones do not stand in the way of a new one. (bench/gate has ten thousand, and their
    memory.)"""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(4000, (hard - 2000) // 4)  # ours, the gate's two, the server's
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with EchoServer() as echo_port:
            g = gate(rules=[rule("raw.test:7")], resolves={"raw.test": f"127.0.0.1:{echo_port}"})
            addr = g.lookup("raw.test")
            conns = []
            for _ in range(0, count, 100):
                batch = [g.open(addr, 7) for _ in range(100)]
                for c in batch:
                    c.send(b"\0ello")
                for c in batch:
                    assert c.recv_exactly(5) == b"\0ello"
                conns += batch
            before = g.cpu_seconds()
            c = g.open(addr, 7)
            c.send(b"\0new")
            assert c.recv_exactly(4) == b"\0new"
            assert g.cpu_seconds() - before < 2
            for c in conns:
                c.close()
            assert len(g.audit(count)) >= count
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_flood_of_denied_connections(gate):
    g = gate()
    addr = g.lookup("evil.test")
    for _ in range(200):
        c = g.open(addr, 80)
        if c:
            c.send(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
            c.close()
    assert g.lookup("fine.test")


def test_audit_escapes_hostile_text(gate):
    g = gate(rules=[rule("a.test")])
    c = g.open("evil.test", 80)
    c.send(b'GET /"\\<b>%0a{} HTTP/1.1\r\nHost: evil.test\r\n\r\n')
    c.response()
    lines = g.audit(1)
    assert len(lines) == 1 and lines[0]["verdict"] == "deny"


# ---- the finer points ----


def hello_with_ech(name):
    """A ClientHello of Python's, with an encrypted_client_hello extension added."""
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    record = out.read()
    body = bytearray(record[9:])
    at = 34 + 1 + body[34]
    at += 2 + struct.unpack_from("!H", body, at)[0]
    at += 1 + body[at]
    ext = struct.pack("!HH", 0xfe0d, 12) + b"\0" * 12
    # in front, because a pre-shared key would have to stay last
    size = struct.unpack_from("!H", body, at)[0]
    struct.pack_into("!H", body, at, size + len(ext))
    body[at + 2:at + 2] = ext
    handshake = b"\x01" + len(body).to_bytes(3, "big") + bytes(body)
    return b"\x16\x03\x01" + struct.pack("!H", len(handshake)) + handshake


def test_hidden_server_name_is_not_tunnelled(gate, serve):
    heard = []

    def listen(sock):
        heard.append(sock.recv(65536))

    s = serve(Server(listen))
    g = gate(rules=[rule("api.example.test")], resolves={"api.example.test": s.address})
    hello = hello_with_ech("api.example.test")
    c = g.open("api.example.test", 443)
    c.send(hello)
    assert c.recv_exactly(3)[0] == 0x16  # a server's answer: ours
    c.close()
    g.audit(1)
    # what goes out is our own client's hello, if anything
    assert all(h != hello and b"\xfe\x0d" + b"\0\x0c" not in h for h in heard)


def test_hello_in_single_bytes(gate, serve, pki):
    s = serve(HttpServer(tls=pki.context()))
    g = gate(rules=[rule("api.example.test")], resolves={"api.example.test": s.address})
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ctx = ssl.create_default_context(cafile=pki.ca)
    tls = ctx.wrap_bio(incoming, outgoing, server_hostname="api.example.test")
    c = g.open("api.example.test", 443)
    for _ in range(20):
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            for b in outgoing.read():
                c.send(bytes([b]))
            incoming.write(c.recv_some())
    assert tls.getpeercert()["subject"] == ((("commonName", "server"),),)


@pytest.mark.parametrize("hello", [
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    b"\x16\x03\x01\xff\xff" + b"\x01\x00\xff\xfb" + b"A" * 40000,
    b"\x16\x03\x01\x00\x00" * 9000,
], ids=["short", "long", "empty records"])
def test_broken_hello_is_not_passed_on(gate, serve, hello):
    s = serve(Server(echo))
    g = gate(rules=[rule("raw.test:443")], resolves={"raw.test": s.address})
    c = g.open("raw.test", 443)
    try:
        c.send(hello)
    except OSError:
        pass
    assert c.was_reset()
    assert g.audit(1)[0]["verdict"] == "deny"


def test_server_that_closes_an_idle_connection(api):
    """Opened ahead of time, closed by the server: the client is told before its first request."""
    opened = threading.Event()

    def handler(sock):
        opened.wait(PATIENCE)
        sock.unwrap()

    api.server.handler = handler
    g = api.gate()
    c = g.open("api.example.test", 443).tls()
    opened.set()
    assert c.recv_all() == b""


def test_server_that_breaks_off_the_handshake(gate, serve):
    s = serve(Server(lambda sock: None))
    g = gate(rules=[rule("api.example.test")], resolves={"api.example.test": s.address},
             credentials=[credential("svc", "api.example.test")], secrets={"svc": SECRET})
    code, headers, _ = g.open("api.example.test", 443).tls().request()
    assert code == 502 and headers["x-hutch-refused"] == "upstream"


def test_name_that_does_not_exist(gate):
    g = gate(rules=[rule("x.test:80")])
    c = g.open("x.test", 80)
    code, headers, body = c.request()
    assert code == 502 and headers["x-hutch-refused"] == "upstream"
    assert b"look up x.test" in body


def test_reset_comes_before_the_end_of_the_stream(gate):
    """Or the guest could see an orderly end first."""
    g = gate()
    c = g.open("evil.test", 443)
    c.send(b"\0raw")
    assert c.was_reset()
    c.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        c.sock.recv(1)
    c.sock.close()


def test_vmm_that_does_not_read_its_messages(tmp_path):
    g = Gate(str(tmp_path), rules=[rule("a.test")])
    g._read_link = lambda: None
    g.__enter__()
    g.link.setblocking(False)
    packet = MSG.pack(DNS_QUERY, 0, 1, 0, 0, 24) + dns_question("a.test")
    sent = 0
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            g.link.send(packet)
            sent += 1
        except BlockingIOError:
            time.sleep(0.01)
    assert g.proc.poll() is None, g.log()
    g.link.setblocking(True)
    g.link.settimeout(PATIENCE)
    for _ in range(sent):  # late, but none is lost
        assert g.link.recv(4096)
    g.link.settimeout(0.1)
    with pytest.raises(TimeoutError):
        g.link.recv(4096)
    g.__exit__(None, None, None)


def test_slow_guest_does_not_make_us_buffer(gate, serve):
    total = 64 << 20
    sent = []

    def pour(sock):
        sock.settimeout(3)
        try:
            while sum(sent) < total:
                sent.append(sock.send(b"z" * 65536))
        except TimeoutError:
            pass

    s = serve(Server(pour))
    g = gate(rules=[rule("raw.test:7")], resolves={"raw.test": s.address})
    c = g.open("raw.test", 7)
    time.sleep(4)
    assert sum(sent) < 24 << 20  # the kernel's socket buffers and 64 KiB of ours
    assert c.recv_some(1) == b"z"


def test_random_bytes_on_every_path(web):
    """Whatever the guest or the server says, the gate stays up and answers the next one."""
    r = random.Random(7)
    heads = [b"GET / HTTP/1.1\r\nHost: www.example.test\r\n", b"POST / HTTP/1.1\r\n",
             b"\x16\x03\x01", b"HTTP/1.1 200 OK\r\n", b"Transfer-Encoding: chunked\r\n",
             b"Content-Length: 5\r\n", b"\r\n\r\n", b"\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
             b"Upgrade: websocket\r\n"]

    def junk():
        out = b"".join(r.choice(heads) for _ in range(r.randrange(6)))
        return out + bytes(r.randrange(256) for _ in range(r.randrange(40)))

    def reply(request):
        request.conn.send(junk())
        return r.random() < 0.5

    web.reply = reply
    for _ in range(60):
        try:
            c = web.open()
            c.sock.settimeout(0.05)
            c.send(b"GET / HTTP/1.1\r\nHost: www.example.test\r\n\r\n" if r.random() < 0.5
                   else junk())
            c.recv_some()
            c.close()
        except (OSError, AssertionError):
            pass
    web.reply = send_response
    assert web.open().request()[0] == 200


def test_refused_upload_gets_its_answer(gate):
    g = gate()
    c = g.open("evil.test", 80)
    c.send(b"POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 5000000\r\n\r\n")
    c.send(b"z" * 5000000)
    check_denied(c.response(), "evil.test", 80)


def test_more_connections_than_there_is_room_for(gate, serve):
    over = threading.Event()
    deaf = serve(Server(lambda sock: over.wait(PATIENCE)))
    g = gate(max_files=200, rules=[rule("deaf.test:7")],  # room for 32
             resolves={"deaf.test": deaf.address})
    conns = [g.open("deaf.test", 7) for _ in range(40)]
    assert [c is not None for c in conns] == [True] * 32 + [False] * 8
    conns[0].close()
    deadline = time.monotonic() + PATIENCE
    while g.open("deaf.test", 7) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    over.set()


def test_waiting_costs_nothing(gate, serve):
    """Connections that are half closed, blocked or abandoned do not keep the process busy."""
    hold = threading.Event()

    def deaf(sock):  # neither reads nor ends
        hold.wait(PATIENCE)

    def half(sock):
        sock.shutdown(socket.SHUT_WR)
        hold.wait(PATIENCE)

    def flood(sock):
        sock.setblocking(False)
        try:
            while True:
                sock.send(b"z" * 65536)
        except BlockingIOError:
            pass
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    names = {"deaf.test": deaf, "half.test": half, "flood.test": flood}
    g = gate(rules=[rule("**:*")],
             resolves={n: serve(Server(f)).address for n, f in names.items()})
    keep = []
    for name in names:
        for _ in range(3):
            c = g.open(name, 7)
            c.send(b"\0")
            keep.append(c)
    c = g.open("deaf.test", 7)  # guest has ended its side
    c.sock.shutdown(socket.SHUT_WR)
    keep.append(c)
    c = g.open("deaf.test", 7)  # gone altogether, with data that the server does not take
    c.sock.settimeout(0.5)
    try:
        while True:
            c.send(b"\0" * 65536)
    except TimeoutError:
        c.close()
    deadline = time.monotonic() + PATIENCE
    while True:  # until what has been begun is done
        before = g.cpu_seconds()
        time.sleep(2)
        if g.cpu_seconds() - before < 0.2:
            break
        assert time.monotonic() < deadline
    hold.set()
    for c in keep:
        c.close()


def test_audit_log_has_a_ceiling(gate):
    g = gate()
    path = os.path.join(g.box_dir, "audit.jsonl")
    with open(path, "w") as f:
        f.truncate(64 << 20)
    g.open("evil.test", 80).request()
    lines = g.audit(1)
    assert len(lines) == 1 and os.stat(path).st_size < 1000
    assert os.stat(path + ".1").st_size == 64 << 20


# ---- real programs on both sides ----


class Bridge:
    """Lets a program that can only connect to addresses be the guest: a port leads to @host."""

    def __init__(self, gate, host, port):
        self.gate, self.host, self.to = gate, host, port
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            conn = self.gate.open(self.host, self.to)
            for a, b in ((client, conn.sock), (conn.sock, client)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass(a, b):
        a.settimeout(None)
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture
def nginx(tmp_path, pki):
    """nginx with a file that only a request with the credential gets."""
    binary = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not binary:
        pytest.skip("nginx is not installed")
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = listener.getsockname()[1]
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file").write_bytes(b"0123456789" * 200000)
    (tmp_path / "nginx.conf").write_text(f"""
daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path};
  fastcgi_temp_path {tmp_path}; uwsgi_temp_path {tmp_path}; scgi_temp_path {tmp_path};
  gzip on; gzip_types *; client_max_body_size 8m;
  server {{
    listen 127.0.0.1:{port} ssl http2; server_name api.example.test;
    ssl_certificate {pki.cert}; ssl_certificate_key {pki.key};
    if ($http_authorization != "Bearer {SECRET}") {{ return 401; }}
    root {tmp_path}/www;
  }}
}}
""")
    tmp_path.chmod(0o755)
    (tmp_path / "www").chmod(0o755)
    # It takes the socket over, as a new version of it does: so nobody else can get the port, and
    # connections wait until it accepts them.
    proc = subprocess.Popen([binary, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-g",
                             "user root;" if os.getuid() == 0 else ""], stderr=subprocess.DEVNULL,
                            pass_fds=[listener.fileno()],
                            env=dict(os.environ, NGINX=f"{listener.fileno()};"))
    listener.close()
    yield port
    proc.terminate()
    proc.wait()


def test_curl_and_nginx(gate, nginx, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    g = gate(rules=[rule("api.example.test")],
             resolves={"api.example.test": f"127.0.0.1:{nginx}"},
             credentials=[credential("svc", "api.example.test")], secrets={"svc": SECRET})
    (tmp_path / "sandbox-ca.pem").write_text(g.ca_pem)
    bridge = Bridge(g, "api.example.test", 443)
    evil = Bridge(g, "evil.test", 443)

    def curl(*args):
        return subprocess.run(
            ["curl", "-sS", "--max-time", str(PATIENCE), "--cacert", tmp_path / "sandbox-ca.pem",
             "--connect-to", f"api.example.test:443:127.0.0.1:{bridge.port}",
             "--connect-to", f"evil.test:443:127.0.0.1:{evil.port}", *args],
            capture_output=True, env={"PATH": os.environ["PATH"]})

    want = b"0123456789" * 200000
    r = curl("https://api.example.test/file", "-H", "Authorization: Bearer proxy-managed")
    assert r.stdout == want, r.stderr
    r = curl("--compressed", "https://api.example.test/file", "https://api.example.test/file")
    assert r.stdout == want * 2, r.stderr
    r = curl("-r", "10-19", "https://api.example.test/file")
    assert r.stdout == b"0123456789"
    r = curl("-T", tmp_path / "www" / "file", "-w", "%{http_code}", "-o", "/dev/null",
             "https://api.example.test/new")
    assert r.stdout == b"405", r.stderr
    r = curl("https://evil.test/")
    assert b"blocked by hutch policy" in r.stdout, r.stderr
    r = curl("-w", "%{http_code}", "-o", "/dev/null", "-I", "https://api.example.test/file")
    assert r.stdout == b"200"
    assert [x["status"] for x in g.audit(7)] == [200, 200, 200, 206, 405, 403, 200]
