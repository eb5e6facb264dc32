# SPDX-License-Identifier: Apache-2.0
"""OAuth on the command line: what a new sandbox finds, and what hutch secret shows of tokens."""
import json
import os
import time

import pytest

KIT = """\
schemaVersion: "2"
kind: mixin
name: agent
permissions:
  network:
    allow: [login.example.test, api.example.test]
credentials:
  - service: example
    required: REQUIRED
    apiKey:
      name: EXAMPLE_KEY
      inject: [{domain: api.example.test, header: x-api-key, format: "%s"}]
    oauth:
      tokenEndpoint: {host: login.example.test, path: /oauth/token}
      sentinels: {accessToken: example-access, refreshToken: example-refresh}
      credentialFile:
        path: ~/.example/credentials.json
        structure:
          tokens: {a: "{{.AccessToken}}", r: "{{.RefreshToken}}"}
          expiresAt: "{{.ExpiresAt}}"
          scopes: "{{.Scopes}}"
"""


@pytest.fixture
def kit(home):
    path = home.path("kit")
    os.makedirs(path)

    def write(required="false"):
        with open(os.path.join(path, "spec.yaml"), "w") as f:
            f.write(KIT.replace("REQUIRED", required))
        return path

    return write


def plan(home, path):
    s = json.loads(home.ok("run", "--kit", path, "--dry-run", "--json", "shell", home.project))
    s["files"] = [f for f in s["files"] if f["kit"] == "agent"]
    return s


def log_in(home, name="example", **more):
    """As hutch-gate leaves it."""
    path = home.path("data", "hutch", "tokens")
    os.makedirs(path, mode=0o700, exist_ok=True)
    record = {"access_token": "real-access-0123", "refresh_token": "real-refresh-0123", **more}
    with open(os.open(os.path.join(path, name), os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        json.dump(record, f)


def test_nobody_has_logged_in(home, kit):
    s = plan(home, kit())
    assert not s["files"]
    # A placeholder in the variable would keep the agent from logging in.
    assert not [e for e in s["env"] if e.startswith("EXAMPLE_KEY=")]
    (oauth,) = s["network"]["credentials"][0]["oauth"]
    assert oauth["host"] == "login.example.test" and oauth["path"] == "/oauth/token"
    assert oauth["resource_hosts"] == ["api.example.test"]


def test_credential_file_with_placeholders(home, kit):
    expires = int(time.time()) + 1000
    log_in(home, expires_at=expires, scope="read write")
    s = plan(home, kit())
    (f,) = s["files"]
    assert f["path"] == "/home/agent/.example/credentials.json" and f["mode"] == 0o600
    assert f["only_if_missing"] and not f["as_root"]
    assert json.loads(f["content"]) == {"tokens": {"a": "example-access", "r": "example-refresh"},
                                        "expiresAt": expires * 1000, "scopes": ["read", "write"]}
    assert "real-" not in json.dumps(s)


def test_key_goes_before_tokens(home, kit):
    log_in(home)
    home.ok("secret", "set", "example", input="key-0123456789", env={"DBUS_SESSION_BUS_ADDRESS": ""})
    s = plan(home, kit())
    assert not s["files"] and "EXAMPLE_KEY=proxy-managed" in s["env"]


def test_accounts_are_listed_and_forgotten(home):
    for name in ("example", "example.2", "example-other", "example.x"):
        log_in(home, name, scope="a")
    text = home.ok("secret", "ls")
    assert text.count("OAuth account: a") == 4 and "real-" not in text
    rows = json.loads(home.ok("secret", "ls", "--json"))
    assert {r["service"] for r in rows} == {"example", "example.2", "example-other", "example.x"}
    assert all(r["source"] == "oauth" for r in rows)
    home.ok("secret", "rm", "example")
    left = os.listdir(home.path("data", "hutch", "tokens"))
    assert sorted(left) == ["example-other", "example.x"]
    r = home.run("secret", "rm", "example")
    assert r.returncode == 125 and "nothing is stored" in r.stderr
