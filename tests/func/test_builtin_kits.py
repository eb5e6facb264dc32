# SPDX-License-Identifier: Apache-2.0
"""The kits that come with Hutch, installed, each against its own testdata. HUTCH_TEST_KITS names those to
try ("all", which tools/test kits sets); without it, one that needs nothing installed and one that does.

What is fetched comes from Debian's and npm's package hosts only; a kit that needs others cannot be tried
where there is no internet, and is left out of "all" below with the reason."""
import os

import pytest

from conftest import CACHE, Home

# Small old versions of what is large today.
ARGS = {"claude": ["--kit-arg", "version=2.1.100"], "codex": ["--kit-arg", "version=0.99.0"]}
ALL = ["shell", "claude", "codex", "gemini", "opencode", "copilot", "github", "python", "node", "go",
       "rust", "docker"]
# playwright: its browsers come from a host of their own
WANTED = os.environ.get("HUTCH_TEST_KITS", "shell node")


@pytest.fixture(scope="module")
def home(tmp_path_factory, images):
    h = Home(str(tmp_path_factory.mktemp("home") / "h"))
    kept = os.path.join(CACHE, "hutch", "cache")
    os.makedirs(kept, exist_ok=True)
    os.symlink(kept, h.path("data", "hutch", "cache"))
    yield h
    h.close()


@pytest.mark.parametrize("kit", ALL if WANTED == "all" else WANTED.split())
def test_kit(home, kit):
    r = home.run("kit", "test", kit, *ARGS.get(kit, []), timeout=1500)
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.endswith(" passed, 0 failed\n")
