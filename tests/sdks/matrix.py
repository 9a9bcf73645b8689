"""Which SDK is run how: its environment variables, its arguments, and what must come of it.

Variables and URLs are those that each SDK was seen to read. `{openai}` stands for the provider's
base (`PROXY/openai`, or the fake's own origin in a direct run), `{authority_openai}` for that less
its scheme, and `{key_openai}` for a key.
"""

from __future__ import annotations

import hashlib

from tests.fakes.families import anthropic, fal, gemini, openai
from tests.sdks.run import Environment, Raises, Run

TEXT = openai.TEXT
VECTOR = list(openai.VECTOR)
UPLOAD_BYTES = len(b"line one\r\n\x00\xff line two" * 200)
"""Of `programs/surfaces.py`."""
HEARD = f"{TEXT} ({UPLOAD_BYTES} bytes)"
SPEECH = hashlib.sha256(openai.SPEECH).hexdigest()
FILE = hashlib.sha256(openai.FILE).hexdigest()
FILES = [f"file-{number}" for number in range(1, 6)]
MODELS = ["fake-1", "fake-2"]


AUTHENTICATION = Raises("AuthenticationError")
PERMISSION = Raises("PermissionDeniedError")
RATE = Raises("RateLimitError")


def like_openai(*, limited: bool = True, **more: object) -> dict[str, object]:
    """What SDKs that were generated like openai's give."""
    found: dict[str, object] = {"plain": TEXT, "stream": TEXT, "denied": AUTHENTICATION}
    return {**found, **({"limited": PERMISSION} if limited else {}), **more}


def openai_like(
    package: str,
    provider: str,
    env: dict[str, str],
    expect: dict[str, object],
    direct: dict[str, str] | None = None,
) -> Run:
    """A run of `openai_like.py` with the surfaces that are expected."""
    return Run(
        id=package.partition(".")[0],
        program="openai_like.py",
        providers=(provider,),
        env=env,
        args=(package, ",".join(expect)),
        expect=expect,
        direct=direct or {},
    )


OPENAI = {"OPENAI_BASE_URL": "{openai}/v1", "OPENAI_API_KEY": "{key_openai}"}
ANTHROPIC = {"ANTHROPIC_BASE_URL": "{anthropic}", "ANTHROPIC_API_KEY": "{key_anthropic}"}
COHERE = {"CO_API_URL": "{cohere}", "CO_API_KEY": "{key_cohere}"}
GEMINI = {"GOOGLE_GEMINI_BASE_URL": "{gemini}", "GEMINI_API_KEY": "{key_gemini}"}
GROQ = {"GROQ_BASE_URL": "{groq}", "GROQ_API_KEY": "{key_groq}"}
PINECONE = {"PINECONE_CONTROLLER_HOST": "{pinecone}", "PINECONE_API_KEY": "{key_pinecone}"}
AZURE = {"AZURE_OPENAI_ENDPOINT": "{azure}", "AZURE_OPENAI_API_KEY": "{key_azure}"}

IDENTITY = {"OPENAI_ORG_ID": "org-of-the-client", "OPENAI_PROJECT_ID": "proj-of-the-client"}
"""Names of the client's own account; no provider may see them with the real key."""
BOTH: tuple[tuple[str, Environment], ...] = (("", "current"), ("-before", "old"))
"""Endings of a run's id, and the environments with an SDK's present and former major."""

OPENAI_GIVES: dict[str, object] = {
    "plain": TEXT,
    "stream": [TEXT, 13],
    "responses": TEXT,
    "responses_stream": [TEXT, "response.completed"],
    "embeddings": VECTOR,
    "upload": ["notes.jsonl", UPLOAD_BYTES],
    "transcription": HEARD,
    "download": FILE,
    "speech": SPEECH,
    "speech_stream": SPEECH,
    "pages": FILES,
    "models": MODELS,
    "denied": AUTHENTICATION,
    "denied_upload": AUTHENTICATION,
    "limited": PERMISSION,
    "rate_limited": RATE,
    "unknown": Raises("NotFoundError"),
}
ANTHROPIC_GIVES: dict[str, object] = {
    "plain": TEXT,
    "stream": [TEXT, 4],
    "raw_stream": "message_stop",
    "count": 9,
    "pages": list(anthropic.MODELS),
    "upload": ["notes.txt", UPLOAD_BYTES],
    "download": FILE,
    "denied": AUTHENTICATION,
    "limited": PERMISSION,
    "rate_limited": RATE,
    "unknown": Raises("NotFoundError"),
}
COHERE_GIVES: dict[str, object] = {
    "plain": TEXT,
    "stream": [TEXT, "message-end"],
    "v1_plain": TEXT,
    "v1_stream": TEXT,
    "embeddings": VECTOR,
    "rerank": [1, 0],
    "pages": [f"command-fake-{number}" for number in range(1, 5)],
    "upload": f"dataset-{UPLOAD_BYTES}",
    "denied": Raises("UnauthorizedError"),
    "limited": Raises("ForbiddenError"),
    "rate_limited": Raises("TooManyRequestsError"),
}

