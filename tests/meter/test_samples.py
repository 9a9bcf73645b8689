"""Every recorded answer comes to what was worked out by hand, however it arrives."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from llamakey_addon import catalogue
from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.journey import Metered
from llamakey_addon.meter import Asked, meter_for
from llamakey_addon.meter.sockets import socket_meter_for
from llamakey_addon.prices import Prices
from tests.cases import case
from tests.samples import Sample, load

ENTRIES = catalogue.load().entries
SAMPLES = list(load())
PRICES = Prices()
AT_S = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()


def _endpoint(sample: Sample) -> Endpoint:
    found = [e for e in ENTRIES[sample.provider].endpoints if e.name == sample.endpoint]
    used = [endpoint for endpoint in found if endpoint.usage != "none"] or found
    assert used, f"{sample}: no such endpoint"
    return used[0]


def _asked(sample: Sample) -> Asked:
    content = None if sample.asked is None else sample.asked.encode()
    return Asked(content, params=sample.params, length=sample.asked_bytes, model=sample.model)


def _run(sample: Sample, pieces: Iterator[bytes] | list[bytes], coding: str = "") -> Metered:
    headers = [(b"Content-Type", sample.type.encode())]
    headers += [(name.encode(), value.encode()) for name, value in sample.headers.items()]
    if coding:
        headers.append((b"content-encoding", coding.encode()))
    meter = meter_for(_endpoint(sample), sample.status, tuple(headers), _asked(sample))
    for piece in pieces:
        meter.feed(piece)
        meter.so_far()
    return meter.end(complete=True)


def _socket(sample: Sample) -> Metered:
    meter = socket_meter_for(_endpoint(sample), _asked(sample))
    for frame in sample.frames:
        for side, text in frame.items():
            data = text.encode()
            half = len(data) // 2
            meter(up=side == "up", opcode=1, piece=data[:half], ends=False)
            meter(up=side == "up", opcode=1, piece=data[half:], ends=True)
            meter(up=side == "up", opcode=2, piece=b'{"usage":{}}', ends=True)
    return meter.end(complete=True)


PROVIDERS = sorted({sample.provider for sample in SAMPLES})


def _check(sample: Sample, metered: Metered) -> None:
    assert dict(metered.counts) == sample.counts
    assert metered.exact == sample.exact
    assert metered.model == sample.answered
    assert dict(metered.terms) == sample.terms
    assert metered.job == sample.job


@pytest.mark.parametrize("provider", PROVIDERS)
def test_counts_and_cost(provider: str) -> None:
    for sample in SAMPLES:
        if sample.provider == provider:
            with case(sample):
                _check_counts_and_cost(sample)


def _check_counts_and_cost(sample: Sample) -> None:
    assert any("https://" in line for line in sample.comment), "say where it is documented"
    metered = _socket(sample) if sample.frames else _run(sample, [sample.bytes])
    _check(sample, metered)
    bill = PRICES.bill(ENTRIES[sample.provider], sample.priced_as or sample.model, metered, AT_S)
    assert (sample.sum_by_hand or 0) == sample.cost_nusd, "the comment's sum is the cost"
    assert bill.cost_nusd == sample.cost_nusd
    usual = "none" if not sample.counts else "exact" if sample.exact else "estimated"
    assert bill.quality == (sample.quality or usual)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_however_it_arrives(provider: str) -> None:
    for sample in SAMPLES:
        if sample.provider == provider and not sample.frames:
            with case(sample):
                _check_in_pieces(sample)


def _check_in_pieces(sample: Sample) -> None:
    body = sample.bytes
    dice = random.Random(str(sample))
    _check(sample, _run(sample, (body[at : at + 1] for at in range(len(body)))))
    for _ in range(3):
        cuts = sorted(dice.sample(range(len(body)), min(len(body), dice.choice([1, 3, 20]))))
        ends = [*cuts[1:], len(body)]
        pieces = [body[: cuts[0]]]
        pieces += [body[start:end] for start, end in zip(cuts, ends, strict=True)]
        assert b"".join(pieces) == body
        _check(sample, _run(sample, pieces))
        packed = gzip.compress(body) if dice.random() < 0.5 else zlib.compress(body)
        step = dice.choice([1, 7, 1000])
        pieces = [packed[at : at + step] for at in range(0, len(packed), step)]
        _check(sample, _run(sample, pieces, "gzip" if packed[0] == 0x1F else "deflate"))


@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if s.type.startswith("text/event-stream")], ids=str
)
def test_any_line_ends_and_comments(sample: Sample) -> None:
    for end in (b"\r\n", b"\r"):
        body = b"\xef\xbb\xbf: a comment\n\n" + sample.bytes
        body = body.replace(b"\n", end)
        _check(sample, _run(sample, [body]))
        _check(sample, _run(sample, (body[at : at + 1] for at in range(len(body)))))


def test_every_flavour_of_every_provider_has_a_sample() -> None:
    shown = {(sample.provider, _endpoint(sample).usage) for sample in SAMPLES}
    wanted = {
        (entry.id, endpoint.usage)
        for entry in ENTRIES.values()
        for endpoint in entry.endpoints
        if endpoint.usage != "none"
    }
    assert wanted - shown == set(), "flavours without a sample in tests/samples/"
