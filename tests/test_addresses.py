"""Addresses of a provider in its answers: which become the proxy's, and what is done by them."""

from __future__ import annotations

import gzip
import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from llamakey_addon.journey import Ask
from llamakey_addon.keys import mint
from tests.roadside import REAL, Bench, Got, make_bench
from tests.test_sockets import UPGRADE

NAMES = ("replicate", "gemini", "pinecone", "fal", "anthropic", "assemblyai", "openai")
SLOTS = {
    "elevenlabs": "xi-api-key",
    "gemini": "x-goog-api-key",
    "pinecone": "Api-Key",
    "fal": "Authorization: Key",
}
HERE = "http://localhost:8000"
INDEX = "docs-example-4zo0ijk.svc.us-east1-aws.pinecone.io"
GOOGLE = "https://generativelanguage.googleapis.com"
START = "POST /gemini/upload/v1beta/files"


def bench_with(folder: Path, **config: Any) -> Bench:
    providers = {name: {"key": "env:OPENAI_API_KEY"} for name in NAMES}
    return make_bench(folder, providers=providers, **config)


@pytest.fixture
def bench(tmp_path):
    with bench_with(tmp_path) as bench:
        yield bench


def request(
    bench: Bench, line: str, *headers: str, key: str | None = "", body: bytes | None = None
):
    """Sends a request; None for `key` sends none."""
    slot = SLOTS.get(line.split("/")[1].split()[0], "Authorization: Bearer")
    mark = " " if ":" in slot else ": "
    more = () if key is None else (f"{slot}{mark}{key or bench.key}",)
    fresh = bench.another_road()  # what was refused may have ended the last one
    bench.road, bench.rim = fresh.road, fresh.rim
    bench.client(bench.head(line, *headers, *more, key=None, body=body))


def ask(
    bench: Bench,
    line: str,
    answer: bytes | object,
    *headers: str,
    key: str | None = "",
    body: bytes | None = None,
    kind: str = "application/json",
    status: str = "200 OK",
    head: tuple[str, ...] = (),
    step: int = 0,
) -> Got:
    """What a client gets where the provider answers so; `step` is the size of the pieces."""
    request(bench, line, *headers, key=key, body=body)
    bench.open()
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", *head]
    if status.split()[0] != "204":
        lines.append(f"Content-Length: {len(content)}")
    whole = "\r\n".join([*lines, "", ""]).encode() + content
    step = step or len(whole)
    bench.answer(*(whole[at : at + step] for at in range(0, len(whole), step)))
    (got,) = bench.got(line.split()[0])
    assert got.whole, got
    return got


def refused(bench: Bench, line: str, *headers: str, **more) -> Got:
    """What a client gets whose request goes nowhere."""
    request(bench, line, *headers, **more)
    assert bench.rim.wishes == []
    (got,) = bench.got(line.split()[0])
    return got


def user(bench: Bench, name: str) -> str:
    minted = mint()
    bench.store.add_key(f"{name}-laptop", name, minted)
    return minted.text


# --- in bodies ------------------------------------------------------------------------------------

PREDICTION = b"""{ "id":"p1",\t"input": {"urls": {"get": "https://api.replicate.com/v1/files/f"},
  "n": 1.0e2, "said": "\\u00fc \\/ https://api.replicate.com/v1/x"},
 "output": ["https://api.replicate.com/v1/files/f", "https://replicate.delivery/x/out.png"],
 "urls": {"get": "https://api.replicate.com/v1/predictions/p1",
  "cancel":"https:\\/\\/api.replicate.com\\/v1\\/predictions\\/p1\\/cancel",
  "stream": "https://stream.replicate.com/v1/files/abc?x=1#y", "web": "https://replicate.com/p/p1",
  "odd": null, "more": ["https://api.replicate.com/v1/a"] } }\n"""
