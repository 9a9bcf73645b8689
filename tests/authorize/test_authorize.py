from __future__ import annotations

import gzip
import json
import time
import zlib
from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamakey_addon import catalogue
from llamakey_addon.authorize import judge, terms
from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.errors import BadRequest, Forbidden
from llamakey_addon.journey import Ask, Body, Policy, Provider, Route, Rule, User, Visit

STREAMED = Body(None)
CHAT = Endpoint(name="chat", path="/v1/chat/completions", model="body")


def visit(
    *,
    rules: tuple[Rule, ...] | None = None,
    provider: str = "openai",
    method: str = "POST",
    path: str = "/v1/chat/completions",
    query: str = "",
    endpoint: Endpoint | None = CHAT,
    params: dict[str, str] | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Visit:
    entry = catalogue.load().entries[provider]
    return Visit(
        ask=Ask("lmk_1", 0, "127.0.0.1", method, f"/{provider}{path}", headers, None),
        route=Route(
            provider=Provider(provider, entry.prefix, entry, None, None),
            endpoint=endpoint,
            path=path,
            query=query,
            params=params or {},
        ),
        user=User(
            "alice", "abcdefghij", "laptop", Policy(rules, allow_setting="users.alice.allow")
        ),
        body_wanted=False,
    )


def allowed(rules: tuple[Rule, ...] | None, **more) -> bool:
    try:
        judge(visit(rules=rules, **more), STREAMED)
    except Forbidden:
        return False
    return True


def test_what_was_let_pass_is_remembered_up_to_a_bound() -> None:
    """Names are the client's choice: many, or long ones, are looked at each time."""
    asked = visit(endpoint=CHAT.model_copy(update={"model_also": ("models[]",)}))
    known = terms(asked)
    for n in range(300):
        many = [f"{n}-{each}" for each in range(200)]
        for models in (many, [str(n) * 300], [f"gpt-{n}"]):
            content = json.dumps({"model": models[0], "models": models[1:]}).encode()
            assert judge(asked, Body(content), known).model == models[0]
    assert 0 < len(known.passed) <= 64
    assert all(sum(map(len, names)) < 300 and len(names) < 10 for names, *_ in known.passed)


# --- whitelist ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "more", "expected"),
    [
        (None, {}, True),
        ((), {}, False),
        ((Rule(),), {}, True),
        ((Rule(("openai",)),), {}, True),
        ((Rule(("cohere",)),), {}, False),
        ((Rule(("cohere",)), Rule(("openai",))), {}, True),
        ((Rule(methods=("GET",)),), {}, False),
        ((Rule(methods=("GET", "POST")),), {}, True),
        ((Rule(methods=("POST",)),), {"method": "post"}, True),
        # all parts of one rule, never parts of two
        ((Rule(("openai",), ("GET",)), Rule(("cohere",), ("POST",))), {}, False),
        ((Rule(paths=("/v1/models",)),), {}, False),
        ((Rule(paths=("/v1/models", "/v1/chat/*")),), {}, True),
        ((Rule(paths=("/v1/**",)),), {}, True),
        ((Rule(paths=("*",)),), {}, True),
        ((Rule(paths=("**",)),), {"endpoint": None, "path": "/unknown"}, True),
        ((Rule(paths=("chat",)),), {}, True),
        ((Rule(paths=("ch*",)),), {}, True),
        ((Rule(paths=("embeddings",)),), {}, False),
        ((Rule(paths=("chat",)),), {"endpoint": None}, False),
        ((Rule(paths=("chat*",)),), {"endpoint": None, "path": "/chat"}, False),
    ],
)
def test_rules(rules, more, expected):
    assert allowed(rules, **more) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        # both readings of an encoded slash must be allowed
        ("/v1/models/*", "/v1/models/a%2Fb", False),
        ("/v1/models/**", "/v1/models/a%2Fb", True),
        ("/v1/models/*", "/v1/models%2Fa", False),
        ("/v1/*", "/v1/models%2fa", False),
        ("/v1/models/a/b", "/v1/models/a%2Fb", False),
        ("/v1/models/a%2Fb", "/v1/models/a%2Fb", False),
        # others are read as all read them
        ("/v1/models/*:generate", "/v1/models/g%3Agenerate", True),
        ("/v1/models/g%3Agenerate", "/v1/models/g:generate", True),
        ("/v1/models/g:generate", "/v1/models/g%3agenerate", True),
        ("/v1/models/*", "/v1/models/anthropic.claude-v1%3A0", True),
        ("/v1/chat", "/v1/ch%61t", True),
        # dots behind escapes have no reading that could be allowed
        ("/v1/files/**", "/v1/files/..%2Fadmin", False),
        ("/v1/files/**", "/v1/files/%2e%2e/admin", False),
        ("/v1/files/**", "/v1/files/%2E/admin", False),
        ("/v1/files/**", "/v1/files/%252e%252e%252fadmin", False),
        ("/v1/files/**", "/v1/files/..%252Fadmin", False),
        ("/v1/files/*", "/v1/files/a%252Fb", False),
        ("/v1/files/*", "/v1/files/100%25", True),
        ("/v1/files/**", "/v1/files/..%5Cadmin", False),
        ("/v1/files/**", "/v1/files/..a%5Cb..", True),
        ("/v1/files/**", "/v1/files/%2525252525252F..", False),
    ],
)
def test_escapes(pattern, path, expected):
    assert allowed((Rule(paths=(pattern,)),), path=path) is expected


