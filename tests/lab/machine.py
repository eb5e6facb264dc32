# SPDX-License-Identifier: Apache-2.0
"""The lab machine: QEMU emulating an AMD processor with SVM, in which kvm_amd gives a real /dev/kvm.

The job goes in as a shell script in a directory that the machine mounts; its standard output and
error come back through two virtio ports, its exit status through a file in that directory. Other
directories of the host appear at their own paths, read-only or so that what is written stays in the
machine.
"""
import contextlib
import ctypes
import mmap
import os
import selectors
import shlex
import socket
import shutil
import subprocess
import sys
import tempfile
import time

import image

HERE = os.path.dirname(os.path.abspath(__file__))

# The processor. QEMU's "max" under TCG includes SVM with nested paging and virtual GIF. Of what makes
# trouble in nested machines, QEMU 7.2 offers no AVIC, virtual VMLOAD/VMSAVE, TSC scaling, PMU, x2APIC,
# XSAVES and TSC deadline timer, so nothing has to be switched off for those. It has no NRIPS either:
# kvm_amd decodes intercepted instructions, and an exit costs accordingly.
# la57 off: the lab's own kernel never uses it, because five-level paging is the decompressor's to switch
# on and QEMU enters the unpacked kernel; but KVM would pass it on, and a bzImage in there would use it.
CPU = "max,la57=off"

APPEND = ("console=ttyS0 quiet loglevel=4 panic=-1 reboot=t audit=0 pci=off tsc=reliable "
          "softlockup_panic=1 watchdog_thresh=30 "
          "no_timer_check norandmaps cryptomgr.notests 8250.nr_uarts=1 rcupdate.rcu_expedited=1 "
          "mitigations=off nokaslr lsm=landlock "
          "initcall_blacklist=init_kprobe_trace,crypto_kdf108_init,load_system_certificate_list")


def tsc_khz():
    """What the guest cannot measure well under emulation: the rate of rdtsc on this host."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3")  # rdtsc; shl 32,rdx; or rdx,rax; ret
    entry = ctypes.addressof(ctypes.c_char.from_buffer(code))
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(entry)
    raw = lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    t, n = rdtsc(), raw()
    time.sleep(0.02)
    return (rdtsc() - t) * 1000000 // (raw() - n)


def outermost(paths):
    """@paths without those that lie beneath another one."""
    real = sorted({os.path.realpath(p) for p in paths})
    return [p for p in real if not any(p.startswith(q.rstrip("/") + "/") for q in real)]


class Machine:
    """One boot of the lab, from job to status."""

    def __init__(self, image_dir, shares, scratch, cpus, memory):
        """@shares are read-only in the machine, @scratch are directories that it may change for itself."""
        self.image, self.cpus, self.memory = image_dir, cpus, memory
        self.scratch = outermost(scratch)
        self.shares = [p for p in outermost(shares) if p not in self.scratch] + self.scratch
        self.dir = tempfile.mkdtemp(prefix="hutch-lab-")
        self.console = os.path.join(self.dir, "console")
        self.initrd = os.path.join(self.dir, "initrd")
        image.write_initramfs(image_dir, self.initrd)
        self.process = None

    def path(self, name):
        return os.path.join(self.dir, "job", name)

    def argv(self, fds):
        # Killed together with us, should we not get round to it ourselves.
        out = ["setpriv", "--pdeathsig", "KILL",
               "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
               "-no-reboot", "-accel", "tcg,thread=multi", "-cpu", CPU,
               "-M", "microvm,pcie=off,pic=off,pit=off", "-global", "virtio-mmio.force-legacy=false",
               "-m", self.memory, "-smp", str(self.cpus),
               "-serial", "file:" + self.console,
               "-kernel", os.path.join(self.image, "vmlinux"),
               "-initrd", self.initrd,
               "-append", "%s tsc_early_khz=%d" % (APPEND, tsc_khz()),
               "-drive", "id=root,if=none,format=raw,readonly=on,file.locking=off,file.filename="
               + os.path.join(self.image, "root.img"),
               "-device", "virtio-blk-device,drive=root",
               "-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net",
               "-device", "virtio-serial-device"]
        for name, fd in fds.items():
            out += ["-chardev", "socket,id=%s,fd=%d" % (name, fd),
                    "-device", "virtserialport,chardev=%s,name=%s" % (name, name)]
        for tag, path, access in [("job", os.path.join(self.dir, "job"), "off")] + [
                ("s%d" % i, p, "on") for i, p in enumerate(self.shares)]:
            out += ["-fsdev", "local,id=%s,path=%s,security_model=none,multidevs=remap,readonly=%s"
                    % (tag, path.replace(",", ",,"), access),
                    "-device", "virtio-9p-device,fsdev=%s,mount_tag=%s" % (tag, tag)]
        return out

    def write_job(self, prologue, command, env, cwd, user):
        os.mkdir(os.path.join(self.dir, "job"))
        lines = ["export %s=%s" % (k, shlex.quote(v)) for k, v in env.items()]
        lines += [prologue, "cd %s" % shlex.quote(cwd)]
        if user:
            lines.append("export HOME=/home/%s USER=%s" % (user, user))
            command = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] + command
        lines.append("exec " + shlex.join(command))
        for name, text in (("job", "\n".join(lines)),
                           ("start", os.path.join(HERE, "start.sh")),
                           ("shares", "\n".join("s%d %s%s" % (i, p, " cow" * (p in self.scratch))
                                               for i, p in enumerate(self.shares)))):
            with open(self.path(name), "w") as f:
                f.write(text + "\n")

    def run(self, command, env, cwd, user, ceiling, prologue=""):
        """Run @command, passing its output on; its exit status, or None if the machine failed.
        @prologue is a shell command that root runs before."""
        self.write_job(prologue, command, env, cwd, user)
        ours, theirs = {}, {}
        for name in ("out", "err"):
            ours[name], theirs[name] = socket.socketpair()
        fds = {name: s.fileno() for name, s in theirs.items()}
        # Its own session: an interrupt from the terminal comes to us, and we end it.
        self.process = subprocess.Popen(self.argv(fds), stdin=subprocess.DEVNULL,
                                        pass_fds=tuple(fds.values()), start_new_session=True)
        for s in theirs.values():
            s.close()
        self.pump(ours, time.monotonic() + ceiling)
        with contextlib.suppress(OSError, ValueError), open(self.path("status")) as f:
            return int(f.read())
        return None

    def pump(self, ours, end):
        """Copy output until the machine has gone or the time is up."""
        sinks = {ours["out"]: sys.stdout.buffer, ours["err"]: sys.stderr.buffer}
        with selectors.DefaultSelector() as sel:
            for s in sinks:
                sel.register(s, selectors.EVENT_READ)
            while sel.get_map():
                left = end - time.monotonic()
                ready = sel.select(max(left, 0))
                if left <= 0:
                    print("lab: not finished within its time; ended", file=sys.stderr)
                    return
                for item, _ in ready:
                    data = b""
                    with contextlib.suppress(ConnectionError):
                        data = item.fileobj.recv(65536)
                    if not data:
                        sel.unregister(item.fileobj)
                        continue
                    sinks[item.fileobj].write(data)
                    sinks[item.fileobj].flush()
        self.process.wait()

    def up_seconds(self):
        """The machine's own clock when it was ready for the job."""
        with contextlib.suppress(OSError, ValueError), open(self.path("up")) as f:
            return float(f.read())
        return None

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
