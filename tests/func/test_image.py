# SPDX-License-Identifier: Apache-2.0
"""Images from registries: what is fetched, what is made of layers, what is refused."""
import base64
import gzip
import json
import os
import resource
import signal
import subprocess
import tarfile
import threading
import time

import pytest

import image_world as world
import registry
from conftest import PATIENCE, Home, wait_for
from image_world import add_image, add_index, busybox, content, entry, folder, hardlink, layer, link, listed, store
from kit_world import docker, liar  # noqa: F401

KIT = """schemaVersion: "2"
kind: sandbox
name: tool
sandbox: {image: "%s"%s}
"""
CAPABILITY = "\x01\0\0\x02\0\x20" + "\0" * 14  # cap_net_raw+ep


@pytest.fixture
def home(tmp_path):
    h = world.empty_home(str(tmp_path / "home"))
    yield h
    h.close()


def pull(home, ref):
    return home.ok("image", "pull", ref).strip()


def refused(home, ref, *words):
    """Not pulled, for this reason, and nothing half-made is left."""
    r = home.run("image", "pull", ref)
    assert r.returncode == 125 and all(w in r.stderr for w in words), (r.returncode, r.stderr)
    records, images, _ = store(home)
    assert records == [] and images == []
    return r.stderr


def kit(home, image, more="", name="kit"):
    os.makedirs(home.path(name), exist_ok=True)
    with open(home.path(name, "spec.yaml"), "w") as f:
        f.write(KIT % (image, more))
    return home.path(name)


# ---- what is made of layers ----

