"""What one user made under the account is not there for others."""

from __future__ import annotations

import gzip
import json

import pytest

from llamakey_addon.keys import mint
from tests.isolation.people import People, make_people

FILE, THEIRS, NOBODYS = "file-mine0001", "file-theirs01", "file-nobody01"
RESPONSE = "resp_0123456789abcdef"


@pytest.fixture
def people(tmp_path):
    made = make_people(tmp_path, "bob", "carol", "dave", "erin", "frank")
    with made.bench:
        yield made


def upload(people: People, who: str, id: str, provider: str = "openai") -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    got = people.ask(
        who,
        f"POST /{provider}/v1/files",
        form,
        {"object": "file", "id": id},
        "Content-Type: multipart/form-data; boundary=b",
    )
    assert got.status == 200 and id.encode() in got.body


# --- what there is for whom -----------------------------------------------------------------------


def test_a_file_is_its_makers_alone(people):
    upload(people, "alice", FILE)
    for line in (
        f"GET /openai/v1/files/{FILE}",
        f"GET /openai/v1/files/{FILE}/content",
        f"HEAD /openai/v1/files/{FILE}",
        f"DELETE /openai/v1/files/{FILE}",
    ):
        if not line.startswith("DELETE"):
            assert people.may("alice", line)
        assert not people.may("bob", line)
    assert people.may("alice", f"DELETE /openai/v1/files/{FILE}")


def test_what_is_anothers_and_what_is_nobodys_are_told_alike(people):
    upload(people, "alice", FILE)
    told = []
    for id in (FILE, NOBODYS):
        got = people.ask("bob", f"GET /openai/v1/files/{id}")
        assert got.status == 404
        message = json.loads(got.body)["error"]["message"]
        told.append(message.replace(id, "ID").partition("(LlamaKey request")[0])
    assert told[0] == told[1] and "bob has no file ID" in told[0]


def test_a_team_that_shares_sees_what_is_its_members(people):
    upload(people, "carol", FILE)
    upload(people, "erin", THEIRS)
    assert people.may("dave", f"GET /openai/v1/files/{FILE}")
    assert not people.may("alice", f"GET /openai/v1/files/{FILE}")
    assert not people.may("frank", f"GET /openai/v1/files/{THEIRS}")
    assert not people.may("dave", f"GET /openai/v1/files/{THEIRS}")


def test_a_user_may_share_with_others(tmp_path):
    with make_people(tmp_path, "erin", "frank", "grace", "heidi").bench as bench:
        people = People(bench, {"alice": bench.key})
        for name in ("erin", "frank", "grace", "heidi"):
            minted = mint()
            bench.store.add_key(f"{name}-again", name, minted)
            people.keys[name] = minted.text
        upload(people, "grace", FILE)
        assert people.may("frank", f"GET /openai/v1/files/{FILE}")
        assert not people.may("erin", f"GET /openai/v1/files/{FILE}")
        upload(people, "frank", NOBODYS)
        assert not people.may("grace", f"GET /openai/v1/files/{NOBODYS}"), "one way alone"
        upload(people, "heidi", THEIRS)
        assert people.may("alice", f"GET /openai/v1/files/{THEIRS}")
        page = {"data": [{"id": THEIRS}, {"id": FILE}, {"id": NOBODYS}]}
        shown = people.shown("frank", "GET /openai/v1/files", page)["data"]
        assert [one["id"] for one in shown] == [THEIRS, FILE, NOBODYS]
        assert people.shown("erin", "GET /openai/v1/files", page)["data"] == [{"id": THEIRS}]


def test_all_keys_of_a_user_see_the_users_own(people):
    upload(people, "alice", FILE)
    minted = mint()
    people.bench.store.add_key("alice-ci", "Alice", minted)
    people.keys["alice-ci"] = minted.text
    assert people.may("alice-ci", f"GET /openai/v1/files/{FILE}")


def test_a_list_shows_ones_own(people):
    upload(people, "alice", FILE)
    upload(people, "bob", THEIRS)
    page = {
        "data": [{"id": THEIRS}, {"id": FILE}, {"id": NOBODYS}],
        "first_id": THEIRS,
        "last_id": NOBODYS,
        "has_more": False,
    }
    mine = people.shown("alice", "GET /openai/v1/files", page)
    assert mine["data"] == [{"id": FILE}]
    assert mine["first_id"] == mine["last_id"] == FILE
    assert people.shown("bob", "GET /openai/v1/files?limit=3", page)["data"] == [{"id": THEIRS}]
    assert people.shown("erin", "GET /openai/v1/files", page)["data"] == []


