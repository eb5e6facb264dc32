# SPDX-License-Identifier: Apache-2.0
"""Datagrams through hutch-gate: by rule, per flow, bounded; no VM."""
import contextlib
import socket
import threading
import time

import pytest

from gate_driver import PATIENCE, UDP_OUT, Gate, Nobody, addr_int, rule


@pytest.fixture
def gate(tmp_path):
    running = []

    def make(**kw):
        g = Gate(str(tmp_path), **kw)
        g.__enter__()
        running.append(g)
        return g

    yield make
    for g in running:
        g.__exit__(None, None, None)


@contextlib.contextmanager
def echo_server(address="127.0.0.1"):
    """Sends back what comes, with who sent it in `seen`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.settimeout(0.2)
    seen, over = [], threading.Event()

    def serve():
        while not over.is_set():
            try:
                data, peer = sock.recvfrom(70000)
            except TimeoutError:
                continue
            seen.append((data, peer))
            sock.sendto(data, peer)

    t = threading.Thread(target=serve)
    t.start()
    try:
        yield sock.getsockname()[1], seen
    finally:
        over.set()
        t.join()
        sock.close()


def udp_lines(g, count=1):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lines = [x for x in g.audit() if x["proto"] == "udp"]
        if len(lines) >= count:
            break
        time.sleep(0.02)
    return lines


def test_by_rule_both_ways(gate):
    with echo_server() as (port, seen):
        g = gate(rules=[rule("udp time.test:123")], resolves={"time.test": f"127.0.0.1:{port}"})
        addr = g.datagram("time.test", 123, b"first")
        assert g.next_datagram() == (40000, addr, 123, b"first")
        for size in (0, 1, 1472, 9000, 65507):
            data = bytes(i % 251 for i in range(size))
            g.datagram("time.test", 123, data)
            assert g.next_datagram() == (40000, addr, 123, data)
        # The guest's ports are flows of their own, each with its answers.
        for guest_port in range(1000, 1100):
            g.datagram(addr, 123, b"%d" % guest_port, guest_port)
            assert g.next_datagram() == (guest_port, addr, 123, b"%d" % guest_port)
        assert len({peer for _, peer in seen}) == 101
        g.configure(rules=[])
        lines = udp_lines(g, 101)
    line = [x for x in lines if x["bytes_up"] > 1000][0]
    assert line["name"] == "time.test" and line["port"] == 123 and line["verdict"] == "deny"
    assert line["addr"] == f"127.0.0.1:{port}"
    assert line["bytes_up"] == line["bytes_down"] == 5 + 1 + 1472 + 9000 + 65507


def test_end_is_recorded(tmp_path):
    with echo_server() as (port, _):
        with Gate(str(tmp_path), rules=[rule("udp time.test:123")],
                  resolves={"time.test": f"127.0.0.1:{port}"}) as g:
            g.datagram("time.test", 123, b"first")
            g.next_datagram()
        line, = udp_lines(g)
        assert line["verdict"] == "allow" and line["rule"] == "udp time.test:123"
        assert line["bytes_up"] == 5 and line["bytes_down"] == 5


def test_refused_without_a_rule(gate):
    g = gate(rules=[rule("time.test:123"), rule("udp other.test:*")])
    for host, port in (("time.test", 123), ("www.test", 443), ("192.0.2.1", 443),
                       ("other.test", 53), ("198.18.200.200", 5000), ("10.0.2.2", 5000)):
        addr = g.datagram(host, port, b"x")
        assert g.next_datagram() == (40000, addr, port, None)
    lines = udp_lines(g, 6)
    assert [x["verdict"] for x in lines] == ["deny"] * 6
    assert "covers tcp only" in lines[0]["reason"]
    assert "no rule allows it" in lines[1]["reason"]
    assert "but 53, which has to be named" in lines[3]["reason"]
    assert "no name" in lines[4]["reason"]
    # QUIC is tried by every browser: no question. The rest may be asked for.
    assert "udp time.test:123" in g.pending(lambda q: "udp time.test:123" in q)
    assert not [q for q in g.pending() if ":443" in q]


def test_refusals_have_a_line_each_and_no_more(gate):
    g = gate()
    addr = g.lookup("www.test")
    begin = time.monotonic()
    for i in range(200):
        g.send_link(UDP_OUT, 1000 + i, addr_int(addr), 443, data=b"x")
    for i in range(200):
        assert g.next_datagram() == (1000 + i, addr, 443, None)
    for i in range(200):
        g.send_link(UDP_OUT, 1000, addr_int(addr), 1000 + i, data=b"x")
    for i in range(200):
        assert g.next_datagram()[3] is None
    seconds = time.monotonic() - begin
    lines = udp_lines(g, 50)
    assert 50 <= len(lines) <= 53 + 10 * seconds  # 50 at once, then 10 in a second
    assert len([x for x in lines if x["port"] == 443]) == 1


def test_this_machine_needs_its_own_rule(gate):
    """(Names that lead to special addresses: ns_rebinding.py.)"""
    with echo_server() as (port, seen):
        # TCP's rules are none for UDP.
        g = gate(rules=[rule("udp **:*"), rule(f"127.0.0.1:{port}"),
                        rule(f"host.hutch.internal:{port}")])
        for host in ("host.hutch.internal", "127.0.0.1"):
            g.datagram(host, port, b"x")
            assert g.next_datagram()[3] is None
        assert not seen
        g.configure(rules=[rule(f"udp host.hutch.internal:{port}"), rule(f"udp 127.0.0.1:{port}")])
        g.datagram("host.hutch.internal", port, b"y")
        assert g.next_datagram()[3] == b"y"
        g.datagram("127.0.0.1", port, b"z")
        assert g.next_datagram()[3] == b"z"


def test_nobody_there(gate):
    gone = Nobody(socket.SOCK_DGRAM)
    g = gate(rules=[rule("udp gone.test:500")], resolves={"gone.test": gone.address})
    addr = g.datagram("gone.test", 500, b"x")
    assert g.next_datagram() == (40000, addr, 500, None)
    gone.__exit__()


def test_new_rules_end_flows_at_once(gate):
    with echo_server() as (port, seen):
        g = gate(rules=[rule("udp time.test:123")], resolves={"time.test": f"127.0.0.1:{port}"})
        addr = g.datagram("time.test", 123, b"x")
        assert g.next_datagram()[3] == b"x"
        g.configure(rules=[rule("udp time.test:123"), rule("udp **:*", allow=False)])
        assert g.next_datagram() == (40000, addr, 123, None)
        g.datagram(addr, 123, b"x")
        assert g.next_datagram()[3] is None
        assert len(seen) == 1


def test_flows_are_bounded(gate):
    with echo_server() as (port, _):
        g = gate(rules=[rule("udp time.test:123")], resolves={"time.test": f"127.0.0.1:{port}"})
        addr = g.lookup("time.test")
        got = []
        for i in range(1100):  # one by one: a buffer of the machine that is full drops some
            g.send_link(UDP_OUT, 1 + i, addr_int(addr), 123, data=b"x")
            got.append(g.next_datagram())
            assert got[-1], i
        assert len([d for d in got if d[3] == b"x"]) == 1024
        assert len([d for d in got if d[3] is None]) == 76
        # Who has one keeps it.
        g.datagram(addr, 123, b"again", 1)
        assert g.next_datagram()[3] == b"again"
        assert "too many flows" in udp_lines(g)[0]["reason"]


def test_malformed_messages_are_harmless(gate):
    g = gate(rules=[rule("udp 127.0.0.1:*")])
    g.send_link(UDP_OUT, 0, addr_int("127.0.0.1"), 123, data=b"x")
    g.send_link(UDP_OUT, 1 << 20, addr_int("127.0.0.1"), 123, data=b"x")
    g.send_link(UDP_OUT, 5, addr_int("127.0.0.1"), 0, data=b"x")
    g.send_link(13, 5, addr_int("127.0.0.1"), 5, data=b"x")
    g.send_link(14, 5, addr_int("127.0.0.1"), 5)
    with echo_server() as (port, _):
        g.datagram("127.0.0.1", port, b"fine")
        assert g.next_datagram()[3] == b"fine"
