"""Google's access tokens, by google-auth, from a server that verifies what it signs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamakey_addon.asking import asker
from llamakey_addon.config import Settings
from llamakey_addon.credentials import Made, MakingFailed, maker
from llamakey_addon.journey import Outgoing, Recipe, Upstream
from tests.fakes import World, google, tokens


def recipe(world: World, folder: Path, file: dict[str, object]) -> Recipe:
    (folder / "account.json").write_text(json.dumps(file))
    (folder / "config.yaml").write_text(
        f"providers: {{vertex: {{login: {{credentials: file:account.json}}, ca: {world.ca}}}}}"
    )
    vertex = Settings.load(folder / "config.yaml", {"HOME": "/home/me"}).providers["vertex"]
    assert vertex.recipe is not None, vertex.missing
    return vertex.recipe


def account(world: World, **change: object) -> dict[str, object]:
    return {**google.account(f"{world.origin('google-oauth')}/token"), **change}


def make(given: Recipe) -> Made:
    return maker(given, asker(lambda: ""))()


def token_of(made: Made, host: str) -> str:
    _, [key] = made.seal.put(Outgoing(Upstream("https", host, 443), "GET", "/", (), None))
    return key.decode()


def test_a_service_account(world: World, tmp_path: Path) -> None:
    given = recipe(world, tmp_path, account(world))
    assert given.inputs["project"] == google.PROJECT
    assert given.source == "file:account.json"
    made = make(given)
    assert 3500 < made.lives_s <= 3600
    for host in ("aiplatform.googleapis.com", "europe-west4-aiplatform.googleapis.com"):
        assert tokens.good(token_of(made, host), "vertex")


def test_the_same_maker_makes_another(world: World, tmp_path: Path) -> None:
    again = maker(recipe(world, tmp_path, account(world)), asker(lambda: ""))
    hosts = "aiplatform.googleapis.com"
    assert token_of(again(), hosts) != token_of(again(), hosts)


def test_a_workload_identity(world: World, tmp_path: Path) -> None:
    """Whoever runs the workload writes a token to a file; Google's STS exchanges it."""
    (tmp_path / "subject").write_text("token-of-the-cluster")
    pool = "projects/1/locations/global/workloadIdentityPools/p"
    file: dict[str, object] = {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{pool}/providers/k",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{world.origin('google-oauth')}/v1/token",
        "credential_source": {"file": str(tmp_path / "subject")},
    }
    assert tokens.good(
        token_of(make(recipe(world, tmp_path, file)), "aiplatform.googleapis.com"), "vertex"
    )


def test_a_refusal_is_told_by_googles_word(world: World, tmp_path: Path) -> None:
    stranger = account(world, client_email="stranger@p.iam.gserviceaccount.com")
    with pytest.raises(MakingFailed) as failed:
        make(recipe(world, tmp_path, stranger))
    assert "invalid_grant" in str(failed.value) and not failed.value.passing
    assert "clock of this machine" in str(failed.value)


def test_a_server_that_is_not_there_may_come_back(world: World, tmp_path: Path) -> None:
    with pytest.raises(MakingFailed, match="could not be reached") as failed:
        make(recipe(world, tmp_path, account(world, token_uri="https://localhost:9/token")))
    assert failed.value.passing


def test_a_file_that_cannot_be_used_is_not_shown(world: World, tmp_path: Path) -> None:
    broken = account(world, private_key="-----BEGIN canary-----")
    with pytest.raises(MakingFailed, match="can't be used") as failed:
        make(recipe(world, tmp_path, broken))
    assert "canary" not in str(failed.value)


def test_redirects_of_the_files_own_choice_go_nowhere_else(world: World, tmp_path: Path) -> None:
    """Even where the file names a token server, what is made stays bound to Google's hosts."""
    made = make(recipe(world, tmp_path, account(world)))
    with pytest.raises(Exception, match="is bound to"):
        token_of(made, "localhost")
