# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a home of their own with the prepared images, medians, ratios."""
import os
import pty
import select
import shutil
import statistics
import subprocess
import tempfile

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("HUTCH_BUILD", os.path.join(REPO, "build"))
HUTCH = os.path.join(BUILD, "hutch")
DATA = os.environ.get("XDG_DATA_HOME") or os.environ.get("HUTCH_TEST_DATA") or os.path.expanduser(
    "~/.local/share")


class Home:
    """Own state and runtime directories; kernel pack and images are the user's. @engine: None for the
    one that is chosen by itself."""

    def __init__(self, engine=None):
        self.base = tempfile.mkdtemp(prefix="hutch-bench-")
        self.env = dict(os.environ, XDG_DATA_HOME=DATA,
                        HUTCH_SHARE=os.environ.get("HUTCH_SHARE", REPO),
                        XDG_STATE_HOME=os.path.join(self.base, "state"),
                        XDG_RUNTIME_DIR=os.path.join(self.base, "rt"))
        os.mkdir(self.env["XDG_RUNTIME_DIR"], 0o700)
        self.work = os.path.join(self.base, "work")
        os.mkdir(self.work)
        if engine:
            self.env["XDG_CONFIG_HOME"] = os.path.join(self.base, "config")
            os.makedirs(os.path.join(self.base, "config", "hutch"))
            with open(os.path.join(self.base, "config", "hutch", "settings.yaml"), "w") as f:
                f.write("engine: %s\n" % engine)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        boxes = os.path.join(self.base, "state", "hutch", "boxes")
        for name in os.listdir(boxes) if os.path.isdir(boxes) else []:
            self.hutch("rm", "-f", name)
        shutil.rmtree(self.base, ignore_errors=True)

    def hutch(self, *args, check=True):
        return subprocess.run([HUTCH, *args], env=self.env, check=check, timeout=300,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout

    def processes(self, name):
        """Process ids of a running sandbox by program."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                environ = open("/proc/%s/environ" % pid, "rb").read()
                argv = open("/proc/%s/cmdline" % pid).read().split("\0")
            except OSError:
                continue
            if self.base.encode() in environ and (name in argv or "hutch-" + name in argv):
                found[os.path.basename(argv[0])] = int(pid)
        return found


class Prompt:
    """A sandbox whose user sits at a shell's prompt."""

    def __init__(self, stack, engine=None):
        self.home = stack.enter_context(Home(engine))
        self.home.hutch("create", "--name", "prompt", "--cpus", "1", "--memory", "512m", "shell",
                        self.home.work)
        self.master, terminal = pty.openpty()
        shell = subprocess.Popen(
            [HUTCH, "exec", "-it", "prompt", "--", "env", "PS1=prompt> ", "sh", "-i"],
            env=self.home.env, stdin=terminal, stdout=terminal, stderr=terminal)
        stack.callback(shell.wait)
        stack.callback(shell.kill)
        os.close(terminal)
        text = b""
        while b"prompt> " not in text:
            if not select.select([self.master], [], [], 60)[0]:
                raise RuntimeError("no prompt: %r" % text)
            text += os.read(self.master, 4096)
        self.pids = self.home.processes("prompt")  # the command at the terminal included


def busy(pid):
    """Nanoseconds on a processor, of all threads; a guest's are its vCPU threads'."""
    total = 0
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, tid)) as f:
            total += int(f.read().split()[0])
    return total


def report(label, a, b, name_a, name_b, limit=None):
    """Medians of two series taken in turn, and the median of the pairwise ratios."""
    ratio = statistics.median(x / y for x, y in zip(a, b))
    print("%-28s %-24s %.3f s   %-24s %.3f s   ratio %.2f%s" % (
        label, name_a, statistics.median(a), name_b, statistics.median(b), ratio,
        "   (limit %.2f)" % limit if limit else ""))
    return ratio
