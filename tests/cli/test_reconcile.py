"""`lmk usage --reconcile`: a provider's export against the ledger, and what parts them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.cli.books import fill
from tests.cli.command import ANSI
from tests.cli.test_exports import CLAUDE_COST, OPENAI_USAGE

MINI = "gpt-5-mini-2025-08-07"


def export(lmk, *rows: str, header: str = "date,model,tokens,cost") -> str:
    path = lmk.folder / "usage.csv"
    path.write_text("\n".join([header, *rows, ""]))
    return path.name


def compared(lmk, *arguments: str):
    done = lmk.here("usage", "--reconcile", *arguments, "--json")
    return done.code, json.loads(done.out)


def test_theirs_and_ours_by_day_and_model(lmk):
    fill(
        lmk.home,
        {"when": "2026-07-01T00:00", "input": 40000, "output": 10000, "cents": 50, "served": MINI},
        {"when": "2026-07-01T23:59", "input": 50000, "cents": 10, "served": MINI},
        {"when": "2026-07-02T00:00", "input": 7000, "cents": 3, "model": "gpt-5"},
        {"when": "2026-07-02T10:00", "input": 900000, "provider": "anthropic"},
        {"when": "2026-06-30T23:59", "input": 900000},
        {"when": "2026-07-03T00:00", "input": 900000},
    )
    name = export(
        lmk, f"2026-07-01,{MINI},99000,0.59", "2026-07-02,gpt-5,7000,0.03", "2026-07-02,o3,0,1.00"
    )
    code, found = compared(lmk, name, "--provider", "openai")
    assert code == 1
    assert found["rows"] == [
        {
            "day": "2026-07-01",
            "model": MINI,
            "tokens_theirs": 99000,
            "tokens_ours": 100000,
            "tokens_difference": 1000,
            "cost_theirs": 0.59,
            "cost_ours": 0.6,
            "cost_difference": 0.01,
        },
        {
            "day": "2026-07-02",
            "model": "gpt-5",
            "tokens_theirs": 7000,
            "tokens_ours": 7000,
            "tokens_difference": 0,
            "cost_theirs": 0.03,
            "cost_ours": 0.03,
            "cost_difference": 0.0,
        },
        {
            "day": "2026-07-02",
            "model": "o3",
            "tokens_theirs": 0,
            "tokens_ours": 0,
            "tokens_difference": 0,
            "cost_theirs": 1.0,
            "cost_ours": 0.0,
            "cost_difference": -1.0,
        },
    ]
    assert {each["model"]: each["beyond"] for each in found["models"]} == {
        MINI: True,  # by money: 1.7 %
        "gpt-5": False,
        "o3": True,
    }
    assert not found["agrees"]
    assert (found["total"]["tokens_ours"], found["ours"]["requests"]) == (107000, 3)


@pytest.mark.parametrize(
    ("theirs", "options", "code"),
    [
        ("100000", (), 0),
        ("100900", (), 0),  # less than a thousand tokens are none
        ("101000", (), 0),  # 0.99 %
        ("102000", (), 1),
        ("98000", (), 1),
        ("102000", ("--tolerance", "2%"), 0),
        ("103000", ("--tolerance", "2"), 1),
        ("100001", ("--tolerance", "0"), 1),
        ("100000", ("--tolerance", "0"), 0),
    ],
)
def test_the_exit_code_is_for_scripts(lmk, theirs, options, code):
    fill(lmk.home, {"when": "2026-07-01", "input": 100000, "model": "gpt-5"})
    name = export(lmk, f"2026-07-01,gpt-5,{theirs}", header="date,model,tokens")
    done = lmk.here("usage", "--reconcile", name, "--provider", "openai", *options)
    assert done.code == code
    assert ("They agree within" in done.out) == (code == 0)
    assert ("They differ by more than" in done.out) == (code == 1)


def test_a_difference_is_explained(lmk):
    fill(
        lmk.home,
        {"when": "2026-07-01", "input": 50000, "quality": "estimated", "model": "gpt-5"},
        {"when": "2026-07-01", "input": 50000, "quality": "unpriced", "model": "o3"},
    )
    name = export(lmk, "2026-07-01,gpt-5,100000", header="date,model,tokens")
    out = lmk.here("usage", "--reconcile", name, "--provider", "openai").out
    assert "gpt-5 (tokens -50.00%); o3 (tokens in the ledger alone)" in out
    assert "a real key may be used past this proxy" in out
    assert "it may not be complete yet" in out
    assert "Of ours, 1 of 2 requests are estimated." in out
    assert "Of ours, 1 of 2 requests are without a price" in out
    lines = out.splitlines()
    assert lines[0] == "openai, 2026-07-01 to 2026-07-01 (UTC): usage.csv and the ledger"
    assert lines[2].split() == ["2026-07-01", "gpt-5", "100000", "50000", "-50000"]
    assert lines[4].split() == ["total", "100000", "100000", "="]


def test_names_of_models_meet(lmk):
    fill(
        lmk.home,
        {
            "when": "2026-07-01",
            "cents": 5,
            "provider": "anthropic",
            "model": "claude-haiku-4-5",
            "served": "claude-haiku-4-5-20251001",
        },
        {
            "when": "2026-07-02",
            "cents": 123450,
            "provider": "anthropic",
            "model": "claude-haiku-4-5-20251001",
        },
    )
    (lmk.folder / "cost.csv").write_text(CLAUDE_COST)
    code, found = compared(lmk, "cost.csv")
    assert (code, found["provider"]) == (0, "anthropic"), "told by its columns"
    assert [(row["model"], row["cost_difference"]) for row in found["rows"]] == [
        ("Claude Haiku 4.5", 0.0)
    ] * 2
    assert "tokens_ours" not in found["rows"][0], "the export has none"


def test_versions_stay_apart_where_both_sides_name_them(lmk):
    names = ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20")
    fill(
        lmk.home,
        *({"when": "2026-07-01", "input": 5000, "model": "gpt-4o", "served": n} for n in names),
        {"when": "2026-07-01", "input": 100, "model": "GPT-4o-2024-08-06"},
    )
    rows = [f"2026-07-01,{name},5000" for name in names]
    name = export(lmk, *rows, header="date,model,tokens")
    _, found = compared(lmk, name, "--provider", "openai")
    assert {row["model"]: row["tokens_ours"] for row in found["rows"]} == {
        names[0]: 5100,
        names[1]: 5000,
    }


def test_openais_own_columns_and_an_export_without_models(lmk):
    fill(lmk.home, {"when": "2026-07-02", "input": 1010, "output": 201, "served": MINI})
    (lmk.folder / "openai.csv").write_text(OPENAI_USAGE)
    code, found = compared(lmk, "openai.csv")
    assert (code, found["provider"], found["total"]["tokens_difference"]) == (0, "openai", 0)
    name = export(lmk, "2026-07-02,1211", header="date,tokens")
    code, found = compared(lmk, name, "--provider", "openai")
    assert (code, found["rows"][0]["model"]) == (0, "(all models)")


def test_money_is_shown_in_the_owners_currency(lmk):
    (lmk.folder / "config.yaml").write_text(
        "money: {currency: EUR, per_usd: 0.5, time_zone: Asia/Tokyo}\n"
    )
    fill(lmk.home, {"when": "2026-07-01T23:30", "cents": 100, "model": "gpt-5"})
    name = export(lmk, "2026-07-01,gpt-5,1", header="date,model,cost")
    code, found = compared(lmk, name, "--provider", "openai")
    assert code == 0, "days are UTC whatever the owner's time zone"
    assert (found["currency"], found["total"]["cost_theirs"]) == ("EUR", 0.5)


def test_csv(lmk):
    fill(lmk.home, {"when": "2026-07-01", "input": 5000, "cents": 1, "model": "=1+1"})
    name = export(lmk, "2026-07-01,gpt-5,5000,0.01")
    done = lmk.here("usage", "--reconcile", name, "--provider", "openai", "--csv")
    assert done.code == 1
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [(row["model"], row["tokens_difference"], row["cost_ours"]) for row in rows] == [
        ("'=1+1", "5000", "0.01"),
        ("gpt-5", "-5000", "0"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Name the provider: --provider openai"),
        (("--provider", "opnai"), "Did you mean `openai`?"),
        (("--provider", "openai", "--tolerance", "some"), "Write 1%"),
        (("--provider", "openai", "--tolerance", "-1"), "Write 1%"),
    ],
)
def test_what_is_asked_wrong_is_told(lmk, options, said):
    name = export(lmk, "2026-07-01,gpt-5,5000,0.01")
    done = lmk.here("usage", "--reconcile", name, *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_bad_file_is_an_error_and_no_difference(lmk):
    name = export(lmk, "2026-07-01,gpt-5,many,0.01")
    done = lmk.here("usage", "--reconcile", name, "--provider", "openai")
    assert done.code == 2
    assert "usage.csv:2: tokens: 'many' is no number" in done.err


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal(lmk, columns):
    fill(lmk.home, {"when": "2026-07-01", "input": 5000, "cents": 1, "model": "m" * 200})
    name = export(lmk, "2026-07-01,gpt-5,5000,0.01")
    done = lmk.on_terminal("usage", "--reconcile", name, "--provider", "openai", columns=columns)
    lines = [line.rstrip() for line in ANSI.sub("", done.out).splitlines()]
    assert max(map(len, lines)) <= columns
    assert any("gpt-5" in line and "5.00k" in line for line in lines)
