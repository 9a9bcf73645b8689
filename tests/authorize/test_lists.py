"""Lists of models show what their reader may use."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.roadside import Bench, make_bench

PROVIDERS = (
    "openai",
    "anthropic",
    "gemini",
    "cohere",
    "mistral",
    "openrouter",
    "huggingface",
    "together",
    "elevenlabs",
    "replicate",
    "stability",
)
ALLOW = [{"models": ["good*", "models/good*"]}]


def bench_with(folder, allow=None, deny=()) -> Bench:
    user: dict = {"deny": list(deny)}
    if allow is not None:
        user["allow"] = allow
    return make_bench(
        folder,
        providers={name: {"key": "env:OPENAI_API_KEY"} for name in PROVIDERS}
        | {"ollama": {"enabled": True}},
        users={"alice": user},
    )


def shown(bench: Bench, target: str, body: object, *headers: str) -> object:
    content = json.dumps(body).encode()
    bench.rim.out.clear()
    slot = {"anthropic": "x-api-key", "gemini": "x-goog-api-key", "elevenlabs": "xi-api-key"}
    name = slot.get(target.split("/")[1])
    key = [f"{name}: {bench.key}"] if name else []
    bench.client(bench.head(f"GET {target}", *key, *headers, key=None if name else ""))
    bench.open()
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
    (got,) = bench.got()
    assert got.status == 200 and got.whole, got.body
    return json.loads(got.body)


@pytest.mark.parametrize(
    ("target", "item", "where"),
    [
        ("/openai/v1/models", lambda m: {"id": m, "object": "model"}, "data"),
        ("/anthropic/v1/models", lambda m: {"id": m, "type": "model"}, "data"),
        ("/gemini/v1beta/models", lambda m: {"name": f"models/{m}"}, "models"),
        ("/gemini/v1beta/openai/models", lambda m: {"id": f"models/{m}"}, "data"),
        ("/cohere/v1/models", lambda m: {"name": m, "endpoints": []}, "models"),
        ("/mistral/v1/models", lambda m: {"id": m}, "data"),
        ("/openrouter/api/v1/models", lambda m: {"id": m}, "data"),
        ("/huggingface/v1/models", lambda m: {"id": m}, "data"),
        ("/together/v1/models", lambda m: {"id": m}, ""),
        ("/elevenlabs/v1/models", lambda m: {"model_id": m}, ""),
        ("/ollama/api/tags", lambda m: {"name": m, "model": m}, "models"),
        ("/ollama/v1/models", lambda m: {"id": m}, "data"),
        ("/replicate/v1/models", lambda m: {"owner": m, "name": "x"}, "results"),
        ("/stability/v1/engines/list", lambda m: {"id": m}, ""),
    ],
)
def test_lists_of_providers(tmp_path, target, item, where):
    body = [item("good-1"), item("bad"), item("good-2")]
    document = {where: body, "more": 1} if where else body
    left = [item("good-1"), item("good-2")]
    with bench_with(tmp_path, ALLOW) as bench:
        assert shown(bench, target, document) == ({where: left, "more": 1} if where else left)


def data(*names: str) -> dict:
    return {"object": "list", "data": [{"id": name} for name in names]}


@pytest.mark.parametrize(
    ("allow", "deny", "left"),
    [
        (None, [{"models": ["bad*"]}], ("good", "fine")),
        (None, [{"models": ["BAD"]}], ("good", "fine")),
        # only in some ways, so there are others
        (None, [{"models": ["bad*"], "paths": ["chat"]}], ("good", "bad", "fine")),
        (None, [{"providers": ["cohere"], "models": ["*"]}], ("good", "bad", "fine")),
        ([{"models": ["good", "bad"]}], [{"models": ["bad"]}], ("good",)),
        ([{"paths": ["models*"]}, {"paths": ["chat"], "models": ["good"]}], (), ("good",)),
        ([{"paths": ["models*", "/v1/files/**"]}], (), ()),
        ([{"paths": ["models*"]}, {"paths": ["/v1/chat/*"]}], (), ("good", "bad", "fine")),
        ([{"paths": ["models*"]}, {"methods": ["DELETE"]}], (), ()),
        ([{}], (), ("good", "bad", "fine")),
    ],
)
def test_what_may_be_used_is_shown(tmp_path, allow, deny, left):
    with bench_with(tmp_path, allow, deny) as bench:
        assert shown(bench, "/openai/v1/models", data("good", "bad", "fine")) == data(*left)


def test_a_keys_scope_narrows_what_is_shown(tmp_path):
    from llamakey_addon.keys import mint

    with bench_with(tmp_path, ALLOW) as bench:
        scoped = mint()
        bench.store.add_key("ci", "alice", scoped, scope='{"allow": [{"models": ["*-2"]}]}')
        bench.key = scoped.text
        document = data("good-1", "good-2", "bad-2")
        assert shown(bench, "/openai/v1/models", document) == data("good-2")


def test_who_has_no_rules_sees_the_bytes_of_the_provider(tmp_path):
    with bench_with(tmp_path) as bench:
        bench.client(bench.head("GET /openai/v1/models", "Accept-Encoding: gzip"))
        bench.open()
        packed = gzip.compress(b'{ "data": [] }')
        bench.answer(
            b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
            % (len(packed), packed)
        )
        (got,) = bench.got()
        assert got.body == packed and got.header("etag") == "x"
        assert bench.sent()[0].values("accept-encoding") == ["gzip"]


def test_a_filtered_list_is_asked_for_plain_and_whole(tmp_path):
    with bench_with(tmp_path, ALLOW) as bench:
        asked = ("Accept-Encoding: gzip", "If-None-Match: x", "Range: bytes=0-10")
        shown(bench, "/openai/v1/models", data("good"), *asked)
        (sent,) = bench.sent()
        assert sent.values("accept-encoding") == ["identity"]
        assert sent.values("if-none-match") == sent.values("range") == []


def test_a_list_that_cannot_be_read_is_not_shown(tmp_path):
    with bench_with(tmp_path, ALLOW) as bench:
        bench.client(bench.head("GET /openai/v1/models"))
        bench.open()
        bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n<html>bad-1>")
        (got,) = bench.got()
        assert got.status == 502 and b"bad-1" not in got.body


def test_an_error_passes_as_it_is(tmp_path):
    with bench_with(tmp_path, ALLOW) as bench:
        bench.client(bench.head("GET /openai/v1/models"))
        bench.open()
        bench.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        (got,) = bench.got()
        assert (got.status, got.body) == (401, b"no")


# --- a form is read on the road -------------------------------------------------------------------


def transcription(model: str, padding: int = 0) -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + b"x" * padding
        + b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
        + model.encode()
        + b"\r\n--b--\r\n"
    )


def upload(bench: Bench, body: bytes) -> None:
    bench.client(
        bench.head(
            "POST /openai/v1/audio/transcriptions",
            "Content-Type: multipart/form-data; boundary=b",
            body=body,
        )
    )


def test_nothing_of_a_form_goes_upstream_before_its_model_is_judged(tmp_path):
    with bench_with(tmp_path, ALLOW) as bench:
        body = transcription("good", 3000)
        head = bench.head(
            "POST /openai/v1/audio/transcriptions",
            "Content-Type: multipart/form-data; boundary=b",
            f"Content-Length: {len(body)}",
        )
        bench.client(head, body[:-1])
        assert bench.upstream_untouched
        bench.client(body[-1:])
        bench.open()
        (sent,) = bench.sent()
        assert sent.body == body and sent.whole
        bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert bench.only_receipt().model == "good"


def test_a_form_with_another_model_is_refused(tmp_path):
    with bench_with(tmp_path, ALLOW) as bench:
        upload(bench, transcription("bad"))
        (got,) = bench.got("POST")
        assert got.status == 403 and bench.upstream_untouched


def test_a_form_beyond_the_bound_is_refused_where_a_rule_hangs_on_it(tmp_path):
    with make_bench(
        tmp_path, {"json_body_bytes": 1024}, users={"alice": {"allow": ALLOW}}
    ) as bench:
        upload(bench, transcription("good", 2000))
        (got,) = bench.got("POST")
        assert got.status == 403 and b"limits.json_body_bytes" in got.body
        assert bench.upstream_untouched
