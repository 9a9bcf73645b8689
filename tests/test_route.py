"""Prefix and path → provider, endpoint, and the one form that is judged and sent."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llamakey_addon import catalogue, route
from llamakey_addon.errors import BadRequest, Denied, MethodRefused, UnknownRoute
from llamakey_addon.journey import Route
from tests.catalogue.providers import every

PROVIDERS = every()
QUERY_KEYS = catalogue.load().query_keys
KEY = "sk-lmk-abcdefghij-secret"


def find(target: str, method: str = "POST") -> Route:
    return route.find(target, method, PROVIDERS, QUERY_KEYS)


# --- the way --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "path", "endpoint", "params"),
    [
        ("POST /openai/v1/chat/completions", "/v1/chat/completions", "chat", {}),
        ("POST /openai/chat/completions", "/v1/chat/completions", "chat", {}),
        ("POST /openai/v1/nothing/known", "/v1/nothing/known", None, {}),
        ("POST /openai/v1/chat/completions/", "/v1/chat/completions/", None, {}),
        ("POST /anthropic", "/", None, {}),
        ("POST /anthropic/", "/", None, {}),
        ("POST /hfendpoint", "/", "root", {}),
        (
            "POST /gemini/v1beta/models/gemini-2.0-flash:generateContent",
            "/v1beta/models/gemini-2.0-flash:generateContent",
            "generate",
            {"version": "v1beta", "model": "gemini-2.0-flash"},
        ),
        (
            "POST /gemini/v1beta/models/gemini-2.0-flash%3AgenerateContent",
            "/v1beta/models/gemini-2.0-flash%3AgenerateContent",
            "generate",
            {"version": "v1beta", "model": "gemini-2.0-flash"},
        ),
        (
            "POST /huggingface/hf-inference/models/a/b",
            "/hf-inference/models/a/b",
            "hf.task",
            {"model": "a/b"},
        ),
        (
            "GET /vectara/v2/corpora/c/documents/https%3A%2F%2Fa.test%2Fb",
            "/v2/corpora/c/documents/https%3A%2F%2Fa.test%2Fb",
            "corpora.document",
            {"corpus": "c", "document": "https://a.test/b"},
        ),
        (
            "GET /vectara/v2/corpora/c/documents/100%25%20of%20it",
            "/v2/corpora/c/documents/100%25%20of%20it",
            "corpora.document",
            {"corpus": "c", "document": "100% of it"},
        ),
        ("GET /openai/v1/files/caf%c3%A9", "/v1/files/caf%c3%A9", "files.item", {"id": "café"}),
        ("GET /openai/v1/files/a~b%7Ec", "/v1/files/a~b%7Ec", "files.item", {"id": "a~b~c"}),
        ("GET /openai/v1/files/...", "/v1/files/...", "files.item", {"id": "..."}),
        ("GET /openai/v1/files/.hidden", "/v1/files/.hidden", "files.item", {"id": ".hidden"}),
    ],
)
def test_way(asked: str, path: str, endpoint: str | None, params: dict[str, str]) -> None:
    method, _, target = asked.partition(" ")
    way = find(target, method)
    assert way.path == path
    assert (way.endpoint.name if way.endpoint else None, way.params) == (endpoint, params)


def test_endpoint_by_method() -> None:
    assert [find("/openai/v1/responses/r", m).endpoint.name for m in ("GET", "DELETE")] == [  # type: ignore[union-attr]
        "responses.item",
        "responses.delete",
    ]
    assert find("/openai/v1/responses/r", "PATCH").endpoint is None


def test_what_answers_get_answers_head() -> None:
    assert find("/openai/v1/models", "HEAD").endpoint is find("/openai/v1/models", "GET").endpoint
    assert find("/openai/v1/models/m", "HEAD").params == {"model": "m"}


def test_aliases_are_applied_once() -> None:
    assert find("/openai/v1/v1/v1/models").path == "/v1/v1/models"
    assert find("/together/v1/v1/chat/completions").path == "/v1/chat/completions"
    assert find("/fireworks/v1/accounts/a/models").path == "/v1/accounts/a/models"


@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
def test_absolute_form_is_judged_as_origin_form(scheme: str) -> None:
    way = find(f"{scheme}://api.openai.com:443/openai/v1/models?a=1", "GET")
    assert way.target == "/v1/models?a=1"


# --- the query ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("", ""),
        ("alt=sse", "alt=sse"),
        ("alt=sse&key=anything", "alt=sse"),
        ("key=anything&alt=sse&key=else", "alt=sse"),
        ("k%65y=anything", ""),
        ("%24key=a&$key=b&KEY=c", ""),
        ("access_token=ya29", ""),
        ("b=2&&a=%2f+%zz&=", "b=2&&a=%2f+%zz&="),
        ("keys=1&monkey=2", "keys=1&monkey=2"),
    ],
)
def test_query_of_a_provider_with_a_key_in_it(asked: str, sent: str) -> None:
    assert find(f"/gemini/v1beta/models?{asked}", "GET").query == sent


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("key=mine&after=x", "key=mine&after=x"),
        (f"key={KEY}&after=x", "after=x"),
        (f"key=hf_{KEY.replace('-', '%2D')}", ""),
    ],
)
def test_query_of_other_providers_loses_local_keys(asked: str, sent: str) -> None:
    assert find(f"/openai/v1/files?{asked}", "GET").query == sent


@pytest.mark.parametrize(
    "rest", [f"v1/files/{KEY}", f"v1/files?ticket={KEY}", f"v1/files?a={KEY.replace('-', '%2d')}"]
)
def test_a_local_key_where_no_sdk_puts_one_is_not_sent(rest: str) -> None:
    with pytest.raises(BadRequest, match="holds a local key") as caught:
        find(f"/openai/{rest}")
    assert KEY not in caught.value.message


# --- what is refused ------------------------------------------------------------------------------

HOSTILE = [
    "",
    "*",
    "openai/v1/models",
    "openai:443",
    "api.openai.com:443",
    "ftp://api.openai.com/openai/v1/models",
    "file:///openai/v1/models",
    "http://user@host/openai/v1/models",
    "http://user:pass@host/openai/v1/models",
    "http:///openai/v1/models",
    "https:/openai/v1/models",
    "//openai/v1/models",
    "//evil.test/openai/v1/models",
    "http://host//openai/v1/models",
    "/openai//v1/models",
    "/openai/v1//models",
    "/openai/v1/models//",
    "/openai/../anthropic/v1/messages",
    "/openai/v1/../../anthropic/v1/messages",
    "/openai/./v1/models",
    "/openai/v1/.",
    "/openai/v1/..",
    "/openai/..",
    "/../openai/v1/models",
    "/openai/%2e%2e/anthropic/v1/messages",
    "/openai/%2E%2E/anthropic/v1/messages",
    "/openai/.%2e/anthropic/v1/messages",
    "/openai/%2e./anthropic/v1/messages",
    "/openai/%2e/v1/models",
    "/openai/..;x/anthropic/v1/messages",
    "/openai/..;/anthropic",
    "/openai/v1/models;x=1",
    "/openai/..%3bx/anthropic",
    "/openai%2f..%2fanthropic/v1/messages",
    "/openai/v1%2fmodels",
    "/openai/v1%2Fmodels",
    "/openai/v1\\models",
    "/openai\\v1/models",
    "/openai/v1%5cmodels",
    "/openai/v1%5Cmodels",
    "/openai/..%5c..%5canthropic",
    "/openai/v1/models#x",
    "/openai/v1/models?a=1#x",
    "/openai/v1/mod\x00els",
    "/openai/v1/models\x7f",
    "/openai/v1/mod els",
    "/openai/v1/mod\tels",
    "/openai/v1/models\r\n",
    "/openai/v1/modéls",
    "/openai/v1/models?a=é",
    "/openai/v1/models%00",
    "/openai/v1/models%0d%0aX:1",
    "/openai/v1/models%1f",
    "/openai/v1/models%7F",
    "/openai/v1/models%",
    "/openai/v1/models%2",
    "/openai/v1/models%zz",
    "/openai/v1/models%u002e",
    "/openai/v1/%63hat/completions",
    "/openai/v1/%43hat/completions",
    "/openai/v%31/models",
    "/%6fpenai/v1/models",
    "/openai/v1/input%5Ftokens",
    "/openai/v1/files/a%2Db",
    "/openai/%252e%252e/anthropic/v1/messages",
    "/openai/%25252e%25252e/anthropic/v1/messages",
    "/openai/v1%252fmodels",
    "/openai/v1%255cmodels",
    "/openai/v1/%252%2565%252%2565/x",
    "/openai/v1/x%2500",
    "/vectara/v2/corpora/c/documents/..%2F..%2Fx",
    "/vectara/v2/corpora/c/documents/a%2F..",
    "/vectara/v2/corpora/c/documents/a%2f.%2fb",
    "/vectara/v2/corpora/c/documents/a%252F..%252Fb",
    "/vectara/v2/corpora/c/documents/..%3Bx",
    "/vectara/v2/corpora/c/documents/a%2F..%3B%2Fx",
]


@pytest.mark.parametrize("target", HOSTILE, ids=ascii)
def test_hostile_target_is_refused(target: str) -> None:
    with pytest.raises(BadRequest) as caught:
        find(target)
    assert caught.value.message.endswith((".", "…"))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/?a=1",
        "http://openai",
        "http://host?openai",
        "/openaix/v1/models",
        "/openai@host/v1/models",
        "/openai:443/v1/models",
        "/openai%20/v1/models",
        "/openai%2fv1/models",
        "/openai,anthropic/v1/models",
        "/OPENAI/v1/models",
        "/OpenAI/v1/models",
        "/v1/models",
        "/llamakey/openai/v1/models",
        "/robots.txt",
        "/openai.test/v1/models",
        f"/{KEY}/v1/models",
    ],
)
def test_unknown_prefix(target: str) -> None:
    with pytest.raises(UnknownRoute) as caught:
        find(target, "GET")
    assert "`lmk providers`" in caught.value.message
    assert KEY not in str(caught.value)


def test_a_prefix_with_parameters_is_ambiguous() -> None:
    with pytest.raises(BadRequest):
        find("/openai;x/v1/models")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "TRACK"])
@pytest.mark.parametrize("target", ["/openai/v1/models", "api.openai.com:443", "/nobody"])
def test_methods_that_no_api_has(method: str, target: str) -> None:
    with pytest.raises(MethodRefused, match=method):
        find(target, method)


@pytest.mark.parametrize("method", ["", "get", "Get", "GE%54", "GET /x", "GÉT", "1GET", "G" * 33])
def test_malformed_method(method: str) -> None:
    with pytest.raises(BadRequest, match="method"):
        find("/openai/v1/models", method)


# --- what holds of everything ---------------------------------------------------------------------


def _readings(path: str) -> Iterator[str]:
    """A path, and what ever further decoding makes of it."""
    while True:
        yield path
        after = unquote(path, "latin-1")
        if after == path:
            return
        path = after


PIECES = st.sampled_from(
    [
        *("/", "//", ".", "..", ";", ";x", "%", "%2", "2", "5", "e", "f", "F", "c"),
        *("%2e", "%2E", "%2f", "%2F", "%5c", "%25", "%252e", "%252f", "%00", "%7f", "%3b", "%3A"),
        *("v1", "models", "chat", "a", "~", "@", ":", "*", "\\", "#", "?", "&", "=", "key"),
        *("sk-lmk-", "é", " ", "\x00", "http://", "host"),
    ]
)
TARGETS = st.one_of(
    st.text(max_size=40),
    st.builds(
        lambda prefix, pieces: f"/{prefix}/{''.join(pieces)}",
        st.sampled_from(["openai", "vectara", "gemini", "groq", "fireworks", "hfendpoint", "x"]),
        st.lists(PIECES, max_size=12),
    ),
    st.lists(PIECES, max_size=12).map("".join),
)


@given(TARGETS, st.sampled_from(["GET", "POST", "HEAD", "DELETE", "TRACE", "get", ""]))
@example("/vectara/%252%2565", "GET")
def test_any_target_is_refused_or_plain(target: str, method: str) -> None:
    try:
        way = find(target, method)
    except Denied:
        return
    assert way.path.startswith("/")
    assert all("\x21" <= char <= "\x7e" for char in way.target)
    assert not set("\\#;") & set(way.path) and "?" not in way.path and "//" not in way.path
    first, *others = _readings(way.path)
    for reading in (first, *others):
        segments = reading.split("/")
        assert not {".", ".."} & {segment.partition(";")[0] for segment in segments}
        assert "\\" not in reading and not any(ord(char) < 0x20 for char in reading)
    slashes = first.count("/")
    if not way.provider.entry.encoded_slash:
        assert all(reading.count("/") == slashes for reading in others)
    assert KEY[:7] not in way.target
    # What is sent is read as what was judged: the same provider, path and endpoint once more.
    again = find(f"/{way.provider.prefix}{way.target}", method)
    if again.path == way.path:
        assert (again.endpoint, again.params, again.query) == (way.endpoint, way.params, way.query)
