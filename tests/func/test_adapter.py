# SPDX-License-Identifier: Apache-2.0
"""tools/kit-adapter, driven as the public test kit for runtimes would: by its verbs alone."""
import json
import os
import subprocess

import pytest

from conftest import HUTCH, REPO
from image_world import busybox, folder, layer, own_store
from kit_world import liar, settings  # noqa: F401 (fixture)
from test_v3 import capability, descriptor, publish

ADAPTER = os.path.join(REPO, "tools", "kit-adapter")
SENTINEL = "host-value-that-must-stay-outside"
SECRET = "secret-value-that-must-stay-outside"


class Adapter:
    """Fixtures by name, and the environment in which a test kit looks for leaks."""

    def __init__(self, home):
        self.home = home
        marked = home.path(SENTINEL)
        os.symlink(home.path("work"), marked)
        self.env = dict(
            home.env, HUTCH=HUTCH, HUTCH_ADAPTER_KITS=home.path("kits.txt"),
            HUTCH_ADAPTER_STATE=home.path("adapter"), KIT_TCK_HOST_SENTINEL=SENTINEL,
            KIT_TCK_BOUND_SECRET=SECRET, TERM=SENTINEL, HOSTNAME=SENTINEL, SHLVL=SENTINEL, HOME=marked,
            PWD=marked, PATH=home.env["PATH"] + ":/" + SENTINEL)
        self.env.pop("SSH_AUTH_SOCK", None)

    def add(self, name, ref):
        with open(self.home.path("kits.txt"), "a") as f:
            f.write("%s %s\n" % (name, ref))

    def run(self, *args, **env):
        return subprocess.run([ADAPTER, *args], env=dict(self.env, **env), cwd=self.env["HOME"],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)

    def ok(self, *args, **env):
        r = self.run(*args, **env)
        assert r.returncode == 0, (args, r.returncode, r.stderr)
        return r.stdout

    def status_of(self, *args, **env):
        r = self.run(*args, **env)
        assert r.returncode == 0 or args[:1] == ("exec",) or (r.stderr and not r.stdout), r
        return r.returncode


@pytest.fixture
def adapter(home, liar):
    own_store(home)
    os.makedirs(home.path("work"))
    settings(home, "memory: 512m\n")
    a = Adapter(home)
    a.add("workload", publish(
        liar, "workload", descriptor(
            "workload", capability("agent-context@1", {"filename": "AGENTS.md"}), provides=["workload"]),
        layers=[layer(busybox(folder("var"), folder("var/tmp", 0o1777)))],
        config={"Entrypoint": ["/bin/sh"], "WorkingDir": "/home/agent/workspace",
                "Env": ["FROM_IMAGE=image", "MARK=declared"]}))
    yield a


def test_a_refusal_is_no_failure(adapter, liar):
    """Nothing here starts a virtual machine, and nothing is left behind."""
    def mixin(name, *capabilities, **more):
        adapter.add(name, publish(liar, name, descriptor("mixin", *capabilities, **more)))
        return name

    claimed = adapter.ok("capabilities").split()
    assert "com.docker.sandbox/lifecycle@1" in claimed and len(claimed) == len(set(claimed))
    # Understood, and refused.
    unknown = {"type": "com.example/levitation@1"}
    for kit in (mixin("unknown", unknown), mixin("usb", capability("usb-device@1", {"class": "hid"})),
                mixin("registry", capability("kit-registry@1")), mixin("lonely", requires=["nobody"]),
                mixin("hostile", conflicts=["workload"]),
                mixin("signer", capability("ssh-agent@1", {"phase": "runtime"}))):
        assert adapter.status_of("create", "workload", kit) == 2, kit
        assert adapter.status_of("create", kit, "workload") == 2, kit
    # Not understood, or not there.
    adapter.add("gone", "oci://%s/kits/gone:1" % liar.host)
    arg = mixin("arg", args={"size": {"default": "1", "pattern": "[0-9]+"}})
    for args in (["missing"], ["workload", "gone"], ["workload", "./missing"], ["--name", "../x", "workload"],
                 ["workload", arg, "--arg", "size=big"], ["workload", "--arg", "nobody=1"],
                 ["workload", "--colour", "red"], ["workload", "--env", "=x"],
                 ["workload", "--skills-host-mode", "readonly"], []):
        assert adapter.status_of("create", *args) not in (0, 2), args
    for args in (["recreate", "x"], ["selection", "x"], ["levitate"], [], ["exec", "x"], ["status", "x"],
                 ["stop", "x"], ["start", "x"], ["exec", "x", "--", "true"], ["host-mounts", "missing"],
                 ["host-mount-read", "x/y", "z"], ["host-mount-rm", "../boxes"]):
        assert adapter.status_of(*args) not in (0, 2), args
    assert json.loads(adapter.home.ok("ls", "--json")) == []
    assert os.listdir(adapter.home.path("adapter")) == []
    assert json.loads(adapter.home.ok("secret", "ls", "--json")) == []


