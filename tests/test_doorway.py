"""The second door without sockets: whom a CONNECT may be for, and what comes by its tunnel."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from llamakey_addon import doorway, http2
from llamakey_addon.config import Settings
from llamakey_addon.journey import Upstream
from llamakey_addon.keys import mint
from llamakey_addon.road import Road
from llamakey_addon.tokens import Tokens
from llamakey_addon.tunnel import proxy_for
from tests.roadside import REAL, Got, Rim, make_bench, without_id
from tests.test_sockets import SWITCH, UPGRADE, client, closing

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
OPENAI = "api.openai.com"
CHAT = b'{"model": "gpt-5-mini", "messages": []}'
ANSWER = json.dumps(
    {"model": "gpt-5-mini", "usage": {"prompt_tokens": 9, "completion_tokens": 4}}
).encode()
REAL_OF_A_CLIENTS = "sk-proj-real-key-of-a-clients-own-0123456789"


class Caller:
    """A client at the second door."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.bench = make_bench(folder, config.pop("limits", None), **config)
        self.key = self.bench.key
        self.anew()

    def anew(self) -> None:
        """Another connection."""
        bench = self.bench
        rim = Rim()
        rim.road = Road(rim, bench.gate, "192.0.2.1", door=True)
        bench.rim, bench.road = rim, rim.road

    def mint(self, user: str) -> str:
        minted = mint()
        self.bench.store.add_key(f"{user}-key", user, minted)
        return minted.text

    def connect(self, authority: str, *headers: str, key: str = "", behind: bytes = b"") -> None:
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *headers]
        if key:
            lines.append(f"Proxy-Authorization: {basic('key', key)}")
        self.bench.client("\r\n".join([*lines, "", ""]).encode() + behind)

    def tunnel(self, host: str = OPENAI, *, key: str = "", sni: str | None = None) -> None:
        """A tunnel whose TLS stands."""
        self.anew()
        self.connect(f"{host}:443", key=key)
        assert bytes(self.bench.rim.out) == ESTABLISHED, bytes(self.bench.rim.out)
        assert self.bench.rim.secured_as == host
        self.bench.rim.out.clear()
        self.bench.road.secured(host if sni is None else sni)

    def send(
        self, line: str, *headers: str, host: str = OPENAI, key: str = "", body: bytes | None = None
    ) -> None:
        lines = [f"{line} HTTP/1.1", f"Host: {host}", *headers]
        if key:
            lines.append(f"Authorization: Bearer {key}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.bench.client("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    def chat(self, *headers: str, key: str = "") -> None:
        self.send("POST /v1/chat/completions", *headers, key=key, body=CHAT)

    def served(self, body: bytes = ANSWER) -> None:
        """The provider answers what was asked last."""
        self.bench.open()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.bench.answer(head % len(body) + body)

    def got(self, method: str = "POST") -> Got:
        [got] = self.bench.got(method)
        return got

    def refused(self) -> Got:
        """The answer to a CONNECT; nothing was looked up or sent."""
        assert self.bench.upstream_untouched
        assert not self.bench.rim.secured_as
        return self.got("POST")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    made = Caller(tmp_path)
    with made.bench:
        yield made


# ── CONNECT ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("authority", "status", "says"),
    [
        ("example.com:443", 403, "example.com is no provider's host"),
        ("api.openai.com.evil.example:443", 403, "is no provider's host"),
        ("notapi.openai.com:443", 403, "is no provider's host"),
        ("api.openai.com.:443", 403, "is no provider's host"),
        ("api.openai.com:80", 403, "Port 80 of api.openai.com"),
        ("localhost:8000", 403, "is no provider's host"),
        ("127.0.0.1:11434", 403, "is no provider's host"),
        ("[::1]:443", 403, "is no provider's host"),
        ("169.254.169.254:443", 403, "is no provider's host"),
        ("api.openai.com", 400, "HOST:PORT"),
        ("api.openai.com:0", 400, "HOST:PORT"),
        ("api.openai.com:99999", 400, "HOST:PORT"),
        ("user@api.openai.com:443", 400, "HOST:PORT"),
        ("https://api.openai.com:443", 400, "HOST:PORT"),
        ("api.openai.com%2f:443", 400, "HOST:PORT"),
        ("/openai/v1/models", 400, "HOST:PORT"),
    ],
)
def test_whom_it_is_not_for(caller: Caller, authority: str, status: int, says: str) -> None:
    caller.connect(authority, key=caller.key)
    got = caller.refused()
    # the reason too, since clients show nothing else
    assert (got.status, says in got.reason.decode(), says in got.body.decode()) == (
        status,
        True,
        True,
    )
    assert caller.bench.rim.closed() or caller.bench.rim.finished()
    receipt = caller.bench.only_receipt()
    assert receipt.status == status
    # whose key it was is said where there was a look at it
    named = ("alice", "laptop") if status == 403 else ("", "")
    assert (receipt.user, receipt.key_name) == named


