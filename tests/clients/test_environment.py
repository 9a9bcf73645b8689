"""Which variables a client sets, and what it is told to write."""

from __future__ import annotations

import pytest

from llamakey_addon import catalogue
from llamakey_addon.clients import Line, UnknownClient, VariableTaken, environment
from tests.catalogue.providers import every, provider

PROVIDERS = list(every().values())
URL = "http://localhost:8000"
KEY = "sk-lmk-abcdefghij-secret"


def _variables(*only: str, url: str = URL) -> dict[str, str]:
    lines = environment(PROVIDERS, url, KEY, only)
    names = [line.variable for line in lines if line.variable]
    assert len(names) == len(set(names))
    return {line.variable: line.value for line in lines if line.variable}


def _told(*only: str) -> str:
    lines = environment(PROVIDERS, URL, KEY, only)
    return "\n".join(line.comment for line in lines if not line.variable)


# What the SDKs were seen to need, run against fakes.
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPENAI_BASE_URL", f"{URL}/openai/v1"),
        ("OPENAI_API_BASE", f"{URL}/openai/v1"),
        ("OPENAI_API_KEY", KEY),
        ("ANTHROPIC_BASE_URL", f"{URL}/anthropic"),
        ("ANTHROPIC_API_KEY", KEY),
        ("CO_API_URL", f"{URL}/cohere"),
        ("CO_API_KEY", KEY),
        ("GOOGLE_GEMINI_BASE_URL", f"{URL}/gemini"),
        ("GEMINI_API_KEY", KEY),
        ("GOOGLE_API_KEY", KEY),
        ("AZURE_OPENAI_ENDPOINT", f"{URL}/azure"),
        ("AZURE_OPENAI_API_KEY", KEY),
        ("GROQ_BASE_URL", f"{URL}/groq"),
        ("TOGETHER_BASE_URL", f"{URL}/together"),
        ("FIREWORKS_BASE_URL", f"{URL}/fireworks"),
        ("FIREWORKS_API_BASE", f"{URL}/fireworks/inference/v1"),
        ("PERPLEXITY_BASE_URL", f"{URL}/perplexity"),
        ("REPLICATE_BASE_URL", f"{URL}/replicate"),
        ("REPLICATE_API_TOKEN", KEY),
        ("CEREBRAS_BASE_URL", f"{URL}/cerebras"),
        ("AI21_API_HOST", f"{URL}/ai21/studio/v1"),
        ("OLLAMA_HOST", f"{URL}/ollama"),
        ("WRITER_BASE_URL", f"{URL}/writer"),
        ("ASSEMBLYAI_BASE_URL", f"{URL}/assemblyai"),
        ("ASSEMBLYAI_SYNC_BASE_URL", f"{URL}/assemblyai-sync"),
        ("ASSEMBLYAI_DICTATION_BASE_URL", f"{URL}/assemblyai-dictation"),
        ("ASSEMBLYAI_LLM_GATEWAY_BASE_URL", f"{URL}/assemblyai-llm"),
        ("ASSEMBLYAI_TTS_BASE_URL", f"{URL}/assemblyai-tts"),
        ("MISTRAL_BASE_URL", f"{URL}/mistral/v1"),
        ("MISTRAL_API_KEY", KEY),
        ("HF_TOKEN", f"hf_{KEY}"),
        ("VECTARA_API_KEY", KEY),
        ("ELEVENLABS_API_KEY", KEY),
        ("DEEPGRAM_API_KEY", KEY),
        ("VOYAGE_API_KEY", KEY),
        ("OPENROUTER_API_KEY", KEY),
        ("XAI_API_BASE", f"{URL}/xai/v1"),
        ("NVIDIA_BASE_URL", f"{URL}/nvidia/v1"),
    ],
)
def test_default_variables(variable: str, value: str) -> None:
    assert _variables()[variable] == value


def test_the_url_may_end_in_a_slash() -> None:
    assert _variables("openai", url=f"{URL}/")["OPENAI_BASE_URL"] == f"{URL}/openai/v1"


