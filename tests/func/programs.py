# SPDX-License-Identifier: Apache-2.0
"""Servers of somebody else's, as programs on loopback."""
import contextlib
import random
import socket
import subprocess
import tempfile

from conftest import PATIENCE, wait_for


def free_port():
    """A port for somebody who has to be told one. The kernel gives it to nobody meanwhile."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        low, high = map(int, f.read().split())
    ports = [p for p in range(10000, 65536) if not low <= p <= high] or range(10000, 65536)
    while True:
        port = random.choice(ports)
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            with contextlib.suppress(OSError):
                for s in (tcp, udp):
                    s.bind(("127.0.0.1", port))
                return port


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(port, argv):
    """A server of somebody else's, from the moment that it listens."""
    with tempfile.TemporaryFile() as log:
        proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(lambda: listens(port) or proc.poll() is not None, what=argv[0])
            log.seek(0)
            assert proc.poll() is None, log.read()
            yield
        finally:
            proc.terminate()
            proc.wait(PATIENCE)
