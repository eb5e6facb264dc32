# SPDX-License-Identifier: Apache-2.0
"""The ssh-agent for a sandbox: hutch-ssh between a real ssh, a real ssh-agent and real sshds."""
import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

import pytest

from conftest import BUILD, PATIENCE, wait_for
from programs import free_port
from test_jail import (ATTEMPTS, is_sanitized, needs_hooks, outcome, probe_env,  # noqa: F401
                       victim)

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
pytestmark = [
    pytest.mark.skipif(not os.path.exists(SSHD), reason="openssh-server is not installed"),
    pytest.mark.skipif(os.getuid() != 0, reason="sshd lets only root log in as another user"),
]
MSG = struct.Struct("=HHIIII")
READY, SSH_AGENT = 4, 15


def run(*args, **kw):
    return subprocess.run(args, capture_output=True, text=True, timeout=PATIENCE, **kw)


def keygen(path, kind="ed25519", comment="key"):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", path], check=True)
    os.chmod(path + ".pub", 0o600)  # ssh wants it so where it stands for the private half
    return path


def fingerprint(path):
    return run("ssh-keygen", "-lf", path + ".pub").stdout.split()[1]


class Sshd:
    """An sshd on loopback that lets in whoever has the keys in @authorized."""

    def __init__(self, path, kind, authorized):
        os.makedirs(path)
        self.key = keygen(os.path.join(path, "host"), kind)
        self.config = os.path.join(path, "config")
        self.port = free_port()
        with open(os.path.join(path, "authorized"), "w") as f:
            for k in authorized:
                f.write(open(k + ".pub").read())
        with open(self.config, "w") as f:
            f.write(f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.key}\n"
                    f"AuthorizedKeysFile {path}/authorized\nPermitRootLogin yes\nStrictModes no\n"
                    f"UsePAM no\nPidFile none\nPasswordAuthentication no\n"
                    "KbdInteractiveAuthentication no\n")
        os.makedirs("/run/sshd", exist_ok=True)
        self.log = open(os.path.join(path, "log"), "w")
        self.proc = subprocess.Popen([SSHD, "-D", "-e", "-f", self.config], stderr=self.log)
        self.address = f"127.0.0.1:{self.port}"
        wait_for(self.answers, what="sshd")

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), PATIENCE) as s:
            return s.recv(4) == b"SSH-"

    def known_hosts_line(self, name):
        return f"{name} " + " ".join(open(self.key + ".pub").read().split()[:2]) + "\n"

    def close(self):
        self.proc.kill()
        self.proc.wait()
        self.log.close()


class Agent:
    def __init__(self, path):
        self.socket = path
        self.proc = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(path), what="ssh-agent")
        self.env = dict(os.environ, SSH_AUTH_SOCK=path)

    def add(self, key, *options):
        subprocess.run(["ssh-add", "-q", *options, key], env=self.env, check=True)

    def fingerprints(self):
        return {line.split()[1] for line in run("ssh-add", "-l", env=self.env).stdout.splitlines()
                if "SHA256" in line}

    def close(self):
        self.proc.kill()
        self.proc.wait()