EXPECTED = (
    PREDICTION.replace(
        b'{"get": "https://api.replicate.com/v1/predictions/p1"',
        b'{"get": "http://localhost:8000/replicate/v1/predictions/p1"',
    )
    .replace(
        b'"https:\\/\\/api.replicate.com\\/v1\\/predictions\\/p1\\/cancel"',
        b'"http://localhost:8000/replicate/v1/predictions/p1/cancel"',
    )
    .replace(
        b"https://stream.replicate.com/v1/files/abc?x=1#y",
        b"http://localhost:8000/replicate/stream.replicate.com/v1/files/abc?x=1&llamakey=TICKET#y",
    )
)


def less_tickets(text: bytes) -> bytes:
    return re.sub(rb"llamakey=sk-lmk-[\w-]+", b"llamakey=TICKET", text)


@pytest.mark.parametrize("step", [0, 1, 7])
def test_what_the_client_follows_is_ours_and_the_rest_stays_byte_for_byte(bench, step):
    got = ask(bench, "GET /replicate/v1/predictions/p1", PREDICTION, step=step)
    assert less_tickets(got.body) == EXPECTED != PREDICTION
    assert got.header("content-length") == str(len(got.body))


def test_a_packed_answer(bench):
    line = "GET /replicate/v1/predictions/p1"
    got = ask(
        bench,
        line,
        gzip.compress(PREDICTION),
        "Accept-Encoding: gzip",
        head=("Content-Encoding: gzip",),
    )
    assert (less_tickets(got.body), got.header("content-encoding")) == (EXPECTED, "")
    assert bench.sent()[0].values("accept-encoding") == ["identity"]


def test_an_answer_without_addresses_is_left_alone(bench):
    for content in (b'{"id": "p1"', b"[", b'"https://api.replicate.com"', b"]}{", b"null"):
        assert ask(bench, "GET /replicate/v1/predictions/p1", content).body == content
    # an endpoint of which the catalogue says nothing is not even read
    plain = b'{"urls": {"get": "https://api.replicate.com/v1/x"}}'
    got = ask(
        bench, "GET /replicate/v1/hardware", plain, "Accept-Encoding: gzip", head=("ETag: e",)
    )
    assert (got.body, got.header("etag")) == (plain, "e")


@pytest.mark.parametrize(
    ("line", "told", "seen"),
    [
        (
            "GET /replicate/v1/predictions",
            {"next": "https://api.replicate.com/v1/predictions?cursor=c%3D", "results": []},
            {"next": f"{HERE}/replicate/v1/predictions?cursor=c%3D", "results": []},
        ),
        (
            "GET /anthropic/v1/messages/batches/msgbatch_1",
            {"results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"},
            {"results_url": f"{HERE}/anthropic/v1/messages/batches/msgbatch_1/results"},
        ),
        (
            "GET /assemblyai/v2/transcript",
            {
                "page_details": {
                    "limit": 1,
                    "next_url": "https://api.assemblyai.com/v2/transcript?x=1",
                }
            },
            {"page_details": {"limit": 1, "next_url": f"{HERE}/assemblyai/v2/transcript?x=1"}},
        ),
        (
            "GET /pinecone/indexes",
            {"indexes": [{"host": INDEX, "metric": INDEX}, {"host": f"https://{INDEX}"}]},
            {
                "indexes": [
                    {"host": f"{HERE}/pinecone/{INDEX}", "metric": INDEX},
                    {"host": f"{HERE}/pinecone/{INDEX}"},
                ]
            },
        ),
    ],
)
def test_where_they_stand_is_data(bench, line, told, seen):
    assert json.loads(ask(bench, line, told).body) == seen


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "POST /gemini/upload/v1beta/files",
            {"file": {"uri": f"{GOOGLE}/v1beta/files/f1", "downloadUri": f"{GOOGLE}/v1beta/x"}},
        ),
        ("POST /assemblyai/v2/upload", {"upload_url": "https://cdn.assemblyai.com/upload/1"}),
        ("GET /replicate/v1/predictions/p1", {"output": "https://api.replicate.com/v1/files/1"}),
        ("POST /openai/v1/responses", {"url": "https://api.openai.com/v1/files/1"}),
    ],
)
def test_what_is_data_is_left_alone(bench, line, told):
    got = ask(bench, line, told, body=b"{}" if line.startswith("POST") else None)
    assert got.body == json.dumps(told).encode()


