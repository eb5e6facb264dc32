# SPDX-License-Identifier: Apache-2.0
"""Programs that people use, unchanged, through interception. Each asks a server on loopback by its
name, trusts what a sandbox trusts, and has a credential added that it does not know."""
import base64
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile

import pytest

from gate_client import Guest
from gate_driver import PATIENCE, HttpServer, Server, credential, rule, send_response
from test_gate import SECRET, gate, pki, serve  # noqa: F401 (fixtures)

API = "api.example.test"
PYTHON = "/usr/bin/python3"


@pytest.fixture
def world(gate, serve, pki, tmp_path):  # noqa: F811
    """world(server) → (server, guest): the server is API, read by the gate for a credential."""
    running = []

    def make(server, rules=(), **kw):
        s = serve(server)
        g = gate(rules=[rule(f"{API}:443"), *rules], credentials=[credential("api", API, **kw)],
                 secrets={"api": SECRET}, resolves={API: s.address})
        c = Guest(g, tmp_path)
        c.__enter__()
        running.append(c)
        return s, c
    yield make
    for c in running:
        c.__exit__(None, None, None)


def echo(request):
    """What came, without what the guest must not see anyway."""
    send_response(request, b"%s %s %s" % (request.method.encode(), request.path.encode(),
                                          request.body))


def https(pki, reply=echo):  # noqa: F811
    return HttpServer(reply, tls=pki.context())


def check(s, count=1):
    assert len(s.requests) >= count
    assert all(r.headers["authorization"] == f"Bearer {SECRET}" for r in s.requests)
    assert s.errors == []


def test_curl(world, pki):  # noqa: F811
    s, c = world(https(pki))
    url = f"https://{API}"
    assert c.ok("curl", "-sSf", url + "/x") == "GET /x "
    assert c.ok("curl", "-sSf", "-d", "body", url + "/x", url + "/y") == "POST /x bodyPOST /y body"
    big = os.path.join(c.home, "big")
    with open(big, "wb") as f:
        f.write(b"x" * 3000000)
    out = c.run("curl", "-sSf", "-T", big, "-H", "Expect: 100-continue", url + "/big")
    assert len(out.stdout) == len("PUT /big ") + 3000000
    assert c.ok("curl", "-sSfI", url + "/head").startswith("HTTP/1.1 200")
    out = c.ok("curl", "-sS", "--tlsv1.2", "--tls-max", "1.2", "-w", "%{http_code}", url + "/old")
    assert out == "GET /old 200"
    check(s, 6)
    out = c.run("curl", "-sS", "https://denied.example.test/")
    assert b"blocked by hutch policy" in out.stdout and out.returncode == 0


def test_wget(world, pki):  # noqa: F811
    s, c = world(https(pki))
    assert c.ok("wget", "-qO-", f"https://{API}/x") == "GET /x "
    assert c.ok("wget", "-qO-", "--post-data=body", f"https://{API}/x") == "POST /x body"
    check(s, 2)
    out = c.run("wget", "-O-", "--content-on-error", "https://denied.example.test/")
    assert b"403" in out.stderr and b"blocked by hutch policy" in out.stdout


def test_python_requests_and_httpx(world, pki):  # noqa: F811
    s, c = world(https(pki))
    out = c.ok(PYTHON, "-c", f"""
import requests, httpx
with requests.Session() as r:
    for i in range(3):
        print(r.post("https://{API}/r%d" % i, data=b"b").text)
    e = r.get("https://denied.example.test/", headers={{"Accept": "application/json"}})
    print(e.status_code, e.json()["code"])
with httpx.Client() as r:
    for i in range(3):
        print(r.get("https://{API}/h%d" % i).text)
    def parts():
        yield b"a"
        yield b"b"
    print(r.put("https://{API}/chunks", content=parts()).text)
    print(r.get("https://denied.example.test/").status_code)
""")
    assert out.split("\n")[:-1] == [
        *(f"POST /r{i} b" for i in range(3)), "403 policy",
        *(f"GET /h{i} " for i in range(3)), "PUT /chunks ab", "403"]
    check(s, 7)


def test_httpx_http2(gate, serve, pki, tmp_path):  # noqa: F811
    from http2_peer import Http2Server
    ctx = pki.context()
    ctx.set_alpn_protocols(["h2", "http/1.1"])
    s = serve(Http2Server(lambda r: r.respond(b"got " + r.read_all()), tls=ctx))
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={API: s.address})
    with Guest(g, tmp_path) as c:
        out = c.ok(PYTHON, "-c", f"""
import httpx
with httpx.Client(http2=True) as r:
    for i in range(3):
        a = r.post("https://{API}/", content=b"x%d" % i)
        print(a.http_version, a.text)
    a = r.get("https://denied.example.test/")
    print(a.http_version, a.status_code)
""")
    assert out.splitlines() == [*(f"HTTP/2 got x{i}" for i in range(3)), "HTTP/1.1 403"]
    assert all(r.headers["authorization"] == f"Bearer {SECRET}" for r in s.requests)
    assert len(s.connections) == 1


