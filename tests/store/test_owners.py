from __future__ import annotations

import pytest

from llamakey_addon.store import StoreError, open_store
from llamakey_addon.store.owners import Owner

ALICE, BOB = Owner("alice", "red", "k1", 1.5), Owner("bob", "", "k2", 2.5)


@pytest.fixture
def owners(tmp_path):
    with open_store(tmp_path) as store:
        yield store.owners


def test_the_first_claim_holds(owners):
    owners.claim("openai", "file", ["a", "b"], ALICE)
    owners.claim("openai", "file", ["b", "c"], BOB)
    assert owners.find("openai", "file", ["a", "b", "c", "d"]) == {"a": ALICE, "b": ALICE, "c": BOB}


def test_kinds_and_providers_are_apart(owners):
    owners.claim("openai", "file", ["a"], ALICE)
    assert owners.find("openai", "batch", ["a"]) == {}
    assert owners.find("azure", "file", ["a"]) == {}


def test_what_is_released_is_nobodys(owners):
    owners.claim("openai", "file", ["a"], ALICE)
    owners.release("openai", "file", "a")
    assert owners.find("openai", "file", ["a"]) == {}
    owners.claim("openai", "file", ["a"], BOB)
    assert owners.find("openai", "file", ["a"]) == {"a": BOB}


def test_claims_outlive_the_process_and_are_seen_by_others(tmp_path):
    with open_store(tmp_path) as one, open_store(tmp_path) as other:
        one.owners.claim("openai", "file", ["a"], ALICE)
        assert other.owners.find("openai", "file", ["a"]) == {"a": ALICE}
    with open_store(tmp_path) as again:
        assert again.owners.find("openai", "file", ["a"]) == {"a": ALICE}


def test_a_store_that_is_gone_says_so(tmp_path, owners):
    owners.claim("openai", "file", ["a"], ALICE)
    (tmp_path / "llamakey.db").unlink()
    with pytest.raises(StoreError, match="put back a backup"):
        owners.find("openai", "file", ["a"])
