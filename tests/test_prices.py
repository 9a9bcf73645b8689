"""Prices: the public table to the nano-dollar, the owner's rules, costs that answers state."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Any

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from llamakey_addon import catalogue
from llamakey_addon.journey import PRICE_UNITS, Metered, PriceRule, Terms
from llamakey_addon.prices import Prices
from llamakey_addon.prices.price import RULE_KINDS

ENTRIES = catalogue.load().entries
PRICES = Prices()
NOW_S = 1_793_000_000.0  # in October 2026
TABLE = {provider.id: provider for provider in get_snapshot().providers}


def rule(**usd: str) -> PriceRule:
    return PriceRule("prices[0]", usd=tuple((name, Decimal(value)) for name, value in usd.items()))


# --- equal to genai-prices ------------------------------------------------------------------------


def _theirs(
    provider: Provider, model: ModelInfo, counts: dict[str, int], at_s: float, terms: Terms
) -> int:
    """What genai-prices says, in nano-dollars, rounded up. With more digits than it takes by
    default, so that a division by 3600 does not end before the last nano-dollar is sure."""
    usage: dict[str, Any] = {}
    for name, count in counts.items():
        if name.endswith("_ms"):
            usage[name.removesuffix("_ms") + "_seconds"] = Decimal(count) / 1000
        else:
            usage[name] = count
    with localcontext() as context:
        context.prec = 60
        total = model.calc_price(
            Usage(**usage),
            provider,
            genai_request_timestamp=datetime.fromtimestamp(at_s, UTC),
            price_context=dict(terms),
        ).total_price
        nano = (total * 10**9).quantize(Decimal("1e-30"))
        return int(nano.to_integral_value(ROUND_CEILING))


def _usage(dice: random.Random) -> dict[str, int]:
    """Figures that agree with each other, as a provider's do."""
    size = dice.choice([0, 1, 7, 500, 20_000, 99_999, 100_001, 150_000, 250_000, 900_000])
    whole = dice.randint(0, size)
    read = dice.randint(0, whole)
    write = dice.randint(0, whole - read)
    hour = dice.randint(0, write)
    free = whole - read - write
    audio = dice.randint(0, free)
    image = dice.randint(0, free - audio)
    video = dice.randint(0, free - audio - image)
    out = dice.randint(0, dice.choice([0, 10, 5_000, 60_000]))
    reasoning = dice.randint(0, out)
    citation = dice.randint(0, out - reasoning)
    said = out - reasoning - citation
    out_audio = dice.randint(0, said)
    out_image = dice.randint(0, said - out_audio)
    millis = dice.choice([0, 1, 999, 4_321, 59_999, 3_600_001])
    counts = {
        "input_tokens": whole,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cache_write_5m_tokens": write - hour,
        "cache_write_1h_tokens": hour,
        "input_audio_tokens": audio,
        "input_image_tokens": image,
        "input_video_tokens": video,
        "output_tokens": out,
        "output_reasoning_tokens": reasoning,
        "output_citation_tokens": citation,
        "output_audio_tokens": out_audio,
        "output_image_tokens": out_image,
        "output_video_tokens": dice.randint(0, said - out_audio - out_image),
        "cache_audio_read_tokens": 0,
        "cache_image_read_tokens": 0,
        "input_characters": dice.choice([0, 1, 33, 4_000]),
        "input_text_messages": dice.choice([0, 2]),
        "audio_ms": millis,
        "input_audio_ms": millis,
        "input_document_pages": dice.choice([0, 1, 30]),
        "input_annotated_document_pages": 0,
        "web_searches": dice.choice([0, 1, 3]),
        "storage_searches": dice.choice([0, 2]),
        "rerank_searches": dice.choice([0, 1]),
    }
    return {**counts, "input_tokens": max(whole, 1)}


def _moments(model: ModelInfo, dice: random.Random) -> Iterator[float]:
    yield NOW_S
    dated = model.prices if isinstance(model.prices, list) else []
    for part in (*dated, *(model.price_variants or ())):
        start = getattr(part.constraint, "start_date", None)
        if start is not None:
            midnight = datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()
            yield midnight - 1
            yield midnight
        elif part.constraint is not None:
            yield NOW_S + dice.randrange(24) * 3600


