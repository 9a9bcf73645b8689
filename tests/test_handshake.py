"""The handshake of a WebSocket: what a client may ask, what a provider sees, what it may answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamakey_addon import catalogue, handshake
from llamakey_addon.errors import BadRequest, UpstreamFault
from llamakey_addon.http1 import AnswerHead
from llamakey_addon.journey import Ask, Headers, Upgrade

ENTRIES = catalogue.load().entries
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""Of RFC 6455's own example."""
LOCAL = b"sk-lmk-uraemfwciv-0123456789"

GOOD: Headers = (
    (b"Host", b"localhost"),
    (b"Upgrade", b"WebSocket"),
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits"),
)


def ask(*more: tuple[bytes, bytes], less: bytes = b"", method: str = "GET", body: int = 0) -> Ask:
    headers = tuple(pair for pair in GOOD if pair[0].lower() != less) + more
    return Ask("lmk_1", 0.0, "192.0.2.1", method, "/", headers, body, websocket=True)


def read(provider: str = "openai", *protocols: bytes) -> Upgrade:
    more = tuple((b"Sec-WebSocket-Protocol", value) for value in protocols)
    return handshake.read(ask(*more), ENTRIES[provider])


def test_a_plain_handshake() -> None:
    assert read() == Upgrade(KEY, (), ())
    assert handshake.upstream_fields(read()) == (
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", KEY),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ask(method="POST"),
        ask(body=5),
        ask((b"Upgrade", b"h2c"), less=b"upgrade"),
        ask((b"Upgrade", b"websocket, h2c"), less=b"upgrade"),
        ask((b"Upgrade", b"H2C, websocket"), less=b"upgrade"),
        ask((b"Upgrade", b"websocket")),
        ask((b"Sec-WebSocket-Version", b"8"), less=b"sec-websocket-version"),
        ask((b"Sec-WebSocket-Version", b"13")),
        ask(less=b"sec-websocket-version"),
        ask(less=b"sec-websocket-key"),
        ask((b"Sec-WebSocket-Key", KEY)),
        ask((b"Sec-WebSocket-Key", KEY[:-4]), less=b"sec-websocket-key"),
        ask((b"Sec-WebSocket-Key", KEY[:-3] + b"R=="), less=b"sec-websocket-key"),
        ask((b"Sec-WebSocket-Protocol", b"a, a")),
        ask((b"Sec-WebSocket-Protocol", b"a,,b")),
        ask((b"Sec-WebSocket-Protocol", b"a"), (b"Sec-WebSocket-Protocol", b"b c")),
        ask((b"Sec-WebSocket-Protocol", b", ".join(b"p%d" % n for n in range(33)))),
    ],
)
def test_what_is_no_handshake_of_rfc_6455_is_refused(wrong: Ask) -> None:
    with pytest.raises(BadRequest):
        handshake.read(wrong, ENTRIES["openai"])


@pytest.mark.parametrize(
    ("provider", "offered", "passed"),
    [
        (
            "openai",
            b"realtime, openai-insecure-api-key.%b, openai-beta.realtime-v1" % LOCAL,
            (b"realtime", b"openai-beta.realtime-v1"),
        ),
        # somebody's real key beside a local one in the header does not pass either
        ("openai", b"realtime, openai-insecure-api-key.sk-proj-x", (b"realtime",)),
        (
            "openai",
            b"realtime, openai-organization.org-1, openai-project.proj-1",
            (b"realtime",),
        ),
        ("deepgram", b"token, %b" % LOCAL, ()),
        ("deepgram", b"bearer, eyJhbGciOi", ()),
        ("deepgram", b"token", (b"token",)),
        ("elevenlabs", b"a, %b, b" % LOCAL, (b"a", b"b")),
    ],
)
def test_a_provider_sees_no_subprotocol_with_a_key_or_an_account(
    provider: str, offered: bytes, passed: tuple[bytes, ...]
) -> None:
    upgrade = read(provider, offered)
    assert upgrade.passed == passed
    sent = dict(handshake.upstream_fields(upgrade)).get(b"Sec-WebSocket-Protocol")
    assert sent == (b", ".join(passed) or None)


def test_subprotocols_of_several_lines_are_one_list() -> None:
    assert read("openai", b"a, b", b"c").offered == (b"a", b"b", b"c")


# ── the provider's answer ───────────────────────────────────────────────────────────────────────

RIGHT: Headers = (
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-accept", ACCEPT),
)


def head(*headers: tuple[bytes, bytes]) -> AnswerHead:
    return AnswerHead(101, b"Switching Protocols", headers, 0, True)


def test_the_right_answer_is_the_client_s() -> None:
    fields = handshake.accepted(read(), head(*RIGHT, (b"X-Request-Id", b"7")))
    assert fields == (
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"sec-websocket-accept", ACCEPT),
        (b"X-Request-Id", b"7"),
    )


@pytest.mark.parametrize(
    "headers",
    [
        RIGHT[1:],
        RIGHT[:1] + RIGHT[2:],
        RIGHT[:2],
        (*RIGHT, (b"sec-websocket-accept", ACCEPT)),
        (*RIGHT[:2], (b"sec-websocket-accept", ACCEPT.swapcase())),
        (*RIGHT[:2], (b"sec-websocket-accept", KEY)),
        ((b"upgrade", b"h2c"), *RIGHT[1:]),
        ((b"upgrade", b"websocket, h2c"), *RIGHT[1:]),
        (RIGHT[0], (b"connection", b"close"), RIGHT[2]),
        (*RIGHT, (b"sec-websocket-extensions", b"permessage-deflate")),
        (*RIGHT, (b"sec-websocket-protocol", b"unasked")),
        (*RIGHT, (b"sec-websocket-protocol", b"realtime, realtime")),
        (*RIGHT, (b"sec-websocket-protocol", b"openai-insecure-api-key." + LOCAL)),
    ],
)
def test_any_other_101_is_a_fault(headers: Headers) -> None:
    upgrade = read("openai", b"realtime, openai-insecure-api-key." + LOCAL)
    handshake.accepted(upgrade, head(*RIGHT))
    with pytest.raises(UpstreamFault):
        handshake.accepted(upgrade, head(*headers))


def chosen(upgrade: Upgrade, *headers: tuple[bytes, bytes]) -> list[bytes]:
    return list(handshake.protocols(handshake.accepted(upgrade, head(*RIGHT, *headers))))


def test_the_subprotocol_that_a_client_is_told_is_one_that_it_offered() -> None:
    spoken = read("openai", b"realtime, openai-insecure-api-key." + LOCAL)
    assert chosen(spoken, (b"Sec-WebSocket-Protocol", b"realtime")) == [b"realtime"]
    assert chosen(spoken) == [], "the provider's own choice, where it had one"
    # where none was left for the provider to choose, a browser still wants one of its own
    assert chosen(read("deepgram", b"token, " + LOCAL)) == [b"token"]
    only = b"openai-insecure-api-key." + LOCAL
    assert chosen(read("openai", only)) == [only]
    assert chosen(read()) == []


def test_the_accept_of_rfc_6455_s_example() -> None:
    assert handshake.accept(KEY) == ACCEPT
    assert replace(read(), key=KEY) == read()
