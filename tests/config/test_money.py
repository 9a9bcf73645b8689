from __future__ import annotations

import textwrap
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from llamakey_addon.config import Money, Settings
from llamakey_addon.config.money_model import PricePart
from llamakey_addon.errors import ConfigError
from llamakey_addon.journey import PRICE_UNITS, PriceRule


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(text):
        (tmp_path / "config.yaml").write_text(textwrap.dedent(text))
        return Settings.load(None, {"HOME": "/home/me"})

    return read


def test_a_currency_by_a_fixed_rate(load):
    settings = load(
        """\
        money: {currency: EUR, per_usd: 0.92, time_zone: Europe/Berlin}
        users: {alice: {budgets: [{spend: 9.2, per: day}]}}
        """
    )
    assert settings.money == Money("EUR", Decimal("0.92"), "Europe/Berlin")
    assert settings.money.time_zone == ZoneInfo("Europe/Berlin")
    assert settings.policy("alice").caps[0].most == 10 * 10**9
    assert settings.money.shown(10 * 10**9) == "EUR 9.20"


def test_utc_needs_no_data_of_the_systems():
    assert datetime(2026, 7, 1, tzinfo=Money().time_zone).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("nusd", "text"),
    [
        (0, "USD 0.00"),
        (1_250_000_000, "USD 1.25"),
        (12_340_000, "USD 0.0123"),
        (900_000, "USD 0.000900"),
        (999_000_000, "USD 1.00"),
        (123_456_789_000_000, "USD 123456.79"),
    ],
)
def test_amounts_for_people(nusd, text):
    assert Money().shown(nusd) == text


def test_an_amount_is_rounded_down():
    assert Money("JPY", Decimal(3)).nusd(10) == 3_333_333_333


def test_prices(load):
    settings = load(
        """\
        prices:
          - {provider: ollama, free: true}
          - {provider: openai, model: "ft:gpt-4o*", input_mtok: 3.75, output_mtok: 0}
          - {provider: "*", request: 0.01}
        """
    )
    assert settings.prices == (
        PriceRule("prices[0]", "ollama", "*", True),
        PriceRule(
            "prices[1]",
            "openai",
            "ft:gpt-4o*",
            usd=(("input_mtok", Decimal("3.75")), ("output_mtok", Decimal(0))),
        ),
        PriceRule("prices[2]", usd=(("request", Decimal("0.01")),)),
    )


def test_each_unit_of_a_price_has_its_setting():
    assert set(PricePart.model_fields) - {"provider", "model", "free"} == set(PRICE_UNITS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("money: {currency: EUR}", ["EUR has no rate", "per_usd"]),
        ("money: {per_usd: 0.9}", ["a dollar is one dollar"]),
        ("money: {currency: euro, per_usd: 1}", ["`money.currency`"]),
        ("money: {currency: EUR, per_usd: 0}", ["greater than 0"]),
        ("money: {time_zone: Europe/Berln}", ["Did you mean `Europe/Berlin`?"]),
        ("money: {time_zone: ../../etc/passwd}", ["no time zone"]),
        ("money: {time_zone: ''}", ["no time zone", "UTC"]),
        ("prices: [{provider: opanai, free: true}]", ["Did you mean `openai`?"]),
        ("prices: [{provider: openai}]", ["no price"]),
        ("prices: [{provider: openai, free: true, request: 1}]", ["can't be free"]),
        ("prices: [{provider: openai, model: ' x', free: true}]", ["no spaces"]),
        ("prices: [{provider: openai, input_mtok: -1}]", ["greater than or equal"]),
        ("prices: [{provider: openai, input_mtoks: 1}]", ["Did you mean `input_mtok`?"]),
        ("metering: {tag_header: 'X Tag'}", ["`metering.tag_header`"]),
    ],
)
def test_faults(load, text, words):
    with pytest.raises(ConfigError) as caught:
        load(text)
    (fault,) = caught.value.faults
    assert fault.where == "config.yaml:1" and all(word in fault.message for word in words), fault


def test_a_system_without_time_zones_is_told_what_to_install(load, tmp_path, monkeypatch):
    import zoneinfo

    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    monkeypatch.setattr(zoneinfo, "TZPATH", ())
    zoneinfo.reset_tzpath([str(tmp_path)])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        with pytest.raises(ConfigError, match="tzdata"):
            load("money: {time_zone: Europe/Vienna}")
    finally:
        zoneinfo.reset_tzpath()
