"""What a road reserves, books and tells of limits and budgets."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.utils import accept_key

from llamakey_addon.errors import UpstreamFault
from llamakey_addon.keys import mint
from llamakey_addon.store.ledger import Row
from tests.roadside import Bench, Got, make_bench

PRICES = [{"provider": "openai", "model": "gpt-5*", "input_mtok": 1, "output_mtok": 2}]
"""A token in is 1,000 nano-dollars, a token out 2,000."""
ANY = [{"provider": "*", "model": "*", "input_mtok": 1, "output_mtok": 2}]

type Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(**config: Any) -> Bench:
        return make_bench(tmp_path, **{"prices": PRICES, **config})

    return make


def ask(bench: Bench, *headers: str, key: str = "", model: str = "gpt-5-mini", **more: Any) -> None:
    """A chat completion is asked for."""
    body = json.dumps({"model": model, "messages": [], **more}).encode()
    line = "POST /openai/v1/chat/completions"
    bench.client(bench.head(line, "Content-Type: application/json", *headers, key=key, body=body))


def answer(
    bench: Bench,
    tokens_in: int,
    tokens_out: int,
    status: str = "200 OK",
    model: str = "gpt-5-mini-2025-08-07",
) -> None:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    body = json.dumps({"model": model, "usage": usage}).encode()
    bench.answer(
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % (status.encode(), len(body)),
        body,
    )


def serve(bench: Bench, tokens_in: int = 10, tokens_out: int = 5, **more: Any) -> Got:
    """One request and its answer; the last answer that the client got."""
    ask(bench, **more)
    if bench.links == [] or bench.links[-1].state != "lent":
        bench.open()
    answer(bench, tokens_in, tokens_out)
    return last(bench)


def last(bench: Bench) -> Got:
    return bench.got(*["POST"] * bench.rim.out.count(b"HTTP/1.1 "))[-1]


def refused(bench: Bench, *headers: str, **more: Any) -> Got:
    """A request that is not sent; its answer."""
    wishes = len(bench.rim.wishes)
    ask(bench, *headers, **more)
    assert len(bench.rim.wishes) == wishes
    return last(bench)


def rows(bench: Bench) -> list[Row]:
    return list(bench.store.ledger.rows(0, 1e12))


def only_row(bench: Bench) -> Row:
    [row] = rows(bench)
    return row


def message(got: Got) -> str:
    return str(json.loads(got.body)["error"]["message"])


def event(**parts: Any) -> bytes:
    return b"data: " + json.dumps(parts).encode() + b"\n\n"


def chunk(text: str) -> bytes:
    return event(choices=[{"delta": {"content": text}}], model="gpt-5-mini")


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


# --- rows -----------------------------------------------------------------------------------------


def test_the_row_is_there_before_a_byte_goes_up(make: Make) -> None:
    with make() as bench:
        ask(bench, "X-LlamaKey-Tag: nightly", max_tokens=50)
        assert bench.upstream_untouched is False and not bench.links
        row = only_row(bench)
        assert row.open and (row.facts.user, row.facts.provider) == ("alice", "openai")
        assert (row.facts.endpoint, row.facts.model, row.facts.method) == (
            "chat", "gpt-5-mini", "POST",
        )  # fmt: skip
        assert (row.facts.path, row.facts.tag) == ("/v1/chat/completions", "nightly")
        bench.open()
        assert b"tag" not in bench.links[-1].written.lower()
        answer(bench, 12, 7)
        row = only_row(bench)
        assert (row.open, row.status, row.end, row.quality) == (False, 200, "complete", "exact")
        assert (row.input_tokens, row.output_tokens, row.cost_nusd) == (12, 7, 26_000)
        assert (row.served, row.priced) == ("gpt-5-mini-2025-08-07", "prices[0]")
        assert row.first_byte_ms is not None
        receipt = bench.only_receipt()
        assert row.id == receipt.id == last(bench).header("x-llamakey-request-id")
        assert (receipt.cost_nusd, receipt.quality, receipt.tag) == (26_000, "exact", "nightly")
        assert receipt.counts["output_tokens"] == 7


def test_every_request_that_is_sent_has_a_row(make: Make) -> None:
    with make() as bench:
        for line in ("GET /openai/v1/models", "GET /openai/v1/unheard-of"):
            bench.client(bench.head(line))
            bench.open()
            bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert [(r.facts.path, r.quality, r.cost_nusd, r.open) for r in rows(bench)] == [
            ("/v1/models", "none", 0, False),
            ("/v1/unheard-of", "none", 0, False),
        ]


def test_what_is_refused_has_none(make: Make) -> None:
    with make(users={"alice": {"allow": []}}) as bench:
        assert refused(bench).status == 403
        bench.client(bench.head("GET /openai/v1/models", key="sk-lmk-nobody"))
        assert rows(bench) == []


def test_a_model_without_a_price_is_marked(make: Make) -> None:
    with make() as bench:
        ask(bench, model="house-model-7")
        bench.open()
        answer(bench, 10, 5, model="house-model-7")
        row = only_row(bench)
        assert (row.quality, row.cost_nusd, row.input_tokens) == ("unpriced", 0, 10)


def test_an_error_that_bills_nothing_costs_nothing(make: Make) -> None:
    alice = {
        "budgets": [{"spend": 1, "per": "day"}],
        "limits": [{"tokens": 9999, "per": "day"}],
    }
    with make(users={"alice": alice}) as bench:
        for status in ("400 Bad Request", "429 Too Many Requests", "500 Oh", "529 Busy"):
            ask(bench)
            bench.open()
            answer(bench, 10, 5, status)
        assert [(r.cost_nusd, r.quality, r.input_tokens) for r in rows(bench)] == [
            (0, "none", 0)
        ] * 4
        [tokens, money] = me(bench)["limits"] + me(bench)["budgets"]
        assert (tokens["left"], money["left"], money["reserved"]) == (9999, 1.0, 0)


def test_no_connection_costs_nothing(make: Make) -> None:
    with make(users={"alice": {"budgets": [{"spend": 1, "per": "day"}]}}) as bench:
        ask(bench)
        bench.road.unopened(UpstreamFault("No way there."))
        assert last(bench).status == 502
        row = only_row(bench)
        assert (row.open, row.status, row.cost_nusd, row.quality) == (False, 502, 0, "none")
        assert bench.only_receipt().cost_nusd == 0
        assert me(bench)["budgets"][0]["left"] == 1


@pytest.mark.parametrize("how", ["client leaves", "upstream ends", "proxy stops", "time is up"])
@pytest.mark.parametrize("begun", ["", "head", "stream"])
def test_what_ends_early_is_settled_once_with_what_was_received(
    make: Make, how: str, begun: str
) -> None:
    limits = {"answer_timeout_s": 30}
    with make(limits=limits, users={"alice": {"budgets": [{"spend": 1, "per": "day"}]}}) as bench:
        ask(bench, stream=True, words="x" * 400)
        link = bench.open()
        if begun:
            bench.answer(STREAM)
        if begun == "stream":
            bench.answer(chunked(*(chunk("four") for _ in range(10))))
        match how:
            case "client leaves":
                bench.road.client_closed()
            case "upstream ends":
                bench.end_link(orderly=False)
            case "proxy stops":
                bench.road.end("the proxy stopped")
            case _:
                bench.wait(40)
        bench.road.client_closed()
        assert link.state == "dropped"
        row = only_row(bench)
        assert not row.open and row.quality == "estimated"
        assert row.input_tokens > 100
        assert row.output_tokens == (10 if begun == "stream" else 0)
        assert row.cost_nusd == row.input_tokens * 1000 + row.output_tokens * 2000
        assert len(bench.receipts) == 1
        assert bench.receipts[0].cost_nusd == row.cost_nusd
        assert counters(bench) == [(row.cost_nusd, 0)]


# --- limits ---------------------------------------------------------------------------------------


def test_a_limit_is_a_429_with_what_sdks_read(make: Make) -> None:
    with make(users={"alice": {"limits": [{"requests": 2, "per": "hour"}]}}) as bench:
        for _ in range(2):
            assert serve(bench).status == 200
        got = refused(bench)
        assert got.status == 429
        assert "2 requests a hour are the most for alice" in message(got)
        assert "users.alice.limits[0]" in message(got)
        assert json.loads(got.body)["error"]["code"] == "rate_limit_exceeded"
        wait_s = int(got.header("Retry-After"))
        assert 0 < wait_s <= 7200
        assert wait_s - 1 <= int(got.header("retry-after-ms")) / 1000 <= wait_s
        assert got.header("x-ratelimit-limit-requests") == "2"
        assert got.header("x-ratelimit-remaining-requests") == "0"
        assert got.header("x-ratelimit-reset-requests").endswith("s")
        assert got.header("x-should-retry") == ""
        assert len(rows(bench)) == 2
        assert bench.receipts[-1].denied == "rate_limit_exceeded"


def test_tokens_are_reserved_and_settled(make: Make) -> None:
    with make(users={"alice": {"limits": [{"tokens": 2000, "per": "month"}]}}) as bench:
        ask(bench, max_tokens=100)
        open_row = only_row(bench)
        assert 0 < open_row.output_tokens <= 100 and open_row.input_tokens > 0
        held = open_row.input_tokens + open_row.output_tokens
        assert counters(bench) == [(0, held)]
        bench.open()
        answer(bench, 900, 1000)
        assert counters(bench) == [(1900, 0)]
        got = refused(bench, max_tokens=200)
        assert got.status == 429
        assert got.header("x-ratelimit-limit-tokens") == "2000"
        assert got.header("x-ratelimit-remaining-tokens") == "100"


def test_what_runs_at_once_is_bounded(make: Make) -> None:
    with make(users={"alice": {"limits": [{"concurrent": 1}]}}) as bench:
        ask(bench)
        other = bench.another_road()
        got = refused(other)
        assert (got.status, got.header("Retry-After")) == (429, "1")
        assert "1 requests at once are the most for alice" in message(got)
        bench.open()
        answer(bench, 1, 1)
        ask(other)
        assert len(other.rim.wishes) == 1


def test_a_key_of_its_own_has_bounds_of_its_own(make: Make) -> None:
    with make(users={"alice": {"limits": [{"requests": 9, "per": "day"}]}}) as bench:
        ci = mint()
        scope = json.dumps({"limits": [{"requests": 1, "per": "day"}]})
        bench.store.add_key("ci", "alice", ci, scope=scope)
        assert serve(bench, key=ci.text).status == 200
        got = refused(bench, key=ci.text)
        assert got.status == 429 and "for this key" in message(got)
        assert serve(bench).status == 200


def test_limits_of_a_team_are_shared_and_each_user_may_have_their_own(make: Make) -> None:
    team = {
        "limits": [
            {"requests": 3, "per": "day"},
            {"requests": 2, "per": "day", "each": ["user"]},
        ]
    }
    with make(teams={"r": team}, users={"alice": {"team": "r"}, "bob": {"team": "r"}}) as bench:
        bob = mint()
        bench.store.add_key("bob", "bob", bob)
        assert [serve(bench).status for _ in range(2)] == [200, 200]
        assert "for the team r, for each user" in message(refused(bench))
        assert serve(bench, key=bob.text).status == 200
        got = refused(bench, key=bob.text)
        assert "3 requests a day are the most for the team r." in message(got)


def test_a_limit_of_a_model_or_a_tag_counts_those_alone(make: Make) -> None:
    limits = [
        {"requests": 1, "per": "day", "models": ["gpt-5-pro*"]},
        {"requests": 1, "per": "day", "each": ["tag"], "tags": ["?*", "*"]},
    ]
    with make(users={"alice": {"limits": limits[:1]}}) as bench:
        assert serve(bench, model="gpt-5-pro").status == 200
        assert refused(bench, model="gpt-5-pro-2025").status == 429
        assert serve(bench).status == 200


def test_caps_of_a_session(make: Make) -> None:
    limit = {"requests": 1, "per": "day", "each": ["tag"]}
    names = ("X-Claude-Code-Session-Id", "session_id", "session-id", "X-Llamakey-Tag")
    with make(users={"alice": {"limits": [limit]}}) as bench:
        for header in (f"{name}: {tag}" for name, tag in zip(names, "abcd", strict=True)):
            ask(bench, header)
            if not bench.links or bench.links[-1].state != "lent":
                bench.open()
            answer(bench, 1, 1)
            assert last(bench).status == 200
            assert refused(bench, header).status == 429
        assert [row.facts.tag for row in rows(bench)] == ["a", "b", "c", "d"]


def test_a_tag_is_bounded_and_printable(make: Make) -> None:
    with make() as bench:
        for value in ("x" * 500, "ä\x07".encode("latin-1").decode("latin-1"), ""):
            if value.isprintable():
                ask(bench, f"X-LlamaKey-Tag: {value}", "session-id: s")
                if not bench.links or bench.links[-1].state != "lent":
                    bench.open()
                answer(bench, 1, 1)
        assert [row.facts.tag for row in rows(bench)] == ["x" * 128, "s"]


def test_a_body_is_as_large_as_its_user_may_send(make: Make) -> None:
    with make(users={"alice": {"body_bytes": 2000}}) as bench:
        got = refused(bench, words="x" * 2000)
        assert got.status == 413 and "users.alice.body_bytes" in message(got)
        head = bench.head("POST /openai/v1/files", "Transfer-Encoding: chunked")
        bench2 = bench.another_road()
        bench2.client(head, chunked(b"y" * 1500))
        bench2.open()
        bench2.client(chunked(b"y" * 600))
        assert last(bench2).status == 413
        assert rows(bench)[-1].status == 413


# --- money ----------------------------------------------------------------------------------------


def test_a_spent_budget_is_a_403_that_says_when_it_renews(make: Make) -> None:
    money = {"currency": "EUR", "per_usd": 0.5, "time_zone": "Europe/Berlin"}
    budget = {"spend": 0.01, "per": "month"}  # 20,000,000 nano-dollars
    with make(money=money, users={"alice": {"budgets": [budget]}}) as bench:
        assert serve(bench, 20_000, 0).status == 200
        got = refused(bench)
        assert got.status == 403
        assert "The budget of EUR 0.01 a month for alice is spent." in message(got)
        assert "It renews at 20" in message(got) and "-01 00:00 Europe/Berlin." in message(got)
        assert json.loads(got.body)["error"]["code"] == "budget_spent"
        assert got.header("x-should-retry") == "false"
        assert got.header("Retry-After") == ""


def test_a_shortage_that_open_requests_make_is_a_429(make: Make) -> None:
    budget = {"spend": 0.001, "per": "total"}  # 1,000,000 nano-dollars
    with make(users={"alice": {"budgets": [budget]}}) as bench:
        ask(bench, max_tokens=450)
        other = bench.another_road()
        got = refused(other, max_tokens=450)
        assert got.status == 429
        assert "reserved for requests that are running" in message(got)
        bench.open()
        answer(bench, 1, 1)
        ask(other, max_tokens=450)
        assert len(other.rim.wishes) == 1


def test_an_estimate_beyond_what_is_left_is_told(make: Make) -> None:
    with make(users={"alice": {"budgets": [{"spend": 0.0001, "per": "total"}]}}) as bench:
        got = refused(bench, max_tokens=450)
        assert got.status == 403
        assert "this request is estimated at USD 0.000" in message(got)
        assert "It does not renew." in message(got)


def test_without_a_price_there_is_no_spending(make: Make) -> None:
    with make(users={"alice": {"budgets": [{"spend": 100, "per": "day"}]}}) as bench:
        got = refused(bench, model="house-model-7")
        assert got.status == 403
        assert json.loads(got.body)["error"]["code"] == "unpriced_model"
        assert "`prices` in config.yaml" in message(got) and "house-model-7" in message(got)
        assert any("house-model-7" in note and "input_mtok" in note for note in bench.log.notes)
        bench.client(bench.head("GET /openai/v1/models"))  # costs nothing
        assert len(bench.rim.wishes) == 1


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nhear-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nx\r\n--b--\r\n'
)
UNITS = [
    # what is asked, what is answered, its price, and what two images, an hour or so come to
    ("images/generations", {"model": "draw-1", "n": 2}, {"data": [{}, {}]}, {"image": 0.04}, 0.08),
    ("audio/speech", {"model": "say-1", "input": "x" * 500}, b"ID3", {"character_mtok": 30}, 0.015),
    ("audio/transcriptions", FORM, {"text": "a", "duration": 90}, {"audio_hour": 0.36}, 0.009),
    ("videos", {"model": "film-1", "seconds": "8"}, {"seconds": "8"}, {"video_second": 0.1}, 0.8),
    ("chat/completions", {"model": "by-call-1"}, {"usage": {}}, {"request": 0.01}, 0.01),
]


@pytest.mark.parametrize(("path", "asked", "answered", "price", "usd"), UNITS)
def test_what_is_not_told_in_tokens_is_admitted_and_billed_by_the_owners_price(
    make: Make, path: str, asked: Any, answered: Any, price: Any, usd: float
) -> None:
    kind = "multipart/form-data; boundary=b" if isinstance(asked, bytes) else "application/json"
    model = "hear-1" if isinstance(asked, bytes) else asked["model"]
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    line = f"POST /openai/v1/{path}"
    budget = {"users": {"alice": {"budgets": [{"spend": 100, "per": "month"}]}}}
    with make(prices=[], **budget) as bench:
        bench.client(bench.head(line, f"Content-Type: {kind}", body=body))
        assert json.loads(last(bench).body)["error"]["code"] == "unpriced_model"
    rule = {"provider": "openai", "model": model, **price}
    with make(name="again", prices=[rule], **budget) as bench:
        bench.client(bench.head(line, f"Content-Type: {kind}", body=body))
        bench.open()
        assert only_row(bench).cost_nusd > 0, "reserved"
        data = answered if isinstance(answered, bytes) else json.dumps(answered).encode()
        what = "audio/mpeg" if isinstance(answered, bytes) else "application/json"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {what}\r\nContent-Length: {len(data)}\r\n\r\n"
        bench.answer(head.encode(), data)
        row = only_row(bench)
        assert row.cost_nusd == round(usd * 10**9)
        assert row.quality in ("exact", "estimated") and row.priced == "prices[0]"
        assert counters(bench) == [(row.cost_nusd, 0)]


def train(bench: Bench, line: str = "POST /openai/v1/fine_tuning/jobs") -> Got:
    """A model is to be trained: what that costs no answer tells."""
    bench.client(bench.head(line, body=b'{"model": "gpt-5-mini", "training_file": "file-1"}'))
    if bench.rim.wishes:
        bench.open()
        bench.answer(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"id": "ftj-1"}')
    return last(bench)


def test_what_no_answer_tells_the_cost_of_is_refused_where_money_is(make: Make) -> None:
    """The model's tokens have a price, its training has none."""
    budget = {"budgets": [{"spend": 100, "per": "day"}]}
    with make(prices=[], users={"alice": budget}) as bench:
        got = train(bench)
        assert got.status == 403 and not bench.rim.wishes
        assert json.loads(got.body)["error"]["code"] == "unpriced_model"
    flat = [{"provider": "openai", "model": "gpt-5*", "request": 25}]
    with make(name="flat", prices=flat, users={"alice": budget}) as bench:
        assert train(bench).status == 200
        [row] = rows(bench)
        assert (row.quality, row.cost_nusd) == ("exact", 25 * 10**9)
    with make(name="free", prices=[]) as bench:
        assert train(bench).status == 200
        assert rows(bench)[-1].quality == "unpriced"


