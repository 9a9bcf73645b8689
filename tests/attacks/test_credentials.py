"""Credentials: exactly one goes upstream, the real one; two different local ones are refused."""

from __future__ import annotations

import base64

import pytest

from tests.attacks.conftest import Door, refused
from tests.fakes import Request

SLOTS = [
    "Authorization: Bearer {key}",
    "Authorization: bearer {key}",
    "Authorization: Token {key}",
    "Authorization: {key}",
    "x-api-key: {key}",
    "api-key: {key}",
    "Api-Key: {key}",
    "x-goog-api-key: {key}",
    "xi-api-key: {key}",
    "X_Api_Key: {key}",
    "Proxy-Authorization: Bearer {key}",
    "Ocp-Apim-Subscription-Key: {key}",
    "OpenAI-Organization: {key}",
    "OpenAI-Project: {key}",
    "Cookie: key={key}",
    "Sec-WebSocket-Protocol: token, {key}",
    "X-Amz-Security-Token: {key}",
]


def credentials(request: Request, door: Door) -> list[str]:
    """Every header value at a provider that has anything to do with a key."""
    real = door.world.key(request.family)
    local = door.proxy.local_key
    return [
        f"{name.decode().lower()}: {value.decode()}"
        for name, value in request.headers
        if real in value.decode()
        or "sk-lmk" in value.decode()
        or local[-20:] in value.decode()
        or name.lower() in (b"authorization", b"x-api-key", b"api-key", b"cookie")
    ]


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/openai/v1/models", "authorization: Bearer {key}"),
        ("/anthropic/v1/models", "x-api-key: {key}"),
    ],
)
def test_further_slots_with_the_same_key(door: Door, path: str, wanted: str, slot: str) -> None:
    own = "Authorization" if "openai" in path else "x-api-key"
    first = f"{own}: {'Bearer ' if own == 'Authorization' else ''}{door.proxy.local_key}"
    second = slot.replace("{key}", door.proxy.local_key)
    answer = door.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n{first}\r\n{second}\r\n\r\n".encode())
    seen = door.seen()
    if answer.status in (400, 401):
        assert seen == []
        return
    [request] = seen
    assert answer.status == 200
    assert credentials(request, door) == [wanted.replace("{key}", door.world.key(request.family))]
    assert not request.values("openai-organization")
    assert not request.values("openai-project")


@pytest.mark.parametrize(
    "slot", [slot for slot in SLOTS if slot.partition(":")[0] not in ("Cookie",)][:11]
)
def test_two_different_local_keys(door: Door, slot: str) -> None:
    other = door.proxy.mint("bob")
    second = slot.replace("{key}", other)
    refused(door.ask(door.head("GET /openai/v1/models", second)), 400, 401)
    door.assert_untouched()


def test_two_authorization_headers_with_different_keys(door: Door) -> None:
    other = door.proxy.mint("bob")
    for second in (other, "sk-someone-elses-key-000000000000000000"):
        head = door.head("GET /openai/v1/models", f"Authorization: Bearer {second}")
        answer = door.ask(head)
        seen = door.seen()
        if second == other:
            refused(answer, 400, 401)
        assert [request.credential for request in seen] == ["real"] * len(seen)
        assert all(request.values("authorization")[1:] == [] for request in seen)


WRONG = {
    "none": "X-Nothing: a",
    "foreign": "Authorization: Bearer sk-proj-somebodys-own-key-0123456789abcdef",
    "malformed": "Authorization: Bearer sk-lmk-xxx",
    "unknown": "Authorization: Bearer sk-lmk-aaaaaaaaaa-" + "a" * 49,
    "empty": "Authorization: Bearer ",
    "bare": "Authorization:",
    "basic": "Authorization: Basic " + base64.b64encode(b"user:sk-lmk-x").decode(),
    "two words": "Authorization: Bearer a b",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_key_is_401_and_nothing_is_sent(door: Door, kind: str) -> None:
    raw = f"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\n{WRONG[kind]}\r\n\r\n".encode()
    answer = door.ask(raw)
    refused(answer, 401)
    assert b"somebodys-own-key" not in answer.body
    door.assert_untouched()


def test_a_key_with_one_wrong_letter(door: Door) -> None:
    key = door.proxy.local_key
    for at in (8, len(key) // 2, len(key) - 1):
        wrong = key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :]
        raw = f"GET /openai/v1/models HTTP/1.1\r\nHost: a\r\n{door.bearer(wrong)}\r\n\r\n"
        refused(door.ask(raw.encode()), 401)
    door.assert_untouched()


def test_a_local_key_elsewhere_in_the_request_never_travels(door: Door) -> None:
    key = door.proxy.local_key
    for target in (f"/openai/v1/models?note={key}", f"/openai/v1/models/{key}"):
        answer = door.ask(door.head(f"GET {target}"))
        seen = door.seen()
        assert answer.status == 400 or all(key not in request.target for request in seen)


def test_forwarding_marks_and_connection_headers_do_not_travel(door: Door) -> None:
    answer = door.ask(
        door.head(
            "GET /openai/v1/models",
            "X-Forwarded-For: 10.1.2.3",
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Proto: http",
            "X_Forwarded_For: 10.1.2.3",
            "Forwarded: for=10.1.2.3",
            "Via: 1.1 somewhere",
            "X-Real-IP: 10.1.2.3",
            "X-Original-URL: /v1/other",
            "X-Rewrite-URL: /v1/other",
            "X-HTTP-Method-Override: DELETE",
            "Connection: keep-alive, X-Named",
            "X-Named: by connection",
            "Keep-Alive: 1",
            "TE: trailers",
            "Proxy-Connection: keep-alive",
            "Cookie: session=1",
            "User-Agent: attack",
        )
    )
    assert answer.status == 200
    [request] = door.seen()
    assert {name.decode().lower() for name, _ in request.headers} == {
        "host",
        "user-agent",
        "accept-encoding",
        "authorization",
    }
    assert door.proxy.wait_for_log(method="GET", path="/v1/models")["peer"] in ("127.0.0.1", "::1")


def test_a_connection_header_cannot_take_the_credential_or_the_length_away(door: Door) -> None:
    head = door.head(
        "POST /anthropic/odd/json",
        "Connection: authorization, x-api-key, host, content-length, content-type",
        "Content-Type: application/json",
        "Content-Length: 2",
    )
    assert door.ask(head + b"{}").status == 200
    [request] = door.seen()
    assert (request.credential, request.body) == ("real", b"{}")
