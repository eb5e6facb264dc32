# SPDX-License-Identifier: Apache-2.0
"""Client certificates: a credential of the connection."""
import ssl
import subprocess
import time

import pytest

from conftest import wait_for
from gate_driver import HttpServer, Server, credential, credential_of, send_response
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)
from test_gate_credentials import HOST, VALUE, WWW, at, world  # noqa: F401 (fixtures)
from test_gate_values import Broker


class Certificates:
    """Client certificates of the outside world's authority."""

    def __init__(self, pki, path):
        self.dir, self.pki = path, pki

    def make(self, name, passphrase=None):
        ca = self.pki.ca

        def openssl(*args):
            subprocess.run(["openssl", *args], cwd=self.dir, check=True, capture_output=True)

        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", "key",
                "-out", "csr", "-subj", f"/CN={name}",
                *(["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]))
        openssl("x509", "-req", "-in", "csr", "-CA", ca, "-CAkey", ca.replace(".pem", ".key"),
                "-days", "5", "-out", "cert", "-CAcreateserial", "-CAserial", "serial")
        return (self.dir / "cert").read_text() + (self.dir / "key").read_text()

    def context(self):
        ctx = self.pki.context()
        ctx.verify_mode = ssl.CERT_REQUIRED
        ctx.load_verify_locations(self.pki.ca)
        return ctx


@pytest.fixture
def certs(pki, tmp_path):  # noqa: F811
    return Certificates(pki, tmp_path)


def whose(request):
    """The name in the client's certificate."""
    cert = request.conn.sock.getpeercert()
    return dict(x[0] for x in cert["subject"])["commonName"] if cert else None


def internal(**more):
    return credential_of("internal", at(HOST, "certificate"), **more)


def test_client_certificate(world, certs, serve):  # noqa: F811
    world.server = serve(HttpServer(lambda r: send_response(r, str(whose(r)).encode()),
                                    tls=certs.context()))
    pem = certs.make("robot")
    world.start(internal(), secrets={"internal": pem})
    world.values = {pem.split("PRIVATE KEY-----")[1].strip()[:60]}
    for _ in range(3):  # no session is taken up instead
        assert world.request()[2] == b"robot"
    assert [x["credential"] for x in world.gate.audit(3)] == ["internal"] * 3
    world.gate.set_secret("internal", certs.make("other"))
    assert world.request()[2] == b"other"


def test_client_certificate_is_not_shown_to_others(world, certs, serve, pki):  # noqa: F811
    ctx = pki.context()
    ctx.verify_mode = ssl.CERT_OPTIONAL
    ctx.load_verify_locations(pki.ca)
    world.server = serve(HttpServer(lambda r: send_response(r, str(whose(r)).encode()), tls=ctx))
    world.start(internal(), credential("svc", WWW), secrets={"internal": certs.make("robot"),
                                                            "svc": VALUE})
    world.values = {VALUE}
    assert world.request()[2] == b"robot"
    assert world.request(host=WWW)[2] == b"None"
    # The same server again, and what was agreed upon with it before.
    assert world.request()[2] == b"robot" and world.request(host=WWW)[2] == b"None"


def test_client_certificate_that_is_removed(world, certs, serve):  # noqa: F811
    world.server = serve(HttpServer(lambda r: send_response(r, b"fine"), tls=certs.context()))
    world.start(internal(), secrets={"internal": certs.make("robot")})
    world.values.clear()
    c = world.open()
    assert c.request()[0] == 200
    world.gate.remove_secret("internal")
    code, headers, body = c.request()
    assert code == 403 and headers["x-hutch-refused"] == "credential" and b"removed" in body
    assert world.request()[0] == 502  # the server insists on one
    assert len(world.server.requests) == 1


@pytest.mark.parametrize("spoil", ["nonsense", "half", "passphrase", "mismatch"])
def test_client_certificate_that_is_none(world, certs, spoil):
    pem = certs.make("robot", "secret" if spoil == "passphrase" else None)
    if spoil == "mismatch":
        other = certs.make("other")
        pem = pem[:pem.index("-----BEGIN PRIVATE")] + other[other.index("-----BEGIN PRIVATE"):]
    value = {"nonsense": "abc", "half": pem.split("-----BEGIN PRIVATE")[0]}.get(spoil, pem)
    world.start(internal(), secrets={"internal": value})
    world.values.clear()
    code, _, body = world.request()
    assert code == 502 and b"client certificate" in body and not world.server.requests


def test_client_certificate_optional_and_required(world):
    world.start(internal())
    assert world.request()[0] == 200
    world.start(internal(required=True))
    code, _, body = world.request()
    assert code == 403 and b"hutch secret set internal" in body
    assert len(world.server.requests) == 1


def test_client_certificate_that_is_fetched(world, certs, serve):  # noqa: F811
    """Nothing is sent while it is on its way, in the clear least of all."""
    first = []
    raw = serve(Server(lambda sock: first.append(sock.recv(100))))
    broker = Broker()
    pem = certs.make("robot")
    world.server = serve(HttpServer(lambda r: send_response(r, str(whose(r)).encode()),
                                    tls=certs.context()))
    world.start(internal(), broker=broker.gates, resolves={HOST: world.server.address,
                                                           WWW: raw.address})
    broker.gates.close()
    world.gate.set_source("internal", "cmd:true")
    c = world.open()
    c.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    ident, _ = broker.question()
    time.sleep(0.3)
    assert not world.server.requests
    broker.answer(ident, data=pem.encode())
    # The request has a question of its own: it came later than the connection's.
    broker.answer(broker.question()[0], data=pem.encode())
    assert c.response()[2] == b"robot"
    # The same of a server that would see it.
    inject = credential_of("internal", at(WWW, "certificate"))
    assert "ca" in world.gate.configure(credentials=[inject])
    c = world.open(WWW)
    c.send(f"GET / HTTP/1.1\r\nHost: {WWW}\r\n\r\n".encode())
    ident, _ = broker.question()
    time.sleep(0.3)
    assert not first
    broker.answer(ident, data=pem.encode())
    wait_for(lambda: first, what="the server to hear something")
    assert first[0][:1] == b"\x16"  # a TLS record
