# SPDX-License-Identifier: Apache-2.0
"""Two virtual machine monitors on the same kernel, initramfs and disks, without hutch around them:
`hutch-vmm --kvm` with the descriptor table that hutch-box would lay out, and QEMU's microvm."""
import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import time

import common

# Every kernel parameter of the kvm engine (src/box/engine_kvm.c), for both.
CMDLINE = ("console=ttyS0 quiet loglevel=3 panic=-1 reboot=t audit=0 no_timer_check "
           "tsc=reliable nowatchdog swiotlb=noforce cryptomgr.notests 8250.nr_uarts=1 "
           "rcupdate.rcu_expedited=1 psi=1 "
           "initcall_blacklist=init_kprobe_trace,crypto_kdf108_init,load_system_certificate_list")
MEMORY_MIB = 512
LINK_EXPORT = struct.pack("=HHIIII", 1, 0, 0, 0, 0, 1)  # src/wire/link.h
LINK_SEAL = struct.pack("=HHIIII", 3, 0, 0, 0, 0, 0)


def cpio(name, mode, data=b""):
    """One file of an initramfs."""
    head = "070701" + "".join("%08X" % v for v in (
        1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0))
    out = head.encode() + name.encode() + b"\0"
    out += b"\0" * (-len(out) % 4) + data
    return out + b"\0" * (-len(out) % 4)


KERNELS = os.path.join(common.DATA, "hutch", "kernels")


def packs():
    """The default kernel pack, the small one where it was made, and the one that is named."""
    names = ("default", "small", os.environ.get("HUTCH_KERNEL", "none"))
    return [p for p in (os.path.realpath(os.path.join(KERNELS, n)) for n in names) if os.path.isdir(p)]


class Pack:
    """A kernel pack (usually the default one), and initramfs made from it, in directory @base."""

    def __init__(self, base, path=None):
        self.base = base
        self.dir = path or packs()[0]
        self.kernel = os.path.join(base, "kernel")  # where both can map it: 9p shares cannot be
        subprocess.run(["cp", "--sparse=always", os.path.join(self.dir, "kernel"), self.kernel],
                       check=True)

    def read(self, *parts):
        with open(os.path.join(self.dir, *parts), "rb") as f:
            return f.read()

    def initrd(self, program, extra=b""):
        path = os.path.join(self.base, program + ".cpio")
        with open(os.path.join(common.BUILD, "bench", program), "rb") as f:
            init = f.read()
        with open(path, "wb") as f:
            f.write(extra + cpio("init", 0o100755, init) + cpio("TRAILER!!!", 0))
        return path

    def first_line(self):
        """The pack's own initramfs with another /init, as bench/boot has it."""
        where = os.path.join(os.path.dirname(self.dir), "initrd")
        name = max((n for n in os.listdir(where) if n.endswith(".cpio")),
                   key=lambda n: os.stat(os.path.join(where, n)).st_mtime)
        with open(os.path.join(where, name), "rb") as f:
            return self.initrd("first_line", f.read())

    def disk_init(self):
        return self.with_modules("disk_init")

    def with_modules(self, program):
        """@program as init, which loads the pack's modules itself."""
        files = [cpio("modules", 0o40755), cpio("modules.list", 0o100644, self.read("modules.list"))]
        files += [cpio("modules/" + n, 0o100644, self.read("modules", n))
                  for n in sorted(os.listdir(os.path.join(self.dir, "modules")))]
        return self.initrd(program, b"".join(files))


