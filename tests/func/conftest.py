# SPDX-License-Identifier: Apache-2.0
"""The real command line in a home of its own; images are prepared once and kept by content."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("HUTCH_BUILD", os.path.join(REPO, "build"))
HUTCH = os.path.join(BUILD, "hutch")
CACHE = os.environ.get("HUTCH_TEST_DATA", os.path.expanduser("~/.cache/hutch-test"))

# What nohup, or a shell's "&", has made the tests ignore would be ignored by what they start.
for _ in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_) == signal.SIG_IGN:
        signal.signal(_, signal.SIG_DFL)

# How long what has to happen may take, in seconds, on a machine that has other work to do.
PATIENCE = 120

# The engine of every sandbox that does not ask for another one: what works on every machine, and what
# the tests look for. tests/lab sets the other one.
ENGINE = "qemu"

# Of the environment of whoever tests. The rest would change what comes out: proxies, keys of services,
# the desktop's keyring, an ssh-agent, a login of docker's, a language.
KEPT = re.compile(r"(PATH|USER|LOGNAME|SHELL|TERM|TMPDIR|TZ|LD_.*|HUTCH_.*|.*SAN_OPTIONS)$")
os.umask(0o022)


class Home:
    """One user's Hutch: own data, state, runtime and configuration directories."""

    def __init__(self, base):
        self.base = base
        # /tmp keeps socket paths short.
        self.runtime = tempfile.mkdtemp(prefix="hutch-rt-", dir="/tmp")
        self.env = dict(
            {k: v for k, v in os.environ.items() if KEPT.match(k)},
            HOME=os.path.join(base, "user-home"),
            LC_ALL="C.UTF-8",
            XDG_DATA_HOME=os.path.join(base, "data"),
            XDG_STATE_HOME=os.path.join(base, "state"),
            XDG_CONFIG_HOME=os.path.join(base, "config"),
            XDG_RUNTIME_DIR=self.runtime,
        )
        os.makedirs(self.env["HOME"])
        self.project = os.path.join(base, "project")  # to share
        os.makedirs(self.project)
        data = os.path.join(base, "data", "hutch")
        os.makedirs(data, mode=0o700)
        for name in ("images", "kernels"):
            os.symlink(os.path.join(CACHE, "hutch", name), os.path.join(data, name))
        if ENGINE:
            os.makedirs(self.path("config", "hutch"))
            with open(self.path("config", "hutch", "settings.yaml"), "w") as f:
                f.write("engine: %s\n" % ENGINE)

    def path(self, *parts):
        return os.path.join(self.base, *parts)

    def box(self, name, *parts):
        return self.path("state", "hutch", "boxes", name, *parts)

    def run(self, *args, cwd=None, input=None, timeout=240, env=None, **kw):
        """Run hutch; text in and out unless input is bytes."""
        text = not isinstance(input, bytes)
        return subprocess.run(
            [HUTCH, *args], cwd=cwd or self.base, input=input, capture_output=True,
            text=text, timeout=timeout, env=dict(self.env, **(env or {})),
            stdin=None if input is not None else subprocess.DEVNULL, **kw)

    def ok(self, *args, **kw):
        r = self.run(*args, **kw)
        assert r.returncode == 0, "%s: %s\n%s" % (args, r.returncode, r.stderr)
        return r.stdout

    def popen(self, *args, **kw):
        return subprocess.Popen([HUTCH, *args], env=self.env, cwd=kw.pop("cwd", self.base), **kw)

    def audit(self, name):
        with open(self.box(name, "gate", "audit.jsonl")) as f:
            return [json.loads(line) for line in f if line.endswith("\n")]

    def state(self, name):
        for row in json.loads(self.ok("ls", "--json")):
            if row["name"] == name:
                return row["state"]
        return None

    def workers(self, name):
        """Process ids of a running sandbox by program, found by argument and parent."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open("/proc/%s/environ" % pid, "rb") as f:
                    if self.runtime.encode() not in f.read():
                        continue
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    argv = f.read().decode(errors="replace").split("\0")
                program = os.path.basename(argv[0])
                if name in argv or "hutch-" + name in argv:
                    found["qemu" if program.startswith("qemu") else program] = int(pid)
        return found

    def close(self):
        boxes = self.path("state", "hutch", "boxes")
        if os.path.isdir(boxes):
            for name in os.listdir(boxes):
                self.run("rm", "-f", name)
        shutil.rmtree(self.runtime, ignore_errors=True)


def wait_for(condition, seconds=PATIENCE, what="condition"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail("%s: not within %g s" % (what, seconds))


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def memory_has(pid, needle):
    """Whether readable memory of a process contains @needle."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, perms, _, _, inode = line.split()[:5]
            start, end = (int(x, 16) for x in span.split("-"))
            if "r" not in perms or end - start > 1 << 30 or line.rstrip().endswith("[vvar]"):
                continue
            before = b""
            for at in range(start, end, 1 << 24):
                try:
                    mem.seek(at)
                    chunk = mem.read(min(1 << 24, end - at))
                except (OSError, ValueError, OverflowError):
                    break
                if needle in before + chunk:
                    return True
                before = chunk[-len(needle):]
    return False


def pytest_terminal_summary(terminalreporter):
    """What tests recorded as a row of a table."""
    rows = [value for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)
            for name, value in report.user_properties if name == "row"]
    for row in rows:
        terminalreporter.write_line(row)


@pytest.fixture(scope="session")
def images():
    """Kernel pack and base image, made when missing."""
    env = dict(os.environ, XDG_DATA_HOME=CACHE)
    r = subprocess.run([HUTCH, "image", "build"], env=env, capture_output=True, text=True,
                       timeout=1200)
    assert r.returncode == 0, r.stderr
    return CACHE


@pytest.fixture
def home(tmp_path, images):
    h = Home(str(tmp_path / "home"))
    yield h
    h.close()


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory, images):
    h = Home(str(tmp_path_factory.mktemp("home") / "h"))
    yield h
    h.close()


@pytest.fixture(scope="module")
def box(shared_home):
    """A running sandbox that the tests of one module share: (home, name, workspace)."""
    work = shared_home.path("work")
    os.makedirs(work)
    shared_home.ok("create", "--name", "shared", "--memory", "768m", "shell", work)
    return shared_home, "shared", work
