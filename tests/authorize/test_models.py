"""Where requests name their models, by provider, and what is refused where that is not certain."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest

from llamakey_addon import catalogue, route
from llamakey_addon.authorize import judge, wants_body
from llamakey_addon.errors import BadRequest, Denied, Forbidden
from llamakey_addon.journey import Ask, Body, Policy, Provider, Rule, User, Visit

ENTRIES = catalogue.load().entries
PROVIDERS = {
    entry.prefix: Provider(entry.id, entry.prefix, entry, None, None) for entry in ENTRIES.values()
}
KEYS = catalogue.load().query_keys

DENY = Policy(deny=(Rule(models=("bad*",), setting="deny"),))
ALLOW = Policy(allow=(Rule(models=("good*",)),), allow_setting="allow")
FORM = (b"Content-Type", b"multipart/form-data; boundary=b")


def visit(target: str, policy: Policy, method: str = "POST", headers=(), length=None) -> Visit:
    way = route.find(target, method, PROVIDERS, KEYS)
    ask = Ask("lmk_1", 0, "127.0.0.1", method, target, tuple(headers), length)
    return Visit(ask, way, User("alice", "abcdefghij", "laptop", policy), False)


def find_route(prefix: str):
    return lambda path, method: route.find(f"/{prefix}{path}", method, PROVIDERS, KEYS)


def send(target: str, policy: Policy, body, method: str = "POST", headers=()) -> str:
    """ "" where it passes, else the setting, or `unclear` for a BadRequest."""
    if not isinstance(body, bytes | None):
        body = json.dumps(body).encode()
    prefix = target.split("/")[1]
    try:
        judge(visit(target, policy, method, headers), Body(body), find_route=find_route(prefix))
    except Forbidden as denied:
        return denied.setting or "-"
    except BadRequest:
        return "unclear"
    return ""


def outcome(target: str, body_of, **more) -> tuple[str, str, str, str]:
    """What becomes of a good and of a bad model, with a whitelist and with a denial of models."""
    return (
        send(target("good") if callable(target) else target, ALLOW, body_of("good"), **more),
        send(target("bad") if callable(target) else target, ALLOW, body_of("bad"), **more),
        send(target("good") if callable(target) else target, DENY, body_of("good"), **more),
        send(target("bad") if callable(target) else target, DENY, body_of("bad"), **more),
    )


JUDGED = ("", "allow", "", "deny")


def form(model: str, *more: bytes) -> bytes:
    parts = [f'Content-Disposition: form-data; name="model"\r\n\r\n{model}'.encode(), *more]
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/openai/v1/chat/completions", lambda m: {"model": m}),
        ("/openai/v1/responses", lambda m: {"model": "good", "tools": [{"model": m}]}),
        ("/openai/v1/assistants", lambda m: {"model": m}),
        ("/openai/v1/threads/t/runs", lambda m: {"model": m}),
        ("/anthropic/v1/messages", lambda m: {"model": m}),
        ("/openrouter/api/v1/chat/completions", lambda m: {"model": "good", "models": ["good", m]}),
        ("/openrouter/api/v1/chat/completions", lambda m: {"models": [m]}),
        ("/mistral/v1/batch/jobs", lambda m: {"model": m}),
        ("/cohere/v1/embed-jobs", lambda m: {"model": m}),
        ("/openrouter/api/v1/batches", lambda m: {"model": m, "requests": []}),
        ("/openrouter/api/v1/batches", lambda m: {"requests": [{"body": {"model": m}}]}),
        ("/together/v1/fine-tunes", lambda m: {"model": m}),
        (
            "/mistral/v1/batch/jobs",
            lambda m: {"model": "good", "requests": [{"body": {"model": m}}]},
        ),
        ("/gemini/v1beta/models/good:generateContent", lambda m: {"model": f"models/{m}"}),
        ("/gemini/v1beta/models/good:batchEmbedContents", lambda m: {"requests": [{"model": m}]}),
        ("/gemini/v1beta/cachedContents", lambda m: {"model": f"models/{m}"}),
        ("/ollama/api/copy", lambda m: {"source": m, "destination": "good"}),
        ("/ollama/api/create", lambda m: {"model": "good", "from": m}),
        ("/replicate/v1/predictions", lambda m: {"version": f"{m}/x:1"}),
        ("/elevenlabs/v1/text-to-speech/voice", lambda m: {"model_id": m}),
        ("/perplexity/async/chat/completions", lambda m: {"request": {"model": m}}),
    ],
)
def test_models_in_bodies(target, body):
    assert outcome(target, body) == JUDGED


@pytest.mark.parametrize(
    "target",
    [
        lambda m: f"/gemini/v1beta/models/{m}:generateContent",
        lambda m: f"/azure/openai/deployments/{m}/chat/completions",
        lambda m: f"/huggingface/hf-inference/models/{m}/x/v1/chat/completions",
        lambda m: f"/replicate/v1/models/{m}/x/predictions",
        lambda m: f"/stability/v2beta/stable-image/generate/{m}",
        lambda m: f"/deepgram/v1/listen?model={m}",
        lambda m: f"/fireworks/inference/v1/workflows/{m}/text_to_image",
    ],
)
def test_models_in_targets(target):
    assert outcome(target, lambda m: b"") == JUDGED


@pytest.mark.parametrize(
    "target", ["/openai/v1/audio/transcriptions", "/groq/openai/v1/audio/translations"]
)
def test_models_in_forms(target):
    file = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff'
    assert outcome(target, lambda m: form(m, file), headers=[FORM]) == JUDGED


@pytest.mark.parametrize(
    ("target", "body", "headers"),
    [
        # two models
        ("/openai/v1/chat/completions", b'{"model": "good", "model": "bad"}', ()),
        ("/openai/v1/chat/completions", b'{"model": "good", "\\u006dodel": "bad"}', ()),
        ("/ollama/api/chat", b'{"model": "good", "Model": "bad"}', ()),
        ("/openrouter/api/v1/chat/completions", b'{"models": ["good"], "models": ["bad"]}', ()),
        (
            "/openai/v1/audio/transcriptions",
            form("good", b'Content-Disposition: form-data; name="model"\r\n\r\nbad'),
            [FORM],
        ),
        ("/openai/v1/audio/transcriptions", form("good").replace(b"\r\n", b"\n"), [FORM]),
        (
            "/openai/v1/audio/transcriptions",
            b"model=good",
            [(b"Content-Type", b"application/x-www-form-urlencoded")],
        ),
        ("/deepgram/v1/listen?model=good&model=bad", b"", ()),
        ("/deepgram/v1/listen?model=good&Model=bad", b"", ()),
        # none that is known
        ("/openai/v1/chat/completions", b"{}", ()),
        ("/openai/v1/chat/completions", b'{"model": ["good"]}', ()),
        ("/openai/v1/chat/completions", b'{"model": ""}', ()),
        ("/openrouter/api/v1/chat/completions", b'{"model": "good", "models": [["bad"]]}', ()),
        ("/deepgram/v1/listen", b"", ()),
        ("/openai/v1/audio/transcriptions", form("good").replace(b"model", b"other"), [FORM]),
        # nothing that can be read
        ("/openai/v1/chat/completions", None, ()),
        ("/openai/v1/audio/transcriptions", None, [FORM]),
        ("/openai/v1/chat/completions", '{"model": "good"}'.encode("utf-16"), ()),
        (
            "/openai/v1/chat/completions",
            gzip.compress(b'{"model":"good"}', mtime=0) * 2,
            [(b"Content-Encoding", b"gzip")],
        ),
        ("/openai/v1/chat/completions", b'{"model":"good"}', [(b"Content-Encoding", b"br")]),
        (
            "/openai/v1/audio/transcriptions",
            gzip.compress(form("good"), mtime=0)[:-1],
            [FORM, (b"Content-Encoding", b"gzip")],
        ),
        # in a way that the catalogue does not know
        ("/openai/v1/brand/new", b'{"model": "good"}', ()),
        ("/openai/v1/evals/e/runs", b'{"model": "good"}', ()),
        ("/huggingface/fal-ai/fal-ai/good", b"{}", ()),
        # written so that others may read another name
        ("/openai/v1/chat/completions", b'{"model": "good "}', ()),
        ("/openai/v1/chat/completions", b'{"model": "good\\u0000"}', ()),
    ],
)
@pytest.mark.parametrize("policy", [ALLOW, DENY], ids=["allow", "deny"])
def test_what_is_not_certain_is_refused_where_models_are_ruled(target, body, headers, policy):
    assert send(target, policy, body, headers=headers) != ""


def test_without_rules_of_models_that_passes():
    for policy in (Policy(), Policy(allow=(Rule(("openai",)),))):
        assert send("/openai/v1/chat/completions", policy, None) == ""
        assert send("/openai/v1/chat/completions", policy, b"{}") == ""
        assert send("/openai/v1/audio/transcriptions", policy, b"odd", headers=[FORM]) == ""
        assert send("/openai/v1/brand/new", policy, b"x") == ""


@pytest.mark.parametrize(
    ("target", "model"),
    [
        ("/openai/v1/chat/completions", "BAD-1"),
        ("/huggingface/v1/chat/completions", "bad:groq"),
        ("/openrouter/api/v1/chat/completions", "bad:free"),
        ("/openrouter/api/v1/chat/completions", "@preset/mine"),
        ("/openrouter/api/v1/chat/completions", "openrouter/auto"),
        ("/ollama/api/chat", "library/bad"),
        ("/ollama/api/chat", "registry.ollama.ai/library/bad"),
        ("/replicate/v1/predictions", "a" * 64),
    ],
)
def test_a_denial_is_not_got_around_by_another_spelling(target, model):
    field = "version" if "replicate" in target else "model"
    assert send(target, DENY, {field: model}) == "deny"


def test_the_default_variant_is_denied_with_its_name():
    policy = Policy(deny=(Rule(models=("llama3:latest",), setting="deny"),))
    assert send("/ollama/api/chat", policy, {"model": "llama3"}) == "deny"
    assert send("/ollama/api/chat", policy, {"model": "llama3:8b"}) == ""


def test_what_is_allowed_is_what_is_written():
    policy = Policy(allow=(Rule(models=("meta/llama",)),), allow_setting="allow")
    target = "/huggingface/v1/chat/completions"
    assert send(target, policy, {"model": "meta/llama"}) == ""
    assert send(target, policy, {"model": "meta/llama:groq"}) == "allow"
    assert send(target, policy, {"model": "Meta/llama"}) == "allow"
    gemini = Policy(allow=(Rule(models=("gemini-2.5*",)),), allow_setting="allow")
    body = {"model": "models/gemini-2.5-pro"}
    assert send("/gemini/v1beta/cachedContents", gemini, body) == ""


def test_a_model_in_a_path_is_judged_in_each_reading():
    policy = Policy(deny=(Rule(models=("a/b",), setting="deny"),))
    assert send("/huggingface/hf-inference/models/a%2Fb", policy, b"") == "deny"
    allow = Policy(allow=(Rule(models=("a%2Fb",)),), allow_setting="allow")
    assert send("/huggingface/hf-inference/models/a%252Fb", allow, b"") in ("allow", "unclear")


# --- models that are looked at --------------------------------------------------------------------


def test_a_model_may_be_looked_at_where_it_may_be_used():
    rules = (Rule(paths=("chat",), models=("good*",)), Rule(paths=("models*",)))
    policy = Policy(allow=rules, allow_setting="allow")
    assert send("/openai/v1/models/good", policy, b"", method="GET") == ""
    assert send("/openai/v1/models/bad", policy, b"", method="GET") == "allow"
    assert send("/openai/v1/models/bad", DENY, b"", method="GET") == "deny"
    assert send("/openai/v1/models", policy, b"", method="GET") == ""
    # a rule with models fits the list, which is filtered
    assert send("/openai/v1/models", ALLOW, b"", method="GET") == ""
    assert send("/openai/v1/files", ALLOW, b"", method="GET") == "allow"


# --- which bodies are waited for ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "policy", "counted", "wanted"),
    [
        ("/openai/v1/chat/completions", Policy(), False, True),
        ("/openai/v1/audio/transcriptions", Policy(), False, False),
        ("/openai/v1/audio/transcriptions", Policy(), True, True),
        ("/openai/v1/audio/transcriptions", ALLOW, False, True),
        ("/openai/v1/audio/transcriptions", Policy(allow=(Rule(("openai",)),)), False, False),
        ("/openai/v1/files", Policy(), True, False),
        ("/openai/v1/files", Policy(allow=(Rule(("openai",)),)), False, True),
        ("/openai/v1/files", Policy(deny=(Rule(("cohere",)),)), False, True),
        ("/openai/v1/brand/new", ALLOW, True, False),
        ("/gemini/v1beta/models/x:generateContent", Policy(), False, False),
        ("/gemini/v1beta/models/x:generateContent", ALLOW, False, True),
    ],
)
def test_bodies_are_waited_for_where_something_hangs_on_them(target, policy, counted, wanted):
    assert wants_body(visit(target, policy), counted=counted) is wanted
    assert not wants_body(visit(target, policy, length=0), counted=counted)


# --- batches --------------------------------------------------------------------------------------


def upload(lines: list, purpose: str = "batch", more: bytes = b"") -> bytes:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    parts = (
        f'Content-Disposition: form-data; name="purpose"\r\n\r\n{purpose}'.encode(),
        b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + text.encode(),
    )
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + more + b"--b--\r\n"


def line(model: str, url: str = "/v1/chat/completions") -> dict:
    return {"custom_id": "1", "method": "POST", "url": url, "body": {"model": model}}


def files(policy: Policy, *lines, **more) -> str:
    return send("/openai/v1/files", policy, upload(list(lines), **more), headers=[FORM])


def test_each_line_of_a_batch_is_judged():
    assert files(ALLOW, line("good"), line("good2"), "") == ""
    assert files(ALLOW, line("good"), line("bad")) == "allow"
    assert files(DENY, line("good"), line("good")) == ""
    assert files(DENY, line("good"), line("bad")) == "deny"
    # a rule that allows uploads does not allow what stands in them
    wide = Policy(allow=(Rule(paths=("files",)), *(ALLOW.allow or ())), allow_setting="allow")
    assert files(wide, line("good")) == ""
    assert files(wide, line("bad")) == "allow"
    assert files(Policy(), line("bad"), "no json") == ""
    assert send("/xai/v1/files", DENY, upload([line("bad")]), headers=[FORM]) == "deny"


def test_the_paths_of_a_batch_are_judged():
    policy = Policy(allow=(Rule(paths=("files", "chat")),), allow_setting="allow")
    assert files(policy, line("bad")) == ""
    assert files(policy, line("bad", url="/v1/embeddings")) == "allow"
    assert files(policy, line("bad", url="/v1/chat/../embeddings")) == "unclear"
    assert files(policy, line("bad", url="https://api.openai.com/v1/chat/completions")) == "unclear"


@pytest.mark.parametrize(
    "lines",
    [
        ["no json"],
        ['{"url": "/v1/chat/completions", "body": {"model": "good", "model": "bad"}}'],
        ['{"url": "/v1/chat/completions", "body": {"model": "good"}, "body": {"model": "bad"}}'],
        ['{"url": "/v1/chat/completions", "URL": "/v1/x", "body": {"model": "good"}}'],
        [{"url": "/v1/chat/completions"}],
        [{"body": {"model": "good"}}],
        [{"url": 5, "body": {"model": "good"}}],
        [{"url": "/v1/brand/new", "body": {"model": "good"}}],
        [{"url": "/v1/chat/completions", "body": {}}],
        ["\ufeff" + json.dumps(line("good"))],
    ],
)
def test_a_line_that_is_not_certain_is_refused(lines):
    assert files(ALLOW, *lines) != "" and files(DENY, *lines) != ""


def test_what_is_for_no_batch_needs_a_rule_of_its_own():
    assert files(ALLOW, line("good"), purpose="assistants") == "allow"
    assert files(DENY, "any text", purpose="assistants") == ""
    assert files(DENY, line("bad"), purpose="Batch") == "unclear"
    assert files(DENY, line("bad"), purpose="batch ") == "unclear"


def test_a_batch_that_cannot_be_read_is_refused():
    assert send("/openai/v1/files", DENY, None, headers=[FORM]) == "limits.json_body_bytes"
    assert send("/openai/v1/uploads", DENY, {"purpose": "batch"}) != ""
    assert send("/openai/v1/uploads", DENY, {"purpose": "user_data"}) == ""


def test_requests_in_a_body_are_judged():
    def batch(*names):
        return {"requests": [{"custom_id": "1", "params": {"model": name}} for name in names]}

    target = "/anthropic/v1/messages/batches"
    assert send(target, ALLOW, batch("good", "good")) == ""
    assert send(target, ALLOW, batch("good", "bad")) == "allow"
    assert send(target, DENY, batch("good", "bad")) == "deny"
    assert send(target, ALLOW, {"requests": []}) == "allow"
    assert send(target, DENY, {"requests": [{"params": 1}]}) == "unclear"
    assert send(target, DENY, b'{"requests": [], "requests": [{"params": {"model": "bad"}}]}') == (
        "unclear"
    )
    assert send(target, DENY, None) == "limits.json_body_bytes"


@pytest.mark.parametrize("name", ["fileName", "file_name"])
@pytest.mark.parametrize("config", ["inputConfig", "input_config"])
def test_a_batch_of_geminis_whose_file_is_not_read_is_refused(config, name):
    target = "/gemini/v1beta/models/good:batchGenerateContent"
    body = {"batch": {config: {name: "files/abc"}}}
    assert send(target, ALLOW, body) == "allow" and send(target, DENY, body) == "deny"
    assert send(target, Policy(), body) == ""
    inline: dict = {"batch": {config: {"requests": {"requests": [{"request": {"contents": []}}]}}}}
    assert send(target, ALLOW, inline) == "" and send(target, DENY, inline) == ""


def test_the_lines_of_a_batch_as_azure_writes_them():
    lines = [line("good", "/chat/completions"), line("good", "/v1/embeddings")]
    for target in ("/azure/openai/files?api-version=2024-10-21", "/azure/openai/v1/files"):
        found = find_route("azure")
        for model, said in (("good", ""), ("bad", "deny")):
            text = [*lines, line(model, "/chat/completions")]
            assert send(target, DENY, upload(text), headers=[FORM]) == said
        assert found("/chat/completions", "POST").endpoint.name == "v1.chat"


def test_a_batch_whose_model_stands_with_the_job():
    lines = [{"custom_id": "1", "body": {"messages": []}}]
    assert send("/mistral/v1/files", DENY, upload(lines), headers=[FORM]) == ""
    lines[0]["body"] = {"model": "bad"}
    assert send("/mistral/v1/files", DENY, upload(lines), headers=[FORM]) == "deny"


def test_a_scope_judges_batches_too():
    seen = visit("/openai/v1/files", Policy(), headers=[FORM])
    seen = replace(seen, user=replace(seen.user, scope=ALLOW))
    with pytest.raises(Denied):
        judge(seen, Body(upload([line("bad")])), find_route=find_route("openai"))
    judge(seen, Body(upload([line("good")])), find_route=find_route("openai"))