class Filter:
    """hutch-ssh, and a socket file whose connections it gets, in place of the guest's."""

    def __init__(self, path, agent, home, *options, env=None):
        self.box, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        up = socket.socket(socket.AF_UNIX)
        up.connect(agent.socket)
        fds = [theirs.fileno(), up.fileno()]
        path = tempfile.mkdtemp(dir=path)
        self.log_path = os.path.join(path, "ssh.log")

        def table():
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)

        with open(self.log_path, "wb") as stderr:
            self.proc = subprocess.Popen(
                [os.path.join(BUILD, "hutch-ssh"), *options, "--", "testbox"], stderr=stderr,
                stdin=subprocess.DEVNULL, close_fds=False, preexec_fn=table,
                env={**os.environ, "HOME": home, "ASAN_OPTIONS": "detect_leaks=0", **(env or {})})
        theirs.close()
        up.close()
        self.box.settimeout(PATIENCE)
        self.ready = self.box.recv(100)
        if not env:
            assert MSG.unpack(self.ready)[0] == READY, self.log()
        self.path = os.path.join(path, "guest.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(32)
        self.env = dict(os.environ, SSH_AUTH_SOCK=self.path)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self.listener.accept()
                self.hand_over(conn)

    def hand_over(self, conn):
        socket.send_fds(self.box, [MSG.pack(SSH_AGENT, 0, 0, 0, 0, 0)], [conn.fileno()])
        conn.close()

    def connect(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.hand_over(theirs)
        ours.settimeout(PATIENCE)
        return ours

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.box.close()
        assert self.proc.wait(PATIENCE) == 0, self.log()


class World:
    def __init__(self, tmp_path):
        self.dir = str(tmp_path)
        self.home = str(tmp_path / "home")
        os.makedirs(os.path.join(self.home, ".ssh"))
        self.open = []
        self.named = keygen(os.path.join(self.dir, "named"), comment="work laptop")
        self.other = keygen(os.path.join(self.dir, "other"), "rsa", comment="production")
        self.agent = self.keep(Agent(os.path.join(self.dir, "agent.sock")))
        self.agent.add(self.named)
        self.agent.add(self.other)

    def keep(self, thing):
        self.open.append(thing)
        return thing

    def sshd(self, name, kind="ed25519", known=True):
        s = self.keep(Sshd(os.path.join(self.dir, name), kind, [self.named, self.other]))
        if known:
            with open(os.path.join(self.home, ".ssh", "known_hosts"), "a") as f:
                f.write(s.known_hosts_line(name))
        return s

    def filter(self, *options):
        return self.keep(Filter(self.dir, self.agent, self.home, *options))

    def close(self):
        for thing in reversed(self.open):
            thing.close()


@pytest.fixture
def world(tmp_path):
    w = World(tmp_path)
    yield w
    w.close()


def login(env, server, key=None, *options):
    """What ssh prints, and whether it got in. @key: the public half only, so the agent has to sign."""
    identity = ["-o", "IdentitiesOnly=yes", "-i", key + ".pub"] if key else []
    r = run("ssh", "-F", "none", "-p", str(server.port), "-o", "BatchMode=yes", *identity,
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", *options,
            "root@127.0.0.1", "echo inside", env=env)
    return r.stdout == "inside\n", r.stderr


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_named_key_at_a_named_host(world, kind):
    server, elsewhere = world.sshd("git.example", kind), world.sshd("other.example", kind)
    f = world.filter("--key=work laptop", "--host=git.example")
    assert {line.split()[1] for line in run("ssh-add", "-l", env=f.env).stdout.splitlines()} == {
        fingerprint(world.named)}
    ok, err = login(f.env, server)
    assert ok, (err, f.log())
    ok, err = login(f.env, elsewhere)
    assert not ok and "agent refused" in err, err
    assert "not a host of this sandbox" in f.log()
    # the agent itself would have done it
    assert login(world.agent.env, elsewhere)[0]


def test_other_key_is_refused_even_if_it_is_known(world):
    server = world.sshd("git.example")
    f = world.filter("--key=" + fingerprint(world.named), "--host=git.example")
    assert login(f.env, server, world.named)[0], f.log()
    assert not login(f.env, server, world.other)[0]
    # not listed, so ssh does not even try; somebody else might
    f = world.filter("--key=" + fingerprint(world.named), "--any-host")
    c = f.connect()
    for key, kind in ((world.named, 14), (world.other, 5)):
        blob = base64.b64decode(open(key + ".pub").read().split()[1])
        c.sendall(frame(13, string(blob), string(b"anything"), struct.pack("!I", 0)))
        assert answer(c)[0] == kind
    assert "not a key of this sandbox" in f.log()


def test_host_by_fingerprint_and_by_hashed_name(world):
    a, b = world.sshd("a.example", known=False), world.sshd("b.example")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f",
                    os.path.join(world.home, ".ssh", "known_hosts")], check=True,
                   capture_output=True)
    f = world.filter("--key=work laptop", "--host=" + fingerprint(a.key), "--host=b.example")
    assert login(f.env, a)[0] and login(f.env, b)[0], f.log()