def test_other_providers_have_other_things_of_the_same_name(people):
    upload(people, "alice", FILE)
    upload(people, "bob", FILE, "groq/openai")
    assert people.may("bob", f"GET /groq/openai/v1/files/{FILE}")
    assert not people.may("alice", f"GET /groq/openai/v1/files/{FILE}")
    assert people.may("alice", f"GET /openai/v1/files/{FILE}")


def test_what_was_deleted_may_be_made_anew_by_another(people):
    upload(people, "alice", FILE)
    got = people.ask("alice", f"DELETE /openai/v1/files/{FILE}", None, {"deleted": True})
    assert got.status == 200
    upload(people, "bob", FILE)
    assert people.may("bob", f"GET /openai/v1/files/{FILE}")
    assert not people.may("alice", f"GET /openai/v1/files/{FILE}")


def test_a_failed_deletion_changes_nothing(people):
    upload(people, "alice", FILE)
    line = f"DELETE /openai/v1/files/{FILE}"
    people.ask("alice", line, None, {"error": 1}, status="500 Oops")
    assert people.may("alice", f"GET /openai/v1/files/{FILE}")


def test_a_failed_creation_makes_nothing_anybodys(people):
    people.ask("alice", "POST /openai/v1/batches", {}, {"id": "batch_1234"}, status="400 Bad")
    assert not people.may("alice", "GET /openai/v1/batches/batch_1234")


def test_an_answer_that_tells_of_anothers_is_not_passed_on(people):
    """A repeated Idempotency-Key, say."""
    upload(people, "alice", FILE)
    got = people.ask(
        "bob",
        "POST /openai/v1/files",
        b"--b--\r\n",
        {"id": FILE, "filename": "secret"},
        "Content-Type: multipart/form-data; boundary=b",
        "Idempotency-Key: alices",
    )
    assert got.status == 404 and b"secret" not in got.body
    assert people.may("alice", f"GET /openai/v1/files/{FILE}")


# --- how ids are smuggled -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"input_file_id": THEIRS},
        {"file_ids": [FILE, THEIRS]},
        {"tools": [{"file_ids": [[THEIRS]]}]},
        {"input": [{"content": [{"type": "input_file", "file_id": THEIRS}]}]},
        {"anything": {"else": THEIRS}},
        {THEIRS: 1},
        {"input_file_id": f" {THEIRS}\n"},
        {"input_file_id": f"https://api.openai.com/v1/files/{THEIRS}/content"},
        f'{{"file_id": "{FILE}", "file_id": "{THEIRS}"}}'.encode(),
        f'{{"file_id": "{THEIRS}", "file_id": "{FILE}"}}'.encode(),
        b'{"file_id": "file-\\u0074heirs01"}',
        b'{"file_\\u0069d": "file-theirs01"}',
        f'{{"FILE_ID": "{THEIRS}"}}'.encode(),
        f'{{"File_Id": " {THEIRS} "}}'.encode(),
        # nobody's, where an id must stand
        {"input_file_id": NOBODYS},
        {"training_file": NOBODYS},
        # what can't be read
        b'{"input_file_id": ',
        f'{{"input_file_id": "{FILE}"}}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
    ],
)
def test_bodies_that_name_what_is_not_ones_own_are_refused(people, body):
    upload(people, "alice", FILE)
    upload(people, "bob", THEIRS)
    assert not people.may("alice", "POST /openai/v1/batches", body)
    assert not people.may("alice", "POST /openai/v1/brand/new", body)


@pytest.mark.parametrize(
    "body",
    [
        {"input_file_id": FILE},
        {"file_ids": [FILE], "file_id": FILE},
        {"input": f"What is {THEIRS}? It is not mine."},
        {"input": "file-upload-handler", "name": NOBODYS},
        {"metadata": {"input_file_id": ""}},
    ],
)
def test_bodies_that_name_ones_own_pass(people, body):
    upload(people, "alice", FILE)
    upload(people, "bob", THEIRS)
    assert people.may("alice", "POST /openai/v1/batches", body)


