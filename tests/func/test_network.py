# SPDX-License-Identifier: Apache-2.0
"""The guest's network through the gate: package clients, TCP against the guest's kernel, policy,
credentials."""
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import threading

import pytest

from conftest import Home, wait_for
from kit_world import GIT
from servers import Authority, Tcp, Web
from test_gate_proxy import Proxy

SECRET = "sk-test-7f3a9c2e5b8d4f60-do-not-leak"

KIT = """schemaVersion: "2"
kind: mixin
name: api
permissions:
  network:
    allow: [api.hello.test, "files.hello.test", "tcp.hello.test:7"]
    deny: [bad.hello.test]
credentials:
  - service: hello
    apiKey:
      name: HELLO_API_KEY
      inject:
        - {domain: api.hello.test, header: Authorization, format: "Bearer %s"}
"""

TCP_CLIENT = r"""
import hashlib, os, socket, sys, threading, time
ADDR = ("tcp.hello.test", 7)

def connect(what):
    s = socket.create_connection(ADDR, 120)
    s.settimeout(120)
    s.sendall(what)
    return s

def read_all(s):
    parts = []
    while data := s.recv(65536):
        parts.append(data)
    return b"".join(parts)

def echo(data):
    s = connect(b"\1")
    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=send)
    t.start()
    back = read_all(s)
    t.join()
    s.close()
    return back == data

what = sys.argv[1]
if what == "small":
    ok = all(echo(b"x%d" % i) for i in range(200))
elif what == "large":
    ok = all(echo(os.urandom(8 << 20)) for i in range(2))
elif what == "half-close":
    s = connect(b"\2")
    s.sendall(b"y" * 100000)
    s.shutdown(socket.SHUT_WR)
    ok = read_all(s) == b"100000\n"
elif what == "reset":
    s = connect(b"\3")
    try:
        ok = s.recv(1) == None
    except ConnectionResetError:
        ok = True
elif what == "thousand":
    socks = []
    for i in range(1000):
        socks.append(connect(b"\1"))
    for i, s in enumerate(socks):
        s.sendall(b"%06d" % i)
    ok = True
    for i, s in enumerate(socks):
        got = b""
        while len(got) < 6:
            got += s.recv(6 - len(got))
        ok = ok and got == b"%06d" % i
    for s in socks:
        s.close()
print("ok" if ok else "wrong")
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory, images):
    tmp = tmp_path_factory.mktemp("world")
    ca = Authority(tmp / "ca")
    files = tmp / "files"
    repo = tmp / "repo"
    git = lambda *a: subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t.test", *a],
                                    cwd=repo, check=True, capture_output=True,
                                    env=dict(os.environ, **GIT))
    os.makedirs(repo)
    git("init", "-q")
    (repo / "hello.txt").write_text("from git\n")
    git("add", ".")
    git("commit", "-qm", "one")
    git("clone", "-q", "--bare", str(repo), str(files / "repo.git"))
    subprocess.run(["git", "update-server-info"], cwd=files / "repo.git", check=True)
    (files / "blob").write_bytes(os.urandom(4 << 20))

    home = Home(str(tmp / "home"))
    home.env["SSL_CERT_FILE"] = ca.bundle()
    home.api, home.files, home.tcp = Web(ca, "api.hello.test"), Web(ca, "files.hello.test",
                                                                   str(files)), Tcp()
    home.digest = hashlib.sha256((files / "blob").read_bytes()).hexdigest()
    assert home.run("secret", "set", "hello", input=SECRET).returncode == 0
    kit = home.path("kit")
    os.makedirs(kit)
    with open(os.path.join(kit, "spec.yaml"), "w") as f:
        f.write(KIT)
    home.work = home.path("work")
    os.makedirs(home.work)
    with open(os.path.join(home.work, "tcp.py"), "w") as f:
        f.write(TCP_CLIENT)
    resolves = []
    for name, server in (("api", home.api), ("files", home.files), ("tcp", home.tcp),
                         ("bad", home.api), ("other", home.api)):
        resolves += ["--resolve", "%s.hello.test=%s" % (name, server.address)]
    home.ok("create", "--name", "net", "--memory", "1g", "--kit", kit, *resolves, "shell",
            home.work)
    home.sh = lambda text, **kw: home.run("exec", "net", "--", "sh", "-c", text, **kw)
    yield home
    home.close()


@pytest.mark.parametrize("what", ["small", "large", "half-close", "reset", "thousand"])
def test_tcp_against_the_guest_kernel(world, what):
    r = world.sh("python3 tcp.py " + what, timeout=400)
    assert r.stdout == "ok\n", r.stderr


def test_download_is_intact(world):
    r = world.sh("curl -sS https://files.hello.test/blob | sha256sum")
    assert r.stdout.split()[:1] == [world.digest], r.stderr


def test_git_over_https(world):
    r = world.sh("cd /tmp && rm -rf r && git clone -q https://files.hello.test/repo.git r && "
                 "cat r/hello.txt")
    assert r.stdout == "from git\n", r.stderr


def test_denied_host_is_explained(world):
    r = world.sh("curl -sS -w '%{http_code}' https://elsewhere.example.org/x")
    assert r.stdout.endswith("403"), (r.stdout, r.stderr)
    assert "elsewhere.example.org" in r.stdout and "hutch policy allow" in r.stdout
    r = world.sh("curl -sS -w '%{http_code}' http://elsewhere.example.org/")
    assert r.stdout.endswith("403"), (r.stdout, r.stderr)
    r = world.sh("curl -sS -H 'Accept: application/json' https://bad.hello.test/")
    assert json.loads(r.stdout)["rule"].startswith("bad.hello.test")
    assert len(world.api.seen) == 0 or all("bad" not in s.get("Host", "") for s in world.api.seen)


def test_the_remedy_in_the_refusal_works(world):
    """On the running sandbox, at once."""
    refused = world.sh("curl -sS -w '%{http_code}' https://other.hello.test/echo")
    assert refused.stdout.endswith("403")
    assert "hutch policy allow other.hello.test:443" in refused.stdout
    r = world.run("run", "--name", "net", "--allow", "other.hello.test:443", "shell", world.work,
                  "--", "-c", "curl -sSk https://other.hello.test/echo")
    assert r.stdout == "hello\n", r.stderr


def test_no_way_around_dns(world):
    """No address but the gateway is a peer, and no question leaves the machine."""
    r = world.sh("curl -sSk -m 120 -w '%{http_code}' https://192.0.2.7/")
    assert r.stdout.endswith("403") and "192.0.2.7" in r.stdout, r.stderr
    r = world.sh("python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
                 "s.connect(('192.0.2.1', 53)); s.settimeout(120); s.send(b'x'); s.recv(9)\"")
    assert "Refused" in r.stderr or "refused" in r.stderr, r.stderr


def test_datagrams_by_rule(world):
    """From the guest's kernel and back, small and large; what no rule allows is refused at once."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    done = threading.Event()

    def echo():
        sock.settimeout(0.5)
        while not done.is_set():
            with contextlib.suppress(socket.timeout):
                data, peer = sock.recvfrom(70000)
                sock.sendto(data, peer)

    thread = threading.Thread(target=echo)
    thread.start()
    world.ok("policy", "allow", "--sandbox", "net", "--protocol", "udp",
             "host.hutch.internal:%d" % port)
    r = world.run("policy", "check", "--sandbox", "net", "--protocol", "udp",
                  "host.hutch.internal:%d" % port)
    assert r.returncode == 0, r.stdout
    try:
        r = world.sh("""python3 - <<'END'
import os, socket
def ask(port, data):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("host.hutch.internal", port))
    s.settimeout(120)
    s.send(data)
    return s.recv(70000)
for size in (0, 1, 1472, 1473, 9000, 65400):
    data = os.urandom(size)
    assert ask(%d, data) == data, size
    print(size)
try:
    ask(%d, b"x")
except ConnectionRefusedError:
    print("refused")
END""" % (port, port ^ 1))
    finally:
        done.set()
        thread.join()
        sock.close()
    assert r.stdout.split() == ["0", "1", "1472", "1473", "9000", "65400", "refused"], r.stderr


