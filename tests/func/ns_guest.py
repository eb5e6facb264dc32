# SPDX-License-Identifier: Apache-2.0
"""Run by gate_client.py in namespaces of its own, which it makes look like a sandbox from within:
its addresses, its name server, its trust store. Hands the listening sockets over and waits.

Arguments: descriptor of a socket to send them on, directory of files for /etc, ports."""
import os
import socket
import subprocess
import sys


def main():
    link = socket.socket(fileno=int(sys.argv[1]))
    work = sys.argv[2]
    for name in ("resolv.conf", "hosts", "ssl/certs/ca-certificates.crt"):
        subprocess.run(["mount", "--bind", os.path.join(work, os.path.basename(name)),
                        os.path.realpath("/etc/" + name)], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "addr", "add", "10.0.2.2/32", "dev", "lo"], check=True)
    subprocess.run(["ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo"], check=True)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("10.0.2.2", 53))
    socks = [names] + [socket.create_server(("0.0.0.0", int(p)), backlog=512)
                       for p in sys.argv[3:]]
    socket.send_fds(link, [b"ready"], [s.fileno() for s in socks])
    for s in socks:
        s.close()
    link.recv(1)


if __name__ == "__main__":
    main()