@pytest.mark.parametrize(
    "target",
    [
        f"/openai/v1/files/{THEIRS}",
        f"/openai/files/{THEIRS}",
        f"/openai/v1/v1/files/{THEIRS}",
        f"/openai/v1/FILES/{THEIRS}",
        f"/openai/v1/files/{THEIRS}/",
        f"/openai/v1/files/{THEIRS}%20",
        "/openai/v1/files/%66ile-theirs01",
        f"/openai/v1/files/{FILE},{THEIRS}",
        f"/openai/v1/vector_stores/x/files/{THEIRS}",
        f"/openai/v1/brand/new/{THEIRS}",
        f"/openai/v1/files?after={THEIRS}",
        f"/openai/v1/files?file_id={NOBODYS}",
        f"/openai/v1/files?file_ids[]={THEIRS}",
        f"/openai/v1/files?file_id={FILE}&file_id={THEIRS}",
        "/openai/v1/files?file_%69d=%66ile-theirs01",
        f"/openai/v1/files/{NOBODYS}",
        "/openai/v1/files/anything",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_targets_that_name_what_is_not_ones_own_are_refused(people, target, method):
    upload(people, "alice", FILE)
    upload(people, "bob", THEIRS)
    assert not people.may("alice", f"{method} {target}")


def test_a_packed_body_is_looked_through(people):
    upload(people, "bob", THEIRS)
    body = gzip.compress(json.dumps({"input_file_id": THEIRS}).encode())
    assert not people.may("alice", "POST /openai/v1/batches", body, "Content-Encoding: gzip")
    assert not people.may("alice", "POST /openai/v1/batches", body, "Content-Encoding: br")


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "audio/mpeg"])
def test_a_body_is_looked_through_whatever_it_says_it_is(people, kind):
    upload(people, "bob", THEIRS)
    body = {"input_file_id": THEIRS}
    assert not people.may("alice", "POST /openai/v1/batches", body, f"Content-Type: {kind}")


def test_forms_are_looked_through(people):
    upload(people, "bob", THEIRS)
    boundary = "Content-Type: multipart/form-data; boundary=b"
    form = f'--b\r\nContent-Disposition: form-data; name="file_id"\r\n\r\n{THEIRS}\r\n--b--\r\n'
    line = "POST /openai/v1/containers/x/files"
    assert not people.may("alice", line, form.encode(), boundary)
    urlencoded = f"file_id={THEIRS}".encode()
    assert not people.may("alice", "POST /openai/v1/batches", urlencoded)