def test_the_hosts_proxy_is_taken(world):
    """From the environment of the start, or from settings.yaml, which goes before it."""
    seen, password = [], "pr0xy-s3cret-word"

    def answer(line, headers):
        seen.append((line, headers))
        return b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"

    proxy = Proxy(1, answer=answer)
    config = world.path("config", "hutch", "settings.yaml")
    os.makedirs(os.path.dirname(config), exist_ok=True)
    before = open(config).read() if os.path.exists(config) else ""
    url = "http://u:%s@127.0.0.1:%d" % (password, proxy.port)
    world.ok("policy", "allow", "--sandbox", "net", "elsewhere.hello.test")
    ask = "curl -sS -m 120 https://elsewhere.hello.test/ https://api.hello.test/echo; env"
    try:
        world.ok("stop", "net")
        r = world.sh(ask, env={"HTTPS_PROXY": url})
        assert "wants another user name and password (407)" in r.stdout, r.stdout + r.stderr
        assert "hello\n" in r.stdout  # said where it is: not through the proxy
        assert password not in r.stdout
        assert seen[0][0][1] == "elsewhere.hello.test:443" and len(seen) == 1
        world.ok("stop", "net")
        with open(config, "w") as f:
            f.write(before + "network:\n  proxy: none\n")
        world.sh(ask, env={"HTTPS_PROXY": url})
        assert len(seen) == 1
        world.ok("stop", "net")
        with open(config, "w") as f:
            f.write(before + "network:\n  proxy: %s\n" % url)
        world.sh(ask)
        assert len(seen) == 2
    finally:
        proxy.__exit__()
        with open(config, "w") as f:
            f.write(before)
        world.ok("stop", "net")


