# SPDX-License-Identifier: Apache-2.0
"""Commands in a sandbox: output, input, status, signals, terminals, the workspace."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from conftest import HUTCH, PATIENCE, wait_for


def test_kernel_is_not_the_hosts(box):
    home, name, _ = box
    assert home.ok("exec", name, "--", "uname", "-r").strip() != os.uname().release


def test_agent_user_may_become_root(box):
    home, name, _ = box
    assert home.ok("exec", name, "--", "id", "-un").strip() == "agent"
    assert home.ok("exec", name, "--", "sudo", "id", "-u").strip() == "0"
    assert home.ok("exec", "-u", "root", name, "--", "id", "-u").strip() == "0"


def test_exit_status(box):
    home, name, _ = box
    assert home.run("exec", name, "--", "sh", "-c", "exit 7").returncode == 7
    assert home.run("exec", name, "--", "sh", "-c", "kill -TERM $$").returncode == 128 + 15
    r = home.run("exec", name, "--", "no-such-command")
    assert r.returncode == 127 and "no-such-command" in r.stderr
    assert home.run("exec", name, "--", "/etc/passwd").returncode == 126


def test_out_of_memory_is_noticed(home):
    """A program that creeps up to the limit, alone, makes the kernel evict the program's own text and wait
    for room to read it again: without PID 1's help that lasts for minutes, if it ends at all."""
    work = home.path("work")
    os.makedirs(work)
    home.ok("create", "--name", "small", "--memory", "512m", "shell", work)
    for _ in range(3):
        r = home.run("exec", "small", "--", "tail", "/dev/zero")
        assert r.returncode == 128 + signal.SIGKILL
        assert "ran out of memory" in r.stderr
    r = home.run("exec", "small", "--", "sh", "-c", "kill -9 $$")
    assert r.returncode == 128 + signal.SIGKILL and r.stderr == ""
    assert home.ok("exec", "small", "--", "echo", "still") == "still\n"


def test_fork_bomb_starves_nobody(home):
    """One command takes all processes it may have, which are not all there are; another one still gets its
    share of the processor, and the machine ends by itself when it is asked to."""
    work = home.path("work")
    os.makedirs(work)
    home.ok("create", "--name", "bomb", "--memory", "512m", "shell", work)

    def groups(what):
        return home.ok("exec", "bomb", "--", "sh", "-c", "cd /sys/fs/cgroup/commands; " + what)

    # Of those that ran before nothing is left, and each sees its own below what it takes for the root.
    before, after = [groups("echo [0-9]*; cat /proc/self/cgroup").split() for _ in range(2)]
    assert len(after) == 2 and after != before, (before, after)
    assert after[1] == "0::/commands/" + after[0]
    bomb = home.popen("exec", "-u", "root", "bomb", "--", "bash", "-c", "f() { f | f & }; f; sleep 9999",
                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: re.search("max [1-9]", groups("cat */pids.events")), 240, "the bomb at its limit")
    assert groups("echo ours") == "ours\n"
    assert groups("sh -c 'echo ours'; true") == "ours\n"  # it can have processes of its own
    home.ok("stop", "bomb")
    assert bomb.wait(PATIENCE) != 0
    with open(home.box("bomb", "console.log"), errors="replace") as f:
        assert f.read().rstrip().endswith("reboot: Restarting system")


def test_environment_and_directory(box):
    home, name, work = box
    out = home.ok("exec", "-e", "A=1", "-e", "B=x y", "-w", "/usr", name, "--", "sh", "-c",
                  'echo "$A|$B|$PWD|$HOME|$USER"')
    assert out == "1|x y|/usr|/home/agent|agent\n"
    assert home.ok("exec", name, "--", "pwd").strip() == work
    for bad in ("=x", "A B=c", "1A=x", "NOT_SET_HERE"):
        r = home.run("exec", "-e", bad, name, "--", "true")
        assert r.returncode == 125 and f"-e {bad.split('=')[0]}: not " in r.stderr, r.stderr


def test_stdout_and_stderr_are_apart(box):
    home, name, _ = box
    r = home.run("exec", name, "--", "sh", "-c", "echo out; echo err >&2")
    assert (r.stdout, r.stderr) == ("out\n", "err\n")


