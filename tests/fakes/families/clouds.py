"""Google Vertex AI and AWS Bedrock.

Vertex: https://cloud.google.com/vertex-ai/docs/reference/rest (Gemini's shapes below
`/v1/projects/…/locations/…/publishers/google/models/…`, without a project in express mode) and
https://docs.claude.com/en/api/claude-on-vertex-ai (`:rawPredict`, `:streamRawPredict`, with
`anthropic_version` in the body and no `model`). A Bearer token, or an express-mode key.

Bedrock: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html,
…_ConverseStream.html (events messageStart, contentBlockDelta, contentBlockStop, messageStop,
metadata), …_InvokeModel.html, …_InvokeModelWithResponseStream.html (events `chunk` with base64),
https://docs.claude.com/en/api/claude-on-amazon-bedrock, and API_ListFoundationModels.html.
"""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs

from tests.fakes import aws, google, tokens
from tests.fakes.families import anthropic, gemini
from tests.fakes.families.base import TOKEN, Family, Way
from tests.fakes.families.openai import TEXT, VECTOR, WORDS
from tests.fakes.wire import Reply, Request, Routes, json_reply

# --- Vertex ---------------------------------------------------------------------------------------

vertex = Routes()
_PROJECT = "/projects/{project}/locations/{location}"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/fake.1"
MODEL = "anthropic.claude-fake-20260101-v1:0"


def _claude(request: Request) -> Reply:
    """Anthropic's messages, as asked for on somebody else's platform."""
    body = request.json()
    if "model" in body or not body.get("anthropic_version"):
        return anthropic.error(400, "invalid_request_error", "anthropic_version: field required")
    body["model"] = request.params["model"]
    asked = Request(
        family="anthropic",
        connection=0,
        method="POST",
        target="/v1/messages",
        version="1.1",
        headers=((b"anthropic-version", b"2023-06-01"),),
        head=b"",
        body=json.dumps(body).encode(),
    )
    return anthropic.messages(asked)


def predict(request: Request) -> Reply:
    asked = request.json().get("instances", [])
    values = [{"embeddings": {"values": list(VECTOR), "statistics": {"token_count": 2}}}]
    return json_reply({"predictions": values * len(asked)})


for _version in ("/v1", "/v1beta1"):
    for _place in (_PROJECT, ""):
        _models = f"{_version}{_place}/publishers/google/models/{{model}}"
        vertex("POST", f"{_models}:generateContent")(gemini.generate)
        vertex("POST", f"{_models}:streamGenerateContent")(gemini.stream)
        vertex("POST", f"{_models}:countTokens")(gemini.count)
        vertex("POST", f"{_models}:predict")(predict)
    _claudes = f"{_version}{_PROJECT}/publishers/anthropic/models/{{model}}"
    vertex("POST", f"{_claudes}:rawPredict")(_claude)
    vertex("POST", f"{_claudes}:streamRawPredict")(_claude)


def vertex_refusal(_: Request) -> Reply:
    return gemini.error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")


# --- Google's server of tokens --------------------------------------------------------------------

oauth = Routes()


@oauth("POST", "/token")
def token(request: Request) -> Reply:
    fields = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    if fields.get("grant_type") != google.GRANT:
        return json_reply({"error": "unsupported_grant_type"}, 400)
    host = f"https://{request.header('host')}/token"
    if wrong := google.wrong_with(fields.get("assertion", ""), host):
        return json_reply({"error": "invalid_grant", "error_description": wrong}, 400)
    return json_reply(
        {"access_token": tokens.issue("vertex"), "expires_in": 3599, "token_type": "Bearer"}
    )


@oauth("POST", "/v1/token")
def exchange(request: Request) -> Reply:
    """Google's STS (https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token)."""
    fields = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    if fields.get("subject_token") != "token-of-the-cluster" or "audience" not in fields:
        return json_reply({"error": "invalid_grant"}, 400)
    return json_reply(
        {
            "access_token": tokens.issue("vertex"),
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "expires_in": 3599,
            "token_type": "Bearer",
        }
    )


# --- Bedrock --------------------------------------------------------------------------------------

