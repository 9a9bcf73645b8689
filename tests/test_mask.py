"""No real key in an answer: across every chunk border, in every spelling, packed or not."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import zlib
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamakey_addon.errors import UpstreamFault
from llamakey_addon.mask import (
    KeyInAnswer,
    NoMask,
    PackedScan,
    PlainMask,
    forms,
    mask_all,
    mask_for,
)

KEY = b'sk-proj/ab+"\\cd=sk-pr'
FORMS = forms(KEY)
SPELLED: dict[str, bytes] = {
    "plain": KEY,
    "url": quote(KEY.decode(), safe="").encode(),
    "json": json.dumps(KEY.decode())[1:-1].encode(),
    "base64": base64.b64encode(KEY),
}
type Pack = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, tuple[bytes, Pack]] = {
    "gzip": (b"gzip", lambda data: gzip.compress(data, mtime=0)),
    "x-gzip": (b"X-GZip ", lambda data: gzip.compress(data, mtime=0)),
    "stored": (b"gzip", lambda data: gzip.compress(data, 0, mtime=0)),
    "zlib": (b"deflate", zlib.compress),
    "raw deflate": (b"deflate", raw_deflate),
    "members": (
        b"gzip",
        lambda data: b"".join(
            gzip.compress(data[i : i + 3], mtime=0) for i in range(0, len(data), 3)
        ),
    ),
}


def masked(pieces: list[bytes]) -> bytes:
    mask = PlainMask(FORMS)
    return b"".join(map(mask.feed, pieces)) + mask.end()


# ── plain ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SPELLED)
def test_every_spelling_across_every_border(name: str) -> None:
    form = SPELLED[name]
    text = b"before " + form + b" between s sk- " + form + b" after"
    wanted = masked([text])
    assert b"*" * len(form.rstrip(b"=")) in wanted
    assert len(wanted) == len(text)
    assert not any(each in wanted for each in FORMS)
    for cut in range(len(text) + 1):
        assert masked([text[:cut], text[cut:]]) == wanted
    for size in range(1, len(form) + 2):
        assert masked([text[i : i + size] for i in range(0, len(text), size)]) == wanted


@settings(deadline=None, max_examples=400)
@given(
    parts=st.lists(
        st.one_of(
            st.sampled_from(list(SPELLED.values())),
            st.builds(lambda n: KEY[:n], st.integers(0, len(KEY))),
            st.builds(lambda n: KEY[n:], st.integers(0, len(KEY))),
            st.binary(max_size=5),
        ),
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
@example(parts=[KEY[:5], KEY], cuts=list(range(200)))
def test_pieces_make_no_difference(parts: list[bytes], cuts: list[int]) -> None:
    text = b"".join(parts)
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    out = masked(pieces)
    assert len(out) == len(text)
    assert not any(form in out for form in FORMS)
    # only stars were put in, and only where a key stood
    assert all(a == b or b == 0x2A for a, b in zip(text, out, strict=True))
    half = max(map(len, FORMS)) // 2
    ends = any(text.endswith(form[:n]) for form in FORMS for n in range(half, len(form)))
    if not ends and not any(form in text for form in FORMS):
        assert out == text


def test_only_what_may_begin_a_key_is_held_back() -> None:
    mask = PlainMask(FORMS)
    assert mask.feed(b"data: x\n\n") == b"data: x\n\n"
    assert mask.feed(b"ask-p") == b"a"
    assert mask.feed(b"x") == b"sk-px"
    assert mask.feed(KEY[:5]) == b""
    assert mask.end() == KEY[:5]
    assert mask.end() == b""
    assert mask.feed(KEY[:-1]) == b""
    assert mask.end() == b"*" * (len(KEY) - 1), "all but a letter of a key is a key"
    assert mask.feed(b"") == b""


def test_a_key_that_overlaps_itself() -> None:
    mask = PlainMask((b"abab",))
    out = b"".join(mask.feed(bytes([byte])) for byte in b"aababababx") + mask.end()
    assert b"abab" not in out
    assert len(out) == 10


def test_mask_all() -> None:
    assert mask_all(b"Bearer " + KEY, FORMS) == b"Bearer " + b"*" * len(KEY)
    assert mask_all(b"nothing", FORMS) == b"nothing"
    assert mask_all(KEY, ()) == KEY


# ── packed ──────────────────────────────────────────────────────────────────────────────────────


def scan(coding: bytes, pieces: list[bytes], passed: bytearray | None = None) -> bytes:
    """What passes; also in `passed`, as far as it comes."""
    out = bytearray() if passed is None else passed
    mask = mask_for(coding, FORMS)
    assert isinstance(mask, PackedScan)
    for piece in pieces:
        out += mask.feed(piece)
    out += mask.end()
    return bytes(out)


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("size", [1, 2, 3, 17, 1 << 20])
def test_packed_answers_pass_unchanged(kind: str, size: int) -> None:
    coding, pack = PACKED[kind]
    text = b"words " * 100 + KEY[:-1] + bytes(range(256))
    packed = pack(text)
    pieces = [packed[i : i + size] for i in range(0, len(packed), size)]
    assert scan(coding, pieces) == packed


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("name", SPELLED)
def test_a_packed_key_never_passes_whole(kind: str, name: str) -> None:
    coding, pack = PACKED[kind]
    packed = pack(b"words " * 50 + SPELLED[name] + b" more")
    for size in (1, 2, 5, 64, 1 << 20):
        passed = bytearray()
        with pytest.raises(KeyInAnswer, match="holds the real key"):
            scan(coding, [packed[i : i + size] for i in range(0, len(packed), size)], passed)
        assert not any(form in unpack(bytes(passed), kind) for form in FORMS)


def unpack(data: bytes, kind: str) -> bytes:
    """As much as can be read."""
    out = b""
    while data:
        wbits = -zlib.MAX_WBITS if kind == "raw deflate" else zlib.MAX_WBITS | 32
        one = zlib.decompressobj(wbits)
        out += one.decompress(data)
        data = one.unused_data
    return out


@pytest.mark.parametrize("kind", ["gzip", "stored", "zlib", "raw deflate"])
def test_a_key_at_the_border_of_a_step(kind: str) -> None:
    """Unpacking goes by steps of 64 KiB; the last bytes of a step must not wait for more input."""
    coding, pack = PACKED[kind]
    for over in range(-3, len(KEY) + 4):
        packed = pack(bytes([65 + i % 23 for i in range(65536 - over)]) + KEY)
        with pytest.raises(KeyInAnswer):
            scan(coding, [packed])


@pytest.mark.parametrize("kind", ["gzip", "zlib", "raw deflate"])
def test_a_key_at_the_border_of_a_step_when_the_rest_is_yet_to_come(kind: str) -> None:
    coding, pack = PACKED[kind]
    for fill in (b"A", b"AB", b"some more words "):
        for over in range(-2, len(KEY) + 3):
            text = (fill * 65536)[: 65536 - over] + KEY
            packed = pack(text)
            passed = bytearray()
            with pytest.raises(KeyInAnswer):
                scan(coding, [packed[i : i + 1] for i in range(len(packed))], passed)
            assert KEY not in unpack(bytes(passed), kind)


def test_what_zlib_holds_back_at_the_border_of_a_step_is_seen() -> None:
    """A copy that crosses the border needs no further input: all of it may have been taken."""
    for over in range(len(KEY) + 1):
        filler = bytes([65 + i % 23 for i in range(65536 - over - 2 * len(KEY))])
        text = KEY[5:] + filler + b"-" * (len(KEY) + 5) + KEY
        packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
        packed = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
        for end in range(len(packed) - 12, len(packed) + 1):
            plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed[:end])
            mask = mask_for(b"deflate", FORMS)
            if KEY in plain:
                with pytest.raises(KeyInAnswer):
                    mask.feed(packed[:end])
            else:
                assert mask.feed(packed[:end]) in (packed[:end], b"")  # or held back


@pytest.mark.parametrize("kind", ["gzip", "zlib"])
def test_an_answer_that_ends_midway_passes_as_far(kind: str) -> None:
    coding, pack = PACKED[kind]
    packed = pack(b"words " * 100)
    assert scan(coding, [packed[:-9]]) == packed[:-9]


def test_padding_behind_a_member_passes() -> None:
    packed = gzip.compress(b"words", mtime=0) + b"\0" * 20
    for size in (1, 3, 100):
        assert scan(b"gzip", [packed[i : i + size] for i in range(0, len(packed), size)]) == packed


@pytest.mark.parametrize(
    "data",
    [
        b"no gzip at all, rather text",
        b"\x1f\x8bXX",
        gzip.compress(b"a", mtime=0) + b"garbage behind it",
    ],
)
def test_what_cannot_be_read_does_not_pass(data: bytes) -> None:
    with pytest.raises(KeyInAnswer, match="damaged"):
        scan(b"gzip", [data])


def test_damage_midway() -> None:
    packed = bytearray(gzip.compress(bytes(range(256)) * 40, mtime=0))
    packed[-6] ^= 0xFF  # its checksum
    with pytest.raises(KeyInAnswer, match="damaged"):
        scan(b"gzip", [bytes(packed)])


def test_a_bomb_is_bounded() -> None:
    """100 KB that unpack to 80 MiB: given up after 64 MiB, and never whole in memory."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(80)) + packer.flush()
    assert len(packed) < 1 << 19
    with pytest.raises(KeyInAnswer, match="too much"):
        scan(b"deflate", [packed])