def test_a_sandbox(adapter, liar):
    adapter.add("tool", publish(liar, "tool", descriptor(
        "mixin",
        capability("network-policy@1", {"runtime": {"allow": ["api.test"]}}),
        capability("credential@1", {"service": "kit-tck", "phase": "runtime", "apiKey": {
            "name": "KIT_TCK_TOKEN", "inject": [{"domain": "api.test", "scheme": "bearer"}]}}),
        capability("lifecycle@1", {
            "install": [{"command": "echo x >>/var/tmp/install; env >/var/tmp/hook", "env": ["MARK"]}],
            "startup": [{"command": "echo x >>/var/tmp/startup"}],
            "files": [{"path": "${{ kit.env.HOME }}/written", "content":
                       "${{ kit.env.FROM_IMAGE }},${{ kit.env.ARG }},${{ kit.env.SAID }},"
                       "${{ kit.env.EMPTY }},${{ kit.args.word }}"}]}),
        capability("agent-context@1", {"content": "What the tool is for."}),
        capability("host-mount@1", {"path": "/home/agent/shared"}),
        capability("volume@1", {"path": "/home/agent/scratch", "tmpfs": True}),
        requires=["workload"],
        args={"word": {"default": "x", "env": "ARG"}, "other": {"default": "x", "env": "SAID"}})))
    box = adapter.ok("create", "tool", "workload", "--name", "alias", "--arg", "word=arg", "--arg", "other=y",
                     "--env", "SAID=$HOME said", "--env", "EMPTY=").strip()

    def sh(text):
        return adapter.ok("exec", box, "--", "sh", "-c", text)

    # The image's value, an argument's, the override of one, an empty one.
    assert sh("cat ~/written; stat -c ' %u' ~/written") == "image,arg,$HOME said,,arg 1000\n"
    assert sh('printf "%s|" "$FROM_IMAGE" "$ARG" "$SAID" "$EMPTY"') == "image|arg|$HOME said||"
    # The agent, its own status, no terminal, arguments as they are.
    assert sh("id -u; for i in 0 1 2; do test -t $i && echo tty; done; true") == "1000\n"
    assert adapter.ok("exec", box, "--", "printf", "%s,", "a b", "", "*", "--", "-x") == "a b,,*,--,-x,"
    for status in (2, 7, 124):
        assert adapter.status_of("exec", box, "--", "sh", "-c", "exit %d" % status) == status
    # The workspace is where the image says; the profile is beside it.
    assert sh("pwd; echo $WORKSPACE_DIR; touch here; ls -a") == (
        "/home/agent/workspace\n/home/agent/workspace\n.\n..\nhere\n")
    assert "kits-memory/tool.md" in sh("cat /home/agent/AGENTS.md")
    # What is the host's stays there.
    assert sh('echo "$KIT_TCK_TOKEN"') == "proxy-managed\n"
    hook = sh("cat /var/tmp/hook")
    assert "MARK=declared" in hook.split()
    assert {line.split("=")[0] for line in hook.split()} <= {
        "MARK", "PATH", "HOME", "HOSTNAME", "TERM", "PWD", "OLDPWD", "SHLVL", "_"}
    for text in (hook, sh("env")):
        assert SENTINEL not in text and SECRET not in text

    sh("echo mine >~/kept; echo mine >~/scratch/x; mkdir ~/shared/d; printf %s note >~/shared/d/note; "
       "ln -s /etc/passwd ~/shared/link")
    assert adapter.ok("status", box) == "running\n"
    adapter.ok("wait-idle", box)
    assert adapter.ok("status", box) == "running\n"
    adapter.ok("stop", box)
    assert adapter.ok("status", box) == "stopped\n"
    adapter.ok("start", box)
    assert adapter.ok("status", box) == "running\n"
    assert sh("cat ~/kept; ls ~/scratch; wc -l </var/tmp/install; wc -l </var/tmp/startup") == "mine\n1\n2\n"

    [mount] = json.loads(adapter.ok("host-mounts", "tool"))
    assert mount["path"] == "/home/agent/shared" and os.path.isdir(mount["hostPath"])
    assert adapter.ok("host-mount-read", mount["id"], "d/note") == "note"
    for wrong in ("d", "link", "none", "../x", "/etc/passwd"):
        assert adapter.status_of("host-mount-read", mount["id"], wrong) == 1, wrong
    assert adapter.status_of("host-mount-rm", mount["id"]) == 1  # a sandbox has it
    adapter.ok("rm", box)
    assert adapter.status_of("status", box) == 1
    assert json.loads(adapter.ok("host-mounts", "tool")) == [mount]
    adapter.ok("host-mount-rm", mount["id"])
    assert json.loads(adapter.ok("host-mounts", "tool")) == [] and not os.path.exists(mount["hostPath"])
    assert os.listdir(adapter.home.path("adapter")) == []
    assert "kit-tck" not in adapter.home.ok("secret", "ls")
