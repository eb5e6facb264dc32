# SPDX-License-Identifier: Apache-2.0
"""The device itself: usable, for an ordinary user too, and not absurdly slow."""
import os
import subprocess
import sys

import pytest

import kvm

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kvm.py")


def test_a_guest_of_a_few_bytes_runs(capsys):
    exits, each = kvm.count_exits(5000)
    assert exits == 5000
    with capsys.disabled():
        print("%.1f us per exit " % (each * 1e6), end="")


@pytest.mark.skipif(os.getuid() != 0, reason="runs as an ordinary user anyway")
def test_an_ordinary_user_may_use_it():
    argv = [sys.executable, SCRIPT, "100"]
    nobody = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] + argv,
                            capture_output=True, text=True)
    if not os.stat("/dev/kvm").st_mode & 0o006:  # some systems open it to all
        assert nobody.returncode != 0 and "Permission denied" in nobody.stderr
    group = str(os.stat("/dev/kvm").st_gid)
    member = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", group]
                            + argv, capture_output=True, text=True)
    assert member.returncode == 0, member.stderr
    assert member.stdout.startswith("100 exits")