def test_other_signatures_are_refused(world):
    server = world.sshd("git.example")
    f = world.filter("--key=work laptop", "--host=git.example")
    text = os.path.join(world.dir, "text")
    with open(text, "w") as out:
        out.write("a commit\n")
    sign = ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", world.named + ".pub", text]
    os.rename(world.named, world.named + ".away")
    assert run(*sign, env=f.env).returncode != 0
    # also behind a log-in of the same connection's kind
    assert login(f.env, server)[0]
    assert run(*sign, env=f.env).returncode != 0


def test_signatures_of_a_namespace(world):
    """git signs commits so: with any key of the agent, and without a log-in anywhere."""
    server = world.sshd("git.example")
    f = world.filter("--any-key", "--sign=git", "--sign=file")
    text = os.path.join(world.dir, "text")
    with open(text, "w") as out:
        out.write("a commit\n")
    for key in (world.named, world.other):
        os.rename(key, key + ".away")

    def sign(key, namespace):
        if os.path.exists(text + ".sig"):
            os.unlink(text + ".sig")
        return run("ssh-keygen", "-Y", "sign", "-n", namespace, "-f", key + ".pub", text,
                   env=f.env).returncode == 0

    assert sign(world.named, "git") and sign(world.other, "file")
    assert run("ssh-keygen", "-Y", "check-novalidate", "-n", "file", "-s", text + ".sig",
               input="a commit\n").returncode == 0
    assert not sign(world.named, "mail") and "not a signature of this sandbox" in f.log()
    assert not login(f.env, server)[0] and "not a host of this sandbox" in f.log()


def test_log_in_as_a_named_user(world):
    server = world.sshd("git.example")
    assert login(world.filter("--any-key", "--host=root@git.example").env, server)[0]
    f = world.filter("--any-key", "--host=git@git.example")
    assert not login(f.env, server)[0] and "not a host of this sandbox" in f.log()


def test_unrestricted(world):
    server = world.sshd("anywhere.example", known=False)
    f = world.filter("--key=work laptop", "--any-host")
    text = os.path.join(world.dir, "text")
    with open(text, "w") as out:
        out.write("a commit\n")
    os.rename(world.named, world.named + ".away")
    r = run("ssh-keygen", "-Y", "sign", "-n", "git", "-f", world.named + ".pub", text, env=f.env)
    assert r.returncode == 0, (r.stderr, f.log())
    assert login(f.env, server)[0]
    assert not login(f.env, server, world.other)[0]


def test_agent_cannot_be_changed(world):
    new = keygen(os.path.join(world.dir, "new"))
    f = world.filter("--key=work laptop", "--any-host")
    before = world.agent.fingerprints()
    for args in (["-D"], ["-d", world.named + ".pub"], [new], ["-c", new]):
        assert run("ssh-add", *args, env=f.env).returncode != 0, args
    assert run("ssh-add", "-x", env=f.env, input="pw\npw\n").returncode != 0
    assert world.agent.fingerprints() == before and len(before) == 2


def test_forwarding_does_not_reach_further(world):
    """ssh -A to a named host: what runs there may not use the agent."""
    server, elsewhere = world.sshd("git.example"), world.sshd("other.example")
    f = world.filter("--key=work laptop", "--host=git.example", "--host=other.example")
    r = run("ssh", "-F", "none", "-A", "-p", str(server.port), "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "root@127.0.0.1", "ssh -F none -p %d -o BatchMode=yes -o StrictHostKeyChecking=no "
            "-o UserKnownHostsFile=/dev/null root@127.0.0.1 echo inside" % elsewhere.port, env=f.env)
    assert "inside" not in r.stdout, f.log()
    assert "could not be bound" in f.log() or "cannot be bound" in f.log()