def test_a_key_that_is_not_valid_names_nobody(caller: Caller) -> None:
    caller.bench.store.revoke("laptop")
    caller.connect("example.com:443", key=caller.key)
    assert caller.refused().status == 407
    assert caller.bench.only_receipt().user == ""


def test_a_request_that_is_no_connect_is_told_so(caller: Caller) -> None:
    caller.bench.client(
        b"GET http://api.openai.com/v1/models HTTP/1.1\r\nHost: api.openai.com\r\n"
        b"Authorization: Bearer " + caller.key.encode() + b"\r\n\r\n"
    )
    got = caller.refused()
    assert (got.status, b"HTTPS_PROXY" in got.body) == (405, True)


def test_whether_it_is_well_is_told(caller: Caller) -> None:
    caller.bench.client(b"GET /_llamakey/health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert caller.got("GET").body == b'{"status": "ok"}\n'


def test_a_head_has_bounds_as_any_other(tmp_path: Path) -> None:
    limits = {"head_bytes": 2048, "head_fields": 8}
    for line, status in (
        (b"CONNECT " + b"a" * 4096, 414),
        (b"CONNECT a:443 HTTP/1.1\r\nX: " + b"a" * 4096, 431),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431),
        (b"CONNECT a:443 HTTP/1.1\nHost: a\n\n", 400),
        (b"CONNECT  a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nHost: b:443\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
    ):
        folder = tmp_path / f"{status}-{len(line)}"
        folder.mkdir()
        caller = Caller(folder, limits=limits)
        with caller.bench:
            caller.bench.client(line)
            assert caller.refused().status == status


def test_a_head_that_does_not_come_is_not_waited_for(caller: Caller) -> None:
    caller.bench.client(b"CONNECT api.openai.com:443 HTTP/1.1\r\n")
    caller.bench.wait(21)
    assert caller.refused().status == 408


@pytest.mark.parametrize(
    "behind",
    [b"\x16\x03\x01\x02\x00\x01", b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"],
)
def test_what_comes_behind_connect_is_nobodys(caller: Caller, behind: bytes) -> None:
    caller.connect(f"{OPENAI}:443", key=caller.key, behind=behind)
    assert caller.refused().status == 400
    assert len(caller.bench.receipts) == 1


@pytest.mark.parametrize("field", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_connect_has_no_body(caller: Caller, field: str) -> None:
    caller.connect(f"{OPENAI}:443", field, key=caller.key)
    assert caller.refused().status == 400


def test_connects_own_host_says_the_same(caller: Caller) -> None:
    caller.bench.client(b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.mistral.ai\r\n\r\n")
    assert caller.refused().status == 421
    for host in ("", "Host: api.openai.com\r\n", "Host: API.OpenAI.com:443\r\n"):
        caller.anew()
        version = "1" if host else "0"  # as older Pythons write it
        head = f"CONNECT API.openai.com:443 HTTP/1.{version}\r\n{host}\r\n"
        caller.bench.client(head.encode())
        assert bytes(caller.bench.rim.out) == ESTABLISHED


# ── proxy credentials ───────────────────────────────────────────────────────────────────────────


def test_a_key_as_user_or_as_password(caller: Caller) -> None:
    for value in (
        basic("key", caller.key),
        basic(caller.key, ""),
        basic(caller.key, caller.key),
        f"bearer {caller.key}",
    ):
        caller.anew()
        caller.connect(f"{OPENAI}:443", f"Proxy-Authorization: {value}")
        assert bytes(caller.bench.rim.out) == ESTABLISHED


def test_proxy_credentials_that_are_none(caller: Caller) -> None:
    other = caller.mint("bob")
    strange = mint().text
    for value, says in (
        (basic("key", "wrong"), "hold no whole LlamaKey key"),
        ("Basic %%%", "hold no whole LlamaKey key"),
        (basic(caller.key, other), "two different LlamaKey keys"),
        (basic("key", caller.key[:-1]), "hold no whole LlamaKey key"),
        (basic("key", strange), "does not know the key"),
    ):
        caller.anew()
        caller.connect(f"{OPENAI}:443", f"Proxy-Authorization: {value}")
        got = caller.refused()
        assert (got.status, says in got.body.decode()) == (407, True)
        assert got.header("Proxy-Authenticate") == 'Basic realm="LlamaKey"'
        assert all(key not in got.body.decode() for key in (caller.key, other, strange))
    caller.bench.store.revoke("laptop")
    caller.anew()
    caller.connect(f"{OPENAI}:443", key=caller.key)
    assert (caller.refused().status, "was revoked" in caller.got().body.decode()) == (407, True)


def test_a_key_of_another_place(caller: Caller) -> None:
    minted = mint()
    caller.bench.store.add_key("office", "alice", minted, networks=("198.51.100.0/24",))
    caller.connect(f"{OPENAI}:443", key=minted.text)
    assert "may not be used from 192.0.2.1" in caller.refused().body.decode()


@pytest.mark.parametrize(
    "inner", ["", "placeholder", REAL_OF_A_CLIENTS, "same"], ids=["none", "word", "real", "same"]
)
def test_a_tunnels_key_is_that_of_its_requests(caller: Caller, inner: str) -> None:
    caller.tunnel(key=caller.key)
    key = caller.key if inner == "same" else inner
    for _ in range(2):
        caller.chat("X-Api-Key: " + REAL_OF_A_CLIENTS, key=key)
        caller.served()
        assert (caller.got().status, caller.got().body) == (200, ANSWER)
        [sent] = caller.bench.sent()
        assert (sent.target, sent.values("host")) == ("/v1/chat/completions", [OPENAI])
        assert sent.values("authorization") == [f"Bearer {REAL}"]
        written = bytes(caller.bench.links[-1].written)
        assert REAL_OF_A_CLIENTS.encode() not in written
        assert caller.key.encode() not in written
        caller.bench.rim.out.clear()
    receipt = caller.bench.receipts[-1]
    assert (receipt.user, receipt.provider, receipt.path) == (
        "alice",
        "openai",
        "/v1/chat/completions",
    )
    assert (receipt.counts["input_tokens"], receipt.counts["output_tokens"]) == (9, 4)
    assert receipt.cost_nusd


def test_equal_heads_by_other_tunnels_are_others(caller: Caller) -> None:
    bob = caller.mint("bob")
    for key in (caller.key, bob, caller.key):
        caller.tunnel(key=key)
        caller.send("GET /v1/models")
        caller.served(b"{}")
    caller.tunnel()
    caller.send("GET /v1/models")
    assert caller.got("GET").status == 401
    assert [r.user for r in caller.bench.receipts] == ["alice", "bob", "alice", ""]


def test_another_valid_key_within_the_tunnel(caller: Caller) -> None:
    bob = caller.mint("bob")
    row = caller.bench.store.find("bob-key")
    token = Tokens(caller.bench.gate.settings.data_folder).issue(row.id, "openai", 2e9)
    for inner in (bob, token):
        caller.tunnel(key=caller.key)
        caller.chat(key=inner)
        got = caller.got()
        assert (got.status, "Two different LlamaKey keys" in got.body.decode()) == (401, True)
        assert json.loads(got.body)["error"]
    assert caller.bench.upstream_untouched


def test_without_proxy_credentials_each_request_shows_its_key(caller: Caller) -> None:
    caller.tunnel()
    caller.chat(key=caller.key)
    caller.served()
    assert caller.got().status == 200
    caller.bench.rim.out.clear()
    caller.chat()
    assert caller.got().status == 401
    wished = len(caller.bench.rim.wishes)
    caller.tunnel()
    caller.chat(key=REAL_OF_A_CLIENTS)
    assert (caller.got().status, "not a LlamaKey key" in caller.got().body.decode()) == (401, True)
    assert (wished, caller.bench.rim.wishes) == (1, [])


# ── what comes by a tunnel ──────────────────────────────────────────────────────────────────────


def test_tls_and_host_name_the_same_as_connect(caller: Caller) -> None:
    for sni, host in (
        ("api.mistral.ai", OPENAI),
        ("", OPENAI),
        (OPENAI, "api.mistral.ai"),
        (OPENAI, f"{OPENAI}:8443"),
        (OPENAI, f"{OPENAI}."),
    ):
        caller.tunnel(key=caller.key, sni=sni)
        caller.send("POST /v1/chat/completions", host=host, body=CHAT)
        got = caller.got()
        assert (got.status, json.loads(got.body)["error"]["code"]) == (421, "misdirected_request")
    assert caller.bench.upstream_untouched
    for host in (OPENAI, f"{OPENAI}:443", "API.openai.com"):
        caller.tunnel(key=caller.key, sni="API.OPENAI.COM")
        caller.send("POST /v1/chat/completions", host=host, body=CHAT)
        caller.served()
        assert caller.got().status == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("https://api.openai.com/v1/models", 400),
        ("*", 400),
        ("/../anthropic/v1/models", 400),
        ("/%2e%2e/anthropic/v1/models", 400),
        ("//anthropic/v1/models", 400),
        ("/v1/models#x", 400),
    ],
)
def test_no_way_leads_out_of_a_tunnel(caller: Caller, target: str, status: int) -> None:
    caller.tunnel(key=caller.key)
    caller.send(f"GET {target}")
    assert caller.got("GET").status == status
    assert caller.bench.upstream_untouched
    assert caller.bench.only_receipt().user == "alice", "whose tunnel it is"


def test_no_tunnel_in_a_tunnel(caller: Caller) -> None:
    caller.tunnel(key=caller.key)
    caller.send("CONNECT api.mistral.ai:443")
    assert caller.got("POST").status == 400
    assert caller.bench.upstream_untouched


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Transfer-Encoding: gzip, chunked",),
    ],
)
def test_nothing_is_smuggled_behind_connect(caller: Caller, fields: tuple[str, ...]) -> None:
    caller.tunnel(key=caller.key)
    lines = ["POST /v1/chat/completions HTTP/1.1", f"Host: {OPENAI}", *fields, "", ""]
    smuggled = b"0\r\n\r\nGET /v1/files HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"
    caller.bench.client("\r\n".join(lines).encode() + smuggled)
    assert caller.got().status in (400, 501)
    assert len(caller.bench.receipts) == 1
    assert caller.bench.upstream_untouched