def bare_argv(home, name):
    """The running sandbox's QEMU command without the devices that hutch-vmm serves; its init is
    first_line.c."""
    pid = next(p for n, p in home.processes(name).items() if n.startswith("qemu"))
    argv = open("/proc/%d/cmdline" % pid).read().rstrip("\0").split("\0")
    links = {os.readlink("/proc/%d/fd/%s" % (pid, n)) for n in os.listdir("/proc/%d/fd" % pid)}
    disk = next(l for l in links if l.endswith("/disk.img"))
    root = next(l for l in links if l.endswith(".img") and l != disk)
    out, i = [argv[0]], 1
    while i < len(argv):
        flag, value = argv[i], argv[i + 1] if i + 1 < len(argv) else ""
        if flag in ("-chardev", "-netdev", "-add-fd") or "vhost-user" in value or \
                value.startswith("virtio-net"):
            i += 2
            continue
        if "/dev/fdset/" in flag:
            flag = flag.split("/dev/fdset/")[0] + (root if "id=root" in flag else disk)
        out.append(flag)
        i += 1
    initrd = out[out.index("-initrd") + 1]
    init = os.path.join(common.BUILD, "bench", "first_line")
    mixed = os.path.join(home.base, "initrd")
    with open(mixed, "wb") as f:
        f.write(open(initrd, "rb").read())
        f.write(cpio("init", 0o100755, open(init, "rb").read()) + cpio("TRAILER!!!", 0))
    out[out.index("-initrd") + 1] = mixed
    return out


class Guest:
    """One run. It is read until the console has said what is waited for; then it ends by itself."""

    def __init__(self, argv, table):
        """@table: descriptors by number in the new process; ours are closed here."""
        console, theirs = os.pipe()
        log, errout = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)
        table = {0: null, 2: errout, **{n: theirs if fd is None else fd for n, fd in table.items()}}
        # Out of the way of the numbers that they get there.
        moves = [(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64), n) for n, fd in table.items()]
        for fd in set(table.values()):
            os.close(fd)
        self.sources = {console: "console", log: "log"}
        self.text = {"console": b"", "log": b""}
        self.begin = time.monotonic()
        self.pid = os.posix_spawnp(argv[0], argv, os.environ,
                                   file_actions=[(os.POSIX_SPAWN_DUP2, *m) for m in moves])
        for fd, _ in moves:
            os.close(fd)

    def read(self, timeout):
        """One turn; False when nothing more can come."""
        for fd in select.select(list(self.sources), [], [], timeout)[0]:
            data = os.read(fd, 65536)
            self.text[self.sources[fd]] += data
            if not data:
                del self.sources[fd]
                os.close(fd)
        return bool(self.sources)

    def until(self, text, source="console", timeout=120):
        """Seconds from the start of the process until its output has @text."""
        end = self.begin + timeout
        while text not in self.text[source]:
            if not self.read(max(end - time.monotonic(), 0)) or time.monotonic() > end:
                raise RuntimeError("no %r: %s" % (text, self.all_text()))
        return time.monotonic() - self.begin

    def all_text(self):
        return "\n".join(t.decode(errors="replace")[-3000:] for t in self.text.values())

    def finish(self, timeout=120):
        """Wait for the end. Processor seconds of the whole process."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.read(max(end - time.monotonic(), 0)):
            pass
        _, status, usage = os.wait4(self.pid, 0)
        self.pid = None
        if status:
            raise RuntimeError("status %d: %s" % (status, self.all_text()))
        return usage.ru_utime + usage.ru_stime

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        for fd in self.sources:
            os.close(fd)


def tsc_khz():
    """Under emulation the guest's kernel should not measure its clock (ARCHITECTURE.md)."""
    with open("/proc/cpuinfo") as f:
        return int(float(next(line for line in f if line.startswith("cpu MHz")).split(":")[1]) * 1000)