def _terms(model: ModelInfo) -> Iterator[Terms]:
    yield ()
    for variant in model.price_variants or ():
        yield tuple(variant.when.items())


NAMED = sorted({entry.prices for entry in ENTRIES.values() if entry.prices not in ("", "free")})


@pytest.mark.parametrize("named", NAMED)
def test_every_model_costs_what_genai_prices_says(named: str) -> None:
    dice = random.Random(named)
    entries = [entry for entry in ENTRIES.values() if entry.prices == named]
    routed = "{route}" in named
    tables = [t for t in TABLE.values() if routed and t.id.startswith(named.partition("{")[0])]
    compared = 0
    for provider in tables or [TABLE[named]]:
        for model in dice.sample(provider.models, min(len(provider.models), 40)):
            name = _name_of(provider, model)
            if name is None:
                continue
            route = provider.id.removeprefix(named.partition("{")[0])
            asked = f"{name}:{route}" if routed else name
            for terms in _terms(model):
                for at_s in _moments(model, dice):
                    price = PRICES.of(entries[0], asked, at_s, terms)
                    assert price is not None, asked
                    counts = _usage(dice)
                    cost = price.cost_nusd(counts)
                    if cost is None:
                        # A model that is priced by nothing that was used.
                        assert not price.covers(counts), asked
                        continue
                    assert cost == _theirs(provider, model, counts, at_s, terms), (asked, counts)
                    compared += 1
    assert compared >= 2


def _name_of(provider: Provider, model: ModelInfo) -> str | None:
    """A name by which the table finds this very model; some stand behind a broader one."""
    for name in (model.id, *_equals(model.match)):
        if provider.find_model(name.lower()) is model:
            return name.lower()
    return None


def _equals(clause: Any) -> Iterator[str]:
    for attribute in ("equals", "starts_with", "contains"):
        if text := getattr(clause, attribute, None):
            yield text
    for other in getattr(clause, "or_", None) or ():
        yield from _equals(other)


def test_some_thresholds_by_hand() -> None:
    """Long context: beyond 200,000 input tokens all of them cost more."""
    price = PRICES.of(ENTRIES["anthropic"], "claude-sonnet-4-5", NOW_S)
    assert price is not None
    # $3 and $15 a million below, $6 and $22.50 above; a nano-dollar is 10^-9.
    assert price.cost_nusd({"input_tokens": 200_000, "output_tokens": 1000}) == 615_000_000
    assert price.cost_nusd({"input_tokens": 200_001, "output_tokens": 1000}) == 1_222_506_000


def test_the_last_nano_dollar_is_rounded_up() -> None:
    price = Prices([rule(input_mtok="0.0001")]).of(ENTRIES["jina"], "m", NOW_S)
    assert price is not None
    # 0.0001 dollars a million tokens are 0.1 nano-dollars for one.
    assert [price.cost_nusd({"input_tokens": n}) for n in (1, 10, 11)] == [1, 1, 2]


# --- models and who has them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "asked", "found"),
    [
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "GPT-4o-mini", "gpt-4o-mini"),
        ("azure", "gpt-4o", "gpt-4o"),
        ("gemini", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("openrouter", "anthropic/claude-sonnet-4.5:nitro", "anthropic/claude-sonnet-4.5"),
        (
            "huggingface",
            "meta-llama/Llama-3.3-70B-Instruct:together",
            "meta-llama/Llama-3.3-70B-Instruct",
        ),
        ("voyage", "voyage-3-large", "voyage-3-large"),
    ],
)
def test_spellings_of_models(provider: str, asked: str, found: str) -> None:
    price = PRICES.of(ENTRIES[provider], asked, NOW_S)
    assert price is not None
    assert price.model == found
    assert price.source.startswith("genai-prices ")
    assert "2025" < price.table_date < "2100"


@pytest.mark.parametrize(
    ("provider", "asked"),
    [
        ("openai", "no-such-model"),
        ("openai", ""),
        ("jina", "jina-embeddings-v3"),
        ("huggingface", "meta-llama/Llama-3.3-70B-Instruct"),
        ("huggingface", "meta-llama/Llama-3.3-70B-Instruct:nobody"),
    ],
)
def test_unpriced(provider: str, asked: str) -> None:
    assert PRICES.of(ENTRIES[provider], asked, NOW_S) is None


