# SPDX-License-Identifier: Apache-2.0
"""Agents, installed from npm by the kits that come with Hutch, each at work for one turn against servers
of ours: the key is added outside, the file that the model asks for is written, and the key is nowhere in
the sandbox.

The disk with the agent installed stays in the install cache below HUTCH_TEST_DATA, so only the first run
installs."""
import os
import re

import pytest

from agent_apis import Chat, Gemini, GitHub, Messages, Responses
from conftest import CACHE, Home, memory_has, wait_for
from servers import Authority
from test_network import contains

# Of Claude Code and Codex old versions, whose packages are small: "claude=2.1.332 codex=latest" in
# HUTCH_TEST_AGENTS says otherwise.
VERSIONS = {"claude": "2.1.100", "codex": "0.99.0", "gemini": "0.61.0", "opencode": "1.18.33",
            "copilot": "1.0.102"}
VERSIONS.update(pair.split("=") for pair in os.environ.get("HUTCH_TEST_AGENTS", "").split())

WANTED = os.environ.get("HUTCH_TEST_KITS", "claude codex").split()


def wanted(kit):
    """Under emulation these take up to ten minutes each."""
    return pytest.mark.skipif("all" not in WANTED and kit not in WANTED,
                              reason="takes minutes: tools/test kits, or HUTCH_TEST_KITS=" + kit)


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


def install(home, kit, service, key, apis):
    """A sandbox with the agent in it; its workspace."""
    work = home.path("work-" + kit)
    os.makedirs(work)
    home.ok("secret", "set", "--no-keyring", service, input=key)
    names = [word for host, api in apis.items()
             for word in ("--resolve", "%s=%s:%d" % (host, *api.server_address))]
    # memory_has() looks at mappings of up to 1 GiB
    r = home.run("create", "--name", kit, "--memory", "1g", "--kit-arg",
                 "%s.version=%s" % (kit, VERSIONS[kit]), *names, kit, work, timeout=1500)
    lacking = NO_PACKAGE.search(r.stderr)
    if r.returncode and lacking:
        pytest.skip("no package of %s %s from npm here: %s" % (kit, VERSIONS[kit], lacking.group(0)))
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
    wait_for(lambda: places(home, name, mark) == {"disk.img"}, what="the mark on the disk")
    assert places(home, name, key) == set()
    workers = home.workers(name)
    machine = workers.get("qemu", workers["hutch-vmm"])
    assert memory_has(machine, mark.encode()) and not memory_has(machine, key.encode())


def check_turn(home, kit, service, key, apis, variable, placeholder, args):
    """One turn: it writes the file, and says what the model said; each request carried the key."""
    work = home.path("work-" + kit)
    # opencode takes minutes to start on an emulated CPU
    r = home.run("run", "--name", kit, kit, work, "--", *args, timeout=1200)
    requests = [q for api in apis.values() for q in api.requests]
    assert r.returncode == 0 and "All done." in r.stdout, (r.stdout, r.stderr, requests)
    with open(os.path.join(work, "hello.txt")) as f:
        assert f.read() == "written by %s\n" % kit
    assert [api.refused for api in apis.values()] == [[]] * len(apis)
    used = {e["name"] for e in home.audit(kit) if e.get("credential") == service}
    assert used == set(apis)
    assert home.ok("exec", kit, "--", "printenv", variable) == placeholder + "\n"
    check_absent(home, kit, key)
    home.ok("rm", "-f", kit)


def test_claude(world):
    key, host = "sk-ant-test-5f0c1d7e9a-do-not-leak", "api.anthropic.com"
    api = Messages(world.authority, host, ("127.0.83.1", 8443))
    api.key_header, api.keys = "x-api-key", [key]
    work = install(world, "claude", "anthropic", key, {host: api})
    api.tool = ("Write", {"file_path": work + "/hello.txt", "content": "written by claude\n"})
    check_turn(world, "claude", "anthropic", key, {host: api}, "ANTHROPIC_API_KEY", "proxy-managed",
               ["-p", "Write hello.txt"])
    assert any(p.startswith("/v1/messages") for _, p, _ in api.requests)


def test_codex(world):
    key, host = "sk-test-0b9e4a77c2-do-not-leak", "api.openai.com"
    api = Responses(world.authority, host, ("127.0.83.2", 8443))
    api.key_header, api.keys = "Authorization", ["Bearer " + key]
    work = install(world, "codex", "openai", key, {host: api})
    api.command = "echo written by codex >%s/hello.txt" % work
    check_turn(world, "codex", "openai", key, {host: api}, "OPENAI_API_KEY", "proxy-managed",
               ["exec", "--skip-git-repo-check", "Write hello.txt"])


@wanted("gemini")
def test_gemini(world):
    key, host = "AIza-test-6d1f08c3b5-do-not-leak", "generativelanguage.googleapis.com"
    api = Gemini(world.authority, host, ("127.0.83.3", 8443))
    api.key_header, api.keys = "x-goog-api-key", [key]
    work = install(world, "gemini", "gemini", key, {host: api})
    api.tool = ("write_file", {"file_path": work + "/hello.txt", "content": "written by gemini\n"})
    check_turn(world, "gemini", "gemini", key, {host: api}, "GEMINI_API_KEY", "proxy-managed",
               ["-p", "Write hello.txt"])


@wanted("opencode")
def test_opencode(world):
    key, host = "sk-ant-test-e40b92a1d7-do-not-leak", "api.anthropic.com"
    api = Messages(world.authority, host, ("127.0.83.4", 8443))
    api.key_header, api.keys = "x-api-key", [key]
    work = install(world, "opencode", "anthropic", key, {host: api})
    api.tool = ("write", {"filePath": work + "/hello.txt", "content": "written by opencode\n"})
    check_turn(world, "opencode", "anthropic", key, {host: api}, "ANTHROPIC_API_KEY",
               "proxy-managed", ["run", "-m", "anthropic/claude-sonnet-4-5", "Write hello.txt"])


@wanted("copilot")
def test_copilot(world):
    key, apis = "github_pat_test_91c7be02_do_not_leak", {}
    for host, kind, address in (("api.github.com", GitHub, "127.0.83.5"),
                                ("api.githubcopilot.com", Chat, "127.0.83.6")):
        apis[host] = kind(world.authority, host, (address, 8443))
        apis[host].key_header = "Authorization"
        apis[host].keys = [scheme + key for scheme in ("Bearer ", "bearer ", "token ")]
    work = install(world, "copilot", "copilot", key, apis)
    apis["api.githubcopilot.com"].tool = ("bash", {
        "command": "echo written by copilot >%s/hello.txt" % work, "description": "Write it"})
    check_turn(world, "copilot", "copilot", key, apis, "COPILOT_GITHUB_TOKEN",
               "github_pat_proxy_managed", ["--model", Chat.MODEL, "-p", "Write hello.txt"])