def qemu_argv(pack, initrd, accel, args, more):
    """QEMU's microvm with memory that a device process can map; @accel: kvm or qemu (emulation)."""
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-serial", "stdio", "-monitor", "none", "-global", "virtio-mmio.force-legacy=false",
            "-M", "microvm,pcie=off,pic=off,memory-backend=ram", "-m", "%dM" % MEMORY_MIB, "-object",
            "memory-backend-memfd,id=ram,size=%dM,share=on" % MEMORY_MIB,
            "-kernel", pack.kernel, "-initrd", initrd, "-append"]
    if accel == "kvm":
        argv += [CMDLINE + " pci=off " + args, "-accel", "kvm", "-cpu", "host"]
    else:
        argv += ["%s pci=off tsc=reliable tsc_early_khz=%d norandmaps swiotlb=noforce %s" % (
            CMDLINE, tsc_khz(), args), "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]
    return argv + more


class Devices:
    """`hutch-vmm --serve`, of which QEMU asks for one device, with the descriptor table that hutch-box
    would lay out. @link: the end of hutch-vmm's to the gate. @export: a directory, the guest's "0"."""

    TABLE = {"fs": 5, "net": 6, "vsock": 7}
    QEMU_FD = 10

    def __init__(self, base, device, link=None, export=None):
        box, self.box = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if not link:
            link, self.gate = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pairs = {name: socket.socketpair() for name in self.TABLE}
        self.qemu = {name: pair[1] for name, pair in pairs.items()}
        self.device, self.path = device, os.path.join(base, device)
        table = {3: box.detach(), 4: link.detach(),
                 **{fd: pairs[name][0].detach() for name, fd in self.TABLE.items()}}
        where = "fd=%d" % self.QEMU_FD
        if device == "net":  # which QEMU opens itself
            os.close(table[self.TABLE["net"]])
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.path)
            listener.listen(1)
            table[self.TABLE["net"]] = listener.detach()
            where = "path=" + self.path
        self.chardev = ["-chardev", "socket,id=%s,%s" % (device, where)]
        if export:
            fd = os.open(export, os.O_PATH | os.O_DIRECTORY)
            socket.send_fds(self.box, [LINK_EXPORT + b"0"], [fd])
            os.close(fd)
        self.box.send(LINK_SEAL)
        self.process = Guest([os.path.join(common.BUILD, "hutch-vmm"), "--serve", "bench"], table)

    def table(self):
        """QEMU's descriptors."""
        return {1: None, self.QEMU_FD: self.qemu[self.device].detach()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.__exit__()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class Hutch:
    """Eight devices: two disks, files, network, vsock, entropy, console, balloon."""
    name = "hutch-vmm --kvm"

    def __init__(self, build=None, pci=True):
        self.program = os.path.join(build or common.BUILD, "hutch-vmm")
        self.pci = pci

    def start(self, kernel, initrd, root, disk, args="", cpus=1):
        box, self.box = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gate, self.gate = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.box.send(LINK_SEAL)
        cmdline = "%s %s%s" % (CMDLINE, "" if self.pci else "pci=off ", args)
        table = {3: box.detach(), 4: gate.detach()}
        for n, (path, mode) in enumerate(((kernel, os.O_RDONLY), (initrd, os.O_RDONLY),
                                          (root, os.O_RDONLY), (disk, os.O_RDWR)), 5):
            table[n] = os.open(path, mode)
        table[9] = None  # the console
        return Guest([self.program, "--kvm", "bench", str(cpus), str(MEMORY_MIB << 20), cmdline], table)


class Qemu:
    """Five devices: two disks, entropy, console, balloon. The file system, network and vsock would need
    further processes or rights. Without its clock (rtc=off, the default) the guest would poll for that with
    40000 exits; the peer is the faster one."""
    name = "qemu -M microvm"

    def start(self, kernel, initrd, root, disk, args="", cpus=1):
        argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-accel", "kvm", "-cpu", "host", "-M", "microvm,pcie=off,pic=off,pit=off,rtc=on",
                "-m", "%dM" % MEMORY_MIB, "-smp", str(cpus), "-serial", "stdio", "-monitor", "none",
                "-global", "virtio-mmio.force-legacy=false", "-kernel", kernel, "-initrd", initrd,
                "-append", CMDLINE + " pci=off " + args]
        for name, path, access in (("root", root, "on"), ("disk", disk, "off")):
            argv += ["-drive", "id=%s,if=none,format=raw,file=%s,readonly=%s,cache=writeback,"
                     "aio=threads,file.locking=off" % (name, path, access),
                     "-device", "virtio-blk-device,drive=" + name]
        argv += ["-object", "rng-random,id=rng,filename=/dev/urandom",
                 "-device", "virtio-rng-device,rng=rng", "-device", "virtio-serial-device",
                 "-device", "virtio-balloon-device"]
        return Guest(argv, {1: None})
