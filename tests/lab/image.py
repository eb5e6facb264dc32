# SPDX-License-Identifier: Apache-2.0
"""What the lab machine boots: Debian's kernel, an initramfs and a root image, cached by content.

The recipe below and the kernel package's name are hashed; a directory of that name under the cache
holds vmlinux, root.img, busybox and modules/, and is never changed again. The initramfs is put
together from those at each start, which takes milliseconds. Nothing is installed on the host:
apt downloads the kernel, mmdebstrap works in a user namespace, package sources are the host's own.
"""
import contextlib
import fcntl
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
                     "hutch-test", "lab")

# Changes with what build() does.
FORMAT = 1

# Debian's cloud kernel has kvm_amd but no 9p, so the lab takes the ordinary one.
KERNEL = "linux-image-amd64"

PACKAGES = """
bash busybox-static kmod ca-certificates openssl iproute2 procps strace util-linux
libjansson4 libyaml-0-2 libssl3 libc-ares2 libnghttp2-14 libasan8 libubsan1 libtsan2
e2fsprogs squashfs-tools uidmap qemu-system-x86
python3 python3-pytest
""".split()

# Loaded by the initramfs in this order (dependencies before them), the others on demand.
EARLY = ["virtio_mmio", "virtio_blk", "virtio_console", "squashfs", "overlay", "9p",
         "9pnet_virtio", "virtio_net", "kvm_amd"]
LATE = ["ext4", "crc32c_generic", "loop", "tun", "veth", "fuse", "virtiofs", "vhost_net",
        "vhost_vsock", "vsock_loopback", "nf_tables"]

EXCLUDE = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*",
           "/usr/libexec/qemu-system-i386", "/usr/share/qemu/*.lid", "/usr/share/qemu/edk2-*",
           "/usr/share/qemu/firmware/*", "/usr/lib/ipxe/*"]

HOOKS = [
    'chroot "$1" useradd --create-home --uid 1000 --shell /bin/bash lab',
    'chroot "$1" groupadd --force --system kvm && chroot "$1" usermod --append --groups kvm lab',
    'rm -f "$1"/etc/resolv.conf "$1"/etc/hostname; mkdir -p "$1"/lab',
    'chroot "$1" depmod "$(ls "$1"/lib/modules)"',
]


def sources():
    """The suite and the sources of the host's Debian; elsewhere mmdebstrap's own defaults."""
    named = os.environ.get("HUTCH_APT_SOURCES")
    release = {}
    with contextlib.suppress(OSError), open("/etc/os-release") as f:
        release = dict(line.strip().split("=", 1) for line in f if "=" in line)
    debian = release.get("ID") == "debian"
    suite = release.get("VERSION_CODENAME", "bookworm") if debian else "bookworm"
    files = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"] if debian else []
    found = [f for f in files if os.path.exists(f) and os.path.getsize(f)]
    return suite, [named] if named else found[:1]


def kernel_package():
    """The package that KERNEL stands for. apt takes seconds to say so on a busy machine: asked anew
    only when its lists have changed."""
    stamp = os.path.join(CACHE, "kernel")
    lists = "%s %d" % (KERNEL, os.stat("/var/lib/apt/lists").st_mtime_ns)
    with contextlib.suppress(OSError, ValueError), open(stamp) as f:
        seen, package = f.read().splitlines()
        if seen == lists:
            return package
    out = subprocess.run(["apt-cache", "depends", "--important", KERNEL], capture_output=True,
                         text=True, check=True).stdout
    found = re.search(r"Depends: (linux-image-\S+)", out)
    if not found:
        raise RuntimeError("apt does not know %s; try: apt-get update" % KERNEL)
    with open(stamp + ".%d" % os.getpid(), "w") as f:
        f.write("%s\n%s\n" % (lists, found.group(1)))
    os.rename(f.name, stamp)
    return found.group(1)


def packages():
    return PACKAGES + os.environ.get("HUTCH_LAB_PACKAGES", "").split()


def key(kernel):
    recipe = [FORMAT, kernel, packages(), EARLY, LATE, EXCLUDE, HOOKS, sources()]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def run(argv, **kw):
    r = subprocess.run(argv, stdin=kw.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, **kw)
    if r.returncode:
        raise RuntimeError("%s: status %d\n%s" % (" ".join(argv[:3]), r.returncode,
                                                  r.stdout[-4000:]))


def unpack_kernel(vmlinuz, out):
    """The ELF kernel inside a bzImage: QEMU enters it directly, without emulated decompression."""
    with open(vmlinuz, "rb") as f:
        data = f.read()
    start = data.find(b"\xfd7zXZ\0")
    if start < 0:
        raise RuntimeError("%s is not compressed with xz" % vmlinuz)
    with open(out, "wb") as f:
        f.write(lzma.LZMADecompressor().decompress(data[start:]))