def test_paths_are_the_providers_own(caller: Caller) -> None:
    """Forms that users are known to write of a base URL are no aliases here."""
    caller.tunnel(key=caller.key)
    caller.send("POST /chat/completions", body=CHAT)
    caller.served()
    assert caller.bench.sent()[0].target == "/chat/completions"
    caller.tunnel(key=caller.key)
    caller.send("GET /")  # at the front door a courtesy that nobody else sees
    caller.served()
    assert caller.bench.sent()[0].target == "/"


def test_a_forwarded_address_is_a_clients_own_word(tmp_path: Path) -> None:
    caller = Caller(tmp_path, trusted_proxies=["192.0.2.0/24"])
    with caller.bench:
        caller.connect(f"{OPENAI}:443", "X-Forwarded-For: 203.0.113.9", key=caller.key)
        caller.bench.road.secured(OPENAI)
        caller.chat("X-Forwarded-For: 203.0.113.1")
        caller.served()
        assert caller.bench.receipts[0].peer == "203.0.113.9"


# ── the same road ───────────────────────────────────────────────────────────────────────────────


def test_limits_and_whitelists_hold(tmp_path: Path) -> None:
    caller = Caller(
        tmp_path,
        users={
            "alice": {
                "deny": [{"models": ["gpt-4o*"]}],
                "limits": [{"requests": 1, "per": "hour"}],
            }
        },
    )
    with caller.bench:
        caller.tunnel(key=caller.key)
        caller.send("POST /v1/chat/completions", body=b'{"model": "gpt-4o", "messages": []}')
        assert caller.got().status == 403
        caller.bench.rim.out.clear()
        caller.chat()
        caller.served()
        caller.bench.rim.out.clear()
        caller.chat()
        got = caller.got()
        assert (got.status, bool(got.header("Retry-After"))) == (429, True)


