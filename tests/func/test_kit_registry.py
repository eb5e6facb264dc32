# SPDX-License-Identifier: Apache-2.0
"""Kits from registries, real and lying ones."""
import base64
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
import urllib.request

import pytest

import registry
import servers
from conftest import wait_for
from kit_world import SPEC, docker, home, kit, liar, pin, refused, zip_bytes


# ---- registries ----

def test_registry(home, docker):
    path = kit(home, more="version: v1\ndescription: d\n", files=[
        ("files/home/a", "x"), ("files/workspace/b/c", "y")])
    ref = "oci://%s/team/jq" % docker.host
    pinned = home.ok("kit", "push", path, ref + ":1.0").strip()
    assert re.fullmatch(re.escape(ref) + "@sha256:[0-9a-f]{64}", pinned)
    assert home.ok("kit", "push", path, ref + ":again").strip() == pinned  # the same bytes
    r = home.run("kit", "pull", ref + ":1.0", "-o", "copy")
    assert r.stdout.strip() == pinned and "pinned as " + pinned in r.stderr
    assert subprocess.run(["diff", "-r", path, home.path("copy")]).returncode == 0
    assert home.run("kit", "pull", ref + ":1.0", "-o", "copy").returncode == 125  # is there
    home.ok("kit", "pull", pinned, "-o", "copy.zip")
    home.ok("kit", "validate", "copy.zip")
    assert pin(home, pinned) == pinned
    # The tag moves: what was pinned stays, the tag is the new one.
    kit(home, more="version: v2\n")
    moved = home.ok("kit", "push", path, ref + ":1.0").strip()
    assert moved != pinned
    assert pin(home, ref + ":1.0") == moved and pin(home, pinned) == pinned
    assert "no such kit" in home.run("kit", "inspect", ref + ":none").stderr


def test_layer_format(home, docker):
    """What other tools would find: the documented types, and the layer's form."""
    path = kit(home, files=[("files/home/run", "x"), ("README.md", "left out")])
    os.chmod(os.path.join(path, "files/home/run"), 0o755)
    r = home.run("kit", "push", path, "oci://%s/form:1" % docker.host)
    assert r.returncode == 0 and "does not keep that it is executable" in r.stderr

    def get(what, **headers):
        url = "http://%s/v2/form/%s" % (docker.host, what)
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as f:
            return f.read()
    m = json.loads(get("manifests/1", Accept=registry.MANIFEST))
    assert (m["mediaType"], m["artifactType"]) == (registry.MANIFEST, registry.KIT)
    assert m["config"]["mediaType"] == registry.SPEC
    assert get("blobs/" + m["config"]["digest"]).decode() == SPEC
    assert m["annotations"]["vnd.docker.sandbox.kit.name"] == "jq"
    assert m["annotations"]["vnd.docker.sandbox.kit.kind"] == "mixin"
    assert [x["mediaType"] for x in m["layers"]] == [registry.LAYER]
    data = get("blobs/" + m["layers"][0]["digest"])
    assert data[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\0"
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        assert [(i.name, i.mode, i.uid, i.gid, i.mtime) for i in t] == [
            ("home/agent/run", 0o644, 1000, 1000, 0)]


def info(name, kind=tarfile.REGTYPE, target=""):
    i = tarfile.TarInfo(name)
    i.type, i.linkname = kind, target
    return i


HOSTILE_LAYERS = {
    "up": ([("home/agent/../../../x", b"")], 'a path with ".."'),
    "absolute": ([("/home/agent/x", b"")], "an absolute path"),
    "outside": ([("etc/x", b"")], "neither below home/agent nor below workspace"),
    "spec": ([("spec.yaml", b"")], "neither below home/agent nor below workspace"),
    "bare": ([("home/agent", b"")], "neither below home/agent nor below workspace"),
    "link": ([(info("home/agent/l", tarfile.SYMTYPE, "/etc"), b"")], "a symbolic link"),
    "hard link": ([("home/agent/a", b"x"), (info("home/agent/l", tarfile.LNKTYPE, "home/agent/a"), b"")],
                  "a hard link"),
    "device": ([(info("home/agent/d", tarfile.CHRTYPE), b"")], "a device, pipe or socket"),
    "pipe": ([(info("home/agent/d", tarfile.FIFOTYPE), b"")], "a device, pipe or socket"),
    "twice": ([("workspace/a", b""), ("workspace/a", b"")], "twice in the archive"),
    "case": ([("workspace/a", b""), ("workspace/A", b"")], "only in upper and lower case"),
    "bomb": ([("workspace/a", bytes(64 << 20))], "expands to more than 200 times"),
}


@pytest.mark.parametrize("what", HOSTILE_LAYERS)
def test_hostile_layer(home, liar, what):
    entries, reason = HOSTILE_LAYERS[what]
    liar.kit(SPEC, registry.layer(entries))
    refused(home, "oci://%s/jq:1" % liar.host, reason)


@pytest.mark.parametrize("raw", [b"x" * 2000, b"\0" * 100 + b"x" * 1000])
def test_layer_that_is_no_tar(home, liar, raw):
    liar.kit(SPEC, registry.layer(raw=raw))
    refused(home, "oci://%s/jq:1" % liar.host, "not a whole archive")


def test_lies_of_a_registry(home, liar):
    ref = "oci://%s/jq" % liar.host
    d = liar.kit(SPEC)
    manifest = liar.blobs[d]
    m = json.loads(manifest)
    spec, files = m["config"]["digest"], m["layers"][0]["digest"]

    # Another manifest than the digest says; another blob; less and more than announced.
    liar.blobs[d] = manifest + b" "
    refused(home, ref + "@" + d, "another manifest than")
    liar.blobs[d] = manifest
    good = liar.blobs[spec]
    liar.blobs[spec] = good.replace(b"jq", b"qj")
    refused(home, ref + ":1", "the spec.yaml is not what its digest says")
    liar.blobs[spec] = good[:-1]
    refused(home, ref + ":1", "the spec.yaml is not what its digest says")
    liar.blobs[spec] = good + b"x"
    refused(home, ref + ":1", "more than was announced")
    liar.blobs[spec] = good
    path = "/v2/jq/blobs/" + files

    def cut(handler):
        """A download that ends in the middle."""
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(liar.blobs[files])))
        handler.end_headers()
        handler.wfile.write(liar.blobs[files][:20])
        handler.wfile.flush()
        handler.connection.shutdown(2)
    liar.answers[path] = cut
    refused(home, ref + ":1", liar.host)
    liar.answers[path] = (500, {}, b"")
    refused(home, ref + ":1", "status 500 for the layer")
    liar.answers[path] = (307, {"Location": "http://registry.example.com/x"}, b"")
    refused(home, ref + ":1", "leads to http://registry.example.com/x, expected https")
    liar.answers[path] = (307, {"Location": "file:///etc/passwd"}, b"")
    refused(home, ref + ":1", "leads to file:///etc/passwd, expected https")
    liar.answers[path] = (307, {"Location": path}, b"")
    refused(home, ref + ":1", "too many redirects")
    liar.answers.clear()
    home.ok("kit", "inspect", ref + ":1")


