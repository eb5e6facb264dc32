# SPDX-License-Identifier: Apache-2.0
"""Credentials from their source to the server: hutch secret, hutch-secret, hutch-gate."""
import json
import os
import shutil
import socket
import stat
import subprocess
import threading
import time

import pytest

from conftest import BUILD, PATIENCE, memory_has, wait_for
from gate_driver import HttpServer, Secret, credential, rule
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)

HOST = "api.example.test"


# ---- hutch-secret and hutch-gate, without a sandbox ----


class World:
    def __init__(self, tmp_path, gate, serve, pki):
        self.dir, self.make = tmp_path, gate
        self.server = serve(HttpServer(tls=pki.context()))

    def gate(self, *services, env=None, **more):
        services = services or ("svc",)
        self.secret = Secret(str(self.dir), services, env)
        g = self.make(rules=[rule(HOST)], resolves={HOST: self.server.address}, credentials=[
            credential(s, HOST, header=f"X-{s}", fmt="%s") for s in services],
            broker=self.secret, **more)
        self.secret.given()
        return g

    def got(self, header="x-svc"):
        return [r.headers.get(header) for r in self.server.requests]


@pytest.fixture
def world(tmp_path, gate, serve, pki):
    w = World(tmp_path, gate, serve, pki)
    yield w


def conn(g):
    return g.open(HOST, 443).tls()


def refused(response, *says):
    code, headers, body = response
    assert code == 403 and headers["x-hutch-refused"] == "credential", response
    for word in says:
        assert word in body.decode(), body


def test_each_source(world):
    g = world.gate("svc", "var", "path", "run", env={"THE_TOKEN": "from-env"})
    (world.dir / "token").write_text("from-file\n")
    g.set_secret("svc", "stored")
    g.set_source("var", "env:THE_TOKEN")
    g.set_source("path", f"file:{world.dir}/token")
    g.set_source("run", "cmd:echo from-$((1 + 1))")
    assert conn(g).request()[0] == 200
    assert [world.got(f"x-{s}") for s in ("svc", "var", "path", "run")] == [
        ["stored"], ["from-env"], ["from-file"], ["from-2"]]
    assert g.audit(1)[0]["credential"] == "svc, var, path, run"
    for text in ("from-env", "from-file", "from-2", "stored"):
        assert text not in g.log() + world.secret.log()


def test_command_is_kept_and_rotates(world):
    runs = world.dir / "runs"
    g = world.gate()
    g.set_source("svc", f"cmd:echo x >>{runs}; wc -l <{runs}", ttl=4)
    begin = time.monotonic()
    c = conn(g)
    while time.monotonic() < begin + PATIENCE and "2" not in world.got():
        assert c.request()[0] == 200
        time.sleep(0.2)
    assert time.monotonic() - begin > 4
    assert world.got() == ["1"] * (len(world.got()) - 1) + ["2"]


def test_revoked_and_changed_at_the_next_request(world):
    g = world.gate()
    g.set_source("svc", "cmd:echo one", ttl=3600)
    c = conn(g)
    assert c.request()[0] == 200
    g.set_source("svc", "cmd:echo two", ttl=3600)
    assert c.request()[0] == 200
    g.set_secret("svc", "three", own=True)
    assert c.request()[0] == 200
    os.unlink(os.path.join(g.own_dir, "svc"))
    assert c.request()[0] == 200
    g.remove_secret("svc")
    assert c.request(headers=["X-svc: proxy-managed"])[0] == 200
    assert world.got() == ["one", "two", "three", "two", None]


def test_own_value_of_the_sandbox_wins(world):
    g = world.gate(env={"X": "from-env"})
    c = conn(g)
    g.set_secret("svc", "for-all")
    assert c.request()[0] == 200
    g.set_secret("svc", "mine", own=True)
    assert c.request()[0] == 200
    g.set_source("svc", "env:X", own=True)
    assert c.request()[0] == 200
    assert world.got() == ["for-all", "mine", "from-env"]


def test_value_leaves_memory_when_it_is_removed(world):
    """Not with the next request: at once. The value is made by the command alone."""
    g = world.gate()
    g.set_source("svc", "cmd:echo needle-$((40000 + 2))-end", ttl=3600)
    assert conn(g).request()[0] == 200
    assert world.got() == ["needle-40002-end"]
    pid = world.secret.proc.pid
    if os.getuid() != 0:
        pytest.skip("looking into hutch-secret's memory needs root")
    assert memory_has(pid, b"needle-40002-end")
    g.remove_secret("svc")
    wait_for(lambda: not memory_has(pid, b"needle-40002-end"), what="the value to be wiped")


