"""Client credentials against a server of tokens over TLS: Entra's as Azure wants it, Vectara's."""

from __future__ import annotations

import pytest

from llamakey_addon.asking import asker
from llamakey_addon.catalogue.models import Placement
from llamakey_addon.credentials import MakingFailed, maker
from llamakey_addon.journey import Outgoing, Recipe, Upstream
from llamakey_addon.keys import Secret, SecretMisuse
from tests.fakes import World, tokens
from tests.fakes.families.logins import CLIENT, SCOPE, TENANT

API = Upstream("https", "api.example", 443)


def recipe(world: World, url: str, secret: str | None = None, ca: str | None = None) -> Recipe:
    text = world.key("entra") if secret is None else secret
    return Recipe(
        kind="client-credentials",
        name="Azure OpenAI",
        setting="providers.azure.login",
        source="env:AZURE_CLIENT_SECRET",
        place=Placement(header="Authorization", format="Bearer {key}"),
        hosts=frozenset({API.host}),
        inputs={"token_url": url, "client_id": CLIENT, "scope": SCOPE},
        secret=Secret(text, hosts=frozenset({"localhost"}), source="test"),
        ca=str(world.ca) if ca is None else ca,
    )


def entra(world: World, certificate: str = "good") -> str:
    return f"{world.origin('entra', certificate)}/{TENANT}/oauth2/v2.0/token"


def test_a_token_is_asked_for_and_bound_to_the_provider(world: World) -> None:
    made = maker(recipe(world, entra(world)), asker(lambda: ""))()
    assert made.lives_s == 3599
    headers, keys = made.seal.put(Outgoing(API, "GET", "/", (), None))
    [(name, value)] = headers
    assert name == b"Authorization" and value == b"Bearer " + keys[0]
    assert tokens.good(keys[0].decode(), "azure")
    with pytest.raises(SecretMisuse):
        made.seal.put(Outgoing(Upstream("https", "evil.example", 443), "GET", "/", (), None))


@pytest.mark.parametrize(
    ("path", "secret", "words", "passing"),
    [
        ("", "wrong", ["localhost answered 401 invalid_client", "check the client's id"], False),
        ("/elsewhere", None, ["localhost answered 404", "check the client's id"], False),
    ],
)
def test_a_refusal_says_the_servers_word_and_no_secret(
    world: World, path: str, secret: str | None, words: list[str], passing: bool
) -> None:
    given = recipe(world, entra(world) + path, secret)
    with pytest.raises(MakingFailed) as failed:
        maker(given, asker(lambda: ""))()
    assert all(word in str(failed.value) for word in words)
    assert failed.value.passing is passing
    assert (secret or world.key("entra")) not in str(failed.value)


def test_a_server_that_cannot_be_trusted_gets_nothing(world: World) -> None:
    since = world.mark()
    for certificate in ("untrusted", "other-host", "expired"):
        with pytest.raises(MakingFailed, match="could not be verified"):
            maker(recipe(world, entra(world, certificate)), asker(lambda: ""))()
    with pytest.raises(MakingFailed, match="could not be verified"):
        maker(recipe(world, entra(world), ca=""), asker(lambda: ""))()
    assert world.requests(since=since) == []


def test_a_secret_goes_to_its_own_host_alone_and_never_in_clear(world: World) -> None:
    elsewhere = entra(world).replace("localhost", "127.0.0.1")
    with pytest.raises(SecretMisuse):
        maker(recipe(world, elsewhere), asker(lambda: ""))()
    with pytest.raises(MakingFailed, match="in clear"):
        asker(lambda: "")("POST", "http://login.example/token", {}, b"", ca="")
    with pytest.raises(MakingFailed, match="could not be reached") as failed:
        asker(lambda: "")("POST", "https://localhost:9/token", {}, b"", ca="")
    assert failed.value.passing


def test_a_redirect_is_not_followed(world: World) -> None:
    from tests.fakes import Reply

    path = f"/{TENANT}/oauth2/v2.0/token"
    moved = Reply(307, (("location", entra(world)),))
    world.force("entra", path, moved)
    since = world.mark()
    try:
        with pytest.raises(MakingFailed, match="answered 307"):
            maker(recipe(world, entra(world)), asker(lambda: ""))()
    finally:
        world.force("entra", path, None)
    assert len(world.requests(since=since)) == 1
