# SPDX-License-Identifier: Apache-2.0
"""Run by test_gate_rules.py in namespaces of its own, where it is the name server on port 53: names
that lead to other addresses each time they are asked for."""
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading

import gate_driver
from gate_driver import Gate, HttpServer, rule
from ns_abroad import Abroad

ANSWERS = {}  # name -> list of lists of addresses; the last one stays
ASKED = []


def dns_server():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 53))
    while True:
        data, peer = sock.recvfrom(4096)
        at, labels = 12, []
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode())
            at += 1 + data[at]
        name, (qtype,) = ".".join(labels), struct.unpack_from("!H", data, at + 1)
        answers = []
        if name in ANSWERS:
            family = {1: "v4", 28: "v6"}.get(qtype)
            if family == "v4":
                ASKED.append(name)
            now = ANSWERS[name]
            for a in now[0]:
                packed = socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)
                if family == ("v6" if ":" in a else "v4"):
                    answers.append(b"\xc0\x0c" + struct.pack("!HHIH", qtype, 1, 0, len(packed))
                                   + packed)
            if family == "v4" and len(now) > 1:
                now.pop(0)
        head = data[:2] + struct.pack("!5H", 0x8180, 1, len(answers), 0, 0)
        sock.sendto(head + data[12:at + 5] + b"".join(answers), peer)


