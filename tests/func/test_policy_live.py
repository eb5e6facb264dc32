# SPDX-License-Identifier: Apache-2.0
"""hutch policy and a sandbox that runs: rules and answers reach it at once, all processes sealed."""
import json
import os
import pty
import subprocess
import threading

import pytest

from conftest import HUTCH, PATIENCE, wait_for
from gate_driver import Nobody

CURL = "curl -sS --max-time 60 -o /dev/stderr -w %{{http_code}} http://{}/"


def curl(home, name, host):
    r = home.run("exec", name, "--", "sh", "-c", CURL.format(host))
    return r.stdout, r.stderr


def pending(home):
    return {q["rule"]: q["box"] + "/" + q["id"]
            for q in json.loads(home.ok("policy", "pending", "--json"))}


@pytest.fixture(scope="module")
def ports():
    """Of this machine's, where nobody listens: what is allowed gets 502."""
    held = [Nobody() for _ in range(4)]
    yield [n.address.rsplit(":", 1)[1] for n in held]
    for n in held:
        n.__exit__()


def test_rules_and_answers_while_it_runs(box, ports):
    home, name, _ = box
    one, two = ("host.hutch.internal:" + p for p in ports[:2])
    code, text = curl(home, name, one)
    assert code == "403" and "hutch policy approve shared/" in text
    ids = wait_for(lambda: pending(home), what="a question")
    home.ok("policy", "approve", ids[one])
    wait_for(lambda: curl(home, name, one)[0] == "502", what="the approval")
    wait_for(lambda: pending(home) == {}, what="the question to go")
    home.ok("policy", "allow", "GET %s/**" % two)  # for all: hutch-box reads policy.json
    wait_for(lambda: curl(home, name, two)[0] == "502", what="the rule for all")
    home.ok("policy", "deny", two, "--sandbox", name)
    wait_for(lambda: curl(home, name, two)[0] == "403", what="the deny rule")
    r = home.run("policy", "check", "http://%s/" % two, "--sandbox", name)
    assert r.returncode == 1 and two in r.stdout
    assert "unbroken" in home.ok("policy", "log", "--verify", name)


def until(work, name):
    """What a command waits with for a file that the test makes: its question has been seen then."""
    return "; until test -e %s/%s; do sleep 0.1; done" % (work, name)


def test_question_beside_an_attached_command(box, ports):
    home, _, work = box
    host = "host.hutch.internal:" + ports[2]
    p = home.popen("run", "--name", "shared", "shell", work, "--", "-c",
                   CURL.format(host) + until(work, "beside"), stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = "hutch: asks for %s: hutch policy approve shared/" % host
    watchdog = threading.Timer(PATIENCE, p.kill)
    watchdog.start()
    try:
        assert any(said in line for line in iter(p.stderr.readline, ""))
        open(os.path.join(work, "beside"), "w").close()
        assert p.wait() == 0, p.stderr.read()
    finally:
        watchdog.cancel()
        p.kill()
        p.wait()
        p.stderr.close()


def test_question_on_a_terminal_is_in_its_title(box, ports):
    home, _, work = box
    host = "host.hutch.internal:" + ports[3]
    ours, theirs = pty.openpty()
    p = subprocess.Popen([HUTCH, "run", "--name", "shared", "shell", work, "--", "-c",
                          "printf 'a\\033[1;3'; " + CURL.format(host) + " 2>/dev/null >/dev/null"
                          + until(work, "asked") + "; printf '1mb'" + until(work, "title")],
                         stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=home.env,
                         cwd=home.base, start_new_session=True)
    os.close(theirs)
    watchdog = threading.Timer(PATIENCE, p.kill)
    watchdog.start()
    title = ("\x1b[22;0t\x1b]0;hutch: asks for %s: hutch policy approve shared/" % host).encode()
    seen = b""
    wait_for(lambda: host in pending(home), what="the question")
    open(os.path.join(work, "asked"), "w").close()
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
        if title in seen:
            open(os.path.join(work, "title"), "w").close()
    watchdog.cancel()
    err = p.stderr.read().decode()
    assert p.wait() == 0, (seen, err)
    p.stderr.close()
    os.close(ours)
    assert title in seen and seen.endswith(b"\x1b[23;0t")
    assert b"a\x1b[1;31mb" in seen  # the sequence that was under way has not been cut
    assert "1 question came up: hutch policy pending" in err
