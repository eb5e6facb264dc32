# SPDX-License-Identifier: Apache-2.0
"""OAuth in hutch-gate: the guest has sentinels, the servers get tokens."""
import json
import os
import stat
import time
import urllib.parse

import pytest

from gate_driver import credential_of, send_response
from test_gate import gate, pki, serve  # noqa: F401 (fixtures)
from test_gate_credentials import HOST, VALUE, WWW, world  # noqa: F401 (fixtures)


ACCESS, REFRESH = "sk-oat01-proxy-managed", "sk-ort01-proxy-managed"


def oauth(**more):
    return {"host": HOST, "path": "/oauth/token", "resource_hosts": [WWW],
            "access_sentinel": ACCESS, "refresh_sentinel": REFRESH, **more}


class Issuer:
    """A token endpoint and an API. Tokens are numbered; each refresh rotates both."""

    def __init__(self, world, fields=("access_token", "refresh_token")):
        self.world, self.fields, self.n = world, fields, 0
        self.refresh = {}  # live refresh tokens
        self.answer = None
        world.reply(self)

    def issue(self):
        self.n += 1
        access, refresh = f"real-access+{self.n}/0123", f"real-refresh+{self.n}/0123"
        self.world.values |= {access, refresh}
        self.refresh[refresh] = access
        return {"token_type": "Bearer", self.fields[0]: access, self.fields[1]: refresh,
                "expires_in": 3600, "scope": "a b"}

    def __call__(self, r):
        if r.path.partition("?")[0] != "/oauth/token":
            send_response(r, r.raw)
            return
        if "json" in r.headers.get("content-type", ""):
            form = json.loads(r.body)
        else:
            form = dict(urllib.parse.parse_qsl(r.body.decode()))
        self.form = form
        if self.answer is not None:
            body, status = self.answer
        elif form["grant_type"] == "refresh_token" and form["refresh_token"] not in self.refresh:
            body, status = {"error": "invalid_grant", "echo": form["refresh_token"]}, "400 Bad"
        else:
            if form["grant_type"] == "refresh_token":
                del self.refresh[form["refresh_token"]]
            body, status = self.issue(), "200 OK"
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        send_response(r, body, status=status, headers=["Content-Type: application/json"])


def login(world, path="/oauth/token", tunnel=False):
    form = urllib.parse.urlencode({"grant_type": "authorization_code", "code": "123"})
    return world.request("POST", path, body=form.encode(), tunnel=tunnel,
                         headers=["Content-Type: application/x-www-form-urlencoded"])


def refresh(world, sentinel=REFRESH, kind="form"):
    form = {"grant_type": "refresh_token", "refresh_token": sentinel}
    if kind == "json":
        return world.request("POST", "/oauth/token", body=json.dumps(form).encode(),
                             headers=["Content-Type: application/json"])
    return world.request("POST", "/oauth/token", body=urllib.parse.urlencode(form).encode(),
                         headers=["Content-Type: application/x-www-form-urlencoded"])


def use(world, token=ACCESS):
    world.request(host=WWW, headers=[f"Authorization: Bearer {token}"])
    return world.last.headers["authorization"]


def stored(world):
    out = {}
    for name in os.listdir(world.gate.token_dir):
        path = os.path.join(world.gate.token_dir, name)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with open(path) as f:
            out[name] = json.load(f)
    return out


def start_oauth(world, **more):
    world.start(credential_of("claude", oauth=oauth(**more)))
    return Issuer(world)


def test_oauth_login_use_and_refresh(world):
    issuer = start_oauth(world)
    assert use(world) == f"Bearer {ACCESS}"  # nobody has logged in
    code, headers, body = login(world)
    answer = json.loads(body)
    assert code == 200 and int(headers["content-length"]) == len(body)
    assert answer == {"token_type": "Bearer", "access_token": ACCESS, "refresh_token": REFRESH,
                      "expires_in": 3600, "scope": "a b"}
    assert issuer.form["code"] == "123"
    record = stored(world)["claude"]
    assert record["access_token"] == "real-access+1/0123" and record["scope"] == "a b"
    assert abs(record["expires_at"] - time.time() - 3600) < 30
    assert use(world) == "Bearer real-access+1/0123"
    for n, kind in ((2, "form"), (3, "json"), (4, "form")):
        code, _, body = refresh(world, kind=kind)
        assert code == 200 and json.loads(body)["refresh_token"] == REFRESH
        assert issuer.form["refresh_token"] == f"real-refresh+{n - 1}/0123"
        assert use(world) == f"Bearer real-access+{n}/0123"
    assert list(stored(world)) == ["claude"]
    lines = world.gate.audit(9)
    assert [x.get("credential") for x in lines] == [None] + ["claude"] * 8


