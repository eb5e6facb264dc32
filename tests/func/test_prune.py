# SPDX-License-Identifier: Apache-2.0
"""hutch image prune: what nobody needs goes, all that somebody needs stays, and nothing is made meanwhile."""
import fcntl
import json
import os
import subprocess
import threading

import pytest

import image_world as world
import registry
from conftest import CACHE, PATIENCE
from image_world import add_image, entry, layer, listed, store
from kit_world import liar  # noqa: F401

KIT = 'schemaVersion: "2"\nkind: sandbox\nname: tool\nsandbox: {image: "%s"}\n'
OLD, NEW, USED = "0" * 64, "1" * 64, "2" * 64


@pytest.fixture
def home(tmp_path):
    h = world.empty_home(str(tmp_path / "home"))
    os.unlink(h.path("data", "hutch", "kernels"))  # those of all tests
    os.makedirs(h.path("data", "hutch", "kernels"))
    os.makedirs(h.path("data", "hutch", "images"))
    yield h
    h.close()


def images(home, *names):
    return home.path("data", "hutch", "images", *names)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def kit(home, image):
    write(home.path("kit", "spec.yaml"), (KIT % image).encode())
    return home.path("kit")


def box(home, name, ref, **changes):
    """A sandbox that was made of @ref, as its specification says."""
    spec = json.loads(home.ok("run", "--dry-run", "--json", "--name", name, kit(home, ref), home.path("work")))
    write(home.box(name, "spec.json"), json.dumps(dict(spec, **changes)).encode())


def prune(home, *args):
    """What goes: (kind, id), and the bytes; a trial says the same and changes nothing."""
    before = files(home)
    trial = json.loads(home.ok("image", "prune", "--dry-run", "--json", *args))
    assert files(home) == before and trial.pop("dry_run") is True
    done = json.loads(home.ok("image", "prune", "--json", *args))
    assert done.pop("dry_run") is False and done == trial
    left = files(home)
    assert done["bytes"] == sum(n for path, n in before.items() if path not in left)
    assert json.loads(home.ok("image", "prune", "--json"))["removed"] == []
    return {(r["kind"], r["id"]) for r in done["removed"]}


def files(home):
    """All there is in the store: path -> bytes on the disk."""
    found = {}
    for where, dirs, names in os.walk(home.path("data", "hutch")):
        for name in names + dirs:
            st = os.lstat(os.path.join(where, name))
            found[os.path.join(where, name)] = st.st_blocks * 512
    return {p: n for p, n in found.items() if not p.endswith(".lock")}


def pull(home, ref):
    return home.ok("image", "pull", ref).strip()


def blobs(pin, liar):
    m = json.loads(liar.blobs[pin.split("@")[1]])
    return {pin.split("@")[1], m["config"]["digest"], *(b["digest"] for b in m["layers"])}


def test_images(home, liar):
    """Tags, sandboxes, layers on top and the install cache keep theirs; the rest goes, shared layers stay."""
    shared = layer([entry("base", os.urandom(20000))])

    def image(tag, *more):
        add_image(liar, [shared, *more], tag=tag)
        return pull(home, "%s/%s:%s" % (liar.host, tag, tag))
    pins = {t: image(t, layer([entry(t, os.urandom(20000))])) for t in ("tagged", "boxed", "top", "cached", "gone", "low")}
    box(home, "b", pins["boxed"])
    box(home, "c", pins["low"], layers=[pins["top"]])
    write(home.path("data", "hutch", "cache", USED + ".img"), b"disk")
    write(home.path("data", "hutch", "cache", USED + ".json"), json.dumps({"image": pins["cached"]}).encode())
    # Tags that moved.
    with open(images(home, "tags.json")) as f:
        tags = {k: v for k, v in json.load(f).items() if "tagged" in k}
    write(images(home, "tags.json"), json.dumps(tags).encode())
    write(home.path("data", "hutch", "blobs", ".%s.part" % OLD), b"x" * 10000)
    write(home.path("data", "hutch", "images", ".oci.tmp"), b"x" * 10000)
    write(home.path("data", "hutch", "images", NEW + ".1.oci"), b"{}")
    went = prune(home)
    stay = set().union(*(blobs(pins[t], liar) for t in pins if t != "gone"))
    # Nobody has low or top by themselves, but their layers together.
    assert {i for k, i in went if k == "image"} == {pins[t][6:] for t in ("gone", "low", "top")}
    assert {i for k, i in went if k == "blob"} == blobs(pins["gone"], liar) - stay
    assert {i for k, i in went if k == "partial"} == {".%s.part" % OLD, ".oci.tmp"}
    assert {"sha256:" + b for b in store(home)[2]} == stay and registry.digest(shared) in stay
    assert {r["pinned"] for r in listed(home).values()} == {pins[t] for t in ("tagged", "boxed", "cached")}
    # What stays is whole, without a registry.
    liar.close()
    assert [pull(home, pins[t]) for t in pins if t != "gone"] == [pins[t] for t in pins if t != "gone"]
    r = home.run("image", "rm", pins["boxed"])
    assert r.returncode == 125 and "sandbox b is made of it" in r.stderr
    for name in ("b", "c"):
        os.unlink(home.box(name, "spec.json"))
    home.ok("kit", "cache", "rm")
    assert {i for k, i in prune(home) if k == "image"} == {pins[t][6:] for t in pins if t not in ("tagged", "gone")}
    assert "tagged" in world.tree(home, pins["tagged"])
    text = home.ok("image", "rm", pins["tagged"]) and home.ok("image", "prune")
    assert text == "0.0 MiB freed\n" and store(home) == ([], [], [])