def test_layers(home, liar):
    """The whole language of layers, in three compressions, as it comes out of a squashfs image."""
    base = layer([
        folder("./"), folder("usr/"), folder("usr/lib/"), link("lib", "usr/lib"),
        entry("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), entry("a", b"first"), hardlink("b", "a"),
        entry("dir/x", b"x"), entry("dir/y", b"y"), entry("gone/z"), entry("usr/bin/su", mode=0o4755),
        entry("cap", b"c", pax_headers={"SCHILY.xattr.security.capability": CAPABILITY,
                                        "SCHILY.xattr.user.note": "kept",
                                        "SCHILY.xattr.trusted.overlay.opaque": "y"}),
        entry("null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3), entry("pipe", kind=tarfile.FIFOTYPE),
        entry("owned", uid=70000, gid=1234567, mode=0o640), link("other", "to"), hardlink("same", "other")])
    middle = layer([entry("lib/libx.so", b"through the link"), entry("a", b"second"),
                    entry("dir/.wh..wh..opq"), entry("dir/n", b"n"), entry(".wh.gone"),
                    entry("\u00fcber", b"u"), entry("long/" + "n" * 200, b"l")], "zstd")
    top = layer([folder("etc/", mode=0o700, uid=5)], "")
    types = [world.GZIP, world.ZSTD, world.OCI + "layer.v1.tar"]
    pin = pull(home, "%s/a:1" % liar.host) if add_image(liar, [base, middle, top], types=types) else None
    t = world.tree(home, pin)
    assert set(t) == {"usr", "usr/lib", "lib", "etc", "etc/passwd", "a", "b", "dir", "dir/n", "usr/bin",
                      "usr/bin/su", "cap", "null", "pipe", "owned", "other", "same", "usr/lib/libx.so",
                      "\u00fcber", "long", "long/" + "n" * 200}
    assert content(home, pin, "a") == b"second" and content(home, pin, "b") == b"first"
    assert content(home, pin, "usr/lib/libx.so") == b"through the link"
    assert t["lib"] == ("lrwxrwxrwx", "0/0", "usr/lib") and t["same"][2] == "to"
    assert t["usr/bin/su"][0] == "-rwsr-xr-x" and t["etc"][:2] == ("drwx------", "5/0")
    assert t["owned"][:2] == ("-rw-r-----", "70000/1234567")
    assert t["null"][0][0] == "c" and t["pipe"][0][0] == "p"
    assert t["dir"][:2] == ("drwxr-xr-x", "0/0")  # no layer has an entry of it
    path = [r for r in listed(home).values() if r["pinned"] == pin][0]["path"]
    try:
        os.setxattr(home.base, "user.note", b"")
    except OSError as e:
        pytest.skip("no extended attributes to unpack where the tests' files are: " + e.strerror)
    subprocess.run(["unsquashfs", "-q", "-n", "-d", home.path("out"), path, "cap"], check=True,
                   stdout=subprocess.DEVNULL)
    names = os.listxattr(home.path("out", "cap"))
    assert os.getxattr(home.path("out", "cap"), "user.note") == b"kept"
    assert "trusted.overlay.opaque" not in names
    if os.geteuid() == 0:
        assert os.getxattr(home.path("out", "cap"), "security.capability")[:6] == b"\x01\0\0\x02\0\x20"


def test_same_layers_same_names(home, liar):
    """A hard link that lost its name, in every order, and a second image of the same blobs."""
    one = layer([entry("a", b"old"), hardlink("d/b", "a"), hardlink("d/c", "d/b")])
    two = layer([entry(".wh.a"), entry("d/b", b"new")])
    add_image(liar, [one, two])
    add_image(liar, [one], tag="2")
    pin, second = pull(home, liar.host + "/x:1"), pull(home, liar.host + "/x:2")
    assert set(world.tree(home, pin)) == {"d", "d/b", "d/c"}
    assert (content(home, pin, "d/b"), content(home, pin, "d/c")) == (b"new", b"old")
    assert content(home, second, "a") == b"old"
    blobs = [p for p, _ in liar.seen if "/blobs/" in p]
    assert len(blobs) == len(set(blobs)), "a blob that is there was fetched again"


HOSTILE = {
    "up": ([entry("../x")], 'a path with ".."'),
    "inside": ([entry("a/../x")], 'a path with ".."'),
    "link-up": ([entry("a"), hardlink("b", "../a")], 'a path with ".."'),
    "dangling": ([hardlink("b", "a")], "a hard link to what is not there"),
    "dir-link": ([folder("a"), hardlink("b", "a")], "a hard link to a directory"),
    "below-file": ([entry("a"), entry("a/b")], "something lies below it, but it is no directory"),
    "loop": ([link("a", "b"), link("b", "a"), entry("a/x")], "too many symbolic links"),
    "whiteout": ([entry(".wh.")], "a whiteout of nothing"),
    "below-whiteout": ([entry(".wh.a/b")], "lies below a whiteout"),
    "deep": ([entry("d/" * 2100 + "x")], "a path of more than 4095 bytes"),
    "attributes": ([entry("a", pax_headers={"SCHILY.xattr.user.%d" % i: "x" * 60000 for i in range(5)})],
                   "more than 256 KiB of extended attributes"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_layers(home, liar, what):
    entries, why = HOSTILE[what]
    add_image(liar, [layer(entries)])
    refused(home, liar.host + "/x:1", "layer 1", why)


def test_stays_inside(home, liar):
    """Absolute names and links that lead out mean the image's own root."""
    add_image(liar, [layer([entry("/abs/x", b"1"), link("out", "../../../../../../tmp"),
                            link("etc", "/abs"), entry("out/y", b"2"), entry("etc/z", b"3")])])
    pin = pull(home, liar.host + "/x:1")
    assert set(world.tree(home, pin)) == {"abs", "abs/x", "abs/z", "out", "etc", "tmp", "tmp/y"}


def test_bombs(home, liar):
    """What is announced counts, before any of it is expanded."""
    big = tarfile.TarInfo("big")
    big.size = 100 << 30
    add_image(liar, [registry.layer(raw=big.tobuf(tarfile.PAX_FORMAT) + bytes(1024))])
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    refused(home, liar.host + "/x:1", "big: more than 64 GiB of files")
    big.size = 1 << 30
    add_image(liar, [registry.layer(raw=big.tobuf(tarfile.PAX_FORMAT) + bytes(1024))])
    refused(home, liar.host + "/x:1", "expands to more than 200 times its size")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 20


@pytest.mark.parametrize("compression, kind", [("gzip", world.GZIP), ("zstd", world.ZSTD),
                                               ("", world.OCI + "layer.v1.tar")])
def test_diff_ids(home, liar, compression, kind):
    """A layer that fits its digest has to fit, unpacked, what the image's configuration says of it."""
    plain = [layer([entry("a", b"a" * 3000000)], ""), layer([entry("b", os.urandom(300000))], "")]
    data = [layer([entry("base")]), *[world.pack(p, compression) for p in plain]]
    ids = [world.diff_id(data[0]), *map(registry.digest, plain)]
    types = [world.GZIP, kind, kind]

    def image(diff_ids):
        add_image(liar, data, types=types, rootfs={"type": "layers", "diff_ids": diff_ids})
        return liar.host + "/x:1"
    why = refused(home, image([ids[0], ids[2], ids[1]]), "layer 2", "unpacked it is " + ids[1])
    assert "the image's configuration says " + ids[2] in why
    refused(home, image([*ids[:2], "sha256:" + "0" * 64]), "layer 3", "says sha256:" + "0" * 64)
    refused(home, image(ids[:2]), "3 layers in its manifest, but 2 in its configuration")
    refused(home, image([*ids, ids[0]]), "3 layers in its manifest, but 4")
    refused(home, image([ids[0], "sha512:" + "0" * 128, ids[2]]), "diff_ids[1] is no sha256")
    refused(home, image("x"), "diff_ids is not a list of strings")
    assert set(world.tree(home, pull(home, image(ids)))) == {"base", "a", "b"}


def test_diff_id_of_all(home, liar):
    """What stands behind a tar's end belongs to it, and so do all members of a gzip file; not what is
    behind the last."""
    tar = layer([entry("a", os.urandom(50000))], "")
    padded = tar + b"\0" * 20000 + b"more"
    parts = gzip.compress(tar[:30000], mtime=0) + gzip.compress(tar[30000:], mtime=0)
    frames = world.pack(tar[:30000], "zstd") + world.pack(tar[30000:], "zstd")
    for data, whole in ((padded, padded), (world.pack(padded, "gzip"), padded), (world.pack(padded, "zstd"), padded),
                        (parts, tar), (frames, tar), (b"", b""), (world.pack(b"", "gzip"), b"")):
        rootfs = {"type": "layers", "diff_ids": [world.diff_id(layer([entry("x")])), registry.digest(whole)]}
        add_image(liar, [layer([entry("x")]), data], rootfs=rootfs)
        pin = pull(home, liar.host + "/x:1")
        assert set(world.tree(home, pin)) == ({"x", "a"} if whole else {"x"})
        home.ok("image", "rm", pin)
    add_image(liar, [world.pack(padded, "gzip")], rootfs={"type": "layers", "diff_ids": [registry.digest(tar)]})
    refused(home, liar.host + "/x:1", "layer 1: unpacked it is " + registry.digest(padded))
    # A bomb behind the end.
    bomb = world.pack(tar + bytes(300 << 20), "gzip")
    add_image(liar, [bomb], rootfs={"type": "layers", "diff_ids": [registry.digest(tar)]})
    refused(home, liar.host + "/x:1", "expands to more than 200 times its size")


# ---- what is fetched ----

def test_pins(home, liar):
    """A tag is pinned, moves, and is forgotten; what was pinned stays."""
    first = add_image(liar, [layer([entry("a", b"1")])])
    days = {time.strftime("%Y-%m-%d")}
    pin = pull(home, "%s/team/tool:1" % liar.host)
    assert pin == "oci://%s/team/tool@%s" % (liar.host, first)
    n = len(liar.seen)
    assert pull(home, pin) == pin and pull(home, "%s/team/tool:9@%s" % (liar.host, first)) == pin
    assert len(liar.seen) == n  # what is pinned and there needs nobody
    second = add_image(liar, [layer([entry("a", b"2")])])
    moved = pull(home, "%s/team/tool:1" % liar.host)
    assert moved == "oci://%s/team/tool@%s" % (liar.host, second) and content(home, moved, "a") == b"2"
    assert content(home, pin, "a") == b"1"
    rows = listed(home)
    assert set(rows) == {"%s/team/tool:1" % liar.host, pin[6:]}
    assert rows[pin[6:]]["pinned"] == pin and time.time() - rows[pin[6:]]["pulled"] < 600
    text = home.ok("image", "ls")
    days.add(time.strftime("%Y-%m-%d"))
    assert "%s/team/tool:1" % liar.host in text and any(d in text for d in days)
    liar.close()
    r = home.run("image", "pull", "%s/team/tool:1" % liar.host)
    assert r.returncode == 125 and "connect" in r.stderr.lower() and "it was " + moved in r.stderr
    assert pull(home, pin) == pin
    # Removal: by tag, then by the digest's beginning; blobs go with the last image.
    assert home.ok("image", "rm", "%s/team/tool:1" % liar.host).strip() == moved
    assert set(listed(home)) == {pin[6:]} and content(home, pin, "a") == b"1"
    assert home.ok("image", "rm", first[7:17]).strip() == pin
    assert store(home) == ([], [], [])
    r = home.run("image", "rm", "%s/team/tool:1" % liar.host)
    assert r.returncode == 125 and "no such image here" in r.stderr


def test_two_tags(home, liar):
    add_image(liar, [layer([entry("a")])])
    liar.tags["also"] = liar.tags["1"]
    pin = pull(home, liar.host + "/x:1")
    assert pull(home, liar.host + "/x:also") == pin
    assert home.ok("image", "rm", liar.host + "/x:1").strip() == liar.host + "/x:1"
    assert set(listed(home)) == {liar.host + "/x:also"}
    assert home.ok("image", "rm", liar.host + "/x:also").strip() == pin
    assert store(home) == ([], [], [])


def test_index(home, liar):
    mine = add_image(liar, [layer([entry("mine")])], tag="m")
    arm = add_image(liar, [layer([entry("arm")])], tag="a", platform=("linux", "arm64"))
    index = add_index(liar, [(arm, "unknown", "unknown"), (arm, "linux", "arm64"), (mine, "linux", "amd64")])
    pin = pull(home, liar.host + "/x:1")
    assert pin.endswith(index) and set(world.tree(home, pin)) == {"mine"}
    liar.tags.clear()
    assert pull(home, pin) == pin


def test_other_platforms(home, liar):
    arm = add_image(liar, [layer([entry("arm")])], tag="a", platform=("linux", "arm64"))
    add_index(liar, [(arm, "linux", "arm64"), (arm, "windows", "amd64")])
    refused(home, liar.host + "/x:1", "not made for linux/amd64, only for linux/arm64, windows/amd64")
    refused(home, liar.host + "/x:a", "made for linux/arm64; this machine runs linux/amd64")
    add_image(liar, [layer([entry("w")])], tag="w", platform=("windows", "amd64"))
    refused(home, liar.host + "/x:w", "made for windows/amd64")


def test_types(home, liar):
    data = layer([entry("a")])
    for kind, why in ((world.DOCKER + "image.rootfs.foreign.diff.tar.gzip", "does not have itself"),
                      (world.OCI + "layer.nondistributable.v1.tar+gzip", "does not have itself"),
                      ("application/x-new", "which cannot be used")):
        add_image(liar, [data], types=[kind])
        refused(home, liar.host + "/x:1", kind, why)
    for kind in (world.DOCKER + "image.rootfs.diff.tar.gzip", world.OCI + "layer.v1.tar"):
        add_image(liar, [data], types=[kind], tag="ok")
        assert "a" in world.tree(home, pull(home, liar.host + "/x:ok"))
    liar.kit("schemaVersion: \"2\"\n", tag="kit")
    r = home.run("image", "pull", liar.host + "/x:kit")
    assert r.returncode == 125 and "a configuration of type " + registry.SPEC in r.stderr


def test_wrong_bytes(home, liar):
    """Nothing that does not fit its digest gets a name, and a later pull can still succeed."""
    data = layer([entry("a", os.urandom(200000))])
    d = registry.digest(data)
    add_image(liar, [data])
    path = "/v2/x/blobs/" + d
    for body, why in ((data[:-1] + b"x", "is not what its digest says"),
                      (data[:1000], "is shorter than was announced"), (data + b"x", "more than was announced")):
        liar.answers[path] = (200, {}, body)
        refused(home, liar.host + "/x:1", why)
        assert d[7:] not in store(home)[2]
    liar.answers[path] = (404, {}, b"{}")
    refused(home, liar.host + "/x:1", "no such layer")
    del liar.answers[path]
    m = liar.tags["1"]
    liar.answers["/v2/x/manifests/" + m] = (200, {}, b"{}")
    refused(home, liar.host + "/x@" + m, "another manifest than " + m)
    del liar.answers["/v2/x/manifests/" + m]
    pull(home, liar.host + "/x:1")


def cut(data, at):
    """An answer that breaks off at @at; from there on a range is given, once."""
    seen = []

    def answer(handler):
        seen.append(handler.headers.get("Range"))
        begin = int(seen[-1][6:-1]) if seen[-1] else 0
        handler.send_response(206 if begin else 200)
        handler.send_header("Content-Length", str(len(data) - begin))
        handler.end_headers()
        handler.wfile.write(data[begin:] if begin else data[:at])
        if not begin:
            handler.wfile.flush()
            handler.connection.shutdown(2)
        return None
    return answer, seen


def test_goes_on(home, liar):
    """A broken connection: the rest is asked for, and what does not fit is fetched once more, whole."""
    data = layer([entry("a", os.urandom(300000))])
    add_image(liar, [data])
    path = "/v2/x/blobs/" + registry.digest(data)
    liar.answers[path], seen = cut(data, 100000)
    pin = pull(home, liar.host + "/x:1")
    assert seen[0] is None and seen[1] == "bytes=100000-" and len(seen) == 2
    assert len(content(home, pin, "a")) == 300000
    home.ok("image", "rm", pin)
    # What an earlier attempt has left is wrong.
    part = home.path("data", "hutch", "blobs", ".%s.part" % registry.digest(data)[7:])
    with open(part, "wb") as f:
        f.write(b"x" * 5000)
    del liar.answers[path]
    assert pull(home, liar.host + "/x:1") == pin and not os.path.exists(part)


def test_killed(home, liar):
    """kill -9 while a layer comes: nothing half-made is used, and the next pull takes it up."""
    data = layer([entry("a", os.urandom(400000))])
    add_image(liar, [data])
    path = "/v2/x/blobs/" + registry.digest(data)
    ranges, hold = [], threading.Event()

    def slow(handler):
        ranges.append(handler.headers.get("Range"))
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:200000])
        handler.wfile.flush()
        hold.wait(PATIENCE)
        return None
    liar.answers[path] = slow
    p = home.popen("image", "pull", liar.host + "/x:1", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    part = home.path("data", "hutch", "blobs", ".%s.part" % registry.digest(data)[7:])
    wait_for(lambda: os.path.exists(part) and os.path.getsize(part) >= 150000, what="half a layer")
    p.kill()
    p.wait()
    hold.set()
    assert store(home, killed=True)[:2] == ([], [])
    liar.answers[path] = lambda handler: ranges.append(handler.headers.get("Range")) or (200, {}, data)
    pin = pull(home, liar.host + "/x:1")
    assert ranges[-1].startswith("bytes=") and len(content(home, pin, "a")) == 400000


def test_interrupted_while_unpacking(home, liar):
    """No image, and the same works afterwards and cleans up."""
    add_image(liar, [layer([entry("f%d" % i, os.urandom(100000)) for i in range(100)], "")],
              types=[world.OCI + "layer.v1.tar"])
    p = home.popen("image", "pull", liar.host + "/x:1", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while b"unpacking" not in p.stderr.readline():
        pass
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=PATIENCE)
    assert p.returncode != 0 and store(home, killed=True)[:2] == ([], [])
    assert "f99" in world.tree(home, pull(home, liar.host + "/x:1"))
    store(home)


def test_damaged_blob(home, liar):
    """A layer that changed on the disk is noticed, named, and fetched anew."""
    data = layer([entry("a", b"x" * 1000)])
    add_image(liar, [data])
    pin = pull(home, liar.host + "/x:1")
    records, images, _ = store(home)
    for name in records + images:
        os.unlink(home.path("data", "hutch", "images", name))
    path = home.path("data", "hutch", "blobs", registry.digest(data)[7:])
    with open(path, "r+b") as f:
        f.write(b"not gzip")
    r = home.run("image", "pull", pin)
    assert r.returncode == 125 and "is not what its digest says" in r.stderr and "try again" in r.stderr
    assert not os.path.exists(path)
    assert pull(home, pin) == pin


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_full_disk(home, liar, tmp_path):
    """No space for a layer, or for the root image: said so, nothing left, and it works with more space."""
    data = layer([entry("a", os.urandom(3 << 20)), entry("b", os.urandom(3 << 20))])
    add_image(liar, [data])
    small = str(tmp_path / "small")
    os.mkdir(small)

    def try_with(size):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", small], check=True)
        try:
            os.makedirs(os.path.join(small, "hutch", "kernels"))
            r = home.run("image", "pull", liar.host + "/x:1", env={"XDG_DATA_HOME": small})
            left = [n for n in os.listdir(os.path.join(small, "hutch", "images")) if n.endswith((".img", ".tmp"))]
            parts = [n for n in os.listdir(os.path.join(small, "hutch", "blobs")) if n.endswith(".part")]
            return r, left, parts
        finally:
            subprocess.run(["umount", small], check=True)
    for size in (4 << 20, 9 << 20):
        r, left, parts = try_with(size)
        assert r.returncode == 125 and "No space left on device" in r.stderr, r.stderr
        assert left == [] and parts == []
    r, left, parts = try_with(40 << 20)
    assert r.returncode == 0 and len(left) == 1, r.stderr


def test_login(home, liar):
    """Basic and token registries take what `docker login` has kept; without it the error says so."""
    add_image(liar, [layer([entry("a")])])
    auth = base64.b64encode(b"me:secret").decode()

    def ask(handler):
        if handler.headers.get("Authorization") in ("Basic " + auth, "Bearer good"):
            name = handler.path.rsplit("/", 1)[1]
            return 200, {}, liar.blobs[liar.tags.get(name, name)]
        return 401, {"WWW-Authenticate": challenge[0]}, b"{}"
    for name in [*liar.tags, *liar.tags.values()]:
        liar.answers["/v2/x/manifests/" + name] = ask
    for d in liar.blobs:
        liar.answers["/v2/x/blobs/" + d] = ask
    liar.answers["/token"] = lambda handler: (
        (200, {}, b'{"token": "good"}') if handler.headers.get("Authorization") == "Basic " + auth
        else (401, {}, b"{}"))
    challenge = ['Basic realm="r"']
    refused(home, liar.host + "/x:1", "asks for a login")
    os.makedirs(home.path("docker"))
    with open(home.path("docker", "config.json"), "w") as f:
        json.dump({"auths": {liar.host: {"auth": auth}}}, f)
    env = {"DOCKER_CONFIG": home.path("docker")}
    pin = home.ok("image", "pull", liar.host + "/x:1", env=env).strip()
    home.ok("image", "rm", pin)
    challenge[0] = 'Bearer realm="http://%s/token",service="s",scope="pull"' % liar.host
    assert home.ok("image", "pull", liar.host + "/x:1", env=env).strip() == pin


def test_two_at_once(home, liar):
    """Two pulls of the same image: one waits, both have it, and it was fetched once."""
    data = layer([entry("a", os.urandom(500000))])
    add_image(liar, [data])
    both = [home.popen("image", "pull", liar.host + "/x:1", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    outs = [p.communicate(timeout=PATIENCE) for p in both]
    assert [p.returncode for p in both] == [0, 0], outs
    assert outs[0][0] == outs[1][0]
    assert [p for p, _ in liar.seen].count("/v2/x/blobs/" + registry.digest(data)) == 1


def test_docker_registry(home, docker):
    """Debian's registry, pushed to as docker push does."""
    import urllib.request
    data = layer([entry("a", b"real")], "zstd")
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["a"]},
                         "rootfs": {"type": "layers", "diff_ids": [world.diff_id(data)]}}).encode()

    def call(method, path, body=None, **headers):
        url = path if "://" in path else "http://%s%s" % (docker.host, path)
        q = urllib.request.Request(url, data=body, method=method, headers=headers)
        with urllib.request.urlopen(q) as f:
            return f.headers
    for blob in (data, config):
        to = call("POST", "/v2/t/x/blobs/uploads/", b"")["Location"]
        call("PUT", to + "&digest=" + registry.digest(blob), blob, **{"Content-Type": "application/octet-stream"})
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": registry.MANIFEST,
        "config": {"mediaType": world.CONFIG, "size": len(config), "digest": registry.digest(config)},
        "layers": [{"mediaType": world.ZSTD, "size": len(data), "digest": registry.digest(data)}]}).encode()
    call("PUT", "/v2/t/x/manifests/1.0", manifest, **{"Content-Type": registry.MANIFEST})
    pin = pull(home, docker.host + "/t/x:1.0")
    assert pin == "oci://%s/t/x@%s" % (docker.host, registry.digest(manifest))
    assert content(home, pin, "a") == b"real"
    assert "no such image" in home.run("image", "pull", docker.host + "/t/x:none").stderr