def test_an_endpoint_by_name_needs_a_path_with_a_reading():
    assert not allowed((Rule(paths=("chat",)),), path="/v1/chat/..%2F..%2Ffiles")


@given(st.text(alphabet="/.%2fFeEaA", max_size=24))
def test_no_path_escapes_its_folder(tail):
    """Whatever a whitelist for one folder lets pass stays there when all escapes are undone."""
    path = f"/v1/files/{tail}"
    if "/../" in f"{path}/" or "/./" in f"{path}/" or "//" in path:
        return  # refused before, by the route
    if allowed((Rule(paths=("/v1/files/**",)),), path=path):
        text = path
        for _ in range(6):
            text = unquote(text)
            parts = text.split("/")
            assert ".." not in parts and "." not in parts
            assert text.startswith("/v1/files/")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ((), "alice may not use OpenAI"),
        ((Rule(("openai",), ("GET",)),), "alice may not send POST to OpenAI"),
        ((Rule(("openai",), (), ("/v1/models",)),), "alice may not use this path of OpenAI"),
    ],
)
def test_a_refusal_says_what_stands_against_it(rules, words):
    with pytest.raises(Forbidden) as caught:
        judge(visit(rules=rules), STREAMED)
    assert words in caught.value.message
    assert caught.value.setting == "users.alice.allow"
    assert "users.alice.allow" in caught.value.message


def judged(policy: Policy, scope: Policy | None, body: bytes | None, **more) -> str:
    """The setting that stands against a request, or ""."""
    seen = visit(**more)
    seen = replace(seen, user=replace(seen.user, policy=policy, scope=scope))
    try:
        judge(seen, Body(body))
    except Forbidden as denied:
        return denied.setting
    return ""


GPT = b'{"model": "gpt-5"}'


@pytest.mark.parametrize(
    ("allow", "deny", "body", "setting"),
    [
        (None, (Rule(setting="d"),), GPT, "d"),
        ((Rule(),), (Rule(setting="d"),), GPT, "d"),
        (None, (Rule(("cohere",), setting="d"),), GPT, ""),
        (None, (Rule(paths=("chat",), setting="d"),), GPT, "d"),
        (None, (Rule(models=("gpt-5*",), setting="d"),), GPT, "d"),
        (None, (Rule(models=("GPT-*",), setting="d"),), GPT, "d"),
        (None, (Rule(models=("o1*",), setting="d"),), GPT, ""),
        # a model that is not known may be any
        (None, (Rule(models=("o1*",), setting="d"),), None, "limits.json_body_bytes"),
        (None, (Rule(models=("o1*",), setting="d"),), b'{"model": 5}', "d"),
        ((Rule(models=("gpt-5*",)),), (), GPT, ""),
        ((Rule(models=("gpt-5",)),), (), GPT, ""),
        ((Rule(models=("GPT-5",)),), (), GPT, "a"),
        ((Rule(models=("gpt-4*", "*-5")),), (), GPT, ""),
        ((Rule(models=("gpt",)),), (), GPT, "a"),
        ((Rule(models=("gpt-5*",)),), (), None, "limits.json_body_bytes"),
        ((Rule(models=("gpt-5*",)),), (), b"{}", "a"),
        ((Rule(models=("*",)),), (), b"{}", "a"),
        ((Rule(models=("gpt-5*",)), Rule(paths=("chat",))), (), None, ""),
        ((Rule(paths=("embeddings",)), Rule(models=("o1",))), (), GPT, "a"),
    ],
)
def test_models_and_denials(allow, deny, body, setting):
    assert judged(Policy(allow, deny, allow_setting="a"), None, body) == setting