def test_what_is_anothers_stays_so(caller: Caller) -> None:
    bob = caller.mint("bob")
    caller.tunnel(key=caller.key)
    caller.send("POST /v1/files", body=b"x")
    caller.served(b'{"id": "file-abc123456", "object": "file"}')
    caller.tunnel(key=bob)
    caller.send("GET /v1/files/file-abc123456")
    assert caller.got("GET").status == 404
    caller.tunnel(key=caller.key)
    caller.send("GET /v1/files/file-abc123456")
    caller.served(b'{"id": "file-abc123456", "object": "file"}')
    assert caller.got("GET").status == 200


def test_a_revoked_key_ends_its_tunnels(caller: Caller) -> None:
    caller.tunnel(key=caller.key)
    idle = caller.bench.rim
    caller.tunnel(key=caller.key)
    caller.chat()
    link = caller.bench.open()
    caller.bench.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    caller.bench.store.revoke("laptop")
    for rim in (idle, caller.bench.rim):
        rim.road.recheck()
        assert rim.closed()
    assert link.state == "dropped"


def test_a_websocket(caller: Caller) -> None:
    caller.tunnel(key=caller.key)
    caller.send("GET /v1/realtime?model=gpt-realtime", *UPGRADE)
    link = caller.bench.open()
    assert f"Bearer {REAL}" in caller.bench.sent()[0].values("authorization")
    link.written.clear()
    caller.bench.answer(SWITCH)
    assert without_id(bytes(caller.bench.rim.out)) == SWITCH
    caller.bench.client(client(1, b'{"type": "session.update"}'))
    assert bytes(link.written)
    caller.bench.client(closing(1000, mask=b"\x01\x02\x03\x04"))
    caller.bench.answer(closing(1000))
    caller.bench.road.client_closed()
    assert caller.bench.receipts[0].end == "complete"


