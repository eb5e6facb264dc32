# SPDX-License-Identifier: Apache-2.0
"""What a taken-over process could still do: a hook of the test build makes each confined thread try."""
import array
import contextlib
import errno
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess

import pytest

from conftest import BUILD, HUTCH, PATIENCE, REPO, alive, wait_for
from gate_driver import Gate

EXPORT, SEAL, READY = 1, 3, 4
MSG = struct.Struct("=HHIIII")  # type, port, id, addr, arg, len
ATTEMPTS = ["open", "openat2", "write", "socket", "unix-socket", "raw-socket", "exec", "fork",
            "ptrace", "mount", "kill", "unshare", "executable-memory", "io-uring"]
LANDLOCK, SECCOMP, USERNS = 128, 256, 1  # enum jail_layer


def has_hooks():
    with open(os.path.join(BUILD, "hutch-vmm"), "rb") as f:
        return b"HUTCH_TEST_PROBE" in f.read()


def is_sanitized():
    with open(os.path.join(BUILD, "hutch-vmm"), "rb") as f:
        return b"__asan_init" in f.read()


needs_hooks = pytest.mark.skipif(not has_hooks(), reason="this build has no test hooks (-Dtests=true)")


class Vmm:
    """hutch-vmm as hutch-box starts it, without a virtual machine."""

    def __init__(self, tmp, exports=(), env=None, wrap=(), binary=None):
        self.log_path = os.path.join(tmp, "vmm.log")
        self.box, box = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.gate, gate = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fs, fs = socket.socketpair()
        self.vsock, vsock = socket.socketpair()
        net = socket.socket(socket.AF_UNIX)
        net.bind(os.path.join(tmp, "net.sock"))
        net.listen(1)
        ends = [box, gate, fs, net, vsock]

        def table():
            high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 100) for s in ends]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)

        with open(self.log_path, "wb") as log:
            self.proc = subprocess.Popen(
                [*wrap, binary or os.path.join(BUILD, "hutch-vmm"), "--serve", "test"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=False,
                preexec_fn=table, env=dict(os.environ, **(env or {})))
        for s in ends:
            s.close()
        for i, (path, read_only) in enumerate(exports):
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
            name = str(i).encode()
            self.send(EXPORT, read_only, name, [fd])
            os.close(fd)

    def send(self, kind, arg=0, data=b"", fds=()):
        self.box.sendmsg([MSG.pack(kind, 0, 0, 0, arg, len(data)) + data],
                         [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])

    def ready(self):
        """The layers that it lacks, or None when it died first."""
        self.box.settimeout(PATIENCE)
        data = self.box.recv(8192)
        if not data:
            return None
        kind, _, _, _, missing, _ = MSG.unpack_from(data)
        assert kind == READY
        return missing

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def tasks(self):
        found = []
        for tid in os.listdir("/proc/%d/task" % self.proc.pid):
            with contextlib.suppress(OSError), open(
                    "/proc/%d/task/%s/status" % (self.proc.pid, tid)) as f:
                found.append(dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line))
        return found

    def wait_confined(self):
        """All threads: main, files and closer; each confines itself before it serves."""
        wait_for(lambda: [t["Seccomp"] for t in self.tasks()] == ["2"] * 3, what="the filters")

    def close(self):
        self.proc.kill()
        self.proc.wait()
        for s in (self.box, self.gate, self.fs, self.vsock):
            s.close()


@pytest.fixture
def victim():
    p = subprocess.Popen(["sleep", "300"])
    yield p
    p.kill()
    p.wait()


@pytest.fixture
def probe_env(tmp_path, victim):
    secret = tmp_path / "secret"
    secret.write_text("of the user")

    def env(who, attempt):
        # What a write must not make anew lies where nobody may write.
        return {"HUTCH_TEST_PROBE": "%s:%s" % (who, attempt), "HUTCH_TEST_VICTIM": str(victim.pid),
                "HUTCH_TEST_FILE": str(tmp_path / "new") if attempt == "write" else str(secret)}
    return env


def outcome(log, returncode, who, attempt):
    """"killed" by the filter, or the errno of a refusal; 0 when it worked."""
    m = re.search(r"^probe %s %s errno=(\d+)$" % (who, attempt), log, re.M)
    if m:
        return int(m[1])
    assert returncode == -signal.SIGSYS, (returncode, log)
    return "killed"