@pytest.mark.parametrize(
    "address",
    [
        "https://api.replicate.com.evil.example/v1/x",
        "https://api.replicate.com@evil.example/v1/x",
        "https://evil.example/https://api.replicate.com/v1/x",
        "https://evil.example#@api.replicate.com/v1/x",
        "https://evil.example\\@api.replicate.com/v1/x",
        "http://api.replicate.com/v1/x",
        "https://api.replicate.com:8443/v1/x",
        "https://replicate.com/p/x",
        "ftp://api.replicate.com/v1/x",
        "//api.replicate.com/v1/x",
        "/v1/x",
        "api.replicate.com",
        " https://api.replicate.com/v1/x",
    ],
)
def test_other_hosts_are_left_alone(bench, address):
    got = ask(bench, "GET /replicate/v1/predictions/p1", {"urls": {"get": address}})
    assert json.loads(got.body)["urls"]["get"] == address


def test_the_port_and_case_of_an_address_may_be_written_out(bench):
    told = {
        "urls": {"get": "HTTPS://API.Replicate.com:443/v1/X", "cancel": "https://api.replicate.com"}
    }
    got = ask(bench, "GET /replicate/v1/predictions/p1", told)
    assert json.loads(got.body)["urls"] == {
        "get": f"{HERE}/replicate/v1/X",
        "cancel": f"{HERE}/replicate",
    }


def test_the_real_key_is_in_no_address(bench):
    told = {"next": f"https://api.replicate.com/v1/predictions?token={REAL}", "results": []}
    got = ask(
        bench,
        "GET /replicate/v1/predictions",
        told,
        head=(f"Link: <https://api.replicate.com/{REAL}>; rel=next",),
    )
    assert (
        json.loads(got.body)["next"] == f"{HERE}/replicate/v1/predictions?token={'*' * len(REAL)}"
    )
    assert REAL not in str(got)


@pytest.mark.parametrize("step", [0, 1, 50])
def test_events_that_name_addresses(bench, step):
    queue = "https://queue.fal.run/fal-ai/flux/requests/r1"
    events = b"".join(
        b': ping\r\n\r\nevent: x\ndata: {"is":"%b", "status_url":"%b/status" ,"logs":["%b"]}\n\n'
        % (state, queue.encode(), queue.encode())
        for state in (b"IN_QUEUE", b"COMPLETED")
    )
    got = ask(
        bench,
        "GET /fal/queue.fal.run/fal-ai/flux/requests/r1/status/stream",
        events + b"data: tail",
        kind="text/event-stream",
        step=step,
    )
    ours = f"{HERE}/fal/queue.fal.run/fal-ai/flux/requests/r1/status".encode()
    assert got.body == events.replace(f"{queue}/status".encode(), ours) + b"data: tail"


def test_a_line_that_is_no_event_is_not_kept(bench):
    long = b"data: " + b"x" * (3 << 20) + b'\ndata: {"status_url": "https://queue.fal.run/a"}\n\n'
    line = "GET /fal/queue.fal.run/fal-ai/flux/requests/r1/status/stream"
    got = ask(bench, line, long, kind="text/event-stream", step=65536)
    assert got.body == long.replace(
        b"https://queue.fal.run/a", f"{HERE}/fal/queue.fal.run/a".encode()
    )


def random_json(dice: random.Random, depth: int = 0) -> object:
    own = "https://api.replicate.com/v1/x"
    texts = (own, "https://evil.example/", "urls", 'a "q" \\ {[,]}:', "ü\u2028", "", own + '"')
    kind = dice.randrange(4 if depth > 3 else 6)
    if kind == 4:
        return [random_json(dice, depth + 1) for _ in range(dice.randrange(4))]
    if kind == 5 or depth == 0:
        names = ("urls", "get", "results", "next", "x")
        return {dice.choice(names): random_json(dice, depth + 1) for _ in range(4)}
    return dice.choice((*texts, 1.5, -2, None, True)) if kind else own


