"""Settings of other programs: what is read is what was written, and what lies over what."""

from __future__ import annotations

import datetime
import tomllib

import pytest

from llamakey_addon.clients.settings_files import SettingsUnreadable, joined, over, read, write

AWKWARD = 'a "b" \\ \n\t\x7f é \u2028 \U0001f999'
TABLE = {
    "text": AWKWARD,
    "": "empty name",
    "a name.with dots": {"in\nner": 1},
    "yes": True,
    "number": -3,
    "float": 1e100,
    "when": datetime.datetime(2026, 11, 28, 6, 30, tzinfo=datetime.UTC),
    "day": datetime.date(2026, 11, 28),
    "list": ["a", 1, [True], {"x": {"y": "z"}}, {}],
    "empty": {},
    "table": {"deeper": {"still": {"value": "v"}}, "beside": 1},
}


def test_toml_is_read_as_it_was_written() -> None:
    text = write(TABLE, "toml")
    assert tomllib.loads(text) == TABLE
    assert read(text, "toml", "x") == TABLE


def test_json_is_read_as_it_was_written() -> None:
    table = {"text": AWKWARD, "list": [1, None, {"a": False}]}
    assert read(write(table, "json"), "json", "x") == table


@pytest.mark.parametrize(
    ("text", "kind"), [("a = ", "toml"), ("{", "json"), ("[1]", "json"), ("", "json")]
)
def test_what_cannot_be_read_is_named(text: str, kind: str) -> None:
    with pytest.raises(SettingsUnreadable, match=r"^/home/x/config can't be read .*mend it"):
        read(text, kind, "/home/x/config")


def test_over() -> None:
    below = {"a": 1, "t": {"x": 1, "y": [1, 2], "deep": {"k": 1}}, "kept": "k"}
    above = {"a": 2, "t": {"y": [3], "deep": "gone"}, "new": {"n": 1}}
    assert over(below, above) == {
        "a": 2,
        "t": {"x": 1, "y": [3], "deep": "gone"},
        "kept": "k",
        "new": {"n": 1},
    }
    assert below["t"] == {"x": 1, "y": [1, 2], "deep": {"k": 1}}


def test_joined() -> None:
    assert joined({"on": ["a"], "p": {"a": {"u": 1}}}, {"on": ["b"], "p": {"b": {"u": 2}}}) == {
        "on": ["a", "b"],
        "p": {"a": {"u": 1}, "b": {"u": 2}},
    }