def test_failures_say_why(world):
    g = world.gate()
    g.set_source("svc", "cmd:echo oops >&2; exit 7")
    refused(conn(g).request(), "credential svc", "exit 7")
    assert "oops" in world.secret.log()
    g.set_source("svc", "file:/nonexistent/token")
    refused(conn(g).request(), "No such file")
    g.set_secret("svc", "fine")
    assert conn(g).request()[0] == 200


def test_guest_cannot_make_commands_run_often(world):
    runs = world.dir / "runs"
    g = world.gate()
    g.set_source("svc", f"cmd:echo x >>{runs}; exit 1")
    begin = time.monotonic()
    for _ in range(20):
        refused(conn(g).request())
    # A failure counts for two seconds.
    assert len(runs.read_text().split()) <= 2 + (time.monotonic() - begin) / 2


def test_variable_that_is_not_set(world):
    g = world.gate()
    g.set_source("svc", "env:HUTCH_NOT_SET")
    assert conn(g).request(headers=["X-svc: proxy-managed"])[0] == 200
    assert world.got() == [None]


def test_command_runs_once_for_all_who_wait(world):
    runs = world.dir / "runs"
    g = world.gate()
    g.set_source("svc", f"cmd:echo x >>{runs}; sleep 1; echo v")
    threads = [threading.Thread(target=lambda: conn(g).request()) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert world.got() == ["v"] * 8
    assert runs.read_text() == "x\n"  # all wait for the same one


def test_crash_of_the_process(world):
    g = world.gate()
    runs = world.dir / "runs"
    g.set_source("svc", f"cmd:echo x >{runs}; sleep 20; echo v")
    c = conn(g)
    c.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-svc: proxy-managed\r\n\r\n".encode())
    wait_for(runs.exists, what="the command to run")
    world.secret.proc.kill()
    refused(c.response(), "has ended")
    assert not world.server.requests
    refused(conn(g).request(), "does not answer")


def test_ends_with_the_gate(world):
    g = world.gate()
    g.set_source("svc", "cmd:echo v")
    assert conn(g).request()[0] == 200
    g.link.shutdown(socket.SHUT_RDWR)
    assert world.secret.ended() == 0


def test_only_services_of_the_sandbox(tmp_path):
    """A gate that has been taken over asks for what it likes."""
    from test_gate_values import FAILED, GET, HEAD, LASTING, WATCH
    s = Secret(str(tmp_path), ["mine"])
    for name in ("mine", "other"):
        (tmp_path / "secrets" / name).write_text("value of " + name)
    s.sock.settimeout(PATIENCE)
    first, fds, _, _ = socket.recv_fds(s.sock, 1 << 17, 8)
    assert HEAD.unpack(first)[0] == WATCH
    # What it is given has no names in it, and leads nowhere.
    assert [os.readlink("/proc/self/fd/%d" % fd) for fd in fds] == [
        "anon_inode:[eventpoll]", "anon_inode:[eventfd]"]
    for fd in fds:
        os.close(fd)
    for name in ("mine", "other", "../secrets/other", "mine/../other", "@", "x" * 64):
        s.sock.send(HEAD.pack(GET, 0, 1, len(name)) + name.encode())
        reply = s.sock.recv(1 << 17)
        assert HEAD.unpack_from(reply)[0] == (LASTING if name == "mine" else FAILED), (name, reply)
    s.sock.send(HEAD.pack(GET, 0, 1, 65) + b"x" * 65)
    assert s.sock.recv(1 << 17) == b""
    assert s.ended() == 1


# ---- the command line ----


def row(home, service, box=None):
    for r in json.loads(home.ok("secret", "ls", "--json")):
        if r["service"] == service and r["sandbox"] == box:
            return r
    return None


def test_references(home):
    assert home.ok("secret", "ls") == "" and json.loads(home.ok("secret", "ls", "--json")) == []
    home.ok("secret", "set", "github", "--from", "cmd:gh auth token", "--ttl", "10m")
    home.ok("secret", "set", "--from=env:NPM_TOKEN", "npm")
    home.ok("secret", "set", "pypi", "--from", "file:token", cwd=home.base)
    home.ok("secret", "set", "cargo", "--from", "file:~/.t", env={"HOME": "/home/u"})
    r = row(home, "github")
    assert r["source"] == "cmd:gh auth token" and r["ttl_seconds"] == 600
    assert row(home, "npm")["source"] == "env:NPM_TOKEN"
    assert row(home, "pypi")["source"] == f"file:{home.base}/token"
    assert row(home, "cargo")["source"] == "file:/home/u/.t"
    assert "cmd:gh auth token" in home.ok("secret", "ls")
    store = home.path("data", "hutch", "secrets")
    assert stat.S_IMODE(os.stat(os.path.join(store, "github")).st_mode) == 0o600


@pytest.mark.parametrize("args", [
    ["--from", "gh auth token"], ["--from", "env:A B"], ["--from", "file:"], ["--from", "cmd: "],
    ["--from", "cmd:x", "--ttl", "0"], ["--from", "cmd:x", "--ttl", "25h"],
    ["--from", "cmd:x", "--ttl", "5 m"], ["--ttl", "5m"], ["--sandbox", "absent"],
    ["--from", "env:A", "--sandbox", "../x"], ["--bogus"], ["value"]], ids=range(12))
def test_refused_words(home, args):
    r = home.run("secret", "set", "svc", *args, input="v")
    assert r.returncode == 125 and r.stderr.startswith(("hutch: ", "usage: ")), r.stderr
    assert home.ok("secret", "ls") == ""


def test_mistyped_service_is_noticed(home):
    r = home.run("secret", "set", "anthropc", input="value")
    assert r.returncode == 0 and "did you mean anthropic?" in r.stderr
    assert "did you mean" not in home.run("secret", "set", "anthropic", input="value").stderr
    assert "did you mean" not in home.run("secret", "set", "my-own-api", input="value").stderr


def test_list_masks(home):
    home.run("secret", "set", "short", input="0123456789abcde")
    home.run("secret", "set", "long", input="0123456789abcdef\n")
    out = home.ok("secret", "ls") + home.ok("secret", "ls", "--json")
    assert "cdef" in out and "bcde " not in out and "bcdef" not in out
    assert row(home, "long")["ends_with"] == "cdef" and "ends_with" not in row(home, "short")
    assert row(home, "long")["source"] == "stored" and row(home, "long")["age_seconds"] < 60


def test_import(home):
    text = """# mine
export GH_TOKEN="in quotes"
OPENAI_API_KEY = not a name
ANTHROPIC_API_KEY='single'
GITHUB_TOKEN=second name of the same
EMPTY=
GROQ_API_KEY=
UNRELATED=secret-of-others
no equals sign
MISTRAL_API_KEY=plain value \r
"""
    r = home.run("secret", "import", input=text)
    assert r.returncode == 0, r.stderr
    assert "GH_TOKEN" in r.stdout and "in quotes" not in r.stdout + r.stderr
    assert "3 other variables" in r.stderr
    store = home.path("data", "hutch", "secrets")
    kept = {n: open(os.path.join(store, n)).read() for n in sorted(os.listdir(store))}
    assert kept == {"github": "in quotes", "anthropic": "single", "mistral": "plain value"}
    path = home.path("dot.env")
    with open(path, "w") as f:
        f.write("GH_TOKEN=new\n")
    home.ok("secret", "import", path)
    assert home.run("secret", "import", "-", input="GROQ_API_KEY=piped\n").returncode == 0
    assert open(os.path.join(store, "groq")).read() == "piped"
    home.ok("secret", "import", "--from-env", env={"XAI_API_KEY": "of the environment"})
    assert open(os.path.join(store, "github")).read() == "new"
    assert open(os.path.join(store, "xai")).read() == "of the environment"
    assert home.run("secret", "import", input="A=1\n").returncode == 125
    assert home.run("secret", "import", "/nonexistent").returncode == 125
    assert home.run("secret", "import", path, "--from-env").returncode == 125


def test_services(home):
    out = home.ok("secret", "services")
    assert "github" in out and "GITHUB_TOKEN" in out and "api.github.com" in out


@pytest.fixture
def desktop(home, tmp_path):
    """A session bus with a keyring that is unlocked; the environment that leads there."""
    for program in ("dbus-daemon", "gnome-keyring-daemon"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    if not os.path.exists(KEYRING):
        pytest.skip("built without libsecret")
    bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--print-address"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    env = {"DBUS_SESSION_BUS_ADDRESS": bus.stdout.readline().strip(), "HOME": str(tmp_path),
           "XDG_RUNTIME_DIR": home.runtime, "XDG_DATA_HOME": home.path("data")}
    daemon = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=dict(os.environ, **env))
    daemon.stdin.write(b"pw")
    daemon.stdin.close()
    try:
        wait_for(lambda: in_keyring(env, "no-such") == (3, ""), what="the keyring")
        yield env
    finally:
        for process in (daemon, bus):
            process.kill()
            process.wait()


