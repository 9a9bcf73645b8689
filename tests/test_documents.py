from __future__ import annotations

import pytest

from llamakey_addon.documents import at, one, read, read_object, strings
from llamakey_addon.errors import BadRequest


def test_values_at_a_path():
    document = read(b'{"requests": [{"params": {"model": "a"}}, {"params": {"model": "b"}}, 1]}')
    assert list(at(document, "requests[].params.model")) == ["a", "b"]
    assert list(at(document, "requests[].x")) == []
    assert list(at(read(b'{"models": ["a", "b"]}'), "models[]")) == ["a", "b"]
    assert list(at(read(b'[{"id": 1}]'), "[].id")) == [1]


@pytest.mark.parametrize(
    "text",
    [
        b'{"model": "a", "model": "b"}',
        b'{"model": "a", "MODEL": "b"}',
        b'{"model": "a", "\\u006dodel": "b"}',
    ],
)
def test_a_name_that_stands_twice_means_two_things(text):
    with pytest.raises(BadRequest, match="twice"):
        one(read_object(text), "model")
    with pytest.raises(BadRequest, match="twice"):
        list(at(read(b'{"a": [' + text + b"]}"), "a[].model"))


def test_a_name_in_another_case_is_the_name():
    assert one(read_object(b'{"Model": "a"}'), "model") == "a"


def test_all_texts_with_the_names_that_they_stand_under():
    document = read(b'{"a": "1", "b": ["2", {"c": "3"}], "a": "4"}')
    assert sorted(strings(document)) == [
        ("", "a"),
        ("", "a"),
        ("", "b"),
        ("", "c"),
        ("a", "1"),
        ("a", "4"),
        ("b", "2"),
        ("c", "3"),
    ]