def test_bad_references(home):
    for ref in ("UPPER", "a b", "x@sha256:00", "host.example/", "-x", "a/../b"):
        r = home.run("image", "pull", "--", ref)
        assert r.returncode == 125 and r.stderr.startswith("hutch: image"), (ref, r.stderr)
    for command in ("pull", "rm"):
        r = home.run("image", command, "base")
        assert r.returncode == 125 and "Hutch's own image" in r.stderr


# ---- plans ----

def dry_run(home, path, *args, **kw):
    r = home.run("run", "--dry-run", "--json", *args, path, home.path("work"), **kw)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def test_plan(home, liar):
    """The plan has the pin, and what the image says; no layer is fetched for it."""
    data = layer([entry("a")])
    add_image(liar, [data], config={"Env": ["PATH=/opt/bin:/bin", "A=image"], "Entrypoint": ["/tini", "--"],
                                    "Cmd": ["serve"], "User": "app", "WorkingDir": "/srv"})
    path = kit(home, liar.host + "/x:1")
    s = dry_run(home, path)
    assert s["image"] == "oci://%s/x@%s" % (liar.host, liar.tags["1"])
    assert (s["entrypoint"], s["command_default"]) == (["/tini", "--"], ["serve"])
    assert "PATH=/opt/bin:/bin:/home/agent/.local/bin" in s["env"] and "A=image" in s["env"]
    assert {"what": "env A", "from": "the image"} in s["origins"]
    assert registry.digest(data)[7:] not in store(home)[2]
    # A program beside the image's WORKDIR, which is not where it starts.
    for config, argv in (({"Entrypoint": ["./run", "./x"], "WorkingDir": "/srv"}, ["/srv/./run", "./x"]),
                         ({"Entrypoint": ["bin/run"]}, ["/bin/run"]),
                         ({"Cmd": ["./run"], "WorkingDir": "app"}, ["/app/./run"]),
                         ({"Entrypoint": ["run"], "Cmd": ["./x"], "WorkingDir": "/srv"}, ["run", "./x"])):
        add_image(liar, [data], config=config, tag="w")
        w = dry_run(home, kit(home, liar.host + "/x:w", name="w"))
        assert w["entrypoint"] + w["command_default"] == argv and w["workdir"] == home.path("work")
    own = dry_run(home, kit(home, liar.host + "/x:1", ', entrypoint: [mine], command: [x]', "own"))
    assert (own["entrypoint"], own["command_default"]) == (["mine"], ["x"])
    text = home.ok("run", "--dry-run", path, home.path("work"))
    assert s["image"] in text
    liar.close()
    assert dry_run(home, kit(home, s["image"][6:], name="pinned"))["image"] == s["image"]
    r = home.run("run", "--dry-run", path, home.path("work"))
    assert r.returncode == 125 and "Failed to connect" in r.stderr


