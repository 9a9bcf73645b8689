"""WebSockets on the road: admitted like a request, relayed frame by frame, ended from any side."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamakey_addon import frames, handshake
from llamakey_addon.errors import Spent, UpstreamFault
from llamakey_addon.frames import Control, Frames
from llamakey_addon.journey import Receipt
from llamakey_addon.store.ledger import Row
from tests.roadside import REAL, Bench, Link, make_bench, without_id
from tests.test_frames import frame, joined

KEY = base64.b64encode(b"0123456789abcdef")
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY.decode()}",
    "Sec-WebSocket-Extensions: permessage-deflate",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + handshake.accept(KEY) + b"\r\n\r\n"
)
MASK = b"\x11\x22\x33\x44"
REALTIME = "GET /openai/v1/realtime?model=gpt-realtime"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with make_bench(tmp_path, {"json_body_bytes": 4096, "body_bytes": 65536}) as made:
        yield made


def ask(bench: Bench, line: str = REALTIME, *headers: str, key: str | None = "") -> None:
    bench.client(bench.head(line, *UPGRADE, *headers, key=key))


def opened(bench: Bench, line: str = REALTIME, *headers: str) -> Link:
    """A WebSocket that is open, its handshake taken off both sides."""
    ask(bench, line, *headers)
    link = bench.open()
    link.written.clear()
    bench.answer(SWITCH)
    assert bench.rim.out.startswith(b"HTTP/1.1 101 ")
    bench.rim.out.clear()
    return link


def client(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    return frame(opcode, payload, fin=fin, mask=MASK)


def up(link: Link) -> list[tuple[int, bytes]]:
    """What the provider has read, as messages."""
    return joined(Frames(client=True).read(bytes(link.written)))


def down(bench: Bench) -> list[tuple[int, bytes]]:
    """What the client has read, as messages."""
    return joined(Frames(client=False).read(bytes(bench.rim.out)))


def goodbye(bench: Bench) -> tuple[int, str]:
    """Code and reason of the close that the client has read last."""
    *_, last = Frames(client=False).read(bytes(bench.rim.out))
    assert isinstance(last, Control)
    assert last.opcode == frames.CLOSE
    return last.code, last.reason


def closing(code: int, reason: bytes = b"", mask: bytes = b"") -> bytes:
    return frame(frames.CLOSE, struct.pack("!H", code) + reason, mask=mask)


# ── the handshake ───────────────────────────────────────────────────────────────────────────────


def test_a_handshake_goes_up_with_the_real_key_and_nothing_of_the_local_one(bench: Bench) -> None:
    ask(bench, REALTIME, "OpenAI-Beta: realtime=v1", "Cookie: a=b", "OpenAI-Project: mine")
    bench.open()
    [sent] = bench.sent()
    assert (sent.method, sent.target) == ("GET", "/v1/realtime?model=gpt-realtime")
    assert sent.headers == [
        (b"Host", b"api.openai.com"),
        (b"OpenAI-Beta", b"realtime=v1"),
        (b"Accept-Encoding", b"identity"),
        (b"Authorization", f"Bearer {REAL}".encode()),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", KEY),
    ]
    assert bench.key.encode() not in bench.links[0].written
    bench.answer(SWITCH)
    assert without_id(bytes(bench.rim.out)) == SWITCH
    assert bench.receipts == []


def test_a_key_among_the_subprotocols(bench: Bench) -> None:
    protocols = f"realtime, openai-insecure-api-key.{bench.key}, openai-project.mine"
    ask(bench, REALTIME, f"Sec-WebSocket-Protocol: {protocols}", key=None)
    bench.open()
    [sent] = bench.sent()
    assert sent.values("sec-websocket-protocol") == ["realtime"]
    assert sent.values("authorization") == [f"Bearer {REAL}"]
    assert bench.key.encode() not in bench.links[0].written
    bench.answer(SWITCH[:-2] + b"Sec-WebSocket-Protocol: realtime\r\n\r\n")
    assert b"Sec-WebSocket-Protocol: realtime\r\n" in bench.rim.out


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (REALTIME, (), 401),
        (REALTIME, ("Authorization: Bearer sk-proj-real",), 401),
        (REALTIME, ("Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-x",), 401),
    ],
)
def test_without_a_local_key_nothing_goes_up(
    bench: Bench, line: str, headers: tuple[str, ...], status: int
) -> None:
    ask(bench, line, *headers, key=None)
    assert bench.got()[0].status == status
    assert bench.upstream_untouched


@pytest.mark.parametrize(
    "line",
    ["GET /openai/v1/models", "GET /openai/no/such/path", "POST /openai/v1/realtime?model=x"],
)
def test_no_websocket_where_the_endpoint_is_none(bench: Bench, line: str) -> None:
    ask(bench, line)
    assert bench.got()[0].status == 501
    assert bench.upstream_untouched


@pytest.mark.parametrize(
    "headers",
    [
        ("Upgrade: H2C, websocket", *UPGRADE[1:]),
        ("Upgrade: websocket/13", *UPGRADE[1:]),
        (*UPGRADE[:2], *UPGRADE[3:]),
        (*UPGRADE[:2], "Sec-WebSocket-Version: 7", *UPGRADE[3:]),
        (*UPGRADE[:3], "Sec-WebSocket-Key: short"),
        (*UPGRADE, "Content-Length: 3"),
        (*UPGRADE, "Transfer-Encoding: chunked"),
    ],
)
def test_half_a_handshake_is_a_400(bench: Bench, headers: tuple[str, ...]) -> None:
    bench.client(bench.head(REALTIME, *headers))
    assert bench.got()[0].status == 400
    assert bench.upstream_untouched


def test_an_upgrade_of_http_1_0_is_no_upgrade(bench: Bench) -> None:
    bench.client(bench.head(f"{REALTIME} HTTP/1.0", *UPGRADE))
    link = bench.open()
    assert b"upgrade" not in link.written.lower()
    assert b"websocket" not in link.written.lower()


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH.replace(b"Accept: ", b"Accept: x"),
        SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        SWITCH[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        SWITCH[:-2] + b"Sec-WebSocket-Protocol: unasked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_a_wrong_101_is_a_502(bench: Bench, answer: bytes) -> None:
    ask(bench)
    link = bench.open()
    bench.answer(answer + frame(frames.TEXT, b"hello"))
    [got] = bench.got()
    assert got.status == 502
    assert b"hello" not in bench.rim.out
    assert link.state == "dropped"
    assert bench.only_receipt().denied == "upstream_unreachable"


def test_a_101_that_nobody_asked_for_is_a_502(bench: Bench) -> None:
    bench.client(bench.head(REALTIME))
    bench.open()
    bench.answer(SWITCH)
    assert bench.got()[0].status == 502


def test_a_refusal_of_the_provider_s_passes_and_the_connection_goes_on(bench: Bench) -> None:
    ask(bench)
    link = bench.open()
    bench.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope")
    [got] = bench.got()
    assert (got.status, got.body, got.header("connection")) == (403, b"nope", "")
    assert link.state == "given back"
    assert bench.only_receipt().status == 403
    bench.client(bench.head("GET /openai/v1/models"))
    assert len(bench.rim.wishes) == 2


def test_frames_that_came_before_a_refusal_are_no_request(bench: Bench) -> None:
    ask(bench)
    bench.open()
    bench.client(client(frames.TEXT, b"GET /openai/v1/models HTTP/1.1\r\n\r\n"))
    bench.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope")
    [got] = bench.got(closed=True)
    assert got.header("connection") == "close"
    assert bench.rim.finished()
    assert len(bench.receipts) == 1


def test_frames_that_came_before_the_101_go_up_after_it(bench: Bench) -> None:
    ask(bench)
    link = bench.open()
    link.written.clear()
    bench.client(client(frames.TEXT, b"early"))
    assert not link.written
    bench.answer(SWITCH + frame(frames.TEXT, b"hello"))
    assert up(link) == [(frames.TEXT, b"early")]
    assert without_id(bytes(bench.rim.out)) == SWITCH + frame(frames.TEXT, b"hello")


def test_a_stale_connection_is_replaced(bench: Bench) -> None:
    ask(bench)
    bench.open(reused=True)
    bench.end_link()
    assert bench.rim.wishes[-1][1], "a fresh one is wished for"
    bench.open()
    bench.answer(SWITCH)
    assert bench.rim.out.startswith(b"HTTP/1.1 101 ")


# ── frames ──────────────────────────────────────────────────────────────────────────────────────


def test_bytes_pass_as_they_came_in_both_directions(bench: Bench) -> None:
    link = opened(bench)
    for data in (
        client(frames.TEXT, b"a", fin=False),
        client(frames.PING, b"are you there"),
        client(0, b"b" * 300),
        client(frames.BINARY, b"\0\xff" * 5000),
    ):
        link.written.clear()
        bench.client(data)
        assert bytes(link.written) == data
    for data in (
        frame(frames.PONG, b"are you there"),
        frame(frames.TEXT, b"hello", fin=False),
        frame(0, b" there"),
        frame(frames.PING, b""),
    ):
        bench.rim.out.clear()
        bench.answer(data)
        assert bytes(bench.rim.out) == data


def test_a_frame_passes_before_it_is_whole(bench: Bench) -> None:
    link = opened(bench)
    data = client(frames.BINARY, b"x" * 50000)
    bench.client(data[:1000])
    assert bytes(link.written) == data[:1000]
    answer = frame(frames.BINARY, b"y" * 50000)
    bench.answer(answer[:1000])
    assert bytes(bench.rim.out) == answer[:1000]


def test_silence_is_no_end(bench: Bench) -> None:
    opened(bench)
    bench.wait(7 * 86400)
    assert not bench.rim.closed()
    bench.answer(frame(frames.TEXT, b"still here"))
    assert down(bench) == [(frames.TEXT, b"still here")]


def test_pressure_holds_the_other_side_back(bench: Bench) -> None:
    link = opened(bench)
    bench.road.link_writable(False)
    assert bench.rim.paused()
    bench.client(client(frames.TEXT, b"on its way already"))
    bench.road.link_writable(True)
    assert not bench.rim.paused()
    assert up(link) == [(frames.TEXT, b"on its way already")]
    bench.road.client_writable(False)
    assert link.paused()
    bench.road.client_writable(True)
    assert not link.paused()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_an_echoed_key_is_masked_wherever_it_is_split(bench: Bench, cut: int) -> None:
    opened(bench)
    real = REAL.encode()
    text = b'{"error": "wrong key ' + real + b'", "and": "more"}'
    stars = text.replace(real, b"*" * len(real))
    data = frame(frames.TEXT, text[:cut], fin=False)
    data += frame(frames.PING, b"between")
    data += frame(0, text[cut : cut + 10], fin=False) + frame(0, text[cut + 10 :])
    for byte in data:
        bench.answer(bytes((byte,)))
    assert real not in bench.rim.out
    assert joined_text(bench) == stars
    assert (frames.PING, b"between") in down(bench)
    bench.answer(frame(frames.TEXT, text) + frame(frames.TEXT, b"next"))
    assert down(bench)[-2:] == [(frames.TEXT, stars), (frames.TEXT, b"next")]


def joined_text(bench: Bench) -> bytes:
    return next(text for opcode, text in down(bench) if opcode == frames.TEXT)


def test_what_only_begins_a_key_passes_with_the_end_of_its_message(bench: Bench) -> None:
    opened(bench)
    bench.answer(frame(frames.TEXT, b"ends in " + REAL[:6].encode()))
    assert down(bench) == [(frames.TEXT, b"ends in " + REAL[:6].encode())]
    bench.answer(frame(frames.TEXT, REAL[:30].encode()))
    assert down(bench)[-1] == (frames.TEXT, b"*" * 30), "most of a key is as good as one"


def test_a_key_in_the_handshake_is_masked(bench: Bench) -> None:
    ask(bench)
    bench.open()
    bench.answer(SWITCH[:-2] + b"X-Debug: " + REAL.encode() + b"\r\n\r\n")
    assert REAL.encode() not in bench.rim.out
    assert b"X-Debug: *****" in bench.rim.out


# ── ends ────────────────────────────────────────────────────────────────────────────────────────


def only(bench: Bench) -> Receipt:
    receipt = bench.only_receipt()
    assert (receipt.provider, receipt.user, receipt.method) == ("openai", "alice", "GET")
    return receipt


def test_a_goodbye_of_the_client_s_is_booked_once(bench: Bench) -> None:
    link = opened(bench)
    bench.client(client(frames.TEXT, b"hello"))
    bench.answer(frame(frames.TEXT, b"hello you"))
    bench.client(closing(1000, b"done", MASK))
    bench.answer(closing(1000, b"done"))
    bench.end_link()
    assert goodbye(bench) == (1000, "done")
    assert bench.rim.finished()
    bench.road.client_closed()
    assert bench.rim.closed()
    assert link.state == "dropped"
    receipt = only(bench)
    assert (receipt.status, receipt.end, receipt.endpoint) == (101, "complete", "realtime")
    assert receipt.model == "gpt-realtime"
    assert receipt.bytes_up == len(client(frames.TEXT, b"hello") + closing(1000, b"done", MASK))
    assert receipt.bytes_down == len(frame(frames.TEXT, b"hello you") + closing(1000, b"done"))


def test_a_goodbye_of_the_provider_s_is_complete_too(bench: Bench) -> None:
    opened(bench)
    bench.answer(closing(1011, b"overloaded"))
    bench.road.client_closed()
    assert only(bench).end == "complete"


def test_who_never_answers_a_goodbye_is_cut(bench: Bench) -> None:
    link = opened(bench)
    bench.client(closing(1000, b"", MASK))
    bench.wait(9)
    assert link.state == "lent"
    bench.wait(2)
    assert link.state == "dropped"
    assert bench.rim.closed()
    assert only(bench).end == "complete"


def test_a_client_that_just_leaves(bench: Bench) -> None:
    link = opened(bench)
    bench.client(client(frames.TEXT, b"half a message", fin=False))
    bench.road.client_closed()
    assert link.state == "dropped"
    assert only(bench).end == "client left"


@pytest.mark.parametrize("orderly", [True, False])
def test_a_provider_that_just_leaves(bench: Bench, orderly: bool) -> None:
    opened(bench)
    bench.answer(frame(frames.TEXT, b"half a message", fin=False))
    bench.end_link(orderly=orderly)
    assert bench.rim.finished()
    assert only(bench).end == "upstream cut"
    bench.wait(3)
    assert bench.rim.closed()


def test_bytes_behind_a_goodbye_go_nowhere(bench: Bench) -> None:
    link = opened(bench)
    bench.client(closing(1000, b"", MASK) + client(frames.TEXT, b"more"))
    assert up(link) == [(frames.CLOSE, struct.pack("!H", 1000))]
    bench.answer(closing(1000) + frame(frames.TEXT, b"more"))
    assert down(bench) == [(frames.CLOSE, struct.pack("!H", 1000))]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(frames.TEXT, b"not masked"), 1002),
        (client(3, b"x"), 1002),
        (b"GET /openai/v1/models HTTP/1.1\r\n", 1002),
        (client(frames.CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        (client(frames.BINARY, b"x" * 65537), 1009),
    ],
)
def test_a_client_that_breaks_the_protocol(bench: Bench, data: bytes, code: int) -> None:
    link = opened(bench)
    good = client(frames.TEXT, b"good")
    bench.client(good + data)
    assert goodbye(bench)[0] == code
    assert up(link) == [(frames.TEXT, b"good"), (frames.CLOSE, struct.pack("!H", 1001))]
    assert link.state == "dropped"
    assert only(bench).end == "the client broke the protocol"
    bench.client(b"x" * 1000)
    bench.wait(3)
    assert bench.rim.closed()


@pytest.mark.parametrize(
    "data", [frame(frames.TEXT, b"x", mask=MASK), frame(frames.TEXT, first=0x40), b"HTTP/1.1 200 "]
)
def test_a_provider_that_breaks_the_protocol(bench: Bench, data: bytes) -> None:
    link = opened(bench)
    bench.answer(frame(frames.TEXT, b"good") + data)
    assert down(bench)[0] == (frames.TEXT, b"good")
    assert goodbye(bench)[0] == 1014
    assert link.state == "dropped"
    assert only(bench).end == "upstream broke the protocol"


def test_an_end_from_our_side_tells_both(bench: Bench) -> None:
    link = opened(bench)
    bench.road.end("budget spent", frames.POLICY)
    assert goodbye(bench) == (1008, "LlamaKey: budget spent")
    assert up(link) == [(frames.CLOSE, struct.pack("!H", 1001))]
    assert bench.rim.finished()
    assert only(bench).end == "budget spent"
    bench.road.end("again")
    bench.road.client_closed()
    assert len(bench.receipts) == 1


def test_an_end_in_the_middle_of_a_frame_is_a_cut(bench: Bench) -> None:
    link = opened(bench)
    bench.answer(frame(frames.TEXT, b"x" * 100)[:50])
    bench.client(client(frames.TEXT, b"x" * 100)[:50])
    out, written = bytes(bench.rim.out), bytes(link.written)
    bench.road.end("key revoked", frames.POLICY)
    assert (bytes(bench.rim.out), bytes(link.written)) == (out, written)
    assert bench.rim.closed()
    assert only(bench).end == "key revoked"


def test_an_unreachable_provider_is_a_502(bench: Bench) -> None:
    ask(bench)
    bench.road.unopened(UpstreamFault("x could not be reached. Try again."))
    assert bench.got()[0].status == 502


# ── keys that end ───────────────────────────────────────────────────────────────────────────────


def test_a_revoked_key_s_websocket_is_ended_and_told(bench: Bench) -> None:
    link = opened(bench)
    bench.road.recheck()
    assert link.state == "lent"
    bench.store.revoke("laptop")
    bench.road.recheck()
    assert goodbye(bench) == (1008, "LlamaKey: the key is no longer valid")
    assert link.state == "dropped"
    assert only(bench).end == "the key is no longer valid"
    bench.road.recheck()
    assert len(bench.receipts) == 1


# ── models in messages ──────────────────────────────────────────────────────────────────────────

RESPONSES = "GET /openai/v1/responses"


def message(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_the_model_that_a_message_names_is_booked(bench: Bench) -> None:
    link = opened(bench, RESPONSES)
    create = message(type="response.create", model="gpt-5", input="hi")
    bench.client(client(frames.TEXT, create[:20], fin=False))
    assert not link.written, "not before it is whole, and judged"
    bench.client(client(frames.PING, b"x"))
    assert bytes(link.written) == client(frames.PING, b"x")
    bench.client(client(0, create[20:]))
    assert up(link)[-1] == (frames.TEXT, create)
    bench.client(client(frames.TEXT, message(type="response.cancel", model=5)))
    bench.road.client_closed()
    assert only(bench).model == "gpt-5"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[1]", 1008),
        (b"not JSON", 1008),
        (b'{"model": "a", "model": "b", "type": "response.create"}', 1008),
        (b"\xff\xfe", 1008),
        (b'{"a": "' + b"x" * 5000 + b'"}', 1009),
    ],
)
def test_a_message_that_could_name_two_models_ends_it(
    bench: Bench, content: bytes, code: int
) -> None:
    link = opened(bench, RESPONSES)
    bench.client(client(frames.TEXT, content))
    assert goodbye(bench)[0] == code
    assert up(link) == [(frames.CLOSE, struct.pack("!H", 1001))]
    assert only(bench).end in ("invalid_request", "the client broke the protocol")


def test_gemini_s_live_api_names_its_model_in_the_setup(tmp_path: Path) -> None:
    path = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
    with make_bench(tmp_path, providers={"gemini": {"key": "env:OPENAI_API_KEY"}}) as bench:
        ask(bench, f"GET /gemini{path}?key={bench.key}", key=None)
        link = bench.open()
        assert bench.sent()[0].target == path
        assert bench.sent()[0].values("x-goog-api-key") == [REAL]
        link.written.clear()
        bench.answer(SWITCH)
        bench.client(client(frames.BINARY, message(setup={"model": "models/gemini-live"})))
        bench.client(client(frames.TEXT, message(realtimeInput={"text": "hi"})))
        assert len(up(link)) == 2
        bench.road.client_closed()
        assert bench.only_receipt().model == "models/gemini-live"


# ── rules about models ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Bench]:
    """Alice may use models of one kind alone."""
    users = {"alice": {"allow": [{"providers": ["openai"], "models": ["gpt-5*"]}]}}
    with make_bench(tmp_path, users=users) as made:
        yield made


def test_a_model_in_the_query_is_ruled(ruled: Bench) -> None:
    ask(ruled, REALTIME)
    assert ruled.got()[0].status == 403
    ask(ruled, "GET /openai/v1/realtime?model=gpt-5-realtime")
    assert len(ruled.rim.wishes) == 1


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"type": "response.create", "model": "gpt-5-mini"}, True),
        ({"type": "response.cancel"}, True),
        ({"type": "response.create", "model": "o9-dear"}, False),
        ({"type": "response.create"}, False),
        ({"type": "response.create", "model": 7}, False),
        ({"type": "response.create", "model": None}, False),
    ],
)
def test_a_model_in_a_message_is_ruled(
    ruled: Bench, fields: dict[str, object], passes: bool
) -> None:
    link = opened(ruled, RESPONSES)
    first = message(type="response.create", model="gpt-5", input="hi")
    ruled.client(client(frames.TEXT, first) + client(frames.TEXT, message(**fields)))
    assert up(link)[0] == (frames.TEXT, first), "what was allowed before has passed"
    if passes:
        assert up(link)[1:] == [(frames.TEXT, message(**fields))]
        assert link.state == "lent"
    else:
        assert up(link)[1:] == [(frames.CLOSE, struct.pack("!H", 1001))]
        assert goodbye(ruled)[0] == 1008
        assert only(ruled).end in ("permission_denied", "invalid_request")


@pytest.mark.parametrize("line", [REALTIME, "GET /azure/openai/v1/realtime?model=gpt-realtime"])
def test_models_beside_the_sockets_own_are_ruled(tmp_path: Path, line: str) -> None:
    """What is said to it is written down by a model of its own."""
    allow = [{"models": ["gpt-realtime", "gpt-5-transcribe"]}]
    with make_bench(
        tmp_path,
        users={"alice": {"allow": allow}},
        providers={"azure": {"key": "env:OPENAI_API_KEY", "upstream": "https://a.example"}},
    ) as bench:
        if line.startswith("GET /azure"):
            bench.key, key = bench.key, bench.key
            bench.client(bench.head(line, *UPGRADE, f"api-key: {key}", key=None))
            link = bench.open()
            link.written.clear()
            bench.answer(SWITCH)
            bench.rim.out.clear()
        else:
            link = opened(bench, line)
        fine = [
            message(type="session.update", session={"instructions": "Be brief."}),
            session(input_audio_transcription={"model": "gpt-5-transcribe"}),
            session(audio={"input": {"transcription": {"model": "gpt-5-transcribe"}}}),
            session(model="gpt-realtime", audio={"input": {"transcription": None}}),
        ]
        for text in fine:
            bench.client(client(frames.TEXT, text))
        assert [payload for _, payload in up(link)] == fine
        bad = session(audio={"input": {"transcription": {"model": "whisper-1"}}})
        bench.client(client(frames.TEXT, bad))
        assert up(link)[-1][0] == frames.CLOSE, "nothing of it is sent"
        code, reason = goodbye(bench)
        assert code == 1008 and "whisper-1" in reason


def test_without_rules_of_models_messages_of_a_realtime_session_are_not_read(bench: Bench) -> None:
    link = opened(bench)
    half = client(frames.TEXT, session(audio={"input": {"transcription": {"model": "any"}}}))[:30]
    bench.client(half)
    assert link.written.endswith(half[-4:]), "no message is waited for"


def session(**fields: object) -> bytes:
    return message(type="session.update", session=fields)


# ── limits and budgets ──────────────────────────────────────────────────────────────────────────

PRICES = [
    {"provider": "openai", "model": "gpt-5*", "input_mtok": 1, "output_mtok": 2},
    {"provider": "openai", "model": "gpt-realtime*", "input_mtok": 1, "output_mtok": 2},
]
"""A token in is 1,000 nano-dollars, a token out 2,000."""


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """A bench whose alice has these caps."""
    with contextlib.ExitStack() as stack:

        def make(**alice: object) -> Bench:
            made = make_bench(tmp_path, users={"alice": alice}, prices=PRICES)
            return stack.enter_context(made)

        yield make


def create(model: str = "gpt-5-mini", **more: object) -> bytes:
    return client(frames.TEXT, message(type="response.create", model=model, input="hi", **more))


def completed(tokens_in: int, tokens_out: int, model: str = "gpt-5-mini") -> bytes:
    usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
    response = {"id": "resp_1", "model": model, "usage": usage}
    return frame(frames.TEXT, message(type="response.completed", response=response))


def only_row(bench: Bench) -> Row:
    [row] = bench.store.ledger.rows(0, 1e12)
    return row


def test_a_websocket_has_one_row_with_what_all_its_answers_used(bench: Bench) -> None:
    opened(bench, RESPONSES)
    row = only_row(bench)
    assert (row.open, row.facts.endpoint, row.facts.model) == (True, "responses.socket", "")
    for _ in range(2):
        bench.client(create())
        bench.answer(completed(100, 10))
    assert only_row(bench).facts.model == "gpt-5-mini"
    bench.client(closing(1000, b"", MASK))
    bench.answer(closing(1000))
    bench.end_link()
    row = only_row(bench)
    assert (row.open, row.quality, row.status, row.end) == (False, "exact", 101, "complete")
    assert (row.input_tokens, row.output_tokens, row.facts.model) == (200, 20, "gpt-5-mini")
    assert only(bench).cost_nusd == row.cost_nusd > 0


def test_a_spent_budget_ends_a_websocket_between_its_answers(
    bounded: Callable[..., Bench],
) -> None:
    bench = bounded(budgets=[{"spend": 0.001, "per": "day"}])
    link = opened(bench, RESPONSES)
    bench.client(create(max_output_tokens=50))
    bench.answer(completed(400, 100))  # 600,000 of a million
    assert link.state == "lent"
    bench.client(create(max_output_tokens=50))
    bench.answer(completed(400, 100))
    code, reason = goodbye(bench)
    assert code == 1008
    assert reason.startswith("LlamaKey: This answer has used up the budget")
    assert link.state == "dropped"
    row = only_row(bench)
    assert (row.end, row.cost_nusd) == ("budget used up", 1_200_000)
    assert only(bench).note == "ended by users.alice.budgets[0]"
    ask(bench, RESPONSES)
    assert len(bench.rim.wishes) == 1


def test_a_message_that_the_budget_has_no_room_for_is_not_sent(
    bounded: Callable[..., Bench],
) -> None:
    bench = bounded(budgets=[{"spend": 0.001, "per": "day"}])
    link = opened(bench, RESPONSES)
    bench.client(create(max_output_tokens=50))
    bench.answer(completed(900, 10))
    bench.client(create(instructions="x" * 3000, max_output_tokens=50))
    assert [opcode for opcode, _ in up(link)] == [frames.TEXT, frames.CLOSE]
    assert goodbye(bench)[0] == 1008
    assert only(bench).end == Spent.code
    row = only_row(bench)
    assert (row.open, row.cost_nusd) == (False, 920_000)


def test_a_budget_for_a_model_counts_what_its_messages_name(
    bounded: Callable[..., Bench],
) -> None:
    bench = bounded(budgets=[{"spend": 0.001, "per": "day", "models": ["gpt-5*"]}])
    opened(bench, RESPONSES)
    bench.client(create(max_output_tokens=50))
    bench.answer(completed(1200, 0))
    assert goodbye(bench)[0] == 1008
    assert only_row(bench).cost_nusd == 1_200_000


def test_a_limit_of_requests_counts_each_message_that_asks(bounded: Callable[..., Bench]) -> None:
    bench = bounded(limits=[{"requests": 2, "per": "hour"}])
    link = opened(bench, RESPONSES)
    bench.client(create() + create() + client(frames.TEXT, message(type="response.cancel")))
    assert len(up(link)) == 3
    bench.client(create())
    assert [opcode for opcode, _ in up(link)][3:] == [frames.CLOSE]
    code, reason = goodbye(bench)
    assert code == 1013, "it passes: try again later"
    assert reason.startswith("LlamaKey: 2 requests a")


@pytest.mark.parametrize("model", ["gpt-9-unpriced", "gpt-5-other"])
def test_one_model_to_a_websocket_where_money_is_bounded(
    bounded: Callable[..., Bench], model: str
) -> None:
    bench = bounded(budgets=[{"spend": 1, "per": "day"}])
    link = opened(bench, RESPONSES)
    bench.client(create())
    bench.client(create(model))
    assert [opcode for opcode, _ in up(link)] == [frames.TEXT, frames.CLOSE]
    assert goodbye(bench)[0] == 1008


def test_a_model_without_a_price_is_refused_where_money_is_bounded(
    bounded: Callable[..., Bench],
) -> None:
    bench = bounded(budgets=[{"spend": 1, "per": "day"}])
    link = opened(bench, RESPONSES)
    bench.client(create("gpt-9-unpriced"))
    assert [opcode for opcode, _ in up(link)] == [frames.CLOSE]
    assert "what the model gpt-9-unpriced costs" in goodbye(bench)[1]


def test_a_realtime_session_is_cut_by_its_budget(bounded: Callable[..., Bench]) -> None:
    bench = bounded(budgets=[{"spend": 0.001, "per": "day"}])
    opened(bench)
    usage = {"input_tokens": 100, "output_tokens": 500}
    done = message(type="response.done", response={"usage": usage})
    bench.answer(frame(frames.TEXT, done)[:40])
    assert not bench.rim.finished()
    bench.answer(frame(frames.TEXT, done)[40:])
    assert goodbye(bench)[0] == 1008
    assert only_row(bench).cost_nusd == 1_100_000
