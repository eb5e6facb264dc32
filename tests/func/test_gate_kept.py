# SPDX-License-Identifier: Apache-2.0
"""Values that hutch-gate uses again: never one that was revoked or changed before the request."""
import contextlib
import os
import select
import signal
import socket
import threading
import time

import pytest

from conftest import memory_has, wait_for
from gate_driver import PATIENCE, HttpServer, Secret, credential, rule
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)
from test_gate_values import FAILED, HEAD, HOST, LASTING, NONE, VALUE, WATCH, Request, World, conn


class Watch:
    """What hutch-secret gives the gate; the test plays it."""

    def __init__(self, broker):
        self.broker = broker
        self.pending, self.changed = os.eventfd(0), os.eventfd(0)
        self.give(self.pending, self.changed)

    def give(self, *fds, kind=WATCH, ident=0, data=b""):
        socket.send_fds(self.broker.sock, [HEAD.pack(kind, 0, ident, len(data)) + data], fds)

    def close(self):
        os.close(self.pending)
        os.close(self.changed)


@pytest.fixture
def world(gate, serve, pki):
    w = World(gate, serve, pki)
    w.watch = Watch(w.broker)
    yield w
    w.watch.close()


def asked(world, c, data, kind=LASTING, status=200):
    """A request that waits for its own answer."""
    r = Request(c, headers=["X-svc: proxy-managed"])
    ident, _ = world.broker.question()
    world.answered = time.monotonic(), kind, data  # not before: the gate's second is no shorter
    world.broker.answer(ident, kind, data)
    assert r.result()[0] == status


def unasked(world, c):
    """A request that is served without a question, or one that comes too late for that. Which?"""
    when, kind, data = world.answered
    r = Request(c, headers=["X-svc: proxy-managed"])
    while r.is_alive() and world.broker.quiet(0.01):
        pass
    late = not world.broker.quiet(0)
    if late:
        assert time.monotonic() - when > 0.9
        ident, _ = world.broker.question()
        world.answered = time.monotonic(), kind, data
        world.broker.answer(ident, kind, data)
    assert r.result()[0] == 200
    return not late


def is_kept(world, c):
    return any(unasked(world, c) for _ in range(20))


def steps(world):
    """What the server saw, without repetitions."""
    got = world.got()
    return [g for i, g in enumerate(got) if i == 0 or g != got[i - 1]]


@pytest.mark.parametrize("kind,data", [(LASTING, b"one"), (NONE, b"")], ids=["value", "none"])
def test_lasting_answer_serves_the_next_requests(world, kind, data):
    g = world.gate()
    c = conn(g)
    asked(world, c, data, kind)
    assert is_kept(world, c)
    # Not for ever, however often it is used.
    wait_for(lambda: not unasked(world, c), what="another question")
    assert steps(world) == [data.decode() or None]


@pytest.mark.parametrize("kind,status", [(VALUE, 200), (FAILED, 403)], ids=["value", "failed"])
def test_other_answers_are_used_once(world, kind, status):
    g = world.gate()
    for value in (b"one", b"two"):
        asked(world, conn(g), value, kind, status)


@pytest.mark.parametrize("which", ["pending", "changed"])
def test_change_is_seen_by_the_next_request(world, which):
    g = world.gate()
    c = conn(g)
    asked(world, c, b"one")
    assert is_kept(world, c)
    os.eventfd_write(getattr(world.watch, which), 1)
    asked(world, c, b"two")
    if which == "changed":
        assert is_kept(world, c)
        assert steps(world) == ["one", "two"]
    else:  # until hutch-secret takes notice
        asked(world, c, b"three")
        os.eventfd_write(world.watch.changed, 1)
        os.eventfd_read(world.watch.pending)
        asked(world, c, b"four")
        assert is_kept(world, c)
        assert steps(world) == ["one", "two", "three", "four"]


def test_question_from_before_a_change_is_not_shared(world):
    """Its answer may be on the way already, with the old value."""
    g = world.gate()
    a, b = conn(g), conn(g)
    before = Request(a)
    old, _ = world.broker.question()
    os.eventfd_write(world.watch.changed, 1)
    after = Request(b)
    assert world.broker.quiet()
    world.broker.answer(old, LASTING, b"old")
    assert before.result()[0] == 200
    world.broker.answer(world.broker.question()[0], LASTING, b"new")
    assert after.result()[0] == 200
    assert world.got() == ["old", "new"]


def test_answer_that_lasts_serves_those_who_came_after_the_question(world):
    g = world.gate()
    requests = [Request(conn(g)) for _ in range(4)]
    ident, _ = world.broker.question()
    assert world.broker.quiet()
    world.broker.answer(ident, LASTING, b"one")
    while any(r.is_alive() for r in requests):
        if not world.broker.quiet(0.05):  # one that was late
            world.broker.answer(world.broker.question()[0], LASTING, b"one")
    assert [r.result()[0] for r in requests] == [200] * 4
    assert world.got() == ["one"] * 4


