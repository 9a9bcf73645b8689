"""A head that comes again is judged by what has changed since."""

from __future__ import annotations

import gc
import json
import random
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llamakey_addon import http1
from llamakey_addon.journey import KnownHead
from llamakey_addon.keys import mint
from llamakey_addon.mask import PlainMask, _tail, forms, mask_all
from llamakey_addon.meter.asked import _PACKED, Asked, _may_be_packed
from tests.roadside import Bench, make_bench

CHAT = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello there"}]}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


STREAM = CHAT[:-1] + b',"stream":true}'
HEADERS = ("Content-Type: application/json", "X-Label: a")


USED = b'{"model":"gpt-4o-mini","usage":{"prompt_tokens":1000,"completion_tokens":0}}'
COUNTED = OK.replace(b"Length: 2", b"Length: %d" % len(USED)).replace(b"{}", USED)


def chat(bench: Bench, body: bytes = CHAT, answer: bytes = OK, *more: str) -> int:
    """The status of a request, which is answered where it is sent."""
    bench.rim.out.clear()
    wishes = len(bench.rim.wishes)
    bench.client(bench.head("POST /openai/v1/chat/completions", *HEADERS, *more, body=body))
    if len(bench.rim.wishes) > wishes:
        bench.open()
        bench.answer(answer)
    return bench.got("POST")[0].status