@needs_hooks
@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("who", ["vmm", "vmm-files", "vmm-closer"])
def test_vmm_thread_cannot(tmp_path, victim, probe_env, who, attempt):
    share = tmp_path / "share"
    share.mkdir()
    v = Vmm(str(tmp_path), [(str(share), False)], probe_env(who, attempt))
    v.send(SEAL)
    try:
        wait_for(lambda: "probe " in v.log() or v.proc.poll() is not None, what="the attempt")
        result = outcome(v.log(), v.proc.poll(), who, attempt)
    finally:
        v.close()
    assert alive(victim.pid) and not (tmp_path / "new").exists()
    if (who, attempt) == ("vmm-files", "openat2"):
        assert result == errno.ENOENT  # its own call; the file is in no root of this process
    elif is_sanitized() and attempt in ("open", "write", "fork"):
        assert result in (errno.EACCES, errno.EPERM)
    elif is_sanitized() and attempt == "executable-memory":
        assert result == 0  # the sanitizer's own list; the plain build refuses it
    else:
        assert result == "killed"


@needs_hooks
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_gate_cannot(tmp_path, victim, probe_env, monkeypatch, attempt):
    for key, value in probe_env("gate", attempt).items():
        monkeypatch.setenv(key, value)
    gate = Gate(str(tmp_path))
    try:
        with gate:
            pass
        code = 0
    except (AssertionError, OSError):
        code = gate.proc.wait(PATIENCE)
    result = outcome(gate.log(), code, "gate", attempt)
    assert result == "killed" or code == 0, gate.log()
    assert alive(victim.pid) and not (tmp_path / "new").exists()
    if attempt == "socket":
        assert result == 0  # what it is for
    elif attempt in ("open", "write"):
        assert result == errno.EACCES  # Landlock
    elif is_sanitized() and attempt in ("ptrace", "fork", "executable-memory"):
        # Needed by the leak check; no_new_privs and Landlock remain.
        assert attempt == "executable-memory" or result in (errno.EPERM, errno.EAGAIN, "killed")
    elif attempt in ("openat2", "unix-socket", "raw-socket", "executable-memory", "fork"):
        assert result == errno.EPERM
    else:
        assert result == "killed"


@needs_hooks
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_box_cannot(home, victim, probe_env, attempt):
    """The supervisor dies in its attempt, or is refused and goes on."""
    work = home.path("work")
    os.makedirs(work)
    log = home.box("j", "box.log")
    p = subprocess.Popen([HUTCH, "create", "--name", "j", "shell", work], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, env=dict(home.env, **probe_env("box", attempt)))

    def decided():
        if os.path.exists(log):
            with contextlib.suppress(OSError), open(log) as f:
                m = re.search(r"^probe box %s errno=(\d+)$" % attempt, f.read(), re.M)
                if m:
                    return "errno", int(m[1])
        if p.poll() is not None:
            assert b"died at its start" in p.stderr.read()
            return "killed", None
        return None

    try:
        result = wait_for(decided, what="the attempt")
    finally:
        p.kill()
        p.wait()
        home.run("rm", "-f", "j")
    result = result[0] if result[0] == "killed" else result[1]
    assert alive(victim.pid)
    if attempt in ("open", "write"):
        assert result == errno.EACCES
    elif attempt in ("openat2", "socket", "unix-socket", "raw-socket", "fork"):
        assert result == errno.EPERM
    elif attempt == "executable-memory":
        assert result == (0 if is_sanitized() else errno.EPERM)
    else:
        assert result == "killed"


# ---- everything that is legitimate still works ----

