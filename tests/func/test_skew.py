# SPDX-License-Identifier: Apache-2.0
"""Two versions of Hutch: files that another one wrote, sandboxes that run on while Hutch is replaced. What
cannot work is refused at once, with what to do. Without a virtual machine but in the last test."""
import json
import os
import socket
import threading

import pytest

from conftest import PATIENCE, Home
from test_policy import Box

RESTART = "hutch stop old && hutch start old"


@pytest.fixture
def home(tmp_path):
    h = Home(str(tmp_path / "home"))
    yield h
    h.close()


def refused(r, *says):
    assert r.returncode == 125, r
    for text in says:
        assert text in r.stderr, (text, r.stderr)
    assert len(r.stderr.splitlines()) == 2, r.stderr  # what, and the remedy


@pytest.mark.parametrize("change,says", [
    (lambda s: s.pop("image"), "spec.json: image: missing"),
    (lambda s: s.update(future=1), "spec.json: future: unknown key"),
    (lambda s: s["network"].update({"ne\x1bw": 1}), "unknown key"),
    (lambda s: s.update(version=2), "spec.json: version: 1 expected"),
])
def test_sandbox_of_another_version(home, change, says):
    box = Box(home, "old")
    path = home.box("old", "spec.json")
    with open(path) as f:
        spec = json.load(f)
    change(spec)
    with open(path, "w") as f:
        json.dump(spec, f)
    made = "sandbox old was made by another version of hutch"
    for args in (["exec", "old", "--", "true"], ["start", "old"], ["policy", "allow", "a.test", "--sandbox", "old"],
                 ["ports", "old"]):
        refused(home.run(*args), made, says, "hutch rm -f old")
    assert made in home.ok("ls")
    row, = json.loads(home.ok("ls", "--json"))
    assert row["state"] == "damaged" and says in row["error"]
    home.ok("rm", "old")
    assert home.ok("ls") == "" and not os.path.exists(home.box(box.name))


def test_rules_of_another_version(home):
    home.ok("policy", "allow", "a.test")
    path = home.path("config", "hutch", "policy.json")
    with open(path) as f:
        rules = json.load(f)
    for change in ({"version": 2}, {"rules": [dict(rules["rules"][0], ports=[1])]}):
        with open(path, "w") as f:
            json.dump(dict(rules, **change), f)
        refused(home.run("policy", "ls"), path, "another version of hutch", "move it away")


class Supervisor:
    """hutch-box as it was before streams named a version, or as it will be."""

    def __init__(self, home, agent):
        self.agent, self.ops, self.heard = agent, [], b""
        path = os.path.join(home.runtime, "hutch", "old.sock")
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(8)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            with c:
                for line in c.makefile():
                    self.answer(c, json.loads(line))

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def answer(self, c, request):
        self.ops.append(request["op"])
        if request["op"] in ("wait", "status"):
            c.sendall(b'{"ok": true, "state": "ready", "engine": "qemu", "kernel": "6"}\n')
        elif request["op"] == "open":
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    socket.send_fds(c, [json.dumps(dict({"ok": True}, **self.agent)).encode() + b"\n"],
                                    [theirs.fileno()])
                ours.settimeout(PATIENCE)
                self.heard += ours.recv(100)
        elif request["op"] == "stop":
            c.sendall(b'{"ok": true}\n')
        else:
            c.sendall(b'{"ok": false, "error": "unknown request", "hint": ""}\n')


@pytest.mark.parametrize("agent", [{}, {"agent": 1}, {"agent": 99}])
def test_supervisor_of_another_version(home, agent):
    Box(home, "old")
    peer = Supervisor(home, agent)
    what = "sandbox old was started by another version of hutch"
    refused(home.run("exec", "old", "--", "true"), what, RESTART)
    refused(home.run("ports", "old", "--publish", "8080"), what, RESTART)
    # What it always understood goes on.
    assert "ready" in home.ok("ls")
    assert home.ok("stop", "old") == "old\n"
    assert peer.ops.count("open") == 1 and peer.heard == b""  # not a word was said to its guest
    peer.close()


@pytest.mark.parametrize("agent", [{}, {"agent": 1}, {"agent": 99}])
def test_command_line_of_another_version(box, agent):
    """The supervisor's own view of the same."""
    shared, name, _ = box
    with socket.socket(socket.AF_UNIX) as c:
        c.connect(os.path.join(shared.runtime, "hutch", name + ".sock"))
        c.sendall(json.dumps(dict({"op": "open"}, **agent)).encode() + b"\n")
        line, fds, _, _ = socket.recv_fds(c, 4096, 4)
    answer = json.loads(line)
    assert not answer["ok"] and not fds
    assert "another version" in answer["error"] and answer["hint"] == "hutch stop shared && hutch start shared"
