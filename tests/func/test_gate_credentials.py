# SPDX-License-Identifier: Apache-2.0
"""Kinds of credentials in hutch-gate: what a server gets, and that the guest never does."""
import base64
import hashlib
import hmac
import json
import os
import ssl
import stat
import subprocess
import threading
import time
import urllib.parse

import pytest

from gate_driver import HttpServer, Server, credential, credential_of, rule, send_response
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)
from test_gate_values import Broker

HOST, WWW, OTHER, LOCAL = ("api.example.test", "www.example.test", "other.example.test",
                           "host.hutch.internal")
VALUE = 's3cr3t/"+value=0123'
PLACEHOLDER = "placeholder-0000-aaaa"


class Tap:
    """A socket that keeps what was read from it."""

    def __init__(self, sock, seen):
        self.sock, self.seen = sock, seen

    def recv(self, size):
        data = self.sock.recv(size)
        self.seen += data
        return data

    def __getattr__(self, name):
        return getattr(self.sock, name)


class World:
    """One server for all names, TLS, that answers what @reply says."""

    def __init__(self, gate, serve, pki):
        self.make_gate = gate
        self.server = serve(HttpServer(tls=pki.context()))
        self.serve, self.pki = serve, pki
        self.seen = bytearray()
        self.values = set()

    def start(self, *credentials, secrets=None, rules=(HOST, WWW), **more):
        self.values |= set((secrets or {}).values())
        more.setdefault("resolves", {n: self.server.address for n in (HOST, WWW, OTHER)})
        self.gate = self.make_gate(rules=[rule(r) for r in rules], credentials=credentials,
                                   secrets=secrets, **more)
        return self.gate

    def reply(self, function):
        self.server.reply = function

    def open(self, host=HOST, port=443, tls=True, tunnel=False):
        c = self.gate.open(host, port)
        c = c.tls(ca=self.pki.ca if tunnel else None) if tls else c
        c.sock = Tap(c.sock, self.seen)
        return c

    def request(self, *args, host=HOST, tunnel=False, **kw):
        c = self.open(host, tunnel=tunnel)
        try:
            return c.request(*args, **kw)
        finally:
            c.close()

    @property
    def last(self):
        return self.server.requests[-1]

    def check_secrecy(self):
        """No value in what the guest has read, in the audit log or in the gate's own log."""
        path = os.path.join(self.gate.box_dir, "audit.jsonl")
        audit = open(path, "rb").read() if os.path.exists(path) else b""
        places = {"guest": bytes(self.seen), "audit": audit, "log": self.gate.log().encode()}
        for value in self.values:
            v = value.encode()
            for form in (v, base64.b64encode(v), urllib.parse.quote(value, safe="").encode(),
                         json.dumps(value)[1:-1].encode()):
                for place, data in places.items():
                    assert form not in data, f"{form} in {place}"


@pytest.fixture
def world(gate, serve, pki):  # noqa: F811
    w = World(gate, serve, pki)
    yield w
    w.check_secrecy()


def at(domain, kind, **more):
    return {"domain": domain, "kind": kind, **more}


# ---- query ----


def test_query_parameter(world):
    world.start(credential_of("maps", at(HOST, "query", parameter="key")), secrets={"maps": VALUE})
    escaped = urllib.parse.quote(VALUE, safe="")
    for path, expected in (("/x", f"/x?key={escaped}"), ("/x?", f"/x?key={escaped}"),
                           ("/x?a=1&b", f"/x?a=1&b&key={escaped}"),
                           ("/x?key=proxy-managed&a=1", f"/x?a=1&key={escaped}"),
                           ("/x?k%65y=mine&key=2&keys=3", f"/x?keys=3&key={escaped}")):
        assert world.request(path=path)[0] == 200
        assert world.last.path == expected
    line = world.gate.audit(5)[0]
    assert line["path"] == "/x" and line["credential"] == "maps"


def test_query_parameter_without_value(world):
    world.start(credential_of("maps", at(HOST, "query", parameter="key")))
    world.request(path="/x?key=proxy-managed&key=other&a")
    assert world.last.path == "/x?key=other&a"
    world.gate.set_secret("maps", VALUE)
    world.request(path="/x")
    assert world.last.path.startswith("/x?key=")
    world.gate.remove_secret("maps")
    world.request(path="/x")
    assert world.last.path == "/x"


# ---- a placeholder of its own ----


def placeholder(**more):
    return credential_of("svc", at(HOST, "placeholder", placeholder=PLACEHOLDER, **more))


