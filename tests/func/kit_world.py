# SPDX-License-Identifier: Apache-2.0
"""What the tests of kits from elsewhere share: a home without images, kits, repositories, registries."""
import io
import json
import os
import shutil
import subprocess
import zipfile

import pytest

import registry
from conftest import Home

SPEC = 'schemaVersion: "2"\nkind: mixin\nname: jq\n'
ALLOW = "permissions: {network: {allow: [%s], deny: [%s]}}\n"
SECRET = """credentials:
  - service: nobody-has-this
    required: true
    apiKey: {name: KEY, inject: [{domain: a.test, header: X-Key, format: "%s"}]}
"""
NO_VALUE = "needs the credential nobody-has-this, which has no value"
GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a",
       "GIT_COMMITTER_EMAIL": "a@example.com", "GIT_CONFIG_GLOBAL": "/dev/null",
       "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def home(tmp_path):
    """Without kernel and image: nothing here starts a sandbox."""
    h = Home(str(tmp_path / "home"))
    os.makedirs(h.path("work"))
    yield h
    h.close()


def kit(home, name="jq", more="", files=(), spec=None):
    path = home.path(name)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "spec.yaml"), "w") as f:
        f.write((spec or SPEC) + more)
    for file, text in files:
        file = os.path.join(path, file)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "w") as f:
            f.write(text)
    return path


def fetched(home):
    """Directories that the cache holds; half-done ones would be among them."""
    path = home.path("data", "hutch", "kits")
    return sorted(n for n in os.listdir(path) if n != "refs") if os.path.isdir(path) else []


def plan(home, ref, **kw):
    r = home.run("run", "--dry-run", "--json", "--kit", ref, "shell", home.path("work"), **kw)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def pin(home, ref, name="jq"):
    return [o["from"] for o in plan(home, ref)["origins"] if o["what"] == "kit " + name][0]


def refused(home, ref, *words, command=("kit", "inspect")):
    r = home.run(*command, ref)
    assert r.returncode == 125 and all(w in r.stderr for w in words), (r.returncode, r.stderr)
    assert fetched(home) == []
    return r.stderr


def zip_bytes():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("spec.yaml", SPEC)
        z.writestr("files/home/a", "a" * 1000)
    return out.getvalue()


def git(*args, cwd):
    return subprocess.run(["git", *args], cwd=cwd, env=dict(os.environ, **GIT), check=True,
                          capture_output=True, text=True).stdout.strip()


def commit(repo):
    git("add", "-A", cwd=repo)
    git("commit", "-qm", "x", cwd=repo)
    return git("rev-parse", "HEAD", cwd=repo)


@pytest.fixture
def repo(home):
    path = home.path("repo")
    os.makedirs(path)
    git("init", "-q", "-b", "main", cwd=path)
    return path


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed (tools/deps test)")
    r = registry.DockerRegistry(str(tmp_path_factory.mktemp("registry")))
    yield r
    r.close()


@pytest.fixture
def liar():
    r = registry.LyingRegistry()
    yield r
    r.close()


def settings(home, text):
    os.makedirs(home.path("config", "hutch"), exist_ok=True)
    with open(home.path("config", "hutch", "settings.yaml"), "w") as f:
        f.write(text)
