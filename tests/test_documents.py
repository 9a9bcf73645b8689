from __future__ import annotations

import pytest

from llamakey_addon.documents import at, one, read, read_object
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


@pytest.mark.parametrize(
    "text", [b"", b" ", b"{", b"{}}", b"{} {}", b"\x0b{}", b"NaN", b'{"a":1,}']
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(BadRequest, match="not JSON"):
        read(text)


def test_spaces_around_a_document():
    assert read(b" \r\n\t[1] \r\n\t") == [1]