def test_a_token_from_the_providers_own_token_server(tmp_path: Path) -> None:
    caller = Caller(tmp_path, providers={"vectara": {"key": "env:OPENAI_API_KEY"}})
    form = f"grant_type=client_credentials&client_id=x&client_secret={caller.key}".encode()
    placeholder = b"grant_type=client_credentials&client_id=x&client_secret=placeholder"
    with caller.bench:
        bob = caller.mint("bob")
        for key, content, status in (
            ("", form, 200),
            ("", placeholder, 401),
            (caller.key, placeholder, 200),
            (caller.key, form, 200),
            (bob, form, 401),
        ):
            caller.tunnel("auth.vectara.io", key=key)
            caller.send("POST /oauth2/token", host="auth.vectara.io", body=content)
            assert caller.got().status == status
        caller.tunnel("auth.vectara.io", key=caller.key)
        caller.send("GET /v2/corpora", host="auth.vectara.io")
        assert caller.got("GET").status == 404
        assert caller.bench.upstream_untouched
        # and what was issued is good at the API's own host
        caller.tunnel("auth.vectara.io", key=caller.key)
        caller.send("POST /oauth2/token", host="auth.vectara.io", body=placeholder)
        token = json.loads(caller.got().body)["access_token"]
        caller.tunnel("api.vectara.io")
        caller.send("GET /v2/corpora", host="api.vectara.io", key=token)
        caller.served(b"{}")
        assert caller.got("GET").status == 200


def test_a_key_file_of_googles_is_a_placeholder_in_a_tunnel(tmp_path: Path) -> None:
    """SDKs sign with the key file that a program has and post to a host that is a constant."""
    caller = Caller(tmp_path, providers={"vertex": {"key": "env:OPENAI_API_KEY"}})
    parts = ({"alg": "RS256", "kid": "of Google's"}, {"iss": "a@b.iam.gserviceaccount.com"})
    signed = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )
    grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
    form = f"grant_type={grant}&assertion={signed}.c2lnbmVk".encode()
    with caller.bench:
        for key, status in ((caller.key, 200), ("", 401)):
            caller.tunnel("oauth2.googleapis.com", key=key)
            caller.send("POST /token", host="oauth2.googleapis.com", body=form)
            assert caller.got().status == status
            if status == 200:
                token = json.loads(caller.got().body)["access_token"]
        host = "us-east1-aiplatform.googleapis.com"
        caller.tunnel(host, key=caller.key)
        caller.send("GET /v1/models/x", host=host, key=token)
        caller.served(b"{}")
        assert caller.got("GET").status == 200


