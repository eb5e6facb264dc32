# SPDX-License-Identifier: Apache-2.0
"""Kits without a sandbox: the examples of docs/kits.md, what comes with Hutch, arguments, composition."""
import json
import os
import re
import subprocess

import pytest
import yaml

from conftest import HUTCH, REPO

DOCS = os.path.join(REPO, "docs", "kits.md")
HEAD = 'schemaVersion: "2"\nkind: %s\nname: example\n'
SANDBOXES = ["shell", "claude", "codex", "gemini", "opencode", "copilot"]
MIXINS = ["github", "python", "node", "go", "rust", "docker", "playwright"]


def examples():
    """Each fenced block with the heading above it and the line that it begins at."""
    text = open(DOCS).read()
    for m in re.finditer(r"^```yaml\n(.*?)^```$", text, re.S | re.M):
        heading = re.findall(r"^## (.*)$", text[:m.start()], re.M)[-1]
        if heading == "testdata/" and not m.group(1).startswith("schemaVersion"):
            continue  # test_kit_test.py runs it
        yield heading, text[:m.start()].count("\n") + 1, m.group(1)


def whole(text):
    if text.startswith("schemaVersion"):
        return text
    return HEAD % ("sandbox" if re.search(r"^sandbox:", text, re.M) else "mixin") + text


def write(home, name, text):
    path = home.path(name)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "spec.yaml"), "w") as f:
        f.write(text)
    return path


@pytest.mark.parametrize("heading,line,text", examples(), ids=lambda v: str(v)[:20])
def test_documented_example(home, heading, line, text):
    path = write(home, "example", whole(text))
    r = home.run("kit", "validate", path, "--json")
    answer = json.loads(r.stdout)
    assert r.returncode == 0 and answer["ok"], (DOCS, line, answer["errors"])
    if 'schemaVersion: "3"' in text or re.search(r"^ +image: (?!base$)", text, re.M):
        return  # an image in a registry would be looked up: test_image.py
    work = home.path("work")
    os.makedirs(work)
    base = [path] if re.search(r"^(sandbox|agent):", text, re.M) else ["--kit", path, "shell"]
    needed = re.findall(r"^  (\w+):\n    required: true$", text, re.M)
    values = [word for name in needed for word in ("--kit-arg", name + "=value")]
    r = home.run("run", "--dry-run", "--json", *values, *base, work)
    assert r.returncode == 0, (line, r.stderr)
    plan = json.loads(r.stdout)
    assert answer["kit"]["name"] in plan["kits"]


def shapes(schema):
    return [schema, *schema.get("anyOf", []), *schema.get("oneOf", [])]


def fields(schema, at=""):
    """The paths of all keys that a schema has: a[].b of lists, a.*.b of maps with free keys."""
    for s in shapes(schema):
        for key, value in s.get("properties", {}).items():
            yield at + key
            yield from fields(value, at + key + ".")
        for word, mark in (("items", at[:-1] + "[]."), ("additionalProperties", at + "*.")):
            if isinstance(s.get(word), dict):
                yield from fields(s[word], mark)


def used(value, schema, at=""):
    """The paths, as above, that a document has."""
    for s in shapes(schema):
        free = s.get("additionalProperties")
        if isinstance(value, list) and "items" in s:
            for v in value:
                yield from used(v, s["items"], at[:-1] + "[].")
        for key, v in value.items() if isinstance(value, dict) else ():
            if key in s.get("properties", {}):
                yield at + key
                yield from used(v, s["properties"][key], at + key + ".")
            elif isinstance(free, dict):
                yield from used(v, free, at + "*.")


def test_every_field_has_an_example():
    """A key that the grammar has stands in an example; the schema is made of the loader's tables."""
    schema = json.loads(subprocess.run([HUTCH, "kit", "schema", "2"], capture_output=True,
                                       check=True).stdout)
    shown = set()
    for _, _, text in examples():
        document = yaml.safe_load(whole(text))
        if document["schemaVersion"] == "2":
            shown.update(used(document, schema))
    assert sorted(set(fields(schema)) - shown) == []
    assert len(shown) > 100


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_schema(home, version):
    r = home.run("kit", "schema", version)
    schema = json.loads(r.stdout)
    assert r.returncode == 0 and schema["properties"]["schemaVersion"] == {"const": version}
    assert schema["additionalProperties"] is False
    assert home.run("kit", "schema", "4").returncode == 125


@pytest.mark.parametrize("kit", SANDBOXES + MIXINS)
def test_built_in_kit(home, kit):
    work = home.path("work")
    os.makedirs(work)
    assert home.run("kit", "validate", kit).returncode == 0
    base = [kit] if kit in SANDBOXES else ["--kit", kit, "shell"]
    r = home.run("run", "--dry-run", "--json", *base, work)
    assert r.returncode == 0, r.stderr
    plan = json.loads(r.stdout)
    assert plan["image"] == "base" and kit in plan["kits"]
    for rule in plan["network"]["rules"]:  # registries by wildcard, no mirror by name
        assert not re.search(r"\b(deb|registry|mirror|archive)\.", rule["target"]), rule