def test_a_batch_is_begun_while_the_budget_is_not_spent(make: Make) -> None:
    """What it costs is told at its end."""
    begin = b'{"input_file_id": "file-1", "endpoint": "/v1/chat/completions"}'
    budget = {"spend": 0.005, "per": "total"}
    with make(users={"alice": {"budgets": [budget]}}) as bench:
        bench.client(bench.head("POST /openai/v1/batches", body=begin))
        bench.open()
        bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert last(bench).status == 200
        assert (only_row(bench).cost_nusd, only_row(bench).quality) == (0, "none")
        assert serve(bench, 10, 5000).status == 200
        bench.client(bench.head("POST /openai/v1/batches", body=begin))
        got = last(bench)
        assert got.status == 403 and json.loads(got.body)["error"]["code"] == "budget_spent"


def batch_file(*models: str) -> bytes:
    """The upload of a batch: a line for each model."""
    lines = [
        json.dumps({"url": "/v1/chat/completions", "body": {"model": model, "messages": []}})
        for model in models
    ]
    parts = (
        b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch',
        b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        + "\n".join(lines).encode(),
    )
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def test_what_a_batch_will_probably_cost_must_be_there(make: Make) -> None:
    """For each line 500 tokens out are guessed, a million nano-dollars, and a few in."""
    form = ("POST /openai/v1/files", "Content-Type: multipart/form-data; boundary=b")
    budget = {"spend": 0.01, "per": "day"}
    with make(users={"alice": {"budgets": [budget]}}) as bench:
        bench.client(bench.head(*form, body=batch_file(*["gpt-5-mini"] * 10)))
        assert message(last(bench)).count("this request is estimated at USD 0.01") == 1
        bench.client(bench.head(*form, body=batch_file("gpt-5-mini", "house-model-7")))
        assert json.loads(last(bench).body)["error"]["code"] == "unpriced_model"
        assert "the model house-model-7" in message(last(bench))
        assert not bench.rim.wishes
        bench.client(bench.head(*form, body=batch_file(*["gpt-5-mini"] * 9)))
        bench.open()
        row = only_row(bench)
        assert row.open and 9_000_000 < row.cost_nusd < 10_000_000
        bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert only_row(bench).cost_nusd == 0, "the truth comes with the batch's end"
        bench.client(bench.head(*form, body=b"--b--\r\n"))  # of no purpose: no batch
        assert len(bench.rim.wishes) == 2