def test_a_large_answer_that_packs_well_is_no_bomb() -> None:
    text = b"".join(b'{"index": %d, "text": "some words"}\n' % i for i in range(30_000))
    packed = gzip.compress(text, mtime=0)
    assert scan(b"gzip", [packed]) == packed


# ── which mask ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("coding", "kind"),
    [
        (b"", PlainMask),
        (b"identity", PlainMask),
        (b" Identity ", PlainMask),
        (b"gzip", PackedScan),
        (b"GZIP", PackedScan),
        (b"deflate", PackedScan),
    ],
)
def test_which_mask(coding: bytes, kind: type) -> None:
    assert isinstance(mask_for(coding, FORMS), kind)


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"gzip, br", b"compress", b"x"])
def test_codings_that_cannot_be_read(coding: bytes) -> None:
    with pytest.raises(UpstreamFault) as fault:
        mask_for(coding, FORMS)
    assert "gzip, deflate and identity" in fault.value.detail  # and no word of the provider's


def test_a_key_that_a_packed_answer_spreads_over_pieces_does_not_pass_but_for_its_last_byte() -> (
    None
):
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    mask = mask_for(b"gzip", FORMS)
    passed = mask.feed(packer.compress(b"words ") + packer.flush(zlib.Z_SYNC_FLUSH))
    *begun, last = [
        packer.compress(bytes([byte])) + packer.flush(zlib.Z_SYNC_FLUSH) for byte in KEY
    ]
    for piece in begun:
        passed += mask.feed(piece)
    with pytest.raises(KeyInAnswer):
        mask.feed(last)
    seen = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(passed)
    assert seen.startswith(b"words ")
    assert len(seen) < len(b"words ") + 4


def test_what_a_packed_answer_held_back_passes_when_it_was_no_key() -> None:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    mask = mask_for(b"gzip", FORMS)
    first = packer.compress(b"words " + KEY[:6]) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert mask.feed(first) == b""
    rest = packer.compress(b"and more") + packer.flush()
    assert mask.feed(rest) == first + rest
    assert mask.end() == b""


def test_a_word_of_a_few_letters_is_no_key() -> None:
    """Local servers are given `EMPTY`: stars for it would only spoil answers."""
    assert forms(b"EMPTY") == ()


def test_without_a_key_everything_passes() -> None:
    mask = mask_for(b"br", ())
    assert isinstance(mask, NoMask)
    assert mask.feed(KEY) == KEY
    assert mask.end() == b""


def test_the_forms_of_a_key() -> None:
    assert set(FORMS) == {form.rstrip(b"=") for form in SPELLED.values()}
    assert forms(b"plain-key_1") == (base64.b64encode(b"plain-key_1").rstrip(b"="), b"plain-key_1")
