# SPDX-License-Identifier: Apache-2.0
"""hutch policy, without a virtual machine: a sandbox is its directory, hutch-gate its real self."""
import fcntl
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

from conftest import HUTCH, PATIENCE, Home
from gate_driver import Gate, HttpServer, rule


class Box:
    """A sandbox's directory, with a gate that works in it and a stand-in for its supervisor."""

    def __init__(self, home, name, *flags):
        self.home, self.name = home, name
        os.makedirs(home.path("work"), exist_ok=True)
        plan = home.ok("run", "--name", name, *flags, "--dry-run", "--json", "shell",
                       home.path("work"))
        os.makedirs(home.box(name, "gate"))
        with open(home.box(name, "spec.json"), "w") as f:
            f.write(plan)
        self.ops = []

    def spec_rules(self):
        with open(self.home.box(self.name, "spec.json")) as f:
            return json.load(f)["network"]["rules"]

    def serve(self, answer=None):
        path = os.path.join(self.home.runtime, "hutch", self.name + ".sock")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen(8)

        def run():
            while True:
                try:
                    c, _ = sock.accept()
                except OSError:
                    return
                for line in c.makefile():
                    self.ops.append(json.loads(line))
                    c.sendall(json.dumps(answer or {"ok": True}).encode() + b"\n")
                c.close()

        threading.Thread(target=run, daemon=True).start()
        return sock

    def gate(self, **kw):
        g = Gate(self.home.path("gate-" + self.name), **kw)
        g.box_dir = self.home.box(self.name, "gate")
        return g


@pytest.fixture
def home(tmp_path):
    h = Home(str(tmp_path / "home"))
    yield h
    h.close()


@pytest.fixture
def box(home):
    return Box(home, "one", "--allow", "kit.test")


def rules(home, *args):
    return [(r["scope"], r["allow"], r["target"], r["source"])
            for r in json.loads(home.ok("policy", "ls", "--json", *args))]


def check(home, *args):
    r = home.run("policy", "check", "--json", *args)
    assert r.returncode in (0, 1), r.stderr
    out = json.loads(r.stdout)
    assert out["allowed"] == (r.returncode == 0)
    return out


# ---- rules ----


def test_allow_deny_rm_for_all(home):
    home.ok("policy", "allow", "a.test", "b.test:80")
    home.ok("policy", "deny", "**.evil.test:*")
    home.ok("policy", "allow", "a.test")  # once is enough
    source = "user, all sandboxes"
    assert rules(home) == [("all", True, "a.test", source), ("all", True, "b.test:80", source),
                           ("all", False, "**.evil.test:*", source)]
    path = home.path("config", "hutch", "policy.json")
    assert os.stat(path).st_mode & 0o777 == 0o600
    home.ok("policy", "rm", "a.test", "**.evil.test:*")
    assert [r[2] for r in rules(home)] == ["b.test:80"]
    r = home.run("policy", "rm", "a.test")
    assert r.returncode == 125 and 'no rule "a.test"' in r.stderr
    assert [r[2] for r in rules(home)] == ["b.test:80"]


def test_rules_of_one_sandbox(home, box):
    home.ok("policy", "allow", "--sandbox", "one", "a.test")
    home.ok("policy", "deny", "kit.test:80", "--sandbox", "one")
    assert [r for r in rules(home, "--sandbox", "one") if r[2] in ("a.test", "kit.test:80")] == [
        ("one", True, "a.test", "user"), ("one", False, "kit.test:80", "user")]
    assert {"allow": True, "target": "a.test", "source": "user"} in box.spec_rules()
    home.ok("policy", "rm", "a.test", "kit.test", "--sandbox", "one")  # kit.test is --allow's
    assert [r["target"] for r in box.spec_rules() if r["source"].startswith("user")] == [
        "kit.test:80"]
    r = home.run("policy", "allow", "a.test", "--sandbox", "two")
    assert r.returncode == 125 and "no sandbox named two" in r.stderr