def test_a_denied_path_is_denied_in_any_reading():
    policy = Policy(deny=(Rule(paths=("/v1/files/*",), setting="d"),))
    for path in ("/v1/files/a", "/v1%2Ffiles/a", "/v1/files/%61", "/v1/files/..%2Fx"):
        assert judged(policy, None, None, path=path, endpoint=None) == "d"
    assert judged(policy, None, None, path="/v1/filesystem", endpoint=None) == ""


def test_a_key_may_no_more_than_its_scope_and_its_user_no_more_than_their_policy():
    wide = Policy(allow_setting="user")
    narrow = Policy((Rule(models=("gpt-4*",)),), allow_setting="scope")
    assert judged(wide, narrow, GPT) == "scope"
    assert judged(narrow, wide, GPT) == "scope"
    assert judged(wide, narrow, b'{"model": "gpt-4o"}') == ""
    assert judged(wide, Policy(deny=(Rule(setting="d"),)), GPT) == "d"


# --- model ----------------------------------------------------------------------------------------


def model(content: bytes | None, **more) -> str:
    return judge(visit(**more), Body(content)).model


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'{"model": "gpt-4o", "messages": []}', "gpt-4o"),
        (b' {"a": {"model": "inner"}, "model": "outer"}\n', "outer"),
        ('{"model": "Ω"}'.encode(), "Ω"),
        (b'{"model": "\\u03a9"}', "Ω"),
        (b'{"messages": []}', ""),
        (b'{"model": null}', ""),
        (b'{"model": 5}', ""),
        (b"", ""),
        (None, ""),
    ],
)
def test_model_of_a_body(content, name):
    assert model(content) == name


def test_model_elsewhere():
    endpoint = Endpoint(name="x", path="/{model}", model="path")
    assert model(None, endpoint=endpoint, params={"model": "a/b"}) == "a/b"
    endpoint = Endpoint(name="x", path="/x", model="query")
    assert model(b"\x00", endpoint=endpoint, query="model=nova-2&x=1") == "nova-2"
    assert model(b"\x00", endpoint=endpoint, query="x=1") == ""
    with pytest.raises(BadRequest):
        model(None, endpoint=endpoint, query="model=a&model=b")
    endpoint = Endpoint(name="x", path="/x", model="body", model_field="model_id")
    assert model(b'{"model_id": "eleven", "model": "no"}', endpoint=endpoint) == "eleven"
    assert model(b"anything", endpoint=None) == ""
    assert model(b"anything", endpoint=Endpoint(name="x", path="/x")) == ""
    assert model(b"anything", endpoint=Endpoint(name="x", path="/x", model="multipart")) == ""


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b"[]",
        b'"text"',
        b"null",
        b'{"model": "a"',
        b'{"model": "a"} trailing',
        b'{"model": "a"}{"model": "b"}',
        b'{"model": "a", "model": "b"}',
        b'{"model": "a", "\\u006dodel": "b"}',
        b'{"model": "\xff"}',
        b'\xef\xbb\xbf{"model": "a"}',
        '{"model": "a"}'.encode("utf-16"),
        '{"model": "a"}'.encode("utf-32-le"),
        b'{"model": "\\ud800"}',
        b'{"model": NaN}',
        b'{"x": -Infinity}',
        b'{"x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"[" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"x": ' + b"9" * 6000 + b"}",
        json.dumps({"model": "m" * 5000}).encode(),
        b"model=a&x=b",
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b--\r\n',
        b"\x1f\x8b\x08 not gzip",
    ],
)
def test_a_body_that_means_nothing_certain_is_refused(content):
    with pytest.raises(BadRequest) as caught:
        model(content)
    assert "MemoryError" not in caught.value.message