def test_node_fetch(world, pki):  # noqa: F811
    s, c = world(https(pki))
    script = f"""
(async () => {{
  for (const i of [1, 2]) {{
    const r = await fetch("https://{API}/n" + i, {{method: "POST", body: "b"}});
    console.log(r.status, await r.text());
  }}
  const r = await fetch("https://denied.example.test/");
  console.log(r.status, r.headers.get("x-hutch-refused"));
}})();
"""
    out = c.ok("node", "-e", script)
    assert out.splitlines() == ["200 POST /n1 b", "200 POST /n2 b", "403 policy"]
    check(s, 2)


def test_node_http2(gate, serve, pki, tmp_path):  # noqa: F811
    from http2_peer import Http2Server
    ctx = pki.context()
    ctx.set_alpn_protocols(["h2"])
    s = serve(Http2Server(lambda r: r.respond(b"got " + r.read_all()), tls=ctx))
    g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
             secrets={"api": SECRET}, resolves={API: s.address})
    with Guest(g, tmp_path) as c:
        out = c.ok("node", "-e", f"""
const c = require("http2").connect("https://{API}");
const r = c.request({{":path": "/x", ":method": "POST"}});
let t = "";
r.on("data", d => t += d);
r.on("end", () => {{ console.log(t); c.close(); }});
r.end("body");
""")
    assert out == "got body\n"
    assert s.requests[0].headers["authorization"] == f"Bearer {SECRET}"


# ---- git ----


class GitServer(http.server.ThreadingHTTPServer):
    """Smart HTTP by git's own http-backend; wants the password."""

    daemon_threads = True

    def __init__(self, root, ctx):
        git = self
        self.authorization = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self):
                git.authorization.append(self.headers.get("Authorization"))
                path, _, query = self.path.partition("?")
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = self.chunks()
                env = dict(os.environ, GIT_PROJECT_ROOT=root, GIT_HTTP_EXPORT_ALL="1",
                           PATH_INFO=path, QUERY_STRING=query, REQUEST_METHOD=self.command,
                           CONTENT_TYPE=self.headers.get("Content-Type", ""),
                           CONTENT_LENGTH=str(len(body)), REMOTE_USER="user",
                           REMOTE_ADDR="127.0.0.1",
                           HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
                           GIT_PROTOCOL=self.headers.get("Git-Protocol", ""))
                out = subprocess.run(["git", "http-backend"], env=env, input=body,
                                     capture_output=True).stdout
                head, _, rest = out.partition(b"\r\n\r\n")
                fields = [line.decode().split(": ", 1) for line in head.split(b"\r\n")]
                status = dict(fields).get("Status", "200 OK")
                self.send_response(int(status.split()[0]))
                for name, value in fields:
                    if name != "Status":
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(rest)

            do_POST = do_GET

            def chunks(self):
                out = b""
                while size := int(self.rfile.readline(), 16):
                    out += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return out

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.socket = ctx.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.server_address[1]


def test_git_clones_and_pushes(gate, pki, tmp_path):  # noqa: F811
    root = tmp_path / "repos"
    root.mkdir()

    def git(*args, cwd=root):
        subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True,
                       env=dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null"))
    git("init", "-q", "--bare", "one.git")
    git("config", "http.receivepack", "true", cwd=root / "one.git")
    s = GitServer(str(root), pki.context())
    g = gate(rules=[rule(f"{API}:443")], secrets={"git": SECRET}, resolves={API: s.address},
             credentials=[credential("git", API, username="x-access-token")])
    with Guest(g, tmp_path) as c:
        c.ok("sh", "-ec", f"""
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@test GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@test
git clone -q https://{API}/one.git work
cd work
head -c 2000000 /dev/urandom >blob
git add blob
git commit -qm first
git -c http.postBuffer=65536 push -q origin HEAD:refs/heads/main
cd ..
git clone -q -b main https://{API}/one.git again
cmp work/blob again/blob
""")
        out = c.run("git", "ls-remote", "https://denied.example.test/x.git")
        assert out.returncode != 0 and b"403" in out.stderr
    expected = "Basic " + base64.b64encode(f"x-access-token:{SECRET}".encode()).decode()
    assert s.authorization and set(s.authorization) == {expected}
    s.shutdown()