def test_what_is_asked_within_a_body_is_priced_too(make: Make) -> None:
    def batch(model: str) -> bytes:
        return json.dumps({"requests": [{"params": {"model": model}}] * 3}).encode()

    providers = {"anthropic": {"key": "env:OPENAI_API_KEY"}}
    budget = {"spend": 100, "per": "day"}
    with make(prices=[], providers=providers, users={"alice": {"budgets": [budget]}}) as bench:
        line = "POST /anthropic/v1/messages/batches"
        key = f"x-api-key: {bench.key}"
        bench.client(bench.head(line, key, key=None, body=batch("claude-made-up")))
        assert b"claude-made-up" in last(bench).body and not bench.rim.wishes
        bench.client(bench.head(line, key, key=None, body=batch("claude-sonnet-4-5")))
        bench.open()
        # three times 500 tokens at half of 15 dollars a million, and some for what goes in
        assert 11_250_000 < only_row(bench).cost_nusd < 11_400_000


def test_who_looks_at_it_is_not_charged(make: Make) -> None:
    with make(users={"alice": {"budgets": [{"spend": 100, "per": "day"}]}}) as bench:
        bench.client(bench.head("GET /openai/v1/evals/e"))
        bench.open()
        bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        row = only_row(bench)
        assert (row.facts.endpoint, row.quality, row.other) == ("evals.any", "none", {})