# ---- sandboxes ----

@pytest.fixture
def machine(tmp_path, images):
    h = world.own_store(Home(str(tmp_path / "home")))
    os.makedirs(h.path("work"))
    yield h
    h.close()


HELLO = entry("usr/bin/hello", b'#!/bin/sh\necho hello "$A" "$B" "$@"; id -un; id -u; pwd\n', mode=0o755)


def test_sandbox(machine, liar):
    """A small system without bash, sudo, certificates or agent, with setuid, capability and device: a kit
    on it works to the end, keeps its pin when the tag moves, and starts without the registry."""
    home = machine
    add_image(liar, [layer(busybox(
        HELLO, entry("usr/bin/ping", b"#!", mode=0o4755, pax_headers={
            "SCHILY.xattr.security.capability": CAPABILITY}), entry("old", b"1"))),
        layer([entry(".wh.old"), entry("etc/mark", b"2")], "zstd")], types=[world.GZIP, world.ZSTD],
        config={"Env": ["A=image", "B=image", "PATH=/usr/bin:/bin"], "Entrypoint": ["hello"], "Cmd": ["cmd"]})
    path = kit(home, liar.host + "/team/tool:1")
    with open(os.path.join(path, "spec.yaml"), "a") as f:
        f.write('environment: {variables: {B: kit}}\n'
                'setup: {install: [{command: "cat /etc/mark > /etc/installed"}],\n'
                '  files: [{path: /home/agent/f, content: x}]}\n'
                'volumes: [{path: /var/vol}, {path: /var/tmpfs, type: tmpfs}]\n')
    args = ("run", "--name", "tool", path, home.path("work"))
    r = home.run(args[0], "--memory", "512m", *args[1:])
    assert r.returncode == 0, r.stderr
    assert r.stdout.split() == ["hello", "image", "kit", "cmd", "agent", "1000", home.path("work")]
    pin = "oci://%s/team/tool@%s" % (liar.host, liar.tags["1"])
    assert "pinned as " + pin in r.stderr
    with open(home.box("tool", "spec.json")) as f:
        assert json.load(f)["image"] == pin
    out = home.ok("exec", "tool", "--", "sh", "-c", """
        cat /etc/installed; ls /old 2>&1; stat -c '%a %u' /usr/bin/ping; stat -c '%u' /home/agent/f ~;
        grep -c BEGIN "$SSL_CERT_FILE"; touch made; test -d /var/vol && grep -c /var/tmpfs /proc/mounts""")
    lines = out.split("\n")
    assert lines[0].startswith("2") and "No such file" in lines[0] and lines[1] == "4755 0"
    assert lines[2:4] == ["1000", "1000"] and int(lines[4]) >= 1 and lines[5] == "1"
    assert os.stat(home.path("work", "made")).st_uid == os.getuid()
    assert home.ok("exec", "-u", "root", "tool", "--", "id", "-u").strip() == "0"
    # In use, moved, gone, offline.
    r = home.run("image", "rm", liar.host + "/team/tool:1")
    assert r.returncode == 125 and "sandbox tool is made of it" in r.stderr
    add_image(liar, [layer([entry("nothing")])])
    add_image(liar, [layer([entry("opt/mixin", b"on top"), entry("usr/bin/.wh.ping")])], tag="mixin")
    mixin = pull(home, liar.host + "/team/mixin:mixin")
    home.ok("stop", "tool")
    liar.close()
    # What kits of schemaVersion "3" do: layers of another image on top.
    with open(home.box("tool", "spec.json"), "r+") as f:
        spec = dict(json.load(f), layers=[mixin])
        f.seek(0)
        f.truncate()
        json.dump(spec, f)
    records, roots, _ = store(home)
    for name in records + roots:  # made again, of what is in the store
        os.unlink(home.path("data", "hutch", "images", name))
    r = home.run(*args, "--", "again")
    assert r.returncode == 0 and r.stdout.startswith("hello image kit again\n"), r.stderr
    assert home.ok("exec", "tool", "--", "sh", "-c", "cat /opt/mixin; ls /usr/bin") == "on tophello\n"
    both = [r for r in listed(home).values() if r["layers"]]
    assert [(r["pinned"], r["layers"]) for r in both] == [(pin, [mixin])]
    r = home.run("image", "rm", mixin)
    assert r.returncode == 125 and "sandbox tool is made of it" in r.stderr
    home.ok("rm", "-f", "tool")
    home.ok("image", "rm", mixin)
    assert home.ok("image", "rm", liar.host + "/team/tool:1").strip() == pin


def test_scratch(machine, liar):
    """An image with one static program and nothing else, not even /etc; uid 1000 is the agent."""
    home = machine
    with open(world.BUSYBOX, "rb") as f:
        add_image(liar, [layer([entry("busybox", f.read(), mode=0o755)])], config={"Entrypoint": ["/busybox", "id"]})
    r = home.run("run", "--rm", "--memory", "512m", kit(home, liar.host + "/x:1"), home.path("work"))
    assert r.returncode == 0 and "uid=1000(agent) gid=1000(agent)" in r.stdout, r.stderr