def test_a_router_says_who_answered() -> None:
    entry, model = ENTRIES["huggingface"], "meta-llama/Llama-3.3-70B-Instruct"
    named = PRICES.of(entry, f"{model}:together", NOW_S)
    assert named is not None
    assert PRICES.of(entry, model, NOW_S, (("route", "together"),)) == named
    # ":fastest" is no provider: who answered counts.
    assert PRICES.of(entry, f"{model}:fastest", NOW_S, (("route", "together"),)) == named


def test_names_of_clients_fill_no_memory() -> None:
    prices = Prices()
    for number in range(5000):
        prices.of(ENTRIES["openai"], f"made-up-{number}", NOW_S)
    assert len(prices._models) == 4096


# --- the owner's rules ----------------------------------------------------------------------------


def test_every_unit_of_a_rule_prices_something() -> None:
    assert tuple(RULE_KINDS) == PRICE_UNITS
    for unit, kind in RULE_KINDS.items():
        price = Prices([rule(**{unit: "2"})]).of(ENTRIES["jina"], "m", NOW_S)
        assert price is not None
        counts = {kind.what: kind.per, "input_tokens_of_nobody": 1}
        assert price.cost_nusd(counts) == 2 * 10**9, unit


def test_parts_without_a_price_cost_what_the_whole_does() -> None:
    price = Prices([rule(input_mtok="3", output_mtok="15", cache_read_mtok="0.3")]).of(
        ENTRIES["openai"], "ft:gpt-4o:acme", NOW_S
    )
    assert price is not None
    counts = {
        "input_tokens": 1000,
        "cache_read_tokens": 400,
        "cache_write_tokens": 100,  # as other input: no price of its own
        "output_tokens": 10,
        "output_reasoning_tokens": 5,
    }
    assert price.cost_nusd(counts) == 600 * 3000 + 400 * 300 + 10 * 15000


def test_the_first_rule_that_fits_goes_before_the_table() -> None:
    rules = [
        PriceRule("prices[0]", provider="openai", model="gpt-4o*", usd=(("request", Decimal(1)),)),
        PriceRule("prices[1]", model="*-local", free=True),
    ]
    prices = Prices(rules)
    one = {"input_tokens": 5}
    ruled = prices.of(ENTRIES["openai"], "GPT-4o-mini", NOW_S)
    assert ruled is not None
    assert ruled.source == "prices[0]"
    assert ruled.cost_nusd({"input_tokens": 5}) == 10**9  # what it leaves out costs nothing
    free = prices.of(ENTRIES["groq"], "llama-local", NOW_S)
    assert free is not None
    assert (free.free, free.cost_nusd(one)) == (True, 0)
    listed = prices.of(ENTRIES["openai"], "gpt-4.1", NOW_S)
    assert listed is not None
    assert listed.source.startswith("genai-prices")


def test_contradicting_figures_cost_no_less_than_nothing() -> None:
    price = PRICES.of(ENTRIES["openai"], "gpt-4o", NOW_S)
    assert price is not None
    assert price.cost_nusd({"input_tokens": 1, "cache_read_tokens": 100}) == 125_000


# --- bills ----------------------------------------------------------------------------------------


def test_the_model_that_answered_is_billed_or_else_the_one_asked_for() -> None:
    counts = {"input_tokens": 1000, "output_tokens": 0}
    entry = ENTRIES["azure"]
    told = Metered(counts, exact=True, model="gpt-4o-2024-08-06")
    assert PRICES.bill(entry, "our-deployment", told, NOW_S).cost_nusd == 2_500_000
    untold = Metered(counts, exact=False, model="who-knows")
    bill = PRICES.bill(entry, "gpt-4o", untold, NOW_S)
    assert (bill.cost_nusd, bill.quality) == (2_500_000, "estimated")
    assert bill.table_date
    nobody = PRICES.bill(entry, "our-deployment", untold, NOW_S)
    assert (nobody.cost_nusd, nobody.quality) == (0, "unpriced")
    assert PRICES.bill(entry, "gpt-4o", Metered(exact=True), NOW_S).quality == "none"