KEYRING = os.path.join(BUILD, "hutch-keyring")


def in_keyring(env, service):
    r = subprocess.run([KEYRING, "get", service], env=dict(os.environ, **env),
                       capture_output=True, text=True, timeout=PATIENCE)
    return r.returncode, r.stdout


def test_keyring(home, desktop):
    r = home.run("secret", "set", "github", input="k3yring-value", env=desktop)
    assert r.returncode == 0 and "in the desktop's keyring" in r.stderr, r.stderr
    assert in_keyring(desktop, "github") == (0, "k3yring-value")
    assert row(home, "github")["source"] == "keyring:"
    with open(home.path("data", "hutch", "secrets", "github"), "rb") as f:
        assert b"k3yring-value" not in f.read()
    # what replaces it takes it away there, and so does removing
    for then in (["set", "github", "--no-keyring"], ["set", "github", "--from", "env:X"],
                 ["rm", "github"]):
        home.run("secret", "set", "github", input="v", env=desktop)
        assert in_keyring(desktop, "github") == (0, "v")
        r = home.run("secret", *then, input="other", env=desktop)
        assert r.returncode == 0, r.stderr
        assert in_keyring(desktop, "github") == (3, "")


def test_from_the_keyring_to_the_server(home, desktop, world):
    # what libsecret leaves behind at its exit is no failure of the program
    g = world.gate(env=dict(desktop, ASAN_OPTIONS="detect_leaks=0"))
    store = home.path("data", "hutch", "secrets")
    for value in ("first", "rotated"):
        home.run("secret", "set", "svc", input=value, env=desktop)
        shutil.copy(os.path.join(store, "svc"), os.path.join(g.secret_dir, "svc"))
        assert conn(g).request()[0] == 200
    assert world.got() == ["first", "rotated"]


