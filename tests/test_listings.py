from __future__ import annotations

import json

import pytest

from llamakey_addon.errors import UpstreamFault
from llamakey_addon.listings import ListFilter


def filtered(document: object, *paths: str, keep=("a", "b")):
    it = ListFilter(paths, lambda name: name in keep, 10_000)
    it.feed(json.dumps(document).encode())
    return json.loads(it.end())


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("data[].id", {"data": [{"id": "a"}, {"id": "c"}]}, {"data": [{"id": "a"}]}),
        ("[].id", [{"id": "c"}, {"id": "b"}], [{"id": "b"}]),
        ("a.b[].id", {"a": {"b": [{"id": "c"}]}}, {"a": {"b": []}}),
        ("data[]", {"data": ["a", "c"]}, {"data": ["a"]}),
        ("data[].x.id", {"data": [{"x": {"id": "a"}}, {"x": 1}]}, {"data": [{"x": {"id": "a"}}]}),
        ("data[].{o}/{n}", {"data": [{"o": "a", "n": "x"}]}, {"data": []}),
        # what has no name that is text is nobody's
        ("data[].id", {"data": [{"id": 1}, {}, "a", None]}, {"data": []}),
        ("data[].id", {"object": "list"}, {"object": "list"}),
    ],
)
def test_items_that_may_not_be_seen_are_taken_out(path, before, after):
    assert filtered(before, path) == after


def test_a_name_of_two_fields():
    keep = ("o/n",)
    assert filtered({"data": [{"o": "o", "n": "n"}]}, "data[].{o}/{n}", keep=keep) == {
        "data": [{"o": "o", "n": "n"}]
    }


def test_several_lists_and_several_names():
    document = {"stt": [{"name": "c"}, {"id": "a"}], "tts": [{"name": "b"}, {"name": "d"}]}
    assert filtered(document, "stt[].id", "stt[].name", "tts[].name") == {
        "stt": [{"id": "a"}],
        "tts": [{"name": "b"}],
    }


def test_cursors_and_totals_tell_of_nothing_that_was_taken_out():
    page = {"data": [{"id": "x"}, {"id": "a"}, {"id": "b"}, {"id": "y"}], "has_more": True}
    page |= {"first_id": "x", "last_id": "y", "total": 10}
    kept = filtered(page, "data[].id")
    assert (kept["first_id"], kept["last_id"], kept["total"]) == ("a", "b", 8)
    assert kept["has_more"] is True
    assert "x" not in json.dumps(kept) and "y" not in json.dumps(kept["last_id"])
    none = filtered(page, "data[].id", keep=())
    assert (none["first_id"], none["last_id"], none["total"]) == (None, None, 6)
    assert filtered(page, "data[].id", keep="xaby") == page


def test_texts_stay_as_they_are():
    it = ListFilter(("data[].id",), lambda name: True, 10_000)
    it.feed('{"data":[{"id":"Ω","n":12345678901234567890,"s":"\\ud83d\\ude00"}]}'.encode())
    assert it.end() == '{"data":[{"id":"Ω","n":12345678901234567890,"s":"😀"}]}'.encode()


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b'{"data": {}}', b'"data"', b"[" * 9999]
)
def test_what_is_not_the_list_is_not_shown(content):
    it = ListFilter(("data[].id",), lambda name: True, 100_000)
    it.feed(content)
    with pytest.raises(UpstreamFault):
        it.end()
