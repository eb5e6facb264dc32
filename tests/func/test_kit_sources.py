# SPDX-License-Identifier: Apache-2.0
"""Kits from elsewhere: ZIP files, git, registries, what they may get, and what attacks look like."""
import base64
import ctypes
import http.server
import io
import json
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import threading
import zipfile

import pytest

import registry
import servers
from conftest import BUILD, HUTCH, Home

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
    for name in ("images", "kernels"):
        os.makedirs(tmp_path / "cache" / "hutch" / name)
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


# ---- ZIP files ----

def test_pack_and_use(home):
    path = kit(home, files=[("files/home/bin/tool", "#!/bin/sh\n"), ("files/workspace/é.txt", "x")])
    os.chmod(os.path.join(path, "files/home/bin/tool"), 0o755)
    os.makedirs(os.path.join(path, ".git"))
    home.ok("kit", "pack", path, "-o", "a.zip")
    for root, dirs, files in os.walk(path):
        for name in files:
            os.utime(os.path.join(root, name), (1, 1))
    home.ok("kit", "pack", path, "--output", "b.zip", env={"TZ": "Asia/Tokyo", "LC_ALL": "C"})
    with open(home.path("a.zip"), "rb") as a, open(home.path("b.zip"), "rb") as b:
        assert a.read() == b.read()
    assert zipfile.ZipFile(home.path("a.zip")).namelist() == [
        "files/home/bin/tool", "files/workspace/é.txt", "spec.yaml"]
    home.ok("kit", "validate", "a.zip")
    p = plan(home, home.path("a.zip"))
    tree = p["home_trees"][0]["source"]
    assert os.access(os.path.join(tree, "bin", "tool"), os.X_OK)
    assert home.ok("kit", "pack", path).strip() == "jq.zip"


def test_zip_with_one_directory(home):
    with zipfile.ZipFile(home.path("a.zip"), "w") as z:
        z.writestr("jq-main/", "")
        z.writestr("jq-main/spec.yaml", SPEC)
        z.writestr("jq-main/.git/config", "x")
    assert "jq" in home.ok("kit", "inspect", "a.zip")
    assert plan(home, "./a.zip")["kits"] == ["shell", "jq"]


