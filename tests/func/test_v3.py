# SPDX-License-Identifier: Apache-2.0
"""Kits of schemaVersion "3": images with a descriptor, composed and run."""
import http.server
import json
import os
import re
import threading

import pytest
import yaml

from image_world import add_image, busybox, entry, folder, layer, own_store
from kit_world import liar  # noqa: F401 (fixture)

DESCRIPTOR = "vnd.docker.sandbox.kit.descriptor"


def capability(kind, config=None, **more):
    c = {"type": "com.docker.sandbox/" + kind, **more}
    return {**c, "config": config} if config is not None else c


def descriptor(kind, *capabilities, **more):
    return {"schemaVersion": "3", "kind": kind, "capabilities": list(capabilities), **more}


def publish(liar, tag, text, layers=(), config=None):
    """Push an image that carries the descriptor @text; how to refer to it."""
    digest = add_image(liar, list(layers), tag=tag, config=config)
    manifest = json.loads(liar.blobs[digest])
    manifest["annotations"] = {DESCRIPTOR: json.dumps(text)}
    liar.manifest(manifest, tag)
    return "oci://%s/kits/%s:%s" % (liar.host, tag, tag)


def local(home, name, text):
    """A descriptor beside nothing."""
    path = home.path(name)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, name + ".yaml"), "w") as f:
        f.write(yaml.safe_dump(text))
    return path


