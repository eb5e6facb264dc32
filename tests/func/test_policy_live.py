# SPDX-License-Identifier: Apache-2.0
"""hutch policy and a sandbox that runs: rules and answers reach it at once, all processes sealed."""
import json
import os
import pty
import subprocess

from conftest import HUTCH, wait_for

CURL = "curl -sS --max-time 60 -o /dev/stderr -w %{{http_code}} http://{}/"


def curl(home, name, host):
    r = home.run("exec", name, "--", "sh", "-c", CURL.format(host))
    return r.stdout, r.stderr


def pending(home):
    return {q["rule"]: q["box"] + "/" + q["id"]
            for q in json.loads(home.ok("policy", "pending", "--json"))}


def test_rules_and_answers_while_it_runs(box):
    home, name, _ = box
    # 502: allowed, and nobody listens on that port of this machine
    code, text = curl(home, name, "host.hutch.internal:9001")
    assert code == "403" and "hutch policy approve shared/" in text
    ids = wait_for(lambda: pending(home), 60, "a question")
    home.ok("policy", "approve", ids["host.hutch.internal:9001"])
    wait_for(lambda: curl(home, name, "host.hutch.internal:9001")[0] == "502", 60, "the approval")
    wait_for(lambda: pending(home) == {}, 60, "the question to go")  # the file follows within 0.3 s
    home.ok("policy", "allow", "GET host.hutch.internal:9002/**")  # for all: hutch-box reads policy.json
    wait_for(lambda: curl(home, name, "host.hutch.internal:9002")[0] == "502", 60, "the rule for all")
    home.ok("policy", "deny", "host.hutch.internal:9002", "--sandbox", name)
    wait_for(lambda: curl(home, name, "host.hutch.internal:9002")[0] == "403", 60, "the deny rule")
    r = home.run("policy", "check", "http://host.hutch.internal:9002/", "--sandbox", name)
    assert r.returncode == 1 and "host.hutch.internal:9002" in r.stdout
    assert "unbroken" in home.ok("policy", "log", "--verify", name)


def test_question_beside_an_attached_command(box):
    home, _, work = box
    r = home.run("run", "--name", "shared", "shell", work, "--", "-c",
                 CURL.format("host.hutch.internal:9003") + "; sleep 2")
    assert r.returncode == 0, r.stderr
    assert "hutch: asks for host.hutch.internal:9003: hutch policy approve shared/" in r.stderr


def test_question_on_a_terminal_is_in_its_title(box):
    home, _, work = box
    ours, theirs = pty.openpty()
    p = subprocess.Popen([HUTCH, "run", "--name", "shared", "shell", work, "--", "-c",
                          "printf 'a\\033[1;3'; " + CURL.format("host.hutch.internal:9004") +
                          " 2>/dev/null >/dev/null; sleep 2; printf '1mb'"],
                         stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=home.env,
                         cwd=home.base, start_new_session=True)
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
    err = p.stderr.read().decode()
    assert p.wait(120) == 0, err
    p.stderr.close()
    os.close(ours)
    title = b"\x1b[22;0t\x1b]0;hutch: asks for host.hutch.internal:9004: hutch policy approve shared/"
    assert title in seen and seen.endswith(b"\x1b[23;0t")
    assert b"a\x1b[1;31mb" in seen  # the sequence that was under way has not been cut
    assert "1 question came up: hutch policy pending" in err
