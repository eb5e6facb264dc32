# SPDX-License-Identifier: Apache-2.0
"""hutch recreate: a new root for a sandbox that keeps its volumes and its workspace."""
import json
import os
import subprocess

import pytest

from conftest import HUTCH, wait_for
from test_kits import write

KIT = """schemaVersion: "2"
kind: mixin
name: keeper
setup:
  install:
    - command: cat /proc/sys/kernel/random/uuid >/opt/token; echo x >>/data/installs
    - command: test ! -e /data/fail || exit 3
    - command: test ! -e /data/hold || { rm /data/hold; sync; echo holding; sleep 600; }
  startup:
    - command: [sh, -c, "echo start >>~/starts"]
volumes:
  - {path: /data, mode: "0777"}
  - {path: /home/agent/.cache/sized, size: 24m}
  - {path: /scratch, type: tmpfs, mode: "1777"}
"""


@pytest.fixture
def kept(home):
    kit = write(home, "keeper", KIT)
    os.makedirs(os.path.join(kit, "files", "workspace"))
    with open(os.path.join(kit, "files", "workspace", "note"), "w") as f:
        f.write("from the kit\n")
    os.makedirs(home.path("work"))
    home.ok("create", "--name", "a", "--no-cache", "--memory", "512m", "--kit", kit, "shell", home.path("work"))
    return home


def sh(home, script, *args):
    return home.ok("exec", *args, "a", "--", "sh", "-c", script)


def layers(home):
    """What lies on the disk beside the store."""
    out = subprocess.run(["debugfs", "-R", "ls -p /", home.box("a", "disk.img")], capture_output=True, text=True,
                         check=True).stdout
    names = {line.split("/")[5] for line in out.splitlines() if line.count("/") > 5}
    assert "store" in names
    return names - {".", "..", "lost+found", "store"}


def test_what_stays(kept):
    home = kept
    token = sh(home, "echo mine >/data/f; chmod 600 /data/f; echo mine >~/.cache/sized/f; echo gone >~/f; "
                     "echo gone >/scratch/f; echo mine >note; cat /opt/token")
    sh(home, "echo gone >/etc/gone; chmod 755 /data", "-u", "root")
    # The store is the bare disk's, not the layer's.
    assert "overlay" not in sh(home, "stat -f -c %T /data") and "overlay" in sh(home, "stat -f -c %T /home")
    r = home.run("recreate", "a")
    assert r.returncode == 125 and "is running" in r.stderr and "hutch recreate -f a" in r.stderr
    assert home.ok("recreate", "-f", "a") == "a\n"
    assert sh(home, "cat /data/f ~/.cache/sized/f note; stat -c '%a %U' /data /data/f") == (
        "mine\nmine\nmine\n755 root\n600 agent\n")
    assert sh(home, "ls -d ~/f /etc/gone /scratch/* 2>/dev/null; cat ~/starts; wc -l </data/installs") == "start\n2\n"
    assert sh(home, "cat /opt/token") != token
    assert home.run("recreate", "b").returncode == 125

    # The new layer stays at a stop, the old one goes.
    token = sh(home, "echo later >~/f; cat /opt/token")
    home.ok("stop", "a")
    assert layers(home) == {"upper", "work", "docker", "g1"}
    assert sh(home, "cat ~/f ~/starts /opt/token") == "later\nstart\nstart\n" + token
    home.ok("stop", "a")
    while layers(home) != {"g1"}:  # removal goes on at each start
        home.ok("start", "a")
        home.ok("stop", "a")

    # Nobody else's: no cache entry of a disk with somebody's volumes, and removal takes all of it.
    assert json.loads(home.ok("kit", "cache", "ls", "--json")) == []
    home.ok("rm", "a")
    assert os.listdir(home.path("state", "hutch", "boxes")) == []


