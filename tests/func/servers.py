# SPDX-License-Identifier: Apache-2.0
"""Loopback servers that stand for the outside world, with a certificate authority of their own."""
import http.server
import os
import socket
import socketserver
import ssl
import subprocess
import threading


class Authority:
    """A CA; bundle() is what SSL_CERT_FILE names so that the gate trusts it besides the host's."""

    def __init__(self, path):
        self.path = str(path)
        os.makedirs(self.path, exist_ok=True)
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key",
                      "-out", "ca.pem", "-addext", "keyUsage=critical,keyCertSign")

    def _openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.path, check=True, capture_output=True)

    def bundle(self):
        path = os.path.join(self.path, "bundle.pem")
        with open(path, "w") as out:
            for part in ("/etc/ssl/certs/ca-certificates.crt", os.path.join(self.path, "ca.pem")):
                with open(part) as f:
                    out.write(f.read())
        return path

    def context(self, name):
        with open(os.path.join(self.path, "ext"), "w") as f:
            f.write("subjectAltName=DNS:%s\n" % name)
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", "csr")
        self._openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", name + ".pem")
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(os.path.join(self.path, name + ".pem"),
                            os.path.join(self.path, name + ".key"))
        return ctx


class Web(http.server.ThreadingHTTPServer):
    """HTTPS: /echo answers "hello"; other paths are files below root. What came is in seen: an
    answer must not carry an injected key back into the guest."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, authority, name, root=None, address=("127.0.0.1", 0)):
        web = self
        self.seen = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *args):
                super().__init__(*args, directory=root or "/nonexistent")

            def do_GET(self):
                web.seen.append(dict(self.headers))
                if not self.path.startswith("/echo"):
                    return super().do_GET()
                body = b"hello\n"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        super().__init__(address, Handler)
        self.socket = authority.context(name).wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return "%s:%d" % self.server_address


class Tcp(socketserver.ThreadingTCPServer):
    """Raw TCP; the first byte says what to do with the connection."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                what = self.request.recv(1)
                if what == b"\1":  # echo until the end, then end
                    while data := self.request.recv(65536):
                        self.request.sendall(data)
                elif what == b"\2":  # count to the half-close, then answer
                    total = 0
                    while data := self.request.recv(65536):
                        total += len(data)
                    self.request.sendall(b"%d\n" % total)
                elif what == b"\3":  # reset
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                            b"\1\0\0\0\0\0\0\0")
                    self.request.close()

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.server_address[1]