def test_placeholder_in_the_head(world):
    world.start(placeholder(), secrets={"svc": "real-value+1"})
    world.values.add("real-value+1")
    basic = base64.b64encode(f"user:{PLACEHOLDER}".encode()).decode()
    world.request(path=f"/bot{PLACEHOLDER}/send?t={PLACEHOLDER}&u={PLACEHOLDER}x", headers=[
        f"X-One: a {PLACEHOLDER} b {PLACEHOLDER}", f"Cookie: t={PLACEHOLDER}",
        f"Authorization: Basic {basic}", f"X-Not: {PLACEHOLDER[:-1]}"])
    h = world.last.headers
    assert h["x-one"] == "a real-value+1 b real-value+1" and h["cookie"] == "t=real-value+1"
    assert base64.b64decode(h["authorization"].split()[1]) == b"user:real-value+1"
    assert h["x-not"] == PLACEHOLDER[:-1]
    assert world.last.path == "/botreal-value%2B1/send?t=real-value%2B1&u=real-value%2B1x"
    line = world.gate.audit(1)[0]
    assert line["path"] == f"/bot{PLACEHOLDER}/send" and line["credential"] == "svc"
    world.request(headers=["X-One: nothing"], method="POST", body=PLACEHOLDER.encode())
    assert world.last.body == PLACEHOLDER.encode()  # bodies only on request
    assert "credential" not in world.gate.audit(2)[1]


@pytest.mark.parametrize("kind,before,after", [
    ("text/plain", f"<{PLACEHOLDER}>", f"<{VALUE}>"),
    ("application/json", '{"t":"%s","n":1}' % PLACEHOLDER, '{"t":%s,"n":1}' % json.dumps(VALUE)),
    ("application/x-www-form-urlencoded", f"a=1&t={PLACEHOLDER}",
     f"a=1&t={urllib.parse.quote(VALUE, safe='')}")])
def test_placeholder_in_a_body_with_length(world, kind, before, after):
    world.start(placeholder(in_body=True), secrets={"svc": VALUE})
    c = world.open()
    head = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\n"
    c.send(f"{head}Content-Length: {len(before)}\r\n\r\n".encode())
    for i in range(len(before)):
        c.send(before[i:i + 1].encode())
    assert c.response()[0] == 200
    assert world.last.body.decode() == after
    assert world.last.headers["content-length"] == str(len(after))
    # The connection is still in step.
    assert c.request("POST", body=b"plain")[0] == 200 and world.last.body == b"plain"


def test_placeholder_in_a_body_with_expect(world):
    world.start(placeholder(in_body=True), secrets={"svc": VALUE})
    c = world.open()
    c.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(PLACEHOLDER)}\r\n"
           "Expect: 100-continue\r\n\r\n".encode())
    assert c.recv_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    c.send(PLACEHOLDER.encode())
    assert c.response()[0] == 200 and world.last.body.decode() == VALUE
    assert "expect" not in world.last.headers


@pytest.mark.parametrize("step", [1, 5, 20, 4096])
def test_placeholder_across_chunks(world, step):
    world.start(placeholder(in_body=True), secrets={"svc": VALUE})
    body = f"{PLACEHOLDER} {PLACEHOLDER[:-1]} {PLACEHOLDER}{PLACEHOLDER}".encode()
    c = world.open()
    c.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for i in range(0, len(body), step):
        part = body[i:i + step]
        c.send(b"%x\r\n%s\r\n" % (len(part), part))
    c.send(b"0\r\n\r\n")
    assert c.response()[0] == 200
    assert world.last.body.decode() == f"{VALUE} {PLACEHOLDER[:-1]} {VALUE}{VALUE}"


def test_placeholder_in_a_large_body(world):
    world.start(placeholder(in_body=True), secrets={"svc": VALUE})
    filler = os.urandom(1 << 20).hex().encode()
    body = filler + PLACEHOLDER.encode() + filler
    c = world.open()
    sender = threading.Thread(target=lambda: c.send(
        f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body))
    sender.start()
    assert c.response()[0] == 200
    sender.join()
    assert world.last.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in world.last.headers
    assert world.last.body == filler + VALUE.encode() + filler


def test_empty_body_stays_empty(world):
    world.start(placeholder(in_body=True), secrets={"svc": VALUE})
    assert world.request("POST", body=b"")[0] == 200
    assert world.last.body == b"" and world.last.headers["content-length"] == "0"


# ---- masks ----


def forms(value):
    v = value.encode()
    return [v, base64.b64encode(v), base64.b64encode(b"u:" + v), base64.urlsafe_b64encode(v),
            urllib.parse.quote(value, safe="").encode(), json.dumps(value).encode()]


def test_echo_is_masked_in_head_and_body(world):
    world.start(credential("svc", HOST), secrets={"svc": VALUE})

    def echo(r):
        value = r.headers["authorization"].split(" ", 1)[1]
        send_response(r, b"\n".join(forms(value)) + b"\n" + r.raw,
                      headers=[f"X-Echo: {r.headers['authorization']}", "Set-Cookie: a=b"])

    world.reply(echo)
    code, headers, body = world.request(headers=["Accept-Encoding: gzip, br"])
    assert code == 200
    assert headers["x-echo"] == "Bearer " + "*" * len(VALUE) and headers["set-cookie"] == "a=b"
    assert body.split(b"\n")[0] == b"*" * len(VALUE)
    assert len(body) == int(headers["content-length"])
    assert world.last.headers["accept-encoding"] == "identity"


