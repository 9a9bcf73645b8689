from __future__ import annotations

import os
import subprocess
import textwrap

import pytest

from llamakey_addon import keys
from llamakey_addon.config import Settings
from llamakey_addon.errors import ConfigError
from llamakey_addon.journey import Upstream

LOCAL = "sk-lmk-abcdefghij-" + "x" * 49
REAL = "sk-proj-Zq3vXw9LmT7uRb2NcY5dHj8KpS4aGe6F"


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(text="", environ=None, **options):
        (tmp_path / "config.yaml").write_text(textwrap.dedent(text))
        environ = {"HOME": "/home/me", "PATH": os.environ["PATH"], **(environ or {})}
        return Settings.load(None, environ, **options)

    return read


# --- keys from the environment --------------------------------------------------------------------


def test_a_variable_switches_a_provider_on(load):
    openai = load().providers["openai"]
    assert not openai.ready
    assert openai.missing == "set OPENAI_API_KEY"
    assert openai.secret is None
    openai = load("", {"OPENAI_API_KEY": f" {REAL}\n"}).providers["openai"]
    assert openai.ready
    assert openai.upstream == Upstream("https", "api.openai.com", 443, owner="openai")
    assert openai.secret is not None
    assert openai.secret.reveal("api.openai.com") == REAL.encode()
    assert openai.secret.source == "env:OPENAI_API_KEY"
    with pytest.raises(keys.SecretMisuse):
        openai.secret.reveal("api.cohere.com")


def test_every_provider_is_switched_on_by_its_own_variables(load):
    off = load().providers
    environ: dict[str, str] = {}
    for provider in off.values():
        environ |= dict.fromkeys(provider.entry.upstream_vars.values(), "name")
        if provider.entry.key_env:
            environ[provider.entry.key_env[0]] = REAL
    for prefix, provider in load("", environ).providers.items():
        assert provider.ready, provider.missing
        assert provider.prefix == prefix
        assert provider.upstream is not None
        if not provider.entry.credential.optional or provider.entry.key_env:
            assert provider.secret is not None
            assert provider.secret.reveal(provider.upstream.host) == REAL.encode()
    for provider in off.values():
        for name in provider.entry.key_env[:1] if not provider.ready else ():
            assert name in provider.missing


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (LOCAL, ["local LlamaKey key, not OpenAI's", "server's shell?"]),
        (f"hf_{LOCAL}", ["local LlamaKey key"]),
        ("sk-lmk-broken", ["local LlamaKey key"]),
        (f"{REAL}\n{REAL}", ["line break"]),
        (f"Bearer {REAL}", ["a space"]),
        (f"{REAL}é", ["another character"]),
        (f"{REAL}\0", ["another character"]),
        ("x" * 20000, ["16 KiB"]),
    ],
)
def test_a_key_that_can_be_none_is_not_used(load, value, words):
    settings = load("", {"OPENAI_API_KEY": value})
    openai = settings.providers["openai"]
    assert openai.secret is None and not openai.ready
    for word in ("OPENAI_API_KEY", *words):
        assert word in openai.missing
    assert value.strip() not in openai.missing and REAL not in repr(settings)


def test_base_urls_of_the_servers_shell_choose_nothing(load):
    environ = {"HF_TOKEN": REAL, "OPENAI_API_KEY": REAL, "AZURE_OPENAI_API_KEY": REAL}
    bases = [
        "OPENAI_BASE_URL", "OPENAI_API_BASE", "CO_API_URL", "ANTHROPIC_BASE_URL", "HF_ENDPOINT",
        "AZURE_OPENAI_ENDPOINT", "GOOGLE_GEMINI_BASE_URL", "OLLAMA_HOST", "GROQ_BASE_URL",
    ]  # fmt: skip
    for provider in load().providers.values():
        for client in provider.entry.clients:
            bases += [name for name, value in client.env.items() if "{proxy}" in value]
    redirection = dict.fromkeys(bases, "http://evil.example/v1")
    plain, redirected = load("", environ), load("", {**redirection, **environ})
    assert [p.upstream for p in plain.providers.values()] == [
        p.upstream for p in redirected.providers.values()
    ]
    assert "evil" not in repr(redirected)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("team-a", "team-a.openai.azure.com"),
        ("Team-A", "team-a.openai.azure.com"),
        ("evil.example/", None),
        ("evil.example#", None),
        ("a@evil", None),
        ("a:8443", None),
        ("-a", None),
        ("a..b", None),
        ("https://a", None),
        ("x" * 64, None),
    ],
)
def test_a_variable_fills_labels_alone(load, value, host):
    azure = load("", {"AZURE_OPENAI_API_KEY": REAL, "AZURE_OPENAI_RESOURCE": value}).providers[
        "azure"
    ]
    if host:
        assert azure.ready and azure.upstream is not None and azure.upstream.host == host
    else:
        assert not azure.ready and azure.secret is None
        assert "AZURE_OPENAI_RESOURCE" in azure.missing


