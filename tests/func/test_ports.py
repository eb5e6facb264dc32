# SPDX-License-Identifier: Apache-2.0
"""Published ports of a real sandbox, and clients that behave badly."""
import json
import os
import re
import socket
import time

import pytest

from conftest import PATIENCE
from programs import free_port
from test_kits import write

# A server on the guest's loopback: echoes a line in capitals, then all that follows, until the end.
SERVER = r"""
import socket, threading
def serve(c):
    f = c.makefile("rb")
    line = f.readline()
    if line == b"quiet\n":
        c.shutdown(socket.SHUT_WR)
        n = len(f.read())
        print(n, flush=True)
        return c.close()
    c.sendall(line.upper())
    while True:
        data = f.read1(65536)
        if not data:
            break
        c.sendall(data)
    c.sendall(b"bye\n")
    c.close()
def udp(u):
    while True:
        data, peer = u.recvfrom(65536)
        for _ in range(2 if data == b"twice" else 1):
            u.sendto(b"%d:" % peer[1] + data.upper(), peer)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("127.0.0.1", 53))
threading.Thread(target=udp, args=(u,), daemon=True).start()
s = socket.create_server(("127.0.0.1", 7000))
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
KIT = """schemaVersion: "2"
kind: mixin
name: web
ports:
  - {container: 7000, name: echo}
  - {container: 7001}
  - {container: 53, protocol: udp}
setup:
  files:
    - path: /usr/local/lib/server.py
      content: |
%s
  startup:
    - {command: [python3, /usr/local/lib/server.py], background: true}