def test_what_an_answer_says_of_its_cost() -> None:
    counts = {"input_tokens": 1000, "billed_nusd": 77}
    metered = Metered(counts, exact=True, model="who/knows")
    bill = PRICES.bill(ENTRIES["openrouter"], "who/knows", metered, NOW_S)
    assert (bill.cost_nusd, bill.quality, bill.source) == (77, "exact", "OpenRouter")
    # Only where the catalogue says that it is dollars.
    assert PRICES.bill(ENTRIES["groq"], "who/knows", metered, NOW_S).quality == "unpriced"
    ruled = Prices([rule(input_mtok="1")]).bill(ENTRIES["openrouter"], "x", metered, NOW_S)
    assert (ruled.cost_nusd, ruled.source) == (1_000_000, "prices[0]")


def test_free_and_terms() -> None:
    counts = {"input_tokens": 1_000_000}
    free = PRICES.bill(ENTRIES["ollama"], "llama3", Metered(counts, exact=True), NOW_S)
    assert (free.cost_nusd, free.quality) == (0, "free")
    plain = PRICES.bill(ENTRIES["openai"], "gpt-5", Metered(counts, exact=True), NOW_S)
    flex = Metered(counts, exact=True, terms=(("service_tier", "flex"),))
    assert PRICES.bill(ENTRIES["openai"], "gpt-5", flex, NOW_S).cost_nusd * 2 == plain.cost_nusd


def test_speech_of_which_the_text_is_known() -> None:
    counts = {"input_characters": 1000}
    exact = PRICES.bill(ENTRIES["openai"], "tts-1", Metered(counts, exact=True), NOW_S)
    assert (exact.cost_nusd, exact.quality) == (15_000_000, "exact")
    # Priced in tokens: 250 of text at $0.60 and 1400 of speech at $12 a million.
    guess = PRICES.bill(ENTRIES["openai"], "gpt-4o-mini-tts", Metered(counts, exact=True), NOW_S)
    assert guess.quality == "estimated"
    assert guess.cost_nusd == 250 * 600 + 1400 * 12_000


def test_sound_of_which_the_length_is_known() -> None:
    # A minute at 17 tokens a second, $6 a million.
    counts = {"audio_ms": 60_000, "input_audio_ms": 60_000}
    bill = PRICES.bill(ENTRIES["openai"], "gpt-4o-transcribe", Metered(counts), NOW_S)
    assert (bill.cost_nusd, bill.quality) == (1020 * 6000, "estimated")


def test_an_answer_that_nothing_prices_is_unpriced() -> None:
    for counts in ({"images": 1}, {"compute_ms": 5}, {"requests": 1}, {"videos": 1}):
        metered = Metered(counts, exact=True)
        assert PRICES.bill(ENTRIES["openai"], "gpt-4o", metered, NOW_S).quality == "unpriced"


def test_groq_bills_ten_seconds_at_least() -> None:
    price = PRICES.of(ENTRIES["groq"], "whisper-large-v3", NOW_S)
    assert price is not None
    ten = price.cost_nusd({"audio_ms": 10_000, "input_audio_ms": 10_000})
    assert price.cost_nusd({"audio_ms": 1, "input_audio_ms": 1}) == ten
    assert price.cost_nusd({"audio_ms": 10_001, "input_audio_ms": 10_001}) != ten


# --- when the table is loaded ---------------------------------------------------------------------


def test_the_table_is_loaded_when_it_is_needed() -> None:
    program = """
import sys
from llamakey_addon import catalogue
from llamakey_addon.journey import Metered, PriceRule
from llamakey_addon.prices import Prices
entries = catalogue.load().entries
prices = Prices([PriceRule("prices[0]", provider="jina", free=True)])
prices.of(entries["jina"], "m", 0.0)
prices.of(entries["ollama"], "m", 0.0)
prices.bill(entries["openai"], "m", Metered(), 0.0)
assert "genai_prices" not in sys.modules
prices.warm()
assert prices.of(entries["openai"], "gpt-4o", 0.0) is not None
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)