def test_options_make_rules(home):
    home.ok("policy", "allow", "a.test", "--method", "get,HEAD", "--path", "/v1/**", "--path", "/x")
    home.ok("policy", "allow", "--protocol", "tcp", "db.test:5432")
    home.ok("policy", "deny", "a.test:80", "--method", "POST", "--method", "PUT")
    assert [r[2] for r in rules(home)] == ["GET,HEAD a.test/v1/**", "GET,HEAD a.test/x",
                                           "tcp db.test:5432", "POST,PUT a.test:80"]
    r = home.run("policy", "allow", "--protocol", "udp", "ntp.test:123")
    assert r.returncode == 0 and not r.stderr
    for bad, says in ((["a b c"], "blank"), (["https://a.test/"], "URL"), (["a.test:0"], "port"),
                      (["a.test", "--protocol", "icmp"], "tcp, udp"),
                      (["a.test", "--protocol", "tcp", "--path", "/x"], "does not go with"),
                      (["a.test", "--path", "/y*"], "whole segments"), ([], "usage"),
                      (["a.test", "--path", ".evil.test"], "begins with /"),
                      (["a.test:80", "--path", ""], "begins with /"),
                      (["a.test/x", "--path", "/y"], "has a path"),
                      (["a.test", "--method", "G=T"], "HTTP method"), (["--nonsense"], "option")):
        before = rules(home)
        r = home.run("policy", "allow", *bad)
        assert r.returncode == 125 and says in r.stderr, (bad, r.stderr)
        assert rules(home) == before
    r = home.run("policy", "deny", "GET 10.0.0.0/8:80")
    assert r.returncode == 125 and "deny rule for addresses" in r.stderr


def test_check_says_what_the_gate_says(home, box):
    for args in (["allow", "**.a.test"], ["deny", "bad.a.test"], ["allow", "GET h.test/v1/**"],
                 ["allow", "10.0.0.0/8:*"], ["deny", "x.test", "--sandbox", "one"],
                 ["allow", "x.test"], ["allow", "udp u.test:53"]):
        home.ok("policy", *args)
    for target, allowed, by in (
            ("www.a.test", True, "**.a.test"), ("WWW.A.test.:443", True, "**.a.test"),
            ("https://www.a.test/any?q", True, "**.a.test"), ("http://www.a.test/", False, None),
            ("www.a.test:80", False, None), ("bad.a.test", False, "bad.a.test"),
            ("h.test", True, "GET h.test/v1/**"), ("h.test/v1/x", True, "GET h.test/v1/**"),
            ("https://h.test/v1/x?y=/../", True, "GET h.test/v1/**"), ("h.test/v2", False, None),
            ("POST h.test/v1/x", False, None), ("h.test/v1/../v2", False, None),
            ("10.1.2.3:22", True, "10.0.0.0/8:*"), ("11.1.2.3:22", False, None),
            ("[::1]:80", False, None), ("::1", False, None), ("x.test", True, "x.test"),
            ("udp u.test:53", True, "udp u.test:53"), ("u.test:53", False, None),
            ("host.hutch.internal:80", False, None)):
        out = check(home, target)
        assert (out["allowed"], out.get("rule", {}).get("target")) == (allowed, by), (target, out)
    assert not check(home, "x.test", "--sandbox", "one")["allowed"]
    assert check(home, "kit.test", "--sandbox", "one")["rule"]["source"] == "user --allow"
    assert check(home, "h.test", "--method", "POST", "--path", "/v1/x")["allowed"] is False
    text = home.run("policy", "check", "nowhere.test")
    assert text.returncode == 1
    assert "nowhere.test:443 is denied: no rule allows it" in text.stdout
    assert "hutch policy allow nowhere.test:443" in text.stdout
    for bad in ("a..b", "h.test/%zz", "a.test:http", "h.test/x/..%2fy", ""):
        assert home.run("policy", "check", bad).returncode == 125


def test_presets(home):
    for name in ("locked", "balanced", "open"):
        assert name in home.ok("policy", "init", name)
        with open(home.path("config", "hutch", "policy.json")) as f:
            stored = json.load(f)
        assert stored["preset"] == name
        assert {r["source"] for r in stored["rules"]} <= {f"preset {name}"}
    assert check(home, "anything.test:22")["rule"]["source"] == "preset open"
    home.ok("policy", "allow", "mine.test")
    home.ok("policy", "init", "balanced")
    assert check(home, "mine.test")["allowed"]
    assert not check(home, "anything.test:22")["allowed"]
    assert check(home, "http://mirror.debian.org/")["allowed"]
    assert not check(home, "bucket.s3.amazonaws.com")["allowed"]
    home.ok("policy", "init", "locked")
    assert [r[2] for r in rules(home)] == ["mine.test"]
    r = home.run("policy", "init", "../balanced")
    assert r.returncode == 125 and "no preset" in r.stderr and "there are: balanced, locked, open" in r.stderr
    r = home.run("policy", "init", "balance")
    assert r.returncode == 125 and "did you mean balanced?" in r.stderr


