# SPDX-License-Identifier: Apache-2.0
"""The kits that come with Hutch, installed, each against its own testdata. HUTCH_TEST_KITS names those to
try ("all", which tools/test kits sets); without it, one that needs nothing installed and one that does.

What is fetched comes from Debian's and npm's package hosts only."""
import json
import os
import time

import pytest

from conftest import CACHE, Home

# Small old versions of what is large today.
ARGS = {"claude": ["--kit-arg", "version=2.1.100"], "codex": ["--kit-arg", "version=0.99.0"],
        # Its own comes from a host of its own.
        "playwright": ["--kit-arg", "chromium=debian"]}
ALL = ["shell", "claude", "codex", "gemini", "opencode", "copilot", "github", "python", "node", "go",
       "rust", "docker", "playwright"]
WANTED = os.environ.get("HUTCH_TEST_KITS", "shell node")


@pytest.fixture(scope="module")
def home(tmp_path_factory, images):
    h = Home(str(tmp_path_factory.mktemp("home") / "h"))
    kept = os.path.join(CACHE, "hutch", "cache")
    os.makedirs(kept, exist_ok=True)
    os.symlink(kept, h.path("data", "hutch", "cache"))
    yield h
    h.close()


def kept(home, kit):
    """Disks after the installation of a kit: when used, how large in MB."""
    return {e["key"]: (e["used"], e["bytes"] >> 20)
            for e in json.loads(home.ok("kit", "cache", "ls", "--json"))
            if e["info"]["kits"].split(", ")[-1] == kit}


@pytest.mark.parametrize("kit", ALL if WANTED == "all" else WANTED.split())
def test_kit(home, kit, record_property):
    before = kept(home, kit)
    start = time.monotonic()
    r = home.run("kit", "test", kit, *ARGS.get(kit, []), timeout=1500)
    took = time.monotonic() - start
    disks = kept(home, kit)
    how = "from the cache" if set(disks) == set(before) else "installed"
    size = "disk %d MB" % max(disks.values())[1] if disks else "nothing to install"
    end = r.stdout.strip().rpartition("\n")[2] or "not started"
    record_property("row", "%-12s %-20s %5.0f s  %-15s %s" % (kit, end, took, how, size))
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.endswith(" passed, 0 failed\n")
