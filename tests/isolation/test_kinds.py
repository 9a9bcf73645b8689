"""What a document names, found in one walk."""

from __future__ import annotations

import json

import pytest

from llamakey_addon import catalogue, documents
from llamakey_addon.isolation.kinds import Kinds, kinds_of

FILE, RESPONSE = "file-0123456789", "resp_0123456789abcdef"
OPENAI = kinds_of(catalogue.load().entries["openai"])


def named(document: object, kinds: Kinds = OPENAI) -> set[tuple[str, str, bool]]:
    read = documents.read(json.dumps(document).encode())
    return {(found.kind.name, found.id, found.certain) for found in kinds.in_document(read)}


@pytest.mark.parametrize(
    "document",
    [
        FILE,
        [FILE],
        {"a": FILE},
        {"a": [[{"b": [FILE]}]]},
        {"a": {FILE: 1}},
        {"a": {"b": 1}, FILE: {}},
        {"a": f" {FILE}".strip()},
        {"a": "x" * 2000 + FILE},
    ],
)
def test_an_id_is_found_wherever_it_stands(document: object) -> None:
    for _ in range(3):  # also where the names are known by then
        assert ("file", FILE, False) in named(document)
        assert not named({"a": ["b", {"c": "d"}]})


@pytest.mark.parametrize(
    "document",
    [
        {"previous_response_id": "odd"},
        {"PREVIOUS_response_id": "odd"},
        {"a": [{"previous_response_id": ["odd"]}]},
    ],
)
def test_what_stands_under_a_name_of_ids_is_one_for_certain(document: object) -> None:
    known = {"previous_response_id": RESPONSE}
    assert {certain for _, id, certain in named(known) if id == RESPONSE} >= {True}
    once = named(document)
    assert once == named(document)


def test_words_and_what_came_before_are_no_ids() -> None:
    words = {"role": "user", "content": f"What is {FILE}?"}
    for _ in range(3):
        assert not named({"messages": [words] * 3, "model": "gpt-4o"})
    assert named({"role": FILE}), "the name is dull, and not what stands under it"
    assert not named({"a": "x" * 3000 + FILE}), "too long for one"


def test_what_is_remembered_has_a_bound() -> None:
    for n in range(5000):
        named({f"name-{n}": f"text-{n}"})
    assert len(OPENAI.dull) <= 4096
    assert len(OPENAI.plain) <= 4096
    assert named({"name-1": FILE})
    for path in (f"/v1/files/{FILE}", f"/v1/files/{FILE}/{'a' * 3000}"):
        found = OPENAI.what(path, "GET")
        assert found is not None
        assert found[1:] == ("item", FILE)
    assert max(len(path) for path, _ in OPENAI._paths) < 3000