@pytest.fixture
def web():
    """A server that says what it was asked."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"hello from %s" % self.headers["Host"].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "127.0.0.1:%d" % server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def world(home, liar):
    """A home with a store of its own, and a published workload."""
    own_store(home)
    os.makedirs(home.path("work"))
    home.base_kit = publish(liar, "base", descriptor(
        "workload",
        capability("agent-context@1", {"filename": "AGENTS.md", "content": "The base."}),
        capability("agent-skills@1", {"path": "/home/agent/.agent/skills"}),
        capability("agent-sessions@1", {"prompt": ["-p", "{{.Prompt}}"], "list": "echo 7"}),
        provides=["base@2.1"]),
        layers=[layer(busybox(entry("usr/bin/agent", b"#!/bin/sh\necho agent $MARK \"$@\"\n",
                                    mode=0o755)))],
        config={"Entrypoint": ["/usr/bin/agent"], "Cmd": ["--default"], "Env": ["MARK=image"]})
    return home


def plan(home, *args, **kw):
    r = home.run("run", "--dry-run", "--json", *args, home.path("work"), **kw)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def approve(home, *args):
    """Approve all that the kits ask for; what was shown. Where KVM works that makes a sandbox."""
    shown, flags = "", []
    while True:
        r = home.run("create", "--name", "approve", "--engine", "kvm", *flags, *args, home.path("work"))
        found = re.search(r"--approve-kit ([0-9a-f]+)", r.stderr)
        shown += r.stderr
        if not found:
            home.run("rm", "-f", "approve")
            return shown
        flags += ["--approve-kit", found.group(1)]


def failed(home, *args, status=125, **kw):
    r = home.run("run", "--dry-run", *args, home.path("work"), **kw)
    assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
    return r.stderr


def refused(home, *args, **kw):
    return failed(home, *args, status=124, **kw)


# ---- plans ----

def test_image_and_descriptor_are_one_pin(world, liar):
    tool = publish(liar, "tool", descriptor("mixin", requires=["base >= 2"]),
                   layers=[layer([folder("opt"), entry("opt/tool", b"x")])])
    spec = plan(world, "--kit", tool, world.base_kit)
    assert spec["image"] == "oci://%s/kits/base@%s" % (liar.host, liar.tags["base"])
    assert spec["layers"] == ["oci://%s/kits/tool@%s" % (liar.host, liar.tags["tool"])]
    assert spec["kits"] == ["base", "tool"]
    assert spec["entrypoint"] == ["/usr/bin/agent"]
    assert spec["command_default"] == ["--default"]
    assert {"verb": "prompt", "terminal": False, "argv": ["-p", "{{.Prompt}}"]} in spec["sessions"]


def test_providers_come_first_whatever_the_order(world):
    low = local(world, "low", descriptor(
        "mixin", capability("lifecycle@1", {"install": [{"command": "echo low"}]}), provides=["low"]))
    high = local(world, "high", descriptor(
        "mixin", capability("lifecycle@1", {"install": [{"command": "echo high"}]}),
        requires=["low", "base"]))
    for order in ((low, high), (high, low)):
        spec = plan(world, "--kit", order[0], "--kit", order[1], world.base_kit)
        hooks = [s for s in spec["install"] if s.get("bounded")]
        assert [s["kit"] for s in hooks] == ["low", "high"]
    assert "requires low" in refused(world, "--kit", high, world.base_kit)


def test_what_is_no_image_yet(world):
    text = descriptor("workload", build="FROM scratch\n")
    error = failed(world, local(world, "mine", text))
    assert "a workload is an image" in error and "docker buildx build" in error
    error = failed(world, "--kit", local(world, "layers", descriptor("mixin", dockerfile="x")),
                    world.base_kit)
    assert "brings layers of an image" in error


def test_a_set_is_its_kits(world, liar):
    publish(liar, "tool", descriptor(
        "mixin", capability("lifecycle@1", {"startup": [{"command": "echo ${{ kit.args.port }}"}]}),
        requires=["base"], args={"port": {"default": "80"}, "mark": {"default": "x", "env": "TOOL"}}),
        layers=[layer([entry("opt", b"x")])])
    ref = "%s/kits/" % liar.host
    members = [{"ref": ref + "tool:tool", "args": {"port": "8080", "mark": "set"}},
               {"ref": ref + "base:1", "digest": liar.tags["base"]}]
    own = [capability("network-policy@1", {"runtime": {"allow": ["set.test"]}})]
    kit = local(world, "both", {"schemaVersion": "3", "kind": "set", "kits": members,
                                "capabilities": own})
    spec = plan(world, kit)
    assert spec["kits"] == ["base", "both", "tool"] and spec["agent"] == "base"
    assert spec["image"].endswith(liar.tags["base"]) and len(spec["layers"]) == 1
    assert [s["argv"][2] for s in spec["startup"]] == ["echo 8080"]
    assert "TOOL=set" in spec["env"]
    assert [r["target"] for r in spec["network"]["rules"]] == ["set.test:*"]
    spec = plan(world, "--kit-arg", "port=9", kit)
    assert [s["argv"][2] for s in spec["startup"]] == ["echo 9"]
    members[0]["args"]["prot"] = "1"
    local(world, "both", {"schemaVersion": "3", "kind": "set", "kits": members})
    assert "argument tool.prot: no kit here declares it" in failed(world, kit)


def test_arguments_on_a_terminal_come_behind_the_image_s(world, liar):
    kit = publish(liar, "tty", descriptor("workload", capability("lifecycle@1", {"interactive": ["-i"]})),
                  config={"Entrypoint": ["/a"], "Cmd": ["b"]}, layers=[layer([entry("a")])])
    spec = plan(world, kit)
    assert (spec["entrypoint"], spec["command_default"], spec["command_interactive"]) == (
        ["/a"], ["b"], ["b", "-i"])
    wrapped = publish(liar, "sbx", descriptor("workload", capability("sbx@1")),
                      config={"Entrypoint": ["/a"], "User": "agent"}, layers=[layer([entry("a")])])
    assert plan(world, wrapped)["entrypoint"] == ["bash", "-c", 'exec "$0" "$@"', "/a"]
    fresh = publish(liar, "fresh", descriptor("workload", capability("agent-interactive-sessions@1", {
        "newSession": ["-n"], "sessionPicker": ["-p"]})), config={"Entrypoint": ["/a"], "Cmd": ["b"]},
                    layers=[layer([entry("a")])])
    r = world.run("run", "--dry-run", "--json", fresh, world.path("work"))
    assert json.loads(r.stdout)["command_interactive"] == ["b", "-n"], r.stderr
    assert "sessionPicker: without effect" in r.stderr
    assert "does not say how its agent does that: prompt" in world.run(
        "run", "--prompt", "x", kit, world.path("work")).stderr


def test_the_user_of_an_image(world, liar):
    """sbx@1 promises that the agent is who the image says; Hutch has one user for it."""
    def workload(user, **more):
        config = {"Entrypoint": ["/a"], **({"User": user} if user is not None else {})}
        return publish(liar, "user-%d" % len(liar.blobs), descriptor("workload", capability("sbx@1", **more)), config=config,
                       layers=[layer([entry("a")])])

    for user in ("agent", "1000", "1000:1000", "agent:agent"):
        assert plan(world, workload(user))["entrypoint"][0] == "bash"
    for user in ("node", "0", "1001", "1000:0", "", None):
        r = world.run("run", "--dry-run", workload(user), world.path("work"))
        assert r.returncode == 124 and "requires com.docker.sandbox/sbx@1" in r.stderr, (user, r.stderr)
        spec = plan(world, workload(user, optional=True))
        assert spec["entrypoint"] == ["/a"] and spec["selection"][0]["rejected"] == ["capabilities[0]"]


def test_variables_of_the_sandbox(world):
    files = [{"path": "${{ kit.env.HOME }}/x", "content": "${{kit.env.MARK}} in ${{ kit.env.WORKSPACE_DIR }}"}]
    hooks = [{"command": "echo ${{ kit.env.SAID }} ${{ kit.other }}"}]
    text = descriptor("mixin", capability("lifecycle@1", {"files": files, "install": hooks}))
    kit = local(world, "env", text)
    spec = plan(world, "-e", "SAID=hello", "--kit", kit, world.base_kit)
    wanted = [f for f in spec["files"] if f["path"] == "/home/agent/x"][0]
    assert wanted["content"] == "image in " + world.path("work")
    assert [s["argv"][2] for s in spec["install"] if s.get("bounded")] == ["echo hello ${{ kit.other }}"]
    assert "kit env: SAID is no variable of the sandbox" in failed(world, "--kit", kit, world.base_kit)


def test_phases_in_the_plan(world):
    kit = local(world, "phased", descriptor(
        "mixin",
        capability("network-policy@2", {
            "install": {"allow": ["i.test"], "deny": ["no.test"]},
            "runtime": {"allow": [{"hosts": ["r.test"], "methods": ["GET"], "paths": ["/v1/**"]}]}}),
        capability("credential@1", {"service": "one", "phase": "install",
                                    "apiKey": {"name": "ONE", "inject": [
                                        {"domain": "i.test", "scheme": "bearer"}]}}),
        capability("credential@1", {"service": "two", "phase": "runtime",
                                    "apiKey": {"name": "TWO", "inject": [
                                        {"domain": "r.test", "scheme": "bearer"}]}}, optional=True),
        capability("lifecycle@1", {"install": [
            {"command": ["a", "b"], "env": ["ONE", "TWO", "MARK", "WORKSPACE_DIR"]},
            {"command": "true"}]})))
    spec = plan(world, "--kit", kit, world.base_kit)
    rules = {r["target"]: r.get("phase") for r in spec["network"]["rules"]}
    assert rules == {"i.test:*": "install", "no.test:*": "install", "GET r.test:*/v1/**": "runtime"}
    assert [(c["service"], c["phase"], c["required"]) for c in spec["network"]["credentials"]] == [
        ("one", "install", True), ("two", "runtime", False)]
    assert not [e for e in spec["env"] if e.startswith("ONE=")]
    hooks = [s for s in spec["install"] if s.get("bounded")]
    # The placeholder of the installation is given, that of later is not.
    assert hooks[0]["env"] == ["ONE=proxy-managed", "MARK", "WORKSPACE_DIR"]
    assert "env" not in hooks[1]
    text = world.ok("run", "--dry-run", "--kit", kit, world.base_kit, world.path("work"))
    assert "kit phased, while it is installed" in text and "kit phased, after the installation" in text
    assert "sees ONE MARK WORKSPACE_DIR" in text and "sees no variables" in text


def test_a_host_without_a_port_is_every_port(world):
    """As the grammar has it; but not of this machine, nor for addresses, of which it says nothing."""
    kit = local(world, "ports", descriptor("mixin", capability("network-policy@1", {
        "install": {"allow": ["*"]},
        "runtime": {"allow": ["a.test", "b.test:80", "*.c.test", "10.0.0.0/8", "host.hutch.internal"],
                    "deny": ["x.a.test", "**"]}})))
    assert [r["target"] for r in plan(world, "--kit", kit, world.base_kit)["network"]["rules"]] == [
        "**:*", "a.test:*", "b.test:80", "*.c.test:*", "10.0.0.0/8", "host.hutch.internal", "x.a.test:*",
        "**:*"]


def test_what_cannot_be_provided(world):
    usb = {"vendorId": "0x1050", "productId": "0x0407"}
    error = refused(world, "--kit", local(world, "key", descriptor(
        "mixin", capability("usb-device@1", usb))), world.base_kit)
    assert "requires com.docker.sandbox/usb-device@1: a sandbox has no access to USB" in error
    group = {"group": {"optional": True, "capabilities": [
        capability("usb-device@1", usb),
        capability("network-policy@1", {"runtime": {"allow": ["usb.test"]}})]}}
    kit = local(world, "maybe", descriptor("mixin", group, capability("kit-registry@1", optional=True)))
    spec = plan(world, "--kit", kit, world.base_kit)
    assert spec["network"]["rules"] == []  # a group is chosen as a whole
    r = world.run("kit", "inspect", "--json", kit, "--kit", world.base_kit)
    skipped = [c["type"].split("/")[1] for k in json.loads(r.stdout)["kits"]
               for c in k["capabilities"] if c["skipped"]]
    assert skipped == ["usb-device@1", "network-policy@1", "kit-registry@1"]
    assert "skipped: a sandbox has no access to USB" in r.stderr


def test_git_identity(world):
    text = descriptor("mixin", capability("git-identity@1"))
    kit = local(world, "me", text)
    nobody = {"HOME": world.path("work"), "XDG_CONFIG_HOME": world.path("config")}
    assert "requires com.docker.sandbox/git-identity@1" in refused(
        world, "--kit", kit, world.base_kit, env=nobody)
    text["capabilities"][0]["optional"] = True
    local(world, "me", text)
    assert not [s for s in plan(world, "--kit", kit, world.base_kit, env=nobody)["install"]
                if s["description"] == "git identity"]
    with open(world.path("work", ".gitconfig"), "w") as f:
        f.write('[user]\n\tname = "Ada \\"L\\""\n\temail = ada@example.test\n[alias]\n\tx = !false\n')
    step = plan(world, "--kit", kit, world.base_kit, env=nobody)["install"][0]
    assert step["argv"][4:6] == ['Ada "L"', "ada@example.test"] and step["user"] == "1000"


def test_ssh_agent(world):
    kit = local(world, "signer", descriptor("mixin", capability("ssh-agent@1", {
        "phase": "runtime", "unrestricted": False, "sign": ["git"],
        "authenticate": ["git@git.test", "other.test"]})))
    assert "requires com.docker.sandbox/ssh-agent@1" in refused(world, "--kit", kit, world.base_kit)
    spec = plan(world, "--ssh-agent", "--kit", kit, world.base_kit)
    assert (spec["ssh_any_key"], spec["ssh_hosts"], spec["ssh_sign"], spec["ssh_phase"]) == (
        True, ["git@git.test", "other.test"], ["git"], "runtime")
    assert "ssh_any_host" not in spec
    both = local(world, "anything", descriptor("mixin", capability("ssh-agent@1", {"phase": "install"})))
    assert "cannot be kept apart" in refused(
        world, "--ssh-agent", "--kit", kit, "--kit", both, world.base_kit)


def test_conflicts(world):
    def two(*configs):
        return [local(world, "c%d" % i, descriptor("mixin", c)) for i, c in enumerate(configs)]

    def says(*configs):
        a, b = two(*configs)
        return refused(world, "--kit", a, "--kit", b, world.base_kit)

    volume, mount = "volume@1", "host-mount@1"
    assert "another size" in says(capability(volume, {"path": "/v"}),
                                  capability(volume, {"path": "/v", "tmpfs": True}))
    a, b = two(capability(volume, {"path": "/v", "mode": "755"}),
               capability(volume, {"path": "/v", "mode": "0755"}))
    assert len(plan(world, "--kit", a, "--kit", b, world.base_kit)["volumes"]) == 1
    assert "is a shared folder" in says(capability(mount, {"path": "/v"}),
                                        capability(volume, {"path": "/v"}))
    assert "shared folder /v, as kit" in says(capability(mount, {"path": "/v"}),
                                              capability(mount, {"path": "/v"}))
    files = {"files": [{"path": "/home/agent/f", "content": "x"}]}
    assert "file /home/agent/f" in says(capability("lifecycle@1", files),
                                        capability("lifecycle@1", files))
    assert "would cover" in refused(world, "--kit", two(
        capability(mount, {"path": "/etc/x"}))[0], world.base_kit)


def test_folders_belong_to_a_kit_not_to_its_name(world):
    text = descriptor("mixin", capability("host-mount@1", {"path": "/home/agent/.cache/x"}))
    mine = local(world, "cache", text)
    path = world.path("elsewhere", "cache")
    os.makedirs(path)
    with open(os.path.join(path, "cache.yaml"), "w") as f:
        f.write(yaml.safe_dump(text))
    found = [plan(world, "--kit", k, world.base_kit)["mounts"][-1] for k in (mine, path)]
    assert found[0]["host_path"] != found[1]["host_path"]
    assert found[0]["guest_path"] == "/home/agent/.cache/x" and found[0]["kit"] == "cache"
    assert found[0]["host_path"].startswith(world.path("state", "hutch", "host-mounts", "cache-"))


def test_folders_are_listed_and_removed(world, liar):
    ref = publish(liar, "cache", descriptor(
        "mixin", *[capability("host-mount@1", {"path": p}) for p in ("/home/agent/.a", "/srv/b")]))
    other = local(world, "other", descriptor("mixin", capability("host-mount@1", {"path": "/srv/b"})))

    def ls(*kit):
        return json.loads(world.ok("kit", "mounts", "ls", "--json", *kit))

    assert ls() == ls(ref) == []
    for kit in (ref, other):  # as a start would
        for mount in plan(world, "--kit", kit, world.base_kit)["mounts"][1:]:
            os.makedirs(mount["host_path"])
            open(os.path.join(mount["host_path"], "note"), "w").close()
    assert [m["path"] for m in ls(ref)] == ["/home/agent/.a", "/srv/b"]
    # Another version of it has them as well, and no other kit.
    publish(liar, "cache", descriptor("mixin", displayName="newer"))
    assert ls(ref) == [m for m in ls() if m["id"].startswith("cache-")]
    assert [m["path"] for m in ls(other)] == ["/srv/b"]
    first, second = ls(ref)
    assert os.listdir(second["hostPath"]) == ["note"]
    assert first["id"] in world.ok("kit", "mounts", "ls", ref)
    for wrong in ("x", "../boxes", first["id"] + "/note", first["id"].replace("cache", "."), ""):
        r = world.run("kit", "mounts", "rm", wrong)
        assert r.returncode == 125 and "no such shared directory" in r.stderr
    world.ok("kit", "mounts", "rm", first["id"])
    assert ls(ref) == [second] and not os.path.exists(first["hostPath"])
    world.ok("kit", "mounts", "rm", second["id"])
    assert not os.path.exists(os.path.dirname(second["hostPath"])) and len(ls()) == 1


# ---- what was approved ----

def test_approvals_list_what_capabilities_say(world, liar):
    def wants(*caps):
        return publish(liar, "wide", descriptor("mixin", *caps))

    network = {"runtime": {"allow": ["a.test"], "deny": ["b.test"]}}
    kit = wants(capability("network-policy@1", network))
    shown = approve(world, "--kit", kit, world.base_kit)
    assert "+ allow a.test:*" in shown and "- deny" not in shown
    assert "is used for the first time" not in approve(world, "--kit", kit, world.base_kit)
    del network["runtime"]["deny"]
    network["install"] = {"allow": ["i.test"]}
    wants(capability("network-policy@1", network),
          capability("host-mount@1", {"path": "/home/agent/shared"}),
          capability("volume@1", {"path": "/v"}), capability("port@1", {"container": 8080}),
          capability("privileged@1"), capability("git-identity@1", optional=True),
          capability("ssh-agent@1", {"phase": ["install", "runtime"], "unrestricted": False,
                                     "sign": ["git"], "authenticate": ["git.test"]}, optional=True))
    text = approve(world, "--kit", kit, world.base_kit)
    assert "asks for more than you approved" in text and "+ allow a.test" not in text
    for line in ("- deny b.test:*", "+ allow i.test:* (during installation)",
                 "+ shared folder /home/agent/shared", "+ volume /v", "+ port 8080/tcp",
                 "+ privileged", "+ your name and address, as git has them",
                 "+ ssh-agent for signatures of git", "+ ssh-agent to log in at git.test",
                 "+ ssh-agent to log in at git.test (during installation)"):
        assert line in text, (line, text)


# ---- in a sandbox ----

def test_a_workload_and_its_mixins(world, liar, web):
    tool = publish(liar, "tool", descriptor(
        "mixin",
        capability("network-policy@1", {"install": {"allow": ["install.test:80"]},
                                        "runtime": {"allow": ["runtime.test:80"]}}),
        capability("lifecycle@1", {
            "install": [
                {"command": "mkdir -p /opt && wget -qO /opt/got http://install.test/ && "
                            "! wget -qO- http://runtime.test/ && env | sort >/opt/env",
                 "env": ["MARK"]},
                {"command": "sleep 1000 </dev/null >/dev/null 2>&1 & true"}],
            "startup": [{"command": "echo up >>/home/agent/ups; env >/home/agent/startup-env"}],
            "files": [
                {"path": "/home/agent/kept", "content": "from the kit", "overwrite": False},
                {"path": "/home/agent/written", "content": "$HOME stays", "mode": "0600"},
                {"path": "/opt/agents", "content": "x"}]}),
        capability("agent-context@1", {"content": "Use the tool."}),
        capability("agent-skill@1", {"path": "/usr/share/tool/skill", "name": "tooling"}),
        capability("host-mount@1", {"path": "/home/agent/shared"}),
        capability("volume@1", {"path": "/home/agent/state"}),
        requires=["base"], displayName="The tool"),
        layers=[layer([folder("usr/share"), folder("usr/share/tool"), folder("usr/share/tool/skill"),
                       entry("usr/share/tool/skill/SKILL.md", b"How to."),
                       entry("usr/bin/tool", b"#!/bin/sh\necho tool\n", mode=0o755)])])
    args = ["--memory", "512m", "--resolve", "install.test=" + web, "--resolve",
            "runtime.test=" + web, "--kit", tool, world.base_kit]
    approve(world, *args)
    # The entrypoint with its default arguments.
    r = world.run("run", "--name", "one", *args, world.path("work"))
    assert r.returncode == 0 and r.stdout == "agent image --default\n", r.stderr

    r = world.run("run", "--name", "one", "--prompt", "say 'hi' $X", world.base_kit, world.path("work"))
    assert r.stdout == "agent image --default -p say 'hi' $X\n", r.stderr

    def sh(name, text, **kw):
        r = world.run("exec", name, "--", "sh", "-c", text, **kw)
        return r.stdout + r.stderr

    assert sh("one", "cat /opt/got") == "hello from install.test"
    # The agent cannot reach what the installation could; the installation could not reach this.
    assert sh("one", "wget -qO- http://runtime.test/") == "hello from runtime.test"
    assert "403" in sh("one", "wget -qO- http://install.test/")
    log = [(x["name"], x["verdict"], x.get("source")) for x in world.audit("one")]
    assert ("install.test", "allow", "kit tool, install") in log
    assert ("runtime.test", "allow", "kit tool, runtime") in log
    assert log.index(("runtime.test", "deny", None)) < log.index(("install.test", "deny", None))
    # Hooks see what they name.
    names = {line.split("=")[0] for line in sh("one", "cat /opt/env").split()}
    assert "MARK" in names and names <= {"MARK", "PATH", "HOME", "PWD", "OLDPWD", "SHLVL", "_"}
    assert "MARK" not in sh("one", "cat ~/startup-env")
    # Files belong to the agent, and are written at each start.
    assert sh("one", "stat -c '%a %u' ~/written ~/kept /opt/agents; cat ~/written") == (
        "600 1000\n644 1000\n644 1000\n$HOME stays")
    sh("one", "echo mine >~/kept; echo mine >~/written; echo mine >~/shared/note; echo mine >~/state/x")
    assert sh("one", "tool; cat ~/.agent/skills/tooling/SKILL.md") == "tool\nHow to."
    profile = sh("one", "cat %s/AGENTS.md" % os.path.dirname(world.path("work")))
    assert "- `/home/agent/kits-memory/tool.md`: The tool" in profile and "/base.md" in profile
    assert sh("one", "cat ~/kits-memory/tool.md") == "Use the tool."

    world.ok("stop", "one")
    world.ok("exec", "one", "--", "true")  # starts it
    assert sh("one", "cat ~/kept ~/written ~/state/x; wc -l <~/ups") == (
        "mine\n$HOME staysmine\n2\n")
    assert "403" in sh("one", "wget -qO- http://install.test/")  # never again
    # A second sandbox sees the folder; it outlives both.
    world.ok("create", "--name", "two", *args, world.path("work"))
    assert sh("two", "cat ~/shared/note; cat ~/state/x 2>&1") == (
        "mine\ncat: can't open '/home/agent/state/x': No such file or directory\n")
    spec = json.load(open(world.box("two", "spec.json")))
    folder_ = [m["host_path"] for m in spec["mounts"] if m.get("kit")][0]
    world.ok("rm", "-f", "one", "two")
    with open(os.path.join(folder_, "note")) as f:
        assert f.read() == "mine\n"