""" % "".join("        %s\n" % line for line in SERVER.strip("\n").split("\n"))


def ports(home, name="p"):
    return {(p["container"], p["protocol"]): p for p in json.loads(home.ok("ports", name, "--json"))}


def talk(port, data, seconds=PATIENCE):
    """All that comes back; the server may not be there yet."""
    end = time.monotonic() + seconds
    while True:
        out = b""
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as c:
            try:
                c.sendall(data)
                c.shutdown(socket.SHUT_WR)
                while chunk := c.recv(65536):
                    out += chunk
            except OSError:  # nobody listens there, in the guest
                pass
        if out or time.monotonic() > end:
            return out
        time.sleep(0.5)


@pytest.fixture(scope="module")
def running(shared_home):
    home = shared_home
    os.makedirs(home.path("work"))
    r = home.run("create", "--name", "p", "--kit", write(home, "web", KIT), "shell", home.path("work"))
    assert r.returncode == 0, r.stderr
    assert "published" not in r.stderr
    return home


def test_published(running):
    home = running
    table = ports(home)
    assert set(table) == {(7000, "tcp"), (7001, "tcp"), (53, "udp")}
    p = table[7000, "tcp"]
    assert (p["address"], p["name"], p["from"]) == ("127.0.0.1", "echo", "web")
    assert 0 < table[53, "udp"]["port"] != p["port"]
    assert talk(p["port"], b"hello\nmore") == b"HELLO\nmorebye\n"
    assert "127.0.0.1:%d" % p["port"] in home.ok("ports", "p")
    # Nobody listens on the other one: the connection ends.
    assert talk(table[7001, "tcp"]["port"], b"x", 0) == b""
    # Only this machine reaches it.
    with open("/proc/net/tcp") as f:
        listening = [line.split()[1] for line in f if line.split()[3] == "0A"]
    assert [a for a in listening if a.endswith(":%04X" % p["port"])] == ["0100007F:%04X" % p["port"]]


def ask(c, data, seconds=PATIENCE):
    """The answer to a datagram, sent again until there is one; others are those to earlier copies."""
    end = time.monotonic() + seconds
    c.settimeout(2)
    while True:
        c.send(data)
        try:
            while True:
                got = c.recv(65536)
                if got.split(b":", 1)[1] == data.upper():
                    return got
        except socket.timeout:
            assert time.monotonic() < end


def udp_client(port):
    c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    c.connect(("127.0.0.1", port))
    return c


def test_udp(running):
    """Datagrams stay whole, each peer has its own port in the guest, and its answers alone."""
    home = running
    port = ports(home)[53, "udp"]["port"]
    with udp_client(port) as a, udp_client(port) as b:
        first, second = ask(a, b"hello"), ask(b, b"hello")
        assert first.split(b":")[1] == second.split(b":")[1] == b"HELLO" and first != second
        assert ask(a, b"") == first.split(b":")[0] + b":"
        assert ask(a, b"x" * 40000).endswith(b":" + b"X" * 40000)
        a.send(b"twice")
        a.settimeout(PATIENCE)
        for _ in range(2):
            while not a.recv(65536).endswith(b":TWICE"):
                pass
        b.settimeout(1)
        with pytest.raises(socket.timeout):
            while not b.recv(65536).endswith(b":TWICE"):
                pass
        # More peers than there are flows: the last one is served, and the first one again.
        for i in range(140):
            with udp_client(port) as c:
                c.send(b"flood")
        assert ask(b, b"there").endswith(b":THERE") and ask(a, b"here").endswith(b":HERE")
    chosen = free_port()
    home.ok("ports", "p", "--publish", "127.0.0.1:%d:53/udp" % chosen)
    assert ports(home)[53, "udp"]["port"] == chosen
    with udp_client(chosen) as c:
        assert ask(c, b"x").endswith(b":X")
    with udp_client(port) as c, pytest.raises(ConnectionRefusedError):
        ask(c, b"x", 5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        r = home.run("ports", "p", "--publish", "%d:53/udp" % s.getsockname()[1])
        assert r.returncode == 125 and "Address already in use" in r.stderr
    # Only this machine reaches it; ls shows it as ports does.
    with open("/proc/net/udp") as f:
        bound = [line.split()[1] for line in f if line.split()[1].endswith(":%04X" % chosen)]
    assert bound == ["0100007F:%04X" % chosen]
    row, = [x for x in json.loads(home.ok("ls", "--json")) if x["name"] == "p"]
    assert {(p["container"], p["protocol"]): p for p in row["ports"]} == ports(home)


def test_data_is_whole(running):
    port = ports(running)[7000, "tcp"]["port"]
    data = os.urandom(1 << 20)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as c:
        c.sendall(b"x\n")
        assert c.recv(2) == b"X\n"
        got = bytearray()
        for i in range(0, len(data), 65536):
            c.sendall(data[i:i + 65536])
            while len(got) < i + 65536:
                got += c.recv(1 << 20)
        assert bytes(got) == data


def test_clients_that_do_not_read(running):
    """They stall nobody: neither others, nor the supervisor."""
    port = ports(running)[7000, "tcp"]["port"]
    bad = []
    for i in range(20):
        c = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        c.setblocking(False)
        bad.append(c)
        try:
            while c.send(bytes(65536)):
                pass
        except BlockingIOError:
            pass
    assert talk(port, b"hello\n") == b"HELLO\nbye\n"
    running.ok("ports", "p")
    for c in bad:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.close()
    for _ in range(5):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    assert talk(port, b"hello\n") == b"HELLO\nbye\n"


def test_changes(running):
    home, port, second = running, free_port(), free_port()
    home.ok("ports", "p", "--publish", "%d:7000" % port)
    assert ports(home)[7000, "tcp"]["port"] == port and talk(port, b"a\n") == b"A\nbye\n"
    home.ok("ports", "p", "--publish", "%d:7000" % port)  # as it is
    home.ok("ports", "--publish", "%d:7000" % second, "p")
    assert talk(second, b"a\n") == b"A\nbye\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    with socket.create_server(("127.0.0.1", port)):
        r = home.run("ports", "p", "--publish", "%d:7000" % port)
        assert r.returncode == 125 and "Address already in use" in r.stderr
    assert ports(home)[7000, "tcp"]["port"] == second
    said = home.ok("ports", "p", "--publish", "7002")  # which one it is
    assert re.search(r"^7002/tcp +127\.0\.0\.1:\d+ ", said, re.M), said
    assert ports(home)[7002, "tcp"]["from"] == "user"
    home.ok("ports", "p", "--unpublish", "7002", "--unpublish", "7001")
    assert set(ports(home)) == {(7000, "tcp"), (53, "udp")}
    assert home.run("ports", "p", "--unpublish", "7001").returncode == 125
    for bad in ("0", "65536", "a", "1:2:3", ":1", "1:", "-1", "", "1/sctp", "1/", "/udp", "1/udp:2",
                "0.0.0.0:1:2", "127.0.0.1:", "127.0.0.1:1:2:3"):
        assert home.run("ports", "p", "--publish", bad).returncode == 125, bad
    assert home.run("ports", "none").returncode == 125


def test_next_start(running):
    """What was chosen is kept; a port that somebody else took is told and does not keep it from starting."""
    home = running
    port = ports(home)[7000, "tcp"]["port"]
    home.ok("stop", "p")
    assert ports(home)[7000, "tcp"]["port"] is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    assert "7003/tcp" in home.ok("ports", "p", "--publish", "7003")
    home.ok("exec", "p", "true")
    assert ports(home)[7000, "tcp"]["port"] == port and ports(home)[7003, "tcp"]["port"]
    assert talk(port, b"again\n") == b"AGAIN\nbye\n"
    home.ok("stop", "p")
    with socket.create_server(("127.0.0.1", port)):
        r = home.run("exec", "p", "true")
        assert r.returncode == 0
        assert "port 7000/tcp is not published at 127.0.0.1:%d: Address already in use" % port in r.stderr
        assert ports(home)[7000, "tcp"]["port"] is None
    home.ok("ports", "p", "--publish", "%d:7000" % port)
    assert ports(home)[7000, "tcp"]["port"] == port and talk(port, b"free\n") == b"FREE\nbye\n"
