# SPDX-License-Identifier: Apache-2.0
"""An ordinary user without any privilege. As root, the test becomes one; otherwise all tests are."""
import os
import shutil
import subprocess
import tempfile

import pytest

from conftest import BUILD, CACHE, REPO

UID = 54321


@pytest.fixture
def place():
    path = tempfile.mkdtemp(prefix="hutch-user-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.skipif(os.getuid() != 0, reason="already an ordinary user: every other test shows it")
def test_everything_works_without_privilege(place, images):
    """Programs, images and home belong to a user id that nobody has granted anything."""
    os.makedirs(os.path.join(place, "build"))
    for name in os.listdir(BUILD):
        path = os.path.join(BUILD, name)
        if name.startswith("hutch") and os.path.isfile(path):
            shutil.copy(path, os.path.join(place, "build", name))
    shutil.copytree(os.path.join(REPO, "kits"), os.path.join(place, "kits"))
    shutil.copytree(os.path.join(CACHE, "hutch"), os.path.join(place, "data", "hutch"),
                    symlinks=True, ignore=shutil.ignore_patterns("disk-*", "cache", "secrets", "tokens"))
    for name in ("work", "state", "rt"):
        os.makedirs(os.path.join(place, name), mode=0o700)
    for top, dirs, files in os.walk(place):
        for name in [".", *dirs, *files]:
            os.lchown(os.path.join(top, name), UID, UID)
    env = {
        "PATH": "/usr/bin:/bin", "HOME": place, "HUTCH_SHARE": place,
        "XDG_DATA_HOME": place + "/data", "XDG_STATE_HOME": place + "/state",
        "XDG_RUNTIME_DIR": place + "/rt",
        **{k: v for k, v in os.environ.items() if k.startswith(("ASAN", "UBSAN"))},
    }

    def hutch(*args):
        return subprocess.run(
            ["setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--clear-groups",
             "--bounding-set=-all", "--no-new-privs", place + "/build/hutch", *args],
            env=env, cwd=place + "/work", capture_output=True, text=True, timeout=240,
            stdin=subprocess.DEVNULL)

    r = hutch("run", "--name", "u", "shell", ".", "--", "-c",
              "id -un; touch a; sudo touch b; sudo chown root b; curl -s https://example.com/")
    assert r.returncode == 0, r.stderr
    assert r.stdout.startswith("agent\n") and "blocked by hutch" in r.stdout
    for name in ("a", "b"):
        st = os.stat(os.path.join(place, "work", name))
        assert (st.st_uid, st.st_gid) == (UID, UID)
    r = hutch("rm", "-f", "u")
    assert r.returncode == 0, r.stderr
    assert os.listdir(place + "/state/hutch/boxes") == []
