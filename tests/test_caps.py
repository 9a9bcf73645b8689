from __future__ import annotations

from dataclasses import replace

import pytest

from llamakey_addon.caps import Bound
from llamakey_addon.journey import Rule
from tests.store.ledgers import FACTS, cap


def test_a_name_is_not_of_its_place_nor_of_how_much():
    one = cap("requests", 60, "minute", setting="users.alice.limits[0]")
    other = cap("requests", 90, "minute", setting="users.alice.limits[1]", hard=False)
    assert Bound(one).scope(FACTS) == Bound(other).scope(FACTS)


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "tokens"},
        {"window": "hour"},
        {"subject": ("user", "alice")},
        {"of": Rule(providers=("openai",))},
        {"of": Rule(models=("openai",))},
        {"tags": ("openai",)},
        {"each": ("user",)},
        {"each": ("key",)},
    ],
)
def test_what_counts_other_things_has_another_name(change):
    base = cap("requests", 60, "minute")
    assert Bound(replace(base, **change)).scope(FACTS) != Bound(base).scope(FACTS)


def test_the_order_of_words_does_not_matter():
    one, other = (
        Bound(cap("requests", 60, "minute", of=Rule(providers=words)))
        for words in (("openai", "groq"), ("groq", "openai"))
    )
    assert one.scope(FACTS) == other.scope(FACTS)


def test_each_value_counts_apart():
    bound = Bound(cap("requests", 60, "minute", each=("user", "model")))
    scopes = {
        bound.scope(FACTS._replace(user=user, model=model))
        for user in ("alice", "Alice", "bob")
        for model in ("gpt-5", "GPT-5")
    }
    assert len(scopes) == 4  # users are compared without case, models with it


@pytest.mark.parametrize(
    ("subject", "mine"),
    [
        (("everybody", ""), True),
        (("user", "alice"), True),
        (("user", "bob"), False),
        (("team", "research"), True),
        (("team", "sales"), False),
        (("key", "abcdefghij"), True),
        (("key", "jihgfedcba"), False),
    ],
)
def test_whose_requests(subject, mine):
    assert Bound(cap("requests", 1, "day", subject=subject)).is_of(FACTS) is mine
    assert (
        Bound(cap("requests", 1, "day", subject=subject)).is_of(FACTS._replace(user="Alice"))
        is mine
    )


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (Rule(), True),
        (Rule(providers=("openai", "groq")), True),
        (Rule(providers=("groq",)), False),
        (Rule(methods=("GET",)), False),
        (Rule(models=("gpt-5*",)), True),
        (Rule(models=("gpt-4*", "o*")), False),
        (Rule(paths=("chat",)), True),
        (Rule(paths=("emb*",)), False),
        (Rule(paths=("/v1/chat/*",)), True),
        (Rule(paths=("/v1/*",)), False),
        (Rule(providers=("openai",), models=("gpt-4",)), False),
    ],
)
def test_which_requests(rule, fits):
    assert Bound(cap("requests", 1, "day", of=rule)).fits(FACTS) is fits


def test_a_path_that_could_be_the_endpoint_counts():
    bound = Bound(cap("requests", 1, "day", of=Rule(paths=("/v1/chat/completions",))))
    for path in ("/v1/chat%2Fcompletions", "/v1/ch%61t/completions", "/v1/chat%252Fcompletions"):
        assert bound.fits(FACTS._replace(path=path, endpoint=""))
    assert not bound.fits(FACTS._replace(path="/v1/chat", endpoint=""))


def test_tags():
    bound = Bound(cap("requests", 1, "day", tags=("nightly-*",)))
    assert not bound.fits(FACTS)
    assert bound.fits(FACTS._replace(tag="nightly-7"))


def test_a_scope_says_what_it_counts():
    rule = Rule(providers=("openai",), methods=("POST",), paths=("chat",), models=("gpt-*",))
    for one in (
        cap("nusd", 7, "day", subject=("team", "x"), of=rule, tags=("t",), each=("user", "model")),
        cap("concurrent", 3),
    ):
        bound = Bound(one)
        found, values = Bound.of_scope(bound.scope(FACTS))
        assert found.name == bound.name and found.cap.of == one.of
        assert values == [bound.value(group, FACTS) for group in one.each]


def test_values_of_different_groups_are_no_one_counter():
    facts = FACTS._replace(model="openai")
    by_provider = Bound(cap("requests", 1, "day", each=("provider",)))
    by_model = Bound(cap("requests", 1, "day", each=("model",)))
    assert by_provider.scope(facts) != by_model.scope(facts)
