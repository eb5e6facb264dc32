# SPDX-License-Identifier: Apache-2.0
"""Kill -9 of any process, names that are taken, failing set-up: the truth is told, nothing is left."""
import json
import os
import signal
import subprocess
import time

import pytest

from conftest import alive, wait_for


@pytest.fixture
def work(home):
    path = home.path("work")
    os.makedirs(path)
    return path


@pytest.mark.parametrize("victim", ["hutch-box", "hutch-vmm", "hutch-gate", "qemu"])
def test_kill_9_of_any_process(home, work, victim):
    home.ok("create", "--name", "k", "shell", work)
    workers = home.workers("k")
    assert set(workers) == {"hutch-box", "hutch-vmm", "hutch-gate", "qemu"}
    os.kill(workers[victim], signal.SIGKILL)
    wait_for(lambda: not any(alive(p) for p in workers.values()), what="the others to end")
    assert home.state("k") == "stopped"
    assert home.ok("run", "--name", "k", "shell", work, "--", "-c", "echo back") == "back\n"
    home.ok("rm", "-f", "k")
    assert os.listdir(home.path("state", "hutch", "boxes")) == []
    assert os.listdir(os.path.join(home.runtime, "hutch")) == []


def test_name_taken(home, work):
    home.ok("create", "--name", "n", "shell", work)
    r = home.run("create", "--name", "n", "shell", work)
    assert r.returncode == 125 and "taken" in r.stderr and "hutch rm n" in r.stderr
    other = home.path("other")
    os.makedirs(other)
    r = home.run("run", "--name", "n", "shell", other, "--", "-c", "true")
    assert r.returncode == 125 and work in r.stderr
    r = home.run("run", "--name", "n", "--cpus", "1", "shell", work, "--", "-c", "true")
    assert r.returncode == 125 and "--cpus" in r.stderr
    r = home.run("rm", "n")
    assert r.returncode == 125 and "running" in r.stderr
    home.ok("stop", "n")
    home.ok("rm", "n")


def test_runs_at_once_share_the_sandbox(home, work):
    procs = [home.popen("run", "--name", "one", "shell", work, "--", "-c", "echo %d" % i,
                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                        text=True) for i in range(4)]
    for i, p in enumerate(procs):
        out, err = p.communicate(timeout=240)
        assert (p.returncode, out) == (0, "%d\n" % i), err
    home.ok("rm", "-f", "one")
    assert os.listdir(home.path("state", "hutch", "boxes")) == []


def start_that_hangs(home, name):
    """A command that waits for a virtual machine that stands still before the sandbox is ready."""
    while True:
        p = home.popen("exec", name, "--", "true", stderr=subprocess.PIPE, text=True)
        wait_for(lambda: "qemu" in home.workers(name) or p.poll() is not None, what="the start")
        qemu = home.workers(name).get("qemu")
        if qemu:
            os.kill(qemu, signal.SIGSTOP)
            if home.state(name) == "starting":
                return p
            os.kill(qemu, signal.SIGCONT)
        p.communicate(timeout=240)  # it was faster
        home.ok("stop", name)


def test_stop_while_it_starts(home, work):
    """Whoever waits for the start is told, and does not start it once more."""
    home.ok("create", "--name", "s", "shell", work)
    home.ok("stop", "s")
    p = start_that_hangs(home, "s")
    home.ok("stop", "s")
    said = p.communicate(timeout=240)[1]
    assert p.returncode == 125 and "sandbox s was stopped while it started" in said, said
    assert home.state("s") == "stopped"
    assert home.ok("exec", "s", "--", "echo", "on") == "on\n"


def test_another_runtime_directory(home, work):
    """A shell of cron or su has another one, and a log-out empties it."""
    boxes = home.path("state", "hutch", "boxes")
    for name, age in ((".old.4194305", 3600), (".new.4194305", 0), (".old.1", 3600)):
        os.makedirs(os.path.join(boxes, name, "files"))
        then = time.time() - age
        os.utime(os.path.join(boxes, name), (then, then))
    home.ok("create", "--name", "far", "shell", work)
    assert sorted(os.listdir(boxes)) == [".new.4194305", ".old.1", "far"]  # killed long ago
    workers = home.workers("far")
    other = {"XDG_RUNTIME_DIR": home.path("other")}
    assert json.loads(home.ok("ls", "--json", env=other))[0]["state"] == "ready"
    assert home.ok("exec", "far", "--", "echo", "hi", env=other) == "hi\n"
    r = home.run("rm", "far", env=other)
    assert r.returncode == 125 and "running" in r.stderr
    for name in os.listdir(os.path.join(home.runtime, "hutch")):
        os.unlink(os.path.join(home.runtime, "hutch", name))
    assert home.state("far") == "unknown"
    r = home.run("exec", "far", "--", "true")
    assert r.returncode == 125 and "control socket is gone" in r.stderr
    assert "hutch stop far" in r.stderr.splitlines()[-1]
    home.ok("stop", "far")
    wait_for(lambda: not any(alive(p) for p in workers.values()), what="its processes to end")
    home.ok("rm", "far")
    assert not os.path.exists(home.box("far"))


def test_failing_install_step_leaves_nothing(home, work):
    path = home.path("kit")
    os.makedirs(path)
    with open(os.path.join(path, "spec.yaml"), "w") as f:
        f.write('schemaVersion: "2"\nkind: mixin\nname: bad\nsetup:\n  install:\n'
                '    - command: "echo this explains it; exit 9"\n      description: Break\n')
    r = home.run("run", "--name", "b", "--kit", path, "shell", work, "--", "-c", "true")
    assert r.returncode == 125
    assert "kit bad" in r.stderr and "Break" in r.stderr and "exit 9" in r.stderr
    assert "this explains it" in r.stderr
    assert os.listdir(home.path("state", "hutch", "boxes")) == []