def test_requests_without_credential_are_left_alone(world):
    world.start(credential("svc", HOST), secrets={"svc": VALUE}, rules=[HOST, WWW])
    world.reply(lambda r: send_response(r, b"plain", headers=["Content-Encoding: gzip"]))
    assert world.request(host=WWW, tunnel=True, headers=["Accept-Encoding: gzip"])[0] == 200


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_echo_is_masked_across_chunks(world, step):
    world.start(credential("svc", HOST), secrets={"svc": VALUE})
    text = f"<{VALUE}><{VALUE[:-1]}><{VALUE}{VALUE}>".encode()

    def chunks(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(text), step):
            part = text[i:i + step]
            r.conn.send(b"%x\r\n%s\r\n" % (len(part), part))
            if step < 1000:
                time.sleep(0.002)
        r.conn.send(b"0\r\nX-Trailer: " + VALUE.encode() + b"\r\n\r\n")

    world.reply(chunks)
    c = world.open()
    _, _, body = c.request()
    n = len(VALUE)
    expected = b"<" + b"*" * n + b"><" + VALUE[:-1].encode() + b"><" + b"*" * 2 * n + b">"
    assert len(body) == len(expected)
    # The first bytes of a value that comes in pieces may be shown.
    assert sum(a != b for a, b in zip(body, expected)) <= 3 * 3
    assert c.trailers == [b"X-Trailer: " + b"*" * n]