def test_a_region_is_chosen_by_its_host(tmp_path: Path) -> None:
    caller = Caller(tmp_path, providers={"vertex": {"key": "env:OPENAI_API_KEY"}})
    with caller.bench:
        for host, path, upstream in (
            ("us-east1-aiplatform.googleapis.com", "/v1/models/x", None),
            (
                "europe-west4-aiplatform.googleapis.com",
                "/v1/projects/p/locations/us-east1/models",
                None,
            ),
            (
                "aiplatform.googleapis.com",
                "/v1/projects/p/locations/us-east1/models",
                "us-east1-aiplatform.googleapis.com",
            ),
        ):
            caller.tunnel(host, key=caller.key)
            caller.send(f"GET {path}", host=host)
            assert caller.bench.rim.wishes[0][0].host == (upstream or host)


# ── hosts that are no providers' ────────────────────────────────────────────────────────────────

TUNNEL = {"door": {"tunnel": ["pypi.org", "*.corp.example", "10.1.2.3:8443"]}}


def test_bytes_pass_as_they_are(tmp_path: Path) -> None:
    caller = Caller(tmp_path, **TUNNEL)
    with caller.bench:
        caller.connect("pypi.org:443", key=caller.key)
        assert caller.bench.rim.wishes == [(Upstream("tcp", "pypi.org", 443), True)]
        link = caller.bench.open()
        assert bytes(caller.bench.rim.out) == ESTABLISHED
        caller.bench.rim.out.clear()
        caller.bench.client(b"\x16\x03up", b"more")
        assert bytes(link.written) == b"\x16\x03upmore"
        caller.bench.answer(b"\x16\x03down")
        assert bytes(caller.bench.rim.out) == b"\x16\x03down"
        caller.bench.road.client_writable(False)
        assert link.paused()
        caller.bench.wait(60)  # nobody says anything: they may be thinking
        assert not caller.bench.rim.closed()
        caller.bench.road.link_writable(False)
        assert caller.bench.rim.paused()
        caller.bench.end_link()
        assert caller.bench.rim.closed()
        assert caller.bench.receipts == []
        assert any("alice goes through to pypi.org:443" in note for note in caller.bench.log.notes)


def test_it_is_for_holders_of_a_key_alone(tmp_path: Path) -> None:
    caller = Caller(tmp_path, **TUNNEL)
    with caller.bench:
        caller.connect("pypi.org:443")
        got = caller.refused()
        assert (got.status, got.header("Proxy-Authenticate") != "") == (407, True)


@pytest.mark.parametrize(
    ("authority", "upstream"),
    [
        ("git.corp.example:443", Upstream("tcp", "git.corp.example", 443, public=True)),
        ("10.1.2.3:8443", Upstream("tcp", "10.1.2.3", 8443)),
        ("10.1.2.3:443", None),
        ("corp.example:443", None),
        ("pypi.org:22", None),
        ("evilpypi.org:443", None),
    ],
)
def test_which_hosts_pass(tmp_path: Path, authority: str, upstream: Upstream | None) -> None:
    caller = Caller(tmp_path, **TUNNEL)
    with caller.bench:
        caller.connect(authority, key=caller.key)
        assert [wish for wish, _ in caller.bench.rim.wishes] == ([upstream] if upstream else [])


def test_a_revoked_key_and_a_drain_end_it(tmp_path: Path) -> None:
    caller = Caller(tmp_path, **TUNNEL)
    with caller.bench:
        caller.connect("pypi.org:443", key=caller.key)
        link = caller.bench.open()
        caller.bench.road.close_when_idle()
        caller.bench.wait(0.9)
        caller.bench.answer(b"still going")
        caller.bench.wait(0.9)
        assert not caller.bench.rim.closed()
        caller.bench.wait(0.2)
        assert (caller.bench.rim.closed(), link.state) == (True, "dropped")
        caller.anew()
        caller.connect("pypi.org:443", key=caller.key)
        link = caller.bench.open()
        caller.bench.store.revoke("laptop")
        caller.bench.road.recheck()
        assert (caller.bench.rim.closed(), link.state) == (True, "dropped")