def test_nothing_is_used_when_hutch_secret_has_gone(world):
    g = world.gate()
    c = conn(g)
    asked(world, c, b"one")
    world.broker.sock.close()
    assert c.request()[0] == 403
    assert world.got() == ["one"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_watch_has_two_descriptors_and_comes_once(world, count):
    g = world.gate()
    c = conn(g)
    asked(world, c, b"one")
    world.watch.give(*[world.watch.changed] * count)
    wait_for(lambda: c.request()[0] == 403, what="the link to end")
    assert steps(world) == ["one"]


def test_descriptors_in_an_answer_end_the_link(world):
    g = world.gate()
    r = Request(conn(g))
    ident, _ = world.broker.question()
    world.watch.give(world.watch.pending, kind=VALUE, ident=ident, data=b"v")
    assert r.result()[0] == 403
    assert not world.server.requests


# ---- with hutch-secret and a store ----


class Live:
    """A gate, its hutch-secret, and connections that never stop asking: so a value is always kept."""

    def __init__(self, path, gate, serve, pki):
        self.dir = path
        self.server = serve(HttpServer(tls=pki.context()))
        self.secret = Secret(str(path), ["svc"])
        self.gate = gate(rules=[rule(HOST)], resolves={HOST: self.server.address},
                         credentials=[credential("svc", HOST, header="X-svc", fmt="%s")],
                         broker=self.secret)
        self.secret.given()
        self.going, self.conn = True, None
        self.noise = [threading.Thread(target=self.ask_on, daemon=True) for _ in range(3)]

    def ask_on(self):
        while self.going:
            with contextlib.suppress(AssertionError, OSError):
                c = conn(self.gate)
                while self.going:
                    c.request(path="/noise")

    def begin(self):
        self.conn = conn(self.gate)
        for t in self.noise:
            t.start()

    def end(self):
        self.going = False
        for t in self.noise:
            if t.ident:
                t.join()

    def got(self):
        """What one request carries."""
        code = self.conn.request(path="/this", headers=["X-svc: proxy-managed"])[0]
        assert code == 200
        return [r for r in self.server.requests if r.path == "/this"][-1].headers.get("x-svc")

    def put(self, name, text):
        """As hutch secret set does."""
        tmp = os.path.join(self.gate.secret_dir, ".tmp")
        with open(tmp, "w") as f:
            f.write(text)
        os.rename(tmp, os.path.join(self.gate.secret_dir, name))


@pytest.fixture
def live(tmp_path, gate, serve, pki):
    world = Live(tmp_path, gate, serve, pki)
    yield world
    world.end()


def test_rotation_acts_on_the_very_next_request(live):
    live.put("svc", "value-0")
    live.begin()
    assert live.got() == "value-0"
    for i in range(1, 100):
        live.put("svc", "value-%d" % i)
        assert live.got() == "value-%d" % i


def test_revocation_acts_on_the_very_next_request(live):
    live.put("svc", "value")
    live.begin()
    for i in range(50):
        assert live.got() == "value"
        live.gate.remove_secret("svc")
        assert live.got() is None
        live.put("svc", "value")


def test_writing_in_place_and_own_values(live):
    live.put("svc", "value-0")
    live.begin()
    own = os.path.join(live.gate.own_dir, "svc")
    for i in range(50):
        with open(os.path.join(live.gate.secret_dir, "svc"), "r+") as f:
            f.write("value-%d" % (i % 10))
        assert live.got() == "value-%d" % (i % 10)
        with open(own + ".new", "w") as f:
            f.write("mine")
        os.rename(own + ".new", own)
        assert live.got() == "mine"
        os.rename(own, own + ".away")
        assert live.got() == "value-%d" % (i % 10)


def test_files_that_a_reference_names(live):
    """They can be anywhere, so they are read for each request."""
    token, link = live.dir / "token", live.dir / "link"
    (live.dir / "other").write_text("other")
    token.write_text("token-0")
    link.symlink_to(token)
    live.put("svc", "\0hutch-source\nfile:%s\n300 %d" % (link, time.time_ns()))
    live.begin()
    assert live.got() == "token-0"
    for i in range(1, 30):
        (live.dir / "new").write_text("token-%d" % i)
        os.rename(live.dir / "new", token)
        assert live.got() == "token-%d" % i
    link.unlink()
    link.symlink_to(live.dir / "other")
    assert live.got() == "other"


def test_change_that_hutch_secret_has_not_seen(live):
    """It is stopped: the request waits for it, rather than to go out with what was true before."""
    live.put("svc", "old")
    live.conn = conn(live.gate)
    assert live.got() == "old"
    live.secret.proc.send_signal(signal.SIGSTOP)
    try:
        live.put("svc", "new")
        r = Request(live.conn, path="/this")
        r.join(0.3)
    finally:
        live.secret.proc.send_signal(signal.SIGCONT)
    assert r.result()[0] == 200
    assert [q.headers.get("x-svc") for q in live.server.requests] == ["old", "new"]


def test_gate_is_told_before_a_change_is_taken_notice_of(tmp_path):
    """Whoever looks at the one and then at the other cannot miss it."""
    s = Secret(str(tmp_path), ["svc"])
    s.sock.settimeout(PATIENCE)
    pending, changed = socket.recv_fds(s.sock, 1000, 8)[1]
    os.set_blocking(changed, False)
    look = select.poll()
    look.register(pending, select.POLLIN)
    for i in range(300):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(changed)
        (tmp_path / "secrets" / ("name%d" % (i % 3))).write_text("x")
        while look.poll(0):
            pass
        os.eventfd_read(changed)
    os.close(pending)
    os.close(changed)
    s.sock.close()
    assert s.ended() == 0


def test_value_leaves_the_gates_memory(tmp_path, gate, serve, pki):
    """At once when it is removed, after a moment when nobody uses it."""
    if os.getuid() != 0:
        pytest.skip("looking into the gate's memory needs root")
    live = Live(tmp_path, gate, serve, pki)
    pid = live.gate.proc.pid
    for i, remove in enumerate((True, False)):
        needle = "needle-%d-end" % (40000 + i)
        live.put("svc", needle)
        live.conn = conn(live.gate)
        assert live.got() == needle
        if remove:
            live.gate.remove_secret("svc")
        wait_for(lambda: not memory_has(pid, needle.encode()), what="the value to be wiped")
