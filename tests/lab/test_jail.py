# SPDX-License-Identifier: Apache-2.0
"""What the threads that only the kvm engine has could still do, were they taken over. Before the first
guest instruction each tries it (a hook of builds with -Dtests=true), and is ended by its filter."""
import os
import subprocess

import pytest

from conftest import BUILD

ATTEMPTS = ["open", "socket", "exec", "ptrace", "mount", "kill"]


def has_hooks():
    with open(os.path.join(BUILD, "hutch-vmm"), "rb") as f:
        return b"HUTCH_TEST_PROBE" in f.read()


pytestmark = pytest.mark.skipif(not has_hooks(), reason="this build has no test hooks (-Dtests=true)")


@pytest.fixture
def victim():
    p = subprocess.Popen(["sleep", "3600"])
    yield p
    assert p.poll() is None
    p.kill()
    p.wait()


@pytest.mark.parametrize("who", ["vmm-vcpu", "vmm-disk"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_thread_cannot(home, work, engine, victim, who, attempt):
    if engine != "kvm":
        pytest.skip("threads of the kvm engine")
    secret = home.path("secret")
    with open(secret, "w") as f:
        f.write("of the user")
    r = home.run("create", "--name", "box", "--memory", "512m", "shell", work, timeout=300,
                 env={"HUTCH_TEST_PROBE": "%s:%s" % (who, attempt),
                      "HUTCH_TEST_VICTIM": str(victim.pid), "HUTCH_TEST_FILE": secret})
    if r.returncode == 0:  # sanitizer builds refuse what their runtime may try, others kill
        with open(home.box("box", "box.log")) as f:
            log = f.read()
        assert "probe %s %s errno=" % (who, attempt) in log and "errno=0" not in log, log
        return
    assert r.returncode == 125
    assert "signal 31" in r.stderr and "errno=0" not in r.stderr, r.stderr
    assert home.workers("box") == {}