def test_no_preset_opens_what_users_can_fill():
    """A wildcard in a preset must not cover a domain under which strangers get names."""
    shared = ["github.io", "githubusercontent.com", "gitlab.io", "pages.dev", "workers.dev",
              "amazonaws.com", "cloudfront.net", "blob.core.windows.net", "googleapis.com",
              "appspot.com", "herokuapp.com", "netlify.app", "vercel.app", "readthedocs.io"]
    path = os.path.join(os.path.dirname(__file__), "../../share/policy/balanced.yaml")
    with open(path) as f:
        text = f.read()
    for domain in shared:
        assert f"*.{domain}" not in text
    entries = text.count("- rule:")
    assert entries > 20 and text.count("reason:") == entries


def test_broken_file_is_never_ignored(home, box):
    home.ok("policy", "deny", "a.test")
    path = home.path("config", "hutch", "policy.json")
    for text in ("", "{", "[]", '{"version":2,"preset":"","rules":[]}',
                 '{"version":1,"preset":"","rules":[],"x":1}',
                 '{"version":1,"preset":"","rules":[{"allow":"no"}]}'):
        with open(path, "w") as f:
            f.write(text)
        for args in (["allow", "b.test"], ["ls"], ["check", "a.test"], ["init", "open"]):
            r = home.run("policy", *args)
            assert r.returncode == 125 and "policy.json" in r.stderr, (text, args, r.stderr)
        with open(path) as f:
            assert f.read() == text


def test_changes_reach_running_sandboxes(home, box):
    other = Box(home, "two")
    box.serve()
    home.ok("policy", "allow", "a.test")
    assert box.ops == [{"op": "reload"}] and other.ops == []
    sock = other.serve()
    home.ok("policy", "deny", "b.test")
    assert len(box.ops) == 2 and len(other.ops) == 1
    home.ok("policy", "allow", "c.test", "--sandbox", "two")
    assert len(box.ops) == 2 and len(other.ops) == 2
    sock.close()


def test_a_sandbox_that_refuses_is_told(home, box):
    box.serve({"ok": False, "error": "cannot"})
    r = home.run("policy", "allow", "a.test")
    assert r.returncode == 125 and "sandbox one: cannot" in r.stderr
    assert [x[2] for x in rules(home) if x[0] == "all"] == ["a.test"]


def test_many_at_once_lose_nothing(home, box):
    procs = [home.popen("policy", "allow", f"n{i}.test", *(["--sandbox", "one"] if i % 2 else []),
                        stderr=subprocess.PIPE) for i in range(24)]
    for p in procs:
        assert p.wait(PATIENCE) == 0, p.stderr.read()
        p.stderr.close()
    seen = {r[2] for r in rules(home)}
    assert {f"n{i}.test" for i in range(24)} <= seen


