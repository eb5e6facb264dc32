# SPDX-License-Identifier: Apache-2.0
"""What kits do in a real sandbox, and the install cache."""
import json
import os

import pytest

from kit_world import commit, git
from test_kits import write

KIT = """schemaVersion: "2"
kind: mixin
name: once
args: {word: {default: hello}}
environment: {variables: {WORD: "${{ kit.args.word }}"}}
setup:
  install:
    - command: cat /proc/sys/kernel/random/uuid >/opt/token && cp ~agent/seed /opt/seed
    - command: touch ~/owned
      user: agent
  startup:
    - command: [sh, -c, "echo start >>~/starts"]
    - command: [sh, -c, "echo bg >/tmp/bg; sleep 600"]
      background: true
  files:
    - {path: /home/agent/seed, content: replaced, onlyIfMissing: true}
    - {path: /usr/local/bin/tool, content: "#!/bin/sh\\necho tool in ${WORKDIR}\\n", mode: "0755"}
volumes:
  - {path: /home/agent/.cache/deep/block}
  - {path: /scratch, type: tmpfs, size: 8m, mode: "1777"}
  - {path: /home/agent/.cache/sized, size: 24m, mode: "0700"}
agentInstructions: {content: Read me.}
"""


@pytest.fixture
def kit(home):
    path = write(home, "once", KIT)
    os.makedirs(os.path.join(path, "files", "home"))
    with open(os.path.join(path, "files", "home", "seed"), "w") as f:
        f.write("${{ kit.args.word }} seed")
    os.makedirs(home.path("work"))
    return path


def create(home, kit, name, *args):
    home.ok("create", "--name", name, "--kit", kit, *args, "shell", home.path("work"))


def sh(home, name, script):
    return home.ok("exec", name, "--", "sh", "-c", script)


def entries(home):
    return json.loads(home.ok("kit", "cache", "ls", "--json"))


def test_effects_and_cache(home, kit):
    create(home, kit, "a")
    token = sh(home, "a", "cat /opt/token")
    assert sh(home, "a", "cat /opt/seed ~/seed; stat -c %U ~/owned") == \
        "hello seedhello seedagent\n"
    assert sh(home, "a", "tool; echo $WORD") == "tool in %s\nhello\n" % home.path("work")
    assert sh(home, "a", "stat -c '%U %a' ~/.cache/deep ~/.cache/deep/block") == \
        "agent 755\nagent 755\n"
    assert sh(home, "a", "stat -f -c %T /scratch; stat -c %a /scratch; df -m --output=size /scratch"
                         " | tail -1").split() == ["tmpfs", "1777", "8"]
    assert "kits-memory/once.md" in sh(home, "a", "cat ~/AGENTS.md")
    assert sh(home, "a", "cat ~/kits-memory/once.md ~/starts /tmp/bg") == "Read me.start\nbg\n"

    # A volume cannot outgrow its size, and what was written stays as it is.
    assert sh(home, "a", "stat -c '%U %a' ~/.cache/sized; ls -A ~/.cache/sized") == "agent 700\n"
    out = sh(home, "a", "cd ~/.cache/sized; echo mine >f; head -c 64m /dev/zero >big 2>/tmp/err; cat /tmp/err;"
                        " du -m big | cut -f1; df -m --output=avail / | tail -1; rm big")
    assert "No space left on device" in out
    used, free = map(int, out.split()[-2:])
    assert 12 < used <= 24 < 64 < free

    # What is kept: start-up again, volumes, the change of an ordinary file. Not: tmpfs, install.
    sh(home, "a", "echo mine >~/.cache/deep/block/f; echo gone >/scratch/f; echo own >~/seed")
    home.ok("stop", "a")
    assert sh(home, "a", "cat ~/.cache/deep/block/f ~/seed ~/starts; ls /scratch; cat /opt/token") \
        == "mine\nown\nstart\nstart\n" + token
    assert sh(home, "a", "cat ~/.cache/sized/f; stat -c '%U %a' ~/.cache/sized; df --output=source"
                         " ~/.cache/sized | tail -1").split()[:3] == ["mine", "agent", "700"]
    assert "recovery complete" not in home.ok("exec", "-u", "root", "a", "--", "dmesg")  # unmounted

    # The second sandbox starts from the disk behind the steps, and is otherwise its own.
    (entry,) = entries(home)
    assert entry["info"]["kits"] == "shell, once"
    create(home, kit, "b")
    assert sh(home, "b", "cat /opt/token; hostname") == token + "b\n"
    assert sh(home, "b", "cat ~/starts; cat ~/seed; ls ~/.cache/deep/block") == "start\nhello seed"
    home.ok("rm", "-f", "a", "b")

    create(home, kit, "c", "--no-cache")
    assert sh(home, "c", "cat /opt/token") != token
    home.ok("rm", "-f", "c")
    with open(os.path.join(kit, "files", "home", "seed"), "a") as f:
        f.write("!")
    create(home, kit, "d")
    assert sh(home, "d", "cat /opt/token") != token
    assert len(entries(home)) == 2
    assert os.listdir(home.path("data", "hutch", "cache")) != []
    home.ok("kit", "cache", "rm", entry["key"][:12])
    assert len(entries(home)) == 1
    home.ok("kit", "cache", "rm")
    assert entries(home) == [] and os.listdir(home.path("data", "hutch", "cache")) == []
    assert home.run("kit", "cache", "rm", "abcdef").returncode == 125


def test_kit_from_elsewhere(home):
    """A kit from git in a real sandbox: pinned in its plan, its files and steps there."""
    repo = home.path("repo")
    os.makedirs(home.path("work"))
    os.makedirs(repo)
    git("init", "-q", "-b", "main", cwd=repo)
    write(home, "repo/once", KIT)
    os.makedirs(os.path.join(repo, "once", "files", "home"))
    with open(os.path.join(repo, "once", "files", "home", "seed"), "w") as f:
        f.write("${{ kit.args.word }} seed")
    ref = "git+file://%s#ref=%s&dir=once" % (repo, commit(repo))
    r = home.run("create", "--name", "a", "--kit", ref, "shell", home.path("work"))
    assert r.returncode == 2
    code = r.stderr.split("--approve-kit ")[1].strip()
    create(home, ref, "a", "--approve-kit", code)
    assert sh(home, "a", "cat ~/seed; cat /opt/seed") == "hello seedhello seed"
    with open(home.box("a", "spec.json")) as f:
        assert {"what": "kit once", "from": ref} in json.load(f)["origins"]
