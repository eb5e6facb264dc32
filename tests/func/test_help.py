# SPDX-License-Identifier: Apache-2.0
"""What --help says is so: every command, subcommand and option of it exists."""
import re
import subprocess

from conftest import HUTCH


def ask(*words):
    return subprocess.run([str(HUTCH), *words], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)


def listed(text):
    """The names that a page lists: "  name   what it is"."""
    return re.findall(r"^  (?!hutch )([a-z]+) +\S", text, re.M)


def test_every_page_of_help_tells_the_truth():
    commands = listed(ask("--help").stdout)
    pages = []
    assert {"run", "policy", "doctor"} <= set(commands)
    for name in commands:
        r = ask(name, "--help")
        assert r.returncode == 0 and not r.stderr and f"usage: hutch {name}" in r.stdout, r
        verbs = [] if re.search(rf"usage: hutch {name}( \[|$| [A-Z])", r.stdout, re.M) else listed(r.stdout)
        pages += [(name, verb) for verb in verbs] or [(name,)]
    assert ("policy", "suggest") in pages and ("kit", "cache") in pages and ("rm",) in pages
    for page in pages:
        r = ask(*page, "--help")
        assert r.returncode == 0 and f"usage: hutch {' '.join(page)}" in r.stdout, r
        assert all(len(line) <= 120 for line in r.stdout.splitlines()), r.stdout
        for option in set(re.findall(r"(?<=[ \[,])--[a-z][a-z-]+", r.stdout)):
            # What follows is a value for it, or an option that nobody knows: nothing is done.
            said = ask(*page, option, "--no-such-option", "--no-such-option")
            assert said.returncode == 125, (page, option, said)
            assert f"{option}: no such option" not in said.stderr, (page, option)
            assert said.stderr, (page, option)


def test_help_in_the_wrong_place_says_where_it_goes():
    r = ask("run", "--name", "x", "--help")
    assert r.returncode == 125 and "hutch run --help" in r.stderr
    r = ask("kit", "validate", "--json", "--help")
    assert r.returncode == 125 and "hutch kit validate --help" in r.stderr


def test_help_of_a_command():
    assert ask("help", "policy").stdout == ask("policy", "--help").stdout
    assert ask("help", "policy", "allow").stdout == ask("policy", "allow", "--help").stdout
    r = ask("help", "polcy")
    assert r.returncode == 125 and not r.stdout and "did you mean policy?" in r.stderr


def test_usage_is_of_the_subcommand():
    for words in (["policy", "allow"], ["policy", "suggest"], ["secret", "set"], ["kit", "push"],
                  ["image", "pull"], ["kit", "cache", "x"], ["secret", "import", "a", "b"]):
        r = ask(*words)
        assert r.returncode == 125 and r.stderr.startswith(f"usage: hutch {words[0]} {words[1]}"), r
        assert r.stderr.count("\n") == 1, r.stderr