def test_a_soft_budget_neither_refuses_nor_asks_for_prices(make: Make) -> None:
    budget = {"spend": 0.00005, "per": "total", "hard": False, "warn_at": [50, 100]}
    with make(users={"alice": {"budgets": [budget]}}) as bench:
        for _ in range(4):
            assert serve(bench, 10, 5).status == 200  # 20,000 each
        assert serve(bench, model="house-model-7").status == 200
        told = [note for note in bench.log.notes if "users.alice.budgets[0]" in note]
        assert len(told) == 2
        assert "USD 0.00004 of USD 0.00005" in told[0] or "50 %" in told[0]
        assert "100 %" in told[1]


def test_what_is_free_costs_nothing(make: Make) -> None:
    prices = [{"provider": "openai", "model": "*", "free": True}]
    budget = {"spend": 0, "per": "total"}
    with make(prices=prices, users={"alice": {"budgets": [budget]}}) as bench:
        assert serve(bench).status == 200
        row = only_row(bench)
        assert (row.quality, row.cost_nusd, row.input_tokens) == ("free", 0, 10)


def test_an_estimate_is_never_nothing(make: Make) -> None:
    """Else a budget that is used up would not stand against it."""
    prices = [{"provider": "openai", "model": "*", "web_search": 0.01}]
    with make(prices=prices, users={"alice": {"budgets": [{"spend": 0, "per": "day"}]}}) as bench:
        got = refused(bench)
        assert got.status == 403 and json.loads(got.body)["error"]["code"] == "budget_spent"


