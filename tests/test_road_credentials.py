"""The road with a credential that is made: it waits in a state of its own, without a connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llamakey_addon.credentials import Placed
from llamakey_addon.errors import NoCredential
from llamakey_addon.keys import Secret
from tests.roadside import Bench, make_bench

ASK = b'{"model": "m", "messages": []}'
CHAT = "POST /azure/openai/v1/chat/completions"
STREAMED = "POST /azure/openai/deployments/m/chat/completions"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOKEN = "ya29.token-canary-Zq83-0123456789"
HOST = "contoso.openai.azure.com"
LOGIN = {"tenant": "t.example", "client_id": "app", "client_secret": "env:OPENAI_API_KEY"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    azure = {"login": LOGIN, "upstream": f"https://{HOST}"}
    with make_bench(tmp_path, providers={"azure": azure}) as made:
        yield made


def credit(bench: Bench, token: str = TOKEN, host: str = HOST) -> None:
    recipe = bench.rim.recipes[-1]
    secret = Secret(token, hosts=frozenset({host}), source="test")
    bench.road.credited(recipe, Placed(secret, recipe.place))


def ask(bench: Bench) -> None:
    bench.client(bench.head(CHAT, "Api-Key: " + bench.key, key=None, body=ASK))


def test_the_request_waits_for_its_credential_and_then_for_a_connection(bench: Bench) -> None:
    ask(bench)
    assert len(bench.rim.recipes) == 1 and bench.upstream_untouched
    credit(bench)
    assert bench.rim.wishes and not bench.rim.out
    bench.open()
    [sent] = bench.sent()
    assert sent.values("authorization") == [f"Bearer {TOKEN}"]
    assert not sent.values("api-key") and sent.body == ASK
    bench.answer(OK)
    assert bench.got("POST")[0].body == b"ok"
    assert bench.only_receipt().end == "complete"


def test_an_echoed_token_is_masked(bench: Bench) -> None:
    ask(bench)
    credit(bench)
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n" + TOKEN[:20].encode())
    bench.answer(TOKEN[20:].encode())
    assert bench.got("POST")[0].body == b"*" * 33


def test_one_that_cannot_be_made_is_a_503_in_the_providers_envelope(bench: Bench) -> None:
    ask(bench)
    denied = NoCredential("Azure OpenAI", detail="ask Entra", setting="providers.azure.login")
    bench.road.uncredited(bench.rim.recipes[-1], denied)
    [got] = bench.got("POST")
    assert got.status == 503 and b'"code":"credential_unavailable"' in got.body
    assert got.header("x-should-retry") == "false"
    assert bench.upstream_untouched and any("ask Entra" in note for note in bench.log.notes)
    assert bench.only_receipt().denied == "credential_unavailable"
    ask(bench)  # the connection serves on
    credit(bench)
    bench.open()
    bench.answer(OK)
    assert bench.got("POST", "POST")[1].status == 200


def test_a_maker_that_is_silent_ends_in_a_503(bench: Bench) -> None:
    ask(bench)
    bench.wait(26)
    assert bench.got("POST")[0].status == 503
    credit(bench)  # too late
    assert bench.upstream_untouched


def test_a_client_that_leaves_meanwhile_costs_nothing(bench: Bench) -> None:
    ask(bench)
    bench.road.client_closed()
    credit(bench)
    assert bench.upstream_untouched
    assert bench.only_receipt().end == "client left"


def test_a_body_that_streams_is_held_back_until_the_connection_is_there(bench: Bench) -> None:
    raw = bench.head(STREAMED, "Api-Key: " + bench.key, key=None, body=ASK)
    bench.client(raw[:-4])
    credit(bench)
    bench.open()
    assert not bench.sent()[0].whole
    bench.client(raw[-4:])
    assert bench.sent()[0].body == ASK


def test_what_was_made_for_another_recipe_is_not_taken(bench: Bench) -> None:
    ask(bench)
    other = Secret("other", hosts=frozenset({HOST}), source="test")
    recipe = replace(bench.rim.recipes[-1])
    bench.road.credited(recipe, Placed(other, recipe.place))
    bench.road.uncredited(recipe, NoCredential("other", detail="x"))
    assert bench.upstream_untouched and not bench.rim.out
    credit(bench)
    bench.open()
    assert bench.sent()[0].values("authorization") == [f"Bearer {TOKEN}"]


def test_one_bound_to_another_host_is_not_written(bench: Bench) -> None:
    ask(bench)
    credit(bench, host="elsewhere.example")
    link = bench.open()
    assert bench.got("POST")[0].status == 500
    assert not link.written and link.state == "dropped"


def test_the_next_request_on_the_connection_waits_behind(bench: Bench) -> None:
    ask(bench)
    ask(bench)
    assert len(bench.rim.recipes) == 1
    credit(bench)
    bench.open()
    bench.answer(OK)
    assert len(bench.rim.recipes) == 2
    credit(bench, "ya29.second")
    bench.open()
    assert bench.sent()[0].values("authorization") == ["Bearer ya29.second"]
