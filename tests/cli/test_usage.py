"""`lmk usage`: sums of the ledger, by what is asked for, in the owner's currency and time zone."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.cli.books import fill, make_key
from tests.cli.command import ANSI
from tests.client import Wire
from tests.fakes.families import openai
from tests.harness import _ticks

ROWS = (
    {"when": "2026-07-01T10:00", "cents": 50, "input": 1000, "output": 200, "tag": "s1"},
    {"when": "2026-07-01T11:00", "cents": 25, "input": 500, "output": 100},
    {"when": "2026-07-03T23:30", "cents": 20, "input": 300, "user": "bob", "team": ""},
    {"when": "2026-07-04T10:00", "cents": 5, "user": "bob", "team": "", "provider": "anthropic"},
    {"when": "2026-07-04T11:00", "status": 429, "quality": "none", "user": "bob", "team": ""},
)
JULY = ("--month", "2026-07")


def asked(lmk, *arguments: str):
    return json.loads(lmk.here("usage", "--json", *JULY, *arguments).out)


def figures(report, group: str, *names: str):
    return {row[group]: tuple(row[name] for name in names) for row in report["rows"]}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("user", {"alice": (2, 0.75), "bob": (3, 0.25)}),
        ("team", {"research": (2, 0.75), "": (3, 0.25)}),
        ("provider", {"openai": (4, 0.95), "anthropic": (1, 0.05)}),
        ("model", {"gpt-5-mini": (5, 1.0)}),
        ("endpoint", {"chat": (5, 1.0)}),
        ("tag", {"": (4, 0.5), "s1": (1, 0.5)}),
        ("status", {"200": (4, 1.0), "429": (1, 0.0)}),
        ("quality", {"exact": (4, 1.0), "none": (1, 0.0)}),
        (
            "day",
            {
                "2026-07-01": (2, 0.75),
                "2026-07-02": (0, 0.0),
                "2026-07-03": (1, 0.2),
                "2026-07-04": (2, 0.05),
            },
        ),
    ],
)
def test_by_each_group(lmk, group, expected):
    fill(lmk.home, *ROWS)
    report = asked(lmk, "--by", group)
    assert figures(report, group, "requests", "cost") == expected
    assert (report["total"]["requests"], report["total"]["cost_nusd"]) == (5, 10**9)
    order = [row[group] for row in report["rows"]]
    assert order == (sorted(order) if group == "day" else list(expected)), "dearest first"


def test_by_key_names_are_shown_and_rotations_are_one(lmk):
    first = make_key(lmk.home, "laptop", "alice")
    second = json.loads(lmk.here("keys", "rotate", "laptop", "--json").out)["id"]
    ci = make_key(lmk.home, "ci", "alice")
    fill(
        lmk.home,
        *({"when": "2026-07-01", "cents": 1, "key_id": key} for key in (first, second, ci)),
        {"when": "2026-07-01", "cents": 1, "key_id": "zzzzzzzzzz"},
    )
    report = asked(lmk, "--by", "key")
    assert figures(report, "key", "requests") == {"laptop": (2,), "ci": (1,), "zzzzzzzzzz": (1,)}
    assert asked(lmk, "--key", "laptop")["total"]["requests"] == 2
    assert asked(lmk, "--key", first)["total"]["requests"] == 1
    done = lmk.here("usage", "--key", "latop")
    assert done.code == 1
    assert "Did you mean laptop?" in done.err


def test_one_name_of_two_users_keys_is_two(lmk):
    first = make_key(lmk.home, "laptop", "alice")
    lmk.here("keys", "revoke", "laptop")
    second = make_key(lmk.home, "laptop", "bob")
    fill(lmk.home, *({"when": "2026-07-01", "key_id": key} for key in (first, second)))
    assert set(figures(asked(lmk, "--by", "key"), "key")) == {"laptop (alice)", "laptop (bob)"}
    assert asked(lmk, "--key", "laptop")["total"]["requests"] == 1


def test_a_user_is_one_whatever_the_case(lmk):
    for name in ("Alice", "alice"):
        make_key(lmk.home, name, name)
    fill(lmk.home, *({"when": "2026-07-01", "user": user} for user in ("Alice", "alice", "bob")))
    assert figures(asked(lmk), "user", "requests") == {"Alice": (2,), "bob": (1,)}
    assert asked(lmk, "--user", "ALICE")["total"]["requests"] == 2


def test_several_groups_and_filters(lmk):
    fill(lmk.home, *ROWS)
    report = asked(lmk, "--by", "user,provider")
    assert [(row["user"], row["provider"], row["requests"]) for row in report["rows"]] == [
        ("alice", "openai", 2),
        ("bob", "openai", 2),
        ("bob", "anthropic", 1),
    ]
    for options, count in (
        (("--user", "bob"), 3),
        (("--team", "research"), 2),
        (("--provider", "openai"), 4),
        (("--model", "gpt-5-mini"), 5),
        (("--model", "gpt-5"), 0),
        (("--tag", "s1"), 1),
        (("--user", "bob", "--provider", "anthropic"), 1),
    ):
        assert asked(lmk, *options)["total"]["requests"] == count, options


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--since", "2026-07-03"), 3),
        (("--since", "2026-07-01", "--until", "2026-07-03"), 3),
        (("--since", "2026-07-01T10:30", "--until", "2026-07-01T11:00"), 0),
        (("--since", "2026-07-01T10:30", "--until", "2026-07-01T11:01"), 1),
        (("--month", "2026-06"), 0),
        (("--since", "365d"), 5),
        ((), 0),
    ],
)
def test_from_when_to_when(lmk, options, count):
    fill(lmk.home, *ROWS)
    report = json.loads(lmk.here("usage", "--json", *options).out)
    assert report["total"]["requests"] == count


def test_without_a_word_it_is_this_month(lmk):
    from llamakey_addon.cli import when

    fill(lmk.home, {"when": f"{when.iso(__import__('time').time())}".rstrip("Z"), "cents": 3})
    assert json.loads(lmk.here("usage", "--json").out)["total"]["requests"] == 1


def test_days_and_money_are_the_settings(lmk):
    (lmk.folder / "config.yaml").write_text(
        "money: {currency: EUR, per_usd: 0.8, time_zone: Europe/Berlin}\n"
    )
    fill(lmk.home, *ROWS, {"when": "2026-07-31T22:30", "cents": 100})
    report = asked(lmk, "--by", "day")
    assert figures(report, "day", "cost")["2026-07-04"] == (0.2,), "23:30 UTC is the next day"
    assert "2026-08-01" not in figures(report, "day")
    assert (report["currency"], report["time_zone"]) == ("EUR", "Europe/Berlin")
    assert (report["since"], report["until"]) == ("2026-06-30T22:00:00Z", "2026-07-31T22:00:00Z")
    assert report["total"]["cost"] == 0.8
    done = lmk.here("usage", *JULY)
    assert done.out.startswith("2026-07-01 to 2026-07-31 (Europe/Berlin), by user\n")
    assert "Cost EUR" in done.out


def test_what_is_not_exact_is_marked(lmk):
    fill(
        lmk.home,
        {"when": "2026-07-01", "cents": 1, "quality": "estimated"},
        {"when": "2026-07-01", "quality": "unpriced", "input": 7, "user": "bob"},
        {"when": "2026-07-01", "quality": "unpriced", "user": "bob"},
        {"when": "2026-07-01", "cents": 2, "open": True, "user": "carol"},
        {"when": "2026-07-01", "cents": 1, "user": "dave"},
    )
    out = lmk.here("usage", *JULY).out
    marks = {line.split()[0]: line.split()[-2] for line in out.splitlines()[2:7]}
    assert marks == {"alice": "~", "bob": "?", "carol": "…", "dave": "-", "total": "~?…"}
    assert "~ 1 request is estimated" in out
    assert "? 2 requests are of models without a price" in out
    assert "… 1 request is not ended yet" in out
    total = asked(lmk)["total"]
    assert [total[name] for name in ("estimated", "unpriced", "open")] == [1, 2, 1]
    exact = lmk.here("usage", *JULY, "--user", "dave").out
    assert "~" not in exact and "?" not in exact


def test_csv_is_whole_and_harmless(lmk):
    fill(lmk.home, *ROWS, {"when": "2026-07-05", "model": "=HYPERLINK(evil)", "cents": 0.0001})
    done = lmk.here("usage", *JULY, "--by", "model", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["model"] for row in rows] == ["gpt-5-mini", "'=HYPERLINK(evil)"]
    assert (rows[0]["requests"], rows[0]["input_tokens"], rows[0]["cost"]) == ("5", "1800", "1")
    assert (rows[1]["cost"], rows[1]["currency"]) == ("0.000001", "USD")


def test_on_a_pipe_numbers_are_whole(lmk):
    fill(lmk.home, *ROWS, {"when": "2026-07-06", "input": 1234567, "cents": 123456})
    lines = lmk.here("usage", *JULY).out.splitlines()
    assert lines[1].split() == (
        ["User", "Requests", "Failed", "Input", "Cached", "Output", "Cost", "USD", "Share"]
    )
    assert lines[2].split() == ["alice", "3", "0", "1236067", "0", "300", "1,235.31", "-", "100%"]
    assert lines[3].split() == ["bob", "3", "1", "300", "0", "0", "0.25", "-", "0%"]
    assert lines[4].split() == ["total", "6", "1", "1236367", "0", "300", "1,235.56", "-", "100%"]


def test_small_amounts_keep_their_digits(lmk):
    fill(
        lmk.home,
        {"when": "2026-07-01", "cents": 0.0123},
        {"when": "2026-07-01", "cents": 0.00001, "user": "bob"},
    )
    out = lmk.here("usage", *JULY).out
    assert " 0.000123 " in out
    assert " <0.000001 " in out


def test_where_nothing_cost_any_requests_are_compared(lmk):
    rows = [{"when": "2026-07-01", "quality": "free"}] * 3
    fill(lmk.home, *rows, {"when": "2026-07-01", "quality": "free", "user": "bob"})
    shares = [line.split()[-1] for line in lmk.here("usage", *JULY).out.splitlines()[2:4]]
    assert shares == ["75%", "25%"]


def test_nothing_is_said_to_be_nothing(lmk):
    done = lmk.here("usage")
    assert (done.code, "Nothing was asked" in done.out) == (0, True)
    assert json.loads(lmk.here("usage", "--json").out)["rows"] == []
    assert lmk.here("usage", "--csv").out.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--by", "weather"), "none of user, team, key"),
        (("--by", "user,user"), "none of"),
        (("--since", "soon"), "--since: 'soon'"),
        (("--until", "2020-01-01"), "earlier --since"),
        (("--month", "july"), "2026-07"),
        (("--month", "2026-07", "--since", "7d"), "Leave --since"),
        (("--csv", "--json"), "Choose one"),
    ],
)
def test_what_cannot_be_reported_is_told(lmk, options, said):
    done = lmk.here("usage", *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_what_a_proxy_has_served_is_told(lmk, shared_proxy):
    """Through a live proxy, which goes on serving."""
    proxy = shared_proxy("lmk")
    key = proxy.mint("erin", "erin-laptop")
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]})
    with Wire(proxy.url) as wire:
        fields = [("Authorization", f"Bearer {key}"), ("Content-Type", "application/json")]
        for headers in (fields, [*fields, ("X-LlamaKey-Tag", "run-7")]):
            wire.request("POST", "/openai/v1/chat/completions", headers, body.encode())
            assert wire.answer().status == 200
    env = {"LLAMAKEY_HOME": str(proxy.home)}
    config = ("--config", str(proxy.folder / "config.yaml"))

    def told(*arguments: str):
        return json.loads(lmk.here(*arguments, "--json", *config, env=env).out)

    for _ in _ticks(10):
        report = told("usage", "--by", "key,model,tag,quality", "--user", "erin", "--since", "1d")
        if not report["total"]["open"]:
            break
    assert {
        (row["key"], row["model"], row["tag"], row["quality"], row["requests"])
        for row in report["rows"]
    } == {("erin-laptop", "gpt-4o-mini", tag, "exact", 1) for tag in ("", "run-7")}
    assert report["total"]["input_tokens"] == 2 * openai.USAGE["prompt_tokens"]
    assert report["total"]["cost_nusd"] > 0
    for _ in _ticks(10):
        if (erin := told("users", "erin"))["last_used"]:
            break
    assert erin["last_used"] is not None


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_the_table_fits_the_terminal_and_has_bars(lmk, columns):
    fill(lmk.home, *ROWS, {"when": "2026-07-06", "model": "m" * 300, "cents": 75})
    done = lmk.on_terminal("usage", *JULY, "--by", "user,model", columns=columns)
    lines = [line.rstrip() for line in ANSI.sub("", done.out).splitlines()]
    assert max(map(len, lines)) <= columns
    assert any("█" in line for line in lines) == (columns >= 80)
    if columns >= 80:
        heads = [line.split()[0] for line in lines if line and not line.startswith((" ", "─"))]
        assert heads[1:5] == ["User", "alice", "bob", "total"]
        assert any(f"{'m' * 23}…" in line or "m" * 24 in line for line in lines)