def test_all_built_in_mixins_together(home):
    work = home.path("work")
    os.makedirs(work)
    for base in SANDBOXES:
        args = [a for m in MIXINS for a in ("--kit", m)]
        r = home.run("run", "--dry-run", *args, base, work)
        assert r.returncode == 0, r.stderr


def test_init(home):
    r = home.run("kit", "init", home.path("my-kit"))
    assert r.returncode == 0, r.stderr
    assert home.run("kit", "validate", home.path("my-kit")).returncode == 0
    assert "there already" in home.run("kit", "init", home.path("my-kit")).stderr
    assert "not a kit name" in home.run("kit", "init", home.path("My Kit")).stderr


ARGS = HEAD % "mixin" + """args:
  version: {default: "1.0", pattern: '[0-9]+\\.[0-9]+'}
  who: {required: true}
environment:
  variables:
    VERSION: "${{ kit.args.version }}"
    WHO: "${{ kit.args.who }}"
"""


def plan_env(home, *args):
    work = home.path("work")
    os.makedirs(work, exist_ok=True)
    r = home.run("run", "--dry-run", "--json", "--kit", home.path("k"), *args, "shell", work)
    return r, json.loads(r.stdout)["env"] if r.returncode == 0 else None


def test_arguments(home):
    write(home, "k", ARGS)
    assert home.run("kit", "validate", home.path("k")).returncode == 0  # declarations only
    r, _ = plan_env(home)
    assert "spec.yaml:6:3: args.who: has no value" in r.stderr
    r, env = plan_env(home, "--kit-arg", "who=me")
    assert "WHO=me" in env and "VERSION=1.0" in env
    r, env = plan_env(home, "--kit-arg", "example.who=you", "--kit-arg", "version=2.5")
    assert "WHO=you" in env and "VERSION=2.5" in env
    r, _ = plan_env(home, "--kit-arg", "who=x", "--kit-arg", "version=abc")
    assert "does not match the pattern" in r.stderr
    r, _ = plan_env(home, "--kit-arg", "who=x", "--kit-arg", "other=1")
    assert "argument other: no kit here declares it" in r.stderr
    with open(home.path("args.yaml"), "w") as f:
        f.write("who: file\nexample: {version: '9.9'}\n")
    r, env = plan_env(home, "--kit-args-file", home.path("args.yaml"), "--kit-arg", "who=line")
    assert "WHO=line" in env and "VERSION=9.9" in env


def test_arguments_are_text(home):
    """"1.20" without quotes is a number to YAML: the message names the cure, at its place."""
    write(home, "k", HEAD % "mixin" + "args: {v: {default: '1.20'}}\nversion: ${{ kit.args.v }}\n")
    r = home.run("kit", "validate", home.path("k"))
    assert 'spec.yaml:5:10: version: YAML takes 1.20 for a number, expected a string: quote it, "1.20"' \
        in r.stdout


def test_inspect_names_origins(home):
    write(home, "base", HEAD.replace("example", "base") % "sandbox" + """extends: shell
sandbox: {entrypoint: [python3], command: []}
environment: {variables: {A: base, B: base}}
""")
    write(home, "m", HEAD.replace("example", "m") % "mixin" + "environment: {variables: {B: m}}\n")
    r = home.run("kit", "inspect", home.path("base"), "--kit", home.path("m"))
    assert r.returncode == 0, r.stderr
    lines = r.stdout
    assert "A=base, kit base" in lines and "B=m, kit m" in lines
    assert "python3, kit base" in lines and "base, kit shell" in lines
    r = home.run("kit", "inspect", home.path("base"), "--kit", home.path("m"), "--json")
    answer = json.loads(r.stdout)
    assert [k["name"] for k in answer["kits"]] == ["shell", "base", "m"]
    assert {"what": "env B", "from": "kit m"} in answer["plan"]["origins"]


def test_resolve_schema_3(home):
    d3 = 'schemaVersion: "3"\nkind: %s\n'
    for name, text in (("w", d3 % "workload" + 'provides: ["shell@1.0"]\n'),
                       ("b", d3 % "mixin" + 'requires: ["a >= 2.0, < 3.0"]\n'),
                       ("a", d3 % "mixin" + 'requires: [shell]\nprovides: ["a@2.1"]\n')):
        with open(home.path(name + ".yaml"), "w") as f:
            f.write(text)
    w, a, b = (home.path(n + ".yaml") for n in "wab")
    r = home.run("kit", "inspect", w, "--kit", b, "--kit", a, "--json")
    assert [k["name"] for k in json.loads(r.stdout)["kits"]] == ["w", "a", "b"]
    r = home.run("kit", "inspect", w, "--kit", b)
    assert "kit b: requires a, which no kit here provides" in r.stderr
    r = home.run("run", "--dry-run", w, home.project)
    assert r.returncode == 125 and "a workload is an image" in r.stderr
    r = home.run("kit", "inspect", w, "--kit", "python")
    assert "do not combine" in r.stderr