def test_without_i_input_is_empty(box):
    home, name, _ = box
    assert home.run("exec", name, "--", "cat", input="not for you\n").stdout == ""


def test_100_mb_through_stdin_and_stdout(box):
    home, name, _ = box
    data = os.urandom(1 << 20) * 100
    r = home.run("exec", "-i", name, "--", "cat", input=data, timeout=300)
    assert r.returncode == 0
    assert len(r.stdout) == len(data)
    assert r.stdout == data


def test_input_that_nobody_reads_does_not_delay_a_signal(box):
    home, name, _ = box
    p = home.popen("exec", "-i", name, "--", "sleep", "600", stdin=subprocess.PIPE,
                   stdout=subprocess.DEVNULL)
    os.set_blocking(p.stdin.fileno(), False)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            os.write(p.stdin.fileno(), b"x" * 65536)
        except BlockingIOError:
            time.sleep(0.1)
    p.send_signal(signal.SIGTERM)
    assert p.wait(PATIENCE) == 128 + 15
    p.stdin.close()


def blocks(pid, sig):
    with open(f"/proc/{pid}/status") as f:
        return next(int(x.split()[1], 16) for x in f if x.startswith("SigBlk")) >> (sig - 1) & 1


def test_signals_where_the_sandbox_does_not_answer(box):
    home, name, _ = box
    qemu = home.workers(name)["qemu"]
    begun = home.popen("exec", name, "--", "sh", "-c", "trap '' TERM INT; echo go; exec sleep 600",
                       stdout=subprocess.PIPE, text=True)
    assert begun.stdout.readline() == "go\n"
    begun.send_signal(signal.SIGTERM)  # one is the command's, which ignores it
    os.kill(qemu, signal.SIGSTOP)
    try:
        waiting = home.popen("exec", name, "--", "true")
        wait_for(lambda: blocks(waiting.pid, signal.SIGTERM), what="the request")
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(PATIENCE) == 128 + 15
        assert begun.poll() is None
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):  # so many are meant for us
            begun.send_signal(sig)
        assert begun.wait(PATIENCE) != 0  # by the last of them, or a status that says so
    finally:
        os.kill(qemu, signal.SIGCONT)
        begun.kill()
        waiting.kill()
    assert home.ok("exec", name, "--", "echo", "on") == "on\n"


def test_killed_client_ends_the_command(box):
    home, name, _ = box
    p = home.popen("exec", name, "--", "sleep", "4242", stdout=subprocess.DEVNULL)
    seen = lambda: "4242" in home.run("exec", name, "--", "pgrep", "-fa", "^sleep 4242").stdout
    wait_for(seen, what="the command to start")
    p.kill()
    p.wait()
    wait_for(lambda: not seen(), what="the command to end")