def test_what_goes_wrong(kept):
    """A step that fails, and commands that are killed: the old sandbox or the new one."""
    home = kept
    token = sh(home, "echo here >~/f; touch /data/fail; cat /opt/token")
    r = home.run("recreate", "-f", "a")
    assert r.returncode == 125 and "exit 3" in r.stderr and "is what it was before" in r.stderr
    assert sh(home, "cat ~/f /opt/token; rm /data/fail") == "here\n" + token
    home.ok("stop", "a")

    # Killed in the middle of the set-up, command and supervisor: what was begun is done at the next start.
    sh(home, "echo mine >/data/f; touch /data/hold; sync")
    home.ok("stop", "a")
    p = subprocess.Popen([HUTCH, "recreate", "a"], env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(home.box("a", "setup.log")) as log:
        wait_for(lambda: "holding" in log.read(), 240, "the middle of the set-up")
    supervisor = home.workers("a")["hutch-box"]
    p.kill()
    p.wait()
    os.kill(supervisor, 9)
    wait_for(lambda: not home.workers("a"), what="the end of what it had started")
    assert sh(home, "cat /data/f; ls ~/f 2>/dev/null; cat ~/starts") == "mine\nstart\n"
    assert sh(home, "cat /opt/token") != token
    home.ok("recreate", "-f", "a")
    assert sh(home, "cat /data/f ~/starts") == "mine\nstart\n"


def test_other_kits(kept):
    """Another composition for the same sandbox: what is its own stays, what was its kits' goes."""
    home = kept
    other = write(home, "other", KIT.replace("name: keeper", "name: other").replace(
        "{path: /data, mode: \"0777\"}", "{path: /more}").replace(">>/data/installs", ">/dev/null"))
    bigger = write(home, "bigger", KIT.replace("size: 24m", "size: 32m"))
    word = write(home, "word", 'schemaVersion: "2"\nkind: mixin\nname: word\nargs: {word: {default: a, enum: [a, b]}}\n'
                               'environment: {variables: {WORD: "${{ kit.args.word }}"}}\n')
    home.ok("policy", "allow", "--sandbox", "a", "mine.test")
    token = sh(home, "echo mine >/data/f; echo here >~/f; cat /opt/token")

    # What is refused leaves everything as it is, and running.
    for status, args in ((124, ["--kit", bigger, "a", "shell"]), (125, ["a", "nobody"]),
                         (125, ["--kit", other, "a"]), (125, ["--kit-arg", "word=b", "a"])):
        r = home.run("recreate", "-f", *args)
        assert r.returncode == status, (args, r.stderr)
    assert "another size" in home.run("recreate", "-f", "--kit", bigger, "a", "shell").stderr
    assert home.state("a") == "ready"
    assert sh(home, "cat ~/f /opt/token") == "here\n" + token

    os.makedirs(home.path("elsewhere"))
    home.ok("recreate", "-f", "--kit", "../other", "--kit", "../word", "--kit-arg", "word=b", "a", "shell",
            cwd=home.path("elsewhere"))
    assert sh(home, "pwd; echo $WORD; ls -A /more; ls -d /data ~/f 2>/dev/null; cat note") == (
        home.path("work") + "\nb\nfrom the kit\n")
    # Kept, and out of sight.
    volumes = {v["path"]: v.get("retained", False) for v in json.load(open(home.box("a", "spec.json")))["volumes"]}
    assert volumes == {"/data": True, "/more": False, "/home/agent/.cache/sized": False, "/scratch": False}
    assert "mine.test" in home.ok("policy", "ls", "--sandbox", "a")

    # Once more with another value, and back to the first kit: what was in its volume is there again.
    home.ok("recreate", "-f", "--kit-arg", "word=a", "a")
    assert sh(home, "echo $WORD; echo more >/more/f; ls -d /data 2>/dev/null || true") == "a\n"
    home.ok("recreate", "-f", "--kit", home.path("keeper"), "a", "shell")
    assert sh(home, "cat /data/f; ls -d /more 2>/dev/null || true") == "mine\n"
    assert "WORD" not in sh(home, "env")