def rewritten(value: object, path: tuple[str, ...] = ()) -> object:
    """What becomes of a list's answer, by another way than the filter's."""
    if isinstance(value, dict):
        return {name: rewritten(inner, (*path, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [rewritten(inner, (*path, "[]")) for inner in value]
    wanted = path in (("next",), ("previous",)) or (
        path[:1] == ("urls",) and len(path) == 2 and path[1] not in ("stream", "[]")
    )
    wanted = wanted or (
        path[:3] == ("results", "[]", "urls") and len(path) == 4 and path[3] != "[]"
    )
    plain = isinstance(value, str) and value.startswith("https://api.replicate.com/v1/x")
    if wanted and plain:
        return str(value).replace("https://api.replicate.com", f"{HERE}/replicate")
    return value


def test_any_json_means_the_same_but_for_its_addresses(bench):
    request(bench, "GET /replicate/v1/predictions")
    grant = bench.road._exchange.grant
    places = grant.addresses.names.places["predictions.list"]
    dice = random.Random(7)
    changed = 0
    for _ in range(300):
        told = random_json(dice)
        text = json.dumps(told, ensure_ascii=dice.random() < 0.5, indent=dice.choice((None, 1)))
        got = grant.addresses.replaced(text.encode(), places)
        expected = rewritten(told)
        assert json.loads(got) == expected
        changed += expected != told
        assert expected != told or got == text.encode()
    assert changed > 40


# --- in heads -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "told", "seen"),
    [
        ("202 Accepted", "Location: https://api.openai.com/v1/x?y=1", f"{HERE}/openai/v1/x?y=1"),
        ("307 Temporary Redirect", "Location: /v1/x", f"{HERE}/openai/v1/x"),
        ("302 Found", "Location: https://files.example/x", "https://files.example/x"),
        ("302 Found", "Location: //files.example/x", "//files.example/x"),
        ("200 OK", "Content-Location: https://api.openai.com/v1/x", f"{HERE}/openai/v1/x"),
        ("202 Accepted", "Operation-Location: https://api.openai.com/v1/x", f"{HERE}/openai/v1/x"),
        (
            "200 OK",
            'Link: <https://api.openai.com/v1/x?p=2>; rel="next", <https://a.example/>; rel=help',
            f'<{HERE}/openai/v1/x?p=2>; rel="next", <https://a.example/>; rel=help',
        ),
        ("200 OK", "X-Elsewhere: https://api.openai.com/v1/x", "https://api.openai.com/v1/x"),
    ],
)
def test_headers_that_name_addresses_by_http(bench, status, told, seen):
    got = ask(bench, "GET /openai/v1/models/m", b"{}", status=status, head=(told,))
    assert got.header(told.partition(":")[0]) == seen


# --- the client's own way to us -------------------------------------------------------------------


def location(bench: Bench, *headers: str) -> str:
    head = ("Location: https://api.openai.com/v1/x",)
    bench.rim.out.clear()
    lines = ["GET /openai/v1/models/m HTTP/1.1", *headers, f"Authorization: Bearer {bench.key}"]
    bench.client("\r\n".join([*lines, "", ""]).encode())
    bench.open()
    bench.answer("\r\n".join(["HTTP/1.1 200 OK", "Content-Length: 0", *head, "", ""]).encode())
    return bench.got()[0].header("location").removesuffix("/openai/v1/x")


def test_the_origin_is_the_one_that_the_client_used(bench):
    assert location(bench, "Host: 127.0.0.1:8000") == "http://127.0.0.1:8000"
    assert location(bench, "Host: [::1]:8000") == "http://[::1]:8000"
    assert location(bench, "Host: a b") == HERE  # no host: the public URL
    assert location(bench, "Host: a/b") == HERE
    bench.rim.tls = True
    assert location(bench, "Host: llm.corp.example") == "https://llm.corp.example"


def test_behind_somebody_elses_tls_it_is_the_public_one(tmp_path):
    with bench_with(
        tmp_path, public_url="https://llm.corp.example/x", trusted_proxies=["192.0.2.1"]
    ) as bench:
        forwarded = ("Host: inner:8000", "X-Forwarded-For: 198.51.100.7")
        assert location(bench, *forwarded) == "https://llm.corp.example/x"


# --- hosts that a path names ----------------------------------------------------------------------


def test_a_named_host_is_asked_with_the_real_key(bench):
    ask(bench, f"POST /pinecone/{INDEX}/query?a=1", {}, body=b"{}")
    (sent,) = bench.sent()
    assert bench.rim.wishes[-1][0].origin == f"https://{INDEX}"
    assert (sent.target, sent.values("host"), sent.values("api-key")) == (
        "/query?a=1",
        [INDEX],
        [REAL],
    )
    assert bench.receipts[-1].endpoint == "query"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1",
        "169.254.169.254",
        "localhost:8000",
        f"{INDEX}.evil.example",
        f"{INDEX}:8443",
        f"evil.example@{INDEX}",
        INDEX.upper(),
        "pinecone.io",
        "x.pinecone.io",
    ],
)
def test_no_other_host_is_ever_asked(bench, host):
    request(bench, f"POST /pinecone/{host}/query", body=b"{}")
    assert {wish.origin for wish, _ in bench.rim.wishes} <= {"https://api.pinecone.io"}