def test_own_images(home):
    """Root images of Hutch's own: today's, a sandbox's and a cached disk's stay."""
    cached = "3" * 64
    for digits in (OLD, NEW, USED, cached):
        write(images(home, digits + ".img"), os.urandom(100000))
        write(images(home, digits + ".ca"), b"PEM")
    write(images(home, "base.ref"), NEW.encode())
    write(images(home, "disk-1.ext4"), b"disk")
    write(images(home, ".base.tmp"), b"half")
    box(home, "b", "base", image="base@" + USED)
    write(home.path("data", "hutch", "cache", OLD + ".img"), b"disk")
    write(home.path("data", "hutch", "cache", OLD + ".json"), json.dumps({"image": "base@" + cached}).encode())
    text = home.ok("image", "prune", "--dry-run")
    assert text.splitlines()[-1] == "0.1 MiB would be freed" and "root    base@" + OLD in text
    assert prune(home) == {("root", "base@" + OLD), ("partial", ".base.tmp")}
    assert {n for n in os.listdir(images(home)) if not n.endswith(".lock")} == {
        d + e for d in (NEW, USED, cached) for e in (".img", ".ca")} | {"base.ref", "disk-1.ext4"}


def test_kernels(home):
    """Packs that nothing would boot go, with their initramfs; not while a sandbox runs."""
    kernels = home.path("data", "hutch", "kernels")
    for pack in ("old", "default-1", "small-1", "named"):
        write(os.path.join(kernels, pack, "kernel"), os.urandom(5000))
        write(os.path.join(kernels, pack, "modules", "a.ko"), b"x" * 5000)
        write(os.path.join(kernels, "initrd", pack + "+1.2.cpio"), b"cpio")
    write(os.path.join(kernels, ".build", "kernel"), b"being made")
    write(os.path.join(kernels, "lone", "modules.list"), b"")
    os.symlink("default-1", os.path.join(kernels, "default"))
    os.symlink("small-1", os.path.join(kernels, "small"))
    home.env["HUTCH_KERNEL"] = os.path.join(kernels, "named")
    box(home, "b", "base", image="base@" + OLD)
    # As its supervisor has it: the lock.
    with open(home.box("b", "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert home.ok("image", "prune") == "kernel packs stay while a sandbox runs\n0.0 MiB freed\n"
    assert prune(home) == {("kernel", "old")}
    assert set(os.listdir(kernels)) == {"default-1", "small-1", "named", "default", "small", "initrd", "lone", ".build"}
    assert set(os.listdir(os.path.join(kernels, "initrd"))) == {p + "+1.2.cpio" for p in ("default-1", "small-1", "named")}
    del home.env["HUTCH_KERNEL"]
    assert prune(home) == {("kernel", "named")}


def test_unreadable_sandbox(home):
    """Nobody knows what it needs."""
    write(images(home, OLD + ".img"), b"root")
    write(home.box("b", "spec.json"), b"{")
    r = home.run("image", "prune")
    assert r.returncode == 125 and "sandbox b: " in r.stderr and r.stdout == ""
    assert os.path.exists(images(home, OLD + ".img"))


@pytest.mark.parametrize("lock", ["use.lock", "pull.lock"])
def test_waits(home, lock):
    """For those who make a sandbox, and for a pull; not for a build, which takes minutes."""
    write(images(home, OLD + ".img"), b"root")
    with open(images(home, lock), "w") as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        p = home.popen("image", "prune", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert "waiting for another" in p.stderr.readline()
        assert os.path.exists(images(home, OLD + ".img")) and p.poll() is None
    assert "base@" + OLD in p.communicate(timeout=PATIENCE)[0] and p.returncode == 0
    with open(home.path("data", "hutch", "build.lock"), "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        r = home.run("image", "prune")
        assert r.returncode == 125 and "another hutch image build is running" in r.stderr


@pytest.mark.usefixtures("images")
def test_a_sandbox_is_being_made(home, liar):
    """From the moment that its image is looked for, nobody removes images."""
    os.rmdir(home.path("data", "hutch", "kernels"))
    os.symlink(os.path.join(CACHE, "hutch", "kernels"), home.path("data", "hutch", "kernels"))
    data = layer([entry("a", os.urandom(100000))])
    add_image(liar, [data])
    asked, go = threading.Event(), threading.Event()

    def slow(handler):
        asked.set()
        go.wait(PATIENCE)
        return 404, {}, b"{}"
    liar.answers["/v2/x/blobs/" + registry.digest(data)] = slow
    p = home.popen("create", kit(home, liar.host + "/x:1"), home.path("work"), stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE, text=True)
    assert asked.wait(PATIENCE)
    with open(images(home, "use.lock"), "w") as f:
        with pytest.raises(BlockingIOError):
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        go.set()
        assert "no such layer" in p.communicate(timeout=PATIENCE)[1] and p.returncode == 125
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_usage(home):
    for args in (["prune", "x"], ["prune", "--force"], ["pull", "--dry-run", "x"]):
        assert home.run("image", *args).returncode == 125