def test_an_estimate_is_learned(make: Make) -> None:
    budget = {"spend": 100, "per": "total"}
    with make(users={"alice": {"budgets": [budget]}}) as bench:
        for _ in range(6):
            serve(bench, 40, 90)
        ask(bench)
        row = rows(bench)[-1]
        assert row.open and row.output_tokens == 90
        assert 35 <= row.input_tokens <= 45
        assert row.cost_nusd == row.input_tokens * 1000 + 90 * 2000
        bench.open() if bench.links[-1].state != "lent" else None
        answer(bench, 40, 90)
        ask(bench, max_tokens=20)
        assert rows(bench)[-1].output_tokens == 20


def test_an_estimate_is_learned_for_others_too_and_survives_a_restart(
    make: Make, tmp_path: Path
) -> None:
    config: dict[str, Any] = {"users": {"alice": {"budgets": [{"spend": 100, "per": "total"}]}}}
    with make(**config) as bench:
        serve(bench, 40, 7)
    with make_bench(tmp_path, prices=PRICES, name="again", **config) as bench:
        ask(bench)
        assert rows(bench)[-1].output_tokens == 7


# --- streams --------------------------------------------------------------------------------------


def test_a_stream_takes_more_as_it_grows(make: Make) -> None:
    with make(users={"alice": {"budgets": [{"spend": 1, "per": "total"}]}}) as bench:
        ask(bench, stream=True, max_tokens=10)
        bench.open()
        bench.answer(STREAM)
        before = only_row(bench).cost_nusd
        for _ in range(40):
            bench.answer(chunked(chunk("some words")))
        row = only_row(bench)
        assert row.open and row.cost_nusd > before and row.output_tokens >= 40
        assert counters(bench) == [(0, row.cost_nusd)]
        last_words = event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 80})
        bench.answer(chunked(last_words, b"data: [DONE]\n\n") + b"0\r\n\r\n")
        row = only_row(bench)
        assert (row.quality, row.cost_nusd) == ("exact", 169_000)
        assert counters(bench) == [(169_000, 0)]
        assert last(bench).whole


@pytest.mark.parametrize(("spend", "most"), [(1, 1), (0.0015, 14)])
def test_it_takes_that_in_few_steps_where_plenty_is_left(
    make: Make, spend: float, most: int
) -> None:
    with make(users={"alice": {"budgets": [{"spend": spend, "per": "total"}]}}) as bench:
        ask(bench, stream=True, max_tokens=10)
        bench.open()
        bench.answer(STREAM)
        written = bench.store.ledger.written
        first = only_row(bench).cost_nusd
        used = first - 10 * 2_000  # what went in; a token that comes out is 2,000 nano-dollars
        for _ in range(160):
            bench.answer(chunked(chunk("fourfour")))
            used += 2 * 2_000
            reserved = only_row(bench).cost_nusd
            ahead = used * 2 + 1000 * 2_000 if spend == 1 else used * 5 // 4
            assert used <= reserved <= max(first, ahead)
        assert bench.store.ledger.written - written <= most


def cut_config(**metering: Any) -> dict[str, Any]:
    spend = {"spend": 0.00025, "per": "total"}  # 250,000 nano-dollars: 125 tokens out
    return {"users": {"alice": {"budgets": [spend]}}, "metering": metering}


