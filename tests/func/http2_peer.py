# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 peers for tests of the gate: a server whose handler sees one request, and a client on one
connection of the guest, both with every frame at hand."""
import select
import socket
import ssl
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from gate_driver import PATIENCE, Server


class Http2Server(Server):
    """@handler(request) runs in a thread of its own for each stream, and sends on it."""

    def __init__(self, handler=None, tls=None, settings=None, first=None, read=True):
        self.handle = handler or (lambda r: r.respond(b"hello"))
        self.settings, self.first = settings or {}, first
        self.read = read  # give windows back
        self.requests, self.connections = [], []
        super().__init__(self._connection, tls)

    def _connection(self, sock):
        c = ServerConnection(self, sock)
        self.connections.append(c)
        c.run()


class Request:
    def __init__(self, conn, stream, headers):
        self.conn, self.stream, self.list = conn, stream, headers
        self.headers = dict(headers)
        self.body = bytearray()
        self.trailers = None
        self.ended = threading.Event()
        self.reset = None  # the code

    def read_all(self):
        assert self.ended.wait(PATIENCE)
        return bytes(self.body)

    def head(self, status=200, *headers, end=False):
        self.conn.do(lambda h: h.send_headers(
            self.stream, [(":status", str(status)), *headers], end_stream=end))

    def data(self, data, end=False):
        self.conn.send_data(self.stream, data, end)

    def end_with(self, *trailers):
        self.conn.do(lambda h: h.send_headers(self.stream, list(trailers), end_stream=True))

    def respond(self, body=b"", status=200, *headers):
        self.head(status, ("content-length", str(len(body))), *headers, end=not body)
        if body:
            self.data(body, end=True)


class Channel:
    """@sock for a thread that receives while others send. OpenSSL does not allow both at once on one
    TLS connection: a lock keeps them apart, and nothing waits while it holds it."""

    def __init__(self, sock):
        self.sock = sock
        self.lock = threading.Lock()
        sock.setblocking(False)

    def _do(self, call, poll):
        while True:
            with self.lock:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
                except BlockingIOError:
                    wanted = poll
            p = select.poll()
            p.register(self.sock, wanted)
            p.poll()

    def recv(self, size):
        return self._do(lambda: self.sock.recv(size), select.POLLIN)

    def shutdown(self):
        """Ends the connection below TLS, whose state stays the receiving thread's."""
        socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def sendall(self, data):
        data = memoryview(data)
        while data:
            data = data[self._do(lambda: self.sock.send(data), select.POLLOUT):]


class Endpoint:
    """A connection with a lock around it."""

    def __init__(self, sock, client, settings=()):
        self.sock = sock
        self.channel = Channel(sock)
        self.lock = threading.Condition()
        self.h2 = h2.connection.H2Connection(config=h2.config.H2Configuration(
            client_side=client, header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False))
        if settings:
            self.h2.local_settings = h2.settings.Settings(client, dict(settings))
        self.closed = False
        self.goaway = None  # the code
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.channel.sendall(data)

    def do(self, what):
        with self.lock:
            r = what(self.h2)
            self.flush()
            return r

    def send_data(self, stream, data, end):
        """Waits for windows."""
        data = memoryview(data)
        while True:
            with self.lock:
                room = 0
                while data and not room:
                    room = min(self.h2.local_flow_control_window(stream),
                               self.h2.max_outbound_frame_size)
                    if not room:
                        assert self.lock.wait(PATIENCE), "no window"
                        assert not self.closed, "closed"
                part, data = data[:room], data[room:]
                self.h2.send_data(stream, bytes(part), end_stream=end and not data)
                self.flush()
            if not data:
                return

    def run(self):
        try:
            while True:
                data = self.channel.recv(65536)
                if not data:
                    break
                with self.lock:
                    for e in self.h2.receive_data(data):
                        self.event(e)
                    self.flush()
                    self.lock.notify_all()
        finally:
            with self.lock:
                self.closed = True
                self.lock.notify_all()

    def acknowledge(self, e):
        if e.flow_controlled_length:
            self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)