def test_what_hides_a_host_is_refused(bench):
    for path in (f"/pinecone/x/../{INDEX}/query", f"/pinecone/{INDEX.replace('.', '%2E')}/query"):
        assert refused(bench, f"POST {path}", body=b"{}").status == 400


def test_a_host_of_another_providers_is_none_here(bench):
    request(bench, f"POST /fal/{INDEX}/query", body=b"{}")
    assert bench.rim.wishes[-1][0].origin == "https://fal.run"


def test_one_upstream_for_all_is_asked_as_we_are(tmp_path):
    with make_bench(
        tmp_path,
        providers={"pinecone": {"key": "env:OPENAI_API_KEY", "upstream": "https://gate.example"}},
    ) as bench:
        ask(bench, f"POST /pinecone/{INDEX}/query?a=1", {}, body=b"{}")
        (sent,) = bench.sent()
        assert bench.rim.wishes[-1][0].origin == "https://gate.example"
        assert sent.target == f"/{INDEX}/query?a=1"
        # its answers may name either origin
        for origin in ("https://gate.example", "https://api.pinecone.io"):
            got = ask(bench, "GET /pinecone/indexes", {}, head=(f"Location: {origin}/indexes/x",))
            assert got.header("location") == f"{HERE}/pinecone/indexes/x"


def test_a_queued_request_is_its_makers(bench):
    bob, id = user(bench, "bob"), "80e732af-660e-45cd-bd63-580e4f2a94cc"
    ask(bench, "POST /fal/queue.fal.run/fal-ai/flux/dev", {"request_id": id}, body=b"{}")
    line = f"GET /fal/queue.fal.run/fal-ai/flux/requests/{id}"
    deeper = line.replace("flux/", "flux/dev/x/y/")  # no documented form
    assert refused(bench, deeper, key=bob).status == 404
    for end in ("", "/status", "/status/stream", "/response"):
        assert ask(bench, line + end, {}).status == 200
        assert refused(bench, line + end, key=bob).status == 404
    assert refused(bench, f"PUT{line[3:]}/cancel", key=bob).status == 404


def test_another_provider_of_ours_may_be_named(tmp_path):
    ours = "https://llama.us-east-1.aws.endpoints.huggingface.cloud"
    providers = {
        "hfendpoints": {"key": "env:OPENAI_API_KEY"},
        "llama": {"like": "hfendpoint", "key": "env:OPENAI_API_KEY", "upstream": ours},
    }
    theirs = ours.replace("llama", "bge")
    with make_bench(tmp_path, providers=providers) as bench:
        told = {"items": [{"status": {"url": url}, "url": url} for url in (ours, theirs)]}
        items = json.loads(ask(bench, "GET /hfendpoints/v2/endpoint/team", told).body)["items"]
        assert [item["status"]["url"] for item in items] == [f"{HERE}/llama", theirs]
        assert [item["url"] for item in items] == [ours, theirs]