def test_a_key_that_is_revoked(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        assert [chat(bench), chat(bench)] == [200, 200]
        bench.store.revoke("laptop")
        assert chat(bench) == 401


def test_a_key_that_ends_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock was set back, and is set right."""
    now_s = 1_793_000_000.0
    monkeypatch.setattr(time, "time", lambda: now_s)
    with make_bench(tmp_path) as bench:
        bench.key = (minted := mint()).text
        bench.store.add_key("desk", "alice", minted, expires_s=now_s)
        assert chat(bench.another_road()) == 401
        now_s -= 100
        assert [chat(bench), chat(bench)] == [200, 200]
        now_s += 200
        assert chat(bench) == 401


def test_somebody_else_whose_key_is_valid_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was set back: an account that was one user's is shared as it was."""
    now_s = 1_793_000_000.0
    monkeypatch.setattr(time, "time", lambda: now_s)
    path = "GET /openai/v1/files/file-0123456789abcdef"
    with make_bench(tmp_path) as bench:
        bench.store.add_key("tower", "bob", mint(), expires_s=now_s)
        bench.client(bench.head(path))
        bench.open()
        bench.answer(OK)
        now_s -= 100
        bench.client(bench.head(path))
        assert [got.status for got in bench.got("GET", "GET")] == [200, 404]


def test_rules_that_are_reloaded(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        assert [chat(bench), chat(bench)] == [200, 200]
        other = tmp_path / "other"
        other.mkdir()
        deny = {"alice": {"deny": [{"providers": ["openai"]}]}}
        with make_bench(other, users=deny) as second:
            bench.gate.reload(second.gate.settings)
        assert chat(bench) == 403


def test_a_body_that_is_longer(tmp_path: Path) -> None:
    with make_bench(tmp_path, users={"alice": {"body_bytes": 1024}}) as bench:
        assert [chat(bench), chat(bench)] == [200, 200]
        assert chat(bench, CHAT.replace(b"there", b"there" * 1000)) == 413
    (tmp_path / "longer").mkdir()
    allow = {"allow": [{"providers": ["openai"], "models": ["gpt-4o*"]}]}
    with make_bench(tmp_path / "longer", users={"alice": allow}) as bench:
        assert chat(bench) == 200
        assert chat(bench, b"") == 403  # none at all names no model


def test_somebody_else_who_has_a_key(tmp_path: Path) -> None:
    """What nobody made through this proxy is one user's alone, and nobody's when there are two."""
    mine = b'{"input":"Hello","model":"gpt-4o-mini","previous_response_id":"resp_0123456789abcdef"}'
    with make_bench(tmp_path) as bench:

        def ask() -> int:
            bench.rim.out.clear()
            wishes = len(bench.rim.wishes)
            bench.client(bench.head("POST /openai/v1/responses", body=mine))
            if len(bench.rim.wishes) > wishes:
                bench.open()
                bench.answer(OK)
            return bench.got("POST")[0].status

        assert [ask(), ask()] == [200, 200]
        bench.store.add_key("tower", "bob", mint())
        assert ask() == 404


def test_models_of_one_head(tmp_path: Path) -> None:
    allow = {"alice": {"allow": [{"providers": ["openai"], "models": ["gpt-4o*"]}]}}
    with make_bench(tmp_path, users=allow) as bench:
        assert [chat(bench), chat(bench)] == [200, 200]
        assert chat(bench, CHAT.replace(b"gpt-4o-mini", b"gpt-5-mini!")) == 403
        assert chat(bench) == 200


def test_limits_of_one_head(tmp_path: Path) -> None:
    """Which caps count a request hangs on its model, too."""
    mini = {"requests": 2, "per": "day", "models": ["gpt-4o-mini"]}
    other = CHAT.replace(b"gpt-4o-mini", b"gpt-4o")
    with make_bench(tmp_path, users={"alice": {"limits": [mini]}}) as bench:
        assert [chat(bench), chat(bench), chat(bench)] == [200, 200, 429]
        assert [chat(bench, other), chat(bench, other), chat(bench, other)] == [200] * 3
        assert chat(bench) == 429


def test_limits_that_are_reloaded(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        assert [chat(bench), chat(bench)] == [200, 200]
        limit = {"requests": 3, "per": "day"}
        (tmp_path / "other").mkdir()
        with make_bench(tmp_path / "other", users={"alice": {"limits": [limit]}}) as second:
            bench.gate.reload(second.gate.settings)
        assert [chat(bench), chat(bench)] == [200, 429]


def test_prices_that_are_reloaded(tmp_path: Path) -> None:
    with make_bench(
        tmp_path, prices=[{"provider": "openai", "model": "gpt-4o*", "input_mtok": 2}]
    ) as bench:
        costs = []
        for usd in (3, 5):
            chat(bench, answer=COUNTED)
            costs.append(bench.log.receipts[-1].cost_nusd)
            other = tmp_path / f"at-{usd}"
            other.mkdir()
            with make_bench(
                other, prices=[{"provider": "openai", "model": "gpt-4o*", "input_mtok": usd}]
            ) as second:
                bench.gate.reload(second.gate.settings)
        chat(bench, answer=COUNTED)
        costs.append(bench.log.receipts[-1].cost_nusd)
        assert costs == [2_000_000, 3_000_000, 5_000_000]


def test_a_budget_that_renews_with_the_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the owner's time zone, also where a change of the clocks lies between."""
    now_s = datetime(2026, 10, 20, 12, tzinfo=UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: now_s)
    config: dict[str, Any] = {
        "users": {"alice": {"budgets": [{"spend": 1, "per": "month"}]}},
        "prices": [{"provider": "openai", "model": "*", "request": 1}],
        "money": {"time_zone": "Europe/Berlin"},
    }
    with make_bench(tmp_path, **config) as bench:
        assert [chat(bench, answer=COUNTED), chat(bench)] == [200, 403]
        now_s = datetime(2026, 10, 31, 22, 59, 59, tzinfo=UTC).timestamp()  # 23:59:59 there
        assert chat(bench) == 403
        now_s += 1
        assert [chat(bench, answer=COUNTED), chat(bench)] == [200, 403]


def test_a_window_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_793_000_000.0
    monkeypatch.setattr(time, "time", lambda: now_s)
    limits = [{"requests": 2, "per": "minute"}, {"requests": 100, "per": "day"}]
    with make_bench(tmp_path, users={"alice": {"limits": limits}}) as bench:
        assert [chat(bench), chat(bench), chat(bench)] == [200, 200, 429]
        now_s += 120
        assert [chat(bench), chat(bench), chat(bench)] == [200, 200, 429]
        now_s -= 120  # as clocks do that are set
        assert chat(bench) == 429


def test_runs_of_letters_are_found_as_if_each_place_was_tried() -> None:
    plainly = re.compile(rb"[A-Za-z0-9+/_-]{1024,}={0,2}")
    dice = random.Random(3)
    for _ in range(200):
        runs = [
            b"x" * dice.choice((1, 3, 1022, 1023, 1024, 2048)) + dice.choice((b"", b"=", b"=="))
            for _ in range(4)
        ]
        text = b"".join(run + dice.choice((b"", b" ", b'"', b"===")) for run in runs)
        assert _PACKED.subn(b"", text) == plainly.subn(b"", text)


def test_a_key_that_has_ended(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        minted = mint()
        bench.store.add_key("short", "alice", minted, expires_s=time.time() + 100)
        bench.key = minted.text
        assert [chat(bench), chat(bench)] == [200, 200]
        bench.store.expire("short", time.time() - 1)
        assert chat(bench) == 401


def test_a_key_for_another_place(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        minted = mint()
        bench.store.add_key("here", "alice", minted, networks=["192.0.2.1/32"])
        bench.key = minted.text
        assert [chat(bench), chat(bench)] == [200, 200]
        assert chat(bench.another_road()) == 401  # from 192.0.2.2


def test_settings_that_are_reloaded(tmp_path: Path) -> None:
    """Where it goes, with which key and headers, and what of its answer is asked for."""
    with make_bench(tmp_path) as bench:
        assert [chat(bench, STREAM), chat(bench, STREAM)] == [200, 200]
        before = bench.sent()[-1]
        assert before.body == STREAM and before.values("X-Label") == ["a"]
        other = tmp_path / "other"
        other.mkdir()
        more: dict[str, Any] = {
            "metering": {"tag_header": "X-Label"},
            "providers": {"openai": {"upstream": "https://eu.api.openai.com", "key": "env:OTHER"}},
            "users": {"alice": {"budgets": [{"spend": 100, "per": "day"}]}},
        }
        key = "sk-real-other-0123456789-abcdefghij"
        with make_bench(other, environ={"OTHER": key}, **more) as second:
            bench.gate.reload(second.gate.settings)
        for _ in range(2):
            assert chat(bench, STREAM) == 200
            sent = bench.sent()[-1]
            assert bench.rim.wishes[-1][0].host == "eu.api.openai.com"
            assert sent.values("Host") == ["eu.api.openai.com"]
            assert sent.values("Authorization") == [f"Bearer {key}"]
            assert sent.values("X-Label") == []  # the tag's, which is ours
            assert sent.values("Accept-Encoding") == ["identity"]
            assert json.loads(sent.body)["stream_options"] == {"include_usage": True}


def test_settings_that_are_reloaded_while_a_body_comes(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        assert chat(bench) == 200
        request = bench.head("POST /openai/v1/chat/completions", *HEADERS, body=CHAT)
        bench.client(request[:-10])
        other = tmp_path / "other"
        other.mkdir()
        with make_bench(other, metering={"tag_header": "X-Label"}) as second:
            bench.gate.reload(second.gate.settings)
        bench.client(request[-10:])
        bench.open()
        assert bench.sent()[-1].values("X-Label") == []


def test_somebody_who_gets_a_key_while_a_body_comes(tmp_path: Path) -> None:
    mine = b'{"input":"Hello","model":"gpt-4o-mini","previous_response_id":"resp_0123456789abcdef"}'
    with make_bench(tmp_path) as bench:
        for status in (200, 404):
            bench.rim.out.clear()
            request = bench.head("POST /openai/v1/responses", body=mine)
            bench.client(request[:-10])
            if status == 404:
                bench.store.add_key("tower", "bob", mint())
            bench.client(request[-10:])
            if status == 200:
                bench.open()
                bench.answer(OK)
            assert bench.got("POST")[0].status == status


def test_a_tag_that_differs_each_time(tmp_path: Path) -> None:
    """Also where it stands under a name without whose value a head is known again."""
    with make_bench(tmp_path, metering={"tag_header": "X-Request-Id"}) as bench:
        for tag in ("one", "two"):
            bench.client(bench.head("GET /openai/v1/models", f"X-Request-Id: {tag}"))
            bench.open()
            bench.answer(OK)
            assert "X-Request-Id" not in str(bench.sent()[0].headers)
        assert [receipt.tag for receipt in bench.receipts] == ["one", "two"]


def test_a_key_under_a_name_whose_values_differ(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        other = mint()
        bench.store.add_key("tower", "bob", other)
        head = bench.head("GET /openai/v1/models", "Traceparent: %s")
        for value, status in (("00-a", 200), ("00-b", 200), (other.text, 401), ("00-c", 200)):
            bench.rim.out.clear()
            wishes = len(bench.rim.wishes)
            bench.client(head.replace(b"%s", value.encode()))
            if len(bench.rim.wishes) > wishes:
                bench.open()
                bench.answer(OK)
                assert bench.sent()[0].values("Traceparent") == [value]
            assert bench.got("GET")[0].status == status


@pytest.mark.parametrize("before", [0, 1, 511, 512, 700])
@pytest.mark.parametrize("size", [1, 1022, 1023, 1024, 1025, 1535, 1536, 3000])
def test_what_is_packed_is_found(before: int, size: int) -> None:
    for other in (b" ", b'"', b"\n"):
        text = other * before + b"Qk0="[:3] * (size // 3 + 1)
        text = text[: before + size] + other * 40
        if _PACKED.search(text):
            assert _may_be_packed(text)
        left, packed = _PACKED.subn(b"", text)
        assert Asked(text).input_tokens() == len(left) // 4 + packed * 1000


def test_a_piece_that_holds_no_key_passes_as_it_is() -> None:
    spelled = forms(b"sk-real-0123456789/+abc")
    long_one = max(spelled, key=len)
    for form in spelled:
        for size in range(len(form) + 1):
            for data in (b"word " + form[:size], form[:size], form[:size] + b" word", b"s" * size):
                masked = mask_all(data, spelled)
                keep = _tail(masked, spelled)
                mask = PlainMask(spelled)
                assert mask.feed(data) == masked[: len(masked) - keep], data
                assert not re.search(re.escape(long_one), mask.end())


def test_heads_that_are_forgotten_are_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that followed from one leads back to it, so the collector of garbage, which seldom
    comes, is not needed."""
    monkeypatch.setattr(http1, "_KNOWN_HEADS", 4)
    monkeypatch.setattr(http1, "_known_heads", http1._KnownHeads())
    config: dict[str, Any] = {"everybody": {"budgets": [{"spend": 5, "per": "day"}]}}
    with make_bench(tmp_path, **config) as bench:
        gc.collect()
        gc.disable()
        try:
            before = _heads()
            for number in range(20):
                for body in (CHAT, STREAM):
                    assert chat(bench, body, OK, f"X-Number: {number}") == 200
            assert 4 <= _heads() - before <= 9  # two generations, and that of the last request
        finally:
            gc.enable()


def _heads() -> int:
    return sum(type(each) is KnownHead for each in gc.get_objects())