def test_what_comes_before_the_answer_is_nobodys(tmp_path: Path) -> None:
    caller = Caller(tmp_path, **TUNNEL)
    with caller.bench:
        caller.connect("pypi.org:443", key=caller.key)
        caller.bench.client(b"early")
        link = caller.bench.open()
        assert caller.got().status == 400
        assert (link.state, bytes(link.written)) == ("dropped", b"")


# ── HTTP/2 ──────────────────────────────────────────────────────────────────────────────────────


def test_grpc_is_told_the_way_that_works(tmp_path: Path) -> None:
    caller = Caller(tmp_path, providers={"xai": {"key": "env:OPENAI_API_KEY"}})
    with caller.bench:
        caller.anew()
        caller.connect("api.x.ai:443", key=caller.key)
        caller.bench.rim.out.clear()
        caller.bench.road.secured("api.x.ai", http2_alone=True)
        peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        peer.initiate_connection()
        fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/xai_api.Chat/GetCompletion"),
            (":authority", "api.x.ai"),
            ("content-type", "application/grpc"),
            ("authorization", f"Bearer {caller.key}"),
        ]
        peer.send_headers(1, fields)
        peer.ping(b"12345678")
        sent = peer.data_to_send()
        caller.bench.client(sent[:10], sent[10:40], sent[40:])
        events = peer.receive_data(bytes(caller.bench.rim.out))
        [answered] = [e for e in events if isinstance(e, h2.events.ResponseReceived)]
        said = {bytes(n).decode(): bytes(v).decode() for n, v in answered.headers}
        assert (said[":status"], said["grpc-status"]) == ("200", "12")
        assert "openai" in said["grpc-message"]
        assert any(isinstance(e, h2.events.StreamEnded) for e in events)
        assert any(isinstance(e, h2.events.PingAckReceived) for e in events)
        receipt = caller.bench.only_receipt()
        assert (receipt.provider, receipt.denied) == ("xai", "not_implemented")
        assert receipt.id in said["grpc-message"]
        assert caller.bench.upstream_untouched
        caller.bench.wait(25)
        assert caller.bench.rim.closed()


def test_http2_has_bounds(caller: Caller) -> None:
    for data in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff" + b"\0" * 6,
    ):
        caller.tunnel(key=caller.key)
        caller.anew()
        caller.connect(f"{OPENAI}:443")
        caller.bench.road.secured(OPENAI, http2_alone=True)
        caller.bench.client(data)
        assert caller.bench.rim.closed()


def test_what_http2_answers_is_bounded_too(caller: Caller) -> None:
    """A request of nine bytes has an answer of hundreds, for a client that may never read."""
    caller.connect(f"{OPENAI}:443")
    caller.bench.rim.out.clear()
    caller.bench.road.secured(OPENAI, http2_alone=True)
    asks = b"".join(b"\0\0\0\x01\x05" + stream.to_bytes(4) for stream in range(1, 50_000, 2))
    caller.bench.client(http2.PREFACE + asks)
    assert caller.bench.rim.closed()
    assert len(caller.bench.rim.out) < 100_000
    assert bytes(caller.bench.rim.out).count(b"grpc-status") == http2.MOST_STREAMS


# ── the book ────────────────────────────────────────────────────────────────────────────────────


def test_hosts(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "providers:\n"
        "  gpu: {upstream: 'https://gpu.corp.example:8443', like: openai}\n"
        "  second: {upstream: 'https://api.openai.com', like: openai}\n"
        "  mistral: {upstream: 'https://eu.mistral.example'}\n"
    )
    environ = {"LLAMAKEY_HOME": str(tmp_path), "AZURE_OPENAI_RESOURCE": "team"}
    settings = Settings.load(path, environ)
    book, every = doorway.Hosts(settings), doorway.hosts(settings.providers.values())
    found = {
        (host, port): getattr(book.find(host, port), "prefix", "")
        for host, port in (
            ("api.openai.com", 443),
            ("gpu.corp.example", 8443),
            ("api.mistral.ai", 443),
            ("eu.mistral.example", 443),
            ("team.openai.azure.com", 443),
            ("aiplatform.eu.rep.googleapis.com", 443),
            ("oauth2.googleapis.com", 443),
        )
    }
    assert list(found.values()) == [
        "openai",
        "gpu",
        "mistral",
        "mistral",
        "azure",
        "vertex",
        "vertex",
    ]
    assert {host for host, _ in found} <= set(every)
    assert not [host for host in every if not re.fullmatch(r"[a-z0-9.-]+", host)]
    assert not {"example.invalid", "127.0.0.1"} & set(every)


