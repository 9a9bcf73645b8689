"""What a request is estimated at: learned, bounded by the request, never nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamakey_addon.config import Settings
from llamakey_addon.estimate import Estimates, Habit
from llamakey_addon.journey import Ask, Call, Metered, User, Visit
from llamakey_addon.meter import Asked
from llamakey_addon.route import find
from llamakey_addon.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def estimates(store: Store) -> Estimates:
    return Estimates(store.ledger)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.load(None, {"LLAMAKEY_HOME": str(tmp_path_factory.mktemp("data"))})


def call(settings: Settings, path: str, key: str = "k1", model: str = "m") -> Call:
    ask = Ask("lmk_1", 0.0, "127.0.0.1", "POST", path, (), 100)
    way = find(path, "POST", settings.providers, settings.query_keys)
    return Call(Visit(ask, way, User("alice", key, "laptop"), body_wanted=True), model)


CHAT = "/openai/v1/chat/completions"


def asked(**body: Any) -> Asked:
    return Asked(json.dumps({"model": "m", "text": "x" * 360, **body}).encode(), model="m")


def used(tokens_in: int, tokens_out: int, *, exact: bool = True) -> Metered:
    return Metered({"input_tokens": tokens_in, "output_tokens": tokens_out}, exact=exact)


def test_without_history_it_is_a_plain_figure(estimates: Estimates, settings: Settings) -> None:
    counts = estimates.counts(call(settings, CHAT), asked(), closely=True)
    assert counts["output_tokens"] == 500
    assert 80 < counts["input_tokens"] < 120  # a token for four bytes


@pytest.mark.parametrize(
    "bound",
    [
        {"max_tokens": 40},
        {"max_completion_tokens": 40},
        {"max_output_tokens": 40},
        {"generationConfig": {"maxOutputTokens": 40}},
        {"options": {"num_predict": 40}},
        {"parameters": {"max_new_tokens": 40}},
        {"inferenceConfig": {"maxTokens": 40}},
        {"max_tokens": 90, "max_completion_tokens": 40},
    ],
)
def test_the_request_bounds_it(estimates: Estimates, settings: Settings, bound: Any) -> None:
    counts = estimates.counts(call(settings, CHAT), asked(**bound), closely=True)
    assert counts["output_tokens"] == 40


@pytest.mark.parametrize("bound", ["many", -1, 0, 1.5, True, None, 10**12, [], {}])
def test_what_is_no_bound_is_none(estimates: Estimates, settings: Settings, bound: Any) -> None:
    ask = asked(max_tokens=bound, options=bound, generationConfig=bound, n=bound)
    counts = estimates.counts(call(settings, CHAT), ask, closely=True)
    assert counts["output_tokens"] == 500


def test_several_answers_are_asked_for(estimates: Estimates, settings: Settings) -> None:
    counts = estimates.counts(call(settings, CHAT), asked(max_tokens=40, n=3), closely=True)
    assert counts["output_tokens"] == 120


def test_it_is_mean_and_deviation(estimates: Estimates, settings: Settings) -> None:
    chat = call(settings, CHAT)
    for tokens in (100, 200, 100, 200, 100, 200, 100, 200):
        estimates.learn(chat, asked(), used(200, tokens), 1000)
    counts = estimates.counts(chat, asked(), closely=True)
    assert 170 <= counts["output_tokens"] <= 230
    guess = asked().input_tokens()
    assert 195 <= counts["input_tokens"] <= 210
    longer = Asked(b'{"text": "%s"}' % (b"x" * 3900), model="m")
    more = estimates.counts(chat, longer, closely=True)["input_tokens"]
    assert more / counts["input_tokens"] == pytest.approx(longer.input_tokens() / guess, rel=0.02)


def test_newer_requests_weigh_more(estimates: Estimates, settings: Settings) -> None:
    chat = call(settings, CHAT)
    for tokens in [10] * 50 + [1000] * 50:
        estimates.learn(chat, asked(), used(100, tokens), 1)
    assert estimates.counts(chat, asked(), closely=True)["output_tokens"] > 950


def test_what_is_cut_off_teaches_nothing(estimates: Estimates, settings: Settings) -> None:
    chat = call(settings, CHAT)
    estimates.learn(chat, asked(), used(100, 3, exact=False), 1)
    estimates.learn(chat, asked(), Metered(exact=True), 0)
    assert estimates.counts(chat, asked(), closely=True)["output_tokens"] == 500


def test_keys_models_and_endpoints_are_learned_apart(
    estimates: Estimates, settings: Settings
) -> None:
    estimates.learn(call(settings, CHAT), asked(), used(100, 30), 1)
    for other in (call(settings, CHAT, model="n"), call(settings, "/openai/v1/responses")):
        assert estimates.counts(other, asked(), closely=True)["output_tokens"] == 500
    newcomer = call(settings, CHAT, key="k2")
    assert estimates.counts(newcomer, asked(), closely=True)["output_tokens"] == 30
    estimates.learn(newcomer, asked(), used(100, 70), 1)
    assert estimates.counts(newcomer, asked(), closely=True)["output_tokens"] == 70
    mine = estimates.counts(call(settings, CHAT), asked(), closely=True)
    assert mine["output_tokens"] == 30


def test_vectors_put_nothing_out(estimates: Estimates, settings: Settings) -> None:
    counts = estimates.counts(call(settings, "/openai/v1/embeddings"), asked(), closely=True)
    assert "output_tokens" not in counts and counts["input_tokens"] > 0


def test_what_a_request_says_of_itself_counts(estimates: Estimates, settings: Settings) -> None:
    speech = call(settings, "/openai/v1/audio/speech")
    ask = Asked(b'{"model": "tts-1", "input": "%s"}' % (b"a" * 77), model="tts-1")
    assert estimates.counts(speech, ask, closely=True)["input_characters"] == 77


def test_a_cost_is_learned_where_tokens_say_nothing(
    estimates: Estimates, settings: Settings
) -> None:
    chat = call(settings, CHAT)
    assert estimates.cost_nusd(chat) == 0
    for cost in (100, 300, 100, 300):
        estimates.learn(chat, asked(), used(1, 1), cost)
    assert 200 <= estimates.cost_nusd(chat) <= 350


def test_it_is_kept(settings: Settings, tmp_path: Path) -> None:
    chat = call(settings, CHAT)
    with open_store(tmp_path / "kept") as store:
        estimates = Estimates(store.ledger)
        for tokens in (10, 20, 30):
            estimates.learn(chat, asked(), used(100, tokens), 7)
        before = estimates.counts(chat, asked(), closely=True)["output_tokens"]
    with open_store(tmp_path / "kept") as store:
        after = Estimates(store.ledger).counts(chat, asked(), closely=True)["output_tokens"]
    assert before == after > 20


def test_figures_of_a_habit_come_back() -> None:
    habit = Habit()
    for value in (5, 9, 4):
        habit.learn(value, value / 3, value * 100)
    assert Habit(habit.figures()).figures() == habit.figures()
