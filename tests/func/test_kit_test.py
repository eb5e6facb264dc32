# SPDX-License-Identifier: Apache-2.0
"""hutch kit test: a kit's own tests, in a sandbox of their own."""
import glob
import json
import os
import re
import signal
import subprocess
import tempfile
import time

import pytest

from conftest import PATIENCE
from test_kits import DOCS, write


def add_test(kit, name, text):
    os.makedirs(os.path.join(kit, "testdata"), exist_ok=True)
    with open(os.path.join(kit, "testdata", name), "w") as f:
        f.write(text)


def documented():
    """The kit and the tests of docs/kits.md, and what it says that comes out."""
    text = open(DOCS).read()
    text = text[text.index("\n## testdata/\n"):text.index("\n## YAML\n")]
    kit, tests = re.findall(r"^```yaml\n(.*?)^```$", text, re.S | re.M)
    out = re.search(r"^    \$ hutch kit test ./greet\n((?:    .*\n)+)", text, re.M).group(1)
    return kit, tests, re.sub(r"^    ", "", out, flags=re.M)


@pytest.fixture
def empty_tmp(home):
    """A directory for temporary files, which must be empty in the end."""
    path = tempfile.mkdtemp(prefix="hutch-kt-")
    home.env["TMPDIR"] = path
    yield path
    del home.env["TMPDIR"]
    os.rmdir(path)


def nothing_left(home):
    return json.loads(home.ok("ls", "--json")) == []


def test_documented_example(home, empty_tmp):
    kit, tests, out = documented()
    path = write(home, "greet", kit)
    add_test(path, "greet.yaml", tests)
    r = home.run("kit", "test", "./greet")
    assert (r.returncode, r.stdout) == (0, out), r.stderr
    assert nothing_left(home)


FAILING = """tests:
  - {name: status, run: exit 7}
  - {name: output, run: "echo one; echo two", expect: {stdout: one}}
  - {name: contains, run: echo one, expect: {stdoutContains: [ne, two]}}
  - {name: error, run: echo one >&2, expect: {stderrContains: [two]}}
  - {name: slow, run: sleep 60, timeout: 1}
  - name: absent
    run: "true"
    expect: {files: [{path: /etc/passwd, absent: true}]}
  - name: there
    run: "true"
    expect: {files: [{path: /nonexistent}]}
  - name: mode
    run: touch ~/f && chmod 600 ~/f
    expect: {files: [{path: /home/agent/f, mode: "0644"}]}
  - name: owner
    run: "true"
    expect: {files: [{path: /home/agent/f, owner: root}]}
  - name: content
    run: echo x >~/f
    expect: {files: [{path: /home/agent/f, content: y}]}
  - name: directory
    run: "true"
    expect: {files: [{path: /etc}]}
  - {name: nobody, run: "true", user: nobody-of-this-name}
  - {name: escape, run: "printf '\\\\033[31mred'; exit 1"}
network:
  allowed: [example.com]
  refused: ["example.org:80"]
"""


def test_failures(home, empty_tmp):
    path = write(home, "k", 'schemaVersion: "2"\nkind: mixin\nname: failing\n'
                 'permissions: {network: {allow: ["example.org:80"]}}\n')
    add_test(path, "a.yaml", FAILING)
    add_test(path, "b.sh", "set -e\ncat data/fixture\nexit 3\n")
    add_test(path, "c.sh", "test \"$(cat data/fixture)\" = fixture && test $(id -un) = agent\n")
    os.makedirs(os.path.join(path, "testdata", "data"))
    add_test(path, "data/fixture", "fixture\n")
    r = home.run("kit", "test", path, "--json")
    answer = json.loads(r.stdout)
    assert r.returncode == 1, r.stderr
    got = {re.sub(r"^a.yaml:\d+: ", "", c["name"]): c for c in answer["checks"]}
    good = {n for n, c in got.items() if c["ok"]}
    assert good == {"kit failing is installed", "c.sh"}
    assert (answer["passed"], answer["failed"]) == (len(good), len(got) - len(good))
    for name, says in {
            "status": "exit status 7, expected 0", "output": 'standard output is "one?two?", expected "one"',
            "contains": 'standard output lacks "two"', "error": 'standard error lacks "two"',
            "slow": "not done within 1 s", "absent": "/etc/passwd: is there",
            "there": "/nonexistent: is not there", "mode": "mode 0600, expected 0644",
            "owner": "belongs to agent, expected root", "content": "content is not as expected",
            "directory": "is no file", "nobody": "exit status 126, expected 0",
            "b.sh": "exit status 3, expected 0", "allowed example.com": "no rule allows it",
            "refused example.org:80": "is allowed by"}.items():
        assert says in got[name]["why"], got[name]
    assert got["b.sh"]["output"] == "fixture\n"
    assert nothing_left(home)


