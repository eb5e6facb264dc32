# SPDX-License-Identifier: Apache-2.0
"""TLS on both sides of the gate: which certificates it believes, and sessions that are resumed."""
import os
import socket
import ssl
import subprocess

import pytest

from gate_driver import HttpServer, Server, credential, rule
from test_gate import SECRET, gate, pki, serve  # noqa: F401 (fixtures)

API, OTHER = "api.example.test", "other.example.test"


class Pki:
    """Certificates of any kind. The root is what the gate's host trusts."""

    def __init__(self, path):
        self.path = str(path)
        self.root = self.make("root", "basicConstraints=critical,CA:true\n"
                              "keyUsage=critical,keyCertSign")

    def file(self, name):
        return os.path.join(self.path, name)

    def openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.path, check=True, capture_output=True)

    def make(self, name, ext, issuer=None, days=("-days", "5")):
        with open(self.file("ext"), "w") as f:
            f.write(ext + "\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-keyout", name + ".key", "-out", "csr", "-subj", "/CN=" + name)
        sign = ["-CA", issuer + ".pem", "-CAkey", issuer + ".key", "-CAcreateserial"] if issuer \
            else ["-signkey", name + ".key"]
        self.openssl("x509", "-req", "-in", "csr", *sign, *days, "-extfile", "ext", "-out",
                     name + ".pem")
        return self.file(name + ".pem")

    def server(self, name, issuer, ext=f"subjectAltName=DNS:{API},DNS:{OTHER}", chain=(), days=None):
        """A context with a certificate of @issuer, sent with those of @chain."""
        self.make(name, ext, issuer, days or ("-days", "5"))
        with open(self.file(name + "-chain.pem"), "w") as out:
            for part in (name, *chain):
                with open(self.file(part + ".pem")) as f:
                    out.write(f.read())
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(self.file(name + "-chain.pem"), self.file(name + ".key"))
        return ctx


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("certs"))


def ask(gate, serve, certs, ctx, **kw):  # noqa: F811
    s = serve(HttpServer(tls=ctx))
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={API: s.address}, ca_file=certs.root, **kw)
    code, _, body = g.open(API, 443).tls().request()
    return code, body.decode(), s