def test_a_stream_that_uses_up_a_budget_is_ended_by_the_providers_error(make: Make) -> None:
    with make(**cut_config()) as bench:
        ask(bench, stream=True, max_tokens=30)
        link = bench.open()
        bench.answer(STREAM)
        sent = 0
        while link.state == "lent":
            bench.answer(chunked(chunk(f"word{sent:04}")))
            sent += 1
            assert sent < 300
        got = last(bench)
        assert got.status == 200 and got.whole
        *events, error, nothing = got.body.split(b"\n\n")
        assert nothing == b"" and len(events) == sent - 1
        assert all(json.loads(e.removeprefix(b"data: "))["choices"] for e in events)
        problem = json.loads(error.removeprefix(b"data: "))["error"]
        assert problem["code"] == "budget_spent"
        assert "has used up the budget for alice and was ended here" in problem["message"]
        row = only_row(bench)
        assert (row.open, row.end, row.quality) == (False, "budget used up", "estimated")
        assert 250_000 < row.cost_nusd < 260_000  # a piece beyond it
        assert counters(bench) == [(row.cost_nusd, 0)]
        assert "ended by users.alice.budgets[0]" in bench.only_receipt().note
        assert refused(bench).status == 403


def test_it_is_ended_between_two_events(make: Make) -> None:
    with make(**cut_config()) as bench:
        ask(bench, stream=True, max_tokens=30)
        link = bench.open()
        bench.answer(STREAM)
        data = b"".join(chunk(f"word{n:04}") for n in range(200))
        at = 0
        while link.state == "lent":
            bench.answer(chunked(data[at : at + 37]))
            at += 37
        *events, error, nothing = last(bench).body.split(b"\n\n")
        assert nothing == b""
        assert b"\n\n".join(events) + b"\n\n" == data[: sum(len(e) + 2 for e in events)]
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "budget_spent"


@pytest.mark.parametrize("framing", ["until close", "length", "packed"])
def test_where_no_word_fits_in_the_stream_is_cut(make: Make, framing: str) -> None:
    heads = {
        "until close": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        "length": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Content-Length: 100000\r\n\r\n",
        "packed": STREAM.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"),
    }
    with make(**cut_config()) as bench:
        # a client that asks for usage itself: nothing of the stream is changed
        own: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        ask(bench, "Accept-Encoding: gzip", max_tokens=30, **own)
        link = bench.open()
        assert bench.sent()[0].values("Accept-Encoding") == ["identity"]
        bench.answer(heads[framing])
        pack = zlib.compressobj(wbits=31)
        for number in range(300):
            if link.state != "lent":
                break
            piece = chunk(f"word{number:04}")
            if framing == "packed":  # though it was asked not to: no word can be put into it
                piece = chunked(pack.compress(piece) + pack.flush(zlib.Z_SYNC_FLUSH))
            bench.answer(piece)
        row = only_row(bench)
        assert row.end == "budget used up" and link.state == "dropped"
        assert bench.rim.closed() or bench.rim.finished()
        if framing == "until close":
            assert b"budget_spent" in bytes(bench.rim.out)
        else:
            assert not last(bench).whole and b"budget_spent" not in bytes(bench.rim.out)


def test_streams_go_on_where_the_owner_says_so(make: Make) -> None:
    with make(**cut_config(cut_streams=False)) as bench:
        ask(bench, stream=True, max_tokens=30)
        link = bench.open()
        bench.answer(STREAM)
        for _ in range(300):
            bench.answer(chunked(chunk("word")))
        assert link.state == "lent"
        bench.answer(b"0\r\n\r\n")
        assert last(bench).whole
        assert only_row(bench).cost_nusd > 600_000


def test_answers_that_do_not_stream_come_whole(make: Make) -> None:
    with make(**cut_config()) as bench:
        assert serve(bench, 10, 5000, max_tokens=30).status == 200
        assert only_row(bench).cost_nusd == 10_010_000
        assert refused(bench).status == 403


def test_usage_is_asked_for_and_taken_out_again(make: Make) -> None:
    with make(users={"alice": {"limits": [{"tokens": 99999, "per": "month"}]}}) as bench:
        ask(bench, stream=True)
        bench.open()
        [sent] = bench.sent()
        assert json.loads(sent.body)["stream_options"] == {"include_usage": True}
        assert sent.values("Content-Length") == [str(len(sent.body))]
        usage = {"prompt_tokens": 9, "completion_tokens": 3}
        bench.answer(
            STREAM,
            chunked(
                event(choices=[{"delta": {"content": "a"}}], usage=None),
                event(choices=[], usage=usage),
                b"data: [DONE]\n\n",
            ),
            b"0\r\n\r\n",
        )
        got = last(bench)
        assert got.whole and b"usage" not in got.body and b"[DONE]" in got.body
        row = only_row(bench)
        assert (row.input_tokens, row.output_tokens, row.quality) == (9, 3, "exact")


def test_callers_without_caps_send_what_they_sent(make: Make) -> None:
    with make() as bench:
        ask(bench, stream=True)
        bench.open()
        assert "stream_options" not in json.loads(bench.sent()[0].body)


# --- WebSockets -----------------------------------------------------------------------------------

SOCKET = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept_key("MDEyMzQ1Njc4OWFiY2RlZg==").encode()
)


def frame(**message: Any) -> bytes:
    text = json.dumps(message).encode()
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text.ljust(len(text))


def turn(tokens_out: int) -> bytes:
    """An answer of a realtime session."""
    usage = {"input_tokens": 10, "output_tokens": tokens_out, "total_tokens": 10 + tokens_out}
    response = {"id": "resp_1", "status": "completed", "usage": usage, "output": [{}] * 9}
    return frame(type="response.done", response=response)


def test_a_websocket_has_one_row_with_all_its_turns(make: Make) -> None:
    with make(users={"alice": {"budgets": [{"spend": 1, "per": "total"}]}}, prices=ANY) as bench:
        bench.client(bench.head("GET /openai/v1/realtime?model=gpt-realtime", *SOCKET))
        bench.open()
        assert only_row(bench).open
        bench.answer(SWITCH, turn(40), turn(60))
        assert b"x-llamakey-request-id: lmk_" in bytes(bench.rim.out)
        bench.road.client_closed()
        row = only_row(bench)
        assert not row.open and row.facts.model == "gpt-realtime"
        assert (row.input_tokens, row.output_tokens, row.cost_nusd) == (20, 100, 220_000)
        assert counters(bench) == [(220_000, 0)]