def test_kit_that_cannot_be_installed(home, empty_tmp):
    write(home, "k", 'schemaVersion: "2"\nkind: mixin\nname: broken\n'
          'args: {n: {required: true}}\n'
          'setup: {install: [{command: "echo ${{ kit.args.n }}; exit ${{ kit.args.n }}"}]}\n')
    r = home.run("kit", "test", "./k", "--kit-arg", "n=9")
    assert r.returncode == 1 and r.stdout.startswith("FAIL  kit broken is installed: "), r.stdout
    assert r.stdout.endswith("0 passed, 1 failed\n") and "has no tests in testdata/" in r.stderr
    assert nothing_left(home)
    r = home.run("kit", "test", "./k")
    assert r.returncode == 125 and "args.n: has no value" in r.stderr


def test_kept(home):
    path = write(home, "k", 'schemaVersion: "2"\nkind: sandbox\nname: kept\nextends: shell\n'
                 'sandbox: {}\n'
                 'permissions: {network: {allow: [api.example.com]}}\n'
                 'credentials: [{service: example, required: true, apiKey: {name: KEY, inject: '
                 '[{domain: api.example.com, scheme: bearer}]}}]\n')
    add_test(path, "one.sh", "echo hello >file\n")
    r = home.run("kit", "test", "--keep", path)
    assert r.returncode == 0 and "2 passed, 0 failed" in r.stdout, r.stderr
    name, work = re.search(r"kept (\S+) \((\S+)\)", r.stderr).groups()
    assert home.ok("exec", name, "--", "cat", work + "/file") == "hello\n"
    home.ok("rm", "-f", name)
    for f in glob.glob(work + "/*"):
        os.unlink(f)
    os.rmdir(work)


def test_errors_in_testdata(home, empty_tmp):
    path = write(home, "k", 'schemaVersion: "2"\nkind: mixin\nname: k\n')
    add_test(path, "a.yaml", "tests:\n  - {name: x, rum: y}\n")
    add_test(path, "b.yaml", "network: {allowed: [1.5]}\n")
    r = home.run("kit", "test", "./k")
    assert r.returncode == 125 and r.stdout == ""
    assert "testdata/a.yaml:2:15: tests[0].rum: unknown key, did you mean run?" in r.stderr
    assert "testdata/a.yaml:2:5: tests[0]: run is missing" in r.stderr
    assert "testdata/b.yaml:1:21: network.allowed[0]: YAML takes 1.5" in r.stderr
    assert nothing_left(home)
    schema = json.loads(home.ok("kit", "schema", "testdata"))
    assert set(schema["properties"]) == {"tests", "network"}


def test_testdata_is_not_signed(home):
    path = write(home, "k", 'schemaVersion: "2"\nkind: mixin\nname: k\n')
    before = home.ok("kit", "verify", "--list", path)
    add_test(path, "a.sh", "true\n")
    assert home.ok("kit", "verify", "--list", path) == before


def gone(home, tmp):
    end = time.monotonic() + PATIENCE
    while os.listdir(tmp) or not nothing_left(home):
        assert time.monotonic() < end, (os.listdir(tmp), home.ok("ls"))
        time.sleep(0.2)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("when", ["made", "testing"])
def test_that_is_killed(home, empty_tmp, sig, when):
    """Neither the copy of the workspace nor the sandbox outlives the command, whatever ends it."""
    path = write(home, "k", 'schemaVersion: "2"\nkind: mixin\nname: slow\n')
    add_test(path, "a.sh", "sleep 1000\n")
    p = home.popen("kit", "test", path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    if when == "made":
        while nothing_left(home):
            assert p.poll() is None
            time.sleep(0.05)
    else:
        assert p.stdout.readline() == "ok    kit slow is installed\n"
    os.killpg(p.pid, sig)
    assert p.wait(PATIENCE) != 0
    p.stdout.close()
    gone(home, empty_tmp)


def test_validate_looks_at_testdata(home):
    path = write(home, "k", 'schemaVersion: "2"\nkind: mixin\nname: tested\n')
    assert home.run("kit", "validate", path).returncode == 0
    add_test(path, "a.yaml", "tests:\n  - {name: x, run: y, exit: 7}\n")
    add_test(path, "b.yaml", "network:\n  refuse: [example.com]\n")
    add_test(path, "c.txt", "not: [a test\n")
    r = home.run("kit", "validate", path)
    assert r.returncode == 125 and "/testdata: 2 errors" in r.stderr
    assert "/testdata/a.yaml:2:23: tests[0].exit: unknown key" in r.stdout
    assert "/testdata/b.yaml:2:3: network.refuse: unknown key" in r.stdout
    answer = json.loads(home.run("kit", "validate", "--json", path).stdout)
    assert not answer["ok"] and {os.path.basename(e["file"]) for e in answer["errors"]} == {"a.yaml", "b.yaml"}
