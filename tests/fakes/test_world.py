"""The fakes are trusted to judge the proxy; so they are tested themselves."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys

import pytest

from tests import canary
from tests.client import Wire
from tests.fakes import World
from tests.fakes.families import FAMILIES
from tests.starts import ROOT

CHAT = json.dumps({"model": "fake", "messages": [], "stream": True}).encode()


@pytest.fixture
def wire(world: World):
    with Wire(world.origin("openai"), world.certificates.client_context()) as opened:
        yield opened


def bearer(key: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {key}")]


def test_the_real_key_is_demanded(world: World, wire: Wire) -> None:
    since = world.mark()
    wire.request("GET", "/v1/models")
    assert wire.answer().status == 401
    wire.request("GET", "/v1/models", bearer("sk-proj-of-somebody-else"))
    assert wire.answer().status == 401
    wire.request("GET", "/v1/models", bearer(world.key("openai")) * 2)
    assert wire.answer().status == 401
    wire.request("GET", "/v1/models", bearer(world.key("openai")))
    assert json.loads(wire.answer().body)["object"] == "list"
    seen = [request.credential for request in world.wait_for(4, since=since)]
    assert seen == ["missing", "foreign", "foreign", "real"]


def test_a_local_key_anywhere_is_a_violation(tmp_path) -> None:
    with World(tmp_path) as world:
        world.forbid("another secret")
        hidden = base64.b64encode(b"xxsk-lmk-abc-secretsecret")
        keys = (*canary.forms("sk-lmk-abc-secretsecret"), *canary.forms("another secret"))
        for body in (b"", b"sk-lmk-", hidden, *keys):
            before = len(world.violations)
            with Wire(world.origin("openai"), world.certificates.client_context()) as wire:
                wire.send(b"POST /v1/x HTTP/1.1\r\nHost: x\r\n")
                wire.send(b"Content-Length: %d\r\n\r\n" % len(body))
                # split in the middle: it is found across the borders of reads
                wire.send(body[:3], body[3:])
                assert wire.answer().status == 401
            assert len(world.violations) == before + bool(body)


def test_requests_are_recorded_to_the_byte(world: World, wire: Wire) -> None:
    since = world.mark()
    key = world.key("openai").encode()
    first = b"POST /v1/x?a=1 HTTP/1.1\r\nhOsT: a\r\nauthorization:   Bearer " + key + b"\r\n"
    first += b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n"
    second = b"GET /v1/models HTTP/1.1\r\nHost: b\r\n\r\n"
    wire.send(first + second)
    assert wire.answer().status == 404
    assert wire.answer().status == 401
    one, two = world.wait_for(2, since=since)
    assert (one.raw, two.raw) == (first, second)
    assert one.body == b"abcde"
    assert one.trailers == ((b"X-Sum", b"1"),)
    assert one.headers[0] == (b"hOsT", b"a")
    assert one.connection == two.connection


def test_a_gate_holds_each_chunk(world: World, wire: Wire) -> None:
    gate = world.gate("held")
    fields = [*bearer(world.key("openai")), ("x-fake-gate", "held")]
    wire.request("POST", "/v1/chat/completions", fields, CHAT)
    _, status, _, headers = wire.head()
    gate.wait_until_waiting()
    assert gate.sent == 0
    gate.release()
    chunks = iter(wire.pieces("POST", status, headers))
    assert b'"role": "assistant"' in next(chunks)
    gate.wait_until_waiting()
    assert gate.sent == 1
    gate.open()
    assert b"".join(chunks).endswith(b"data: [DONE]\n\n")


def test_every_fake_listens_and_refuses_in_its_own_words(world: World) -> None:
    words = {}
    for id in FAMILIES:
        with Wire(world.origin(id), world.certificates.client_context()) as wire:
            wire.request("GET", "/v1/models")
            answer = wire.answer()
            assert answer.status in (400, 401, 403), id
            words[id] = json.loads(answer.body)
    assert words["anthropic"]["error"]["type"] == "authentication_error"
    assert words["cohere"]["message"] == "invalid api token"
    assert words["gemini"]["error"]["status"] == "PERMISSION_DENIED"


@pytest.mark.parametrize("kind", ["untrusted", "other-host", "expired"])
def test_bad_certificates_are_bad(world: World, kind: str) -> None:
    with pytest.raises(OSError, match="certificate verify failed"):
        Wire(world.origin("openai", kind), world.certificates.client_context())


def test_scripts_are_performed_to_the_byte(world: World, wire: Wire) -> None:
    path = world.script("strange", b"HTTP/1.1 299 Odd\r\nx: y\r\n\r\nto the", b" end", "close")
    wire.request("GET", path, bearer(world.key("openai")))
    assert wire.rest() == b"HTTP/1.1 299 Odd\r\nx: y\r\n\r\nto the end"


@pytest.mark.parametrize("pad", range(3))
def test_a_secret_is_found_in_disguise(pad: int) -> None:
    secret = "sk-proj-7f3a90"
    text = b"." * pad + secret.encode() + b"..."
    for shown in (
        text,
        base64.b64encode(text),
        base64.urlsafe_b64encode(text),
        text.hex().encode(),
    ):
        assert canary.find(b"before " + shown + b" after", [secret, "sk-other"]) == [secret]
    assert canary.find(b"before sk-proj-7f3a9 after", [secret]) == []


def test_as_a_process_of_its_own(tmp_path) -> None:
    command = [sys.executable, "-m", "tests.fakes", "--folder", str(tmp_path), "openai"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as fake:
        assert fake.stdin
        assert fake.stdout
        start = json.loads(fake.stdout.readline())
        context = ssl.create_default_context(cafile=start["ca"])
        with Wire(start["origins"]["openai"], context) as wire:
            wire.request("GET", "/v1/models", bearer(start["keys"]["openai"]))
            assert wire.answer().status == 200
        for order, key, wanted in (
            ({"do": "requests"}, "target", "/v1/models"),
            ({"do": "open", "gate": "g"}, "sent", 0),
        ):
            fake.stdin.write(json.dumps(order) + "\n")
            fake.stdin.flush()
            said = json.loads(fake.stdout.readline())
            assert said.get("requests", [said])[0][key] == wanted
        fake.stdin.close()
        assert fake.wait(60) == 0
