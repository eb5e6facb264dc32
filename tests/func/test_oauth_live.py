# SPDX-License-Identifier: Apache-2.0
"""OAuth in a real sandbox: it logs in, the tokens stay outside, and the next sandbox is logged in."""
import json
import os

import pytest

from conftest import Home, memory_has
from gate_driver import HttpServer, send_response
from servers import Authority

ACCESS, REFRESH = "real-access-c0ffee-%d" % os.getpid(), "real-refresh-c0ffee-%d" % os.getpid()

KIT = """\
schemaVersion: "2"
kind: mixin
name: agent
permissions:
  network:
    allow: [login.hello.test, api.hello.test]
credentials:
  - service: example
    required: true
    apiKey:
      name: EXAMPLE_KEY
      inject: [{domain: api.hello.test, header: x-api-key, format: "%s"}]
    oauth:
      tokenEndpoint: {host: login.hello.test, path: /oauth/token}
      sentinels: {accessToken: example-access-0000, refreshToken: example-refresh-0000}
      credentialFile:
        path: ~/.example/credentials.json
        structure: {access: "{{.AccessToken}}", refresh: "{{.RefreshToken}}"}
"""


def issue(request):
    body = {"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 3600}
    send_response(request, json.dumps(body).encode(), headers=["Content-Type: application/json"])


def file_has(path, needles):
    """Which of them is in a file, its holes left out."""
    found = set()
    with open(path, "rb") as f:
        at, end = 0, os.stat(path).st_size
        while at < end:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole
                break
            stop = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            while at < stop:
                data = os.pread(f.fileno(), min(stop - at, 1 << 24), at)
                found |= {n for n in needles if n.encode() in data}
                # the next piece begins a little earlier
                at += len(data) if at + len(data) == stop else len(data) - 256
    return found


def found_below(path, *needles):
    return {n for base, _, names in os.walk(path) for name in names
            if os.path.isfile(os.path.join(base, name))
            for n in file_has(os.path.join(base, name), needles)}


@pytest.fixture(scope="module")
def world(tmp_path_factory, images):
    tmp = tmp_path_factory.mktemp("oauth")
    ca = Authority(tmp / "ca")
    home = Home(str(tmp / "home"))
    home.env["SSL_CERT_FILE"] = ca.bundle()
    home.login = HttpServer(issue, tls=ca.context("login.hello.test"))
    home.api = HttpServer(lambda r: send_response(r, r.raw), tls=ca.context("api.hello.test"))
    os.makedirs(home.path("kit"))
    with open(home.path("kit", "spec.yaml"), "w") as f:
        f.write(KIT)
    os.makedirs(home.path("work"))
    home.create = lambda name: home.ok(
        "create", "--name", name, "--memory", "512m", "--kit", home.path("kit"), "--resolve",
        "login.hello.test=" + home.login.address, "--resolve",
        "api.hello.test=" + home.api.address, "shell", home.path("work"))
    home.sh = lambda name, text: home.run("exec", name, "--", "sh", "-c", text)
    yield home
    home.close()


def test_login_inside_and_tokens_outside(world):
    world.create("one")  # required, and the login is yet to come
    r = world.sh("one", "env; ls ~/.example; curl -sS -d grant_type=authorization_code -d code=1 "
                 "https://login.hello.test/oauth/token")
    assert "EXAMPLE_KEY" not in r.stdout and "credentials.json" not in r.stdout, r.stdout
    assert '"access_token":"example-access-0000"' in r.stdout, (r.stdout, r.stderr)
    r = world.sh("one", "curl -sS -H 'Authorization: Bearer example-access-0000' "
                 "https://api.hello.test/")
    assert world.api.requests[-1].headers["authorization"] == "Bearer " + ACCESS
    assert "Bearer " + "*" * len(ACCESS) in r.stdout
    with open(world.path("data", "hutch", "tokens", "example")) as f:
        assert json.load(f)["refresh_token"] == REFRESH
    assert "OAuth account" in world.ok("secret", "ls")


def test_next_sandbox_is_logged_in(world):
    world.create("two")
    r = world.sh("two", "stat -c %a:%U ~/.example/credentials.json; cat ~/.example/credentials.json; "
                 "sync")
    mode, text = r.stdout.split("\n", 1)
    assert mode == "600:agent"
    assert json.loads(text) == {"access": "example-access-0000", "refresh": "example-refresh-0000"}
    world.sh("two", "curl -sS -d grant_type=refresh_token -d refresh_token=example-refresh-0000 "
             "https://login.hello.test/oauth/token")
    assert world.login.requests[-1].body.endswith(b"refresh_token=" + REFRESH.encode())


@pytest.mark.skipif(os.getuid() != 0, reason="other processes' memory is root's to read")
def test_tokens_are_in_no_guest(world):
    for name in ("one", "two"):
        world.sh(name, "echo mark-%s-in-the-guest >~/mark; sync" % name)
        workers = world.workers(name)
        for program in {"qemu", "hutch-vmm", "hutch-box"} & set(workers):
            for value in (ACCESS, REFRESH):
                assert not memory_has(workers[program], value.encode()), (name, program)
        mark = "mark-%s-in-the-guest" % name
        assert found_below(world.box(name), ACCESS, REFRESH, mark) == {mark}


def test_forgotten_at_the_next_request(world):
    world.ok("secret", "rm", "example")
    world.sh("two", "curl -sS -H 'Authorization: Bearer example-access-0000' "
             "https://api.hello.test/")
    assert world.api.requests[-1].headers["authorization"] == "Bearer example-access-0000"