def test_what_is_missing_is_said_at_once(load):
    assert (
        load()
        .providers["azure"]
        .missing.startswith("set AZURE_OPENAI_RESOURCE and AZURE_OPENAI_API_KEY")
    )


# --- keys by reference ----------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["env:TEAM", "file:key", "cmd:cat key", "cmd:printenv TEAM"])
def test_a_reference_is_followed(load, tmp_path, reference):
    (tmp_path / "key").write_text(f"{REAL}\n")
    (tmp_path / "key").chmod(0o600)
    settings = load(
        f"providers:\n  openai:\n    key: {reference}\n", {"TEAM": REAL, "OPENAI_API_KEY": "other"}
    )
    secret = settings.providers["openai"].secret
    assert secret is not None and secret.reveal("api.openai.com") == REAL.encode()
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:TEAM", "set TEAM"),
        ("file:nowhere", "nowhere"),
        ("cmd:false", "exit code 1"),
        ("cmd:/nope", "can't be started"),
    ],
)
def test_a_reference_that_leads_nowhere_leaves_the_rest_ready(load, reference, words):
    settings = load(
        f"providers:\n  openai:\n    key: {reference}\n",
        {"OPENAI_API_KEY": REAL, "CO_API_KEY": REAL},
    )
    openai = settings.providers["openai"]
    assert not openai.ready and words in openai.missing
    assert openai.secret is None  # not the usual variable's: the owner named another
    assert settings.providers["cohere"].ready
    (warning,) = settings.warnings
    assert warning.where == "config.yaml:3" and words in warning.message


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("${OPENAI_API_KEY}", ["env:OPENAI_API_KEY"]),
        ("$TEAM", ["env:TEAM"]),
        ("OPENAI_API_KEY", ["env:OPENAI_API_KEY"]),
        ("vault:team/key", ["no kind of reference", "env:NAME"]),
        ("flie:key", ["Did you mean `file`?"]),
        ("ENV:NAME", ["Did you mean `env`?"]),
        ('""', ["empty"]),
    ],
)
def test_what_is_meant_as_a_reference_is_a_fault(load, key, words):
    with pytest.raises(ConfigError) as caught:
        load(f"providers:\n  openai:\n    key: {key}\n")
    (fault,) = caught.value.faults
    assert fault.where == "config.yaml:3"
    for word in words:
        assert word in fault.message


def test_a_key_in_clear_works_and_is_warned_of_once(load):
    settings = load(f"providers:\n  openai:\n    key: {REAL}\n")
    assert settings.providers["openai"].ready
    (warning,) = settings.warnings
    assert warning.where == "config.yaml:3"
    assert "in clear" in warning.message and "env:OPENAI_API_KEY" in warning.message
    assert REAL not in repr(settings)


def test_a_readable_key_file_is_warned_of(load, tmp_path):
    (tmp_path / "key").write_text(REAL)
    (tmp_path / "key").chmod(0o644)
    settings = load("providers:\n  openai:\n    key: file:key\n")
    assert settings.providers["openai"].ready
    assert "chmod 600" in settings.warnings[0].message


def test_a_local_key_by_reference_is_warned_of(load):
    settings = load("providers:\n  openai: {key: env:X}\n", {"X": keys.mint().text})
    assert "local LlamaKey key" in settings.warnings[0].message
    assert not settings.providers["openai"].ready


def test_a_disabled_provider_reads_no_key(load, tmp_path):
    settings = load("providers:\n  openai: {enabled: false, key: 'cmd:touch made'}\n")
    assert "providers.openai.enabled" in settings.providers["openai"].missing
    assert not (tmp_path / "made").exists()


# --- upstreams ------------------------------------------------------------------------------------


def test_an_upstream_binds_the_key_to_its_host(load):
    openai = load(
        "providers:\n  openai: {upstream: 'https://eu.api.openai.com'}\n", {"OPENAI_API_KEY": REAL}
    ).providers["openai"]
    assert openai.upstream == Upstream("https", "eu.api.openai.com", 443, owner="openai")
    assert openai.secret is not None and openai.secret.reveal("eu.api.openai.com")
    with pytest.raises(keys.SecretMisuse):
        openai.secret.reveal("api.openai.com")


@pytest.mark.parametrize(
    ("part", "line", "words"),
    [
        ("upstream: https://api.openai.com/v1", 3, ["a path can't stand here"]),
        ("upstream: nonsense", 3, ["write an origin"]),
        ("upstream: http://api.openai.com", 3, ["in clear", "allow_plain_upstream"]),
        ("upstream: http://localhost:8000", 3, ["this proxy itself"]),
        ("upstream: http://127.1:8000", 3, ["this proxy itself"]),
        ("upstream: https://llm.corp", 3, ["this proxy itself"]),
        ("ca: nowhere.pem", 3, ["nowhere.pem", "PEM"]),
        ("ca: config.yaml", 3, ["PEM"]),
        ("prefix: cohere", 3, ["cohere's", "Choose another"]),
        ("prefix: _llamakey", 3, ["`providers.openai.prefix`"]),
        ("prefix: a/b", 3, ["`providers.openai.prefix`"]),
        ("like: cohere", 3, ["of your own"]),
        ("credential: {header: X}", 3, ["of your own"]),
        ("credential: {format: x}", 3, ["`providers.openai.credential.format`"]),
    ],
)
def test_faults(load, part, line, words):
    with pytest.raises(ConfigError) as caught:
        load(f"providers:\n  openai:\n    {part}\n\npublic_url: https://llm.corp\n")
    fault = next(f for f in caught.value.faults if all(word in f.message for word in words))
    assert fault.where == f"config.yaml:{line}"