@given(st.binary(max_size=200))
def test_any_body_is_judged(content):
    try:
        model(content)
    except BadRequest:
        return
    assert not content or isinstance(json.loads(content), dict)


PLAIN = b'{"model": "gpt-4o"}'


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # the same bytes in every process that collects this


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("gzip", packed(PLAIN)),
        ("GZIP", packed(PLAIN)),
        ("x-gzip", packed(PLAIN)),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", raw_deflate(PLAIN)),
        ("identity", PLAIN),
        ("identity, gzip", packed(PLAIN)),
        ("", PLAIN),
    ],
)
def test_packed_bodies_are_read(coding, content):
    assert model(content, headers=((b"Content-Encoding", coding.encode()),)) == "gpt-4o"


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("br", PLAIN),
        ("zstd", PLAIN),
        ("chunked", PLAIN),
        ("gzip, gzip", packed(packed(PLAIN))),
        ("gzip", PLAIN),
        ("gzip", packed(PLAIN)[:-4]),
        ("gzip", packed(PLAIN) + b"more"),
        ("gzip", packed(PLAIN) + packed(b'{"model": "b"}')),
        ("gzip", zlib.compress(PLAIN)),
        ("deflate", packed(PLAIN)),
        ("deflate", zlib.compress(PLAIN)[:-1]),
        ("deflate", b"\x78\x9c garbage"),
        ("gzip", packed(b"\xff\xfe")),
    ],
)
def test_packed_bodies_that_others_may_read_otherwise_are_refused(coding, content):
    with pytest.raises(BadRequest):
        model(content, headers=((b"content-encoding", coding.encode()),))


def test_two_encoding_headers_are_one_list():
    headers = ((b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"gzip"))
    with pytest.raises(BadRequest):
        model(packed(PLAIN), headers=headers)


def test_a_bomb_is_refused_at_the_bound():
    bomb = gzip.compress(b'{"x": "' + b"a" * (64 << 20) + b'"}', 9)
    assert len(bomb) < 100_000
    started_s = time.process_time()
    with pytest.raises(BadRequest, match="unpacks to more than") as caught:
        model(bomb, headers=((b"Content-Encoding", b"gzip"),))
    assert caught.value.setting == "limits.json_body_bytes"
    assert time.process_time() - started_s < 2
    small = visit(headers=((b"Content-Encoding", b"gzip"),))
    with pytest.raises(BadRequest):
        judge(small, Body(packed(PLAIN)), json_body_bytes=10)


def test_an_encoding_of_a_body_that_nobody_reads_is_not_ours_to_judge():
    headers = ((b"Content-Encoding", b"br"),)
    assert model(b"x", headers=headers, endpoint=None) == ""
    assert model(None, headers=headers) == ""


# --- credentials of the account -------------------------------------------------------------------

MINT = {"path": "/v1/realtime/client_secrets", "endpoint": None}


@pytest.mark.parametrize(
    ("rules", "may"),
    [
        (None, False),
        ((Rule(),), False),
        ((Rule(paths=("**",)),), False),
        ((Rule(paths=("/v1/**",)),), False),
        ((Rule(paths=("/v1/realtime/client_secrets",)),), True),
        ((Rule(paths=("/v1/realtime/*",)),), True),
        ((Rule(), Rule(paths=("/v1/realtime/client_secrets",))), True),
        ((Rule(), Rule(providers=("xai",), paths=("/v1/realtime/client_secrets",))), False),
        ((Rule(), Rule(methods=("GET",), paths=("/v1/realtime/client_secrets",))), False),
    ],
)
def test_a_credential_of_the_account_is_handed_out_by_name_alone(rules, may):
    assert allowed(rules, **MINT) is may


@pytest.mark.parametrize(
    "path",
    [
        "/v1/realtime/client_secrets/",
        "/v1/Realtime/client_secrets",
        "/v1/realtime/client%5fsecrets",
    ],
)
def test_no_spelling_gets_around_that(path):
    with pytest.raises(Forbidden, match="hands out a credential") as caught:
        judge(visit(path=path, endpoint=None), STREAMED)
    assert caught.value.setting == "users.alice.allow"


def test_other_methods_of_such_a_path_are_no_concern():
    assert allowed(None, method="DELETE", path="/v1/realtime/client_secrets", endpoint=None)