# --- kinds of providers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "answer", "use", "body"),
    [
        (
            "POST /openai/v1/batches",
            {"id": "batch_1234"},
            "GET /openai/v1/batches/batch_1234",
            None,
        ),
        (
            "POST /openai/v1/fine_tuning/jobs",
            {"id": "ftjob-1234"},
            "POST /openai/v1/fine_tuning/jobs/ftjob-1234/cancel",
            {},
        ),
        (
            "POST /openai/v1/responses",
            {"id": RESPONSE},
            f"GET /openai/v1/responses/{RESPONSE}",
            None,
        ),
        (
            "POST /openai/v1/responses",
            {"id": RESPONSE},
            "POST /openai/v1/responses",
            {"model": "m", "previous_response_id": RESPONSE},
        ),
        (
            "POST /openai/v1/conversations",
            {"id": "conv_12345678"},
            "POST /openai/v1/responses",
            {"model": "m", "conversation": {"id": "conv_12345678"}},
        ),
        (
            "POST /openai/v1/vector_stores",
            {"id": "vs_12345678"},
            "POST /openai/v1/responses",
            {"model": "m", "tools": [{"vector_store_ids": ["vs_12345678"]}]},
        ),
        (
            "POST /openai/v1/containers",
            {"id": "cntr_12345678"},
            "GET /openai/v1/containers/cntr_12345678/files",
            None,
        ),
        (
            "POST /openai/v1/threads/runs",
            {"id": "run_1", "thread_id": "thread_12345678"},
            "GET /openai/v1/threads/thread_12345678/messages",
            None,
        ),
        (
            "POST /openai/v1/videos",
            {"id": "video_12345678"},
            "GET /openai/v1/videos/video_12345678",
            None,
        ),
        (
            "POST /anthropic/v1/messages/batches",
            {"id": "msgbatch_12345678"},
            "GET /anthropic/v1/messages/batches/msgbatch_12345678/results",
            None,
        ),
        (
            "POST /anthropic/v1/files",
            {"id": "file_12345678"},
            "POST /anthropic/v1/messages",
            {"model": "m", "messages": [{"source": {"type": "file", "file_id": "file_12345678"}}]},
        ),
        (
            "POST /gemini/upload/v1beta/files",
            {"file": {"name": "files/abc-1"}},
            "GET /gemini/v1beta/files/abc-1:download?alt=media",
            None,
        ),
        (
            "POST /gemini/upload/v1beta/files",
            {"file": {"name": "files/abc-1"}},
            "POST /gemini/v1beta/models/m:generateContent",
            {
                "contents": [
                    {
                        "parts": [
                            {"fileData": {"fileUri": "https://x.googleapis.com/v1beta/files/abc-1"}}
                        ]
                    }
                ]
            },
        ),
        (
            "POST /gemini/v1beta/cachedContents",
            {"name": "cachedContents/c1"},
            "POST /gemini/v1beta/models/m:generateContent",
            {"cachedContent": "cachedContents/c1"},
        ),
        ("POST /cohere/v1/datasets", {"id": "set-1"}, "GET /cohere/v1/datasets/set-1", None),
        (
            "POST /cohere/v1/datasets",
            {"id": "set-1"},
            "POST /cohere/v1/embed-jobs",
            {"dataset_id": "set-1"},
        ),
        (
            "POST /mistral/v1/agents",
            {"id": "ag_1"},
            "POST /mistral/v1/agents/completions",
            {"agent_id": "ag_1"},
        ),
        (
            "POST /mistral/v1/conversations",
            {"conversation_id": "c_1"},
            "POST /mistral/v1/conversations/c_1",
            {"inputs": "x"},
        ),
        (
            "POST /replicate/v1/models/o/m/predictions",
            {"id": "p1"},
            "POST /replicate/v1/predictions/p1/cancel",
            None,
        ),
        ("POST /together/v1/files/upload", {"id": "f1"}, "GET /together/v1/files/f1/content", None),
        (
            "POST /together/v1/fine-tunes",
            {"id": "ft1"},
            "GET /together/v1/finetune/download?ft_id=ft1",
            None,
        ),
    ],
)
def test_kinds(people, make, answer, use, body):
    assert not people.may("alice", use, body)
    assert people.ask("alice", make, {"model": "m"}, answer).status == 200
    assert people.may("alice", use, body)
    assert not people.may("bob", use, body)


@pytest.mark.parametrize(
    ("line", "make", "made", "page"),
    [
        (
            "/anthropic/v1/messages/batches",
            "POST /anthropic/v1/messages/batches",
            lambda id: {"id": f"msgbatch_{id}0000000"},
            lambda items: {"data": items, "has_more": False},
        ),
        (
            "/gemini/v1beta/files",
            "POST /gemini/upload/v1beta/files",
            lambda id: {"file": {"name": f"files/{id}"}},
            lambda items: {"files": [item["file"] for item in items], "nextPageToken": "t"},
        ),
        (
            "/replicate/v1/predictions",
            "POST /replicate/v1/predictions",
            lambda id: {"id": id},
            lambda items: {"results": items, "next": None},
        ),
        (
            "/cohere/v1/embed-jobs",
            "POST /cohere/v1/embed-jobs",
            lambda id: {"job_id": id},
            lambda items: {"embed_jobs": items},
        ),
        (
            "/mistral/v1/agents",
            "POST /mistral/v1/agents",
            lambda id: {"id": id},
            lambda items: items,
        ),
    ],
)
def test_lists(people, line, make, made, page):
    people.ask("alice", make, {"model": "m"}, made("a"))
    people.ask("bob", make, {"model": "m"}, made("b"))
    whole = page([made("a"), made("b"), made("c")])
    assert people.shown("alice", f"GET {line}", whole) == page([made("a")])
    assert people.shown("bob", f"GET {line}", whole) == page([made("b")])