def test_plain_http_where_it_is_wanted(load):
    text = "providers:\n  ollama: {upstream: 'http://gpu:11434', allow_plain_upstream: true}\n"
    assert load(text).providers["ollama"].upstream == Upstream("http", "gpu", 11434, owner="ollama")
    text = "providers:\n  openai: {upstream: 'http://127.0.0.1:9'}\n"
    assert load(text, {"OPENAI_API_KEY": REAL}).providers["openai"].ready


def test_a_catalogued_upstream_that_is_ourselves_is_not_ready(load):
    ollama = load("listen: localhost:11434\n").providers["ollama"]
    assert not ollama.ready and ollama.upstream is None
    assert "this proxy itself" in ollama.missing
    assert load("providers:\n  ollama: {enabled: true}\n").providers["ollama"].ready  # needs no key
    assert "enabled: true" in load("").providers["ollama"].missing


def test_ca(load, tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", tmp_path / "k", "-out", tmp_path / "ca.pem", "-subj", "/CN=x"],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    upstream = load("providers:\n  openai: {ca: ca.pem}\n").providers["openai"].upstream
    assert upstream is not None and upstream.ca == str(tmp_path / "ca.pem")


# --- providers of the owner's own -----------------------------------------------------------------


def test_like_takes_over_the_api(load):
    settings = load(
        """\
        providers:
          vllm:
            prefix: gpu
            upstream: https://vllm.internal:8443
            key: env:VLLM
            like: openai
        """,
        {"VLLM": REAL},
    )
    vllm, openai = settings.providers["gpu"], settings.providers["openai"]
    assert vllm.ready and vllm.id == "vllm" and vllm.entry.id == "vllm"
    assert vllm.entry.endpoints == openai.entry.endpoints
    assert vllm.entry.envelope == openai.entry.envelope
    assert vllm.entry.credential == openai.entry.credential
    assert not any(client.default for client in vllm.entry.clients)
    assert vllm.secret is not None and vllm.secret.reveal("vllm.internal") == REAL.encode()


def test_a_credential_of_its_own(load):
    settings = load(
        """\
        providers:
          search:
            upstream: https://search.example.com
            key: env:S
            credential: {header: X_Search-Key, format: "Token {key}"}
        """,
        {"S": REAL},
    )
    search = settings.providers["search"]
    assert search.ready
    assert search.entry.credential.place.format == "Token {key}"
    (slot,) = search.entry.credential.accept
    assert (slot.header, slot.scheme) == ("X_Search-Key", "Token")
    assert b"x-search-key" in settings.strip_headers
    assert b"x-search-key" in settings.slot_headers


def test_an_optional_key_of_a_like(load):
    settings = load("providers:\n  mine: {upstream: 'http://127.0.0.1:1', like: ollama}\n")
    assert settings.providers["mine"].ready
    settings = load("providers:\n  mine: {upstream: 'http://127.0.0.1:1', like: openai}\n")
    assert settings.providers["mine"].missing == "set providers.mine.key in config.yaml"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("opanai: {key: env:A}", ["`opanai` is no provider", "Did you mean `openai`?"]),
        ("mine: {}", ["`upstream`"]),
        ("mine:", ["`upstream`"]),
        ("mine: {upstream: 'https://a'}", ["where its key goes", "like: openai"]),
        ("mine: {upstream: 'https://a', like: opanai}", ["Did you mean `openai`?"]),
        ("Mine: {upstream: 'https://a', like: openai}", ["lower-case"]),
        ("mine: {upstream: 'https://a', like: openai, prefix: openai}", ["openai's"]),
    ],
)
def test_faults_of_ones_own(load, part, words):
    with pytest.raises(ConfigError) as caught:
        load(f"providers:\n  {part}\n", {"A": REAL})
    fault = caught.value.faults[0]
    assert fault.where == "config.yaml:2"
    for word in words:
        assert word in fault.message


def test_connections_of_two_credentials_are_never_shared(load) -> None:
    """Even where they go to the same host."""
    text = """
providers:
  one: {upstream: "https://llm.internal", like: openai, key: env:ONE}
  two: {upstream: "https://llm.internal", like: openai, key: env:TWO}
"""
    providers = load(text, {"ONE": REAL, "TWO": REAL}).providers
    first, second = providers["one"].upstream, providers["two"].upstream
    assert first is not None and second is not None
    assert (first.origin, first.owner) == (second.origin, "one")
    assert first != second
