"""Those who speak OpenAI's language, each at the path and with the errors of its own documentation.

Azure OpenAI (https://learn.microsoft.com/azure/ai-services/openai/reference): `api-key` or an Entra
token as Bearer; `/openai/deployments/{deployment}/…?api-version=`, `/openai/v1/…`; errors
`{"error": {"code", "message"}}`.
Anyscale (https://docs.endpoints.anyscale.com, withdrawn in 2024): `/v1`.
Mistral (https://docs.mistral.ai/api): `/v1`; embeddings carry an id; `{"message", "request_id"}`.
Groq (https://console.groq.com/docs/api-reference): `/openai/v1`.
DeepSeek (https://api-docs.deepseek.com): `/`, `/v1`, `/beta`; `/anthropic` in Anthropic's language
with `x-api-key`.
Together (https://docs.together.ai/reference): `/v1`, models as a bare list.
Fireworks (https://docs.fireworks.ai/api-reference): `/inference/v1`, `/v1/accounts`.
OpenRouter (https://openrouter.ai/docs/api-reference): `/api/v1`.
xAI (https://docs.x.ai/docs/api-reference): `/v1`.
Perplexity (https://docs.perplexity.ai/api-reference): `/chat/completions` at the root.
Cerebras (https://inference-docs.cerebras.ai/api-reference): `/v1`.
NVIDIA (https://docs.api.nvidia.com/nim/reference): `/v1` of integrate.api.nvidia.com.
AI21 (https://docs.ai21.com/reference): `/studio/v1`; `{"detail"}`.
Writer (https://dev.writer.com/api-reference): `/v1/chat`; `{"tpe", "errors"}`.
Jina (https://api.jina.ai/docs), Voyage (https://docs.voyageai.com/reference): `/v1/embeddings`,
`/v1/rerank`; `{"detail"}`.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.families import anthropic, openai
from tests.fakes.families.base import BEARER, TOKEN, Family, Way
from tests.fakes.wire import Reply, Request, Routes, json_reply


def _azure() -> Routes:
    routes = openai.compatible("/openai/deployments/{deployment}")
    routes.include(openai.compatible("/openai/v1"))
    routes.include(openai.compatible("/openai"))
    return routes


def _azure_refusal(_: Request) -> Reply:
    message = "Access denied due to invalid subscription key or wrong API endpoint."
    return json_reply({"error": {"code": "401", "message": message}}, 401)


def _deepseek() -> Routes:
    routes = Routes()
    for base in ("/v1", "/beta", ""):
        routes.include(openai.compatible(base))
    routes.include(anthropic.routes, "/anthropic")
    return routes


def _mistral() -> Routes:
    routes = Routes()

    @routes("GET", "/v1/models")
    def models(_: Request) -> Reply:
        kind = {"object": "model", "type": "base", "capabilities": {"completion_chat": True}}
        return json_reply({"object": "list", "data": [{"id": f"fake-{i}", **kind} for i in (1, 2)]})

    @routes("POST", "/v1/files")
    def upload(request: Request) -> Reply:
        parts = request.form()
        if "file" not in parts:
            return json_reply({"detail": [{"loc": ["body", "file"], "msg": "Field required"}]}, 422)
        made = openai.file_object(1, parts["file"].filename or "", len(parts["file"].content))
        more = {"sample_type": "batch_request", "source": "upload", "visibility": "workspace"}
        return json_reply({**made, **more})

    routes.include(openai.compatible())
    return routes


def _together() -> Routes:
    routes = Routes()

    @routes("GET", "/v1/models")
    def models(_: Request) -> Reply:
        found = [
            {"id": f"fake-{i}", "object": "model", "created": 1, "type": "chat"} for i in (1, 2)
        ]
        return json_reply(found)

    @routes("POST", "/v1/rerank")
    def rerank(request: Request) -> Reply:
        return _ranked(request, "results")

    routes.include(openai.compatible("/v1"))
    return routes


def _fireworks() -> Routes:
    routes = openai.compatible("/inference/v1")

    @routes("GET", "/v1/accounts")
    def accounts(_: Request) -> Reply:
        account = {"name": "accounts/fake", "email": "fake@example.com"}
        return json_reply({"accounts": [account], "nextPageToken": "", "totalSize": 1})

    return routes


def _writer() -> Routes:
    routes = Routes()
    routes("POST", "/v1/chat")(openai.chat)

    @routes("GET", "/v1/models")
    def models(_: Request) -> Reply:
        return json_reply({"models": [{"id": "palmyra-fake", "name": "Palmyra Fake"}]})

    @routes("POST", "/v1/files")
    def upload(request: Request) -> Reply:
        created = "2026-01-01T00:00:00Z"
        name = f"{request.body_length} bytes"
        return json_reply(
            {
                "id": "file-1",
                "created_at": created,
                "graph_ids": [],
                "name": name,
                "status": "ready",
            }
        )

    return routes


def _lists(routes: Routes, path: str, content: object) -> Routes:
    """The routes, with a list (or a record) of the account's at `path`."""

    @routes("GET", path)
    def listed(_: Request) -> Reply:
        return json_reply(content)

    return routes