def check_datagrams(g, abroad):
    """The same over UDP: every flow looks its name up and checks where that leads."""
    port = 0
    echoes = []
    for address in ("93.184.216.34", "10.9.9.9"):  # an answer comes from where the question went
        echoes.append(abroad.do(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        echoes[-1].bind((address, port))
        port = echoes[-1].getsockname()[1]

    def arrives(name, guest_port):
        g.datagram(name, port, name.encode(), guest_port)
        while not (ready := select.select(echoes, [], [], 0.05)[0]):
            if g.datagrams:  # refused: the guest gets the answer
                assert g.next_datagram()[3] is None
                return False
        data, peer = ready[0].recvfrom(1000)
        ready[0].sendto(data, peer)
        assert g.next_datagram()[3] == data == name.encode()
        return True

    g.configure(rules=[rule(f"udp **.test:{port}"), rule("10.0.0.0/8:*")])
    ANSWERS["udp.test"] = [["93.184.216.34"], ["10.9.9.9"]]
    assert arrives("udp.test", 1)
    assert arrives("udp.test", 1)  # the flow stays where it is
    assert not arrives("udp.test", 2)
    ANSWERS["loop.test"] = [["127.0.0.1"]]
    assert not arrives("loop.test", 3)
    g.audit_wait(lambda x: x["proto"] == "udp" and "loopback" in x["reason"])
    g.configure(rules=[rule(f"udp **.test:{port}"), rule("udp 10.0.0.0/8:*")])
    assert arrives("udp.test", 4)


def listen(port):
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)


def check_own_addresses(g, ask, own, port):
    """Public addresses of this machine need a rule for just that address."""
    addresses = {"one.own.test": "93.184.216.99", "two.own.test": "93.184.216.100",
                 "six.own.test": "2a00:1450::99"}
    for name, addr in addresses.items():
        ANSWERS[name] = [[addr]]
        code, why, text = ask(g, name)
        assert (code, why) == (403, "policy") and "this machine's own" in text, (addr, text)
    g.configure(rules=[rule(f"**.test:{port}"), rule("93.184.216.0/24:*"), rule("[2a00::/16]:*")])
    assert all(ask(g, name)[0] == 403 for name in addresses)
    assert g.open("93.184.216.99", port).request()[0] == 403
    g.configure(rules=[rule(f"**.test:{port}"), rule("**:*"), rule(f"93.184.216.99:{port}"),
                       rule(f"[2a00:1450::99]:{port}")])
    assert own.accepted == 0
    assert [ask(g, name)[0] for name in addresses] == [200, 403, 200]
    assert g.open("93.184.216.99", port).request(host=f"93.184.216.99:{port}")[0] == 200


def main():
    work = tempfile.mkdtemp()
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("hosts", "127.0.0.1 localhost\n")):
        path = os.path.join(work, name)
        with open(path, "w") as f:
            f.write(text)
        subprocess.run(["mount", "--bind", path, os.path.realpath("/etc/" + name)], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    abroad = Abroad("93.184.216.34/32", "10.9.9.9/32", "2a00:1450::1/128", "fd00::9/128")
    # This machine's, public ones included.
    for a in ("169.254.169.254/32", "100.64.1.1/32", "64:ff9b::7f00:1/128", "93.184.216.99/32",
              "93.184.216.100/32", "2a00:1450::99/128"):
        subprocess.run(["ip", "addr", "add", a, "dev", "lo", *(["nodad"] if ":" in a else [])],
                       check=True)
    threading.Thread(target=dns_server, daemon=True).start()
    server, own = HttpServer(), HttpServer()
    server.sock.close()
    server.sock = abroad.do(listen, 0)
    port = server.sock.getsockname()[1]
    own.sock.close()
    own.sock = listen(port)
    for s in (server, own):
        threading.Thread(target=s._accept, daemon=True).start()

    def ask(g, name):
        code, headers, body = g.open(name, port).request(host=f"{name}:{port}")
        return code, headers.get("x-hutch-refused"), body.decode()

    with Gate(os.path.join(work, "gate"), rules=[rule(f"**.test:{port}"),
                                                 rule("0.0.0.0/0:*")]) as g:
        ANSWERS["good.test"] = [["93.184.216.34"]]
        assert ask(g, "good.test")[0] == 200
        # Rebinding: good once, then somewhere else. Each connection is looked up and checked anew.
        for bad in ("127.0.0.1", "10.9.9.9", "169.254.169.254", "100.64.1.1", "0.0.0.0", "::1",
                    "fd00::9", "::ffff:127.0.0.1", "64:ff9b::7f00:1"):
            name = "r" + "".join(c for c in bad if c.isalnum()) + ".test"
            ANSWERS[name] = [["93.184.216.34"], [bad]]
            before = server.accepted
            assert ask(g, name)[0] == 200, name
            code, why, text = ask(g, name)
            assert (code, why) == (403, "policy"), (bad, code, text)
            assert server.accepted == before + 1, bad
        # All addresses are bad; one of them is.
        ANSWERS["all.test"] = [["127.0.0.1", "10.9.9.9"]]
        assert ask(g, "all.test")[0] == 403
        ANSWERS["mixed.test"] = [["127.0.0.1", "93.184.216.34"]]
        code, _, _ = ask(g, "mixed.test")
        assert code == 200  # over the public one
        line = g.audit_wait(lambda x: x["name"] == "mixed.test")
        assert line["addr"].startswith("93.184.216.34")
        ANSWERS["six.test"] = [["2a00:1450::1"]]
        assert ask(g, "six.test")[0] == 200
        # Networks that rules name, allowed and denied, IPv6 included.
        g.configure(rules=[rule(f"**.test:{port}"), rule(f"10.0.0.0/8:{port}"),
                           rule(f"[fd00::/8]:{port}"), rule("[2a00::/16]:*", allow=False),
                           rule("93.184.0.0/16:*", allow=False)])
        ANSWERS["ten.test"] = [["10.9.9.9"]]
        ANSWERS["fd.test"] = [["fd00::9"]]
        assert ask(g, "ten.test")[0] == 200
        assert ask(g, "fd.test")[0] == 200
        assert ask(g, "six.test")[0] == 403
        assert ask(g, "good.test")[0] == 403
        # A name without a rule is never looked up.
        ANSWERS["secret-data.elsewhere"] = [["93.184.216.34"]]
        assert ask(g, "secret-data.elsewhere")[0] == 403
        assert "secret-data.elsewhere" not in ASKED
        # A kept connection stays where it is; the next one is checked.
        g.configure(rules=[rule(f"**.test:{port}")])
        ANSWERS["keep.test"] = [["93.184.216.34"], ["10.9.9.9"]]
        c = g.open("keep.test", port)
        assert c.request(host=f"keep.test:{port}")[0] == 200
        assert c.request(host=f"keep.test:{port}")[0] == 200
        assert ask(g, "keep.test")[0] == 403
        check_own_addresses(g, ask, own, port)
        check_datagrams(g, abroad)
    print("rebinding: ok")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(gate_driver.__file__))
    main()