def test_lock_is_waited_for(home):
    home.ok("policy", "ls")
    os.makedirs(home.path("config", "hutch"), exist_ok=True)
    with open(home.path("config", "hutch", "policy.lock"), "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        p = home.popen("policy", "allow", "a.test")
        time.sleep(0.3)
        assert p.poll() is None
    assert p.wait(PATIENCE) == 0


def test_dry_run_shows_the_rules_for_all(home):
    home.ok("policy", "deny", "tracker.test")
    os.makedirs(home.path("w"))
    out = home.ok("run", "--dry-run", "shell", home.path("w"))
    assert "tracker.test" in out and "user, all sandboxes" in out


# ---- the log ----


@pytest.fixture
def logged(home, box):
    """A log of a real gate: three refusals, one of them by a deny rule."""
    with HttpServer() as server:
        g = box.gate(rules=[rule("ok.test:80"), rule("no.test:80", allow=False),
                            rule("GET h.test:80/v1/*")],
                     resolves={"ok.test": server.address, "h.test": server.address})
        with g:
            assert g.open("ok.test", 80).request(path="/fine")[0] == 200
            assert g.open("no.test", 80).request()[0] == 403
            assert g.open("ask.test", 80).request()[0] == 403
            assert g.open("ask.test", 80).request()[0] == 403
            assert g.open("ssh.test", 22) is None
            c = g.open("ask.test", 443).tls()
            assert c.request()[0] == 403
            assert g.open("h.test", 80).request("POST", "/v1/x")[0] == 403
            g.audit(7)
    return box


def test_log_and_denied(home, logged):
    lines = [json.loads(x) for x in home.ok("policy", "log", "one", "--json").splitlines()]
    assert [x["verdict"] for x in lines] == ["allow"] + 6 * ["deny"]
    assert [x["seq"] for x in lines] == list(range(1, 8))
    assert lines[0]["ttfb_ms"] >= 0 and lines[0]["bytes_down"] == 5
    denied = home.ok("policy", "log", "--denied", "one")
    assert "no.test:80" in denied and "/fine" not in denied
    assert home.run("policy", "log", "nobody").returncode == 125


def test_follow(home, logged):
    p = home.popen("policy", "log", "one", "--follow", "--denied", "--json",
                   stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(PATIENCE, p.kill)
    watchdog.start()
    try:
        first = [json.loads(p.stdout.readline()) for _ in range(6)]
        assert first[-1]["seq"] == 7
        with logged.gate() as g:
            g.open("new.test", 80).request()
            line = json.loads(p.stdout.readline())
            assert line["name"] == "new.test" and line["seq"] == 8
            os.rename(home.box("one", "gate", "audit.jsonl"), home.box("one", "gate", "audit.jsonl.1"))
        with logged.gate() as g:  # a new file
            g.open("newer.test", 80).request()
            assert json.loads(p.stdout.readline())["name"] == "newer.test"
    finally:
        watchdog.cancel()
        p.terminate()
        p.wait()
        p.stdout.close()


def verify(home):
    return home.run("policy", "log", "--verify", "one")


def test_verify(home, logged):
    r = verify(home)
    assert r.returncode == 0 and "7 lines, unbroken" in r.stdout
    with logged.gate() as g:  # goes on where the last one ended
        g.open("x.test", 80).request()
        g.audit(8)
        assert verify(home).returncode == 0  # while it is open
    assert "8 lines" in verify(home).stdout
    assert home.run("policy", "log", "--verify").returncode == 0
    assert home.run("policy", "log", "--verify", "--json").returncode == 125


@pytest.mark.parametrize("damage, says", [
    (lambda t: t.replace(b"/fine", b"/fone"), "has been changed"),
    (lambda t: b"".join(t.splitlines(True)[:-1]), "last 1 lines are missing"),
    (lambda t: b"".join(t.splitlines(True)[:3] + t.splitlines(True)[4:]), "missing or moved"),
    (lambda t: b"".join(t.splitlines(True)[1:]), "before it are missing"),
    (lambda t: t[:-40], "cut short"),
    (lambda t: t + b"{}\n", "not a line of this log"),
    (lambda t: t.replace(b"deny", b"de\0y", 1), "line 2"),
    (lambda t: b"", "all 7 lines are missing"),
])
def test_verify_finds_damage(home, logged, damage, says):
    path = home.box("one", "gate", "audit.jsonl")
    with open(path, "rb") as f:
        text = f.read()
    with open(path, "wb") as f:
        f.write(damage(text))
    r = verify(home)
    assert r.returncode == 1 and says in r.stderr, r.stderr
    # A gate that writes on does not cover it up, but for a line that nobody can complete.
    with logged.gate() as g:
        g.open("x.test", 80).request()
    if says != "cut short":
        assert verify(home).returncode == 1


def test_cut_within_the_last_line_is_still_a_cut(home, logged):
    path = home.box("one", "gate", "audit.jsonl")
    os.truncate(path, os.stat(path).st_size - 10)
    with logged.gate() as g:
        g.open("x.test", 80).request()
    r = verify(home)
    assert r.returncode == 1 and "missing or moved" in r.stderr


def test_verify_without_head_and_with_an_old_one(home, logged):
    head = home.box("one", "gate", "audit.head")
    with open(head) as f:
        old = f.read()
    os.unlink(head)
    assert "head" in verify(home).stderr
    with open(head, "w") as f:
        f.write(old)
    with logged.gate() as g:
        for _ in range(70):  # more than are ever written before the head is
            g.open("x.test", 80).request()
        g.audit(77)
    with open(head, "w") as f:
        f.write(old)
    r = verify(home)
    assert r.returncode == 1 and "not the one that the head tells" in r.stderr


def test_killed_gate_leaves_a_log_that_verifies(home, logged):
    g = logged.gate()
    g.__enter__()
    for _ in range(20):
        g.open("x.test", 80).request()
    g.proc.kill()
    g.proc.wait()
    g.link.close()
    g.control_file.close()
    g.control.close()
    assert verify(home).returncode == 0, verify(home).stderr
    # As if it had been killed between line and head.
    with open(home.box("one", "gate", "audit.jsonl")) as f:
        before = json.loads(f.read().splitlines()[-2])
    with open(home.box("one", "gate", "audit.head"), "w") as f:
        f.write(('{"seq":%20d,"hash":"%s"}' % (before["seq"], before["hash"])).ljust(109) + "\n")
    assert verify(home).returncode == 0, verify(home).stderr
    with logged.gate() as g:
        g.open("y.test", 80).request()
    assert verify(home).returncode == 0, verify(home).stderr


def test_verify_over_a_rotation(home, logged):
    os.rename(home.box("one", "gate", "audit.jsonl"), home.box("one", "gate", "audit.jsonl.1"))
    with logged.gate() as g:
        g.open("x.test", 80).request()
    assert "8 lines" in verify(home).stdout
    os.unlink(home.box("one", "gate", "audit.jsonl.1"))
    assert verify(home).returncode == 1


def test_log_does_not_reach_the_terminal_raw(home, box):
    with box.gate() as g:
        c = g.open("evil.test", 80)
        c.send(b"GET /\x1b[2J%1b]0;x%07\xc2\x9b HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        c.response()
        g.audit(1)
    out = home.ok("policy", "log", "one")
    assert "\x1b" not in out and "\x9b" not in out and "\x07" not in out


# ---- suggest ----


def test_suggest(home, logged):
    home.ok("policy", "deny", "no.test:80", "--sandbox", "one")
    home.ok("policy", "allow", "GET h.test:80/v1/*", "--sandbox", "one")
    home.ok("policy", "allow", "ok.test:80", "--sandbox", "one")
    out = home.ok("policy", "suggest", "one")
    found = [x.split('"')[1] for x in out.splitlines() if x.strip().startswith("-")]
    assert found == ["POST h.test:80/v1/x", "ask.test", "ask.test:80", "ssh.test:22"]
    assert "asked for 2 times" in out
    for target in found:  # what it says is what is missing, and no more
        home.ok("policy", "allow", target, "--sandbox", "one")
    assert "nothing" in home.ok("policy", "suggest", "one")
    assert home.run("policy", "suggest", "nobody").returncode == 125


def test_suggestion_warns_of_what_is_not_the_internet(home, box):
    with box.gate() as g:
        assert g.open("169.254.169.254", 80).request()[0] == 403
        assert g.open("host.hutch.internal", 80).request()[0] == 403
        assert g.open("10.0.2.2", 22) is None  # no rule helps
        g.audit(3)
    out = home.ok("policy", "suggest", "one")
    assert re.search(r'"169\.254\.169\.254:80"  # .*; careful: ', out), out
    assert re.search(r'"host\.hutch\.internal:80"  # .*; careful: this machine', out), out
    assert "10.0.2.2" not in out, out


def test_suggestion_is_a_kit(home, box):
    with box.gate() as g:
        g.open("ask.test", 80).request()
        g.open("api.ask.test", 443).tls().request()
    kit = home.path("kit")
    os.makedirs(kit)
    with open(os.path.join(kit, "spec.yaml"), "w") as f:
        f.write('schemaVersion: "2"\nkind: mixin\nname: learned\n')
        f.write(home.ok("policy", "suggest", "one"))
    home.ok("kit", "validate", kit)
    out = home.ok("run", "--dry-run", "--kit", kit, "shell", home.path("work"))
    assert "ask.test:80" in out and "api.ask.test" in out


def test_usage(home):
    for args in ([], ["nonsense"], ["log", "a", "b"], ["check"], ["check", "a", "b"], ["init"],
                 ["suggest"], ["rm"], ["ls", "x"]):
        r = subprocess.run([HUTCH, "policy", *args], env=home.env, capture_output=True, text=True)
        assert r.returncode == 125 and "usage" in r.stderr, args


# ---- questions ----


@pytest.fixture
def asked(home, box):
    """A gate with two questions, and a supervisor that passes answers on."""
    with box.gate() as g:
        path = os.path.join(home.runtime, "hutch", "one.sock")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen(8)

        def serve():
            while True:
                try:
                    c, _ = sock.accept()
                except OSError:
                    return
                for line in c.makefile():
                    op = json.loads(line)
                    if op["op"] == "reload":
                        g.configure(rules=box.spec_rules())
                    else:
                        g.answer(op["op"], op["id"])
                    c.sendall(b'{"ok":true}\n')
                c.close()

        threading.Thread(target=serve, daemon=True).start()
        for name in ("a.test", "b.test"):
            assert g.open(name, 80).request()[0] == 403
        assert len(g.pending(lambda q: len(q) == 2)) == 2
        yield box, g
        os.unlink(path)  # nobody is there any more for hutch rm
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def pending(home):
    return {q["rule"]: q["box"] + "/" + q["id"]
            for q in json.loads(home.ok("policy", "pending", "--json"))}


def test_approve(home, asked):
    box, g = asked
    ids = pending(home)
    assert set(ids) == {"a.test:80", "b.test:80"}
    assert ids["a.test:80"] in home.ok("policy", "pending")
    assert "until the sandbox stops" in home.ok("policy", "approve", "--once", ids["a.test:80"])
    assert g.pending(lambda q: len(q) == 1)
    assert not [r for r in box.spec_rules() if r["target"] == "a.test:80"]
    home.ok("policy", "approve", "--always", ids["b.test:80"])
    assert g.pending(lambda q: not q) == {}
    assert {"allow": True, "target": "b.test:80", "source": "user, approved"} in box.spec_rules()
    for host in ("a.test", "b.test"):
        assert g.open(host, 80).request()[0] == 502  # allowed now; nobody is there
    home.ok("policy", "rm", "b.test:80", "--sandbox", "one")
    assert g.open("b.test", 80).request()[0] == 403


def test_dismiss_and_wrong_numbers(home, asked):
    box, g = asked
    ids = pending(home)
    home.ok("policy", "dismiss", ids["a.test:80"])
    assert g.pending(lambda q: len(q) == 1)
    for word in ("", "/", "one", "one/", "one/xyz", "two/12345678", "../one/1", ids["a.test:80"]):
        for verb in ("approve", "dismiss"):
            r = home.run("policy", verb, word)
            assert r.returncode == 125 and "no such question" in r.stderr, (word, r.stderr)
    assert home.run("policy", "approve", "--once", "--always", "x").returncode == 125


def test_answers_for_a_stopped_sandbox(home, box):
    with box.gate() as g:
        for name in ("a.test", "b.test"):
            g.open(name, 80).request()
        g.pending(lambda q: len(q) == 2)
    ids = pending(home)
    r = home.run("policy", "approve", ids["a.test:80"])
    assert r.returncode == 125 and "does not run" in r.stderr and "--always" in r.stderr
    home.ok("policy", "approve", "--always", ids["a.test:80"])
    home.ok("policy", "dismiss", ids["b.test:80"])
    assert pending(home) == {}
    assert [r["target"] for r in box.spec_rules()][-1] == "a.test:80"


def test_broken_question_files_are_passed_over(home, box):
    for text in ("", "{", "[]", '{"questions":1}', '{"questions":[1,{"id":2}]}'):
        with open(home.box("one", "gate", "pending.json"), "w") as f:
            f.write(text)
        home.ok("policy", "pending")


def test_learn_is_part_of_the_plan(home):
    os.makedirs(home.path("w"))
    args = ["--dry-run", "--json", "shell", home.path("w")]
    assert json.loads(home.ok("run", "--learn", *args))["network"]["learn"] is True
    assert "learn" not in json.loads(home.ok("run", *args))["network"]
    assert "learning" in home.ok("run", "--learn", "--dry-run", "shell", home.path("w"))
