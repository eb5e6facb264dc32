# SPDX-License-Identifier: Apache-2.0
"""Kits from ZIP files and git, what they may name, and the cache of what was fetched."""
import ctypes
import http.server
import json
import os
import re
import shutil
import stat
import subprocess
import threading
import zipfile

import pytest

import registry
from kit_world import (
    SPEC, commit, fetched, git, home, kit, liar, pin, plan, refused, repo, zip_bytes)


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
    assert re.search("^  from +%s$" % re.escape(full), r.stdout, re.M)
    shown = json.loads(home.ok("kit", "inspect", "--json", full))["kits"][0]
    assert shown["from"] == full and [shown["digest"]] == fetched(home)
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
        out, err = p.communicate(timeout=240)
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
