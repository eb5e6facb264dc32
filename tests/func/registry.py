# SPDX-License-Identifier: Apache-2.0
"""Registries on loopback: Debian's docker-registry, and one that lies."""
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading

from conftest import PATIENCE, wait_for
from programs import free_port, listens

KIT = "application/vnd.docker.sandbox.kit.v2"
SPEC = KIT + ".spec+yaml"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class DockerRegistry:
    """The real one."""

    def __init__(self, base):
        port = free_port()
        self.host = "127.0.0.1:%d" % port
        config = os.path.join(base, "registry.yml")
        with open(config, "w") as f:
            json.dump({"version": "0.1", "log": {"level": "error"}, "http": {"addr": self.host},
                       "storage": {"filesystem": {"rootdirectory": os.path.join(base, "registry")}}}, f)
        self.proc = subprocess.Popen([shutil.which("docker-registry"), "serve", config],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: listens(port) or self.proc.poll() is not None, what="docker-registry")
        assert self.proc.poll() is None, "docker-registry does not start"

    def close(self):
        self.proc.terminate()
        self.proc.wait(PATIENCE)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(entries=(), raw=None):
    """A tar+gzip of (name or TarInfo, bytes)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return gzip.compress(raw if raw is not None else out.getvalue(), mtime=0)


class LyingRegistry(http.server.ThreadingHTTPServer):
    """Serves what it was given, tags and blobs; `answers` overrides paths with (status, headers, body),
    or a function of the handler."""

    daemon_threads = True

    def __init__(self, context=None):
        registry = self
        self.tags, self.blobs, self.answers, self.seen = {}, {}, {}, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                registry.seen.append((self.path, self.headers.get("Authorization")))
                found = registry.answers.get(self.path.split("?")[0])
                name = self.path.rsplit("/", 1)[1]
                if callable(found):
                    found = found(self)
                    if found is None:
                        return
                if not found:
                    body = registry.blobs.get(registry.tags.get(name, name))
                    found = (200, {}, body) if body is not None else (404, {}, b"{}")
                status, headers, body = found
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.host = "%s:%d" % ("localhost" if context else "127.0.0.1", self.server_address[1])
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True,
                                              do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def add(self, data):
        self.blobs[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}

    def manifest(self, m, tag="1"):
        d = self.add(json.dumps(m).encode())["digest"]
        self.tags[tag] = d
        return d

    def kit(self, spec, data=None, tag="1", layers=()):
        data = layer() if data is None else data
        return self.manifest({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": KIT,
            "config": dict(self.add(spec.encode()), mediaType=SPEC),
            "layers": [dict(self.add(data), mediaType=LAYER), *layers]}, tag)

    def close(self):
        self.shutdown()
        self.server_close()
