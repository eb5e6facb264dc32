# SPDX-License-Identifier: Apache-2.0
"""Sandboxes on the kvm engine: boot, commands, and every way in which one can end."""
import glob
import json
import os
import signal
import subprocess
import time

import pytest

from conftest import BUILD, REPO, alive, func, wait_for


@pytest.fixture
def box(home, work):
    home.ok("create", "--name", "box", "--memory", "512m", "shell", work, timeout=600)
    return home, work


def sh(home, text, **kw):
    return home.run("exec", "-u", "root", "box", "--", "sh", "-c", text, **kw)


def rows(home):
    return json.loads(home.ok("ls", "--json"))


def boots(home, work, engine, cpus):
    home.ok("create", "--name", "box", "--cpus", str(cpus), "--memory", "512m", "shell", work,
            timeout=600)
    assert rows(home)[0]["engine"].startswith(engine)
    kernel, processors, pages = sh(
        home, "uname -r; nproc; awk '/MemTotal/ {print $2}' /proc/meminfo").stdout.split()
    assert kernel != os.uname().release
    assert int(processors) == cpus
    assert 380 << 10 < int(pages) <= 512 << 10


def test_boot(home, work, engine):
    boots(home, work, engine, 1)


@pytest.mark.skipif(os.cpu_count() < 2, reason="this machine has one processor")
def test_several_processors(home, work, engine):
    """All that the machine has: two, or what --cpus has given it."""
    boots(home, work, engine, min(os.cpu_count(), 32))


@pytest.mark.parametrize("args, interrupts", [("", "PCI-MSI"), ("pci=off", "IO-APIC")])
def test_transports(home, work, engine, args, interrupts):
    """Every device is there, by PCI or, for a kernel that is told not to use it, by MMIO."""
    if engine != "kvm":
        pytest.skip("transports of the kvm engine")
    home.ok("create", "--name", "box", "--cpus", "1", "--memory", "512m", "shell", work, timeout=600,
            env={"HUTCH_KERNEL_ARGS": args})
    seen = sh(home, "grep -h virtio /proc/interrupts; cat /sys/bus/virtio/devices/*/device").stdout
    lines = [l for l in seen.splitlines() if "virtio" in l]
    assert lines and all(interrupts in l for l in lines), seen
    # net, blk, console, rng, balloon, vsock, fs (virtio 1.2, 5)
    assert sorted(int(l, 16) for l in seen.splitlines() if l.startswith("0x")) == [
        1, 2, 2, 3, 4, 5, 19, 26]


def test_small_kernel(home, work, engine):
    """tools/build-kernel's: no modules, and every device works all the same."""
    made = [os.path.dirname(r) for r in
            glob.glob(os.path.join(func.CACHE, "hutch", "kernels", "*", "recipe"))]
    if not made:
        pytest.skip("no small kernel here (tools/test kernel)")
    home.ok("create", "--name", "box", "--memory", "512m", "shell", work, timeout=600,
            env={"HUTCH_KERNEL": max(made, key=os.path.getmtime)})
    said = sh(home, "uname -r; ls /sys/bus/virtio/drivers /proc/modules").stdout.split()
    assert "hutch" in said[0] and "/proc/modules" not in said
    drivers = {"virtio_blk", "virtio_net", "virtiofs"}
    if engine == "kvm":
        drivers |= {"virtio_rng", "virtio_console", "virtio_balloon"}
    assert drivers <= set(said), said
    assert sh(home, "echo hello > %s/made && cat %s/made" % (work, work)).stdout == "hello\n"


def test_commands(box):
    home, work = box
    assert sh(home, "exit 7").returncode == 7
    r = sh(home, "echo out; echo err >&2")
    assert (r.stdout, r.stderr) == ("out\n", "err\n")
    data = os.urandom(1 << 20)
    assert home.run("exec", "-i", "box", "--", "cat", input=data).stdout == data
    assert sh(home, "echo hello > %s/made" % work).returncode == 0
    with open(os.path.join(work, "made")) as f:
        assert f.read() == "hello\n"
    assert os.stat(os.path.join(work, "made")).st_uid == os.getuid()