# ---- package managers ----


def test_pip_installs(world, pki):  # noqa: F811
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr("tiny_thing.py", "VALUE = 42\n")
        z.writestr("tiny_thing-1.0.dist-info/METADATA",
                   "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        z.writestr("tiny_thing-1.0.dist-info/WHEEL",
                   "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("tiny_thing-1.0.dist-info/RECORD", "".join(
            f"{n},,\n" for n in [*z.namelist(), "tiny_thing-1.0.dist-info/RECORD"]))
    data = wheel.getvalue()
    name = "tiny_thing-1.0-py3-none-any.whl"

    def reply(r):
        if r.path == "/simple/tiny-thing/":
            page = f'<a href="/files/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
            send_response(r, page.encode(), headers=["Content-Type: text/html"])
        elif r.path == f"/files/{name}":
            send_response(r, data)
        else:
            send_response(r, b"", status="404 Not Found")
    s, c = world(https(pki, reply))
    c.ok(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-cache-dir",
         "--index-url", f"https://{API}/simple/", "--target", "lib", "tiny-thing")
    assert c.ok(PYTHON, "-c", "import tiny_thing; print(tiny_thing.VALUE)",
                env={"PYTHONPATH": os.path.join(c.home, "lib")}) == "42\n"
    check(s, 2)


def test_npm_installs(world, pki):  # noqa: F811
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as t:
        for path, text in (("package/package.json", '{"name": "tiny-thing", "version": "1.0.0"}'),
                           ("package/index.js", "module.exports = 42;\n")):
            info = tarfile.TarInfo(path)
            info.size = len(text)
            t.addfile(info, io.BytesIO(text.encode()))
    data = packed.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()

    def reply(r):
        if r.path == "/tiny-thing":
            send_response(r, json.dumps({
                "name": "tiny-thing", "dist-tags": {"latest": "1.0.0"},
                "versions": {"1.0.0": {"name": "tiny-thing", "version": "1.0.0", "dist": {
                    "tarball": f"https://{API}/tiny-thing/-/tiny-thing-1.0.0.tgz",
                    "integrity": integrity}}}}).encode(),
                headers=["Content-Type: application/json"])
        elif r.path == "/tiny-thing/-/tiny-thing-1.0.0.tgz":
            send_response(r, data)
        else:
            send_response(r, b"{}", status="404 Not Found")
    s, c = world(https(pki, reply))
    project = os.path.join(c.home, "project")
    os.mkdir(project)
    with open(os.path.join(project, "package.json"), "w") as f:
        f.write('{"name": "p", "version": "1.0.0"}')
    c.ok("npm", "install", "--registry", f"https://{API}/", "--no-audit", "--no-fund",
         "--no-update-notifier", "tiny-thing", cwd=project)
    assert c.ok("node", "-p", "require('tiny-thing')", cwd=project) == "42\n"
    check(s, 2)


# ---- WebSocket ----


