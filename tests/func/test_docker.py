# SPDX-License-Identifier: Apache-2.0
"""Containers inside of a sandbox, by the kit docker: their network is the sandbox's, with its rules, its
keys and its published ports.

The image is made of the sandbox's own files. The disk with Docker installed stays in the install cache
below HUTCH_TEST_DATA, so only the first run installs; what is part of the plan is fixed for that."""
import contextlib
import hashlib
import os
import re
import urllib.request

import pytest

from conftest import CACHE, Home, wait_for
from servers import Authority, Web
from test_ports import ports

BIG = bytes(range(256)) * 12000
KEY = "token-of-the-web-51c7-do-not-leak"
KIT = """schemaVersion: "2"
kind: mixin
name: containers
permissions:
  network:
    allow: [web.test, plain.test]
credentials:
  - service: web
    apiKey:
      name: WEB_KEY
      inject: [{domain: web.test, scheme: bearer}]
"""
# A shell with its libraries; what else runs in a container comes from the sandbox's /usr.
IMAGE = """set -e
for i in $(seq 120); do docker info >/dev/null 2>&1 && break; sleep 1; done
tar -ch -C / bin/dash lib/x86_64-linux-gnu/libc.so.6 lib64/ld-linux-x86-64.so.2 | docker import - own
"""
TRUST = "-v /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro"


@pytest.fixture(scope="module")
def docker(tmp_path_factory, images):
    """What runs a command in a container: (home, function of a command)."""
    tmp = tmp_path_factory.mktemp("docker")
    home = Home(str(tmp / "home"))
    authority = Authority(tmp / "ca")
    home.env["SSL_CERT_FILE"] = authority.bundle()
    kept = os.path.join(CACHE, "hutch", "cache")
    os.makedirs(kept, exist_ok=True)
    os.symlink(kept, home.path("data", "hutch", "cache"))
    os.makedirs(home.path("files"))
    with open(home.path("files", "big"), "wb") as f:
        f.write(BIG)
    home.web = Web(authority, "web.test", address=("127.0.84.1", 8443))
    home.plain = Web(authority, "plain.test", root=home.path("files"),
                     address=("127.0.84.2", 8443))
    os.makedirs(home.path("kit"))
    os.makedirs(home.path("work"))
    with open(home.path("kit", "spec.yaml"), "w") as f:
        f.write(KIT)
    home.ok("secret", "set", "--no-keyring", "web", input=KEY)
    home.ok("create", "--name", "dock", "--memory", "1g", "--kit", "docker", "--kit",
            home.path("kit"), "--resolve", "web.test=" + home.web.address, "--resolve",
            "plain.test=" + home.plain.address, "shell", home.path("work"), timeout=1500)
    home.ok("exec", "dock", "--", "bash", "-c", IMAGE, timeout=600)

    def run(command, options=""):
        return home.run("exec", "dock", "--", "docker", "run", "--rm", "-v", "/usr:/usr:ro",
                        *options.split(), "own", "/bin/dash", "-c", command, timeout=240)

    yield home, run
    home.web.shutdown()
    home.plain.shutdown()
    home.close()


def test_names_and_rules(docker):
    home, run = docker
    r = run("getent hosts web.test; getent hosts other.test")
    assert len(re.findall(r"^198\.1[89]\.\d+\.\d+ ", r.stdout, re.M)) == 2, (r.stdout, r.stderr)
    # The sandbox trusts the tunnelled server, and its bundle serves in the container.
    r = run("curl -sS https://plain.test/echo", TRUST)
    assert r.stdout == "hello\n", r.stderr
    r = run("curl -s http://other.test/")
    assert "hutch policy allow other.test" in r.stdout, (r.stdout, r.stderr)
    wait_for(lambda: [e for e in home.audit("dock")
                      if e["name"] == "other.test" and e["verdict"] == "deny"], what="the refusal's line")


def test_keys(docker):
    home, run = docker
    r = run("curl -sS https://web.test/echo")
    assert r.returncode != 0 and "certificate" in r.stderr  # of an authority that it does not know
    r = run("curl -sS https://web.test/echo", TRUST)
    assert r.stdout == "hello\n", r.stderr
    assert home.web.seen[-1]["Authorization"] == "Bearer " + KEY
    assert KEY not in home.ok("exec", "dock", "--", "env")


def test_large_answer(docker):
    """In segments that fit a container's network, whose MTU is smaller than the sandbox's."""
    home, run = docker
    r = run("curl -sS https://plain.test/big | sha256sum", TRUST)
    assert r.stdout.split()[0] == hashlib.sha256(BIG).hexdigest(), r.stderr


def test_published_port(docker):
    """From the host through the sandbox's loopback into a container."""
    home, _ = docker
    home.ok("exec", "dock", "--", "docker", "run", "-d", "--name", "server", "-p", "8080:80", "-v",
            "/usr:/usr:ro", "-w", "/usr/share/common-licenses", "own", "/usr/bin/python3", "-m",
            "http.server", "80", timeout=240)
    home.ok("ports", "dock", "--publish", "8080")
    port = ports(home, "dock")[8080, "tcp"]["port"]

    def fetch():
        with contextlib.suppress(OSError):
            with urllib.request.urlopen("http://127.0.0.1:%d/GPL-3" % port, timeout=60) as r:
                return r.read()

    assert b"GNU GENERAL PUBLIC LICENSE" in wait_for(fetch, what="an answer from the container")
    home.ok("exec", "dock", "--", "docker", "rm", "-f", "server", timeout=240)
