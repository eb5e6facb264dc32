# SPDX-License-Identifier: Apache-2.0
"""Run by test_gate_proxy.py in namespaces of its own: a real proxy (tinyproxy) between the gate and servers at
public addresses."""
import atexit
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import gate_driver
from gate_driver import PATIENCE, Gate, HttpServer, rule
from ns_abroad import Abroad
from servers import Authority

PUBLIC = "93.184.216.34"
HOSTS = f"127.0.0.1 localhost\n{PUBLIC} www.test proxy-only.test\n10.9.9.9 private.test\n"
USER, PASSWORD = "user", "pr0xy-word"


def listening(port):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


def start_tinyproxy(work):
    path = os.path.join(work, "tinyproxy.conf")
    with open(path, "w") as f:
        f.write(f"Port 8888\nListen 127.0.0.1\nTimeout 60\nBasicAuth {USER} {PASSWORD}\n"
                f"LogFile \"{work}/tinyproxy.log\"\nConnectPort 443\n")
    proc = subprocess.Popen(["tinyproxy", "-d", "-c", path])
    atexit.register(proc.kill)  # it ends with us, whatever happens
    listening(8888)
    return 8888


def check(env, work, authority, text_only):
    with Gate(os.path.join(work, "gate"), rules=[rule("**.test:*"), rule("**.test:443")],
              ca_file=authority.bundle(), env=env) as g:
        c = g.open("www.test", 443).tls(ca=os.path.join(authority.path, "ca.pem"))
        assert c.request()[0] == 200
        c.close()
        for path in ("/a", "/b"):  # tinyproxy keeps no connection
            assert g.open("www.test", 80).request(path=path)[2] == b"hello"
        lines = g.audit(3)
        assert all(line["proxy"] == text_only for line in lines), lines
        # Looked up here as well: where the proxy would go to is not for a guest.
        code, headers, body = g.open("private.test", 443).tls().request()
        assert code == 403 and b"10.9.9.9" in body and headers["x-hutch-refused"] == "policy"
        assert g.open("private.test", 80).request()[0] == 403
        # A port that the proxy does not connect to.
        code, _, body = g.open("www.test", 8443).tls().request(host="www.test:8443")
        assert code == 502 and b"403" in body, body
        # A name that nobody knows.
        assert g.open("nobody.test", 443).tls().request()[0] == 502
        assert PASSWORD not in str(g.audit())
    return g


def main():
    work = tempfile.mkdtemp()
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("hosts", HOSTS)):
        path = os.path.join(work, name)
        with open(path, "w") as f:
            f.write(text)
        subprocess.run(["mount", "--bind", path, os.path.realpath("/etc/" + name)], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    abroad = Abroad(PUBLIC + "/32", "10.9.9.9/32")
    authority = Authority(os.path.join(work, "ca"))
    for port, tls in ((80, None), (443, authority.context("www.test"))):
        server = HttpServer(tls=tls)
        server.sock.close()
        server.sock = abroad.do(socket.create_server, ("0.0.0.0", port))
        threading.Thread(target=server._accept, daemon=True).start()
    port = start_tinyproxy(work)
    url = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}"
    check({"https_proxy": url, "http_proxy": url}, work, authority, f"127.0.0.1:{port}")
    with Gate(os.path.join(work, "gate"), rules=[rule("www.test")],
              env={"https_proxy": f"127.0.0.1:{port}"}) as g:
        code, _, body = g.open("www.test", 443).tls().request()
        assert code == 502 and (b"wants" in body or b"401" in body), body
    print("proxies: ok")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(gate_driver.__file__))
    main()