def test_a_websocket_is_ended_where_it_uses_up_a_budget(make: Make) -> None:
    budget = {"spend": 0.002, "per": "total"}  # 1,000 tokens out
    with make(users={"alice": {"budgets": [budget]}}, prices=ANY) as bench:
        bench.client(bench.head("GET /openai/v1/realtime?model=gpt-realtime", *SOCKET))
        link = bench.open()
        bench.answer(SWITCH, turn(400))
        assert link.state == "lent"
        bench.answer(turn(700))
        assert link.state == "dropped"
        assert b"has used up the budget for alice" in bytes(bench.rim.out)
        row = only_row(bench)
        assert (row.end, row.output_tokens) == ("budget used up", 1100)


def test_a_websocket_that_cannot_be_counted_is_not_opened_where_money_is(make: Make) -> None:
    providers = {"xai": {"key": "env:OPENAI_API_KEY"}}
    cases: list[tuple[dict[str, Any], int]] = [
        ({"budgets": [{"spend": 1, "per": "total"}]}, 403),
        ({"limits": [{"tokens": 99, "per": "day"}]}, 403),
        ({"limits": [{"requests": 99, "per": "day"}]}, 0),
    ]
    for alice, status in cases:
        more = {"prices": ANY, "providers": providers, "name": f"laptop-{len(str(alice))}"}
        with make(users={"alice": alice}, **more) as bench:
            bench.client(bench.head("GET /xai/v1/responses", *SOCKET))
            if status:
                assert last(bench).status == 403 and rows(bench) == []
                assert b"can't be counted" in last(bench).body
                continue
            bench.open()
            bench.answer(SWITCH)
            bench.road.client_closed()
            assert only_row(bench).quality == "unpriced"


# --- one's own ------------------------------------------------------------------------------------


def test_what_is_left_is_told_where_that_is_wanted(make: Make) -> None:
    user = {
        "limits": [{"requests": 60, "per": "hour"}, {"concurrent": 4}],
        "budgets": [{"spend": 2, "per": "day"}],
    }
    with make(users={"alice": user}, metering={"show_left": True}) as bench:
        for left in (59, 58):
            told = serve(bench, 10, 5).header("x-llamakey-left")
            assert told.startswith(f"requests;left={left};of=60;per=hour, concurrent;left=3;of=4, ")
        assert "spend;left=1.99" in told and told.endswith(";of=2;currency=USD;per=day")


def test_me(make: Make) -> None:
    user = {
        "team": "r",
        "allow": [{"providers": ["openai"], "models": ["gpt-*"]}],
        "deny": [{"paths": ["files*"]}],
        "limits": [
            {"requests": 60, "per": "hour"},
            {"requests": 9, "per": "day", "each": ["model"]},
        ],
        "budgets": [{"spend": 2, "per": "day"}],
        "body_bytes": 5000,
    }
    teams = {"r": {"budgets": [{"spend": 10, "per": "month"}]}, "s": {}}
    with make(users={"alice": user, "bob": {"team": "r"}}, teams=teams) as bench:
        bob = mint()
        bench.store.add_key("bob", "bob", bob)
        serve(bench, 1000, 0)
        serve(bench, 2_000_000, 0, key=bob.text)
        found = me(bench)
        assert last(bench).header("x-llamakey-request-id") == bench.receipts[-1].id
        assert (found["user"], found["team"], found["key"]["name"]) == ("alice", "r", "laptop")
        assert found["allow"] == [{"providers": ["openai"], "models": ["gpt-*"]}]
        assert found["deny"] == [{"paths": ["files*"]}]
        assert (found["scope"], found["body_bytes"]) == (None, 5000)
        hour, day = found["limits"]
        assert (hour["requests"], hour["per"], hour["left"]) == (60, "hour", 59)
        assert "left" not in day and day["each"] == ["model"]
        own, team = found["budgets"]
        assert (own["spend"], own["left"], own["spent"]) == (2, 1.999, 0.001)
        assert own["renews"].endswith("T00:00:00Z")
        assert (team["for"], team["left"]) == ("team", 7.999) and "spent" not in team
        assert "bob" not in json.dumps(found)


@pytest.mark.parametrize(
    "slot", ["Authorization: Bearer {}", "x-api-key: {}", "api-key: {}", "Authorization: Token {}"]
)
def test_me_in_every_slot(make: Make, slot: str) -> None:
    with make() as bench:
        bench.client(bench.head("GET /_llamakey/me", slot.format(bench.key), key=None))
        assert last(bench).status == 200
        bench.client(bench.head(f"GET /_llamakey/me?key={bench.key}", key=None))
        assert last(bench).status == 200


def test_me_is_for_holders_of_a_key(make: Make) -> None:
    with make() as bench:
        other = mint()
        for line, headers, key in (
            ("GET /_llamakey/me", (), None),
            ("GET /_llamakey/me", (), mint().text),
            ("GET /_llamakey/me", (), bench.key[:-1]),
            ("GET /_llamakey/me", (f"x-api-key: {other.text}",), bench.key),
        ):
            bench.client(bench.head(line, *headers, key=key))
            assert last(bench).status == 401
        bench.client(bench.head("POST /_llamakey/me", body=b""))
        assert last(bench).status == 405
        bench.store.revoke("laptop")
        bench.client(bench.head("GET /_llamakey/me"))
        assert last(bench).status == 401
        assert bench.upstream_untouched and rows(bench) == []


