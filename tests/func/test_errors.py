# SPDX-License-Identifier: Apache-2.0
"""Wrong input: one line that says what and why, status 125, nothing left behind."""
import json
import os
import re
import resource
import shutil
import stat
import subprocess

import pytest

from conftest import CACHE, HUTCH, Home


@pytest.fixture
def work(home):
    path = home.path("work")
    os.makedirs(path)
    return path


def kit(home, text, name="kit"):
    path = home.path(name)
    os.makedirs(path)
    with open(os.path.join(path, "spec.yaml"), "w") as f:
        f.write(text)
    return path


MIXIN = 'schemaVersion: "2"\nkind: mixin\nname: extra\n'


def refused(home, *args, says=(), remedy=None, status=125, **kw):
    r = home.run(*args, **kw)
    assert r.returncode == status, (r.returncode, r.stderr)
    lines = [l for l in r.stderr.splitlines() if l.startswith("hutch: ")]
    assert len(lines) == 1, r.stderr
    for text in says:
        assert text in r.stderr, r.stderr
    if remedy:
        assert remedy in r.stderr.splitlines()[-1], r.stderr
    boxes = home.path("state", "hutch", "boxes")
    assert not os.path.isdir(boxes) or os.listdir(boxes) == []
    rt = os.path.join(home.runtime, "hutch")
    assert not os.path.isdir(rt) or os.listdir(rt) == []
    return r


def test_unknown_kit_key(home, work):
    path = kit(home, MIXIN + "permissions:\n  netwrok:\n    allow: [example.com]\nnonsense: 1\n")
    r = refused(home, "run", "--kit", path, "shell", work, says=["spec.yaml:5:3", "netwrok", "network"])
    assert "spec.yaml:7:1" in r.stderr  # all errors in one go


def test_missing_kit(home, work):
    refused(home, "run", "--kit", home.path("nowhere"), "shell", work, says=["nowhere"])
    refused(home, "run", "no-such-agent", work, says=["no-such-agent"])


def test_missing_kit_file(home, work):
    path = home.path("empty")
    os.makedirs(path)
    refused(home, "run", "--kit", path, "shell", work, says=["spec.yaml"])


@pytest.mark.parametrize("name", ["Upper", "-x", "x-", "a" * 65, "../x", "a/b", ""])
def test_invalid_name(home, work, name):
    refused(home, "run", "--name", name, "shell", work, says=["not a sandbox name"])


def test_absent_path(home, work):
    refused(home, "run", "shell", home.path("nope"), says=["nope", "no such"])


@pytest.mark.parametrize("path", ["/", "/etc", "/usr", "/proc"])
def test_paths_that_may_not_be_shared(home, path):
    refused(home, "run", "shell", path, says=[path])


@pytest.mark.parametrize("path,link", [
    ("", None), ("data/hutch/secrets", None), ("state", None), ("config/hutch", None), ("new", None),
    ("elsewhere", "data"), ("far", "link"),
])
def test_hutchs_own_directories_are_not_shared(home, path, link):
    """Who writes there has the user's rights: a secret may be a command."""
    env = {}
    if path == "new":  # made when the sandbox is
        env["XDG_STATE_HOME"] = home.path("new", "state")
    if link == "data":  # a link out of what is shared leads there
        env["XDG_DATA_HOME"] = home.path("elsewhere", "data")
        os.makedirs(home.path("elsewhere"))
        os.symlink(home.path("data"), home.path("elsewhere", "data"))
    if link == "link":  # a link into it
        env["XDG_CONFIG_HOME"] = home.path("conf")
        os.symlink(home.path("far"), home.path("conf"))
    os.makedirs(home.path(path), exist_ok=True)
    for mode in ("", ":ro"):
        refused(home, "create", "shell", home.path(path) + mode, says=["secrets and rules in"],
                remedy="does not hold", env=env)


@pytest.mark.parametrize("flag,value", [
    ("--memory", "lots"), ("--memory", "1k"), ("--cpus", "0"), ("--cpus", "x"), ("--disk", "-1"),
    ("--engine", "bochs"), ("--allow", "*bad*"), ("--resolve", "nonsense"), ("-e", "NOT_SET_HERE"),
])
def test_bad_flag_values(home, work, flag, value):
    refused(home, "run", flag, value, "shell", work, says=[value])


def test_unknown_flag_and_command(home, work):
    refused(home, "run", "--nope", "shell", work, says=["--nope"])
    refused(home, "frobnicate", says=["frobnicate"])


