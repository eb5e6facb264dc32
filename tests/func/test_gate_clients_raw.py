# SPDX-License-Identifier: Apache-2.0
"""Protocols that are not HTTP, by a rule for name and port: ssh and PostgreSQL with their own programs on
both sides, and a static Go program, which brings a resolver and a TLS of its own."""
import getpass
import glob
import os
import pwd
import shutil
import subprocess
import tempfile

import pytest

from gate_client import Guest
from gate_driver import rule
from programs import free_port, running
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)
from test_gate_clients import API, check, https, world  # noqa: F401 (fixtures)


def key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    with open(path + ".pub") as f:
        return f.read()


def test_ssh(gate, tmp_path):  # noqa: F811
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    if not sshd:
        pytest.skip("no sshd here")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where its unprivileged half lives
    port, path = free_port(), str(tmp_path)
    host_key, user_key = key(path + "/host"), key(path + "/user")
    with open(path + "/authorized", "w") as f:
        f.write(user_key)
    with open(path + "/known", "w") as f:
        f.write("ssh.example.test " + host_key)
    with open(path + "/config", "w") as f:
        f.write(f"ListenAddress 127.0.0.1:{port}\nHostKey {path}/host\nPidFile none\nUsePAM no\n"
                f"AuthorizedKeysFile {path}/authorized\nStrictModes no\nPasswordAuthentication no\n")
    g = gate(rules=[rule("ssh.example.test:22")],
             resolves={n: f"127.0.0.1:{port}" for n in ("ssh.example.test", "other.example.test")})
    ssh = ["ssh", "-F", "none", "-i", path + "/user", "-o", "UserKnownHostsFile=" + path + "/known",
           "-o", "GlobalKnownHostsFile=none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
           "-l", getpass.getuser()]
    with running(port, [sshd, "-D", "-e", "-f", path + "/config"]), Guest(g, tmp_path, (22,)) as c:
        assert c.ok(*ssh, "ssh.example.test", "echo over ssh") == "over ssh\n"
        big = c.run(*ssh, "ssh.example.test", "head -c 3000000 /dev/zero")
        assert len(big.stdout) == 3000000 and big.returncode == 0
        denied = c.run(*ssh, "other.example.test", "true")
        assert denied.returncode == 255 and b"Connection reset" in denied.stderr  # by the fixture
    lines = [l for l in g.audit() if l["name"] == "ssh.example.test" and "bytes_down" in l]
    assert [l["verdict"] for l in lines] == ["allow", "allow"]
    assert lines[1]["bytes_down"] > 3000000


def as_postgres():
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return [], os.geteuid()
    return ["runuser", "-u", "postgres", "--"], pwd.getpwnam("postgres").pw_uid


def test_psql(gate, tmp_path):  # noqa: F811
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    if not programs or not shutil.which("psql"):
        pytest.skip("no PostgreSQL here")
    prefix, uid = as_postgres()
    port, where = free_port(), os.path.dirname(programs[-1])
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hutch-pg-") as data:
        os.chown(data, uid, -1)
        r = subprocess.run([*prefix, where + "/initdb", "-D", data + "/d", "-U", "me", "--no-sync",
                            "-A", "trust"], cwd="/", capture_output=True, text=True)
        assert r.returncode == 0, r.stdout + r.stderr
        g = gate(rules=[rule("db.example.test:5432")],
                 resolves={"db.example.test": f"127.0.0.1:{port}"})
        with running(port, [*prefix, where + "/postgres", "-D", data + "/d", "-p", str(port), "-h",
                            "127.0.0.1", "-k", data]), Guest(g, tmp_path, (5432,)) as c:
            psql = ["psql", "-XAt", "-h", "db.example.test", "-U", "me", "-d", "postgres", "-c"]
            assert c.ok(*psql, "select 41 + 1") == "42\n"
            assert len(c.ok(*psql, "select repeat('x', 2000000)")) == 2000001
            denied = c.run("psql", "-h", "other.example.test", "-U", "me", "-c", "select 1")
            assert denied.returncode == 2
    assert g.audit()[0]["verdict"] == "allow"


GO = """
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	for _, path := range []string{"/a", "/b"} {
		r, err := http.Post(os.Args[1]+path, "text/plain", strings.NewReader("body"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		fmt.Println(r.Proto, r.StatusCode, string(text))
	}
}
"""


def test_go(world, pki, tmp_path):  # noqa: F811
    if not shutil.which("go"):
        pytest.skip("no Go compiler here")
    with open(tmp_path / "client.go", "w") as f:
        f.write(GO)
    env = dict(os.environ, CGO_ENABLED="0", GOCACHE=str(tmp_path / "cache"), GOFLAGS="-mod=mod",
               GO111MODULE="off", HOME=str(tmp_path))
    subprocess.run(["go", "build", "-o", "client", "client.go"], cwd=tmp_path, env=env, check=True)
    s, c = world(https(pki))
    out = c.ok(str(tmp_path / "client"), f"https://{API}")
    assert out.splitlines() == ["HTTP/1.1 200 POST /a body", "HTTP/1.1 200 POST /b body"]
    check(s, 2)