def _ranked(request: Request, field: str) -> Reply:
    count = len(request.json().get("documents", []))
    results = [{"index": i, "relevance_score": 1.0 - i / 4} for i in reversed(range(count))]
    return json_reply(
        {
            "object": "list",
            field: results,
            "model": request.json().get("model"),
            "usage": openai.USAGE,
        }
    )


def _embedder(field: str) -> Routes:
    routes = Routes()
    routes("POST", "/v1/embeddings")(openai.embeddings)

    @routes("POST", "/v1/rerank")
    def rerank(request: Request) -> Reply:
        return _ranked(request, field)

    return routes


def _perplexity() -> Routes:
    routes = Routes()
    routes("POST", "/chat/completions", "/v1/chat/completions")(openai.chat)
    return routes


def _cerebras() -> Routes:
    routes = openai.compatible("/v1")

    @routes("GET", "/v1/tcp_warming")
    def warming(_: Request) -> Reply:
        return json_reply({})

    return routes


def _says(status: int, body: object) -> Callable[[Request], Reply]:
    return lambda _: json_reply(body, status)


def _family(
    id: str,
    docs: str,
    key: str,
    routes: Routes,
    refusal: Callable[[Request], Reply] = openai.refusal,
    ways: tuple[Way, ...] = (BEARER,),
) -> Family:
    return Family(id, docs, ways, key, refusal, routes, openai.unknown)


FAMILIES = (
    _family(
        "azure",
        "https://learn.microsoft.com/azure/ai-services/openai/reference#authentication",
        "{random}",
        _azure(),
        _azure_refusal,
        (Way("api-key"), BEARER, TOKEN),
    ),
    _family(
        "anyscale",
        "https://docs.endpoints.anyscale.com",
        "esecret_{random}",
        openai.compatible(),
    ),
    _family(
        "mistral",
        "https://docs.mistral.ai/api",
        "{random}",
        _mistral(),
        _says(401, {"message": "Unauthorized", "request_id": "fake1"}),
    ),
    _family(
        "groq",
        "https://console.groq.com/docs/api-reference",
        "gsk_{random}",
        openai.compatible("/openai/v1"),
    ),
    _family(
        "deepseek",
        "https://api-docs.deepseek.com/api/deepseek-api",
        "sk-{random}",
        _deepseek(),
        ways=(BEARER, Way("x-api-key")),
    ),
    _family(
        "together",
        "https://docs.together.ai/reference/authentication-1",
        "tgp_v1_{random}",
        _together(),
    ),
    _family(
        "fireworks",
        "https://docs.fireworks.ai/api-reference/introduction#authentication",
        "fw_{random}",
        _fireworks(),
        _says(
            401, {"error": {"object": "error", "message": "Unauthorized", "code": "UNAUTHORIZED"}}
        ),
    ),
    _family(
        "openrouter",
        "https://openrouter.ai/docs/api-reference/authentication",
        "sk-or-v1-{random}",
        _lists(openai.compatible("/api/v1"), "/api/v1/key", {"data": {"label": "fake"}}),
        _says(401, {"error": {"message": "No auth credentials found", "code": 401}}),
    ),
    _family(
        "xai",
        "https://docs.x.ai/docs/api-reference#authentication",
        "xai-{random}",
        openai.compatible(),
        _says(400, {"code": "Client specified an invalid argument", "error": "Incorrect API key."}),
    ),
    _family(
        "perplexity",
        "https://docs.perplexity.ai/api-reference/chat-completions-post",
        "pplx-{random}",
        _lists(_perplexity(), "/v1/async/sonar", {"requests": []}),
    ),
    _family(
        "cerebras",
        "https://inference-docs.cerebras.ai/api-reference/chat-completions",
        "csk-{random}",
        _cerebras(),
        _says(
            401,
            {
                "message": "Wrong API Key",
                "type": "invalid_request_error",
                "param": "api_key",
                "code": "wrong_api_key",
            },
        ),
    ),
    _family(
        "nvidia",
        "https://docs.api.nvidia.com/nim/reference/llm-apis",
        "nvapi-{random}",
        openai.compatible(),
        _says(401, {"status": 401, "title": "Unauthorized", "detail": "Authentication failed"}),
    ),
    _family(
        "ai21",
        "https://docs.ai21.com/reference/authentication",
        "{random}",
        _lists(openai.compatible("/studio/v1"), "/studio/v1/library/files", []),
        _says(401, {"detail": "Forbidden: Bad or missing API token."}),
    ),
    _family(
        "writer",
        "https://dev.writer.com/api-reference/authentication",
        "{random}",
        _writer(),
        _says(401, {"tpe": "unauthorized", "errors": [{"description": "Invalid API key"}]}),
    ),
    _family(
        "jina",
        "https://api.jina.ai/docs",
        "jina_{random}",
        _lists(_embedder("results"), "/v1/classifiers", []),
        _says(401, {"detail": "Invalid API key"}),
    ),
    _family(
        "voyage",
        "https://docs.voyageai.com/reference/embeddings-api",
        "pa-{random}",
        _lists(_embedder("data"), "/v1/files", {"object": "list", "data": [], "has_more": False}),
        _says(401, {"detail": "Provided API key is invalid."}),
    ),
)