@pytest.mark.parametrize("args,meant", [
    (["rum", "shell"], "run"), (["run", "--nmae", "x", "shell"], "--name"), (["run", "shel"], "shell"),
    (["kit", "validat", "x"], "validate"), (["policy", "alow", "a.test"], "allow"),
    (["secret", "st", "x"], "set"), (["ls", "--JSON"], "--json"),
])
def test_near_misses(home, args, meant):
    refused(home, *args, says=["did you mean %s?" % meant])


def test_output_that_cannot_be_written(home):
    for args in (["version"], ["kit", "schema", "2"], ["policy", "ls", "--json"]):
        with open("/dev/full", "w") as full:
            r = subprocess.run([HUTCH, *args], env=home.env, stdout=full, stderr=subprocess.PIPE,
                               text=True)
        assert r.returncode == 125 and "standard output: No space left" in r.stderr, (args, r)
    # Closed descriptors: no file gets their numbers, and with it what is meant for them.
    r = subprocess.run(["sh", "-c", '"$0" policy allow a.test; "$0" nonsense; "$0" policy allow b.test',
                        HUTCH], env=home.env, preexec_fn=lambda: os.closerange(0, 3))
    assert r.returncode == 0
    with open(home.path("config", "hutch", "policy.json")) as f:
        assert [x["target"] for x in json.load(f)["rules"]] == ["a.test", "b.test"]


def test_required_credential_without_value(home, work):
    path = kit(home, MIXIN + """permissions:
  network:
    allow: [api.example.test]
credentials:
  - service: needed
    required: true
    apiKey:
      name: NEEDED_KEY
      inject: [{domain: api.example.test, header: Authorization, format: "Bearer %s"}]
""")
    refused(home, "run", "--kit", path, "shell", work, says=["needed"],
            remedy="hutch secret set needed", status=124)


def test_credential_for_a_domain_that_is_not_allowed(home, work):
    path = kit(home, MIXIN + """credentials:
  - service: wide
    apiKey:
      name: WIDE_KEY
      inject: [{domain: api.example.test, header: Authorization, format: "Bearer %s"}]
""")
    r = home.run("run", "--dry-run", "--json", "--kit", path, "shell", work)
    assert r.returncode == 0 and "warning: credentials[0].apiKey.inject[0].domain: not allowed" in r.stderr
    rules = json.loads(r.stdout)["network"]["rules"]
    assert not any("api.example.test" in rule["target"] for rule in rules)  # nothing is widened


def test_qemu_missing(home, work):
    refused(home, "run", "shell", work, says=["qemu-system-x86_64", "not installed"],
            remedy="apt install", env={"PATH": home.base})


def test_no_images(home, work):
    for name in ("images", "kernels"):
        os.unlink(home.path("data", "hutch", name))
    refused(home, "run", "shell", work, remedy="hutch image build")


def test_kernel_pack_corrupt(home, work):
    link = home.path("data", "hutch", "kernels")
    os.unlink(link)
    source = os.path.realpath(os.path.join(CACHE, "hutch", "kernels", "default"))
    shutil.copytree(source, os.path.join(link, os.path.basename(source)))
    os.symlink(os.path.basename(source), os.path.join(link, "default"))
    kernel = os.path.join(link, "default", "kernel")
    with open(kernel, "r+b") as f:
        f.seek(1 << 20)
        f.write(b"\0garbage")
    refused(home, "run", "shell", work, says=["corrupt"], remedy="hutch image build")
    os.truncate(kernel, 1000)
    refused(home, "run", "shell", work, says=["corrupt"])


def test_kvm_engine_is_refused_honestly(home, work):
    with open("/proc/cpuinfo") as f:
        virtualizes = re.search(r"^flags.* (vmx|svm)\b", f.read(), re.M)
    if virtualizes and os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("it works here")
    refused(home, "run", "--engine", "kvm", "shell", work, says=["kvm"])


def test_unknown_sandbox(home):
    for args in (["exec", "ghost", "--", "true"], ["stop", "ghost"], ["rm", "ghost"],
                 ["logs", "ghost"], ["policy", "log", "ghost"]):
        refused(home, *args, says=["ghost"])
    assert home.run("rm", "-f", "ghost").returncode == 0