def entry(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.create_system = 3
    return info


HOSTILE_ZIPS = {
    "up": ([("../x", b"")], 'a path with ".."'),
    "inside": ([("files/../../x", b"")], 'a path with ".."'),
    "absolute": ([("/etc/x", b"")], "an absolute path"),
    "dot": ([("./x", b"")], "not a normal path"),
    "slashes": ([("files//x", b"")], "not a normal path"),
    "backslash": ([("..\\x", b"")], 'a path with ".."'),  # libarchive takes it for a slash
    "control": ([("a\x1b]0;x\x07", b"")], "a control character in a name"),
    "long": ([("a" * 256, b"")], "a name of more than 255 bytes"),
    "longer": ([("/".join(["a" * 200] * 6), b"")], "a path of more than 1024 bytes"),
    "deep": ([("/".join("a" * 40), b"")], "nested too deeply"),
    "link": ([(entry("files/home/l", stat.S_IFLNK | 0o777), b"/etc/passwd")], "a symbolic link"),
    "device": ([(entry("files/home/d", stat.S_IFCHR | 0o666), b"")], "a device, pipe or socket"),
    "twice": ([("a", b"1"), ("a", b"2")], "twice in the archive"),
    "case": ([("files/home/a", b"1"), ("files/home/A", b"2")], "only in upper and lower case"),
    "both": ([("a", b"1"), ("a/b", b"2")], "both a file and a directory"),
    "bomb": ([("a", bytes(64 << 20))], "expands to more than 200 times"),
    "many": ([("d/%d" % i, b"") for i in range(10001)], "more than 10000 files"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", HOSTILE_ZIPS)
def test_hostile_zip(home, what):
    entries, reason = HOSTILE_ZIPS[what]
    with zipfile.ZipFile(home.path("a.zip"), "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("spec.yaml", SPEC)
        for name, data in entries:
            z.writestr(name, data)
    refused(home, "a.zip", "a.zip: ", reason)
    assert not os.path.exists(home.path("x")) and not os.path.exists("/etc/x")


def zip_bytes():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("spec.yaml", SPEC)
        z.writestr("files/home/a", "a" * 1000)
    return out.getvalue()


@pytest.mark.parametrize("change,reason", [
    (lambda d: b"", "an empty file"),
    (lambda d: b"no archive at all", "not a whole archive"),
    (lambda d: d[:len(d) // 2], "not a whole archive"),
    (lambda d: d[:-1], "not a whole archive"),
    (lambda d: d.replace(b"aaaa", b"abaa", 1), "not a whole archive"),  # its checksum
    # The flag of encryption, in the local headers and in the directory.
    (lambda d: re.sub(b"(PK\x01\x02....)..", b"\\1\x01\x00", re.sub(
        b"(PK\x03\x04..)..", b"\\1\x01\x00", d, flags=re.S), flags=re.S), "encrypted"),
])
def test_broken_zip(home, change, reason):
    with open(home.path("a.zip"), "wb") as f:
        f.write(change(zip_bytes()))
    refused(home, "a.zip", reason)


def test_zip_is_a_file(home):
    os.makedirs(home.path("d.zip"))
    os.mkfifo(home.path("p.zip"))
    refused(home, "d.zip", "not a regular file")
    refused(home, "p.zip", "not a regular file")
    refused(home, "none.zip", "No such file")


def test_pack_refuses_links(home):
    path = kit(home, files=[("files/home/a", "x")])
    os.symlink("a", os.path.join(path, "files/home/b"))
    r = home.run("kit", "pack", path)
    assert r.returncode == 125 and "a link, which an archive of a kit cannot hold" in r.stderr
    assert not [n for n in os.listdir(home.base) if "zip" in n]


# ---- git ----

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


def test_git(home, repo):
    kit(home, "repo/kits/jq", files=[("files/home/a", "one"), ("files/home/d/b", "x")])
    os.symlink("../a", os.path.join(repo, "kits/jq/files/home/d/l"))
    first = commit(repo)
    git("tag", "-a", "v1", "-m", "x", cwd=repo)
    kit(home, "repo/kits/jq", files=[("files/home/a", "two")])
    second = commit(repo)
    url = "git+file://" + repo
    full = "%s#ref=%s&dir=kits/jq" % (url, first)

    r = home.run("kit", "inspect", full)
    assert r.returncode == 0 and "pinned" not in r.stderr
    assert pin(home, full) == full
    # Tags and branches are looked up, said, and pinned.
    r = home.run("kit", "inspect", url + "#dir=kits/jq&ref=v1")
    assert "pinned as " + full in r.stderr
    assert pin(home, url + "#dir=kits/jq") == full.replace(first, second)
    assert pin(home, url + "#dir=kits/jq&ref=main") == full.replace(first, second)
    tree = plan(home, full)["home_trees"][0]["source"]
    with open(os.path.join(tree, "a")) as f:
        assert f.read() == "one"
    assert os.readlink(os.path.join(tree, "d", "l")) == "../a"
    # What is there already needs no repository.
    shutil.rmtree(repo)
    assert pin(home, full) == full
    assert len(fetched(home)) == 2


@pytest.mark.parametrize("fragment,reason", [
    ("ref=" + "0" * 40, "git: "), ("ref=nothing", "no branch or tag nothing"),
    ("ref=%s&dir=nothing", "no directory nothing in commit"), ("ref=%s&dir=jq/spec.yaml", ""),
    ("ref=--output=x", "neither a commit nor the name"), ("dir=../x", "not a path inside"),
])
def test_git_refusals(home, repo, fragment, reason):
    kit(home, "repo/jq")
    c = commit(repo)
    refused(home, "git+file://%s#%s" % (repo, fragment.replace("%s", c)), reason)


@pytest.mark.parametrize("link,target,reason", [
    ("files/home/l", "../../../secret", "a link, expected a relative one"),
    ("files/home/l", "/etc/passwd", "a link, expected a relative one"),
    ("spec.yaml", "other.yaml", "a link, expected a relative one"),
    ("files", "other", "a link, expected a relative one"),
])
def test_git_links(home, repo, link, target, reason):
    os.makedirs(os.path.join(repo, "files/home"))
    if "/" not in link:
        shutil.rmtree(os.path.join(repo, "files"))
        kit(home, "repo/other")
    os.symlink(target, os.path.join(repo, link))
    refused(home, "git+file://%s#ref=%s" % (repo, commit(repo)), reason)


def test_git_runs_nothing_of_others(home, repo):
    """Neither the repository's nor the user's configuration, hooks, filters or submodules act."""
    kit(home, "repo", files=[("files/home/a", "x"), (".gitattributes", "* filter=evil diff=evil\n"),
                             (".gitmodules", '[submodule "s"]\npath = s\nurl = ext::sh -c "touch %s"\n'
                              % home.path("ran"))])
    c = commit(repo)
    config = home.path("gitconfig")
    with open(config, "w") as f:
        f.write('[filter "evil"]\nsmudge = touch RAN\n[core]\nfsmonitor = "touch RAN"\nhooksPath = HOOKS\n'
                '[url "ext::sh -c touch% RAN"]\ninsteadOf = file://\n'
                .replace("RAN", home.path("ran")).replace("HOOKS", home.path("hooks")))
    os.makedirs(home.path("hooks"))
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        hook = home.path("hooks", name)
        with open(hook, "w") as f:
            f.write("#!/bin/sh\ntouch %s\n" % home.path("ran"))
        os.chmod(hook, 0o755)
    user = home.path("user")
    os.makedirs(user)
    shutil.copy(config, os.path.join(user, ".gitconfig"))
    r = home.run("kit", "inspect", "git+file://%s#ref=%s" % (repo, c),
                 env={"HOME": user, "GIT_CONFIG_GLOBAL": config, "GIT_DIR": "/nonexistent",
                      "GIT_TEMPLATE_DIR": home.path("hooks")})
    assert r.returncode == 0, r.stderr
    assert not os.path.exists(home.path("ran"))


def has_landlock():
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")
def test_git_reaches_no_file_of_the_user(home, repo):
    """A git that has been taken over, by a script in its place."""
    kit(home, "repo/jq")
    c = commit(repo)
    os.makedirs(home.path("bin"))
    with open(home.path("secret"), "w") as f:
        f.write("of the user")
    with open(home.path("bin", "git"), "w") as f:
        f.write("#!/bin/sh\nexec 3>&2 2>/dev/null\ncat %s && exit 3\n(echo >%s) && exit 4\n%s && exit 5\n"
                "exec %s \"$@\" 2>&3\n" % (
            home.path("secret"), home.path("new"), home.path("tool"), shutil.which("git")))
    shutil.copy("/bin/true", home.path("tool"))
    os.chmod(home.path("bin", "git"), 0o755)
    r = home.run("kit", "inspect", "git+file://%s#ref=%s&dir=jq" % (repo, c),
                 env={"PATH": home.path("bin") + ":" + os.environ["PATH"]})
    assert r.returncode == 0, r.stderr
    assert not os.path.exists(home.path("new"))


class GitServer(http.server.ThreadingHTTPServer):
    """git http-backend, the smart protocol over plain HTTP on loopback."""

    daemon_threads = True

    def __init__(self, root):
        class Handler(http.server.BaseHTTPRequestHandler):
            def serve(self):
                path, _, query = self.path.partition("?")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                env = dict(os.environ, GIT_PROJECT_ROOT=root, GIT_HTTP_EXPORT_ALL="1", PATH_INFO=path,
                           QUERY_STRING=query, REQUEST_METHOD=self.command, REMOTE_ADDR="127.0.0.1",
                           CONTENT_TYPE=self.headers.get("Content-Type") or "",
                           HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding") or "",
                           GIT_PROTOCOL=self.headers.get("Git-Protocol") or "")
                out = subprocess.run(["git", "http-backend"], env=env, input=body,
                                     capture_output=True).stdout
                head, _, body = out.partition(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                self.send_response(int(fields.pop("Status", "200").split()[0]))
                for key, value in fields.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = serve

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def test_git_over_http(home, repo):
    kit(home, "repo/jq")
    kit(home, "repo/jq", more="version: v1\n")
    commit(repo)
    first = git("rev-parse", "HEAD", cwd=repo)
    kit(home, "repo/jq", more="version: v2\n")
    commit(repo)
    server = GitServer(home.base)
    try:
        url = "git+http://127.0.0.1:%d/repo/.git" % server.server_address[1]
        assert "v1" in home.ok("kit", "inspect", "%s#ref=%s&dir=jq" % (url, first))
        assert "v2" in home.ok("kit", "inspect", url + "#ref=main&dir=jq")
    finally:
        server.shutdown()
        server.server_close()


# ---- what a kit from elsewhere may name ----

def test_references_inside(home, repo):
    base = SPEC.replace("mixin", "sandbox").replace("name: jq", "name: top")
    kit(home, "repo/top", spec=base, more="extends: shell\nsandbox: {}\nmixins: [./part, python]\n")
    kit(home, "repo/top/part", spec=SPEC.replace("name: jq", "name: part"))
    ref = "git+file://%s#ref=%s&dir=top" % (repo, commit(repo))
    r = home.run("run", "--dry-run", "--json", ref, home.path("work"))
    assert r.returncode == 0, r.stderr
    p = json.loads(r.stdout)
    assert p["kits"] == ["shell", "top", "part", "python"]
    # The part is from where the whole is from.
    assert {o["what"]: o["from"] for o in p["origins"]}["kit part"] == ref


def test_zip_beside(home):
    """A relative ZIP file is relative to the kit that names it."""
    top = kit(home, "top", spec=SPEC.replace("mixin", "sandbox").replace("name: jq", "name: top"),
              more="extends: shell\nsandbox: {}\nmixins: [./jq.zip]\n")
    home.ok("kit", "pack", kit(home), "-o", os.path.join(top, "jq.zip"))
    r = home.run("run", "--dry-run", "--json", top, home.path("work"))
    assert r.returncode == 0 and json.loads(r.stdout)["kits"] == ["shell", "top", "jq"], r.stderr


@pytest.mark.parametrize("mixin", ["./a.zip", "oci://localhost:1/jq@sha256:" + "0" * 64,
                                   "oci://127.0.0.1:1/jq@sha256:" + "0" * 64])
def test_references_to_this_machine(home, repo, mixin):
    base = SPEC.replace("mixin", "sandbox").replace("name: jq", "name: top")
    kit(home, "repo/top", spec=base, more="extends: shell\nsandbox: {}\nmixins: ['%s']\n" % mixin)
    ref = "git+file://%s#ref=%s&dir=top" % (repo, commit(repo))
    r = home.run("run", "--dry-run", ref, home.path("work"))
    assert r.returncode == 125 and "must not name" in r.stderr, r.stderr


@pytest.mark.parametrize("mixin", ["../out", "/etc", "%s/local", "./link", "./none"])
def test_references_out(home, repo, mixin):
    kit(home, "local")
    kit(home, "repo/out")
    base = SPEC.replace("mixin", "sandbox").replace("name: jq", "name: top")
    kit(home, "repo/top", spec=base, more="extends: shell\nsandbox: {}\nmixins: [%s]\n"
        % mixin.replace("%s", home.base))
    ref = "git+file://%s#ref=%s&dir=top" % (repo, commit(repo))
    r = home.run("run", "--dry-run", ref, home.path("work"))
    assert r.returncode == 125 and "is not a part of what was fetched" in r.stderr, r.stderr


def test_references_must_be_pinned_in_kits(home):
    path = kit(home, "k", spec=SPEC.replace("mixin", "sandbox"), more="sandbox: {}\n"
               "extends: oci://registry.example.com/a:1\n")
    r = home.run("kit", "validate", path)
    assert r.returncode == 125 and "a pinned reference" in r.stdout + r.stderr


# ---- registries ----

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
    import urllib.request
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


# ---- the cache ----

def test_cache_is_verified(home, liar):
    ref = "oci://%s/jq@%s" % (liar.host, liar.kit(SPEC, registry.layer([("workspace/a", b"x")])))
    home.ok("kit", "inspect", ref)
    (name,) = fetched(home)
    requests = len(liar.seen)
    home.ok("kit", "inspect", ref)
    assert len(liar.seen) == requests
    # A changed byte: fetched anew. Without the registry: no kit rather than a wrong one.
    with open(home.path("data", "hutch", "kits", name, "spec.yaml"), "a") as f:
        f.write("version: evil\n")
    assert "evil" not in home.ok("kit", "inspect", ref)
    assert fetched(home) == [name] and len(liar.seen) > requests
    os.symlink("/etc/passwd", home.path("data", "hutch", "kits", name, "files", "x"))
    liar.blobs.clear()
    r = home.run("kit", "inspect", ref)
    assert r.returncode == 125 and "no such kit" in r.stderr


def test_many_at_once(home, liar):
    """Commands that fetch the same kit at the same time all have it, once."""
    ref = "oci://%s/jq@%s" % (liar.host, liar.kit(SPEC, registry.layer([("workspace/a", b"x" * 100000)])))
    running = [home.popen("kit", "inspect", ref, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(6)]
    for p in running:
        out, err = p.communicate(timeout=120)
        assert p.returncode == 0, err
    assert len(fetched(home)) == 1


def test_disk_full(home, liar):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    kits = home.path("data", "hutch", "kits")
    os.makedirs(kits)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", kits]).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        liar.kit(SPEC, registry.layer([("workspace/a", os.urandom(200 << 10)),
                                       ("workspace/b", os.urandom(200 << 10))]))
        refused(home, "oci://%s/jq:1" % liar.host, "No space left on device")
        liar.kit(SPEC, registry.layer([("workspace/a", b"0123456789abcdef" * 12800),
                                       ("workspace/b", b"0123456789abcdef" * 12800)]))
        refused(home, "oci://%s/jq:1" % liar.host, "No space left on device")
        liar.kit(SPEC)
        home.ok("kit", "inspect", "oci://%s/jq:1" % liar.host)
    finally:
        subprocess.run(["umount", kits])


# ---- approval ----

def create(home, ref, *args, **kw):
    return home.run("create", *args, "--kit", ref, "shell", home.path("work"), **kw)


def test_approval(home, liar):
    """A kit that needs a credential without a value ends right behind the question."""
    ref = "oci://%s/jq" % liar.host
    liar.kit(SPEC + ALLOW % ("a.test", "x.a.test") + SECRET, tag="1")
    liar.kit(SPEC + ALLOW % ("a.test, b.test", "") + SECRET, tag="2")
    liar.kit(SPEC + ALLOW % ("a.test", "x.a.test, y.a.test") + SECRET, tag="3")

    r = create(home, ref + ":1")
    assert r.returncode == 2
    assert "used for the first time" in r.stderr
    for line in ("+ allow a.test", "+ credential nobody-has-this to a.test in X-Key"):
        assert "  %s\n" % line in r.stderr
    code = re.search(r"--approve-kit ([0-9a-f]{12})\n", r.stderr)[1]
    assert create(home, ref + ":1").returncode == 2  # a look is no approval
    assert create(home, ref + ":1", "--approve-kit", code[:11]).returncode == 2
    assert create(home, ref + ":1", "--approve-kit", "0" * 12).returncode == 2
    r = create(home, ref + ":1", "--approve-kit", code)
    assert r.returncode == 125 and NO_VALUE in r.stderr
    r = create(home, ref + ":1")
    assert r.returncode == 125 and NO_VALUE in r.stderr

    # More than that stops: a host, and a deny that is gone. Less does not.
    r = create(home, ref + ":2")
    assert r.returncode == 2 and "asks for more than you approved" in r.stderr
    diff = re.findall(r"^  ([-+] .*)$", r.stderr, re.M)
    assert diff == ["+ allow b.test", "- deny x.a.test"]
    assert NO_VALUE in create(home, ref + ":3").stderr
    # Another name is another source; looking and planning need no approval.
    assert create(home, "oci://%s/other:1" % liar.host).returncode == 2
    assert plan(home, ref + ":2")["kits"] == ["shell", "jq"]
    r = create(home, ref + ":2", "--approve-kit", re.search(r"approve-kit (\w+)", create(
        home, ref + ":2").stderr)[1])
    assert NO_VALUE in r.stderr
    assert NO_VALUE in create(home, ref + ":2").stderr


def test_approval_on_a_terminal(home, liar):
    ref = "oci://%s/jq:1" % liar.host
    liar.kit(SPEC + SECRET + ALLOW % ("a.test", ""))
    for answer, says in ((b"n\n", b"not approved"), (b"\n", b"not approved"), (b"\x04", b"not approved"),
                         (b"y\n", NO_VALUE.encode())):
        ours, theirs = pty.openpty()
        p = home.popen("create", "--kit", ref, "shell", home.path("work"), stdin=theirs, stderr=theirs,
                       stdout=subprocess.DEVNULL)
        os.close(theirs)
        os.write(ours, answer)
        out = b""
        while True:
            try:
                out += os.read(ours, 4096)
            except OSError:
                break
        p.wait(60)
        os.close(ours)
        assert b"approve this? [y/N]" in out and says in out, out


def test_what_a_kit_says_steers_no_terminal(home, liar):
    liar.kit(SPEC + SECRET + ALLOW % ('"a.test/\\e]0;x\\a"', ""))
    r = create(home, "oci://%s/jq:1" % liar.host)
    assert "\x1b" not in r.stderr and "\x07" not in r.stderr


def test_local_kits_need_no_approval(home):
    assert NO_VALUE in create(home, kit(home, more=SECRET + ALLOW % ("a.test", ""))).stderr
    home.ok("kit", "pack", home.path("jq"), "-o", "jq.zip")
    assert NO_VALUE in create(home, "jq.zip").stderr


# ---- sources that are allowed ----

def settings(home, text):
    os.makedirs(home.path("config", "hutch"), exist_ok=True)
    with open(home.path("config", "hutch", "settings.yaml"), "w") as f:
        f.write(text)


def test_allowed_sources(home, liar):
    d = liar.kit(SPEC)
    ref = "oci://%s/team/jq" % liar.host
    for allowed, ok in ((["oci://%s/team/*" % liar.host], True), ([ref], True), ([ref + "@" + d], True),
                        (["oci://%s/team" % liar.host], False), ([], False),
                        (["oci://%s/teams/*" % liar.host, "git+https://example.com/*"], False)):
        settings(home, "kit: {allowedSources: %s}\n" % json.dumps(allowed))
        requests = len(liar.seen)
        r = home.run("kit", "inspect", ref + "@" + d)
        assert (r.returncode == 0) == ok, (allowed, r.stderr)
        if not ok:
            assert "not a source that your settings allow" in r.stderr
            assert "add it to kit.allowedSources in settings.yaml" in r.stderr
            assert len(liar.seen) == requests  # not even asked
    settings(home, "kit: {allowedSources: []}\n")
    home.ok("kit", "inspect", kit(home))


# ---- signatures ----

@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    d = str(tmp_path_factory.mktemp("keys"))
    for name, args in (("ed", ["ed25519"]), ("ec", ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
                       ("other", ["ed25519"]), ("rsa", ["RSA"])):
        key = os.path.join(d, name)
        subprocess.run(["openssl", "genpkey", "-algorithm", *args, "-out", key + ".pem"], check=True,
                       capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", key + ".pem", "-pubout", "-out", key + ".pub"],
                       check=True)
    return lambda name: os.path.join(d, name)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", ["ed", "ec"])
def test_sign(home, keys, name, plain):
    path = kit(home, files=[("files/home/a", "x"), ("README.md", "not signed")])
    flags = ["--plain"] if plain else []
    out = home.ok("kit", "sign", "--key", keys(name + ".pem"), *flags, path).strip()
    assert out == os.path.join(path, "kit.sig" if plain else "kit.sig.bundle")

    def check(key=name):
        return home.run("kit", "verify", "--key", keys("other.pub"), "--key", keys(key + ".pub"), path)
    r = check()
    assert r.returncode == 0 and r.stdout == "jq: signed by %s\n" % keys(name + ".pub")
    r = check("other")
    assert r.returncode == 125 and "by another key" in r.stderr
    kit(home, files=[("README.md", "changed")])
    assert check().returncode == 0
    for change in (lambda: kit(home, files=[("files/home/a", "y")]),
                   lambda: kit(home, files=[("files/home/a", "x"), ("files/home/b", "")]),
                   lambda: os.remove(os.path.join(path, "files/home/a")),
                   lambda: kit(home, more="version: v1\n", files=[("files/home/a", "x")])):
        change()
        r = check()
        assert r.returncode == 125 and "changed since it was signed" in r.stderr, r.stderr
        shutil.rmtree(os.path.join(path, "files"))
        kit(home, files=[("files/home/a", "x")])
        assert check().returncode == 0
    os.chmod(os.path.join(path, "files/home/a"), 0o755)
    assert check().returncode == 125


def test_signature_by_other_programs(home, keys):
    """openssl verifies ours, and we verify openssl's, in both forms."""
    path = kit(home, files=[("files/home/a", "x")])
    listing = home.path("listing")
    with open(listing, "w") as f:
        f.write(home.ok("kit", "verify", "--list", path))
    for name, verify, sign in (
            ("ed", ["pkeyutl", "-verify", "-pubin", "-inkey", keys("ed.pub"), "-rawin", "-in", listing],
             ["pkeyutl", "-sign", "-inkey", keys("ed.pem"), "-rawin", "-in", listing]),
            ("ec", ["pkeyutl", "-verify", "-pubin", "-inkey", keys("ec.pub"), "-rawin", "-digest",
                    "sha256", "-in", listing],
             ["pkeyutl", "-sign", "-inkey", keys("ec.pem"), "-rawin", "-digest", "sha256", "-in", listing])):
        home.ok("kit", "sign", "--plain", "--key", keys(name + ".pem"), path)
        home.ok("kit", "sign", "--key", keys(name + ".pem"), path)
        bundle = json.load(open(os.path.join(path, "kit.sig.bundle")))
        sig = home.path("sig")
        with open(sig, "wb") as f:
            f.write(base64.b64decode(bundle["messageSignature"]["signature"]))
        for file in (sig, os.path.join(path, "kit.sig")):
            subprocess.run(["openssl", *verify, "-sigfile", file], check=True, capture_output=True)
        # What cosign reads: the digest of the blob, and which key.
        digest = subprocess.run(["openssl", "dgst", "-sha256", "-binary", listing], check=True,
                                capture_output=True).stdout
        assert base64.b64decode(bundle["messageSignature"]["messageDigest"]["digest"]) == digest
        der = subprocess.run(["openssl", "pkey", "-pubin", "-in", keys(name + ".pub"), "-outform", "DER"],
                             check=True, capture_output=True).stdout
        der = subprocess.run(["openssl", "dgst", "-sha256", "-binary"], input=der, check=True,
                             capture_output=True).stdout
        assert base64.b64decode(bundle["verificationMaterial"]["publicKey"]["hint"]) == der
        os.remove(os.path.join(path, "kit.sig.bundle"))
        subprocess.run(["openssl", *sign, "-out", os.path.join(path, "kit.sig")], check=True)
        home.ok("kit", "verify", "--key", keys(name + ".pub"), path)


def test_signing_refusals(home, keys):
    path = kit(home)
    for args, reason in ((["sign", path], "--key FILE is needed"),
                         (["sign", "--key", keys("ed.pub"), path], "not a private key"),
                         (["sign", "--key", keys("rsa.pem"), path], "a key of another kind"),
                         (["sign", "--key", keys("none"), path], "No such file"),
                         (["sign", "--key", keys("ed.pem"), "oci://localhost/a"], "is no directory"),
                         (["verify", path], "--key FILE is needed"),
                         (["verify", "--key", keys("ed.pub"), path], "not signed"),
                         (["verify", "--key", keys("ed.pem"), path], "not signed")):
        r = home.run("kit", *args)
        assert r.returncode == 125 and reason in r.stderr, (args, r.stderr)
    assert sorted(os.listdir(path)) == ["spec.yaml"]
    for text, reason in ((b"{", "not JSON"), (b"x" * 100000, "too large"), (b"{}", "not a Sigstore bundle")):
        with open(os.path.join(path, "kit.sig.bundle"), "wb") as f:
            f.write(text)
        r = home.run("kit", "verify", "--key", keys("ed.pub"), path)
        assert r.returncode == 125 and reason in r.stderr, r.stderr


def test_required_signature(home, keys, docker, repo):
    ref = "oci://%s/signed" % docker.host
    path = kit(home, files=[("files/home/a", "x")])
    settings(home, "kit:\n  requireSignature: true\n  trustedKeys: [%s]\n" % json.dumps(keys("ed.pub")))
    bare = home.ok("kit", "push", path, ref + ":bare").strip()
    r = home.run("kit", "inspect", bare)
    assert r.returncode == 125 and "not signed" in r.stderr and "kit.trustedKeys" in r.stderr
    home.ok("kit", "sign", "--key", keys("other.pem"), path)
    r = home.run("kit", "inspect", home.ok("kit", "push", path, ref + ":other").strip())
    assert r.returncode == 125 and "signed by another key" in r.stderr
    home.ok("kit", "sign", "--key", keys("ed.pem"), path)
    home.ok("kit", "inspect", home.ok("kit", "push", path, ref + ":1").strip())
    home.ok("kit", "verify", ref + ":1")
    home.ok("kit", "pack", path, "-o", "signed.zip")
    home.ok("kit", "inspect", "signed.zip")
    shutil.copytree(path, os.path.join(repo, "jq"))
    home.ok("kit", "inspect", "git+file://%s#ref=%s&dir=jq" % (repo, commit(repo)))
    # One's own directory is one's own.
    os.remove(os.path.join(path, "kit.sig.bundle"))
    home.ok("kit", "inspect", path)
    home.ok("kit", "pack", path, "-o", "unsigned.zip")
    assert "not signed" in home.run("kit", "inspect", "unsigned.zip").stderr


# ---- the programs' jails ----

def is_hooked():
    with open(os.path.join(BUILD, "hutch-archive"), "rb") as f:
        return b"HUTCH_TEST_PROBE" in f.read()


@pytest.mark.skipif(not is_hooked(), reason="needs a build with -Dtests=true")
@pytest.mark.parametrize("attempt", ["open", "write", "socket", "exec", "kill", "mount", "ptrace", "unshare"])
@pytest.mark.parametrize("who", ["archive", "fetch", "sign"])
def test_program_cannot(home, liar, keys, tmp_path, who, attempt):
    secret = tmp_path / "secret"
    secret.write_text("of the user")
    liar.kit(SPEC)
    command = {"archive": ["kit", "pack", kit(home)], "sign": ["kit", "sign", "--key", keys("ed.pem"), kit(home)],
               "fetch": ["kit", "inspect", "oci://%s/jq:1" % liar.host]}[who]
    victim = subprocess.Popen(["sleep", "60"])
    path = str(tmp_path / "new") if attempt == "write" else str(secret)
    r = home.run(*command, env={"HUTCH_TEST_PROBE": "%s:%s" % (who, attempt), "HUTCH_TEST_FILE": path,
                                "HUTCH_TEST_VICTIM": str(victim.pid)})
    try:
        assert victim.poll() is None and not (tmp_path / "new").exists()
        killed = "signal %d" % signal.SIGSYS in r.stderr
        if attempt in ("exec", "kill", "mount", "unshare"):
            assert killed, r.stderr
        elif not killed and r.returncode != 0:
            pytest.fail(r.stderr)
        m = re.search(r"probe %s %s errno=(\d+)" % (who, attempt), r.stdout + r.stderr)
        if m and not (who == "fetch" and attempt == "socket"):
            assert int(m[1]) != 0
    finally:
        victim.kill()
        victim.wait()