def test_output_that_cannot_be_written(box):
    home, name, _ = box
    with open("/dev/full", "w") as full:
        r = subprocess.run([HUTCH, "exec", name, "--", "sh", "-c", "echo x; sleep 60"], env=home.env,
                           stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 125 and "standard output: No space left" in r.stderr


def test_output_to_a_pipe_that_does_not_block(box):
    """Other programs may have made it so: what does not fit waits."""
    home, name, _ = box
    r, w = os.pipe()
    os.set_blocking(w, False)
    with home.popen("exec", name, "--", "seq", "100000", stdin=subprocess.DEVNULL, stdout=w) as p:
        os.close(w)
        time.sleep(1)  # it fills up
        with open(r, "rb") as f:
            assert f.read() == b"".join(b"%d\n" % i for i in range(1, 100001))
    assert p.returncode == 0


def test_output_that_nobody_reads_ends_the_command(box):
    home, name, _ = box
    r = subprocess.run(["sh", "-c", '"$0" exec "$1" -- yes hutch | head -2', HUTCH, name],
                       env=home.env, capture_output=True, text=True, timeout=240)
    assert r.stdout == "hutch\nhutch\n", r.stderr
    wait_for(lambda: home.run("exec", name, "--", "pgrep", "-x", "yes").returncode == 1,
             what="the command to end")


def read_until(fd, text):
    data = b""
    end = time.monotonic() + PATIENCE
    while text not in data:
        left = end - time.monotonic()
        assert left > 0, data
        if select.select([fd], [], [], left)[0]:
            try:
                chunk = os.read(fd, 4096)
            except OSError:
                chunk = b""
            assert chunk, data
            data += chunk
    return data


def test_terminal(box):
    """A terminal inside: size, resize, Ctrl-C, exit status."""
    import fcntl
    import struct
    import termios
    home, name, _ = box
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(HUTCH, [HUTCH, "exec", "-it", name, "--", "bash", "--norc"], home.env)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    os.kill(pid, signal.SIGWINCH)
    read_until(fd, b"$ ")
    os.write(fd, b"stty size; tty\n")
    assert b"33 99" in read_until(fd, b"/dev/pts/")
    os.write(fd, b"sleep 301\n")
    wait_for(lambda: home.run("exec", name, "--", "pgrep", "-fx", "sleep 301").returncode == 0, what="sleep")
    os.write(fd, b"\x03")
    read_until(fd, b"^C")
    os.write(fd, b"echo status $?\n")
    read_until(fd, b"status 130")
    os.write(fd, b"exit 5\n")
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 5
    os.close(fd)


def test_workspace_both_ways(box):
    home, name, work = box
    with open(os.path.join(work, "from-host"), "w") as f:
        f.write("hello\n")
    home.ok("exec", name, "--", "sh", "-c", "cp from-host from-guest; sudo touch from-root")
    for made in ("from-guest", "from-root"):
        st = os.stat(os.path.join(work, made))
        assert (st.st_uid, st.st_gid) == (os.getuid(), os.getgid())
    assert open(os.path.join(work, "from-guest")).read() == "hello\n"


def test_workspace_has_no_way_out(box):
    home, name, work = box
    secret = os.path.join(os.path.dirname(work), "outside")
    with open(secret, "w") as f:
        f.write("private\n")
    os.symlink(secret, os.path.join(work, "link"))
    r = home.run("exec", name, "--", "cat", "link")
    assert r.returncode != 0 and "private" not in r.stdout
    r = home.run("exec", name, "--", "sh", "-c", "cat ../outside; ls ..")
    assert "private" not in r.stdout and "outside" not in r.stdout


def test_run_rm_prints_the_guest_kernel_and_leaves_nothing(home):
    work = home.path("w")
    os.makedirs(work)
    r = home.run("run", "--rm", "shell", work, "--", "-c", "uname -r; exit 3")
    assert r.returncode == 3, r.stderr
    assert r.stdout.strip() and r.stdout.strip() != os.uname().release
    assert os.listdir(home.path("state", "hutch", "boxes")) == []
    assert os.listdir(os.path.join(home.runtime, "hutch")) == []


def test_stop_start_keeps_the_disk(home):
    work = home.path("w")
    os.makedirs(work)
    home.ok("create", "--name", "keep", "shell", work)
    home.ok("exec", "keep", "--", "sh", "-c", "echo data > ~/file; sync")
    home.ok("stop", "keep")
    assert home.state("keep") == "stopped"
    assert home.ok("exec", "keep", "--", "cat", "/home/agent/file") == "data\n"
    assert home.state("keep") == "ready"


def test_read_only_workspace(home):
    work = home.path("w")
    os.makedirs(work)
    r = home.run("run", "--rm", "shell", work + ":ro", "--", "-c", "touch x || sudo touch y")
    assert r.returncode != 0
    assert os.listdir(work) == []


def test_no_workspace(home):
    """Not even the current directory is shared."""
    plan = json.loads(home.ok("run", "--dry-run", "--json", "--no-workspace", "shell", cwd=home.project))
    assert plan["mounts"] == [] and plan["workdir"] == "/home/agent" and plan["name"] == "shell"
    text = home.ok("run", "--dry-run", "--no-workspace", "shell")
    assert "/home/agent, the sandbox's own, starts here" in text
    r = home.run("run", "--dry-run", "--no-workspace", "shell", home.project)
    assert r.returncode == 125 and "--no-workspace, and " + home.project in r.stderr