def test_intermediate_is_followed(gate, serve, certs):  # noqa: F811
    certs.make("middle", "basicConstraints=critical,CA:true", "root")
    code, _, s = ask(gate, serve, certs, certs.server("leaf-ok", "middle", chain=("middle",)))
    assert code == 200
    assert s.requests[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("what, reason", [
    ("missing intermediate", "unable to get local issuer"),
    ("not a CA", "invalid CA"),
    ("expired", "expired"),
    ("not yet", "not yet valid"),
    ("other name", "mismatch"),
    ("only a common name", "mismatch"),
    ("partial wildcard", "mismatch"),
    ("name constraint", "permitted subtree"),
    ("excluded name", "excluded subtree"),
    ("for clients", "unsuitable|purpose"),
    ("self-signed", "self-signed"),
])
def test_bad_certificates_are_refused(gate, serve, certs, what, reason):  # noqa: F811
    name = what.replace(" ", "-")
    san = f"subjectAltName=DNS:{API}"
    ca = "basicConstraints=critical,CA:true"
    if what == "missing intermediate":
        certs.make(name + "-ca", ca, "root")
        ctx = certs.server(name, name + "-ca", san)
    elif what == "not a CA":
        certs.make(name + "-ca", "basicConstraints=CA:false", "root")
        ctx = certs.server(name, name + "-ca", san, chain=(name + "-ca",))
    elif what == "expired":
        ctx = certs.server(name, "root", san, days=("-days", "-1"))
    elif what == "not yet":
        ctx = not_yet(certs, name, san)
    elif what == "other name":
        ctx = certs.server(name, "root", f"subjectAltName=DNS:{OTHER}")
    elif what == "only a common name":
        ctx = certs.server(API, "root", "basicConstraints=CA:false")
    elif what == "partial wildcard":
        ctx = certs.server(name, "root", "subjectAltName=DNS:a*.example.test")
    elif what in ("name constraint", "excluded name"):
        limit = "permitted;DNS:elsewhere.test" if what == "name constraint" else f"excluded;DNS:{API}"
        certs.make(name + "-ca", f"{ca}\nnameConstraints=critical,{limit}", "root")
        ctx = certs.server(name, name + "-ca", san, chain=(name + "-ca",))
    elif what == "for clients":
        ctx = certs.server(name, "root", san + "\nextendedKeyUsage=clientAuth")
    else:
        certs.make(name + "-own", ca)
        ctx = certs.server(name, name + "-own", san, chain=(name + "-own",))
    code, body, s = ask(gate, serve, certs, ctx)
    assert code == 502 and any(r in body for r in reason.split("|")), body
    assert s.requests == []


def not_yet(certs, name, san):
    """openssl x509 cannot begin in the future; openssl ca can."""
    certs.server(name, "root", san)  # key and request
    path = certs.path
    for f, text in (("index.txt", ""), ("serial", "1000"), ("ca.cnf", f"""
[ca]
default_ca = d
[d]
dir = {path}
database = {path}/index.txt
serial = {path}/serial
new_certs_dir = {path}
default_md = sha256
policy = p
x509_extensions = x
[p]
commonName = supplied
[x]
{san}
""")):
        with open(certs.file(f), "w") as out:
            out.write(text)
    certs.openssl("ca", "-batch", "-config", "ca.cnf", "-cert", "root.pem", "-keyfile", "root.key",
                  "-in", "csr", "-out", name + ".pem", "-notext", "-startdate", "20990101000000Z",
                  "-enddate", "20990201000000Z")
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(certs.file(name + ".pem"), certs.file(name + ".key"))
    return ctx


def test_extra_authority_is_for_its_hosts_only(gate, serve, certs):  # noqa: F811
    """Without any credential: the server is seen through the gate, which alone believes in it."""
    corp = certs.make("corp", "basicConstraints=critical,CA:true")
    s = serve(HttpServer(tls=certs.server("corp-server", "corp")))
    well_known = serve(HttpServer(tls=certs.server("well-known", "root")))
    g = gate(rules=[rule("**:443")], credentials=[credential("o", OTHER)], secrets={"o": SECRET},
             resolves={API: s.address, OTHER: s.address}, ca_file=certs.root)
    g.set_cas({f"{API}:443": corp})
    g.configure()
    assert g.open(API, 443).tls().request()[0] == 200
    assert "authorization" not in s.requests[0].headers
    code, _, body = g.open(OTHER, 443).tls().request()
    assert code == 502 and b"certificate" in body
    # It adds to what the host trusts.
    g.configure(resolves=[{"name": API, "address": well_known.address}])
    assert g.open(API, 443).tls().request()[0] == 200
    # And goes with the configuration, sessions included.
    g.set_cas({})
    g.configure(resolves=[{"name": API, "address": s.address}],
                credentials=[credential("o", API)])
    assert g.open(API, 443).tls().request()[0] == 502


def test_extra_authority_that_is_none(gate, certs):  # noqa: F811
    g = gate()
    g.network["cas"] = [{"target": API, "pem": "-----BEGIN CERTIFICATE-----\nnonsense\n"}]
    answer = g.configure()
    assert answer["event"] == "notice" and API in answer["text"]  # the last one stays in force


# ---- sessions ----


class Resuming(Server):
    """Notes for each connection whether its session was resumed; then answers requests."""

    def __init__(self, tls):
        self.reused = []
        super().__init__(self._one, tls)

    def _one(self, sock):
        self.reused.append((sock.version(), sock.session_reused))
        data = b""
        while b"\r\n\r\n" not in data:
            part = sock.recv(65536)
            if not part:
                return
            data += part
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_with_servers_are_resumed(gate, serve, certs, version):  # noqa: F811
    ctx = certs.server("resume", "root")
    ctx.minimum_version = ctx.maximum_version = version
    s, t = serve(Resuming(ctx)), serve(Resuming(ctx))
    g = gate(rules=[rule("**:443")], credentials=[credential("api", API), credential("o", OTHER)],
             secrets={"api": SECRET, "o": SECRET}, ca_file=certs.root,
             resolves={API: s.address, OTHER: t.address})

    def once(host):
        assert g.open(host, 443).tls().request()[0] == 200
    for _ in range(3):
        once(API)
    assert [r for _, r in s.reused] == [False, True, True]
    # One server's session is none for another, though it could take it.
    once(OTHER)
    assert [r for _, r in t.reused] == [False]
    # A new configuration may mean other trust.
    g.configure()
    once(API)
    assert s.reused[-1][1] is False
    once(API)
    assert s.reused[-1][1] is True
    name = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
    assert {v for v, _ in s.reused} == {name}


def test_unverified_session_is_never_kept(gate, serve, certs):  # noqa: F811
    certs.make("stranger", "basicConstraints=critical,CA:true")
    s = serve(Resuming(certs.server("strange", "stranger")))
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={API: s.address}, ca_file=certs.root)
    for _ in range(3):
        assert g.open(API, 443).tls().request()[0] == 502
    assert not any(r for _, r in s.reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_guests_resume_for_one_name(gate, serve, certs, version):  # noqa: F811
    s = serve(HttpServer(tls=certs.server("guest", "root")))
    g = gate(rules=[rule("**:443")], credentials=[credential("api", API), credential("o", OTHER)],
             secrets={"api": SECRET, "o": SECRET}, ca_file=certs.root,
             resolves={API: s.address, OTHER: s.address})
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.minimum_version = ctx.maximum_version = version
    ctx.load_verify_locations(cadata=g.ca_pem)

    def once(host, session=None):
        c = g.open(host, 443)
        c.sock = ctx.wrap_socket(c.sock, server_hostname=host, session=session)
        assert c.request()[0] == 200
        return c.sock.session_reused, c.sock.session
    reused, session = once(API)
    assert not reused
    reused, _ = once(API, session)
    assert reused
    reused, _ = once(OTHER, session)
    assert not reused
    assert len(s.requests) == 3


def test_old_versions_are_refused(gate, serve, certs):  # noqa: F811
    """Neither side speaks anything before TLS 1.2."""
    seen = []

    def handler(sock):
        seen.append(sock.recv(65536))
        # A ServerHello of TLS 1.1.
        body = b"\x03\x02" + b"r" * 32 + b"\0" + b"\xc0\x13" + b"\0"
        hand = b"\x02" + len(body).to_bytes(3, "big") + body
        sock.sendall(b"\x16\x03\x02" + len(hand).to_bytes(2, "big") + hand)
        sock.recv(65536)
    s = serve(Server(handler))
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={API: s.address}, ca_file=certs.root)
    code, _, body = g.open(API, 443).tls().request()
    assert code == 502 and seen
    c = g.open(API, 443)
    hello = b"\x03\x02" + b"r" * 32 + b"\0" + b"\0\x02\xc0\x13" + b"\x01\0"
    name = API.encode()
    sni = b"\0" + len(name).to_bytes(2, "big") + name
    ext = b"\0\0" + (len(sni) + 2).to_bytes(2, "big") + len(sni).to_bytes(2, "big") + sni
    hello += len(ext).to_bytes(2, "big") + ext
    hand = b"\x01" + len(hello).to_bytes(3, "big") + hello
    c.send(b"\x16\x03\x01" + len(hand).to_bytes(2, "big") + hand)
    try:
        answer = c.sock.recv(100)
    except (ConnectionError, socket.timeout):
        answer = b""
    assert answer[:1] in (b"", b"\x15")  # an alert or nothing