class ServerConnection(Endpoint):
    def __init__(self, server, sock):
        self.server = server
        self.streams = {}
        super().__init__(sock, client=False, settings=server.settings)
        if server.first:
            server.first(self)

    def event(self, e):
        r = self.streams.get(getattr(e, "stream_id", None))
        if isinstance(e, h2.events.RequestReceived):
            r = Request(self, e.stream_id, e.headers)
            self.streams[e.stream_id] = r
            self.server.requests.append(r)
            threading.Thread(target=self._handle, args=(r,), daemon=True).start()
        elif isinstance(e, h2.events.DataReceived):
            r.body += e.data
            if self.server.read:
                self.acknowledge(e)
        elif isinstance(e, h2.events.TrailersReceived):
            r.trailers = e.headers
        elif isinstance(e, h2.events.StreamEnded):
            r.ended.set()
        elif isinstance(e, h2.events.StreamReset):
            if r:
                r.reset = e.error_code
        elif isinstance(e, h2.events.ConnectionTerminated):
            self.goaway = e.error_code

    def _handle(self, r):
        try:
            self.server.handle(r)
        except (OSError, AssertionError, h2.exceptions.ProtocolError) as e:
            self.server.errors.append(e)


class Response:
    def __init__(self):
        self.status = None
        self.headers, self.interim, self.trailers = {}, [], None
        self.body = bytearray()
        self.ended, self.reset = False, None


class Client(Endpoint):
    """@conn: a Conn of gate_driver, with TLS or without."""

    def __init__(self, conn, read=True, settings=()):
        self.name = conn.host
        self.scheme = "https" if hasattr(conn.sock, "selected_alpn_protocol") else "http"
        self.responses = {}
        self.read = read  # give windows back
        super().__init__(conn.sock, client=True, settings=settings)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        try:
            self.run()
        except OSError:
            pass

    def start(self, path="/", method="GET", headers=(), end=True, authority=None, scheme=None):
        def send(c):
            stream = c.get_next_available_stream_id()
            self.responses[stream] = Response()
            c.send_headers(stream, [(":method", method), (":scheme", scheme or self.scheme),
                                    (":authority", authority or self.name), (":path", path),
                                    *headers], end_stream=end)
            return stream
        return self.do(send)

    def wait(self, predicate, timeout=PATIENCE):
        with self.lock:
            assert self.lock.wait_for(lambda: predicate() or self.closed, timeout), "too late"
            return predicate()

    def finish(self, stream):
        r = self.responses[stream]
        self.wait(lambda: r.ended or r.reset is not None)
        return r

    def request(self, path="/", method="GET", headers=(), body=None, **kw):
        stream = self.start(path, method, headers, end=body is None, **kw)
        if body is not None:
            self.send_data(stream, body, end=True)
        return self.finish(stream)

    def event(self, e):
        r = self.responses.get(getattr(e, "stream_id", None))
        if isinstance(e, h2.events.InformationalResponseReceived):
            r.interim.append(dict(e.headers))
        elif isinstance(e, h2.events.ResponseReceived):
            r.headers = dict(e.headers)
            r.status = int(r.headers[":status"])
        elif isinstance(e, h2.events.DataReceived):
            r.body += e.data
            if self.read:
                self.acknowledge(e)
        elif isinstance(e, h2.events.TrailersReceived):
            r.trailers = e.headers
        elif isinstance(e, h2.events.StreamEnded):
            r.ended = True
        elif isinstance(e, h2.events.StreamReset):
            r.reset = e.error_code
        elif isinstance(e, h2.events.ConnectionTerminated):
            self.goaway = e.error_code
            # The library reads nothing behind it, though open streams go on.
            self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN

    def close(self):
        self.channel.shutdown()