FILE_OPERATIONS = r"""
import ctypes, errno, fcntl, mmap, os, socket, stat, struct
os.chdir("ops")
libc = ctypes.CDLL(None, use_errno=True)

def renameat2(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")

os.makedirs("d/e")
fd = os.open("d/f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
assert os.write(fd, b"x" * 100000) == 100000
assert os.pread(fd, 10, 99990) == b"x" * 10
assert os.preadv(fd, [bytearray(5), bytearray(5)], 0) == 10
os.pwritev(fd, [b"ab", b"cd"], 50)
os.posix_fallocate(fd, 0, 1 << 20)
libc.fallocate(fd, 3, ctypes.c_long(4096), ctypes.c_long(8192))  # punch a hole
os.lseek(fd, 0, os.SEEK_DATA)
os.lseek(fd, 0, os.SEEK_HOLE)
os.ftruncate(fd, 200000)
os.truncate("d/f", 150000)
os.fsync(fd); os.fdatasync(fd); os.fchmod(fd, 0o600); os.chmod("d/f", 0o644)
os.utime("d/f", (1, 2)); os.utime(fd); os.utime("d", (3, 4))
out = os.open("d/copy", os.O_RDWR | os.O_CREAT, 0o600)
os.lseek(fd, 0, 0)
assert os.copy_file_range(fd, out, 1000) == 1000
os.syncfs(fd) if hasattr(os, "syncfs") else libc.syncfs(fd)
os.statvfs("."); os.fstatvfs(fd); os.sync()
m = mmap.mmap(fd, 4096); m[0:2] = b"mm"; m.flush(); m.close()
for where in ("d/f", fd):
    try:
        os.setxattr(where, "user.k", b"v")
        assert os.getxattr(where, "user.k") == b"v" and "user.k" in os.listxattr(where)
        os.removexattr(where, "user.k")
    except OSError as e:
        assert e.errno == errno.EOPNOTSUPP, e
os.link("d/f", "d/e/hard"); os.symlink("f", "d/soft"); assert os.readlink("d/soft") == "f"
os.mkfifo("d/fifo"); s = socket.socket(socket.AF_UNIX); s.bind("d/sock")
os.rename("d/e/hard", "moved"); os.rename("moved", "d/hard")          # between directories
renameat2("d/copy", "copy", 1); renameat2("copy", "d/f", 2)            # no replace, exchange
try:
    renameat2("copy", "d/f", 1); raise SystemExit("replaced")
except OSError as e:
    assert e.errno == errno.EEXIST
os.rename("d/e", "e2"); os.mkdir("e2/sub"); os.rename("e2/sub", "d/sub")
os.unlink("d/f"); assert os.fstat(fd).st_size >= 1000                  # nameless and open
os.write(fd, b"still"); os.ftruncate(fd, 10); os.fchmod(fd, 0o600); os.utime(fd, (5, 6))
fcntl.flock(fd, fcntl.LOCK_EX); fcntl.lockf(fd, fcntl.LOCK_UN)
for i in range(300):
    open("d/sub/%03d" % i, "w").close()
assert len(os.listdir("d/sub")) == 300 and sum(1 for e in os.scandir("d/sub") if e.is_file()) == 300
try:
    os.mknod("d/null", stat.S_IFCHR | 0o600, os.makedev(1, 3)); raise SystemExit("made a device")
except OSError as e:
    assert e.errno == errno.EPERM, e
for top, dirs, files in os.walk(".", topdown=False):
    for n in files: os.unlink(os.path.join(top, n))
    for n in dirs:
        p = os.path.join(top, n)
        os.unlink(p) if os.path.islink(p) else os.rmdir(p)
assert os.listdir(".") == []
print("all good")
"""


@pytest.fixture(scope="module")
def jailed(shared_home):
    """A running sandbox with a shared folder to write to and one to read: (home, name)."""
    for name in ("jw", "jr"):
        os.makedirs(shared_home.path(name))
    shared_home.ok("create", "--strict", "--name", "jailed", "shell", shared_home.path("jw"),
                   shared_home.path("jr") + ":ro")
    return shared_home, "jailed"


def test_every_file_operation_still_works(jailed):
    home, name = jailed
    os.makedirs(home.path("jw", "ops"), exist_ok=True)
    for user in ([], ["-u", "root"]):
        r = home.run("exec", *user, name, "--", "python3", "-c", FILE_OPERATIONS)
        assert r.stdout == "all good\n", r.stderr
    r = home.run("exec", name, "--", "sh", "-c", "ls %s && touch %s/x" % ((home.path("jr"),) * 2))
    assert r.returncode != 0 and "Read-only" in r.stderr
    with open(home.box(name, "box.log")) as f:
        log = f.read()
    assert "refuses isolation" not in log and "SIGSYS" not in log


def test_every_process_is_confined(jailed):
    """Seen from outside: filters on every thread, no capability, no new privilege, namespaces."""
    home, name = jailed
    workers = home.workers(name)
    assert set(workers) == {"hutch-box", "hutch-vmm", "hutch-gate", "qemu"}
    for program, pid in workers.items():
        for tid in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/status" % (pid, tid)) as f:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
            assert status["Seccomp"] == "2", (program, tid)
            assert status["NoNewPrivs"] == "1", (program, tid)
            assert program == "hutch-box" or int(status["CapBnd"], 16) == 0
            assert int(status["CapEff"], 16) == 0, program
        with open("/proc/%d/limits" % pid) as f:
            limits = f.read()
        assert re.search(r"Max core file size +0 +0 ", limits), program
        own = {"hutch-vmm": ["user", "pid", "net", "ipc", "mnt"], "qemu": ["user", "pid", "net", "ipc", "mnt"],
               "hutch-gate": ["user", "pid", "ipc"], "hutch-box": []}[program]
        for ns in own:
            assert os.readlink("/proc/%d/ns/%s" % (pid, ns)) != os.readlink("/proc/self/ns/" + ns)
    assert os.listdir("/proc/%d/root" % workers["hutch-vmm"]) == []
    # Of what has a socket to connect to, qemu has the one that its network device is at.
    root = "/proc/%d/root" % workers["qemu"]
    assert os.listdir(root + home.runtime + "/hutch") == [name + ".net"]
    assert not any(os.path.lexists(root + path) for path in ("/run/dbus", "/var", "/etc/passwd"))