bedrock, control = Routes(), Routes()
USAGE = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}
STREAM = ("content-type", "application/vnd.amazon.eventstream")
COUNTS = (("x-amzn-bedrock-input-token-count", "9"), ("x-amzn-bedrock-output-token-count", "4"))


def aws_error(status: int, word: str, message: str) -> Reply:
    return json_reply({"message": message}, status, ("x-amzn-errortype", word))


def aws_refusal(_: Request) -> Reply:
    message = "The security token included in the request is invalid."
    return aws_error(403, "UnrecognizedClientException", message)


def _named(request: Request) -> Reply | None:
    """A model's name is one segment of the path, encoded where it has slashes."""
    if request.params["model"] not in (MODEL, ARN):
        return aws_error(400, "ValidationException", "The provided model identifier is invalid.")
    return None


@bedrock("POST", "/model/{model}/converse")
def converse(request: Request) -> Reply:
    return _named(request) or json_reply(
        {
            "output": {"message": {"role": "assistant", "content": [{"text": TEXT}]}},
            "stopReason": "end_turn",
            "usage": USAGE,
            "metrics": {"latencyMs": 7},
        }
    )


@bedrock("POST", "/model/{model}/converse-stream")
def converse_stream(request: Request) -> Reply:
    wrong = _named(request)
    if wrong:
        return wrong
    events = [aws.event("messageStart", {"role": "assistant"})]
    for word in WORDS:
        delta = {"contentBlockIndex": 0, "delta": {"text": word}}
        events.append(aws.event("contentBlockDelta", delta))
    events += [
        aws.event("contentBlockStop", {"contentBlockIndex": 0}),
        aws.event("messageStop", {"stopReason": "end_turn"}),
        aws.event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 7}}),
    ]
    return Reply(headers=(STREAM,), chunks=tuple(events))


@bedrock("POST", "/model/{model}/invoke")
def invoke(request: Request) -> Reply:
    wrong = _named(request)
    if wrong:
        return wrong
    whole = _claude(request)
    return Reply(whole.status, (*whole.headers, *COUNTS), whole.body)


@bedrock("POST", "/model/{model}/invoke-with-response-stream")
def invoke_stream(request: Request) -> Reply:
    wrong = _named(request)
    if wrong:
        return wrong
    request.body = json.dumps({**request.json(), "stream": True}).encode()
    found = []
    for chunk in _claude(request).chunks or ():
        said = json.loads(chunk.partition(b"data: ")[2])
        if said["type"] == "message_stop":
            said["amazon-bedrock-invocationMetrics"] = {
                "inputTokenCount": 9,
                "outputTokenCount": 4,
            }
        raw = base64.b64encode(json.dumps(said).encode()).decode()
        found.append(aws.event("chunk", {"bytes": raw}))
    return Reply(headers=(STREAM,), chunks=tuple(found))


@control("GET", "/foundation-models")
def foundation_models(_: Request) -> Reply:
    model = {"modelId": MODEL, "modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL}"}
    return json_reply({"modelSummaries": [model]})


FAMILIES = (
    Family(
        id="vertex",
        docs="https://cloud.google.com/vertex-ai/docs/authentication",
        ways=(TOKEN, Way("x-goog-api-key")),
        key="AIzaVertex{random}",
        refusal=vertex_refusal,
        routes=vertex,
        unknown=gemini.unknown,
    ),
    Family(
        id="google-oauth",
        docs="https://developers.google.com/identity/protocols/oauth2/service-account",
        ways=(),
        key="{random}",
        refusal=lambda _: json_reply({"error": "invalid_request"}, 400),
        routes=oauth,
        proof=lambda request: "real" if request.body else "missing",
    ),
    *(
        Family(
            id=id,
            docs="https://docs.aws.amazon.com/general/latest/gr/signing-aws-api-requests.html",
            ways=(),
            key="aws/{random}",
            refusal=aws_refusal,
            routes=routes,
            proof=aws.credential_of,
        )
        for id, routes in (("bedrock", bedrock), ("bedrock-control", control))
    ),
)
