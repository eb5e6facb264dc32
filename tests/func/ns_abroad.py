# SPDX-License-Identifier: Apache-2.0
"""A network beyond the namespace of the test, which leads there: what answers on public addresses
must not be on the gate's own machine."""
import concurrent.futures
import ctypes
import os
import subprocess
import threading

CLONE_NEWNET = 0x40000000


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def leave():
    """Into a network of the calling thread's own. Its sockets are good for all threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return threading.get_native_id()


class Abroad:
    def __init__(self, *addresses):
        self.thread = concurrent.futures.ThreadPoolExecutor(1)
        there = str(self.do(leave))
        ip("link", "add", "here", "type", "veth", "peer", "name", "there", "netns", there)
        ip("addr", "add", "10.255.255.1/30", "dev", "here")
        ip("addr", "add", "fdff::1/64", "dev", "here", "nodad")
        ip("link", "set", "here", "up")
        self.do(self._settle, addresses)
        ip("route", "add", "default", "via", "10.255.255.2")
        ip("-6", "route", "add", "default", "via", "fdff::2")

    def do(self, function, *args):
        return self.thread.submit(function, *args).result()

    @staticmethod
    def _settle(addresses):
        ip("link", "set", "lo", "up")
        ip("addr", "add", "10.255.255.2/30", "dev", "there")
        ip("addr", "add", "fdff::2/64", "dev", "there", "nodad")
        ip("link", "set", "there", "up")
        for a in addresses:
            ip("addr", "add", a, "dev", "lo", *(["nodad"] if ":" in a else []))