def test_oauth_tokens_outlive_the_gate(world):
    start_oauth(world)
    login(world)
    world.start(credential_of("claude", oauth=oauth()))
    assert use(world) == "Bearer real-access+1/0123"
    os.unlink(os.path.join(world.gate.token_dir, "claude"))  # revoked
    assert use(world) == f"Bearer {ACCESS}"


def test_oauth_several_accounts(world):
    issuer = start_oauth(world)
    assert json.loads(login(world)[2])["access_token"] == ACCESS
    second = json.loads(login(world)[2])
    assert (second["access_token"], second["refresh_token"]) == (ACCESS + "-2", REFRESH + "-2")
    assert use(world) == "Bearer real-access+1/0123"
    assert use(world, ACCESS + "-2") == "Bearer real-access+2/0123"
    assert json.loads(refresh(world, REFRESH + "-2")[2])["access_token"] == ACCESS + "-2"
    assert issuer.form["refresh_token"] == "real-refresh+2/0123"
    assert use(world, ACCESS + "-2") == "Bearer real-access+3/0123"
    assert use(world) == "Bearer real-access+1/0123"
    assert sorted(stored(world)) == ["claude", "claude.2"]


def test_oauth_dead_account_gives_its_place_back(world):
    issuer = start_oauth(world)
    login(world)
    issuer.refresh.clear()
    code, _, body = refresh(world)
    assert code == 400 and b"real-refresh" not in body and b"invalid_grant" in body
    assert not stored(world)
    assert json.loads(login(world)[2])["access_token"] == ACCESS


def test_oauth_refresh_by_another_sandbox_is_not_undone(world):
    issuer = start_oauth(world)
    login(world)

    def rotated(r):
        with open(os.path.join(world.gate.token_dir, "claude"), "w") as f:
            json.dump({"access_token": "by-another-one", "refresh_token": "also-another"}, f)
        send_response(r, b'{"error":"invalid_grant"}', status="400 Bad")

    world.reply(rotated)
    assert refresh(world)[0] == 400
    world.reply(issuer)
    assert use(world) == "Bearer by-another-one"


@pytest.mark.parametrize("body", [
    {"grant_type": "authorization_code", "code": "of-another-account", "x": REFRESH},
    {"grant_type": "authorization_code", "code": "of-another-account", "refresh_token": REFRESH},
    {"grant_type": "password", "username": REFRESH, "password": "x"},
], ids=["other-field", "its-field", "name"])
def test_oauth_login_does_not_replace_an_account_that_it_mentions(world, body):
    """The tokens of an account are what all sandboxes use."""
    issuer = start_oauth(world)
    login(world)
    before = stored(world)["claude"]
    code, _, text = world.request("POST", "/oauth/token", body=urllib.parse.urlencode(body).encode(),
                                  headers=["Content-Type: application/x-www-form-urlencoded"])
    assert code == 200 and json.loads(text)["access_token"] == ACCESS + "-2"
    issuer.answer = ({"error": "invalid_grant"}, "400 Bad")
    world.request("POST", "/oauth/token", body=urllib.parse.urlencode(body).encode(),
                  headers=["Content-Type: application/x-www-form-urlencoded"])
    assert stored(world)["claude"] == before


def test_oauth_names_of_the_answer(world):
    world.start(credential_of("svc", oauth=oauth(access_name="at", refresh_name="rt")))
    Issuer(world, ("at", "rt"))
    answer = json.loads(login(world)[2])
    assert (answer["at"], answer["rt"]) == (ACCESS, REFRESH)
    assert use(world) == "Bearer real-access+1/0123"


@pytest.mark.parametrize("path", ["/oauth//token", "/oauth/./token", "/x/../oauth/token",
                                  "/oauth/%74oken", "/OAuth/Token", "/oauth/token/", "//oauth/token",
                                  "/oauth/token?x=1", "/oauth%2ftoken", "/oauth/token;a=b",
                                  "/oauth;a/token", "/oauth%5Ctoken", "/./oauth/x/..;/token"])