RUNS = (
    *(
        Run(
            f"openai{end}",
            "openai_python.py",
            ("openai",),
            OPENAI,
            OPENAI_GIVES,
            where,
            (),
            IDENTITY,
        )
        for end, where in BOTH
    ),
    Run("openai-async", "openai_async.py", ("openai",), OPENAI, {"stream": [TEXT]}),
    *(
        Run(
            f"anthropic{end}",
            "anthropic_python.py",
            ("anthropic",),
            ANTHROPIC,
            ANTHROPIC_GIVES,
            where,
        )
        for end, where in BOTH
    ),
    *(
        Run(f"cohere{end}", "cohere_python.py", ("cohere",), COHERE, COHERE_GIVES, where)
        for end, where in BOTH
    ),
    *(
        Run(
            f"google-genai{end}",
            "genai_python.py",
            ("gemini",),
            GEMINI,
            {
                "plain": TEXT,
                "stream": TEXT,
                "embeddings": VECTOR,
                "count": 9,
                "pages": list(gemini.NAMES),
                "upload": [True, UPLOAD_BYTES],
                "denied": Raises("ClientError"),
                "limited": [403, "PERMISSION_DENIED"],
                "rate_limited": [429, "RESOURCE_EXHAUSTED"],
            },
            where,
        )
        for end, where in BOTH
    ),
    *(
        Run(
            f"azure{end}",
            "azure_python.py",
            ("azure",),
            AZURE,
            {
                "plain": TEXT,
                "stream": TEXT,
                "embeddings": VECTOR,
                "speech": SPEECH,
                "denied": AUTHENTICATION,
                "limited": PERMISSION,
            },
            where,
            own={"OPENAI_API_VERSION": "2024-10-21"},
        )
        for end, where in BOTH
    ),
    openai_like(
        "groq.Groq",
        "groq",
        GROQ,
        like_openai(
            embeddings=VECTOR, upload=HEARD, speech=SPEECH, models=MODELS, rate_limited=RATE
        ),
    ),
    openai_like(
        "together.Together",
        "together",
        {"TOGETHER_BASE_URL": "{together}", "TOGETHER_API_KEY": "{key_together}"},
        like_openai(embeddings=VECTOR, upload=HEARD, rerank=[1, 0], rate_limited=RATE),
    ),
    openai_like(
        "cerebras.cloud.sdk.Cerebras",
        "cerebras",
        {"CEREBRAS_BASE_URL": "{cerebras}", "CEREBRAS_API_KEY": "{key_cerebras}"},
        like_openai(models=MODELS, rate_limited=RATE),
    ),
    openai_like(
        "perplexity.Perplexity",
        "perplexity",
        {"PERPLEXITY_BASE_URL": "{perplexity}", "PERPLEXITY_API_KEY": "{key_perplexity}"},
        like_openai(rate_limited=RATE),
    ),
    openai_like(
        "writerai.Writer",
        "writer",
        {"WRITER_BASE_URL": "{writer}", "WRITER_API_KEY": "{key_writer}"},
        like_openai(models=["palmyra-fake"]),
    ),
    openai_like(
        "fireworks.Fireworks",
        "fireworks",
        {"FIREWORKS_BASE_URL": "{fireworks}", "FIREWORKS_API_KEY": "{key_fireworks}"},
        like_openai(),
        {"FIREWORKS_BASE_URL": "{fireworks}/inference"},
    ),
    Run(
        "together-before",
        "together_old.py",
        ("together",),
        {"TOGETHER_BASE_URL": "{together}", "TOGETHER_API_KEY": "{key_together}"},
        {
            "plain": TEXT,
            "stream": TEXT,
            "embeddings": VECTOR,
            "denied": AUTHENTICATION,
            "limited": Raises("TogetherException"),
        },
        "old",
        direct={"TOGETHER_BASE_URL": "{together}/v1"},
    ),
    *(
        Run(
            f"mistralai{end}",
            "mistral_python.py",
            ("mistral",),
            {"MISTRAL_API_KEY": "{key_mistral}"},
            {
                "plain": TEXT,
                "stream": TEXT,
                "embeddings": VECTOR,
                "upload": ["notes.jsonl", UPLOAD_BYTES],
                "download": FILE,
                "models": MODELS,
                "denied": Raises("SDKError"),
                "limited": Raises("SDKError"),
            },
            where,
            args=("{mistral}",),
        )
        for end, where in BOTH
    ),
    *(
        Run(
            f"huggingface-hub{end}",
            "huggingface_python.py",
            ("huggingface", "hfendpoint"),
            {"HF_TOKEN": "{key_huggingface}"},
            {
                "plain": TEXT,
                "stream": TEXT,
                "endpoint_plain": TEXT,
                "endpoint_stream": TEXT,
                "endpoint_chat": TEXT,
                "denied": Raises("HfHubHTTPError", speaks=False),
                "limited": Raises("HfHubHTTPError", speaks=False),
            },
            where,
            args=("{huggingface}/v1", "{hfendpoint}"),
        )
        for end, where in BOTH
    ),
    Run(
        "vectara",
        "vectara_python.py",
        ("vectara",),
        {"VECTARA_API_KEY": "{key_vectara}"},
        {
            "plain": TEXT,
            "stream": TEXT,
            "pages": [f"corpus-{number}" for number in range(1, 5)],
            "upload": ["a.txt", UPLOAD_BYTES],
            "denied": Raises("ApiError"),
            "limited": Raises("ForbiddenError"),
        },
        args=("{vectara}",),
    ),
    Run(
        "replicate",
        "replicate_python.py",
        ("replicate",),
        {"REPLICATE_BASE_URL": "{replicate}", "REPLICATE_API_TOKEN": "{key_replicate}"},
        {
            "plain": TEXT,
            "prediction": ["fake1prediction", "succeeded"],
            "pages": ["fake1prediction", "fake1prediction"],
            "more_pages": [2, 2],
            "stream": TEXT,
            "upload": UPLOAD_BYTES,
            "denied": Raises("ReplicateError"),
            "limited": Raises("ReplicateError"),
        },
    ),
    Run(
        "fal",
        "fal_python.py",
        ("fal",),
        {
            "FAL_RUN_HOST": "{authority_fal}",
            "FAL_QUEUE_RUN_HOST": "{authority_fal}/queue.fal.run",
            "FAL_KEY": "{key_fal}",
        },
        {
            "plain": fal.IMAGE,
            "stream": TEXT,
            "subscribe": TEXT,
            "queue": [["Completed"], TEXT],
            "denied": Raises("FalClientHTTPError"),
            "limited": Raises("FalClientHTTPError"),
        },
    ),
    Run(
        "pinecone",
        "pinecone_python.py",
        ("pinecone",),
        PINECONE,
        {
            "pages": ["docs-example"],
            "embeddings": VECTOR,
            "index": [2, "a", 7],
            "denied": Raises("UnauthorizedError"),
            "limited": Raises("ForbiddenError"),
        },
    ),
    Run(
        "pinecone-node",
        "pinecone_node.cjs",
        ("pinecone",),
        PINECONE,
        {
            "pages": ["docs-example"],
            "index": ["a", 7],
            "denied": Raises("PineconeAuthorizationError", speaks=False),
        },
        "node",
    ),
    Run(
        "elevenlabs",
        "elevenlabs_python.py",
        ("elevenlabs",),
        {"ELEVENLABS_API_KEY": "{key_elevenlabs}"},
        {
            "download": SPEECH,
            "stream": SPEECH,
            "plain": ["voice-1", "voice-2"],
            "pages": [f"voice-{number}" for number in range(1, 5)],
            "upload": HEARD,
            "denied": Raises("ApiError"),
            "limited": Raises("ApiError"),
        },
        args=("{elevenlabs}",),
    ),
    Run(
        "langchain-openai",
        "langchain_openai_python.py",
        ("openai",),
        OPENAI,
        {
            "plain": TEXT,
            "stream": TEXT,
            "embeddings": VECTOR,
            "denied": AUTHENTICATION,
            "limited": PERMISSION,
        },
    ),
    Run(
        "deepgram-assemblyai",
        "speech_python.py",
        ("deepgram", "assemblyai"),
        {
            "DEEPGRAM_API_KEY": "{key_deepgram}",
            "ASSEMBLYAI_BASE_URL": "{assemblyai}",
            "ASSEMBLYAI_API_KEY": "{key_assemblyai}",
        },
        {
            "deepgram_upload": HEARD,
            "deepgram_download": SPEECH,
            "deepgram_denied": Raises("ApiError"),
            "deepgram_limited": Raises("ApiError"),
            "assemblyai_upload": "https://cdn.assemblyai.com/upload/fake1",
            "assemblyai_plain": TEXT,
            "assemblyai_pages": ["fake1"],
            "assemblyai_denied": Raises("AssemblyAIError"),
        },
        args=("{deepgram}",),
    ),
    Run(
        "ollama-voyageai-ai21-requests",
        "small_python.py",
        ("ollama", "voyage", "ai21", "jina", "stability"),
        {
            "OLLAMA_HOST": "{ollama}",
            "OLLAMA_API_KEY": "{key_ollama}",
            "VOYAGE_API_KEY": "{key_voyage}",
            "AI21_API_HOST": "{ai21}/studio/v1",
            "AI21_API_KEY": "{key_ai21}",
            "JINA_API_KEY": "{key_jina}",
            "STABILITY_API_KEY": "{key_stability}",
        },
        {
            "ollama_plain": TEXT,
            "ollama_stream": TEXT,
            "ollama_embeddings": VECTOR,
            "ollama_models": ["fake:latest"],
            "ollama_denied": 401,
            "voyage_embeddings": VECTOR,
            "voyage_denied": AUTHENTICATION,
            "ai21_plain": TEXT,
            "ai21_denied": Raises("Unauthorized"),
            "jina_embeddings": VECTOR,
            "stability_download": ["image/png", FILE],
            "stability_denied": 401,
            "stability_limited": 403,
        },
        args=("{voyage}/v1", "{jina}/v1", "{stability}"),
    ),
    *(
        Run(
            f"openai-realtime{end}",
            "realtime_python.py",
            ("openai",),
            OPENAI,
            {
                "realtime": [TEXT, SPEECH, 16],
                # of the `websockets` library: the SDK has no class of its own for a refusal
                "realtime_denied": Raises("InvalidStatus", speaks=False),
            },
            where,
        )
        for end, where in BOTH
    ),
    Run(
        "openai-responses-socket",
        "responses_socket_python.py",
        ("openai",),
        OPENAI,
        {
            "responses": [[TEXT, 13], [TEXT, 13]],
            "responses_async": TEXT,
            "responses_denied": Raises("InvalidStatus", speaks=False),
        },
    ),
    *(
        Run(
            f"azure-realtime{end}",
            "azure_realtime_python.py",
            ("azure",),
            AZURE,
            {"realtime": TEXT, "realtime_denied": Raises("InvalidStatus", speaks=False)},
            where,
            own={"OPENAI_API_VERSION": "2024-10-21"},
        )
        for end, where in BOTH
    ),
    *(
        Run(
            f"google-genai-live{end}",
            "live_python.py",
            ("gemini",),
            GEMINI,
            {"live": [TEXT, 13], "live_denied": Raises("InvalidStatus", speaks=False)},
            where,
        )
        for end, where in BOTH
    ),
    Run(
        "elevenlabs-deepgram-assemblyai-sockets",
        "speech_sockets_python.py",
        ("elevenlabs", "deepgram", "assemblyai-streaming"),
        {
            "ELEVENLABS_API_KEY": "{key_elevenlabs}",
            "DEEPGRAM_API_KEY": "{key_deepgram}",
            "ASSEMBLYAI_API_KEY": "{key_assemblyai-streaming}",
        },
        {
            "elevenlabs": SPEECH,
            "elevenlabs_denied": Raises("InvalidStatus", speaks=False),
            "deepgram": HEARD,
            "deepgram_denied": Raises("InvalidStatus", speaks=False),
            "assemblyai": [HEARD],
            "assemblyai_denied": Raises("RealTimeError", speaks=False),
        },
        args=("{elevenlabs}", "{deepgram}", "{assemblyai-streaming}"),
    ),
    Run(
        "openai-genai-sockets-node",
        "realtime_node.mjs",
        ("openai", "gemini"),
        {**OPENAI, **GEMINI},
        {
            "realtime": [TEXT, SPEECH, 16],
            "realtime_denied": Raises("OpenAIRealtimeError", speaks=False),
            "live": [TEXT, 13],
        },
        "node",
    ),
    Run(
        "openai-node",
        "openai_node.cjs",
        ("openai",),
        OPENAI,
        {
            "plain": TEXT,
            "stream": TEXT,
            "responses_stream": TEXT,
            "embeddings": VECTOR,
            "upload": ["notes.jsonl", UPLOAD_BYTES],
            "download": FILE,
            "speech": SPEECH,
            "pages": FILES,
            "denied": AUTHENTICATION,
            "denied_upload": AUTHENTICATION,
            "limited": PERMISSION,
            "rate_limited": RATE,
        },
        "node",
    ),
    Run(
        "anthropic-groq-genai-node",
        "others_node.cjs",
        ("anthropic", "groq", "gemini"),
        {**ANTHROPIC, **GROQ, **GEMINI},
        {
            "anthropic_plain": TEXT,
            "anthropic_stream": TEXT,
            "anthropic_pages": list(anthropic.MODELS),
            "anthropic_denied": AUTHENTICATION,
            "anthropic_limited": PERMISSION,
            "groq_plain": TEXT,
            "groq_stream": TEXT,
            "groq_denied": AUTHENTICATION,
            "genai_plain": TEXT,
            "genai_stream": TEXT,
            "genai_embeddings": VECTOR,
            "genai_pages": list(gemini.NAMES),
            "genai_upload": [True, UPLOAD_BYTES],
            "genai_limited": Raises("ApiError"),
        },
        "node",
    ),
)