def test_echo_is_masked_until_close(world):
    world.start(credential("svc", HOST), secrets={"svc": VALUE})

    def close(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx" + VALUE.encode() + b"y s3cr3t")
        return False

    world.reply(close)
    assert world.request()[2] == b"x" + b"*" * len(VALUE) + b"y s3cr3t"


def test_events_are_not_delayed(world):
    world.start(credential("svc", HOST), secrets={"svc": VALUE})
    go = threading.Semaphore(0)

    def events(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n")
        for i in range(5):
            event = b"data: %d s\n\n" % i
            r.conn.send(b"%x\r\n%s\r\n" % (len(event), event))
            assert go.acquire(timeout=10)
        r.conn.send(b"0\r\n\r\n")

    world.reply(events)
    c = world.open()
    c.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    c.recv_until(b"\r\n\r\n")
    for i in range(5):
        c.recv_until(b"data: %d s\n\n" % i)
        go.release()


@pytest.mark.parametrize("encoding", ["gzip", "br", "x-unknown"])
def test_compressed_answers_do_not_pass(world, encoding):
    world.start(credential("svc", HOST), secrets={"svc": VALUE})
    world.reply(lambda r: send_response(r, b"????", headers=[f"Content-Encoding: {encoding}"]))
    code, headers, body = world.request()
    assert code == 502 and headers["x-hutch-refused"] == "upstream" and b"compressed" in body
    # Where there is nothing to search it does not matter.
    assert world.request("HEAD")[0] == 200


def test_big_answers_stream(world):
    world.start(credential("svc", HOST), secrets={"svc": VALUE})
    data = os.urandom(3 << 20)
    world.reply(lambda r: send_response(r, data + VALUE.encode()))
    assert world.request()[2] == data + b"*" * len(VALUE)


def test_error_pages_are_masked_too(world):
    world.start(credential("svc", HOST), secrets={"svc": VALUE})
    world.reply(lambda r: send_response(r, f"bad token {VALUE}".encode(), status="401 No " + VALUE))
    assert world.request()[2] == b"bad token " + b"*" * len(VALUE)


def test_redirect_to_another_host_carries_nothing(world):
    world.start(credential("svc", HOST), secrets={"svc": VALUE})
    world.reply(lambda r: send_response(r, b"", status="302 Found",
                                        headers=[f"Location: https://{WWW}/there"]))
    code, headers, _ = world.request(headers=["Authorization: Bearer proxy-managed"])
    assert code == 302 and VALUE in world.last.headers["authorization"]
    world.reply(send_response)
    # What a client does that keeps its header on the way.
    path = urllib.parse.urlsplit(headers["location"]).path
    world.request(host=WWW, tunnel=True, path=path,
                  headers=["Authorization: Bearer proxy-managed"])
    assert world.last.path == "/there"
    assert world.last.headers["authorization"] == "Bearer proxy-managed"


# ---- container registries ----


def test_registry_login(world):
    world.start(credential_of("reg", at(HOST, "registry", username="robot"),
                              at(WWW, "registry", username="robot")),
                secrets={"reg": VALUE}, rules=[HOST, WWW])
    login = "Basic " + base64.b64encode(f"robot:{VALUE}".encode()).decode()
    world.values.add(f"robot:{VALUE}")
    challenge = f'Bearer realm="https://{WWW}/token",service="r",scope="repository:a:pull"'

    def registry(r):
        if r.path.startswith("/token"):
            assert r.headers["authorization"] == login
            send_response(r, b'{"token":"issued-0123456789"}')
        elif r.headers.get("authorization") == "Bearer issued-0123456789":
            send_response(r, b"manifest")
        else:
            assert r.headers["authorization"] == login
            send_response(r, b"", status="401 No", headers=[f"WWW-Authenticate: {challenge}"])

    world.reply(registry)
    code, headers, _ = world.request(path="/v2/")
    assert code == 401 and headers["www-authenticate"] == challenge
    mine = base64.b64encode(b"robot:proxy-managed").decode()
    _, _, body = world.request(host=WWW, path="/token?scope=x",
                               headers=[f"Authorization: Basic {mine}"])
    token = json.loads(body)["token"]
    assert world.request(path="/v2/a/manifests/x",
                         headers=[f"Authorization: Bearer {token}"])[2] == b"manifest"
    assert not world.server.errors


def test_registry_login_with_user_in_the_value(world):
    world.start(credential_of("reg", at(HOST, "registry")), secrets={"reg": "me:" + VALUE})
    assert world.request()[0] == 200
    assert base64.b64decode(world.last.headers["authorization"].split()[1]).decode() == "me:" + VALUE
    world.gate.set_secret("reg", "no colon in here")
    code, _, body = world.request()
    assert code == 403 and b"USER:PASSWORD" in body


# ---- AWS ----

AWS_ID, AWS_SECRET, AWS_TOKEN = "AKIDREALREALREAL", "real/secret+key0123456789", "tok/en+0123456789=="


def aws_signature(request, secret, fields, payload, query):
    """As the server computes it, from what it got. @query: without the signature."""
    scope = fields["Credential"].split("/", 1)[1]
    date, region, service = scope.split("/")[:3]
    names = fields["SignedHeaders"].split(";")
    path = request.path.split("?")[0]
    if service != "s3":
        path = urllib.parse.quote(path, safe="/~-._")
    pairs = sorted((urllib.parse.quote(k, safe="~"), urllib.parse.quote(v, safe="~"))
                   for k, v in urllib.parse.parse_qsl(query, keep_blank_values=True))
    head = "".join(f"{n}:{' '.join(request.headers[n].split())}\n" for n in names)
    canonical = "\n".join([request.method, path, "&".join(f"{k}={v}" for k, v in pairs), head,
                           ";".join(names), payload])
    time_ = fields.get("X-Amz-Date") or request.headers["x-amz-date"]
    text = "\n".join(["AWS4-HMAC-SHA256", time_, scope,
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request", text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def check_aws(request, payload=None, token=None):
    """Whether AWS would accept it."""
    kind, rest = request.headers["authorization"].split(" ", 1)
    fields = dict(p.strip().split("=", 1) for p in rest.split(","))
    assert kind == "AWS4-HMAC-SHA256" and fields["Credential"].startswith(AWS_ID + "/")
    payload = payload or request.headers.get("x-amz-content-sha256") \
        or hashlib.sha256(request.body).hexdigest()
    query = request.path.partition("?")[2]
    assert fields["Signature"] == aws_signature(request, AWS_SECRET, fields, payload, query)
    assert request.headers.get("x-amz-security-token") == token
    assert token is None or "x-amz-security-token" in fields["SignedHeaders"]


def aws_headers(service="dynamodb", signed="content-type;host;x-amz-date", *more):
    return ["X-Amz-Date: 20260102T030405Z",
            "Authorization: AWS4-HMAC-SHA256 Credential=proxy-managed/20260102/eu-west-1/"
            f"{service}/aws4_request, SignedHeaders={signed}, Signature={'0' * 64}", *more]


@pytest.mark.parametrize("value,token", [
    (f"{AWS_ID}:{AWS_SECRET}", None), (f"{AWS_ID}:{AWS_SECRET}:{AWS_TOKEN}", AWS_TOKEN),
    (json.dumps({"Version": 1, "AccessKeyId": AWS_ID, "SecretAccessKey": AWS_SECRET,
                 "SessionToken": AWS_TOKEN, "Expiration": "2030-01-01T00:00:00Z"}), AWS_TOKEN)])
def test_aws_signature(world, value, token):
    world.start(credential_of("aws", at(HOST, "aws")), secrets={"aws": value})
    world.values |= {AWS_SECRET, AWS_TOKEN}
    world.reply(lambda r: send_response(r, r.raw + AWS_SECRET.encode()[:0]))
    assert world.request("POST", "/a%20b/c?x=1&y=%2F&z", headers=aws_headers(
        "dynamodb", "content-type;host;x-amz-date;x-amz-security-token",
        "Content-Type: application/x-amz-json-1.0", "X-Amz-Security-Token: proxy-managed",
        "Accept-Encoding: gzip"), body=b'{"a":1}')[0] == 200
    check_aws(world.last, token=token)
    assert world.gate.audit(1)[0]["credential"] == "aws"
    signature = world.last.headers["authorization"].rsplit("=", 1)[1]
    assert signature.encode() not in world.seen


def test_aws_body_in_chunks_is_hashed(world):
    world.start(credential_of("aws", at(HOST, "aws")), secrets={"aws": f"{AWS_ID}:{AWS_SECRET}"})
    c = world.open()
    head = "".join(h + "\r\n" for h in aws_headers(signed="host;x-amz-date"))
    c.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    c.send(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    assert c.response()[0] == 200
    assert world.last.body == b"abcdefg" and world.last.headers["content-length"] == "7"
    check_aws(world.last)


@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", hashlib.sha256(b"data").hexdigest(),
                                     "STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
def test_aws_s3(world, payload):
    world.start(credential_of("aws", at(HOST, "aws")), secrets={"aws": f"{AWS_ID}:{AWS_SECRET}"})
    assert world.request("PUT", "/bucket/key%2Bname", headers=aws_headers(
        "s3", "host;x-amz-content-sha256;x-amz-date", f"X-Amz-Content-Sha256: {payload}"),
        body=b"data")[0] == 200
    check_aws(world.last)


def test_aws_presigned(world):
    world.start(credential_of("aws", at(HOST, "aws")), secrets={"aws": f"{AWS_ID}:{AWS_SECRET}"})
    world.values.add(AWS_SECRET)
    query = urllib.parse.urlencode({
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential":
        "proxy-managed/20260102/eu-west-1/s3/aws4_request", "X-Amz-Date": "20260102T030405Z",
        "X-Amz-Expires": "60", "X-Amz-SignedHeaders": "host", "X-Amz-Signature": "0" * 64})
    assert world.request(path=f"/bucket/key?{query}&versionId=x%2By")[0] == 200
    sent = dict(urllib.parse.parse_qsl(world.last.path.partition("?")[2]))
    assert sent["versionId"] == "x+y"
    fields = {k[6:] if k in ("X-Amz-Credential", ) else k: v for k, v in sent.items()}
    fields = {"Credential": sent["X-Amz-Credential"], "SignedHeaders": sent["X-Amz-SignedHeaders"],
              "X-Amz-Date": sent["X-Amz-Date"]}
    assert fields["Credential"].startswith(AWS_ID)
    unsigned = world.last.path.partition("?")[2].rsplit("&X-Amz-Signature=", 1)[0]
    assert sent["X-Amz-Signature"] == aws_signature(world.last, AWS_SECRET, fields,
                                                    "UNSIGNED-PAYLOAD", unsigned)


def test_aws_refusals(world):
    world.start(credential_of("aws", at(HOST, "aws")), secrets={"aws": f"{AWS_ID}:{AWS_SECRET}"})
    streaming = "X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    code, _, body = world.request("PUT", headers=aws_headers("s3", "host", streaming), body=b"x")
    assert code == 403 and b"each chunk of the body" in body
    c = world.open()
    c.send(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {2 << 20}\r\n".encode()
           + "".join(h + "\r\n" for h in aws_headers()).encode() + b"\r\n")
    code, _, body = c.response()
    assert code == 413 and b"larger than" in body
    assert not world.server.requests
    # What is not signed is not ours.
    assert world.request(headers=["Authorization: Bearer x"])[0] == 200
    assert world.last.headers["authorization"] == "Bearer x"
    world.gate.set_secret("aws", "nonsense")
    code, _, body = world.request(headers=aws_headers())
    assert code == 403 and b"KEY-ID:SECRET" in body and b"nonsense" not in body


# ---- without TLS ----


def test_insecure_is_for_this_machine_only(world, serve):  # noqa: F811
    plain = serve(HttpServer())
    inject = {"domain": f"{LOCAL}:8080", "header": "Authorization", "format": "Bearer %s"}
    world.start(credential_of("svc", {**inject, "insecure": True}), secrets={"svc": VALUE},
                rules=[f"{LOCAL}:8080"], resolves={LOCAL: plain.address})
    plain.reply = lambda r: send_response(r, r.raw)
    c = world.open(LOCAL, 8080, tls=False)
    assert c.request()[0] == 200
    assert plain.requests[-1].headers["authorization"] == f"Bearer {VALUE}"
    c.close()
    # Without the word nothing is sent.
    assert "ca" in world.gate.configure(credentials=[credential_of("svc", inject)])
    c = world.open(LOCAL, 8080, tls=False)
    c.request(headers=["Authorization: Bearer proxy-managed"])
    assert plain.requests[-1].headers["authorization"] == "Bearer proxy-managed"
    # And for other hosts it is no configuration at all.
    other = credential_of("svc", {**inject, "domain": HOST, "insecure": True})
    reply = world.gate.configure(credentials=[other])
    assert reply["event"] == "notice" and "insecure" in reply["text"]


# ---- OAuth ----

ACCESS, REFRESH = "sk-oat01-proxy-managed", "sk-ort01-proxy-managed"


def oauth(**more):
    return {"host": HOST, "path": "/oauth/token", "resource_hosts": [WWW],
            "access_sentinel": ACCESS, "refresh_sentinel": REFRESH, **more}


class Issuer:
    """A token endpoint and an API. Tokens are numbered; each refresh rotates both."""

    def __init__(self, world, fields=("access_token", "refresh_token")):
        self.world, self.fields, self.n = world, fields, 0
        self.refresh = {}  # live refresh tokens
        self.answer = None
        world.reply(self)

    def issue(self):
        self.n += 1
        access, refresh = f"real-access+{self.n}/0123", f"real-refresh+{self.n}/0123"
        self.world.values |= {access, refresh}
        self.refresh[refresh] = access
        return {"token_type": "Bearer", self.fields[0]: access, self.fields[1]: refresh,
                "expires_in": 3600, "scope": "a b"}

    def __call__(self, r):
        if r.path.partition("?")[0] != "/oauth/token":
            send_response(r, r.raw)
            return
        if "json" in r.headers.get("content-type", ""):
            form = json.loads(r.body)
        else:
            form = dict(urllib.parse.parse_qsl(r.body.decode()))
        self.form = form
        if self.answer is not None:
            body, status = self.answer
        elif form["grant_type"] == "refresh_token" and form["refresh_token"] not in self.refresh:
            body, status = {"error": "invalid_grant", "echo": form["refresh_token"]}, "400 Bad"
        else:
            if form["grant_type"] == "refresh_token":
                del self.refresh[form["refresh_token"]]
            body, status = self.issue(), "200 OK"
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        send_response(r, body, status=status, headers=["Content-Type: application/json"])


def login(world, path="/oauth/token", tunnel=False):
    form = urllib.parse.urlencode({"grant_type": "authorization_code", "code": "123"})
    return world.request("POST", path, body=form.encode(), tunnel=tunnel,
                         headers=["Content-Type: application/x-www-form-urlencoded"])


def refresh(world, sentinel=REFRESH, kind="form"):
    form = {"grant_type": "refresh_token", "refresh_token": sentinel}
    if kind == "json":
        return world.request("POST", "/oauth/token", body=json.dumps(form).encode(),
                             headers=["Content-Type: application/json"])
    return world.request("POST", "/oauth/token", body=urllib.parse.urlencode(form).encode(),
                         headers=["Content-Type: application/x-www-form-urlencoded"])


def use(world, token=ACCESS):
    world.request(host=WWW, headers=[f"Authorization: Bearer {token}"])
    return world.last.headers["authorization"]


def stored(world):
    out = {}
    for name in os.listdir(world.gate.token_dir):
        path = os.path.join(world.gate.token_dir, name)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with open(path) as f:
            out[name] = json.load(f)
    return out


def start_oauth(world, **more):
    world.start(credential_of("claude", oauth=oauth(**more)))
    return Issuer(world)


def test_oauth_login_use_and_refresh(world):
    issuer = start_oauth(world)
    assert use(world) == f"Bearer {ACCESS}"  # nobody has logged in
    code, headers, body = login(world)
    answer = json.loads(body)
    assert code == 200 and int(headers["content-length"]) == len(body)
    assert answer == {"token_type": "Bearer", "access_token": ACCESS, "refresh_token": REFRESH,
                      "expires_in": 3600, "scope": "a b"}
    assert issuer.form["code"] == "123"
    record = stored(world)["claude"]
    assert record["access_token"] == "real-access+1/0123" and record["scope"] == "a b"
    assert abs(record["expires_at"] - time.time() - 3600) < 30
    assert use(world) == "Bearer real-access+1/0123"
    for n, kind in ((2, "form"), (3, "json"), (4, "form")):
        code, _, body = refresh(world, kind=kind)
        assert code == 200 and json.loads(body)["refresh_token"] == REFRESH
        assert issuer.form["refresh_token"] == f"real-refresh+{n - 1}/0123"
        assert use(world) == f"Bearer real-access+{n}/0123"
    assert list(stored(world)) == ["claude"]
    lines = world.gate.audit(9)
    assert [x.get("credential") for x in lines] == [None] + ["claude"] * 8


def test_oauth_tokens_outlive_the_gate(world):
    start_oauth(world)
    login(world)
    world.start(credential_of("claude", oauth=oauth()))
    assert use(world) == "Bearer real-access+1/0123"
    os.unlink(os.path.join(world.gate.token_dir, "claude"))  # revoked
    assert use(world) == f"Bearer {ACCESS}"


def test_oauth_several_accounts(world):
    issuer = start_oauth(world)
    assert json.loads(login(world)[2])["access_token"] == ACCESS
    second = json.loads(login(world)[2])
    assert (second["access_token"], second["refresh_token"]) == (ACCESS + "-2", REFRESH + "-2")
    assert use(world) == "Bearer real-access+1/0123"
    assert use(world, ACCESS + "-2") == "Bearer real-access+2/0123"
    assert json.loads(refresh(world, REFRESH + "-2")[2])["access_token"] == ACCESS + "-2"
    assert issuer.form["refresh_token"] == "real-refresh+2/0123"
    assert use(world, ACCESS + "-2") == "Bearer real-access+3/0123"
    assert use(world) == "Bearer real-access+1/0123"
    assert sorted(stored(world)) == ["claude", "claude.2"]


def test_oauth_dead_account_gives_its_place_back(world):
    issuer = start_oauth(world)
    login(world)
    issuer.refresh.clear()
    code, _, body = refresh(world)
    assert code == 400 and b"real-refresh" not in body and b"invalid_grant" in body
    assert not stored(world)
    assert json.loads(login(world)[2])["access_token"] == ACCESS


def test_oauth_refresh_by_another_sandbox_is_not_undone(world):
    issuer = start_oauth(world)
    login(world)

    def rotated(r):
        with open(os.path.join(world.gate.token_dir, "claude"), "w") as f:
            json.dump({"access_token": "by-another-one", "refresh_token": "also-another"}, f)
        send_response(r, b'{"error":"invalid_grant"}', status="400 Bad")

    world.reply(rotated)
    assert refresh(world)[0] == 400
    world.reply(issuer)
    assert use(world) == "Bearer by-another-one"


def test_oauth_names_of_the_answer(world):
    world.start(credential_of("svc", oauth=oauth(access_name="at", refresh_name="rt")))
    Issuer(world, ("at", "rt"))
    answer = json.loads(login(world)[2])
    assert (answer["at"], answer["rt"]) == (ACCESS, REFRESH)
    assert use(world) == "Bearer real-access+1/0123"


@pytest.mark.parametrize("path", ["/oauth//token", "/oauth/./token", "/x/../oauth/token",
                                  "/oauth/%74oken", "/OAuth/Token", "/oauth/token/", "//oauth/token",
                                  "/oauth/token?x=1", "/oauth%2ftoken", "/oauth/token;a=b",
                                  "/oauth;a/token", "/oauth%5Ctoken", "/./oauth/x/..;/token"])
def test_oauth_endpoint_by_other_spellings(world, path):
    """Whatever reaches the endpoint as it is configured is rewritten, or does not pass."""
    issuer = start_oauth(world)

    def lenient(r):
        r.path = "/oauth/token"
        issuer(r)

    world.reply(lenient)
    code, _, body = login(world, path)
    assert code in (200, 403)
    if code == 200:
        assert json.loads(body)["access_token"] == ACCESS
    else:
        assert b"ambiguous" in body or b"path" in body


@pytest.mark.parametrize("answer", [b"access_token=real-access-9999&x=y", b"[1]", b"<html>", b"{",
                                    b'{"access_token":"real-access 9999"}', b"x" * 70000])
def test_oauth_answers_that_cannot_be_read_do_not_pass(world, answer):
    issuer = start_oauth(world)
    issuer.answer = (answer, "200 OK")
    code, headers, body = login(world)
    assert code == 502 and headers["x-hutch-refused"] == "upstream" and b"real-access" not in body
    assert not stored(world)


def test_oauth_answers_without_tokens_pass(world):
    issuer = start_oauth(world)
    for body, status in ((b'{"error":"authorization_pending"}', "400 Bad"),
                         (b'{"error":"slow_down"}', "200 OK"), (b"", "200 OK"),
                         (b"down", "503 Down")):
        issuer.answer = (body, status)
        code, _, got = login(world)
        assert code == int(status[:3]) and got == body


def test_oauth_compressed_answer_does_not_pass(world):
    start_oauth(world)
    world.reply(lambda r: send_response(r, b"????", headers=["Content-Encoding: gzip"]))
    assert login(world)[0] == 502
    assert world.last.headers["accept-encoding"] == "identity"


def test_oauth_id_token_and_copies(world):
    issuer = start_oauth(world)
    issuer.answer = ({"access_token": "real-access-token-1", "id_token": "head.claims.proof-0123",
                      "again": {"t": "x real-access-token-1"}}, "200 OK")
    world.values |= {"real-access-token-1", "proof-0123"}
    answer = json.loads(login(world)[2])
    assert answer == {"access_token": ACCESS, "id_token": "head.claims.proxy-managed",
                      "again": {"t": "x " + ACCESS}}


def test_oauth_until_close_and_chunks(world):
    start_oauth(world)
    body = json.dumps({"access_token": "real-access-token-2"}).encode()
    world.values.add("real-access-token-2")

    def close(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        return False

    def chunks(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(len(body)):
            r.conn.send(b"1\r\n" + body[i:i + 1] + b"\r\n")
        r.conn.send(b"0\r\n\r\n")

    for reply in (close, chunks):
        world.reply(reply)
        code, headers, got = login(world)
        assert code == 200 and json.loads(got)["access_token"].startswith(ACCESS)
        assert int(headers["content-length"]) == len(got)


def test_oauth_token_does_not_go_elsewhere(world):
    start_oauth(world)
    login(world)
    world.request(path="/elsewhere", headers=[f"Authorization: Bearer {ACCESS}"])
    assert world.last.headers["authorization"] == f"Bearer {ACCESS}"
    world.request(host=WWW, headers=[f"X-Other: {ACCESS}"])
    assert world.last.headers["x-other"] == ACCESS


def test_oauth_passthrough(world):
    issuer = start_oauth(world, passthrough=True)
    answer = json.loads(login(world, tunnel=True)[2])
    assert answer["access_token"] == "real-access+1/0123" and not stored(world)
    world.values.clear()
    assert issuer.n == 1


def test_oauth_next_to_a_key(world):
    """The key wins: its header is set, and nobody needs to log in."""
    world.start(credential_of("claude", {"domain": WWW, "header": "x-api-key", "format": "%s"},
                              required=True, oauth=oauth()))
    Issuer(world)
    assert world.request(host=WWW, headers=["x-api-key: proxy-managed"])[0] == 200
    assert "x-api-key" not in world.last.headers
    world.values.add(VALUE)
    world.gate.set_secret("claude", VALUE)
    assert world.request(host=WWW)[0] == 200
    assert world.last.headers["x-api-key"] == VALUE


# ---- while a connection is open ----


def test_revoked_and_rotated_on_one_connection(world):
    world.start(credential_of("q", at(HOST, "query", parameter="key")), placeholder(),
                credential_of("reg", at(HOST, "registry", username="u")),
                secrets={"q": "query-value-1", "svc": "holder-value-1", "reg": "login-value-1"})
    c = world.open()

    def ask():
        assert c.request(path="/x", headers=[f"X-One: {PLACEHOLDER}"])[0] == 200
        login = world.last.headers.get("authorization")
        return (world.last.path, world.last.headers["x-one"],
                base64.b64decode(login.split()[1]).decode() if login else None)

    assert ask() == ("/x?key=query-value-1", "holder-value-1", "u:login-value-1")
    for name, value in (("q", "query-value-2"), ("svc", "holder-value-2"), ("reg", "login-value-2")):
        world.gate.set_secret(name, value)
    world.values |= {"query-value-2", "holder-value-2", "login-value-2"}
    assert ask() == ("/x?key=query-value-2", "holder-value-2", "u:login-value-2")
    for name in ("q", "svc", "reg"):
        world.gate.remove_secret(name)
    assert ask() == ("/x", PLACEHOLDER, None)


def test_required_kinds_without_value(world):
    for kind in (at(HOST, "query", parameter="k"), at(HOST, "registry", username="u"),
                 at(HOST, "aws"), at(HOST, "placeholder", placeholder=PLACEHOLDER)):
        world.start(credential_of("svc", kind, required=True))
        code, headers, body = world.request()
        assert code == 403 and headers["x-hutch-refused"] == "credential"
        assert b"hutch secret set svc" in body
    assert not world.server.requests


@pytest.mark.parametrize("inject,says", [
    (at(HOST, "query", parameter="a b"), "parameter"), (at(HOST, "query"), "parameter"),
    (at(HOST, "placeholder", placeholder="short"), "placeholder"),
    (at(HOST, "placeholder", placeholder='"quoted-text"'), "placeholder"),
    (at(HOST, "nonsense"), "kind"), (at(HOST, "certificate", insecure=True), "insecure"),
    (at(f"*.{HOST}", "query", parameter="k", insecure=True), "insecure")])
def test_bad_configuration_is_refused(world, inject, says):
    world.start()
    reply = world.gate.configure(credentials=[credential_of("svc", inject)])
    assert reply["event"] == "notice" and says in reply["text"]


def test_upgraded_connections_carry_their_credential(world):
    world.start(credential_of("q", at(HOST, "query", parameter="key")), secrets={"q": VALUE})

    def switch(r):
        r.conn.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        r.conn.send(r.conn.recv_some())
        return False

    world.reply(switch)
    c = world.open()
    c.send(f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
           .encode())
    assert c.recv_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
    c.send(b"frame")
    assert c.recv_all() == b"frame"
    assert world.last.path.startswith("/ws?key=")


# ---- client certificates ----


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
    questions = [broker.question()]
    time.sleep(0.3)
    assert not world.server.requests
    broker.answer(questions[0][0], data=pem.encode())
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
    deadline = time.monotonic() + 10
    while not first and time.monotonic() < deadline:
        time.sleep(0.02)
    assert first[0][:1] == b"\x16"  # a TLS record
