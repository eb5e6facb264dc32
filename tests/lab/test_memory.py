# SPDX-License-Identifier: Apache-2.0
"""Memory that a guest frees goes back to the host (free page reporting)."""
import pytest

from conftest import wait_for

MIB = 1 << 20


def resident(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[1]) * 4096


def test_guest_gives_memory_back(home, work, engine):
    if engine != "kvm":
        pytest.skip("guest memory belongs to qemu")
    home.ok("create", "--name", "box", "--cpus", "1", "--memory", "768m", "shell", work, timeout=600)
    vmm = home.workers("box")["hutch-vmm"]
    before = resident(vmm)
    hold = "b = bytearray(300 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('held', flush=True)"
    p = home.popen("exec", "box", "--", "python3", "-c", hold + "\nimport sys; sys.stdin.read()",
                   stdin=-1, stdout=-1)
    assert p.stdout.readline() == b"held\n"
    peak = resident(vmm)
    p.stdin.close()
    assert p.wait(600) == 0
    assert peak > before + 200 * MIB
    wait_for(lambda: resident(vmm) < peak - 200 * MIB, what="the guest's memory to come back")
    print("MiB: before %d, in use %d, after %d" % (before / MIB, peak / MIB, resident(vmm) / MIB))