def test_guest_powers_itself_off(home, work):
    home.ok("create", "--name", "p", "shell", work)
    home.run("exec", "p", "--", "sudo", "kill", "-TERM", "1")
    wait_for(lambda: home.state("p") == "stopped", what="the sandbox to stop")
    assert home.ok("exec", "p", "--", "echo", "again") == "again\n"


def test_kit_effects(home, work):
    """Everything that a kit of this grammar can say takes effect, once or at each start."""
    path = home.path("kit")
    os.makedirs(os.path.join(path, "files", "home", "dir"))
    os.makedirs(os.path.join(path, "files", "workspace"))
    for name, text in (("home/dir/a", "A\n"), ("workspace/w.txt", "W\n")):
        with open(os.path.join(path, "files", name), "w") as f:
            f.write(text)
    with open(os.path.join(path, "spec.yaml"), "w") as f:
        f.write("""schemaVersion: "2"
kind: mixin
name: fx
environment: {variables: {FX: "v a l"}}
agentInstructions: {content: "read me\\n"}
setup:
  install:
    - command: 'echo "$(id -u) $PWD" >> /installed'
    - command: 'id -u | sudo tee -a /installed'
      user: "1000"
  startup:
    - command: [sh, -c, 'echo started >> ~/starts']
  files:
    - {path: /etc/fx, content: "dir=${WORKDIR}\\n", mode: "0640"}
    - {path: /etc/hostname, content: "no", onlyIfMissing: true}
""")
    home.ok("create", "--name", "fx", "--kit", path, "shell", work)
    sh = lambda text: home.ok("exec", "fx", "--", "sh", "-c", text)
    assert sh('echo "$FX"') == "v a l\n"
    assert sh("cat ~/dir/a; cat w.txt") == "A\nW\n"
    assert open(os.path.join(work, "w.txt")).read() == "W\n"
    assert sh("sudo cat /etc/fx") == "dir=%s\n" % work
    assert sh("stat -c %a /etc/fx") == "640\n"
    assert sh("cat /etc/hostname") == "fx\n"
    assert "read me" in sh("cat ~/kits-memory/fx.md") and "fx" in sh("cat ~/AGENTS.md")
    assert sh("cat /installed").splitlines()[0].startswith("0 ")
    home.ok("stop", "fx")
    assert sh("wc -l < /installed; wc -l < ~/starts").split() == ["2", "2"]


def test_killed_client_of_rm_leaves_nothing(home, work):
    p = home.popen("run", "--rm", "--name", "gone", "shell", work, "--", "-c", "sleep 300",
                   stdout=-3, stderr=-3)
    wait_for(lambda: home.state("gone") == "ready", what="the sandbox to be ready")
    workers = home.workers("gone")
    workers.pop("hutch", None)
    p.kill()
    p.wait()
    wait_for(lambda: not os.path.exists(home.box("gone")), what="the sandbox to go")
    wait_for(lambda: not any(alive(pid) for pid in workers.values()), what="its processes to end")


@pytest.mark.parametrize("args,sig", [
    (["create"], signal.SIGINT), (["run", "--rm"], signal.SIGTERM), (["run"], signal.SIGHUP)])
def test_interrupted_first_start_leaves_nothing(home, work, args, sig):
    p = home.popen(*args, "--name", "int", "shell", work, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: os.path.exists(home.box("int", "box.log")), what="its supervisor")
    workers = home.workers("int")
    p.send_signal(sig)
    _, err = p.communicate(timeout=240)
    assert p.returncode == 128 + sig and err.splitlines()[-1] == "hutch: interrupted", err
    assert os.listdir(home.path("state", "hutch", "boxes")) == []
    workers.pop("hutch", None)
    wait_for(lambda: not any(alive(pid) for pid in workers.values()), what="its processes to end")
    assert os.listdir(os.path.join(home.runtime, "hutch")) == []


def test_rm_that_is_killed_at_once(home, work):
    """Before it could tell the supervisor that it holds the sandbox."""
    p = home.popen("run", "--rm", "--name", "now", "shell", work, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: os.path.exists(home.box("now", "lock")), what="its supervisor")
    p.kill()
    p.wait()
    wait_for(lambda: not os.path.exists(home.box("now")), what="the sandbox to go")


def test_detached_agent_from_a_kit_directory(home, work):
    path = home.path("agent")
    os.makedirs(path)
    with open(os.path.join(path, "spec.yaml"), "w") as f:
        f.write('schemaVersion: "2"\nkind: sandbox\nname: counter\nsandbox:\n  image: base\n'
                '  entrypoint: [sh, -c, \'echo "args: $*"; echo done > finished\', sh]\n'
                '  command: {default: [from, the, kit]}\n')
    r = home.run("run", "-d", path, cwd=work)
    assert r.returncode == 0 and r.stdout == "counter-work\n", r.stderr
    wait_for(lambda: os.path.exists(os.path.join(work, "finished")), what="the agent to finish")
    wait_for(lambda: "args: from the kit" in home.ok("logs", "counter-work"), what="its output")
    assert home.state("counter-work") == "ready"
    r = home.run("run", path, "--", "own", "args", cwd=work)
    assert r.stdout == "args: own args\n", r.stderr
