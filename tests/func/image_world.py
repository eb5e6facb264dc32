# SPDX-License-Identifier: Apache-2.0
"""Images for tests: layers made here, registries that serve them, homes with an image store of their
own."""
import gzip
import io
import json
import os
import re
import subprocess
import tarfile

import registry
from conftest import CACHE, Home

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
CONFIG = OCI + "config.v1+json"
GZIP = OCI + "layer.v1.tar+gzip"
ZSTD = OCI + "layer.v1.tar+zstd"
BUSYBOX = "/bin/busybox"


def entry(name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o644, **more):
    i = tarfile.TarInfo(name)
    i.type, i.linkname, i.mode, i.mtime, i.size = kind, link, mode, 1000000000, len(data)
    for key, value in more.items():
        setattr(i, key, value)
    return i, data


def folder(name, mode=0o755, **more):
    return entry(name, kind=tarfile.DIRTYPE, mode=mode, **more)


def link(name, target):
    return entry(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name, target):
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def layer(entries, compression="gzip"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for info, data in entries:
            t.addfile(info, io.BytesIO(data))
    return pack(out.getvalue(), compression)


def pack(data, compression):
    if compression == "gzip":
        return gzip.compress(data, mtime=0)
    if compression == "zstd":
        return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def diff_id(data):
    """The digest of a layer without its compression."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    elif data[:4] == b"\x28\xb5\x2f\xfd":
        data = subprocess.run(["zstd", "-qdc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return registry.digest(data)


def busybox(*more):
    """The entries of a small system, musl-like: one program with many names, no bash, no sudo, no CA."""
    with open(BUSYBOX, "rb") as f:
        program = f.read()
    names = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return [folder("bin"), folder("etc"), folder("root", 0o700), folder("usr"), folder("usr/bin"),
            folder("tmp", 0o1777), entry("bin/busybox", program, mode=0o755),
            *[link("bin/" + n, "busybox") for n in names if n != "busybox"],
            entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
            entry("etc/group", b"root:x:0:\n"),
            entry("etc/profile", b"for f in /etc/profile.d/*.sh; do . $f; done\n"), *more]


def add_image(liar, layers, tag="1", config=None, types=None, platform=("linux", "amd64"), **changes):
    """Put an image into a LyingRegistry; the digest of its manifest."""
    text = json.dumps(dict({"os": platform[0], "architecture": platform[1], "config": config or {},
                            "rootfs": {"type": "layers", "diff_ids": [diff_id(d) for d in layers]}},
                           **changes)).encode()
    return liar.manifest({
        "schemaVersion": 2, "mediaType": registry.MANIFEST,
        "config": dict(liar.add(text), mediaType=CONFIG),
        "layers": [dict(liar.add(data), mediaType=(types or [GZIP] * len(layers))[i])
                   for i, data in enumerate(layers)]}, tag)


def add_index(liar, manifests, tag="1"):
    """@manifests: (digest, os, architecture)."""
    return liar.manifest({"schemaVersion": 2, "mediaType": registry.INDEX, "manifests": [
        {"mediaType": registry.MANIFEST, "digest": d, "size": len(liar.blobs[d]),
         "platform": {"os": o, "architecture": a}} for d, o, a in manifests]}, tag)


def own_store(home):
    """Links to the prepared images instead of their directory, so that what is pulled stays in @home."""
    images = home.path("data", "hutch", "images")
    os.unlink(images)
    os.mkdir(images, 0o700)
    for name in os.listdir(os.path.join(CACHE, "hutch", "images")):
        if name.endswith((".img", ".ca", ".ref", ".ext4")):
            os.symlink(os.path.join(CACHE, "hutch", "images", name), os.path.join(images, name))
    return home


def empty_home(base):
    """Without kernel and base image, for what starts no sandbox."""
    home = Home(base)
    os.unlink(home.path("data", "hutch", "images"))
    os.makedirs(home.path("work"))
    return home


def store(home, killed=False):
    """What is in the store of a home: (records, root images, blobs), and nothing half-done, unless a
    program was killed."""
    images = home.path("data", "hutch", "images")
    blobs = home.path("data", "hutch", "blobs")
    names = [n for n in os.listdir(images) if not os.path.islink(os.path.join(images, n))]
    assert killed or not [n for n in names if n.endswith(".tmp")], names
    return ([n for n in names if n.endswith(".oci")], [n for n in names if n.endswith(".img")],
            sorted(os.listdir(blobs)) if os.path.isdir(blobs) else [])


def listed(home):
    return {r["id"]: r for r in json.loads(home.ok("image", "ls", "--json")) if r["kind"] == "image"}


def tree(home, pin):
    """What is in the root image of @pin: path -> (type and mode, owner, target of a link)."""
    row = [r for r in listed(home).values() if r["pinned"] == pin][0]
    out = subprocess.run(["unsquashfs", "-lln", "-d", "", row["path"]], capture_output=True, text=True,
                         check=True).stdout
    found = {}
    for line in out.splitlines():
        m = re.match(r"(\S+) (\S+) +(?:\d+|\d+, *\d+) \S+ \S+ /?(.*?)(?: -> (.*))?$", line)
        if m and m[3]:
            found[m[3]] = (m[1], m[2], m[4])
    return found


def content(home, pin, path):
    row = [r for r in listed(home).values() if r["pinned"] == pin][0]
    return subprocess.run(["unsquashfs", "-cat", row["path"], path], capture_output=True, check=True).stdout
