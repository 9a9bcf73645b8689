"""The catalogue against what the providers' public documentation says."""

from __future__ import annotations

import pytest

from llamakey_addon import catalogue, route
from llamakey_addon.catalogue.models import Slot
from tests.cases import case
from tests.catalogue import documented
from tests.catalogue.providers import every

CATALOGUE = catalogue.load()
PROVIDERS = every()
CALLS = list(documented.calls())


@pytest.mark.parametrize("provider", CATALOGUE.entries)
def test_documented_calls_reach_their_paths(provider: str) -> None:
    calls = [call for call in CALLS if call.provider == provider]
    assert calls
    for call in calls:
        with case(call):
            _reaches_its_path(call)


def _reaches_its_path(call: documented.Call) -> None:
    way = route.find(
        f"/{CATALOGUE.entries[call.provider].prefix}{call.asked}",
        call.method,
        PROVIDERS,
        CATALOGUE.query_keys,
    )
    assert way.named_target == call.target
    assert way.provider.id == call.provider
    assert way.endpoint is not None, "the catalogue does not know this endpoint"
    if way.endpoint.model == "path":
        assert way.params["model"]


def test_every_provider_is_documented() -> None:
    assert set(documented.load()) == set(CATALOGUE.entries)


@pytest.mark.parametrize("id", CATALOGUE.entries)
def test_origin_and_credential(id: str) -> None:
    said, entry = documented.load()[id], CATALOGUE.entries[id]
    assert entry.upstream == said["origin"]
    place = entry.credential.place
    header, _, value = said["credential"].partition(": ")
    assert (place.header.lower(), place.format) == (header.lower(), value)
    for client in said["clients"]:
        assert _slot(client) in entry.credential.accept


def _slot(client: str) -> Slot:
    if client.startswith("?"):
        return Slot(query=client[1:].partition("=")[0])
    header, _, value = client.partition(": ")
    return Slot(header=header, scheme=value.removesuffix("{key}").strip())