def test_other_artifacts(home, liar):
    ref = "oci://%s/jq:1" % liar.host
    image = dict(liar.add(b"{}"), mediaType="application/vnd.oci.image.config.v1+json")
    liar.manifest({"config": image, "layers": [dict(liar.add(registry.layer()),
                                                    mediaType=registry.LAYER)]})
    refused(home, ref, "not a kit but another image or artifact")
    liar.answers["/v2/jq/manifests/1"] = (200, {}, b"x" * (5 << 20))
    refused(home, ref, "more than was announced")
    liar.answers.clear()
    liar.tags["1"] = liar.add(b"[" * 100000)["digest"]
    refused(home, ref, "the manifest is no JSON object")
    # schemaVersion "1": a ZIP.
    liar.manifest({"config": image, "layers": [dict(
        liar.add(zip_bytes()), mediaType="application/vnd.docker.sandbox.kit.v1.content.zip")]}, "v1")
    assert "jq" in home.ok("kit", "inspect", "oci://%s/jq:v1" % liar.host)
    # schemaVersion "3": the descriptor, of the index or of the image for this machine.
    text = {"vnd.docker.sandbox.kit.descriptor": json.dumps(
        {"schemaVersion": "3", "kind": "mixin", "provides": ["tool@1.2"]})}
    liar.manifest({"mediaType": registry.INDEX, "annotations": text, "manifests": []}, "v3")
    assert "mixin kit tool" in home.ok("kit", "validate", "oci://%s/some/tool:v3" % liar.host)
    liar.manifest({"config": image, "layers": [], "annotations": text}, "image")
    liar.manifest({"mediaType": registry.INDEX, "manifests": [
        {"digest": liar.tags["image"], "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}]},
        "index")
    assert "mixin kit tool" in home.ok("kit", "validate", "oci://%s/some/tool:index" % liar.host)


def test_login(home, liar):
    ref = "oci://%s/team/jq:1" % liar.host
    liar.kit(SPEC)
    body = liar.blobs[liar.tags["1"]]
    scope = "repository:team/jq:pull"
    basic = "Basic " + base64.b64encode(b"user:pass word").decode()

    def manifest(handler):
        if handler.headers.get("Authorization") == "Bearer good.token":
            return 200, {}, body
        return 401, {"WWW-Authenticate": 'Bearer realm="http://%s/token",service="reg",scope="%s"'
                     % (liar.host, scope)}, b""

    def token(handler):
        assert handler.path == "/token?service=reg&scope=repository%3Ateam%2Fjq%3Apull"
        if handler.headers.get("Authorization") != basic:
            return 401, {}, b""
        return 200, {}, b'{"token": "good.token"}'
    liar.answers["/v2/team/jq/manifests/1"] = liar.answers[
        "/v2/team/jq/manifests/" + liar.tags["1"]] = manifest
    liar.answers["/token"] = token
    user = home.path("user")
    os.makedirs(os.path.join(user, ".docker"))
    env = {"HOME": user}
    r = home.run("kit", "inspect", ref, env=env)
    assert r.returncode == 125 and "no access (status 401" in r.stderr
    with open(os.path.join(user, ".docker", "config.json"), "w") as f:
        json.dump({"auths": {liar.host: {"auth": basic[6:]}}}, f)
    r = home.run("kit", "inspect", ref, env=env)
    assert r.returncode == 0, r.stderr
    # A password is not shown before it is asked for, nor to a place that a redirect leads to.
    assert liar.seen[0][1] is None
    other = registry.LyingRegistry()
    try:
        other.blobs = liar.blobs
        files = json.loads(body)["layers"][0]["digest"]
        liar.answers["/v2/team/jq/blobs/" + files] = (
            307, {"Location": "http://%s/v2/x/blobs/%s" % (other.host, files)}, b"")
        shutil.rmtree(home.path("data", "hutch", "kits"))
        r = home.run("kit", "inspect", ref, env=env)
        assert r.returncode == 0, r.stderr
        assert other.seen == [("/v2/x/blobs/" + files, None)]
    finally:
        other.close()
    # Plain passwords go nowhere else in the clear.
    liar.answers["/v2/team/jq/manifests/1"] = (
        401, {"WWW-Authenticate": 'Bearer realm="http://registry.example.com/token"'}, b"")
    r = home.run("kit", "inspect", ref, env=env)
    assert r.returncode == 125 and "expected https" in r.stderr


HELPER = """#!/bin/sh
read -r server || [ "$server" ] || exit 9
printf '%%s %%s %%s\\n' "$#" "$1" "$server" >>%s/asked
[ "$server" = '%s' ] || { echo "credentials not found in native keychain"; exit 1; }
%s
"""


@pytest.fixture
def keeper(home, liar):
    """A registry that asks for a login, and a user whose logins a program keeps. Gives functions: make the
    program say what a script says; run hutch with a config.json."""
    liar.kit(SPEC)
    body = liar.blobs[liar.tags["1"]]
    user, forms = home.path("user"), []
    os.makedirs(os.path.join(user, ".docker"))
    os.makedirs(os.path.join(user, "bin"))

    def manifest(handler):
        if handler.headers.get("Authorization") == "Bearer good.token":
            return 200, {}, body
        return 401, {"WWW-Authenticate": 'Bearer realm="http://%s/token",service="a b",scope="s:x:pull"'
                     % liar.host}, b""

    def token(handler):
        length = int(handler.headers.get("Content-Length") or 0)
        forms.append((handler.command, handler.headers.get("Authorization"), handler.rfile.read(length)))
        good = forms[-1][1] == "Basic " + base64.b64encode(b"user:pass w\xc3\xb6rd").decode() or \
            b"refresh_token=id%2Ftoken" in forms[-1][2]
        return (200, {}, b'{"access_token": "good.token"}') if good else (401, {}, b"")
    liar.answers["/v2/team/jq/manifests/1"] = manifest
    liar.answers["/token"] = token

    def helper(name, script):
        path = os.path.join(user, "bin", "docker-credential-" + name)
        with open(path, "w") as f:
            f.write(HELPER % (user, liar.host, script))
        os.chmod(path, 0o755)

    def ask(config, path=None):
        with open(os.path.join(user, ".docker", "config.json"), "w") as f:
            json.dump(config, f)
        shutil.rmtree(home.path("data", "hutch", "kits"), ignore_errors=True)
        return home.run("kit", "inspect", "oci://%s/team/jq:1" % liar.host, env={
            "HOME": user, "PATH": (path or os.path.join(user, "bin")) + ":" + os.environ["PATH"]})

    def asked():
        with open(os.path.join(user, "asked")) as f:
            return f.read().splitlines()
    return helper, ask, asked, forms


GOOD = r"""printf '{"ServerURL":"x","Username":"user","Secret":"pass w\303\266rd"}\n'"""


def test_login_from_helper(liar, keeper):
    helper, ask, asked, forms = keeper
    helper("good", GOOD)
    for config in ({"credsStore": "good"}, {"credHelpers": {liar.host: "good"}, "credsStore": "none"},
                   {"credHelpers": {"https://" + liar.host: "good"}}):
        r = ask(config)
        assert r.returncode == 0, r.stderr
        assert asked().pop() == "1 get " + liar.host
    # An identity token, from the program or the file, is traded for one of access.
    helper("token", """echo '{"Username":"<token>","Secret":"id/token"}'""")
    for config in ({"credsStore": "token"}, {"auths": {liar.host: {"identitytoken": "id/token"}}}):
        del forms[:]
        r = ask(config)
        assert r.returncode == 0, r.stderr
        assert forms == [("POST", None, b"grant_type=refresh_token&client_id=hutch&service=a%20b"
                          b"&scope=s%3Ax%3Apull&refresh_token=id%2Ftoken")]
    # A program that does not have it: the file may.
    helper("empty", "echo 'credentials not found in native keychain'; exit 1")
    auth = base64.b64encode("user:pass w\u00f6rd".encode()).decode()
    r = ask({"credsStore": "empty", "auths": {liar.host: {"auth": auth}}})
    assert r.returncode == 0, r.stderr


def test_login_helpers_that_fail(home, liar, keeper, tmp_path):
    helper, ask, asked, forms = keeper
    helper("fails", "echo 'the store\033[31m is locked'; echo more; exit 3")
    helper("talks", "head -c 100000 /dev/zero | tr '\\0' x")
    helper("raves", "echo '{\"Username\": \"user\"'")
    helper("empty", "echo 'credentials not found in native keychain'; exit 1")
    for name, says in (("fails", "docker-credential-fails: the store?[31m is locked"),
                       ("talks", "says too much"), ("raves", "cannot be understood"),
                       ("gone", "docker-credential-gone, which keeps this login, is not installed"),
                       ("../bin/good", "not a name"), ("-x", "not a name"), ("a b;c", "not a name"),
                       ("x" * 65, "not a name"), ("empty", "no access")):
        r = ask({"credHelpers": {liar.host: name}})
        assert r.returncode == 125 and says in r.stderr, (name, r.stderr)
        assert "no access (status 401" in r.stderr  # it was tried without
    # What the current directory has is not run.
    helper("good", GOOD)
    os.rename(home.path("user", "bin"), home.path("bin"))
    r = ask({"credsStore": "good"}, path="bin")
    assert r.returncode == 125 and "is not installed" in r.stderr


def test_login_helper_that_hangs(liar, keeper):
    helper, ask, asked, forms = keeper
    sleep = "sleep 6%d" % os.getpid()
    helper("hangs", "%s & %s" % (sleep, sleep))
    began = time.monotonic()
    r = ask({"credsStore": "hangs"})
    assert r.returncode == 125 and "not done within 30 s" in r.stderr
    assert time.monotonic() - began > 29
    wait_for(lambda: subprocess.run(["pgrep", "-f", "^%s$" % sleep]).returncode == 1,
             what="its processes to be gone")


def test_certificate(home, tmp_path):
    """A registry with TLS is believed by its certificate, and never asked without."""
    ca = servers.Authority(tmp_path / "ca")
    tls = registry.LyingRegistry(ca.context("localhost"))
    try:
        tls.kit(SPEC)
        ref = "oci://%s/jq:1" % tls.host
        refused(home, ref, "certificate")
        assert not tls.seen
        r = home.run("kit", "inspect", ref, env={"SSL_CERT_FILE": ca.bundle()})
        assert r.returncode == 0, r.stderr
        assert tls.seen
    finally:
        tls.close()


def test_http_is_for_this_machine(home):
    """Any other name is asked by https alone: nothing listens on its port 443 here."""
    refused(home, "oci://hutch-test.invalid/jq:1", "hutch-test.invalid")
    refused(home, "git+http://hutch-test.invalid/jq", "git+http is for this machine alone")
