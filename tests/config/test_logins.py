"""What a credential is made of: variables, `login` in config.yaml, what is said where it lacks."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path

import pytest

from llamakey_addon.clients import keyfiles
from llamakey_addon.config import Settings
from llamakey_addon.errors import ConfigError
from llamakey_addon.journey import Recipe

SECRET = "Zq3vXw9LmT7uRb2NcY5dHj8KpS4aGe6F"
LOCAL = "sk-lmk-abcdefghij-" + "x" * 49
ENTRA = {
    "AZURE_OPENAI_RESOURCE": "contoso",
    "AZURE_TENANT_ID": "t.example",
    "AZURE_CLIENT_ID": "app",
    "AZURE_CLIENT_SECRET": SECRET,
}


def load(folder: Path, text: str = "", **environ: str) -> Settings:
    path = folder / "config.yaml"
    path.write_text(textwrap.dedent(text))
    return Settings.load(path, {"HOME": "/home/me", **environ})


def recipe(settings: Settings, prefix: str = "azure") -> Recipe:
    provider = settings.providers[prefix]
    assert provider.ready, provider.missing
    assert provider.recipe is not None and provider.secret is None
    return provider.recipe


def test_the_usual_variables_log_in(tmp_path: Path) -> None:
    settings = load(tmp_path, **ENTRA)
    made = recipe(settings)
    assert made.inputs == {
        "tenant": "t.example",
        "client_id": "app",
        "scope": "https://cognitiveservices.azure.com/.default",
        "token_url": "https://login.microsoftonline.com/t.example/oauth2/v2.0/token",
    }
    assert made.secret is not None
    # for the server of tokens, not for the provider; and what is made for the provider alone
    assert made.secret.hosts == {"login.microsoftonline.com"}
    assert made.hosts == {"contoso.openai.azure.com"}
    assert made.source == "env:AZURE_CLIENT_SECRET"
    assert SECRET not in repr(settings)


def test_a_key_goes_before_what_one_is_made_of(tmp_path: Path) -> None:
    azure = load(tmp_path, **ENTRA, AZURE_OPENAI_API_KEY=SECRET).providers["azure"]
    assert azure.secret is not None and azure.recipe is None


def test_login_goes_before_variables_and_keys_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET[::-1]}\n")
    (tmp_path / "secret").chmod(0o600)
    text = """
        providers:
          azure:
            login:
              client_id: env:OTHER_APP
              client_secret: file:secret
              token_url: https://login.microsoftonline.us/{tenant}/oauth2/v2.0/token
    """
    settings = load(tmp_path, text, **ENTRA, AZURE_OPENAI_API_KEY=SECRET, OTHER_APP="other")
    made = recipe(settings)
    assert (made.inputs["tenant"], made.inputs["client_id"]) == ("t.example", "other")
    assert made.inputs["token_url"] == (
        "https://login.microsoftonline.us/t.example/oauth2/v2.0/token"
    )
    assert made.secret is not None
    assert made.secret.reveal("login.microsoftonline.us") == SECRET[::-1].encode()
    assert made.source == "file:secret"
    assert not settings.warnings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["set AZURE_OPENAI_API_KEY, or AZURE_TENANT_ID and AZURE_CLIENT_ID and"]),
        ({"AZURE_TENANT_ID": "t"}, ["or AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"]),
        ({**ENTRA, "AZURE_CLIENT_SECRET": LOCAL}, ["local LlamaKey credential"]),
        ({**ENTRA, "AZURE_CLIENT_SECRET": f"{SECRET} {SECRET}"}, ["space or a line break"]),
        ({**ENTRA, "AZURE_CLIENT_ID": "a\nb"}, ["`client_id` is one line"]),
    ],
)
def test_what_is_missing_or_wrong_is_said_without_the_secret(
    tmp_path: Path, given: dict[str, str], words: list[str]
) -> None:
    azure = load(tmp_path, **{"AZURE_OPENAI_RESOURCE": "contoso", **given}).providers["azure"]
    assert not azure.ready and azure.recipe is None
    assert all(word in azure.missing for word in words), azure.missing
    assert SECRET not in azure.missing and LOCAL not in azure.missing


@pytest.mark.parametrize(
    ("provider", "login", "words"),
    [
        ("azure", "{tenand: x}", ["`tenand` is nothing of a login", "Did you mean `tenant`?"]),
        ("openai", "{tenant: x}", ["takes a key alone"]),
        ("azure", "{tenant: 7}", ["text is expected"]),
    ],
)
def test_faults_name_their_line(
    tmp_path: Path, provider: str, login: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, f"providers:\n  {provider}:\n    login: {login}\n")
    assert "config.yaml:3" in str(raised.value)
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_key_and_login_are_two_ways(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't both stand here"):
        load(tmp_path, "providers:\n  azure:\n    key: env:A\n    login: {tenant: x}\n")


def test_a_secret_in_clear_works_and_is_warned_of(tmp_path: Path) -> None:
    text = f"""
        providers:
          vectara:
            login: {{client_id: app, client_secret: "{SECRET}"}}
    """
    settings = load(tmp_path, text)
    assert recipe(settings, "vectara").inputs["token_url"] == (
        "https://auth.vectara.io/oauth2/token"
    )
    assert any("in clear" in fault.message for fault in settings.warnings)
    assert SECRET not in "".join(map(str, settings.warnings))


def test_a_login_that_is_not_whole_warns_with_its_line(tmp_path: Path) -> None:
    text = "providers:\n  vectara:\n    login: {client_id: app, client_secret: env:NOT_SET}\n"
    settings = load(tmp_path, text)
    vectara = settings.providers["vectara"]
    assert not vectara.ready and "set NOT_SET" in vectara.missing
    assert any("config.yaml:3" in fault.where for fault in settings.warnings)


def test_a_provider_of_ones_own_logs_in_by_its_own_settings_alone(tmp_path: Path) -> None:
    text = """
        providers:
          azure-eu:
            like: azure
            upstream: https://eu.openai.azure.com
            login: {tenant: t, client_id: app, client_secret: env:EU_SECRET}
          azure-us:
            like: azure
            upstream: https://us.openai.azure.com
    """
    settings = load(tmp_path, text, **ENTRA, EU_SECRET=SECRET)
    assert recipe(settings, "azure-eu").hosts == {"eu.openai.azure.com"}
    assert not settings.providers["azure-us"].ready


def test_a_client_s_environment_is_no_owner_s(tmp_path: Path) -> None:
    """Also where nothing but the name says that a pair is ours."""
    pair = {"AWS_ACCESS_KEY_ID": "LMKabcdefghij", "AWS_SECRET_ACCESS_KEY": LOCAL}
    bedrock = load(tmp_path, AWS_REGION="us-east-1", **pair).providers["bedrock"]
    assert not bedrock.ready and "AWS_SECRET_ACCESS_KEY holds a local" in bedrock.missing
    path = tmp_path / "llamakey_vertex.json"
    path.write_text(keyfiles.content("http://p", "vertex", LOCAL, str(path)))
    vertex = load(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(path)).providers["vertex"]
    assert not vertex.ready and "local LlamaKey credential" in vertex.missing
    path.write_text('{"type": "service_account", "client_email": "abc@llamakey.invalid"}')
    vertex = load(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(path)).providers["vertex"]
    assert "has made for a client" in vertex.missing
    path.write_text('{"type": "something"}')
    vertex = load(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(path)).providers["vertex"]
    assert "no credentials file of Google's" in vertex.missing


def test_what_an_extra_brings_is_named_where_it_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "botocore" else found(name)
    )
    environ = {"AWS_REGION": "us-east-1", "AWS_PROFILE": "team"}
    missing = load(tmp_path, **environ).providers["bedrock"].missing
    assert "pip install 'llamakey[bedrock]'" in missing


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("openai: {metadata: alice}", "has no metadata server"),
        ("openai: {regions: [eu]}", "regions are nothing of this provider's"),
        ("vertex: {upstream: https://x.example, regions: [eu]}", "regions are nothing"),
        (
            "vertex: {metadata: alice}\n  other: {like: vertex, upstream: https://x.example, "
            "key: env:A, metadata: bob}",
            "it is vertex's already",
        ),
    ],
)
def test_settings_that_are_for_some_alone(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, f"providers:\n  {text}\n")


def test_a_new_region_is_added_and_the_credential_may_go_there(tmp_path: Path) -> None:
    text = "providers: {vertex: {regions: [us-new1], key: env:EXPRESS}}"
    vertex = load(tmp_path, text, EXPRESS=SECRET).providers["vertex"]
    assert vertex.regions["us-new1"].host == "us-new1-aiplatform.googleapis.com"
    assert vertex.secret is not None
    assert vertex.secret.reveal("us-new1-aiplatform.googleapis.com")
    assert vertex.secret.reveal("aiplatform.eu.rep.googleapis.com")
