# SPDX-License-Identifier: Apache-2.0
"""Kinds of credentials over HTTP/2: what the server gets, and masked answers."""
import base64
import json

import pytest

from gate_driver import credential, credential_of, rule
from http2_peer import Client, Http2Server
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)
from test_gate_credentials import (AWS_ID, AWS_SECRET, HOST, PLACEHOLDER, VALUE, WWW, World, at,
                                   check_aws)
from test_gate_http2 import context
from test_gate_oauth import ACCESS, Issuer, login, oauth


@pytest.fixture
def h2(gate, serve, pki):  # noqa: F811
    def make(handler, *credentials, secrets=None):
        s = serve(Http2Server(handler, tls=context(pki, "h2", "http/1.1")))
        g = gate(rules=[rule(HOST)], credentials=credentials, secrets=secrets,
                 resolves={HOST: s.address})
        return s, g
    return make


def connect(g, alpn=("h2", "http/1.1")):
    c = g.open(HOST, 443).tls(alpn=alpn)
    assert c.sock.selected_alpn_protocol() == "h2"
    return Client(c)


def test_echo_is_masked(h2):
    text = f"<{VALUE}> {VALUE[:-1]} ".encode() + base64.b64encode(b"x" + VALUE.encode())

    def handler(r):
        r.head(103, ("link", VALUE))
        r.head(200, ("x-echo", r.headers["authorization"]), ("x-other", "1"))
        for i in range(0, len(text), 5):
            r.data(text[i:i + 5])
        r.end_with(("x-trailer", VALUE))
    s, g = h2(handler, credential("svc", HOST), secrets={"svc": VALUE})
    r = connect(g).request()
    assert s.requests[0].headers["accept-encoding"] == "identity"
    assert r.headers["x-echo"] == "Bearer " + "*" * len(VALUE) and r.headers["x-other"] == "1"
    assert r.interim == [{":status": "103", "link": "*" * len(VALUE)}]
    assert r.trailers == [("x-trailer", "*" * len(VALUE))]
    body = bytes(r.body)
    assert len(body) == len(text) and VALUE.encode() not in body
    assert base64.b64encode(b"x" + VALUE.encode())[2:-4] not in body
    assert body[len(VALUE) + 3:2 * len(VALUE) + 2] == VALUE[:-1].encode()


def test_value_at_the_end_and_held_back_bytes(h2):
    for end in (VALUE, VALUE[:-1], VALUE[:2], ""):
        s, g = h2(lambda r: r.respond(b"x" + end.encode()), credential("svc", HOST),
                  secrets={"svc": VALUE})
        body = bytes(connect(g).request().body)
        assert body == (b"x" + b"*" * len(VALUE) if end == VALUE else b"x" + end.encode())


def test_large_masked_answer(h2):
    data = bytes(range(256)) * 8192  # 2 MiB: more than any window
    s, g = h2(lambda r: r.respond(data + VALUE.encode() + data), credential("svc", HOST),
              secrets={"svc": VALUE})
    body, n = bytes(connect(g).request().body), len(VALUE)
    got = body[len(data):len(data) + n]
    assert body == data + got + data
    # Up to three bytes may show where the stream was cut there (SECURITY.md, "Echoing APIs").
    assert got[3:] == b"*" * (n - 3)
    assert all(a in (ord("*"), b) for a, b in zip(got[:3], VALUE.encode()))


def test_compressed_answers_do_not_pass(h2):
    s, g = h2(lambda r: r.respond(b"????", 200, ("content-encoding", "gzip")),
              credential("svc", HOST), secrets={"svc": VALUE})
    c = connect(g)
    r = c.request()
    assert r.status == 502 and b"compressed" in bytes(r.body)
    r = c.request(method="HEAD")  # the others go on
    assert r.status == 200


def test_query_and_placeholder(h2):
    s, g = h2(lambda r: r.respond(b"fine"),
              credential_of("q", at(HOST, "query", parameter="key")),
              credential_of("p", at(HOST, "placeholder", placeholder=PLACEHOLDER)),
              secrets={"q": "query-value", "p": "holder-value"})
    assert connect(g).request(f"/a/{PLACEHOLDER}?x", headers=[("x-one", PLACEHOLDER)]).status == 200
    got = s.requests[0].headers
    assert got[":path"] == "/a/holder-value?x&key=query-value" and got["x-one"] == "holder-value"


def test_aws_signature(h2):
    s, g = h2(lambda r: r.respond(r.read_all()), credential_of("aws", at(HOST, "aws")),
              secrets={"aws": f"{AWS_ID}:{AWS_SECRET}"})
    r = connect(g).request("/x?b=2&a=1", "POST", body=b'{"a":1}', headers=[
        ("x-amz-date", "20260102T030405Z"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=x/20260102/r/dynamodb/aws4_request, "
                          "SignedHeaders=host;x-amz-date, Signature=00")])
    assert r.status == 200 and bytes(r.body) == b'{"a":1}'
    got = s.requests[0]
    got.method, got.path, got.body = got.headers[":method"], got.headers[":path"], b'{"a":1}'
    got.headers = {**got.headers, "host": got.headers[":authority"]}
    check_aws(got)


def test_placeholder_in_bodies(h2):
    s, g = h2(lambda r: r.respond(str(len(r.read_all())).encode()), credential_of(
        "svc", at(HOST, "placeholder", placeholder=PLACEHOLDER, in_body=True)),
        secrets={"svc": VALUE * 5})
    c = connect(g)
    for filler in (b"", b"x" * (2 << 20)):
        stream = c.start("/x", "POST", end=False)
        whole = filler + PLACEHOLDER.encode() + filler
        for i in range(0, len(whole), 100003):
            c.send_data(stream, whole[i:i + 100003], end=i + 100003 >= len(whole))
        r = c.finish(stream)
        assert (r.status, int(r.body)) == (200, 2 * len(filler) + 5 * len(VALUE))


def test_oauth_over_both(gate, serve, pki):  # noqa: F811
    world = World(gate, serve, pki)
    api = serve(Http2Server(lambda r: r.respond(r.headers["authorization"].encode()),
                            tls=context(pki, "h2")))
    world.start(credential_of("svc", oauth=oauth()),
                resolves={HOST: world.server.address, WWW: api.address})
    Issuer(world)
    assert json.loads(login(world)[2])["access_token"] == ACCESS
    c = world.gate.open(WWW, 443).tls(alpn=("h2",))
    r = Client(c).request(headers=[("authorization", f"Bearer {ACCESS}")])
    assert api.requests[0].headers["authorization"] == "Bearer real-access+1/0123"
    assert bytes(r.body) == b"Bearer " + b"*" * len("real-access+1/0123")
    world.check_secrecy()