# --- addresses that are followed without a key ----------------------------------------------------

PLACE = "/upload/v1beta/files?upload_id=ABC-1&upload_protocol=resumable"


def place(bench: Bench, key: str = "", told: str = PLACE) -> str:
    """Where a user is told to upload, as a target at the proxy."""
    got = ask(
        bench,
        START,
        b"",
        "X-Goog-Upload-Protocol: resumable",
        "X-Goog-Upload-Command: start",
        key=key,
        body=b"{}",
        head=(f"X-Goog-Upload-URL: {GOOGLE}{told}", f"Location: {GOOGLE}{told}"),
    )
    address = got.header("x-goog-upload-url")
    assert address.startswith(f"{HERE}/gemini/upload/v1beta/files?upload_id=ABC-1&")
    assert got.header("location") == address
    return address.removeprefix(HERE)


def test_an_upload_is_followed_without_a_key(bench):
    bob = user(bench, "bob")
    target = place(bench, bob)
    told = {"file": {"name": "files/new1", "uri": f"{GOOGLE}/v1beta/files/new1"}}
    got = ask(bench, f"POST {target}", told, key=None, body=b"content")
    assert got.body == json.dumps(told).encode()
    (sent,) = bench.sent()
    assert sent.target == PLACE
    assert sent.values("x-goog-api-key") == [REAL]
    assert (bench.receipts[-1].user, bench.receipts[-1].path) == ("bob", "/upload/v1beta/files")
    # and what came of it is the one's who was given the address
    assert ask(bench, "GET /gemini/v1beta/files/new1", {}, key=bob).status == 200
    assert refused(bench, "GET /gemini/v1beta/files/new1").status == 404


def test_with_a_key_it_is_the_same_users(bench):
    bob, target = user(bench, "bob"), place(bench)
    assert ask(bench, f"POST {target}", {}, body=b"x").status == 200
    got = refused(bench, f"POST {target}", key=bob, body=b"x")
    assert got.status == 401 and b"another user" in got.body
    # a second key of one's own is one's own
    assert ask(bench, f"PUT {target}", {}, key=user(bench, "Alice"), body=b"x").status == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("ABC-1", "ABC-2"),
        lambda t: t.replace("/files", "/files/x"),
        lambda t: t.replace("v1beta", "v1"),
        lambda t: t.replace("&upload_protocol=resumable", ""),
        lambda t: t.replace("upload_id=ABC-1&", ""),
        lambda t: t + "&x=1",
        lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"),
        lambda t: t.replace("-u", "-t"),
    ],
)
def test_a_ticket_is_for_one_address(bench, change):
    got = refused(bench, f"POST {change(place(bench))}", key=None, body=b"x")
    assert got.status == 401


def test_a_ticket_is_no_key(bench):
    ticket = place(bench).partition("llamakey=")[2]
    for line in (
        f"GET /gemini/v1beta/models?llamakey={ticket}",
        f"GET /gemini/v1beta/models?key={ticket}",
        f"GET /replicate/v1/models?llamakey={ticket}",
        f"DELETE {place(bench)}",
        "GET /gemini/v1beta/models?llamakey=",
    ):
        assert refused(bench, line, key=None).status == 401
    assert refused(bench, "GET /gemini/v1beta/models", key=ticket).status == 401


@pytest.mark.parametrize("name", ["upload_id", "upload%5Fid", "$upload_id", "UPLOAD_ID"])
def test_an_upload_id_alone_is_nobodys(bench, name):
    """Somebody who has learned of another's id, and has a key."""
    bob = user(bench, "bob")
    place(bench)
    target = PLACE.replace("upload_id", name)
    for key in (bob, bench.key):
        got = refused(bench, f"POST /gemini{target}", key=key, body=b"x")
        assert got.status == 403 and b"upload_id" in got.body.lower()
    assert refused(bench, f"POST /gemini{target}", key=None, body=b"x").status == 401


