# SPDX-License-Identifier: Apache-2.0
"""Credentials of a real sandbox: used, rotated, revoked, and looked for where they must not be."""
import json
import os
import subprocess

import pytest

from conftest import BUILD, Home, memory_has
from servers import Authority, Web

# Of the test's own making, and nowhere but where the test puts them.
FETCHED, VARIABLE, STORED = ("fetched-c0ffee-%d" % os.getpid(), "variable-c0ffee-%d" % os.getpid(),
                             "stored-c0ffee-%d" % os.getpid())
BYSTANDER = "bystander-c0ffee-%d" % os.getpid()

KIT = """schemaVersion: "2"
kind: mixin
name: api
permissions:
  network:
    allow: [api.hello.test]
credentials:
""" + "".join("""  - service: %s
    required: true
    apiKey:
      name: %s_KEY
      inject: [{domain: api.hello.test, header: X-%s, format: "%%s"}]
""" % (s, s.upper(), s) for s in ("fetched", "variable", "stored"))


@pytest.fixture(scope="module")
def world(tmp_path_factory, images):
    tmp = tmp_path_factory.mktemp("live")
    ca = Authority(tmp / "ca")
    home = Home(str(tmp / "home"))
    home.env["SSL_CERT_FILE"] = ca.bundle()
    home.api = Web(ca, "api.hello.test")
    home.token = home.path("token")
    with open(home.token, "w") as f:
        f.write(FETCHED + "\n")
    home.ok("secret", "set", "fetched", "--from", "cmd:cat '%s'" % home.token, "--ttl", "1h")
    home.ok("secret", "set", "variable", "--from", "env:THE_TOKEN")
    home.run("secret", "set", "stored", "--no-keyring", input="for all sandboxes")
    os.makedirs(home.path("kit"))
    with open(home.path("kit", "spec.yaml"), "w") as f:
        f.write(KIT)
    home.work = home.path("work")
    os.makedirs(home.work)
    home.create = lambda: home.ok(
        "create", "--name", "live", "--memory", "512m", "--disk", "512m", "--kit", home.path("kit"), "--resolve",
        "api.hello.test=" + home.api.address, "shell", home.work,
        env={"THE_TOKEN": VARIABLE, "SOME_PASSWORD": BYSTANDER})
    home.create()
    home.sh = lambda text: home.run("exec", "live", "--", "sh", "-c", text)
    yield home
    home.close()


def ask(world, *headers):
    """One request of the guest; the credentials that the server saw."""
    before = len(world.api.seen)
    r = world.sh("curl -sS https://api.hello.test/echo "
                 + " ".join("-H '%s'" % h for h in headers))
    assert r.stdout == "hello\n", (r.stdout, r.stderr)
    (seen,) = world.api.seen[before:]
    seen = {k.lower(): v for k, v in seen.items()}
    return tuple(seen.get("x-" + s) for s in ("fetched", "variable", "stored"))


def test_every_source_reaches_the_server(world):
    assert ask(world) == (FETCHED, VARIABLE, "for all sandboxes")
    r = world.sh("echo $FETCHED_KEY $VARIABLE_KEY $STORED_KEY")
    assert r.stdout.split() == ["proxy-managed"] * 3


def test_own_value_wins_at_once(world):
    world.run("secret", "set", "stored", "--no-keyring", "--sandbox", "live", input=STORED)
    assert ask(world) == (FETCHED, VARIABLE, STORED)


def is_sanitized(program):
    with open(os.path.join(BUILD, program), "rb") as f:
        return b"__asan_init" in f.read()


@pytest.mark.skipif(os.getuid() != 0, reason="other processes' memory is root's to read")
def test_guest_memory_and_processes(world):
    """After use. What the guest knows is found there, so the search works."""
    mark = "in-the-guest-%d" % os.getpid()
    assert ask(world) == (FETCHED, VARIABLE, STORED)
    world.sh("MARK=%s sleep 600 >/dev/null 2>&1 &" % mark)
    workers = world.workers("live")
    machine = workers.get("qemu", workers["hutch-vmm"])
    assert memory_has(machine, mark.encode())
    for program in {"qemu", "hutch-vmm", "hutch-box"} & set(workers):
        values = [FETCHED, STORED]
        # AddressSanitizer's run time keeps a copy of the environment that a program begins with
        if program != "hutch-box" or not is_sanitized(program):
            values += [VARIABLE, BYSTANDER]
        for value in values:
            assert not memory_has(workers[program], value.encode()), (program, value)
    # the gate has had the values in hand, but nothing else
    assert not memory_has(workers["hutch-gate"], BYSTANDER.encode())


def test_environments(world):
    workers = world.workers("live")
    for program in set(workers) - {"hutch-secret"}:
        with open("/proc/%d/environ" % workers[program], "rb") as f:
            text = f.read()
        assert VARIABLE.encode() not in text and BYSTANDER.encode() not in text, program
    with open("/proc/%d/environ" % workers["hutch-secret"], "rb") as f:
        assert BYSTANDER.encode() in f.read()


def test_disk_and_logs(world):
    mark = "on-the-disk-%d" % os.getpid()
    assert ask(world, "X-Other: 1") == (FETCHED, VARIABLE, STORED)
    world.sh("echo %s >/home/agent/mark; env >/home/agent/env; sync" % mark)
    box = world.box("live")
    assert found_below(box, mark.encode()) == {"disk.img"}
    assert found_below(box, STORED.encode()) == {"secrets/stored"}
    for needle in (FETCHED, VARIABLE, BYSTANDER):
        assert found_below(box, needle.encode()) == set()


def found_below(path, needle):
    r = subprocess.run(["grep", "-rlaF", needle.decode(), "."], cwd=path, capture_output=True,
                       text=True)
    return {line[2:] for line in r.stdout.splitlines()}


def test_rotated_and_revoked_at_the_next_request(world):
    with open(world.token, "w") as f:
        f.write("rotated\n")
    # a command's value has its time, which setting it again ends
    assert ask(world)[0] == FETCHED
    world.ok("secret", "set", "fetched", "--from", "cmd:cat '%s'" % world.token)
    assert ask(world)[0] == "rotated"
    world.ok("secret", "rm", "stored", "--sandbox", "live")
    assert ask(world)[2] == "for all sandboxes"
    world.ok("secret", "rm", "stored")
    r = world.sh("curl -sS https://api.hello.test/echo")
    assert "no value" in r.stdout and "hutch secret set stored" in r.stdout


def boxes(world):
    return {row["sandbox"] for row in json.loads(world.ok("secret", "ls", "--json"))}


def test_goes_with_the_sandbox(world):
    world.run("secret", "set", "stored", "--no-keyring", "--sandbox", "live", input=STORED)
    assert "live" in boxes(world)
    path = world.box("live", "secrets")
    assert os.listdir(path) == ["stored"]
    world.ok("rm", "-f", "live")
    assert not os.path.exists(path) and "live" not in boxes(world)
    # a new one of the same name has none of it: a required credential is missing
    r = world.run("create", "--name", "live", "--kit", world.path("kit"), "shell", world.work,
                  env={"THE_TOKEN": VARIABLE})
    assert r.returncode == 124 and "hutch secret set stored" in r.stderr
