# SPDX-License-Identifier: Apache-2.0
"""The demonstration of the README, as tools/quickstart runs it without a terminal."""
import os
import subprocess

from conftest import BUILD, REPO


def test_demo(home):
    r = subprocess.run([os.path.join(REPO, "tools", "demo")], env=dict(home.env, HUTCH_BUILD=BUILD),
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr
    for text in ("status 403", "proxy-managed", "received Bearer demo-", "Nothing of it is left"):
        assert text in r.stdout
    assert home.ok("ls") == "" and home.ok("secret", "ls") == ""
