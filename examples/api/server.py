#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hello API: an HTTPS server on loopback that tells who is calling: a digest of the key.

    server.py CERT KEY [PORT]     prints "listening PORT" once it serves
"""
import hashlib
import http.server
import json
import ssl
import sys


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        # A digest, never the key: an API that answers with the key would carry it into the sandbox.
        key = self.headers.get("Authorization", "")
        caller = hashlib.sha256(key.encode()).hexdigest()[:16]
        body = json.dumps({"path": self.path, "caller": caller}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print("received", key, flush=True)

    def log_message(self, *args):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", int(sys.argv[3]) if len(sys.argv) > 3 else 0), Hello)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", server.server_address[1], flush=True)
server.serve_forever()