def test_key_is_injected_and_absent_inside(world):
    r = world.sh('echo "$HELLO_API_KEY"; curl -sS -H "Authorization: Bearer $HELLO_API_KEY" '
                 "https://api.hello.test/echo")
    lines = r.stdout.splitlines()
    assert lines[0] == "proxy-managed"
    assert world.api.seen[-1]["Authorization"] == "Bearer " + SECRET
    entry = wait_for(lambda: [e for e in world.audit("net") if e.get("credential")], what="the line")[-1]
    assert (entry["credential"], entry["verdict"]) == ("hello", "allow")


def test_python_and_node_trust_the_gate(world):
    r = world.sh("python3 -c \"import urllib.request as u; "
                 "print(u.urlopen('https://api.hello.test/echo').status)\"")
    assert r.stdout == "200\n", r.stderr
    r = world.sh("node -e \"require('https').get('https://api.hello.test/echo', "
                 "r => {console.log(r.statusCode); r.resume()})\"")
    assert r.stdout == "200\n", r.stderr


def test_revoked_secret_stops_at_the_next_request(world):
    world.ok("secret", "rm", "hello")
    try:
        world.sh("curl -sS -H \"Authorization: Bearer $HELLO_API_KEY\" https://api.hello.test/echo")
        assert SECRET not in json.dumps(world.api.seen[-1])
    finally:
        assert world.run("secret", "set", "hello", input=SECRET).returncode == 0


def test_apt(world):
    r = world.sh("sudo apt-get update -q && sudo apt-get install -qy --no-install-recommends figlet"
                 " && figlet ok", timeout=600)
    assert r.returncode == 0, r.stdout + r.stderr


def test_npm(world):
    r = world.sh("mkdir -p /tmp/n && cd /tmp/n && npm init -y >/dev/null && "
                 "npm install --no-audit --no-fund is-number && "
                 "node -e \"console.log(require('is-number')(7))\"", timeout=600)
    assert r.stdout.endswith("true\n"), r.stdout + r.stderr


def haystacks(home, name):
    """Every place where a value could have ended up: files, command lines, guest memory, disk."""
    for top, _, names in os.walk(home.box(name)):
        for n in names:
            yield os.path.join(top, n)
    for pid in home.workers(name).values():
        yield "/proc/%d/cmdline" % pid
        yield "/proc/%d/environ" % pid
    qemu = home.workers(name)["qemu"]
    for fd in os.listdir("/proc/%d/fd" % qemu):
        link = "/proc/%d/fd/%s" % (qemu, fd)
        if "memfd:" in os.readlink(link):
            yield link


def contains(path, needle):
    """Search a file's data, passing over holes."""
    with open(path, "rb") as f:
        fd = f.fileno()
        try:
            end = os.lseek(fd, 0, os.SEEK_END)
        except OSError:
            end = 0
        if not end:
            f.seek(0)
            return needle in f.read()
        at = 0
        while at < end:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                return False
            hole = os.lseek(fd, at, os.SEEK_HOLE)
            tail = b""
            while at < hole:
                data = os.pread(fd, min(1 << 22, hole - at), at)
                if not data:
                    break
                if needle in tail + data:
                    return True
                tail = data[-len(needle):]
                at += len(data)
    return False


def test_secret_is_in_no_file_no_argument_and_not_in_the_guest(world):
    """Last: after every test above has used the key."""
    world.sh("curl -sS https://api.hello.test/echo >/dev/null; sync")
    marker = b"marker-" + os.urandom(8).hex().encode()
    world.sh("echo %s > /dev/shm/m; echo %s > ~/m; sync" % ((marker.decode(),) * 2))
    found_marker = False
    for path in haystacks(world, "net"):
        assert not contains(path, SECRET.encode()), path
        found_marker = found_marker or contains(path, marker)
    assert found_marker, "the search does not see guest memory or disk"
