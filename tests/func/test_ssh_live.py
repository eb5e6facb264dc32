# SPDX-License-Identifier: Apache-2.0
"""The user's ssh-agent in a real sandbox: from the guest's ssh through vsock to hutch-ssh and back."""
import os

import pytest

from conftest import Home
from test_ssh import SSHD, Agent, Sshd, fingerprint, keygen

pytestmark = [
    pytest.mark.skipif(not os.path.exists(SSHD), reason="openssh-server is not installed"),
    pytest.mark.skipif(os.getuid() != 0, reason="sshd lets only root log in as another user"),
]

KIT = """schemaVersion: "2"
kind: mixin
name: deploy
permissions:
  network:
    allow: ["git.hello.test:22", "other.hello.test:22"]
sshAgent:
  keys: [work laptop]
  hosts: [git.hello.test]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory, images):
    tmp = str(tmp_path_factory.mktemp("ssh"))
    home = Home(os.path.join(tmp, "home"))
    home.env["HOME"] = tmp
    os.makedirs(os.path.join(tmp, ".ssh"))
    home.named = keygen(os.path.join(tmp, "named"), comment="work laptop")
    other = keygen(os.path.join(tmp, "other"), "rsa", comment="production")
    home.agent = Agent(os.path.join(tmp, "agent.sock"))
    home.agent.add(home.named)
    home.agent.add(other)
    servers = [Sshd(os.path.join(tmp, "sshd-" + n), "ed25519", [home.named, other]) for n in ("git", "other")]
    with open(os.path.join(tmp, ".ssh", "known_hosts"), "w") as f:
        f.write(servers[0].known_hosts_line("git.hello.test"))
        f.write(servers[1].known_hosts_line("other.hello.test"))
    os.makedirs(home.path("kit"))
    with open(home.path("kit", "spec.yaml"), "w") as f:
        f.write(KIT)
    os.makedirs(home.path("work"))
    home.args = ["--memory", "512m", "--kit", home.path("kit"),
                 "--resolve", "git.hello.test=" + servers[0].address,
                 "--resolve", "other.hello.test=" + servers[1].address]
    yield home
    home.close()
    for thing in [*servers, home.agent]:
        thing.close()


def test_user_has_to_grant_it(world):
    plan = ["run", "--dry-run", *world.args]
    r = world.run(*plan, "shell", world.path("work"))
    assert r.returncode == 0 and "ssh-agent" not in r.stdout and "SSH_AUTH_SOCK" not in r.stdout
    r = world.run(*plan, "--ssh-agent", "shell", world.path("work"))
    assert "key work laptop" in r.stdout and "at git.hello.test" in r.stdout, r.stderr
    r = world.run("create", *world.args, "--ssh-agent", "--name", "x", "shell", world.path("work"),
                  env={"SSH_AUTH_SOCK": ""})
    assert r.returncode == 125 and "no ssh-agent runs here" in r.stderr
    r = world.run("create", "--ssh-agent", "--name", "x", "shell", world.path("work"))
    assert r.returncode == 125 and "no kit asks for it" in r.stderr
    assert world.ok("ls") == "" and not os.path.exists(world.box("x"))


def test_from_the_guest(world):
    r = world.run("create", *world.args, "--ssh-agent", "--name", "ssh", "shell", world.path("work"),
                  env={"SSH_AUTH_SOCK": world.agent.socket})
    assert r.returncode == 0, r.stderr

    def sh(text):
        return world.run("exec", "ssh", "--", "sh", "-c", text)

    ssh = ("ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
           "root@%s echo in-$((20 + 1))")
    r = sh("ssh-add -l")
    assert [line.split()[1] for line in r.stdout.splitlines()] == [fingerprint(world.named)], r.stderr
    r = sh(ssh % "git.hello.test")
    assert r.stdout == "in-21\n", r.stderr
    r = sh(ssh % "other.hello.test")
    assert r.stdout == "" and "agent refused" in r.stderr, r.stderr
    assert sh("ssh-add -D").returncode != 0
    assert len(world.agent.fingerprints()) == 2
    # root of the guest may use it as well, and nobody may open it to others
    r = world.run("exec", "-u", "root", "ssh", "--", "sh", "-c",
                  "ssh-add -l && stat -c '%U %a' $SSH_AUTH_SOCK")
    assert r.stdout.splitlines()[-1] == "agent 600", r.stderr
    # many at once
    r = sh("for i in 1 2 3 4 5 6 7 8; do ssh-add -l & done; wait")
    assert len(r.stdout.splitlines()) == 8, r.stderr
    with open(world.box("ssh", "box.log")) as f:
        assert "not a host of this sandbox" in f.read()


def test_next_start_without_an_agent(world):
    world.ok("stop", "ssh")
    r = world.run("exec", "ssh", "--", "sh", "-c", "ssh-add -l; true", env={"SSH_AUTH_SOCK": ""})
    assert r.returncode == 0, r.stderr
    assert "SHA256" not in r.stdout