@pytest.mark.parametrize("name", ["XDG_RUNTIME_DIR", "XDG_STATE_HOME"])
def test_directories_that_cannot_be(home, work, name):
    r = home.run("create", "shell", work, env={name: "/proc/none"})
    assert r.returncode == 125 and r.stderr.startswith("hutch: /proc/none: ")
    assert name in r.stderr.splitlines()[1]
    boxes = home.path("state", "hutch", "boxes")
    assert not os.path.isdir(boxes) or os.listdir(boxes) == []


def test_rm_of_what_is_left(home):
    os.makedirs(home.box("half", "files"))
    assert home.ok("ls") == ""
    assert home.ok("rm", "half") == "half\n"
    assert os.listdir(home.path("state", "hutch", "boxes")) == []


def test_secret_never_from_the_command_line(home):
    r = home.run("secret", "set", "github", "s3cr3t")
    assert r.returncode == 125 and "standard input" in r.stderr
    assert home.ok("secret", "ls") == ""


def test_secret_store(home):
    assert home.run("secret", "set", "github", input="v4lue\n").returncode == 0
    out = home.ok("secret", "ls")
    assert "github" in out and "v4lue" not in out
    store = home.path("data", "hutch", "secrets")
    assert stat.S_IMODE(os.stat(store).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(store, "github")).st_mode) == 0o600
    home.ok("secret", "rm", "github")
    assert home.run("secret", "rm", "github").returncode == 125
    assert home.run("secret", "set", "empty", input="").returncode == 125
    assert home.run("secret", "set", "../x", input="v").returncode == 125


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("when", ["before", "while"])
def test_disk_full_building_the_image(tmp_path, when):
    """Too small from the start, and filled by somebody else while the image is being made."""
    script = """
        mount -t tmpfs -o size=600m none "$1" || exit 1
        export XDG_DATA_HOME="$1"
        mkdir -p "$1/hutch"; cp -a "$2/hutch/kernels" "$1/hutch/"
        [ "$5" = before ] && dd if=/dev/zero of="$1/big" bs=1M 2>/dev/null
        "$3" image build & job=$!
        [ "$5" = while ] && sleep 5 && dd if=/dev/zero of="$1/big" bs=1M 2>/dev/null
        wait $job; status=$?
        ls -A "$1/hutch/images" >"$4"
        exit $status
    """
    disk, left = tmp_path / "disk", tmp_path / "left"
    disk.mkdir()
    r = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(disk), CACHE, HUTCH, str(left), when],
        capture_output=True, text=True, timeout=900)
    assert r.returncode == 125, r.stderr
    assert "No space left on device" in r.stderr.splitlines()[-2]
    assert "free about 2 GiB" in r.stderr.splitlines()[-1]
    assert left.read_text() == ""


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_disk_full_while_it_runs(home, work):
    """The guest sees errors, as of any full disk; the sandbox stays, and says why it does not start."""
    script = """
        mount -t tmpfs -o size=24m none "$1" || exit 1
        export XDG_STATE_HOME="$1"
        "$2" create --name s shell "$3" || exit 2
        "$2" exec s -- sh -c 'dd if=/dev/urandom of=$HOME/x bs=1M count=100 conv=fsync'
        "$2" exec s -- echo alive
        "$2" stop s
        dd if=/dev/zero of="$1/big" bs=64k
        "$2" exec s -- true
        echo status $?
        "$2" create --name t shell "$3"
        echo status $?
        "$2" rm -f s || exit 3
        ls -A "$1/hutch/boxes"
    """
    disk = home.path("disk")
    os.makedirs(disk)
    r = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", disk, HUTCH, work], env=home.env,
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    assert r.stdout == "s\nalive\ns\nstatus 125\nstatus 125\ns\n"
    assert "Input/output error" in r.stderr or "Read-only file system" in r.stderr, r.stderr
    lines = r.stderr.splitlines()
    at = [i for i, line in enumerate(lines) if line.endswith("/boxes: No space left on device")]
    assert len(at) == 2 and all("XDG_STATE_HOME" in lines[i + 1] for i in at), r.stderr


def test_few_descriptors(home, work):
    r = home.run("create", "shell", work,
                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48)))
    assert r.returncode == 125 and r.stderr.endswith(": Too many open files\n"), r.stderr
    assert os.listdir(home.path("state", "hutch", "boxes")) == []


def test_dry_run_makes_nothing(home, work):
    out = home.ok("run", "--dry-run", "shell", work)
    assert work in out
    assert not os.path.isdir(home.path("state", "hutch", "boxes", "shell-work"))
    assert home.ok("run", "--dry-run", "--json", "shell", work).startswith("{")
