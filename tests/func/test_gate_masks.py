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


def test_many_forms_of_a_value_leave_none_unmasked(world):  # noqa: F811
    """Each Basic pair that the guest makes is one more thing to look for."""
    world.start(placeholder(), secrets={"svc": VALUE})
    echo_fields(world)
    pairs = [f"X-{i}: Basic " + base64.b64encode(f"user-{i}:{PLACEHOLDER}".encode()).decode()
             for i in range(60)]
    code, _, body = world.request(headers=pairs + [f"X-Plain: {PLACEHOLDER}"])
    assert code == 403 and b"too many forms" in body and world.server.requests == []
    code, _, body = world.request(headers=pairs[:3] + [f"X-Plain: {PLACEHOLDER}"])
    assert code == 200 and json.loads(body)["x-plain"] == stars(json.dumps(VALUE)[1:-1])


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
