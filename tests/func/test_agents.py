# SPDX-License-Identifier: Apache-2.0
"""Claude Code and Codex, installed from npm by the kits that come with Hutch, each at work for one
turn against a server of ours: the key is added outside, the file that the model asks for is written,
and the key is nowhere in the sandbox.

The versions are old ones whose packages are small. The disk with the agent installed stays in the
install cache below HUTCH_TEST_DATA, so only the first run installs."""
import os
import re

import pytest

from agent_apis import Messages, Responses
from conftest import CACHE, Home, memory_has, wait_for
from servers import Authority
from test_network import contains

# What npm says when a package cannot be fetched from here, as opposed to not being installed.
NO_PACKAGE = re.compile(r"npm (?:ERR!|error) code (E404|ETARGET|ENOTFOUND|EAI_AGAIN|ECONN\w+|ETIMEDOUT|"
                        r"E403|E5\d\d|ERR_SOCKET_TIMEOUT|UNABLE_TO_\w+|SELF_SIGNED\w+)")


@pytest.fixture(scope="module")
def world(tmp_path_factory, images):
    tmp = tmp_path_factory.mktemp("agents")
    home = Home(str(tmp / "home"))
    home.authority = Authority(tmp / "ca")
    home.env["SSL_CERT_FILE"] = home.authority.bundle()
    kept = os.path.join(CACHE, "hutch", "cache")
    os.makedirs(kept, exist_ok=True)
    os.symlink(kept, home.path("data", "hutch", "cache"))
    yield home
    home.close()


def install(home, kit, version, host, api, key):
    """A sandbox with the agent in it; its workspace."""
    work = home.path("work-" + kit)
    os.makedirs(work)
    home.ok("secret", "set", "--no-keyring", {"claude": "anthropic", "codex": "openai"}[kit],
            input=key)
    # memory_has() looks at mappings of up to 1 GiB
    r = home.run("create", "--name", kit, "--memory", "1g", "--kit-arg", "%s.version=%s" % (kit, version),
                 "--resolve", "%s=%s:%d" % (host, *api.server_address), kit, work, timeout=1500)
    lacking = NO_PACKAGE.search(r.stderr)
    if r.returncode and lacking:
        pytest.skip("no package of %s %s from npm here: %s" % (kit, version, lacking.group(0)))
    assert r.returncode == 0, r.stderr
    return work


def places(home, name, needle):
    """The files of a sandbox that hold @needle, by name."""
    files = [os.path.join(top, n) for top, _, names in os.walk(home.box(name)) for n in names]
    return {os.path.basename(f) for f in files if contains(f, needle.encode())}


def check_absent(home, name, key):
    """The key is neither on the sandbox's disk, in its memory nor in the logs. A mark shows that the
    search finds what is there."""
    mark = "mark-of-%s-%d" % (name, os.getpid())
    home.ok("exec", name, "--", "sh", "-c",
            "echo {0} >~/mark; sync; MARK={0} sleep 600 >/dev/null 2>&1 &".format(mark))
    assert key not in home.ok("exec", name, "--", "env")
    wait_for(lambda: places(home, name, mark) == {"disk.img"}, 30, "the mark on the disk")
    assert places(home, name, key) == set()
    workers = home.workers(name)
    machine = workers.get("qemu", workers["hutch-vmm"])
    assert memory_has(machine, mark.encode()) and not memory_has(machine, key.encode())


def test_claude(world):
    key = "sk-ant-test-5f0c1d7e9a-do-not-leak"
    api = Messages(world.authority, "api.anthropic.com", ("127.0.83.1", 8443))
    api.key_header, api.key = "x-api-key", key
    work = install(world, "claude", "2.1.100", "api.anthropic.com", api, key)
    api.tool = ("Write", {"file_path": work + "/hello.txt", "content": "written by claude\n"})
    r = world.run("run", "--name", "claude", "claude", work, "--", "-p", "Write hello.txt",
                  timeout=600)
    assert r.returncode == 0 and "All done." in r.stdout, (r.stdout, r.stderr, api.requests)
    with open(os.path.join(work, "hello.txt")) as f:
        assert f.read() == "written by claude\n"
    assert api.refused == []
    assert any(p.startswith("/v1/messages") for _, p, _ in api.requests)
    done = [e for e in world.audit("claude") if e.get("credential") == "anthropic"]
    assert done and all(e["name"] == "api.anthropic.com" for e in done)
    assert world.ok("exec", "claude", "--", "printenv", "ANTHROPIC_API_KEY") == "proxy-managed\n"
    check_absent(world, "claude", key)
    world.ok("rm", "-f", "claude")


def test_codex(world):
    key = "sk-test-0b9e4a77c2-do-not-leak"
    api = Responses(world.authority, "api.openai.com", ("127.0.83.2", 8443))
    api.key_header, api.key = "Authorization", "Bearer " + key
    work = install(world, "codex", "0.99.0", "api.openai.com", api, key)
    api.command = "echo written by codex >%s/hello.txt" % work
    r = world.run("run", "--name", "codex", "codex", work, "--", "exec", "--skip-git-repo-check",
                  "Write hello.txt", timeout=600)
    assert r.returncode == 0 and "All done." in r.stdout, (r.stdout, r.stderr, api.requests)
    with open(os.path.join(work, "hello.txt")) as f:
        assert f.read() == "written by codex\n"
    assert api.refused == []
    done = [e for e in world.audit("codex") if e.get("credential") == "openai"]
    assert done and all(e["name"] == "api.openai.com" for e in done)
    assert world.ok("exec", "codex", "--", "printenv", "OPENAI_API_KEY") == "proxy-managed\n"
    check_absent(world, "codex", key)
    world.ok("rm", "-f", "codex")
