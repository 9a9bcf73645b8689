"""What a flow shows of a request, and the way back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llamakey_addon.config import Settings
from llamakey_addon.errors import BadRequest, HeadTooLarge
from llamakey_addon.journey import Ask
from llamakey_addon.view.cover import Cover

REAL = "sk-proj-canary-0123456789abcdefghijklmnop"
KEY = f"sk-lmk-abcdefghjk-{'K' * 49}"
SHOWN = "sk-lmk-abcdefghjk-..."


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("settings")
    environ = {"OPENAI_API_KEY": REAL, "LLAMAKEY_HOME": str(folder), "HOME": str(folder)}
    file = folder / "config.yaml"
    file.write_text("{}")
    return Settings.load(Path(file), environ)


ASK = Ask(
    id="lmk_1",
    time_s=0.0,
    peer="127.0.0.1",
    method="POST",
    target="/openai/v1/x",
    headers=((b"Host", b"localhost:8000"),),
    body_length=0,
)


def _field(settings: Settings, name: str, value: str) -> str:
    ask = replace(ASK, headers=((name.encode(), value.encode()),))
    return Cover(ask, settings).headers[0][1].decode()


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", f"Bearer {KEY}", f"Bearer {SHOWN}"),
        ("authorization", f"Token {KEY}", f"Token {SHOWN}"),
        ("x-api-key", KEY, SHOWN),
        ("X_Api_Key", KEY, SHOWN),
        ("Authorization", f"Bearer hf_{KEY}", f"Bearer hf_{SHOWN}"),
        ("Authorization", f"Bearer {KEY} other-secret", f"Bearer {SHOWN} ***"),
        ("Authorization", "Bearer sk-real-of-somebody", "Bearer ***"),
        ("Authorization", "Basic c2stbG1rLWFiYw==", "Basic ***"),
        ("x-api-key", "bare-secret", "***"),
        ("x-goog-api-key", "AIzaSyBare", "***"),
        ("x-custom", f"has {KEY} in it", f"has {SHOWN} in it"),
        ("x-custom", f"has {REAL} in it", f"has {'*' * len(REAL)} in it"),
        ("User-Agent", "openai/2", "openai/2"),
        (
            "Sec-WebSocket-Protocol",
            f"realtime, openai-insecure-api-key.{KEY}",
            f"realtime, openai-insecure-api-key.{SHOWN}",
        ),
        (
            "sec-websocket-protocol",
            "realtime,openai-insecure-api-key.sk-real",
            "realtime, openai-insecure-api-key.***",
        ),
        ("Sec-WebSocket-Protocol", "token, 0123456789abcdef", "token, ***"),
    ],
)
def test_fields(settings: Settings, name: str, value: str, shown: str) -> None:
    assert _field(settings, name, value) == shown


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/gemini/v1beta/models?key=AIzaReal&x=1", "/gemini/v1beta/models?key=***&x=1"),
        (f"/gemini/v1?key={KEY}", f"/gemini/v1?key={SHOWN}"),
        (f"/gemini/v1?k%65y={KEY}", f"/gemini/v1?k%65y={SHOWN}"),
        (f"/gemini/v1?KEY={KEY.replace('-', '%2D')}", f"/gemini/v1?KEY={SHOWN}"),
        (f"/openai/{KEY}/x", f"/openai/{SHOWN}/x"),
        (f"/openai/{REAL}", f"/openai/{'*' * len(REAL)}"),
        ("/openai/v1/x?a=b&c", "/openai/v1/x?a=b&c"),
    ],
)
def test_targets(settings: Settings, target: str, shown: str) -> None:
    assert Cover(replace(ASK, target=target), settings).target.decode() == shown


def test_the_way_back_restores_what_was_covered(settings: Settings) -> None:
    ask = replace(
        ASK,
        target=f"/gemini/v1?key={KEY}",
        headers=(*ASK.headers, (b"Authorization", b"Bearer " + KEY.encode())),
    )
    cover = Cover(ask, settings)
    body = cover.content(b"my key is " + KEY.encode())
    assert KEY.encode() not in body
    again, content = cover.ask(b"PUT", cover.target + b"&y=2", cover.headers, body + b"!")
    assert again.method == "PUT"
    assert again.target == ask.target + "&y=2"
    assert again.headers == ask.headers
    assert content == b"my key is " + KEY.encode() + b"!"
    assert again.body_length == len(content)


def test_an_edit_chooses_neither_host_nor_framing(settings: Settings) -> None:
    fields = (
        (b"Host", b"evil.example"),
        (b"Content-Length", b"5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-A", b"1"),
    )
    again, _ = Cover(ASK, settings).ask(b"POST", b"/openai/v1/x", fields, b"12345")
    assert again.headers == ((b"Host", b"localhost:8000"), (b"X-A", b"1"))


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        (b"GET / HTTP/1.1\r\nX: y", b"/x", ()),
        (b"GET", b"/x HTTP/1.1\r\nX: y", ()),
        (b"GET", b"/x y", ()),
        (b"get", b"/x", ()),
        (b"GET", b"", ()),
        (b"GET", b"/x", ((b"A", b"1\r\nB: 2"),)),
        (b"GET", b"/x", ((b"A\r\nB", b"1"),)),
        (b"GET", b"/x", ((b"A B", b"1"),)),
        (b"GET", b"/x", ((b"A", b"\x00"),)),
        (b"GET", b"/x", ((b"A", "ü".encode()),)),
        (b"GET", b"/x", ((b"", b"1"),)),
    ],
)
def test_an_edit_that_no_client_could_send(
    settings: Settings, method: bytes, target: bytes, fields: tuple[tuple[bytes, bytes], ...]
) -> None:
    with pytest.raises(BadRequest):
        Cover(ASK, settings).ask(method, target, fields, b"")


def test_an_edit_that_is_too_large(settings: Settings) -> None:
    with pytest.raises(HeadTooLarge):
        Cover(ASK, settings).ask(b"GET", b"/x", ((b"A", b"x" * 70_000),), b"")
