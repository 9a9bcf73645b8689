"""The seam for answers that are changed on their way."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace

import pytest

from llamakey_addon.errors import UpstreamFault
from llamakey_addon.filters import WholeFilter, chain_for, unconditional
from tests.roadside import Bench, make_bench


class Shout(WholeFilter):
    """Changes an answer as a whole."""

    def change(self, content: bytes) -> bytes:
        if b"!" in content:
            raise UpstreamFault("It shouts already.")
        return content.upper() + b"!"


class Without:
    """Takes a letter out of a stream."""

    whole = False
    changes = True

    def __init__(self) -> None:
        self.ended = False

    def feed(self, piece: bytes) -> bytes:
        return piece.replace(b"a", b"")

    def end(self) -> bytes:
        self.ended = True
        return b"."


class Reader(WholeFilter):
    """Reads an answer, and lets nothing out before."""

    changes = False

    def change(self, content: bytes) -> bytes:
        return content


class Breaking(Without):
    def feed(self, piece: bytes) -> bytes:
        raise RuntimeError("broken filter")


@pytest.fixture
def bench(tmp_path):
    with make_bench(tmp_path) as bench:
        yield bench


def filtered(bench: Bench, *filters, statuses=(200,)) -> None:
    """Every grant of this bench has these filters."""
    depart = bench.gate.depart

    def granting(visit, body, **more):
        makers = tuple(
            lambda status, headers, each=each: each if status in statuses else None
            for each in filters
        )
        return replace(depart(visit, body, **more), filters=makers)

    bench.gate.depart = granting  # type: ignore[method-assign]


def ask(bench: Bench, line: str = "GET /openai/v1/models", *headers: str) -> None:
    bench.client(bench.head(line, *headers))
    bench.open()


WHOLE = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Type: text/plain\r\nETag: "x"\r\n'
    b"Content-MD5: abc\r\nX-Kept: yes\r\n\r\n"
)


def test_a_whole_filter_gives_the_answer_its_new_length(bench):
    filtered(bench, Shout(1000))
    ask(bench)
    bench.answer(WHOLE, b"a banana ")
    (got,) = bench.got()
    assert (got.status, got.body, got.whole) == (200, b"A BANANA !", True)
    assert got.header("content-length") == "10"
    assert got.header("etag") == got.header("content-md5") == ""
    assert got.header("x-kept") == "yes"
    assert bench.only_receipt().end == "complete"


def test_nothing_goes_out_before_a_whole_answer_is_there(bench):
    filtered(bench, Shout(1000))
    ask(bench)
    bench.answer(WHOLE, b"a ban")
    assert bench.rim.out == b""


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ((b"banana!!!",), "It shouts already"),
        ((b"ban",), "closed the connection within its answer"),
    ],
)
def test_a_whole_answer_that_cannot_be_read_is_a_denial(bench, pieces, words):
    filtered(bench, Shout(1000))
    ask(bench)
    bench.answer(WHOLE, *pieces)
    if bench.links[-1].state == "lent":
        bench.end_link(orderly=False)
    (got,) = bench.got()
    assert got.status == 502 and words in json.loads(got.body)["error"]["message"]
    assert bench.links[-1].state == "dropped"
    assert bench.only_receipt().denied == "upstream_unreachable"


def test_a_whole_answer_beyond_the_bound_is_a_denial(bench):
    filtered(bench, Shout(5))
    ask(bench)
    bench.answer(WHOLE, b"a ban")
    assert bench.rim.out == b""
    bench.answer(b"a")
    (got,) = bench.got()
    assert got.status == 502 and b"limits.json_body_bytes" in got.body


def test_a_whole_answer_that_does_not_come_is_a_timeout(bench):
    filtered(bench, Shout(1000))
    ask(bench)
    bench.answer(WHOLE, b"a ban")
    bench.wait(bench.gate.limits.answer_timeout_s + 1)
    (got,) = bench.got()
    assert got.status == 504


def test_a_stream_is_changed_as_it_passes(bench):
    one = Without()
    filtered(bench, one)
    ask(bench)
    bench.answer(WHOLE)
    assert bench.rim.out.startswith(b"HTTP/1.1 200 OK")
    bench.answer(b"banan")
    assert bench.rim.out.endswith(b"3\r\nbnn\r\n")
    bench.answer(b"as!!")
    (got,) = bench.got()
    assert (got.body, got.whole, got.header("content-length")) == (b"bnns!!.", True, "")
    assert got.header("transfer-encoding") == "chunked"
    assert got.header("etag") == "" and one.ended


def test_filters_stand_one_behind_the_other(bench):
    filtered(bench, Without(), Shout(1000))
    ask(bench)
    bench.answer(WHOLE, b"banana? a")
    (got,) = bench.got()
    assert got.body == b"BNN? .!"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_coding_that_came_unasked_is_undone(bench, coding):
    filtered(bench, Without())
    ask(bench, "GET /openai/v1/models", "Accept-Encoding: gzip")
    packed = gzip.compress(b"banana") if coding == "gzip" else zlib.compress(b"banana")
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(packed)}\r\nContent-Encoding: {coding}\r\n\r\n"
    bench.answer(head.encode(), packed[:5], packed[5:])
    (got,) = bench.got()
    assert (got.body, got.header("content-encoding")) == (b"bnn.", "")


def test_a_damaged_coding_is_a_denial_or_a_cut(bench):
    filtered(bench, Without())
    ask(bench)
    bench.answer(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\n", b"no gzip!!"
    )
    assert bench.rim.closed() and not bench.got()[0].whole


def test_chunks_in_are_chunks_out_without_the_trailers(bench):
    filtered(bench, Without())
    ask(bench)
    bench.answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nban\r\n",
        b"0\r\nContent-Digest: x\r\n\r\n",
    )
    (got,) = bench.got()
    assert (got.body, got.trailers, got.whole) == (b"bn.", [], True)


def test_an_old_client_gets_the_length_or_the_end(bench):
    filtered(bench, Without())
    ask(bench, "GET /openai/v1/models HTTP/1.0")
    bench.answer(WHOLE, b"bananas!!")
    (got,) = bench.got()
    assert (got.body, got.whole) == (b"bnns!!.", True)
    assert bench.rim.closed() and got.header("transfer-encoding") == ""


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nETag: x\r\n\r\n", ""),
        ("GET", b"HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n", ""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", ""),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: x\r\n\r\n", "0"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_answers_without_a_body(bench, method, answer, length, whole):
    filtered(bench, Shout(1000) if whole else Without(), statuses=(200, 204, 304))
    ask(bench, f"{method} /openai/v1/models")
    bench.answer(answer)
    (got,) = bench.got(method)
    assert (got.body, got.whole, got.header("etag")) == (b"", True, "")
    assert got.header("content-length") == length
    assert bench.links[-1].state == "given back"


def test_other_answers_pass_as_they_are(bench):
    filtered(bench, Shout(1000))
    ask(bench)
    bench.answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nETag: x\r\n\r\nno")
    (got,) = bench.got()
    assert (got.status, got.body, got.header("etag")) == (404, b"no", "x")


def test_a_filter_that_fails_cuts_the_answer(bench):
    filtered(bench, Breaking())
    ask(bench)
    bench.answer(WHOLE, b"bananas!!")
    assert bench.rim.closed() and not bench.got()[0].whole
    assert b"bananas" not in bench.rim.out
    assert bench.links[-1].state == "dropped"


@pytest.mark.parametrize(
    "framed",
    [
        b"content-length: 6\r\n\r\nbanana",
        b"Transfer-Encoding: chunked\r\n\r\n6\r\nbanana\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"Content-Length: 0\r\n\r\n",
    ],
)
def test_what_is_only_read_stays_as_it_is(bench, framed):
    filtered(bench, Reader(1000))
    ask(bench)
    answer = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nDigest: y\r\n' + framed
    bench.answer(answer[:-4])
    if b"banana" in framed:
        assert bench.rim.out == b""
    bench.answer(answer[-4:])
    (got,) = bench.got()
    assert got.whole and got.body == (b"banana" if b"banana" in framed else b"")
    assert (got.header("etag"), got.header("digest")) == ('"x"', "y")
    assert (got.header("content-length") == "") is (b"chunked" in framed)
    assert (got.trailers != []) is (b"X-Sum" in framed)
    assert bench.links[-1].state == "given back"


def test_the_next_request_is_served_after_a_filtered_one(bench):
    filtered(bench, Shout(1000))
    bench.client(bench.head("GET /openai/v1/models") * 2)
    bench.open()
    bench.answer(WHOLE, b"a banana ")
    bench.open(reused=True)
    bench.answer(WHOLE, b"a banana?")
    assert [got.status for got in bench.got("GET", "GET")] == [200, 200]


def test_upstream_is_asked_for_a_whole_plain_answer():
    headers = ((b"Accept-Encoding", b"gzip"), (b"If-None-Match", b"x"), (b"Range", b"bytes=0-1"))
    assert unconditional(((b"Host", b"a"), *headers)) == (
        (b"Host", b"a"),
        (b"Accept-Encoding", b"identity"),
    )


def test_a_coding_that_nobody_can_read_is_a_fault():
    with pytest.raises(UpstreamFault):
        chain_for((lambda status, headers: Without(),), 200, ((b"Content-Encoding", b"br"),))