def test_a_stream_is_followed_with_a_key_or_without(bench, monkeypatch):
    """By the SDK for Python, and by the one for Node."""
    place = "https://stream.replicate.com/v1/files/abc"
    told = ask(bench, "GET /replicate/v1/predictions/p1", {"urls": {"stream": place}})
    target = json.loads(told.body)["urls"]["stream"].removeprefix(HERE)
    assert target.startswith("/replicate/stream.replicate.com/v1/files/abc?llamakey=")
    for key in (None, bench.key):
        ask(bench, f"GET {target}", b"data: x\n\n", key=key, kind="text/event-stream")
        (sent,) = bench.sent()
        assert sent.target == "/v1/files/abc"
        assert bench.rim.wishes[-1][0].host == "stream.replicate.com"
    assert refused(bench, f"GET {target}", key=user(bench, "bob")).status == 401
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3700)
    assert refused(bench, f"GET {target}", key=None).status == 401
    assert ask(bench, f"GET {target}", b"", kind="text/event-stream").status == 200


def test_a_signed_conversation_is_held_through_us(tmp_path):
    line = "/v1/convai/conversation/get-signed-url"
    rules = [{"paths": ["**"]}, {"paths": [line]}]  # such a signature is only for whom it is named
    with make_bench(
        tmp_path,
        providers={"elevenlabs": {"key": "env:OPENAI_API_KEY"}},
        users={"alice": {"allow": rules}},
    ) as bench:
        place = "wss://api.elevenlabs.io/v1/convai/conversation?agent_id=a&conversation_signature=s"
        told = ask(bench, f"GET /elevenlabs{line}?agent_id=a", {"signed_url": place})
        address = json.loads(told.body)["signed_url"]
        assert address.startswith("ws://localhost:8000/elevenlabs/v1/convai/conversation?agent_id=")
        target = address.removeprefix("ws://localhost:8000")
        request(bench, f"GET {target}", *UPGRADE, key=None)
        bench.open()
        (sent,) = bench.sent()
        assert sent.target == place.removeprefix("wss://api.elevenlabs.io")
        assert sent.values("xi-api-key") == [REAL]


def test_a_ticket_ends_with_its_key_and_its_time(bench, monkeypatch):
    bob = user(bench, "bob")
    target = place(bench, bob)
    bench.store.revoke(bob)
    assert refused(bench, f"POST {target}", key=None, body=b"x").status == 401
    target, now = place(bench), time.time
    monkeypatch.setattr(time, "time", lambda: now() + 604_900)
    got = refused(bench, f"POST {target}", key=None, body=b"x")
    assert got.status == 401 and b"has ended" in got.body


def test_no_key_of_the_clients_comes_back_in_the_address(bench):
    target = place(bench, told=f"{PLACE}&key={REAL}")
    assert REAL not in target and "key=*" not in target
    assert ask(bench, f"POST {target}", {}, key=None, body=b"x").status == 200


def test_a_replay_needs_no_ticket(bench):
    """In a flow it is masked, and the flow says as whom it runs."""
    again = Ask(
        id="lmk_0",
        time_s=time.time(),
        peer="192.0.2.1",
        method="POST",
        target=f"/gemini{PLACE}&llamakey=sk-lmk-{bench.key.split('-')[2]}-...",
        headers=((b"Host", b"localhost:8000"),),
        body_length=1,
        as_key=bench.key.split("-")[2],
    )
    visit = bench.gate.arrive(again)
    assert (visit.route.target, visit.user.name) == (PLACE, "alice")


def test_no_ticket_is_in_the_log(bench):
    ask(bench, f"POST {place(bench)}", {}, key=None, body=b"x")
    refused(bench, f"POST {place(bench)}x", key=None, body=b"x")
    assert "-u" not in "".join(map(str, bench.receipts)).replace("-upload", "")
    assert "llamakey=" not in str(bench.receipts) + str(bench.log.notes)


@pytest.mark.parametrize("path", ["tokens/", "tokens", "tokens/realtime", "storage/auth/token"])
def test_credentials_of_the_account_are_not_handed_out(bench, path):
    assert refused(bench, f"POST /fal/rest.fal.ai/{path}").status == 403
