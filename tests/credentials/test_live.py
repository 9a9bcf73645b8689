"""Made credentials in a live proxy: one making for a crowd, hosts by region, and revocation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests import harness
from tests.client import Wire
from tests.conftest import Start
from tests.fakes import World
from tests.fakes.tunnel import Tunnels, tunnels
from tests.harness import Proxy

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASK = b'{"contents": [{"parts": [{"text": "hi"}]}]}'


@pytest.fixture(scope="module")
def company(world: World) -> Iterator[Tunnels]:
    """The way out, which leads to Google's fakes under Google's own names."""

    def leads_to(authority: str) -> int:
        family = "google-oauth" if authority.startswith("oauth2.") else "vertex"
        return world.port(family, "google")

    with tunnels(leads_to) as running:
        yield running


@pytest.fixture
def running(shared_proxy: Start, world: World, company: Tunnels) -> Proxy:
    """A proxy that reaches Google by its real names alone."""
    account = world.ca.parent / "real-names.json"
    if not account.exists():
        content = json.loads(world.service_account.read_text())
        account.touch(mode=0o600)
        account.write_text(
            json.dumps({**content, "token_uri": "https://oauth2.googleapis.com/token"})
        )
    vertex = {"upstream": None, "login": {"credentials": f"file:{account}"}}
    return shared_proxy(
        config={
            "upstream_proxy": f"http://127.0.0.1:{company.port}",
            "providers": {"vertex": vertex},
        }
    )


def path(location: str, verb: str = "generateContent") -> str:
    models = f"/vertex/v1/projects/p/locations/{location}/publishers/google/models"
    return f"{models}/gemini-fake-1:{verb}"


def generate(proxy: Proxy, location: str, key: str = "") -> int:
    with Wire(proxy.url) as wire:
        wire.request("POST", path(location), bearer(key or proxy.local_key), ASK)
        return wire.answer("POST").status


def bearer(key: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {key}"), ("Content-Type", "application/json")]


def test_a_crowd_waits_for_one_token_and_each_location_has_its_host(
    running: Proxy, world: World, company: Tunnels
) -> None:
    since, asked = world.mark(), len(company.asked)
    got: list[int] = []
    places = ["us-central1", "europe-west4", "global", "us"] * 3
    crowd = [
        threading.Thread(target=lambda place=place: got.append(generate(running, place)))
        for place in places
    ]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    assert got == [200] * len(places)
    assert len(world.requests("google-oauth", since)) == 1
    hosts = {request.header("host") for request in world.requests("vertex", since)}
    assert hosts == {
        "us-central1-aiplatform.googleapis.com",
        "europe-west4-aiplatform.googleapis.com",
        "aiplatform.googleapis.com",
        "aiplatform.us.rep.googleapis.com",
    }
    # the names were asked for and verified, the token server's too
    assert set(company.asked[asked:]) >= {
        "oauth2.googleapis.com:443",
        "europe-west4-aiplatform.googleapis.com:443",
    }
    assert {r.credential for r in world.requests("vertex", since)} == {"real"}


def exchanged(proxy: Proxy, key: str) -> str:
    form = {"grant_type": EXCHANGE, "subject_token": key}
    with Wire(proxy.url) as wire:
        wire.request("POST", "/vertex/token", (), urlencode(form).encode())
        token: str = json.loads(wire.answer("POST").body)["access_token"]
        return token


def test_a_revoked_key_ends_what_runs_by_its_tokens(running: Proxy, world: World) -> None:
    key = running.mint("alice")
    token = exchanged(running, key)
    running.keys.append(token)
    assert generate(running, "us-central1", token) == 200
    gate = world.gate("vertex-revoked")
    gate.release(1)
    with Wire(running.url) as wire:
        fields = [*bearer(token), ("x-fake-gate", "vertex-revoked")]
        wire.request("POST", f"{path('us-central1', 'streamGenerateContent')}?alt=sse", fields, ASK)
        wire.until(b"data: ")
        harness.revoke(running.home, key)
        wire.rest()  # the proxy ends it, for the provider is still at the gate
    running.wait_for_log(endpoint="generate.stream", end="the key is no longer valid")
    gate.open()
    assert generate(running, "us-central1", token) == 401