def test_oauth_endpoint_by_other_spellings(world, path):
    """Whatever reaches the endpoint as it is configured is rewritten, or does not pass."""
    issuer = start_oauth(world)

    def lenient(r):
        r.path = "/oauth/token"
        issuer(r)

    world.reply(lenient)
    code, _, body = login(world, path)
    assert code in (200, 403)
    if code == 200:
        assert json.loads(body)["access_token"] == ACCESS
    else:
        assert b"ambiguous" in body or b"path" in body


@pytest.mark.parametrize("answer", [b"access_token=real-access-9999&x=y", b"[1]", b"<html>", b"{",
                                    b'{"access_token":"real-access 9999"}', b"x" * 70000])
def test_oauth_answers_that_cannot_be_read_do_not_pass(world, answer):
    issuer = start_oauth(world)
    issuer.answer = (answer, "200 OK")
    code, headers, body = login(world)
    assert code == 502 and headers["x-hutch-refused"] == "upstream" and b"real-access" not in body
    assert not stored(world)


def test_oauth_answers_without_tokens_pass(world):
    issuer = start_oauth(world)
    for body, status in ((b'{"error":"authorization_pending"}', "400 Bad"),
                         (b'{"error":"slow_down"}', "200 OK"), (b"", "200 OK"),
                         (b"down", "503 Down")):
        issuer.answer = (body, status)
        code, _, got = login(world)
        assert code == int(status[:3]) and got == body


def test_oauth_compressed_answer_does_not_pass(world):
    start_oauth(world)
    world.reply(lambda r: send_response(r, b"????", headers=["Content-Encoding: gzip"]))
    assert login(world)[0] == 502
    assert world.last.headers["accept-encoding"] == "identity"


def test_oauth_id_token_and_copies(world):
    issuer = start_oauth(world)
    issuer.answer = ({"access_token": "real-access-token-1", "id_token": "head.claims.proof-0123",
                      "again": {"t": "x real-access-token-1"}}, "200 OK")
    world.values |= {"real-access-token-1", "proof-0123"}
    answer = json.loads(login(world)[2])
    assert answer == {"access_token": ACCESS, "id_token": "head.claims.proxy-managed",
                      "again": {"t": "x " + ACCESS}}


def test_oauth_until_close_and_chunks(world):
    start_oauth(world)
    body = json.dumps({"access_token": "real-access-token-2"}).encode()
    world.values.add("real-access-token-2")

    def close(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        return False

    def chunks(r):
        r.conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(len(body)):
            r.conn.send(b"1\r\n" + body[i:i + 1] + b"\r\n")
        r.conn.send(b"0\r\n\r\n")

    for reply in (close, chunks):
        world.reply(reply)
        code, headers, got = login(world)
        assert code == 200 and json.loads(got)["access_token"].startswith(ACCESS)
        assert int(headers["content-length"]) == len(got)


def test_oauth_token_does_not_go_elsewhere(world):
    start_oauth(world)
    login(world)
    world.request(path="/elsewhere", headers=[f"Authorization: Bearer {ACCESS}"])
    assert world.last.headers["authorization"] == f"Bearer {ACCESS}"
    world.request(host=WWW, headers=[f"X-Other: {ACCESS}"])
    assert world.last.headers["x-other"] == ACCESS


def test_oauth_passthrough(world):
    issuer = start_oauth(world, passthrough=True)
    answer = json.loads(login(world, tunnel=True)[2])
    assert answer["access_token"] == "real-access+1/0123" and not stored(world)
    world.values.clear()
    assert issuer.n == 1


def test_oauth_next_to_a_key(world):
    """The key wins: its header is set, and nobody needs to log in."""
    world.start(credential_of("claude", {"domain": WWW, "header": "x-api-key", "format": "%s"},
                              required=True, oauth=oauth()))
    Issuer(world)
    assert world.request(host=WWW, headers=["x-api-key: proxy-managed"])[0] == 200
    assert "x-api-key" not in world.last.headers
    world.values.add(VALUE)
    world.gate.set_secret("claude", VALUE)
    assert world.request(host=WWW)[0] == 200
    assert world.last.headers["x-api-key"] == VALUE