# ── hosts that the path names at the front door ─────────────────────────────────────────────────

INDEX = "docs-example-4zo0ijk.svc.us-east1-aws.pinecone.io"
GOOGLE = "generativelanguage.googleapis.com"


@pytest.fixture
def further(tmp_path: Path) -> Iterator[Caller]:
    named = ("pinecone", "gemini", "fal", "replicate")
    made = Caller(tmp_path, providers={name: {"key": "env:OPENAI_API_KEY"} for name in named})
    with made.bench:
        yield made


def test_a_host_that_only_the_provider_can_name(further: Caller) -> None:
    further.tunnel(INDEX, key=further.key)
    further.send("POST /query?a=1", host=INDEX, body=b"{}")
    further.served(b"{}")
    assert further.got().status == 200
    (sent,) = further.bench.sent()
    assert further.bench.rim.wishes[-1][0].origin == f"https://{INDEX}"
    assert (sent.target, sent.values("api-key")) == ("/query?a=1", [REAL])
    assert further.bench.only_receipt().endpoint == "query"


@pytest.mark.parametrize("host", [f"{INDEX}.evil.example", "pinecone.io", "x.pinecone.io"])
def test_a_host_that_looks_like_one(further: Caller, host: str) -> None:
    further.connect(f"{host}:443", key=further.key)
    assert further.refused().status == 403


def test_in_a_tunnel_the_path_names_no_host(further: Caller) -> None:
    further.tunnel("api.pinecone.io", key=further.key)
    further.send(f"POST /{INDEX}/query", host="api.pinecone.io", body=b"{}")
    further.served(b"{}")
    assert further.bench.rim.wishes[-1][0].origin == "https://api.pinecone.io"


def test_addresses_stay_the_providers_own(further: Caller) -> None:
    further.tunnel("queue.fal.run", key=further.key)
    further.send("POST /fal-ai/flux", host="queue.fal.run", body=b"{}")
    told = {
        "request_id": "r1",
        "status_url": "https://queue.fal.run/fal-ai/flux/requests/r1/status",
    }
    further.served(json.dumps(told).encode())
    assert json.loads(further.got().body) == told


def test_an_upload_is_followed_without_a_key_there_too(further: Caller) -> None:
    place = f"https://{GOOGLE}/upload/v1beta/files?upload_id=ABC"
    further.tunnel(GOOGLE)
    further.send("POST /upload/v1beta/files", host=GOOGLE, key=further.key, body=b"{}")
    further.bench.open()
    head = f"HTTP/1.1 200 OK\r\nX-Goog-Upload-URL: {place}\r\nContent-Length: 0\r\n\r\n"
    further.bench.answer(head.encode())
    address = further.got().header("x-goog-upload-url")
    assert address.startswith(f"{place}&llamakey=sk-lmk-")
    target = address.removeprefix(f"https://{GOOGLE}")
    further.tunnel(GOOGLE)
    further.send(f"POST {target}", host=GOOGLE, body=b"x")
    further.served(b"{}")
    assert further.bench.sent()[-1].target == "/upload/v1beta/files?upload_id=ABC"
    # in a tunnel of somebody else's
    bob = further.mint("bob")
    further.tunnel(GOOGLE, key=bob)
    further.send(f"POST {target}", host=GOOGLE, body=b"x")
    assert further.got().status == 401
    further.tunnel(GOOGLE, key=bob)
    further.send("POST /upload/v1beta/files?upload_id=ABC", host=GOOGLE, body=b"x")
    assert further.got().status == 403


def test_the_authority_vouches_below_a_globs_domain(further: Caller) -> None:
    known = doorway.hosts(further.bench.gate.settings.providers.values())
    assert {"pinecone.io", "ke.pinecone.io", "queue.fal.run", "stream.replicate.com"} <= {*known}
    assert not any("*" in host for host in known)


def test_what_passes_untouched_goes_by_a_companys_proxy() -> None:
    corp = "http://proxy.corp:3128"
    assert proxy_for(Upstream("tcp", "pypi.org", 443, public=True), corp) == corp
    assert proxy_for(Upstream("tcp", "127.0.0.1", 8443), corp) is None
