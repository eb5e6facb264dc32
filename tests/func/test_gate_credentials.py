# SPDX-License-Identifier: Apache-2.0
"""Kinds of credentials in hutch-gate: what a server gets, and that the guest never does."""
import base64
import hashlib
import hmac
import json
import os
import threading
import time
import urllib.parse

import pytest

from gate_driver import PATIENCE, HttpServer, credential, credential_of, rule, send_response
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)

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
    c.send_while_reading(
        f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert c.response()[0] == 200
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
            assert go.acquire(timeout=PATIENCE)
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
    world.values.add(VALUE)
    world.reply(lambda r: send_response(r, f"{VALUE} is the password of me".encode()))
    code, _, body = world.request()
    assert code == 200 and body == b"*" * len(VALUE) + b" is the password of me"
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