class Modules:
    """The kernel package's modules, with what each of them needs."""

    def __init__(self, top):
        self.files = {}
        for dirpath, _, names in os.walk(top):
            for n in names:
                if n.endswith(".ko"):
                    self.files[n[:-3].replace("-", "_")] = os.path.join(dirpath, n)

    def closure(self, names):
        """Files of @names in an order in which insmod takes them."""
        order = []

        def add(name):
            path = self.files[name.replace("-", "_")]
            if path in order:
                return
            with open(path, "rb") as f:
                info = re.search(rb"\0depends=([^\0]*)\0", f.read())
            for need in filter(None, info.group(1).decode().split(",") if info else []):
                add(need)
            order.append(path)

        for name in names:
            add(name)
        return order


def cpio_entry(name, mode, data=b""):
    head = "070701" + "".join("%08X" % v for v in (
        0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0))
    out = head.encode() + name.encode() + b"\0"
    out += b"\0" * (-len(out) % 4) + data
    return out + b"\0" * (-len(out) % 4)


def write_initramfs(image, out):
    with open(os.path.join(HERE, "initramfs.sh"), "rb") as f:
        init = f.read()
    with open(os.path.join(image, "busybox"), "rb") as f:
        busybox = f.read()
    with open(out, "wb") as f:
        for name in ("bin", "dev", "proc", "modules", "ro", "rw", "root"):
            f.write(cpio_entry(name, 0o040755))
        f.write(cpio_entry("bin/busybox", 0o100755, busybox))
        f.write(cpio_entry("init", 0o100755, init))
        for name in sorted(os.listdir(os.path.join(image, "modules"))):
            with open(os.path.join(image, "modules", name), "rb") as ko:
                f.write(cpio_entry("modules/" + name, 0o100644, ko.read()))
        f.write(cpio_entry("TRAILER!!!", 0))


def write_root(out, moddir):
    suite, files = sources()
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=" + ",".join(packages()),
            '--aptopt=Acquire::Languages "none"']
    argv += ["--dpkgopt=path-exclude=" + p for p in EXCLUDE]
    argv += ['--customize-hook=mkdir -p "$1"/lib/modules']
    argv += ["--customize-hook=copy-in %s /lib/modules" % moddir]
    argv += ["--customize-hook=" + h for h in HOOKS]
    argv += [suite, "-"] + files
    bootstrap = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    error = None
    try:
        # Uncompressed: the emulated CPU would have to decompress it, and the host caches it.
        run(["sqfstar", "-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX", "-root-mode", "755",
             "-root-uid", "0", "-root-gid", "0", out], stdin=bootstrap.stdout)
    except RuntimeError as e:
        error = e
    finally:
        bootstrap.stdout.close()
        status = bootstrap.wait()
    # Either one that fails takes the other along: name both.
    if status or error:
        raise RuntimeError("; ".join(filter(None, [
            "mmdebstrap: status %d" % status if status else "", str(error) if error else ""])))


def build(out, package):
    with tempfile.TemporaryDirectory(prefix="hutch-lab-") as tmp:
        run(["apt-get", "-q", "-o", "APT::Sandbox::User=", "download", package], cwd=tmp)
        deb = [n for n in os.listdir(tmp) if n.endswith(".deb")]
        run(["dpkg-deb", "-x", os.path.join(tmp, deb[0]), os.path.join(tmp, "k")])
        boot = os.path.join(tmp, "k", "boot")
        vmlinuz = [n for n in os.listdir(boot) if n.startswith("vmlinuz-")][0]
        release = vmlinuz[len("vmlinuz-"):]
        unpack_kernel(os.path.join(boot, vmlinuz), os.path.join(out, "vmlinux"))
        libmod = os.path.join(tmp, "k", "lib", "modules", release)
        modules = Modules(libmod)
        chosen = os.path.join(tmp, release)
        for path in modules.closure(EARLY + LATE):
            to = os.path.join(chosen, os.path.relpath(path, libmod))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(path, to)
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            shutil.copy(os.path.join(libmod, name), chosen)
        # mmdebstrap copies as another user.
        os.chmod(tmp, 0o755)
        write_root(os.path.join(out, "root.img"), chosen)
        with open(os.path.join(out, "busybox"), "wb") as f:
            subprocess.run(["unsquashfs", "-cat", os.path.join(out, "root.img"), "usr/bin/busybox"],
                           stdout=f, check=True)
        # The names sort in the order of loading.
        os.mkdir(os.path.join(out, "modules"))
        for i, path in enumerate(modules.closure(EARLY)):
            shutil.copy(path, os.path.join(out, "modules", "%02d-%s" % (i, os.path.basename(path))))


def prepare(say):
    """The image's directory, made when missing."""
    os.makedirs(CACHE, exist_ok=True)
    package = kernel_package()
    path = os.path.join(CACHE, key(package))
    with open(os.path.join(CACHE, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(path):
            return path
        say("building the lab machine (once, about two minutes)")
        tmp = path + ".tmp"
        shutil.rmtree(tmp, ignore_errors=True)
        os.mkdir(tmp)
        try:
            build(tmp, package)
            os.rename(tmp, path)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
        # What an older recipe made is of no use any more, unless a machine runs from it: that one
        # keeps its open files.
        for name in os.listdir(CACHE) if "HUTCH_LAB_PACKAGES" not in os.environ else []:
            if name not in ("lock", "kernel", os.path.basename(path)):
                shutil.rmtree(os.path.join(CACHE, name), ignore_errors=True)
    return path