@pytest.mark.parametrize(
    "write",
    [
        f'Mistral(api_key=os.environ["MISTRAL_API_KEY"], server_url="{URL}/mistral")',
        f'InferenceClient(base_url="{URL}/huggingface/v1")',
        f'Vectara(environment=VectaraEnvironment(default="{URL}/vectara", auth="{URL}/vectara"))',
        f'ElevenLabs(base_url="{URL}/elevenlabs")',
        f'agent_rest="{URL}/deepgram-agent"',
        f'voyageai.Client(base_url="{URL}/voyage/v1")',
        f'new CohereClientV2({{ environment: "{URL}/cohere" }})',
    ],
)
def test_sdks_without_a_variable_are_told_what_to_write(write: str) -> None:
    assert write in _told()
    assert KEY not in _told()


def test_each_sdk_is_told_its_door_and_why() -> None:
    told = _told()
    assert (
        "Mistral, mistralai (python): second door (lmk run), since its base URL is an argument, "
        "and no variable sets it, or write Mistral("
    ) in told
    assert "xAI, xai-sdk (python): no door. It speaks gRPC over HTTP/2" in told
    for entry in catalogue.load().entries.values():
        for client in entry.clients:
            # what no variable redirects needs another door
            redirected = any("{proxy}" in v or "{authority}" in v for v in client.env.values())
            assert redirected or client.door != "front" or client.note or client.code, client.sdk


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (
            ("anyscale",),
            {"OPENAI_BASE_URL": f"{URL}/anyscale/v1", "OPENAI_API_KEY": KEY},
        ),
        (("deepseek",), {"OPENAI_BASE_URL": f"{URL}/deepseek", "OPENAI_API_KEY": KEY}),
        (("xai",), {"OPENAI_BASE_URL": f"{URL}/xai/v1"}),
        (("hfendpoint",), {"OPENAI_BASE_URL": f"{URL}/hfendpoint/v1", "HF_TOKEN": f"hf_{KEY}"}),
        (
            ("claude-code",),
            {"ANTHROPIC_BASE_URL": f"{URL}/anthropic", "ANTHROPIC_AUTH_TOKEN": KEY},
        ),
        (("groq-openai",), {"OPENAI_BASE_URL": f"{URL}/groq/openai/v1"}),
        (
            ("litellm",),
            {"GEMINI_API_BASE": f"{URL}/gemini/v1beta", "OPENAI_API_BASE": f"{URL}/openai/v1"},
        ),
        (("openai", "anthropic"), {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}),
    ],
)
def test_only(only: tuple[str, ...], expected: dict[str, str]) -> None:
    assert expected.items() <= _variables(*only).items()


def test_only_sets_nothing_else() -> None:
    assert set(_variables("openai")) == {"OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY"}
    assert "OPENAI_BASE_URL" not in _variables("groq")


def test_two_providers_of_one_variable_are_refused_by_name() -> None:
    with pytest.raises(VariableTaken, match="anyscale and openai both set OPENAI_BASE_URL"):
        _variables("anyscale", "openai")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownClient, match=r"'antropic'\. Did you mean anthropic\?"):
        _variables("openai", "antropic")
    with pytest.raises(UnknownClient, match=r"`lmk env --for list` lists"):
        _variables("zzz")


def test_providers_that_are_not_ready() -> None:
    entries = catalogue.load().entries
    ready, other = provider(entries["groq"]), provider(entries["cohere"], "set CO_API_KEY")
    lines = environment([ready, other], URL, KEY)
    assert {line.variable for line in lines} == {"GROQ_BASE_URL", "GROQ_API_KEY"}
    lines = environment([ready, other], URL, KEY, ["cohere"])
    assert Line("", "", "Cohere is not ready: set CO_API_KEY") in lines
    assert {"CO_API_URL", "CO_API_KEY"} <= {line.variable for line in lines}
    lines = environment([ready, other], URL, KEY, ["litellm"])
    assert {line.variable for line in lines} == {"GROQ_API_BASE", "GROQ_API_KEY"}


def test_comments_name_the_readers() -> None:
    lines = {line.variable: line.comment for line in environment(PROVIDERS, URL, KEY)}
    assert lines["OPENAI_BASE_URL"] == "openai (python, node)"
    assert lines["CO_API_KEY"] == "cohere (python), cohere-ai (node)"
