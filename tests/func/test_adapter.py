# SPDX-License-Identifier: Apache-2.0
"""tools/kit-adapter, driven as the public test kit for runtimes would: by its verbs alone."""
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import HUTCH, REPO
from image_world import busybox, entry, folder, layer, own_store
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
        self.said = r.stderr
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
    assert json.loads(adapter.ok("volume-paths", "x")) == []
    for args in (["recreate", "x"], ["recreate", "x", "workload"], ["selection", "x"], ["levitate"], [], ["exec", "x"], ["status", "x"],
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


def volume(path="/var/tmp/state", **config):
    return capability("volume@1", dict({"path": path}, **config))


def test_volumes(adapter, liar):
    """What the public text asks of volume@1, clause by clause."""
    def mixin(name, *capabilities, **more):
        adapter.add(name, publish(liar, name, descriptor("mixin", *capabilities, **more)))

    mark = "grep -q ' /var/tmp/state ' /proc/mounts && ls -A /var/tmp/state >/var/tmp/state/"
    mixin("state", volume(size="${{ kit.args.size }}", mode="700"),
          volume("/opt/plain"), volume("/opt/scratch", tmpfs=True),
          capability("lifecycle@1", {"install": [{"command": mark + "install"}], "startup": [{"command": mark + "startup"}]}),
          args={"size": {"default": "1024m"}})
    mixin("same", volume("/var/tmp//x/../state/", size="1g", mode="0700"), volume("/opt/more", size="", mode=""))
    mixin("exact", volume(size="1.5g", mode="700"))
    for name, config in (("other-size", {"size": "1025m", "mode": "700"}), ("other-mode", {"size": "1g", "mode": "711"}),
                         ("no-size", {"mode": "700"}), ("no-mode", {"size": "1g"}), ("tmpfs", {
                             "size": "1g", "mode": "700", "tmpfs": True}),
                         ("near", {"size": "1.000000000931322574615478515625g", "mode": "700"}),
                         ("zero", {"size": "0", "mode": "700"}), ("zero-mode", {"size": "1g", "mode": "000"})):
        mixin(name, volume(**config))
        assert adapter.status_of("create", "workload", "state", name) == 2, (name, adapter.said)
    # Hostile ones are no volumes.
    for i, config in enumerate(({"path": "relative"}, {"path": "/"}, {"path": "/x/.."}, {"path": "/a\nb"}, {"path": []},
                                {"path": "/v", "size": "-1"}, {"path": "/v", "size": "1e9g"}, {"path": "/v", "mode": "8"},
                                {"path": "/v", "tmpfs": "yes"}, {"path": "/v", "owner": "root"}, {"path": "/" + "x/" * 3000})):
        mixin("hostile-%d" % i, {"type": "com.docker.sandbox/volume@1", "config": config})
        assert adapter.status_of("create", "workload", "hostile-%d" % i) == 1, config

    box = adapter.ok("create", "workload", "state", "same", "--name", "alias").strip()

    def sh(text):
        return adapter.ok("exec", box, "--", "sh", "-c", text)

    def paths():
        return json.loads(adapter.ok("volume-paths", box))

    # Empty before the hooks, mounted for both of them, the agent's, with the mode that was asked for.
    assert paths() == ["/opt/more", "/opt/plain", "/var/tmp/state"]
    assert sh("cd /var/tmp/state; wc -l <install; cat startup; stat -c '%a %u' .") == "1\ninstall\nstartup\n700 1000\n"
    assert sh("stat -f -c %T /opt/scratch; echo x >/opt/scratch/f; echo kept >/opt/plain/f; echo kept >/var/tmp/state/f; "
              "chmod 750 /opt/plain; echo gone >~/gone") == "tmpfs\n"
    adapter.ok("stop", box)
    adapter.ok("start", box)
    assert sh("cat /opt/plain/f ~/gone; ls /opt/scratch; wc -l </var/tmp/state/startup") == "kept\ngone\n3\n"

    # Again: another layer, the same volumes as they are; install hooks do not run twice.
    install = sh("cat /var/tmp/state/install")
    adapter.ok("recreate", box)
    assert sh("cat /opt/plain/f /var/tmp/state/f; stat -c %a /opt/plain; ls ~/gone /opt/scratch/* 2>/dev/null; "
              "cat /var/tmp/state/install") == "kept\nkept\n750\n" + install

    # What is incompatible is refused, and everything is as it was.
    sh("echo here >~/here")
    for args in (["--arg", "size=2g"], ["workload", "tmpfs"], ["workload", "no-size"], ["workload", "zero-mode"]):
        assert adapter.status_of("recreate", box, *args) == 2, args
    assert adapter.status_of("recreate", box, "workload", "nobody") == 1
    assert sh("cat ~/here") == "here\n"

    # Undeclared: kept, not mounted; then it is back.
    adapter.ok("recreate", box, "workload")
    assert sh("mkdir -p /var/tmp/state; ls -A /var/tmp/state; grep ' /opt/plain ' /proc/mounts || echo none; ls ~/here 2>/dev/null"
              " || true") == "none\n"
    assert paths() == ["/opt/more", "/opt/plain", "/var/tmp/state"]
    assert adapter.status_of("recreate", box, "workload", "tmpfs") == 2
    adapter.ok("recreate", box, "workload", "same")
    assert sh("cat /var/tmp/state/f") == "kept\n"

    # A name is no identity.
    adapter.ok("rm", box)
    assert paths() == []
    assert adapter.ok("create", "workload", "same", "--name", "alias").strip() == box
    assert sh("ls -A /var/tmp/state") == ""
    adapter.ok("rm", box)


def with_git():
    """The entries of git as this machine has it."""
    git = shutil.which("git")
    libs = re.findall(r"(/\S+)", subprocess.run(["ldd", git], capture_output=True, text=True, check=True).stdout)
    for path in [git, *libs]:
        with open(os.path.realpath(path), "rb") as f:
            yield entry(path.lstrip("/"), f.read(), mode=0o755)


IDENTITY = """[user]
	name = Ada \\"the $(id)\\" Byron
	email = -ada@example.test
	signingKey = private-key
[alias]
	leak = !id
[credential]
	helper = leak
"""


def test_git_identity(adapter, liar, tmp_path):
    hook = "git config --global --get user.name >/var/tmp/"
    adapter.add("gitted", publish(
        liar, "gitted", descriptor("workload", capability("lifecycle@1", {
            "install": [{"command": hook + "install", "user": "1000"}], "startup": [{"command": hook + "startup"}]})),
        layers=[layer(busybox(folder("var"), folder("var/tmp", 0o1777))),
                layer([*with_git(), folder("home"), folder("home/agent", uid=1000, gid=1000), entry(
                    "home/agent/.gitconfig", b"[user]\n\tname = Image\n\tname = Two\n[alias]\n\town = status\n",
                    uid=1000, gid=1000)])],
        config={"Entrypoint": ["/bin/sh"], "WorkingDir": "/home/agent/workspace"}))
    for name, more in (("me", {}), ("perhaps", {"optional": True})):
        adapter.add(name, publish(liar, name, descriptor("mixin", capability("git-identity@1", **more))))
    adapter.add("grouped", publish(liar, "grouped", descriptor("mixin", {"group": {"optional": True, "capabilities": [
        capability("volume@1", {"path": "/v"}), capability("git-identity@1")]}})))
    for i, config in enumerate(({}, None, {"name": "x"})):
        adapter.add("said-%d" % i, publish(liar, "said-%d" % i, descriptor("mixin", {
            "type": "com.docker.sandbox/git-identity@1", "config": config})))
        assert adapter.status_of("create", "gitted", "said-%d" % i) == 1, config
    mine = tmp_path / "identity"

    def refused(text, *kits):
        mine.write_text(text)
        return adapter.status_of("create", "gitted", *kits, "--git-identity-config", str(mine)) == 2

    # Incomplete, no line of text, too long.
    for text in ("[user]\n\tname = Ada\n", '[user]\n\tname = "Ada\\n[alias]"\n\temail = a@b.test\n',
                 "[user]\n\tname = %s\n\temail = a@b.test\n" % ("x" * 5000)):
        assert refused(text, "me"), text
    assert adapter.status_of("create", "gitted", "me", "--git-identity-config", "off") == 2
    assert refused("", "grouped")  # all of a group or nothing

    mine.write_text(IDENTITY)
    name = 'Ada "the $(id)" Byron\n'
    box = adapter.ok("create", "gitted", "me", "--git-identity-config", str(mine)).strip()

    def sh(text):
        return adapter.ok("exec", box, "--", "sh", "-c", text)

    whole = name + "-ada@example.test\n"
    ask = "git config --global --get user.name; git config --global --get user.email"
    assert sh(ask) == whole
    assert sh("cat /var/tmp/install /var/tmp/startup; env | grep -cE '^GIT_(AUTHOR|COMMITTER|CONFIG)' || true") == name + name + "0\n"
    assert sorted(sh("git config --list").split("\n")) == sorted(
        ("alias.own=status\nuser.name=" + name + "user.email=-ada@example.test\n").split("\n"))
    assert sh("mkdir r; cd r; git init -q; git config user.name Local; git config user.email l@l.test; git commit -q "
              "--allow-empty -m x; git log -1 --format=%an,%ae; git config --global user.name Edited; rm -r ../r") == (
                  "Local,l@l.test\n")
    assert mine.read_text() == IDENTITY
    record = json.loads(adapter.ok("selection", box))
    assert record["surface"] == {"services": ["com.docker.sandbox/git-identity@1"]} and not record["selection"]["skipped"]

    # Who the user was stays with the sandbox: through a restart, recreation, and other kits.
    mine.write_text("[user]\n\tname = Other\n\temail = o@o.test\n")
    adapter.ok("stop", box)
    adapter.ok("start", box)
    assert sh("git config --global user.name") == "Edited\n"
    adapter.ok("recreate", box)
    assert sh(ask) == whole and sh("ls /var/tmp; cat /var/tmp/startup") == "startup\n" + name
    adapter.ok("recreate", box, "gitted", "perhaps")
    assert sh(ask) == whole
    adapter.ok("rm", box)

    box = adapter.ok("create", "gitted", "perhaps", "--git-identity-config", "off").strip()
    assert sh("git config --global --get user.name") == "Two\n"
    record = json.loads(adapter.ok("selection", box))
    [skipped] = record["selection"]["skipped"]
    assert skipped["path"] == "capabilities[0]" and skipped["rejected"] == skipped["members"] == ["capabilities[0]"]
    assert skipped["source"]["kit"] == "perhaps" and "services" not in record["surface"]
    assert [s["source"]["kit"] for s in record["selection"]["selected"]] == ["gitted"]
    assert "git-identity@1, kit perhaps" in adapter.home.ok("inspect", box)
    adapter.ok("rm", box)
