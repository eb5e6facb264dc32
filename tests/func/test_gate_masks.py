# SPDX-License-Identifier: Apache-2.0
"""hutch-gate: a guest that helps a server which repeats what it is sent to get past the masks."""
import base64
import json
import re

import pytest

from gate_driver import credential, send_response
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)
from test_gate_credentials import HOST, PLACEHOLDER, VALUE, placeholder, world  # noqa: F401


def stars(value=VALUE):
    return "*" * len(value)


def echo_fields(world):
    """The server repeats all fields, as JSON."""
    world.reply(lambda r: send_response(r, json.dumps(dict(r.headers)).encode()))


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_many_forms_of_a_value_leave_none_unmasked(world):  # noqa: F811
    """What the guest puts around the value must not use up what can be looked for."""
    world.start(placeholder(), secrets={"svc": VALUE})
    echo_fields(world)
    pairs = [f"X-{i}: " + basic(f"user-{i}:{PLACEHOLDER}") for i in range(60)]
    code, _, body = world.request(headers=pairs + [f"X-Plain: {PLACEHOLDER}"])
    assert code == 200 and json.loads(body)["x-plain"] == stars(json.dumps(VALUE)[1:-1])
    assert world.last.headers["x-59"] == basic(f"user-59:{VALUE}")


def test_masks_do_not_end_within_a_value(world):  # noqa: F811
    """A guest knows how values of its kind begin."""
    known, rest = "sk-known-prefix-", "0123456789abcdef"
    world.start(placeholder(), secrets={"svc": known + rest})
    echo_fields(world)
    code, _, body = world.request(headers=["X-Pair: " + basic(f"user:{PLACEHOLDER}{known}"),
                                           f"X-Twice: user:{PLACEHOLDER}{PLACEHOLDER}"])
    assert code == 200 and world.last.headers["x-twice"] == "user:" + 2 * (known + rest)
    assert rest not in body.decode()
    assert json.loads(body)["x-twice"] == "user:" + 2 * stars(known + rest)


def test_two_encodings(world):  # noqa: F811
    world.start(credential("svc", HOST), secrets={"svc": VALUE})
    world.reply(lambda r: send_response(r, b"????", headers=[
        "Content-Encoding: identity", "Content-Encoding: gzip"]))
    assert world.request()[0] == 502


def test_value_as_the_name_of_a_field(world):  # noqa: F811
    value = "tok-0123456789abcdef"
    world.start(credential("svc", HOST), secrets={"svc": value})
    world.reply(lambda r: send_response(
        r, b"ok", headers=[r.headers["authorization"].split()[1] + ": here"]))
    _, headers, _ = world.request()
    assert headers[stars(value)] == "here"


def escape(value, characters, form):
    return re.sub(f"[{re.escape(characters)}]", lambda m: form % ord(m[0]), value)


@pytest.mark.parametrize("text", [
    escape('s3cr3t/"+<v>&\'e=0123', "<>&", "\\u%04x").replace('"', '\\"'),
    escape('s3cr3t/"+<v>&\'e=0123', "\"<>&'+", "\\u%04X"),
    's3cr3t/"+<v>&\'e=0123'.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    's3cr3t/"+<v>&\'e=0123'.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    .replace('"', "&#34;").replace("'", "&#39;"),
    's3cr3t/"+<v>&\'e=0123'.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    .replace('"', "&quot;").replace("'", "&#x27;"),
], ids=["json-go", "json-dotnet", "html-text", "html-go", "html-python"])
def test_escapes_of_common_encoders(world, text):  # noqa: F811
    world.start(credential("svc", HOST), secrets={"svc": 's3cr3t/"+<v>&\'e=0123'})
    world.reply(lambda r: send_response(r, text.encode()))
    assert world.request()[2].decode() == stars(text)