def frame(kind, *parts):
    body = bytes([kind]) + b"".join(parts)
    return struct.pack("!I", len(body)) + body


def string(b):
    return struct.pack("!I", len(b)) + b


def answer(conn):
    size = struct.unpack("!I", conn.recv(4, socket.MSG_WAITALL))[0]
    return conn.recv(size, socket.MSG_WAITALL)


def test_forged_sessions(world):
    """A client that lies about where it is."""
    server = world.sshd("git.example")
    f = world.filter("--key=work laptop", "--host=git.example")
    host_key = base64.b64decode(open(server.key + ".pub").read().split()[1])
    blob = base64.b64decode(open(world.named + ".pub").read().split()[1])
    session = hashlib.sha256(b"x").digest()
    login_data = (string(session) + bytes([50]) + string(b"root") + string(b"ssh-connection")
                  + string(b"publickey") + b"\1" + string(b"ssh-ed25519") + string(blob))
    sign = frame(13, string(blob), string(login_data), struct.pack("!I", 0))
    bind = frame(27, string(b"session-bind@openssh.com"), string(host_key), string(session),
                 string(string(b"ssh-ed25519") + string(b"s" * 64)), b"\0")
    c = f.connect()
    c.sendall(sign)
    assert answer(c) == b"\5"  # nothing bound
    c.sendall(bind)
    assert answer(c) == b"\5"  # no signature of the host
    c.sendall(sign)
    assert answer(c) == b"\5"
    c.sendall(frame(11))
    assert answer(c)[0] == 12  # it still lists


@pytest.mark.parametrize("data", [
    b"\0\0\0\0", b"\xff\xff\xff\xff", struct.pack("!I", (256 << 10) + 1)], ids=range(3))
def test_malformed_length_ends_the_connection(world, data):
    f = world.filter("--key=x", "--any-host")
    c = f.connect()
    c.sendall(data)
    assert c.recv(10) == b""
    c = f.connect()
    c.sendall(frame(11))
    assert answer(c) == b"\x0c\0\0\0\0"  # no key of that name


def test_byte_by_byte_and_many_at_once(world):
    f = world.filter("--key=work laptop", "--any-host")
    c = f.connect()
    for b in frame(11) + frame(200) + frame(27, string(b"query")):
        c.sendall(bytes([b]))
    assert answer(c)[0] == 12 and answer(c) == b"\5" and answer(c) == b"\5"
    c.sendall(frame(11) * 50)
    assert {answer(c)[:5] for _ in range(50)} == {b"\x0c\0\0\0\1"}
    many = [f.connect() for _ in range(20)]
    for m in many[:15]:
        m.sendall(frame(11))
        assert answer(m)[0] == 12
    assert many[19].recv(10) == b""  # more than it serves


def test_agent_goes(world):
    f = world.filter("--key=work laptop", "--any-host")
    c = f.connect()
    c.sendall(frame(11))
    assert answer(c)[0] == 12
    world.agent.proc.kill()
    world.agent.proc.wait()
    c.sendall(frame(11))
    assert answer(c) == b"\5"


@needs_hooks
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_process_cannot(world, tmp_path, victim, probe_env, attempt):  # noqa: F811
    f = Filter(world.dir, world.agent, world.home, "--key=x", "--any-host",
               env=probe_env("ssh", attempt))
    f.listener.close()
    f.box.close()
    code = f.proc.wait(PATIENCE)
    result = outcome(f.log(), code, "ssh", attempt)
    assert result == "killed" or (code == 0 and MSG.unpack(f.ready)[0] == READY), f.log()
    assert victim.poll() is None and not (tmp_path / "new").exists()
    # AddressSanitizer needs a few; a root directory with nothing in it remains
    assert result != 0 or (is_sanitized() and attempt == "executable-memory"), f.log()