def test_disk_survives_a_stop(box):
    home, _ = box
    assert sh(home, "head -c 20M /dev/urandom > /var/data && sha256sum /var/data > /var/sum && "
                    "sync").returncode == 0
    home.ok("stop", "box")
    assert home.state("box") == "stopped"
    assert sh(home, "sha256sum -c /var/sum", timeout=600).returncode == 0


@pytest.mark.parametrize("victim", ["hutch-box", "hutch-vmm", "hutch-gate"])
def test_kill_9(box, programs, victim):
    home, _ = box
    workers = home.workers("box")
    assert set(workers) == programs
    os.kill(workers[victim], signal.SIGKILL)
    wait_for(lambda: not any(alive(p) for p in workers.values()), what="the others to end")
    assert home.state("box") == "stopped"
    home.ok("rm", "-f", "box")
    assert os.listdir(home.path("state", "hutch", "boxes")) == []
    assert os.listdir(os.path.join(home.runtime, "hutch")) == []


@pytest.mark.parametrize("hog", [
    ["tail", "/dev/zero"],  # creeps up to the limit
    ["python3", "-c", "b = []\nwhile True: b.append(b'x' * (32 << 20))"]], ids=["small", "large"])
def test_out_of_memory_in_the_guest(box, hog):
    """The guest's kernel kills the program; sandbox and host stay."""
    home, _ = box
    workers = home.workers("box")
    r = home.run("exec", "-u", "root", "box", "--", *hog, timeout=600)
    assert r.returncode == 128 + signal.SIGKILL, r.stderr
    assert sh(home, "echo still").stdout == "still\n"
    assert home.workers("box") == workers


@pytest.mark.parametrize("key, said", [("c", "panic"), ("b", None)])
def test_guest_panics_or_reboots(box, key, said):
    """The machine is over either way, is not started again by itself, and can be."""
    home, _ = box
    workers = home.workers("box")
    sh(home, "sync; echo 1 > /proc/sys/kernel/sysrq; echo %s > /proc/sysrq-trigger" % key)
    wait_for(lambda: home.state("box") == "stopped", what="the sandbox to stop")
    wait_for(lambda: not any(alive(p) for p in workers.values()), what="its processes to end")
    if said:
        with open(home.box("box", "console.log"), errors="replace") as f:
            assert said in f.read()
    assert sh(home, "echo again", timeout=600).stdout == "again\n"


def leftovers(home):
    """What a sandbox may leave behind: processes, sockets, directories, shared memory."""
    return (home.workers("box"), os.listdir(os.path.join(home.runtime, "hutch")),
            os.listdir(home.path("state", "hutch", "boxes")), os.listdir("/dev/shm"))


def test_20_in_a_row_leave_nothing(home, work):
    shm = os.listdir("/dev/shm")
    spent = []
    for i in range(20):
        begin = time.monotonic()
        out = home.ok("run", "--rm", "--name", "box", "--memory", "512m", "shell", work, "--", "-c",
                      "echo $((%d * 7))" % i, timeout=600)
        spent.append(time.monotonic() - begin)
        assert out == "%d\n" % (i * 7)
    print("seconds: " + " ".join("%.1f" % s for s in spent))
    wait_for(lambda: leftovers(home) == ({}, [], [], shm), what="everything to be gone")


def test_demo(home, engine):
    """The demonstration of the README. It installs a package, so it needs apt's servers."""
    r = subprocess.run([os.path.join(REPO, "tools", "demo")], env=dict(home.env, HUTCH_BUILD=BUILD),
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr
    for text in ("status 403", "proxy-managed", "received Bearer demo-", "Nothing of it is left"):
        assert text in r.stdout
    assert home.ok("ls") == "" and home.ok("secret", "ls") == ""
