# SPDX-License-Identifier: Apache-2.0
"""The credentials' own tests once more, over HTTP/2: the same requests and answers, other frames.
Left out are those that write HTTP/1 by hand."""
import inspect
import types

import pytest

import test_gate_credentials as over_http1
from gate_driver import ok
from http2_peer import Client, Http2Server
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)


class Request:
    """As gate_driver's; what is sent as HTTP/1 text goes out as frames."""

    def __init__(self, r):
        self.headers = {n: v for n, v in r.list if n[0] != ":"}
        self.headers["host"] = r.headers[":authority"]
        self.method, self.path = r.headers[":method"], r.headers[":path"]
        self.body = r.read_all()
        self.conn, self.text = self, b""
        self.raw = "".join(f"{n}: {v}\r\n" for n, v in r.list).encode()

    def send(self, data):
        self.text += data


class Server:
    def __init__(self, serve, pki):  # noqa: F811
        ctx = pki.context()
        ctx.set_alpn_protocols(["h2"])
        self.requests, self.reply = [], ok
        self.server = serve(Http2Server(self._handle, tls=ctx))
        self.address, self.port = self.server.address, self.server.port
        self.errors = self.server.errors

    def _handle(self, r):
        request = Request(r)
        self.requests.append(request)
        self.reply(request)
        head, _, body = request.text.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        fields = [f.split(":", 1) for f in fields]
        r.head(int(status.split()[1]), *((n.lower(), v.strip()) for n, v in fields), end=not body)
        if body:
            for i in range(0, len(body), 7000):  # strings are cut somewhere
                r.data(body[i:i + 7000], end=i + 7000 >= len(body))


class Conn:
    def __init__(self, world, conn):
        self.world, self.client = world, Client(conn)

    def request(self, method="GET", path="/", host=None, headers=(), body=None):
        fields = [h.split(":", 1) for h in headers]
        fields = [(n.lower(), v.strip()) for n, v in fields]
        if body is not None:
            fields.append(("content-length", str(len(body))))
        r = self.client.request(path, method, fields, body or (None if body is None else b""),
                                authority=host or self.client.name)
        assert r.reset is None, r.reset
        self.world.seen += repr((r.headers, r.trailers)).encode() + bytes(r.body)
        return r.status, r.headers, bytes(r.body)

    def close(self):
        self.client.close()


class World(over_http1.World):
    def __init__(self, gate, serve, pki):  # noqa: F811
        super().__init__(gate, serve, pki)
        self.server = Server(serve, pki)

    def open(self, host=over_http1.HOST, port=443, tls=True, tunnel=False):
        c = self.gate.open(host, port).tls(ca=self.pki.ca if tunnel else None, alpn=("h2",))
        return Conn(self, c)


@pytest.fixture
def world(gate, serve, pki):  # noqa: F811
    w = World(gate, serve, pki)
    yield w
    w.check_secrecy()


for name, f in list(vars(over_http1).items()):
    if name.startswith("test_") and isinstance(f, types.FunctionType) and not any(
            word in inspect.getsource(f)
            for word in ("world.open(", "conn.send(", "transfer-encoding", "serve")):
        globals()[name] = f