def test_reference_to_a_keyring_that_is_not_there(world):
    g = world.gate(env={"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"})
    g.set_source("svc", "keyring:")
    refused(conn(g).request(), "the keyring does not give it")


def test_no_keyring_is_said(home):
    env = {"DBUS_SESSION_BUS_ADDRESS": ""}
    r = home.run("secret", "set", "svc", input="v", env=env)
    assert "no desktop keyring runs here" in r.stderr and r.returncode == 0


# ---- what a start needs ----


KIT = """schemaVersion: "2"
kind: mixin
name: wants
permissions:
  network:
    allow: [api.example.test]
credentials:
  - service: needed
    required: REQUIRED
    apiKey:
      name: NEEDED_KEY
      inject: [{domain: api.example.test, header: Authorization, format: "Bearer %s"}]
"""


def plan(home, *args, **kw):
    return json.loads(home.ok("run", *args, "--dry-run", "--json", "shell", home.project, **kw))


def test_credential_without_a_kit(home):
    s = plan(home, "--credential", "github", "--credential", "npm")
    by = {c["service"]: c for c in s["network"]["credentials"]}
    assert by["github"]["required"] and by["github"]["env"] == "GITHUB_TOKEN"
    assert {i["domain"] for i in by["github"]["injects"]} >= {"api.github.com", "github.com"}
    assert "GITHUB_TOKEN=proxy-managed" in s["env"] and "NPM_TOKEN=proxy-managed" in s["env"]
    # no wider network for it
    plain = plan(home)
    assert s["network"]["rules"] == plain["network"]["rules"]
    assert plain["network"]["credentials"] == []
    text = home.ok("run", "--credential", "github", "--dry-run", "shell", home.project)
    assert "github as GITHUB_TOKEN, required, --credential" in text
    r = home.run("run", "--credential", "githubb", "--dry-run", "shell", home.project)
    assert r.returncode == 125 and "no built-in service is named githubb" in r.stderr
    assert "hutch secret services" in r.stderr


def test_credential_in_settings(home):
    os.makedirs(home.path("config", "hutch"), exist_ok=True)
    with open(home.path("config", "hutch", "settings.yaml"), "a") as f:
        f.write("credentials: [groq]\n")
    (c,) = plan(home)["network"]["credentials"]
    assert c["service"] == "groq" and not c["required"]


def test_kit_goes_before_the_table(home):
    path = home.path("kit")
    os.makedirs(path)
    with open(os.path.join(path, "spec.yaml"), "w") as f:
        f.write(KIT.replace("REQUIRED", "false").replace("needed", "github"))
    (c,) = plan(home, "--kit", path, "--credential", "github")["network"]["credentials"]
    assert c["kit"] == "wants" and c["env"] == "NEEDED_KEY"


@pytest.mark.parametrize("reference,says", [
    (None, "has no value"), ("env:HUTCH_NOT_SET", "HUTCH_NOT_SET, which is not set"),
    ("file:/nonexistent/x", "/nonexistent/x: No such file")])
def test_required_refuses_to_start(home, reference, says):
    path = home.path("kit")
    os.makedirs(path)
    with open(os.path.join(path, "spec.yaml"), "w") as f:
        f.write(KIT.replace("REQUIRED", "true"))
    if reference:
        home.ok("secret", "set", "needed", "--from", reference)
    r = home.run("run", "--kit", path, "shell", home.project)
    assert r.returncode == 124 and says in r.stderr, r.stderr
    assert "kit wants needs the credential needed" in r.stderr
    assert ("hutch secret set needed" in r.stderr) == (reference is None)
    assert home.ok("ls") == ""
    r = home.run("run", "--credential", "github", "shell", home.project)
    assert r.returncode == 124 and "--credential needs the credential github" in r.stderr