def test_skills_of_the_providers_own_are_everybodys(people):
    page = {"data": [{"id": "pptx"}, {"id": "skill_12345678"}]}
    assert people.shown("alice", "GET /anthropic/v1/skills", page)["data"] == [{"id": "pptx"}]
    assert people.may("alice", "GET /anthropic/v1/skills/pptx")


# --- answers that are kept ------------------------------------------------------------------------


def test_a_streamed_response_has_its_owner_before_the_client_knows_it(people):
    bench = people.bench
    body = json.dumps({"model": "m", "stream": True}).encode()
    bench.client(bench.head("POST /openai/v1/responses", body=body))
    bench.open()
    bench.answer(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    event = f'data: {{"type":"response.created","response":{{"id":"{RESPONSE}"}}}}\n\n'.encode()
    first, second = event[:60], event[60:]
    bench.answer(b"%x\r\n%b\r\n" % (len(first), first))
    assert RESPONSE[:6].encode() not in bench.rim.out
    bench.answer(b"%x\r\n%b\r\n" % (len(second), second))
    assert RESPONSE.encode() in bench.rim.out
    assert bench.store.owners.find("openai", "response", [RESPONSE])[RESPONSE].user == "alice"
    more = b'data: {"type":"response.completed"}\n\n'
    bench.answer(b"%x\r\n%b\r\n0\r\n\r\n" % (len(more), more))
    (got,) = bench.got("POST")
    assert got.whole and got.body == event + more
    assert not people.may("bob", f"GET /openai/v1/responses/{RESPONSE}")


@pytest.mark.parametrize(
    ("line", "body", "kept"),
    [
        ("POST /openai/v1/responses", {"model": "m"}, True),
        ("POST /openai/v1/responses", {"model": "m", "store": True}, True),
        ("POST /openai/v1/responses", {"model": "m", "store": False}, False),
        ("POST /openai/v1/chat/completions", {"model": "m"}, False),
        ("POST /openai/v1/chat/completions", {"model": "m", "store": True}, True),
        ("POST /openai/v1/chat/completions", b'{"model":"m","store":false,"store":true}', True),
    ],
)
def test_answers_are_noted_where_the_provider_keeps_them(people, line, body, kept):
    id = RESPONSE if "responses" in line else "chatcmpl-12345678"
    got = people.ask("alice", line, body, {"id": id})
    assert got.status == 200
    kind = "response" if "responses" in line else "chat"
    assert bool(people.bench.store.owners.find("openai", kind, [id])) is kept
    # nothing else is touched where nothing is kept
    asked = people.bench.sent()[0].values("accept-encoding")
    assert asked == ["identity"]


def test_what_the_provider_made_for_ones_own_is_ones_own(people):
    people.ask("alice", "POST /openai/v1/batches", {}, {"id": "batch_1234"})
    done = {"id": "batch_1234", "output_file_id": "file-out00001", "metadata": {"x": NOBODYS}}
    assert people.ask("alice", "GET /openai/v1/batches/batch_1234", None, done).status == 200
    assert people.may("alice", "GET /openai/v1/files/file-out00001/content")
    assert not people.may("bob", "GET /openai/v1/files/file-out00001/content")
    assert not people.may("alice", f"GET /openai/v1/files/{NOBODYS}")


def test_what_came_along_and_is_anothers_stays_so(people):
    upload(people, "bob", THEIRS)
    people.ask("alice", "POST /openai/v1/batches", {}, {"id": "batch_1", "output_file_id": THEIRS})
    assert not people.may("alice", f"GET /openai/v1/files/{THEIRS}")


# --- who is alone, and what is nobody's -----------------------------------------------------------


def test_a_user_who_is_alone_is_not_bothered(tmp_path):
    made = make_people(tmp_path)
    with made.bench:
        assert made.may("alice", f"GET /openai/v1/files/{NOBODYS}")
        page = {"data": [{"id": NOBODYS}]}
        assert made.shown("alice", "GET /openai/v1/files", page) == page
        upload(made, "alice", FILE)
        # what was made meanwhile is known when somebody else comes
        minted = mint()
        made.bench.store.add_key("bob", "bob", minted)
        made.keys["bob"] = minted.text
        assert made.may("alice", f"GET /openai/v1/files/{FILE}")
        assert not made.may("bob", f"GET /openai/v1/files/{FILE}")
        assert not made.may("alice", f"GET /openai/v1/files/{NOBODYS}")
        # and is alone again when the other's keys have ended
        made.bench.store.revoke("bob")
        assert made.may("alice", f"GET /openai/v1/files/{NOBODYS}")


def test_what_is_nobodys_may_be_allowed(tmp_path):
    made = make_people(tmp_path, "bob", isolation={"unowned": "allow"})
    with made.bench:
        upload(made, "bob", THEIRS)
        assert made.may("alice", f"GET /openai/v1/files/{NOBODYS}")
        assert made.may("alice", "POST /openai/v1/batches", {"input_file_id": NOBODYS})
        assert not made.may("alice", f"GET /openai/v1/files/{THEIRS}")
        page = {"data": [{"id": NOBODYS}, {"id": THEIRS}]}
        assert made.shown("alice", "GET /openai/v1/files", page)["data"] == [{"id": NOBODYS}]


def test_nothing_passes_while_owners_cannot_be_looked_up(people):
    upload(people, "alice", FILE)
    people.bench.store.owners._connection.execute("DROP TABLE owned")
    got = people.ask("alice", f"GET /openai/v1/files/{FILE}")
    assert got.status == 503
    got = people.ask("alice", "POST /openai/v1/batches", {}, {"id": "batch_1234"})
    assert got.status == 503 and b"batch_1234" not in got.body


def test_other_requests_keep_their_bytes(people):
    """Chats are not buffered, and their coding is the client's."""
    bench = people.bench
    body = json.dumps({"model": "m"}).encode()
    bench.client(bench.head("POST /openai/v1/chat/completions", "Accept-Encoding: gzip", body=body))
    bench.open()
    assert bench.sent()[0].values("accept-encoding") == ["gzip"]
    bench.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    assert bench.rim.out.endswith(b"12345")


# --- files stream ---------------------------------------------------------------------------------


def begin(people: People, target: str, start: bytes, *headers: str, length: int = 5000) -> bool:
    """Whether the beginning of a body goes to the provider at once."""
    bench = people.bench
    bench.grant_at_once(1)
    line = f"POST {target}"
    bench.client(bench.head(line, f"Content-Length: {length}", *headers), start)
    return any(link.written for link in bench.links)


@pytest.mark.parametrize(
    "start",
    [b"ID3\x04", b"--b\r\n", b"  \n\x89PNG", b"\0" * 8, b"\0\0\0\x18ftyp", b"<xml>", b"%PDF"],
)
def test_a_file_streams(people, start):
    assert begin(people, "/openai/v1/brand/new", start)


def test_a_file_longer_than_is_read_streams(tmp_path):
    made = make_people(tmp_path, "bob", limits={"json_body_bytes": 1024})
    with made.bench:
        assert begin(made, "/openai/v1/brand/new", b"ID3", length=100_000)


@pytest.mark.parametrize(
    ("start", "headers"),
    [
        (b"", ()),
        (b" \r\n\t ", ()),
        (b'{"a"', ()),
        (b'  ["', ()),
        (b"\xff\xfe{\0", ()),
        (b"\0{", ()),
        (b"\0\0\0 \0\0\0[", ()),
        (b"\xef\xbb\xbf{", ()),
        (b"\x1f\x8b\x08", ("Content-Encoding: gzip",)),
        (b"file_id=", ("Content-Type: application/x-www-form-urlencoded",)),
        (b"--b\r\n", ("Content-Type: multipart/form-data; boundary=b",)),
    ],
)
def test_what_may_name_something_is_waited_for(people, start, headers):
    assert not begin(people, "/openai/v1/brand/new", start, *headers)
    assert people.bench.upstream_untouched


def test_json_longer_than_is_read_is_refused_at_its_bound(tmp_path):
    made = make_people(tmp_path, "bob", limits={"json_body_bytes": 1024})
    with made.bench:
        assert not begin(made, "/openai/v1/brand/new", b'{"x": "' + b"y" * 2000, length=100_000)
        (got,) = made.bench.got("POST")
        assert got.status == 403 and b"limits.json_body_bytes" in got.body
