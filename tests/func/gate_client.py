# SPDX-License-Identifier: Apache-2.0
"""Ordinary programs as clients of a gate: namespaces that look like a sandbox from within, and the
VMM's part played for them. Every name resolves through the gate, every connection goes to it."""
import os
import socket
import struct
import subprocess
import sys
import threading

import pytest

from gate_driver import PATIENCE, TCP_RESET

HERE = os.path.dirname(os.path.abspath(__file__))
HOST_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class Guest:
    """Use as a context manager; @ports are those that may be connected to."""

    def __init__(self, gate, path, ports=(80, 443)):
        self.gate, self.path, self.ports = gate, str(path), ports
        self.home = os.path.join(self.path, "home")
        os.makedirs(self.home, exist_ok=True)
        self.ca = os.path.join(self.path, "gate-ca.pem")
        with open(self.ca, "w") as f:
            f.write(gate.ca_pem)
        with open(HOST_BUNDLE) as f:
            self._file("ca-certificates.crt", f.read() + gate.ca_pem)
        self._file("resolv.conf", "nameserver 10.0.2.2\n")
        self._file("hosts", "127.0.0.1 localhost\n")

    def _file(self, name, text):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(text)

    def __enter__(self):
        probe = subprocess.run(["unshare", "-rmn", "true"], capture_output=True, text=True)
        if probe.returncode:
            pytest.skip("no namespaces here: " + probe.stderr)
        ours, theirs = socket.socketpair()
        self.link = ours
        self.proc = subprocess.Popen(
            ["unshare", "--map-root-user", "--net", "--mount", sys.executable,
             os.path.join(HERE, "ns_guest.py"), str(theirs.fileno()), self.path,
             *map(str, self.ports)], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        ours.settimeout(PATIENCE)
        data, fds, _, _ = socket.recv_fds(ours, 16, 16)
        assert data == b"ready", "the namespaces could not be made"
        self.socks = [socket.socket(fileno=fd) for fd in fds]
        threading.Thread(target=self._names, args=(self.socks[0],), daemon=True).start()
        for s in self.socks[1:]:
            threading.Thread(target=self._accept, args=(s,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        for s in self.socks[1:]:
            s.shutdown(socket.SHUT_RDWR)
        self.link.close()
        self.proc.wait(PATIENCE)
        for s in self.socks:
            s.close()

    def run(self, *argv, env=None, timeout=240, **kw):
        """Run a program in there. Its variables are those that a sandbox has."""
        full = {"PATH": os.environ["PATH"], "HOME": self.home, "LANG": "C.UTF-8",
                "NODE_EXTRA_CA_CERTS": self.ca}
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE"):
            full[name] = HOST_BUNDLE
        full.update(env or {})
        kw.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            ["nsenter", "-t", str(self.proc.pid), "-U", "-n", "-m", "--preserve-credentials",
             # Entering a mount namespace leads to its root directory.
             "--", "sh", "-c", 'cd "$0" && exec "$@"', kw.pop("cwd", self.home), *argv],
            env=full, capture_output=True, timeout=timeout, **kw)

    def ok(self, *argv, **kw):
        r = self.run(*argv, **kw)
        assert r.returncode == 0, (argv, r.returncode, r.stdout, r.stderr, self.gate.log())
        return r.stdout.decode()

    # -- the VMM's part --

    def _names(self, sock):
        while True:
            try:
                data, peer = sock.recvfrom(4096)
            except OSError:
                return
            threading.Thread(target=self._answer, args=(sock, data, peer), daemon=True).start()

    def _answer(self, sock, data, peer):
        reply = self.gate.ask(data)
        if reply:
            sock.sendto(reply, peer)

    def _accept(self, sock):
        while True:
            try:
                conn, _ = sock.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(conn,), daemon=True).start()

    def _connect(self, conn):
        addr, port = conn.getsockname()
        to = self.gate.open(addr, port)
        if not to:
            _reset(conn)
            return
        to.sock.settimeout(None)
        ways = [threading.Thread(target=self._copy, args=pair, daemon=True)
                for pair in ((to.sock, conn), (conn, to.sock))]
        for t in ways:
            t.start()
        while any(t.is_alive() for t in ways):
            with self.gate.lock:
                if self.gate.lock.wait_for(lambda: TCP_RESET in self.gate.events[to.ident], 0.1):
                    break
        if TCP_RESET in self.gate.events[to.ident]:
            _reset(conn)
            to.sock.shutdown(socket.SHUT_RDWR)
        for t in ways:
            t.join()
        conn.close()
        to.close()

    @staticmethod
    def _copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (source, sink):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def _reset(conn):
    """The client sees it even while another thread waits for the socket."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.shutdown(socket.SHUT_RD)
    conn.close()
