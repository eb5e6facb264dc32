# SPDX-License-Identifier: Apache-2.0
"""Drive the real hutch-gate without a VM: play hutch-box and hutch-vmm, and servers on loopback."""
import fcntl
import itertools
import json
import os
import resource
import select
import selectors
import socket
import ssl
import struct
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("HUTCH_BUILD", os.path.join(ROOT, "build"))
BINARY = os.path.join(BUILD, "hutch-gate")

TCP_OPEN, DNS_QUERY, TCP_ACCEPT, TCP_REFUSE, TCP_RESET, DNS_ANSWER = 6, 7, 8, 9, 10, 11
UDP_OUT, UDP_IN, UDP_REFUSE = 12, 13, 14
PATIENCE = 120  # seconds, as in conftest.py
MSG = struct.Struct("=HHIIII")  # type, port, id, addr, arg, len
GATEWAY = "10.0.2.2"


def addr_int(text):
    return struct.unpack("!I", socket.inet_aton(text))[0]


def rule(target, allow=True, source="test"):
    return {"allow": allow, "target": target, "source": source}


def credential(service, domain, header="Authorization", fmt="Bearer %s", username=None,
               required=False):
    return {"service": service, "env": "TOKEN", "kit": "test", "required": required,
            "injects": [{"domain": domain, "header": header, "format": fmt, "username": username}]}


def credential_of(service, *injects, required=False, oauth=None):
    """A credential of any kind: @injects are dicts with domain, kind and what belongs to it."""
    fixed = {"header": "", "format": "", "username": None}
    return {"service": service, "env": "TOKEN", "kit": "test", "required": required,
            "injects": [{**fixed, **i} for i in injects], **({"oauth": [oauth]} if oauth else {})}


