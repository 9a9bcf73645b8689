"""Hugging Face: the router of Inference Providers, and dedicated Inference Endpoints.

Shapes from https://huggingface.co/docs/inference-providers (chat-completion: OpenAI-compatible at
/v1 of router.huggingface.co; hf-inference tasks at /hf-inference/models/{id}: text-generation
`[{"generated_text"}]`, feature-extraction) and https://huggingface.co/docs/inference-endpoints
(tasks by POST to the endpoint's own URL; TGI's messages API at /v1/chat/completions, its streamed
text generation as data-only events with `token`, `generated_text`, `details`). Bearer with an
`hf_…` token; errors (`{"error": …}`).
"""

from __future__ import annotations

from tests.fakes.families import openai
from tests.fakes.families.base import BEARER, Family
from tests.fakes.families.openai import TEXT, VECTOR, WORDS
from tests.fakes.wire import Reply, Request, Routes, json_reply, sse_data, sse_reply

router = openai.compatible()
router.include(openai.compatible("/together/v1"))
endpoint = openai.compatible()


def refusal(_: Request) -> Reply:
    return json_reply({"error": "Invalid credentials in Authorization header"}, 401)


def unknown(_: Request) -> Reply:
    return json_reply({"error": "Not Found"}, 404)


@endpoint("POST", "/", "/generate", "/generate_stream")
def task(request: Request) -> Reply:
    """Text generation, as TGI answers it."""
    body = request.json()
    if "inputs" not in body:
        return json_reply({"error": "inputs is required"}, 422)
    if body.get("stream"):
        return sse_reply(*_tokens())
    return json_reply([{"generated_text": TEXT}])


def _tokens() -> list[bytes]:
    events = []
    for number, word in enumerate(WORDS):
        last = number == len(WORDS) - 1
        token = {"id": number, "text": word, "logprob": -0.5, "special": False}
        details = {"finish_reason": "eos_token", "generated_tokens": len(WORDS), "seed": None}
        events.append(
            sse_data(
                {
                    "index": number,
                    "token": token,
                    "generated_text": TEXT if last else None,
                    "details": details if last else None,
                }
            )
        )
    return events


@router("POST", "/hf-inference/models/{model...}")
def hosted(request: Request) -> Reply:
    if request.params["model"].endswith("/pipeline/feature-extraction"):
        return json_reply([list(VECTOR)])
    return task(request)


management = Routes()


def _endpoint(name: str, state: str) -> dict[str, object]:
    """https://api.endpoints.huggingface.cloud/ (GET /v2/endpoint/{namespace})"""
    made = "2026-01-01T00:00:00.000Z"
    return {
        "name": name,
        "type": "protected",
        "accountId": None,
        "healthRoute": "/health",
        "provider": {"vendor": "aws", "region": "us-east-1"},
        "model": {
            "repository": f"team/{name}",
            "framework": "pytorch",
            "revision": "main",
            "task": "text-generation",
        },
        "status": {
            "state": state,
            "createdAt": made,
            "updatedAt": made,
            "url": f"https://{name}.us-east-1.aws.endpoints.huggingface.cloud",
        },
    }


@management("GET", "/v2/endpoint/{namespace}")
def listed(_: Request) -> Reply:
    return json_reply({"items": [_endpoint("llama", "running"), _endpoint("bge", "paused")]})


@management("POST", "/v2/endpoint/{namespace}/{name}/pause")
def paused(request: Request) -> Reply:
    return json_reply(_endpoint(request.params["name"], "paused"))


hub = Routes()


@hub("GET", "/api/models/{owner}/{name}")
def model_info(request: Request) -> Reply:
    """https://huggingface.co/docs/hub/api and /docs/inference-providers/hub-api: with
    `expand=inferenceProviderMapping`, which providers serve a model."""
    id = "/".join(request.params[name] for name in ("owner", "name"))
    task = "feature-extraction" if id.startswith("embeddings/") else "conversational"
    mapping = {"status": "live", "providerId": f"at-together/{id}", "task": task}
    return json_reply(
        {
            "_id": "65f0",
            "id": id,
            "modelId": id,
            "pipeline_tag": "text-generation",
            "tags": ["conversational"],
            "inferenceProviderMapping": {"together": mapping},
        }
    )


@hub("GET", "/api/whoami-v2")
def whoami(_: Request) -> Reply:
    return json_reply({"type": "user", "id": "65f0", "name": "fake"})


def _family(id: str, docs: str, routes: Routes) -> Family:
    return Family(
        id=id,
        docs=docs,
        ways=(BEARER,),
        key="hf_{random}",
        refusal=refusal,
        routes=routes,
        unknown=unknown,
    )


FAMILIES = (
    _family("huggingface", "https://huggingface.co/docs/inference-providers/index", router),
    _family("huggingface-hub", "https://huggingface.co/docs/hub/api", hub),
    _family("hfendpoint", "https://huggingface.co/docs/inference-endpoints/index", endpoint),
    _family("hfendpoints", "https://api.endpoints.huggingface.cloud/", management),
)
