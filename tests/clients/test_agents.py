"""What coding agents and tools need, as their own programs were seen to read it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llamakey_addon.clients import agents, environment
from llamakey_addon.clients.agents import Outfit
from llamakey_addon.clients.settings_files import SettingsUnreadable
from tests.catalogue.providers import every

PROVIDERS = list(every().values())
URL = "http://localhost:8000"
KEY = "sk-lmk-abcdefghij-secret"


def _outfit(id: str, home: Path, served: tuple[str, ...] = (), **environ: str) -> Outfit:
    return agents.outfit(
        agents.load()[id],
        served,
        proxy_url=URL,
        key=KEY,
        folder=home / "ours",
        environ={"HOME": str(home), **environ},
    )


def _codex(home: Path, **environ: str) -> dict[str, Any]:
    outfit = _outfit("codex", home, (), **environ)
    return tomllib.loads(outfit.files[home / "ours" / "config.toml"])


def _variables(*only: str) -> Mapping[str, str]:
    return {line.variable: line.value for line in environment(PROVIDERS, URL, KEY, only)}


def test_codex_has_a_provider_of_its_own(tmp_path: Path) -> None:
    outfit = _outfit("codex", tmp_path)
    assert outfit.variables["CODEX_HOME"] == str(tmp_path / "ours")
    config = _codex(tmp_path)
    assert config["model_provider"] == "llamakey"
    assert config["model_providers"] == {
        "llamakey": {
            "name": "OpenAI",
            "base_url": f"{URL}/openai/v1",
            "env_key": "LLAMAKEY_API_KEY",
            "wire_api": "responses",
            "supports_websockets": True,
        }
    }
    assert KEY not in "".join(outfit.files.values()), "the key is in the environment alone"


def test_codex_keeps_what_its_user_has_set(tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    own = (
        'model = "gpt-6"\nmodel_provider = "corp"\nopenai_base_url = "https://elsewhere.example"\n'
        'profile = "work"\n[profiles.work]\nmodel_provider = "corp"\n'
        '[model_providers.corp]\nbase_url = "https://corp.example"\n'
        '[mcp_servers.docs]\ncommand = "docs"\nargs = ["--x"]\n'
        "[analytics]\nenabled = true\n[features]\nmemories = true\n"
    )
    (tmp_path / ".codex" / "config.toml").write_text(own)
    config = _codex(tmp_path)
    assert config["model"] == "gpt-6"
    assert config["mcp_servers"] == {"docs": {"command": "docs", "args": ["--x"]}}
    assert config["analytics"] == {"enabled": True}, "what they chose"
    assert config["features"] == {"plugins": False, "memories": True}
    assert config["model_provider"] == "llamakey"
    assert set(config["model_providers"]) == {"llamakey"}
    assert not {"profile", "profiles", "openai_base_url"} & config.keys()
    assert (tmp_path / ".codex" / "config.toml").read_text() == own


def test_codex_home_names_the_users_own_settings_unless_it_is_ours(tmp_path: Path) -> None:
    for name, model in ((".codex", "of home"), ("theirs", "of theirs"), ("ours", "of ours")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text(f'approval_policy = "{model}"\n')
    assert _codex(tmp_path)["approval_policy"] == "of home"
    assert _codex(tmp_path, CODEX_HOME=str(tmp_path / "theirs"))["approval_policy"] == "of theirs"
    assert _codex(tmp_path, CODEX_HOME=str(tmp_path / "ours"))["approval_policy"] == "of home"


def test_what_codex_wrote_into_our_file_stays(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "config.toml").write_text(
        'model = "chosen in it"\nmodel_provider = "old"\n'
        '[projects."/src"]\ntrust_level = "trusted"\n'
    )
    config = _codex(tmp_path)
    assert config["model"] == "chosen in it"
    assert config["projects"] == {"/src": {"trust_level": "trusted"}}
    assert config["model_provider"] == "llamakey"


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text("model = ")
    with pytest.raises(SettingsUnreadable, match=r"\.codex/config\.toml can't be read"):
        _codex(tmp_path)


def test_gemini_is_told_to_take_the_key(tmp_path: Path) -> None:
    theirs = tmp_path / "system.json"
    theirs.write_text('{"security": {"auth": {"selectedType": "oauth-personal"}}, "ui": {"x": 1}}')
    outfit = _outfit("gemini-cli", tmp_path, GEMINI_CLI_SYSTEM_SETTINGS_PATH=str(theirs))
    path = tmp_path / "ours" / "settings.json"
    assert outfit.variables["GEMINI_CLI_SYSTEM_SETTINGS_PATH"] == str(path)
    assert outfit.variables["GOOGLE_GEMINI_BASE_URL"] == f"{URL}/gemini"
    assert outfit.variables["GEMINI_API_KEY"] == KEY
    assert outfit.variables["GOOGLE_API_KEY"] == ""
    assert json.loads(outfit.files[path]) == {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "ui": {"x": 1},
        "privacy": {"usageStatisticsEnabled": False},
    }


def test_opencode_knows_what_is_served_and_no_other(tmp_path: Path) -> None:
    theirs = '{"theme": "dark", "provider": {"ollama": {}}, "enabled_providers": ["ollama"]}'
    outfit = _outfit("opencode", tmp_path, ("openai", "gemini"), OPENCODE_CONFIG_CONTENT=theirs)
    config = json.loads(outfit.variables["OPENCODE_CONFIG_CONTENT"])
    assert config["theme"] == "dark"
    assert config["enabled_providers"] == ["openai", "google"]
    assert config["provider"]["google"]["options"] == {
        "baseURL": f"{URL}/gemini/v1beta",
        "apiKey": "{env:LLAMAKEY_API_KEY}",
    }
    assert "anthropic" not in config["provider"]
    assert KEY not in outfit.variables["OPENCODE_CONFIG_CONTENT"]


def test_claude_code_has_one_credential(tmp_path: Path) -> None:
    assert _variables("claude-code")["ANTHROPIC_AUTH_TOKEN"] == KEY
    unset = _outfit("claude-code", tmp_path).variables
    assert unset["ANTHROPIC_API_KEY"] == unset["CLAUDE_CODE_USE_BEDROCK"] == ""


def test_aider_has_litellms_names() -> None:
    variables = _variables("aider")
    assert variables["OPENAI_API_BASE"] == f"{URL}/openai/v1"
    assert variables["ANTHROPIC_BASE_URL"] == f"{URL}/anthropic"
    assert variables["GEMINI_API_BASE"] == f"{URL}/gemini/v1beta"
    assert variables["OPENROUTER_API_BASE"] == f"{URL}/openrouter/api/v1"
    assert "OPENAI_BASE_URL" not in variables


# LiteLLM's names and suffixes, as it was seen to call.
@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("OPENAI_API_BASE", "openai/v1"),
        ("ANTHROPIC_BASE_URL", "anthropic"),
        ("GEMINI_API_BASE", "gemini/v1beta"),
        ("COHERE_API_BASE", "cohere/v2/chat"),
        ("GROQ_API_BASE", "groq/openai/v1"),
        ("MISTRAL_AZURE_API_BASE", "mistral/v1"),
        ("OPENROUTER_API_BASE", "openrouter/api/v1"),
        ("TOGETHER_AI_API_BASE", "together/v1"),
        ("FIREWORKS_API_BASE", "fireworks/inference/v1"),
        ("XAI_API_BASE", "xai/v1"),
        ("PERPLEXITY_API_BASE", "perplexity"),
        ("NVIDIA_NIM_API_BASE", "nvidia/v1"),
        ("CEREBRAS_API_BASE", "cerebras/v1"),
        ("AZURE_API_BASE", "azure"),
    ],
)
def test_litellm(variable: str, place: str) -> None:
    assert _variables("litellm")[variable] == f"{URL}/{place}"


def test_langchain_is_one_name_for_all_its_packages() -> None:
    variables = _variables("langchain")
    assert variables["OPENAI_BASE_URL"] == f"{URL}/openai/v1"
    assert variables["ANTHROPIC_BASE_URL"] == f"{URL}/anthropic"
    assert variables["GOOGLE_GEMINI_BASE_URL"] == f"{URL}/gemini"
    assert variables["MISTRAL_BASE_URL"] == f"{URL}/mistral/v1"
    assert variables["GROQ_BASE_URL"] == f"{URL}/groq"


def test_llama_index() -> None:
    assert _variables("llama-index") == {
        "OPENAI_API_BASE": f"{URL}/openai/v1",
        "OPENAI_API_KEY": KEY,
    }


@pytest.mark.parametrize(
    ("word", "id"),
    [
        ("claude", "claude-code"),
        ("/opt/bin/codex", "codex"),
        ("gemini.cmd", "gemini-cli"),
        ("claude-3.5", ""),
        ("python", ""),
    ],
)
def test_a_command_tells_its_agent(word: str, id: str) -> None:
    agent = agents.of_command(word)
    assert (agent.id if agent else "") == id


def test_what_an_agent_names_is_there() -> None:
    entries = {provider.id: provider.entry for provider in PROVIDERS}
    tools = {t for entry in entries.values() for client in entry.clients for t in client.tools}
    for agent in agents.load().values():
        assert set(agent.needs) <= entries.keys()
        assert set(agent.tools) <= tools
        assert agent.id not in entries, "a provider's own name stands for its SDKs"
        for document in (*agent.files.values(), *agent.documents.values()):
            assert document.each.keys() <= entries.keys()


def test_files_of_two_proxies_are_apart(tmp_path: Path) -> None:
    codex = agents.load()["codex"]
    places = {
        agents.folder(tmp_path, url, codex)
        for url in (URL, "http://localhost:8001", "https://llm.corp.example", "http://[::1]:8000")
    }
    assert len(places) == 4
    assert all(place.is_relative_to(tmp_path / "clients") for place in places)
    assert all(":" not in str(place) for place in places)