def test_websocket(gate, pki, tmp_path):  # noqa: F811
    """Bytes in both directions after the upgrade; a real client and a real server."""
    server = subprocess.Popen([PYTHON, "-c", r"""
import asyncio, ssl, sys, websockets
ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
ctx.load_cert_chain(sys.argv[1], sys.argv[2])
async def echo(ws, path=None):
    await ws.send(ws.request_headers.get("Authorization", "none")[:6])
    async for m in ws:
        await ws.send(m)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, ssl=ctx, max_size=None) as s:
        print(s.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
""", str(pki.cert), str(pki.key)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        to = f"127.0.0.1:{int(server.stdout.readline())}"
        g = gate(rules=[rule(f"{API}:443")], credentials=[credential("api", API)],
                 secrets={"api": SECRET}, resolves={API: to})
        with Guest(g, tmp_path) as c:
            out = c.ok(PYTHON, "-c", f"""
import asyncio, os, ssl, websockets
async def main():
    async with websockets.connect("wss://{API}/chat", max_size=None) as ws:
        print(await ws.recv())
        for m in ("text", b"\\0\\1", os.urandom(2000000)):
            await ws.send(m)
            assert await ws.recv() == m
        # both at once
        await asyncio.gather(*(ws.send(b"%d" % i) for i in range(200)))
        assert [await ws.recv() for _ in range(200)] == [b"%d" % i for i in range(200)]
        pong = await ws.ping()
        await pong
asyncio.run(main())
""")
        assert out == "Bearer\n"
        line = g.audit(1)[-1]
        assert line["status"] == 101 and line["path"] == "/chat" and line["credential"] == "api"
        assert line["bytes_up"] > 2000000 and line["bytes_down"] > 2000000
    finally:
        server.stdin.close()
        server.wait(PATIENCE)


# ---- without reading: tunnels ----


def test_raw_tcp_by_rule(gate, serve, tmp_path):  # noqa: F811
    """A client that waits for the server's greeting, and one that speaks first."""
    def greet(sock):
        sock.sendall(b"SSH-2.0-test\r\n")
        sock.sendall(sock.recv(100))
    s = serve(Server(greet))
    g = gate(rules=[rule("git.example.test:22")], resolves={"git.example.test": s.address})
    with Guest(g, tmp_path, ports=(22, 5432)) as c:
        out = c.ok(PYTHON, "-c", """
import socket
s = socket.create_connection(("git.example.test", 22))
assert s.recv(100) == b"SSH-2.0-test\\r\\n"
s.sendall(b"hello")
print(s.recv(100))
try:
    socket.create_connection(("git.example.test", 5432)).recv(1)
    print("open")
except ConnectionError:
    print("refused")
""")
    assert out == "b'hello'\nrefused\n"


# ---- apt ----


def test_apt_over_https(world, pki, tmp_path):  # noqa: F811
    """apt's own fetcher reads an index and a file, and verifies them by hash."""
    repo = tmp_path / "repo"
    repo.mkdir()
    files = {"/Packages": b"", "/thing.deb": b"!<arch>\nnot really a package"}
    files["/Packages"] = (
        b"Package: thing\nVersion: 1.0\nArchitecture: all\nMaintainer: test\nFilename: ./thing.deb\n"
        b"Size: %d\nSHA256: %s\nDescription: test\n" % (
            len(files["/thing.deb"]), hashlib.sha256(files["/thing.deb"]).hexdigest().encode()))

    def reply(r):
        path = r.path.replace("/./", "/")
        if path in files:
            send_response(r, files[path])
        else:
            send_response(r, b"", status="404 Not Found")
    s, c = world(https(pki, reply))
    for d in ("lists/partial", "archives/partial", "etc/apt.conf.d", "etc/preferences.d",
              "etc/sources.list.d", "etc/trusted.gpg.d", "state"):
        os.makedirs(os.path.join(c.home, d))
    with open(os.path.join(c.home, "etc/sources.list"), "w") as f:
        f.write(f"deb [trusted=yes] https://{API}/ ./\n")
    open(os.path.join(c.home, "state/status"), "w").close()
    with open(os.path.join(c.home, "apt.conf"), "w") as f:
        f.write(f'''Dir::Etc "{c.home}/etc"; Dir::State "{c.home}/state";
Dir::State::lists "{c.home}/lists"; Dir::Cache "{c.home}/cache";
Dir::Cache::archives "{c.home}/archives"; Dir::State::status "{c.home}/state/status";
APT::Sandbox::User "root"; Acquire::Languages "none"; Dir::Etc::trustedparts "";
''')
    env = {"APT_CONFIG": os.path.join(c.home, "apt.conf")}
    c.ok("apt-get", "-q", "update", env=env)
    c.ok("apt-get", "-q", "download", "thing", env=env)
    with open(os.path.join(c.home, "thing_1.0_all.deb"), "rb") as f:
        assert f.read() == files["/thing.deb"]
    check(s, 2)


# ---- Java ----


@pytest.mark.skipif(not shutil.which("javac"), reason="no JDK here: 120 MB that nothing else needs")
def test_java(world, pki):  # noqa: F811
    """Its own trust store, as the sandbox has it, and both versions of HTTP offered."""
    s, c = world(https(pki))
    store = os.path.join(c.home, "cacerts")
    subprocess.run(["keytool", "-importcert", "-noprompt", "-alias", "hutch", "-file", c.ca,
                    "-keystore", store, "-storepass", "changeit"], check=True,
                   capture_output=True)
    with open(os.path.join(c.home, "Get.java"), "w") as f:
        f.write("""
import java.net.URI;
import java.net.http.*;
public class Get {
    public static void main(String[] a) throws Exception {
        HttpClient c = HttpClient.newHttpClient();
        for (String u : a) {
            HttpResponse<String> r = c.send(HttpRequest.newBuilder(URI.create(u)).build(),
                HttpResponse.BodyHandlers.ofString());
            System.out.println(r.version() + " " + r.statusCode() + " " + r.body().split("\\n")[0]);
        }
    }
}
""")
    out = c.ok("java", f"-Djavax.net.ssl.trustStore={store}",
               "-Djavax.net.ssl.trustStorePassword=changeit", "Get.java", f"https://{API}/j",
               "https://denied.example.test/")
    assert out.splitlines() == ["HTTP_1_1 200 GET /j ", "HTTP_1_1 403 blocked by hutch policy"]
    check(s)