class Gate:
    """One hutch-gate process. Use as a context manager."""

    def __init__(self, path, rules=(), credentials=(), resolves=None, secrets=None, ca_file=None,
                 store=True, max_files=None, broker=None, env=None,
                 vmm_link=None, phase=None):
        self.phase = phase  # "install", "runtime", or None: not said
        self.path = path
        self.box_dir = os.path.join(path, "box")
        self.secret_dir = os.path.join(path, "secrets")
        self.own_dir = os.path.join(path, "own")  # the sandbox's own secrets
        self.token_dir = os.path.join(path, "tokens")
        self.stderr_path = os.path.join(path, "gate.log")
        os.makedirs(self.box_dir, exist_ok=True)
        os.makedirs(self.secret_dir, mode=0o700, exist_ok=True)
        os.makedirs(self.token_dir, mode=0o700, exist_ok=True)
        os.makedirs(self.own_dir, mode=0o700, exist_ok=True)
        for name, value in (secrets or {}).items():
            self.set_secret(name, value)
        self.network = {"rules": list(rules), "credentials": list(credentials),
                        "resolves": [{"name": n, "address": a}
                                     for n, a in (resolves or {}).items()]}
        self.ids = itertools.count(1)
        self.lock = threading.Condition()
        self.events = {}   # flow id -> list of message types
        self.answers = {}  # question id -> bytes
        self.datagrams = []  # (guest's port, address, port, bytes); None for bytes: refused
        self.questions = []  # to the user
        self.ca_file = ca_file
        self.store = store
        self.broker = broker  # a socket in place of hutch-secret's, False: none, None: a real one
        self.max_files = max_files
        self.env = env or {}
        self.vmm_link = vmm_link  # the gate's end of the link to a real VMM; taken

    def set_cas(self, cas):
        """{target: file}: certificates that count for some servers."""
        self.network.pop("cas", None)  # left out when there are none
        for target, path in cas.items():
            with open(path) as f:
                self.network.setdefault("cas", []).append({"target": target, "pem": f.read()})

    def set_secret(self, name, value, own=False):
        with open(os.path.join(self.own_dir if own else self.secret_dir, name), "w") as f:
            f.write(value)

    def set_source(self, name, reference, ttl=300, own=False):
        """A reference in place of a value, as "hutch secret set --from" leaves it."""
        self.set_secret(name, f"\0hutch-source\n{reference}\n{ttl} {time.time_ns()}", own)

    def remove_secret(self, name):
        os.unlink(os.path.join(self.secret_dir, name))

    # -- process --

    def __enter__(self):
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        if self.vmm_link:
            self.link, link = None, self.vmm_link
        else:
            self.link, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = [control.fileno(), link.fileno(), os.open(self.box_dir, os.O_RDONLY | os.O_DIRECTORY)]
        broker, services = self.broker, [c["service"] for c in self.network["credentials"]]
        if broker is None and services:
            broker = Secret(self.path, services, log="own-secret.log", store=self.store)
        fds.append(os.dup(broker.fileno()) if broker else os.open("/dev/null", os.O_RDONLY))
        if broker and self.broker is None:
            broker.given()
        fds.append(os.open(self.token_dir, os.O_RDONLY | os.O_DIRECTORY))
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:abort_on_error=1:disable_coredump=1",
                   UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
        for name in list(env):
            if name in ("SSL_CERT_DIR", "SSL_CERT_FILE") or name.lower().endswith("_proxy"):
                del env[name]
        env.update(self.env)
        if self.ca_file:
            env["SSL_CERT_FILE"] = self.ca_file

        def table():
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
            if not broker:
                os.close(6)
            if self.max_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.max_files, self.max_files))

        self.stderr = open(self.stderr_path, "wb")
        self.proc = subprocess.Popen([BINARY, "testbox"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=self.stderr, env=env,
                                     close_fds=False, preexec_fn=table)
        control.close()
        link.close()
        for fd in fds[2:]:
            os.close(fd)
        self.control.settimeout(PATIENCE)
        self.control_file = self.control.makefile("r")
        self.ca_pem = self.configure()["ca"]
        if self.link:
            self.reader = threading.Thread(target=self._read_link, daemon=True)
            self.reader.start()
        return self

    def __exit__(self, *exc):
        (self.link or self.control).shutdown(socket.SHUT_RDWR)
        try:
            status = self.proc.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            status = self.proc.wait()
        if self.link:
            self.link.close()
        self.control_file.close()
        self.control.close()
        self.stderr.close()
        if exc[0] is None:
            assert status == 0, f"gate ended with {status}: {self.log()}"

    def configure(self, **changes):
        self.phase = changes.pop("phase", self.phase)
        self.network.update(changes)
        phase = {"phase": self.phase} if self.phase else {}
        return self.configure_raw({"op": "configure", "name": "testbox", **phase,
                                   "network": self.network})

    def configure_raw(self, message):
        self.control.sendall(json.dumps(message).encode() + b"\n")
        return self.read_event()

    def read_event(self):
        """The next event; questions to the user are put aside."""
        while True:
            line = self.control_file.readline()
            assert line, self.log()
            event = json.loads(line)
            if event["event"] != "question":
                return event
            self.questions.append(event["text"])

    def answer(self, op, ident):
        self.control.sendall(json.dumps({"op": op, "id": ident}).encode() + b"\n")

    def pending(self, condition=lambda q: True):
        """The open questions, {rule: question}, as soon as @condition is true of them."""
        path = os.path.join(self.box_dir, "pending.json")
        deadline = time.monotonic() + PATIENCE
        while True:
            found = {}
            if os.path.exists(path):
                with open(path) as f:
                    found = {q["rule"]: q for q in json.load(f)["questions"]}
            if condition(found) or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def log(self):
        with open(self.stderr_path, errors="replace") as f:
            return f.read()

    def cpu_seconds(self):
        with open(f"/proc/{self.proc.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- the VMM's side --

    def _read_link(self):
        while True:
            try:
                data = self.link.recv(66000)
            except OSError:
                data = b""
            with self.lock:
                if not data:
                    self.events[None] = ["closed"]
                    self.lock.notify_all()
                    return
                kind, port, ident, addr, _, length = MSG.unpack_from(data)
                assert len(data) == MSG.size + length
                if kind == DNS_ANSWER:
                    self.answers[ident] = data[MSG.size:]
                elif kind in (UDP_IN, UDP_REFUSE):
                    self.datagrams.append((ident, socket.inet_ntoa(struct.pack("!I", addr)), port,
                                           data[MSG.size:] if kind == UDP_IN else None))
                else:
                    self.events.setdefault(ident, []).append(kind)
                self.lock.notify_all()

    def wait_for(self, predicate, timeout=PATIENCE):
        with self.lock:
            assert self.lock.wait_for(predicate, timeout), self.log()

    def send_link(self, kind, ident=0, addr=0, port=0, data=b"", fds=()):
        packet = MSG.pack(kind, port, ident, addr, 0, len(data)) + data
        socket.send_fds(self.link, [packet], list(fds))

    def ask(self, question, timeout=PATIENCE):
        """The answer to a DNS message, or None when there is none in time."""
        ident = next(self.ids)
        self.send_link(DNS_QUERY, ident, data=question)
        with self.lock:
            self.lock.wait_for(lambda: ident in self.answers, timeout)
            return self.answers.pop(ident, None)

    def lookup(self, name):
        reply = self.ask(dns_question(name))
        addrs = dns_addresses(reply)
        assert len(addrs) == 1, reply
        return addrs[0]

    def open(self, host, port):
        """Connect as the guest would. A Conn, or None when the connection was refused."""
        addr = host if host[0].isdigit() else self.lookup(host)
        ident = next(self.ids)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.send_link(TCP_OPEN, ident, addr_int(addr), port, fds=[theirs.fileno()])
        theirs.close()
        self.wait_for(lambda: self.events.get(ident))
        if self.events[ident][0] == TCP_REFUSE:
            ours.close()
            return None
        assert self.events[ident][0] == TCP_ACCEPT
        ours.settimeout(PATIENCE)
        return Conn(self, ident, ours, host)

    def datagram(self, host, port, data, guest_port=40000):
        """Send a datagram as the guest would. The address that it went to."""
        addr = host if host[0].isdigit() else self.lookup(host)
        self.send_link(UDP_OUT, guest_port, addr_int(addr), port, data=data)
        return addr

    def next_datagram(self, timeout=PATIENCE):
        with self.lock:
            self.lock.wait_for(lambda: self.datagrams, timeout)
            return self.datagrams.pop(0) if self.datagrams else None

    # -- what it left behind --

    def audit(self, count=None, opens=False):
        """All audit lines, without those of beginnings; waits until there are @count."""
        path = os.path.join(self.box_dir, "audit.jsonl")
        deadline = time.monotonic() + PATIENCE
        if count is None and self.link and self.proc.poll() is None:
            for _ in range(2):  # lines are written a turn of the gate's loop later
                self.ask(dns_question("localhost"))
        while True:
            lines = []
            if os.path.exists(path):
                with open(path) as f:
                    lines = [json.loads(line) for line in f if line.endswith("\n")]
                lines = [x for x in lines if opens or x.get("event") != "open"]
            if count is None or len(lines) >= count or time.monotonic() > deadline:
                return lines
            time.sleep(0.02)

    def audit_wait(self, predicate):
        """The last audit line that @predicate is true of; waits until there is one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = [x for x in self.audit() if predicate(x)]
            if found:
                return found[-1]
            assert time.monotonic() < deadline, self.audit()
            time.sleep(0.02)


class Secret:
    """One hutch-secret process for the gate that a test makes next in the same @path."""

    def __init__(self, path, services, env=None, log="secret.log", store=True):
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stores = [os.path.join(path, d) for d in ("secrets", "own")]
        for d in stores:
            os.makedirs(d, mode=0o700, exist_ok=True)
        fds = [ours.fileno()] + [os.open(d, os.O_PATH | os.O_DIRECTORY) for d in stores]
        self.log_path = os.path.join(path, log)

        def table():
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
            if not store:
                os.close(4)
                os.close(5)

        with open(self.log_path, "wb") as stderr:
            self.proc = subprocess.Popen(
                [os.path.join(BUILD, "hutch-secret"), "testbox", *services],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1", **(env or {})},
                close_fds=False, preexec_fn=table)
        ours.close()
        for fd in fds[1:]:
            os.close(fd)

    def fileno(self):
        return self.sock.fileno()

    def given(self):
        """The gate has its end: keep none, or the process would not see the gate's."""
        self.sock.close()

    def ended(self):
        return self.proc.wait(PATIENCE)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()


class Conn:
    """The guest's end of one connection."""

    def __init__(self, gate, ident, sock, host):
        self.gate, self.ident, self.sock, self.host = gate, ident, sock, host
        self.pending = b""

    def tls(self, server_name=None, alpn=("http/1.1",), ca=None):
        """Put TLS on it; trusts the sandbox's CA, or @ca (a file) instead."""
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.verify_flags |= ssl.VERIFY_X509_STRICT
        if ca:
            ctx.load_verify_locations(ca)
        else:
            ctx.load_verify_locations(cadata=self.gate.ca_pem)
        if alpn:
            ctx.set_alpn_protocols(list(alpn))
        self.sock = ctx.wrap_socket(self.sock, server_hostname=server_name or self.host)
        return self

    def send(self, data):
        self.sock.sendall(data)

    def send_while_reading(self, data):
        """Sends more than the ways there and back hold; what comes meanwhile is kept. One thread:
        OpenSSL allows no second one in a connection, and Python 3.11 does not keep it out."""
        timeout = self.sock.gettimeout()
        deadline = time.monotonic() + timeout
        self.sock.settimeout(0)
        rest = memoryview(data)
        while rest:
            select.select([self.sock], [self.sock], [], timeout)
            assert time.monotonic() < deadline, f"{len(rest)} bytes of {len(data)} not sent"
            for step in self._read_step, self._write_step:
                try:
                    rest = step(rest)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
        self.sock.settimeout(timeout)

    def _read_step(self, rest):
        data = self.sock.recv(65536)
        assert data, f"closed with {len(rest)} bytes not sent: {self.pending!r}"
        self.pending += data
        return rest

    def _write_step(self, rest):
        return rest[self.sock.send(rest[:65536]):]

    def recv_all(self):
        out = [self.pending]
        self.pending = b""
        while True:
            data = self.sock.recv(65536)
            if not data:
                return b"".join(out)
            out.append(data)

    def recv_some(self, size=65536):
        if self.pending:
            data, self.pending = self.pending, b""
            return data
        return self.sock.recv(size)

    def recv_until(self, mark):
        while mark not in self.pending:
            data = self.sock.recv(65536)
            assert data, f"closed before {mark!r}: {self.pending!r}"
            self.pending += data
        at = self.pending.index(mark) + len(mark)
        out, self.pending = self.pending[:at], self.pending[at:]
        return out

    def recv_exactly(self, size):
        got = bytearray(self.pending)
        while len(got) < size:
            data = self.sock.recv(1 << 20)
            assert data, f"closed after {len(got)} of {size} bytes"
            got += data
        self.pending = bytes(got[size:])
        return bytes(got[:size])

    def response(self, method="GET"):
        """One HTTP response: status, headers (lower-case names), body."""
        while True:
            status, headers = parse_head(self.recv_until(b"\r\n\r\n"))
            if status[1] != "100":
                break
        code = int(status[1])
        if method == "HEAD" or code in (101, 204, 304):
            body = b""
        elif "content-length" in headers:
            body = self.recv_exactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body = self.chunks()
        else:
            body = self.recv_all()
        return code, headers, body

    def chunks(self):
        out = []
        while True:
            size = int(self.recv_until(b"\r\n"), 16)
            if size == 0:
                break
            out.append(self.recv_exactly(size))
            assert self.recv_exactly(2) == b"\r\n"
        self.trailers = []
        while True:
            line = self.recv_until(b"\r\n")
            if line == b"\r\n":
                return b"".join(out)
            self.trailers.append(line[:-2])

    def request(self, method="GET", path="/", host=None, headers=(), body=None):
        head = f"{method} {path} HTTP/1.1\r\nHost: {host or self.host}\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        head += "".join(f"{h}\r\n" for h in headers) + "\r\n"
        self.send(head.encode() + (body or b""))
        return self.response(method)

    def was_reset(self):
        self.gate.wait_for(lambda: TCP_RESET in self.gate.events[self.ident])
        return True

    def close(self):
        self.sock.close()


def parse_head(raw):
    lines = raw.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        if line:
            name, value = line.split(":", 1)
            assert name.lower() not in headers, f"twice: {name}"
            headers[name.lower()] = value.strip()
    return lines[0].split(" ", 2), headers


# -- DNS --

def dns_question(name, qtype=1, ident=0x1234):
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
    head = struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0)
    return head + labels + b"\0" + struct.pack("!2H", qtype, 1)


def dns_rcode(reply):
    return reply[3] & 15


def dns_addresses(reply):
    count = struct.unpack_from("!H", reply, 6)[0]
    at = 12
    while reply[at]:
        at += 1 + reply[at]
    at += 5
    out = []
    for _ in range(count):
        assert reply[at] >= 0xc0
        kind, _, _, length = struct.unpack_from("!HHIH", reply, at + 2)
        at += 12
        if kind == 1:
            out.append(socket.inet_ntoa(reply[at:at + length]))
        at += length
    return out


# -- servers --

class Server:
    """A server on loopback: @handler gets each connection (a socket) in a thread of its own."""

    def __init__(self, handler, tls=None):
        self.handler, self.tls = handler, tls
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.sock.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.accepted = 0
        self.errors = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        conn.settimeout(PATIENCE)
        try:
            if self.tls:
                conn = self.tls.wrap_socket(conn, server_side=True)
            self.handler(conn)
        except (OSError, AssertionError) as e:
            self.errors.append(e)
        finally:
            conn.close()


class Nobody:
    """An address where nothing listens, and nothing else can while this is used."""

    def __init__(self, kind=socket.SOCK_STREAM):
        self.sock = socket.socket(socket.AF_INET, kind)
        self.sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_DGRAM:
            self.sock.connect(self.sock.getsockname())  # takes nothing from anybody else
        self.address = "127.0.0.1:%d" % self.sock.getsockname()[1]

    def __exit__(self, *exc):
        self.sock.close()


class EchoServer:
    """Thousands of connections in one thread; a context manager that gives its port."""

    def __enter__(self):
        return self.listen(0)

    def listen(self, port):
        self.sock = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.wake, self.woken = os.pipe()
        self.poll = selectors.DefaultSelector()
        self.poll.register(self.sock, selectors.EVENT_READ)
        self.poll.register(self.wake, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self.sock.getsockname()[1]

    def __exit__(self, *exc):
        os.write(self.woken, b"x")
        self.thread.join()
        for key in list(self.poll.get_map().values()):
            os.close(key.fileobj) if key.fileobj == self.wake else key.fileobj.close()
        os.close(self.woken)

    def _serve(self):
        while True:
            for key, _ in self.poll.select():
                if key.fileobj == self.wake:
                    return
                if key.fileobj is self.sock:
                    self.poll.register(self.sock.accept()[0], selectors.EVENT_READ)
                    continue
                try:
                    data = key.fileobj.recv(65536)
                    key.fileobj.sendall(data)
                except OSError:
                    data = b""
                if not data:
                    self.poll.unregister(key.fileobj)
                    key.fileobj.close()


class Request:
    def __init__(self, raw, conn):
        self.raw = raw
        (self.method, self.path, _), self.headers = parse_head(raw)
        self.conn = conn
        self.body = b""


class HttpServer(Server):
    """Keeps the requests it got; @reply(request) sends the answer. True keeps the connection."""

    def __init__(self, reply=None, tls=None):
        self.requests = []
        self.reply = reply or ok
        super().__init__(self._http, tls)

    def _http(self, sock):
        conn = Conn(None, 0, sock, "")
        while True:
            try:
                raw = conn.recv_until(b"\r\n\r\n")
            except AssertionError:
                return
            request = Request(raw, conn)
            self.requests.append(request)
            if request.headers.get("expect") == "100-continue":
                conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if "content-length" in request.headers:
                request.body = conn.recv_exactly(int(request.headers["content-length"]))
            elif request.headers.get("transfer-encoding") == "chunked":
                request.body = conn.chunks()
            if self.reply(request) is False:
                return


def send_response(request, body=b"hello", status="200 OK", headers=()):
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{h}\r\n" for h in headers) + "\r\n"
    request.conn.send(head.encode() + (b"" if request.method == "HEAD" else body))


def ok(request):
    send_response(request)