def test_me_tells_which_requests_bear_a_mark(make: Make) -> None:
    with make() as bench:
        assert "seen" not in me(bench)
        assert me(bench)["tag_header"] == "X-LlamaKey-Tag"
        assert me(bench, mark="doctor-0123")["seen"] == []
        for headers, model in (
            (("X-LlamaKey-Tag: doctor-0123",), "gpt-5-mini"),
            ((), "doctor-4567"),
            (("X-LlamaKey-Tag: another-tag",), "gpt-5-mini"),
        ):
            ask(bench, *headers, model=model)
            if bench.links == [] or bench.links[-1].state != "lent":
                bench.open()
            answer(bench, 1, 1)
        [tagged] = me(bench, mark="doctor-0123")["seen"]
        [named] = me(bench, mark="doctor-4567")["seen"]
        assert tagged["id"] == next(r.id for r in bench.log.receipts if r.tag == "doctor-0123")
        assert (tagged["provider"], tagged["endpoint"], tagged["status"]) == ("openai", "chat", 200)
        assert named["model"] == "doctor-4567"
        # another's key learns nothing of it
        other = mint()
        bench.store.add_key("theirs", "bob", other)
        assert me(bench, other.text, mark="doctor-0123")["seen"] == []


@pytest.mark.parametrize(
    "query", ["mark=", "mark=short", "mark=a%25b-------", "mark=aaaaaaaa&mark=b"]
)
def test_me_wants_a_mark_that_can_be_one(make: Make, query: str) -> None:
    with make() as bench:
        bench.client(bench.head(f"GET /_llamakey/me?{query}"))
        assert last(bench).status == 400


# --- failures -------------------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_written_refuses_and_lets_what_runs_end(make: Make) -> None:
    with make(users={"alice": {"limits": [{"concurrent": 5}]}}) as bench:
        ask(bench)
        bench.open()
        blocker = connect(bench)
        blocker.execute("BEGIN IMMEDIATE")
        answer(bench, 10, 5)
        assert last(bench).whole
        for _ in range(3):
            got = refused(bench)
            assert got.status == 503
            assert "can't write its ledger" in message(got)
            assert got.header("Retry-After") == "5"
        blocker.execute("ROLLBACK")
        blocker.close()
        assert serve(bench).status == 200
        assert [(r.open, r.output_tokens) for r in rows(bench)] == [(False, 5), (False, 5)]
        assert len([note for note in bench.log.notes if "No new request is sent" in note]) == 1


def test_a_settlement_that_fails_is_booked_as_reserved(make: Make, monkeypatch: Any) -> None:
    budget = {"spend": 1, "per": "total"}
    with make(users={"alice": {"budgets": [budget]}}) as bench:

        def broken(*args: object, **more: object) -> None:
            raise RuntimeError("oh")

        monkeypatch.setattr(bench.gate.book.prices, "bill", broken)
        ask(bench, max_tokens=50)
        held = only_row(bench)
        bench.open()
        answer(bench, 10, 5)
        assert last(bench).whole
        row = only_row(bench)
        assert (row.open, row.cost_nusd, row.quality) == (False, held.cost_nusd, "estimated")
        assert counters(bench) == [(held.cost_nusd, 0)]
        assert len(bench.receipts) == 1


def test_a_job_that_is_fetched_twice_is_booked_once(make: Make) -> None:
    with make() as bench:
        usage = {"input_tokens": 100, "output_tokens": 50}
        body = json.dumps(
            {
                "id": "resp_1",
                "background": True,
                "model": "gpt-5-mini",
                "status": "completed",
                "usage": usage,
            }
        ).encode()
        for _ in range(2):
            bench.client(bench.head("GET /openai/v1/responses/resp_1"))
            if not bench.links or bench.links[-1].state != "lent":
                bench.open()
            bench.answer(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body),
                body,
            )
        assert [(r.cost_nusd, r.quality) for r in rows(bench)] == [(200_000, "exact"), (0, "none")]


def test_a_batch_is_booked_once_by_itself_or_by_its_file(make: Make) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    result = {"custom_id": "1", "response": {"body": {"model": "gpt-5-mini", "usage": usage}}}
    told = {
        "object": "batch",
        "model": "gpt-5-mini",
        "status": "completed",
        "usage": {"input_tokens": 100, "output_tokens": 50},
    }
    with make() as bench:
        for id, order in (("1", "batch file file"), ("2", "file batch")):
            for what in order.split():
                path = f"batches/batch_{id}" if what == "batch" else f"files/file-{id}/content"
                batch = {**told, "id": f"batch_{id}", "output_file_id": f"file-{id}"}
                body = json.dumps(batch if what == "batch" else result).encode()
                bench.client(bench.head(f"GET /openai/v1/{path}"))
                if not bench.links or bench.links[-1].state != "lent":
                    bench.open()
                bench.answer(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body),
                    body,
                )
        assert [row.cost_nusd for row in rows(bench)] == [200_000, 0, 0, 200_000, 0]


# --- looking --------------------------------------------------------------------------------------


def connect(bench: Bench) -> sqlite3.Connection:
    folder = bench.gate.settings.data_folder
    return sqlite3.connect(folder / "llamakey.db", autocommit=True)


def counters(bench: Bench) -> list[tuple[int, int]]:
    """What is settled and reserved, of each counter that is not empty."""
    connection = connect(bench)
    try:
        return connection.execute(
            "SELECT settled, reserved FROM counter WHERE settled <> 0 OR reserved <> 0"
        ).fetchall()
    finally:
        connection.close()


def me(bench: Bench, key: str = "", mark: str = "") -> dict[str, Any]:
    """What `/_llamakey/me` says."""
    query = f"?mark={mark}" if mark else ""
    bench.client(bench.head(f"GET /_llamakey/me{query}", key=key))
    got = last(bench)
    assert got.status == 200, got.body
    document: dict[str, Any] = json.loads(got.body)
    return document