@pytest.mark.parametrize("stopped", [False, True])
def test_supervisor_killed(home, stopped):
    """The others end with it, even when they can do nothing about it themselves."""
    work = home.path("work")
    os.makedirs(work)
    home.ok("create", "--name", "k", "shell", work)
    workers = home.workers("k")
    for program, pid in workers.items():
        if stopped and program != "hutch-box":
            os.kill(pid, signal.SIGSTOP)
    os.kill(workers["hutch-box"], signal.SIGKILL)
    wait_for(lambda: not any(alive(p) for p in workers.values()), what="the others to end")


@needs_hooks
def test_death_by_the_filter_is_told(home):
    work = home.path("work")
    os.makedirs(work)
    r = home.run("create", "--name", "s", "shell", work,
                 env={"HUTCH_TEST_PROBE": "vmm-files:exec"})
    assert r.returncode == 125
    assert "worker=hutch-vmm killed by SIGSYS" in r.stderr
    assert not os.path.exists(home.box("s"))


def without_user_namespaces(*command):
    """A command where no user namespace can be made."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec",
            'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"', "sh", *command]


def test_refused_layers_are_told_and_strict_refuses(home):
    work = home.path("work")
    os.makedirs(work)
    run = lambda *args: subprocess.run(without_user_namespaces(HUTCH, *args), env=home.env,
                                       stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                       timeout=240)
    r = run("run", "--rm", "--strict", "shell", work, "--", "-c", "echo ran")
    assert r.returncode == 125 and r.stdout == ""
    lines = r.stderr.splitlines()
    assert "refuses isolation layers" in lines[-2] and "user-namespace" in lines[-2]
    assert "hutch doctor" in lines[-1]
    assert os.listdir(home.path("state", "hutch", "boxes")) == []
    assert os.listdir(os.path.join(home.runtime, "hutch")) == []
    r = run("run", "--rm", "shell", work, "--", "-c", "echo ran")
    assert r.returncode == 0 and r.stdout == "ran\n", r.stderr
    assert "refuses isolation layers" in r.stderr
    r = run("doctor")
    assert "user-namespace" in r.stdout and "sysctl" in r.stdout


def test_vmm_without_namespaces_keeps_the_other_layers(tmp_path):
    v = Vmm(str(tmp_path), wrap=without_user_namespaces())
    v.send(SEAL)
    try:
        missing = v.ready()
        assert missing is not None, v.log()
        assert missing & USERNS and not missing & (LANDLOCK | SECCOMP), missing
        v.wait_confined()
    finally:
        v.close()


# ---- what is built ----

@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A build as it is installed."""
    path = str(tmp_path_factory.mktemp("release"))
    subprocess.run(["meson", "setup", path, REPO], check=True, capture_output=True)
    subprocess.run(["ninja", "-C", path, "hutch-vmm", "hutch-gate", "hutch-box"], check=True,
                   capture_output=True)
    return path


def test_release_has_no_hook(release):
    for program in ("hutch-vmm", "hutch-gate", "hutch-box"):
        with open(os.path.join(release, program), "rb") as f:
            data = f.read()
        assert b"HUTCH_TEST" not in data and b"jail_probe" not in data
        for name in os.listdir(os.path.join(release, "src")):
            header = os.path.join(release, "src", name, "filters.h")
            if os.path.exists(header):
                with open(header) as f:
                    assert "__NR_sigaltstack" not in f.read()  # only sanitizers need it


def test_release_is_confined(release, tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    v = Vmm(str(tmp_path), [(str(share), True)], binary=os.path.join(release, "hutch-vmm"),
            env={"HUTCH_TEST_PROBE": "vmm:exec"})
    v.send(SEAL)
    try:
        assert v.ready() == 0, v.log()
        v.wait_confined()
    finally:
        v.close()


@pytest.mark.parametrize("text,says", [
    ("syscalls(a): +b", "no list is called b"),
    ("syscalls(a): +a", "contains itself"),
    ("syscalls(a): read(X)", "no argument of read is known"),
    ("syscalls(a): mmap(PROT_READ)=EPERM", "cannot be read"),
    ("syscalls(a): 3read", "cannot be read"),
    ("syscalls(a):", "empty"),
    ("syscalls(A b): read", "not a name"),
    ("syscalls(z): read", "no list is called a"),
])
def test_bad_lists_fail_the_build(tmp_path, text, says):
    (tmp_path / "x.c").write_text("int x;\n/* %s */\n" % text)
    r = subprocess.run([os.path.join(REPO, "tools", "gen-seccomp"), "--out", str(tmp_path / "h"),
                        "--filter", "a=KILL", str(tmp_path)], capture_output=True, text=True)
    assert r.returncode != 0 and says in r.stderr, r.stderr
    assert not (tmp_path / "h").exists()
