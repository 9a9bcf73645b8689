"""WebSockets by chance: our reader of frames against wsproto's, and a road between two talkers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed

from llamakey_addon import frames
from llamakey_addon.frames import Control, FrameError, Frames
from tests.roadside import REAL, Bench, make_bench
from tests.test_frames import frame, joined
from tests.test_sockets import SWITCH, ask, client

_CLOSE_BYTES = len(frames.close(1001, "", mask=b"mask"))
MASK = b"\xa5\x01\xff\x33"

_FRAMES = st.tuples(
    st.sampled_from([0, 0, 1, 1, 2, 8, 9, 10, 3, 11]),
    st.one_of(
        st.text("abc", max_size=12).map(str.encode),
        st.integers(120, 130).map(lambda size: b"x" * size),
        st.just(b"y" * 65536),
        st.integers(0, 0xFFFF).map(lambda code: code.to_bytes(2) + b"bye"),
    ),
    st.booleans(),
    st.sampled_from([0, 0, 0, 0, 0, 0, 0x10, 0x40]),
)
#: Where a byte is changed, counted from the front, and to what.
_DAMAGE = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255)), max_size=2)


def as_we_read(
    data: bytes, cuts: list[int], *, masked: bool
) -> tuple[list[tuple[int, bytes]], str]:
    """Whole messages and control frames until a fault, and what is wrong then."""
    reader = Frames(client=masked)
    parts, fault, at = [], "", 0
    try:
        for cut in [*cuts, len(data)]:
            for part in reader.read(data[at : at + cut]):
                parts.append(part)
            at += cut
    except FrameError as error:
        fault = str(error)
    return _whole(parts), fault


def _whole(parts: list[frames.Piece | Control]) -> list[tuple[int, bytes]]:
    last = max(
        (at for at, part in enumerate(parts) if isinstance(part, Control) or part.ends), default=-1
    )
    kept = parts[: last + 1]
    # a message that is interrupted by control frames, and never ends
    ends = [at for at, part in enumerate(kept) if not isinstance(part, Control) and part.ends]
    end = ends[-1] if ends else -1
    return joined(p for at, p in enumerate(kept) if isinstance(p, Control) or at <= end)


def as_wsproto_reads(data: bytes, *, masked: bool) -> tuple[list[tuple[int, bytes]], str, bool]:
    """The same by wsproto; and whether it minds the text's UTF-8, at which we do not look."""
    reader = FrameProtocol(client=not masked, extensions=[])
    reader.receive_bytes(data)
    found: list[tuple[int, bytes]] = []
    text, opcode = b"", 0
    try:
        for part in reader.received_frames():
            if part.opcode is Opcode.CLOSE:
                assert isinstance(part.payload, tuple)
                code, reason = part.payload
                empty = code == CloseReason.NO_STATUS_RCVD
                said = b"" if empty else int(code).to_bytes(2) + (reason or "").encode()
                found.append((frames.CLOSE, said))
                break
            payload: Any = part.payload
            raw = payload.encode() if isinstance(payload, str) else bytes(payload)
            if part.opcode.iscontrol():
                found.append((int(part.opcode), raw))
                continue
            text, opcode = text + raw, int(part.opcode)
            if part.message_finished:
                found.append((opcode, text))
                text = b""
    except ParseFailed as error:
        return found, str(error), error.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA
    return found, "", False


@pytest.mark.parametrize("masked", [False, True], ids=["server", "client"])
@example(sent=[(0, b"", False, 0)], damage=[(1, 1)], cuts=[])
@given(
    sent=st.lists(_FRAMES, min_size=1, max_size=6),
    damage=_DAMAGE,
    cuts=st.lists(st.integers(1, 200), max_size=10),
)
@settings(max_examples=200, deadline=None)
def test_we_read_frames_as_wsproto_does(
    masked: bool,
    sent: list[tuple[int, bytes, bool, int]],
    damage: list[tuple[int, int]],
    cuts: list[int],
) -> None:
    data = bytearray()
    for opcode, payload, fin, first in sent:
        data += frame(opcode, payload, fin=fin, first=first, mask=MASK if masked else b"")
    for at, value in damage:
        data[at % len(data)] = value
    ours, fault = as_we_read(bytes(data), cuts, masked=masked)
    theirs, their_fault, by_text = as_wsproto_reads(bytes(data), masked=masked)
    if by_text:
        assert ours[: len(theirs)] == theirs
    else:
        assert ours == theirs
        if fault and not their_fault:  # it looks at some things when the payload has come
            _, their_fault, _ = as_wsproto_reads(bytes(data) + bytes(2**17), masked=masked)
        assert bool(fault) == bool(their_fault), (fault, their_fault)


# ── a road between two talkers ──────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("seed", range(16))
def test_a_road_passes_what_both_say_and_no_more(folder: Path, seed: int) -> None:
    random = Random(seed)
    place = folder / str(seed)
    place.mkdir()
    with make_bench(place, {"body_bytes": 2**20}) as bench:
        ask(bench, "GET /openai/v1/realtime?model=m")
        link = bench.open()
        link.written.clear()
        bench.answer(SWITCH)
        bench.rim.out.clear()
        said_up, said_down, messages = _talk(random, bench)
        ended = bench.rim.closed() or bench.rim.finished()
        # what goes up is what the client said, byte for byte, and a close of ours at the most
        passed = bytes(link.written)
        if ended:
            assert said_up.startswith((passed, passed[:-_CLOSE_BYTES]))
        else:
            assert passed == said_up
        out = bytes(bench.rim.out)
        assert REAL.encode() not in out
        got = joined(Frames(client=False).read(out))
        masked = [(op, text.replace(REAL.encode(), b"*" * len(REAL))) for op, text in messages]
        assert [each for each in got if each[0] != frames.CLOSE][: len(masked)] == masked
        assert ended or len(out) == len(said_down)
        bench.road.client_closed()
        assert len(bench.receipts) == 1
        assert bench.receipts[0].bytes_up >= len(passed) - _CLOSE_BYTES


def _talk(random: Random, bench: Bench) -> tuple[bytes, bytes, list[tuple[int, bytes]]]:
    """Some frames either way in pieces; what was said, and the provider's messages by meaning."""
    up, down = bytearray(), bytearray()
    messages: list[tuple[int, bytes]] = []
    for _ in range(random.randrange(1, 12)):
        if random.random() < 0.5:
            data = client(random.choice((1, 2, 9)), random.randbytes(random.randrange(0, 120)))
            if random.random() < 0.05:
                data = random.randbytes(40)
            up += data
            _in_pieces(random, data, bench.road.client_data)
        else:
            real = REAL.encode()
            text = random.choice((real, real[:20], b"no key")) + random.randbytes(30).hex().encode()
            opcode, at = random.choice((1, 2)), random.randrange(len(text))
            data = frame(opcode, text[:at], fin=False)
            if random.random() < 0.3:
                data += frame(frames.PING, b"?")
                messages.append((frames.PING, b"?"))
            data += frame(0, text[at:])
            messages.append((opcode, text))
            down += data
            _in_pieces(random, data, bench.answer)
        if bench.rim.closed() or bench.rim.finished():
            break
    return bytes(up), bytes(down), messages


def _in_pieces(random: Random, data: bytes, feed: Callable[[bytes], None]) -> None:
    while data:
        size = random.choice((1, 3, 50, len(data)))
        feed(data[:size])
        data = data[size:]
