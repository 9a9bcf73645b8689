"""Whose things are whose, where many users share one account of the provider's.

Files, batches, stored answers and the like belong to the user who made them through this proxy; to
others they are not there. Which kinds a provider has, and where their ids stand, is data of its
catalogue entry (`owned`). A request is looked through for ids: its path in every reading, its
query, its body. Answers that list are filtered, and those that tell of something new are noted
before the client has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from llamakey_addon import documents, forms
from llamakey_addon.errors import BadRequest, Forbidden
from llamakey_addon.filters import Filter, MakeFilter
from llamakey_addon.isolation import answers
from llamakey_addon.isolation.kinds import Kind, Kinds, Mention, kinds_of
from llamakey_addon.isolation.sharing import Sharing
from llamakey_addon.isolation.whose import Whose
from llamakey_addon.journey import Body, Headers, Visit
from llamakey_addon.readings import readings

__all__ = [
    "Sharing",
    "Terms",
    "Whose",
    "answer_filters",
    "judge",
    "judge_message",
    "may_peek",
    "terms",
    "wants_body",
]

_WRITING = ("POST", "PUT", "PATCH", "DELETE", "QUERY")
_OTHER_ENCODINGS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

type _MakeFor = Callable[[Whose], MakeFilter]


@dataclass(frozen=True, slots=True)
class _Telling:
    """An answer that tells of somebody's things, and what reads or prunes it."""

    make: _MakeFor
    kept: Kind | None = None
    """It tells of something new only if the provider keeps what it makes; None: in any case."""
    shared: bool = False
    """It matters only where the account is shared."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What of judging a request, and of reading its answer, follows from its head alone."""

    kinds: Kinds
    named: tuple[Mention, ...] | None
    """What its path and query name; None where the path can be read in too many ways."""
    reads: bool
    """Whether its body may name anything."""
    peeks: bool
    """Whether the body's first bytes tell that it names nothing."""
    is_form: bool
    tellings: tuple[_Telling, ...]


def terms(visit: Visit, *, limit_bytes: int) -> Terms:
    """What follows from the head of a request.

    Arguments:
        limit_bytes: up to which an answer is read as a whole.
    """
    kinds = kinds_of(visit.route.provider.entry)
    headers = visit.ask.headers
    return Terms(
        kinds=kinds,
        named=_in_head(visit, kinds) if kinds.all else (),
        reads=wants_body(visit, active=True),
        peeks=may_peek(visit),
        is_form=forms.is_form(headers),
        tellings=tuple(_tellings(visit, kinds, limit_bytes)) if kinds.all else (),
    )


def wants_body(visit: Visit, *, active: bool) -> bool:
    """Whether the body is needed to see which ids it names."""
    endpoint, entry = visit.route.endpoint, visit.route.provider.entry
    return (
        active
        and bool(entry.owned)
        and visit.ask.body_length != 0
        and visit.ask.method in _WRITING
        and not (endpoint is not None and endpoint.raw)
        and not _is_upload(visit)
    )


def may_peek(visit: Visit) -> bool:
    """Whether the first bytes of a wanted body tell if it can name anything: nothing else does
    where it is packed, or says that it is a form."""
    return not forms.is_form(visit.ask.headers) and not any(
        name.lower() == b"content-encoding"
        or (name.lower() == b"content-type" and b"urlencoded" in value.lower())
        for name, value in visit.ask.headers
    )


def judge(
    visit: Visit,
    body: Body,
    whose: Whose,
    terms: Terms,
    *,
    document: documents.Object | None = None,
    json_body_bytes: int = 33554432,
) -> None:
    """Let a request pass that names only what its user may see.

    Arguments:
        document: the body of one that comes plainly, where that was read.

    Raises:
        Absent: it names something else.
        BadRequest, Forbidden: what it names cannot be known.
    """
    if not whose.active or not terms.kinds.all:
        return
    if terms.named is None:
        raise BadRequest("The path can be read in too many ways. Write it plainly.")
    for mention in terms.named:
        whose.check(mention)
    if not terms.reads:
        return
    content = body.content
    if document is not None and not terms.is_form:
        mentions = terms.kinds.in_document(document)
    elif content is not None:
        mentions = list(_in_body(visit, content, terms, json_body_bytes))
    else:
        if terms.peeks and body.start and not documents.may_be_json(body.start):
            return  # a file
        raise Forbidden(
            "The body is longer than is read before a request is judged, and may name what "
            "others made. Send a shorter one.",
            setting="limits.json_body_bytes",
        )
    for mention in mentions:
        whose.check(mention)


def judge_message(visit: Visit, content: bytes, whose: Whose) -> None:
    """The same for a message of a client's WebSocket, as far as others' things are concerned."""
    kinds = kinds_of(visit.route.provider.entry)
    if not whose.active or not kinds.all:
        return
    for mention in kinds.in_document(documents.read(content)):
        whose.check(Mention(mention.kind, mention.id, False))


def answer_filters(
    visit: Visit,
    body: Body,
    whose: Whose,
    terms: Terms,
    *,
    document: documents.Object | None = None,
) -> tuple[MakeFilter, ...]:
    """What reads, or prunes, the answer; `document` as for `judge`."""
    makers: tuple[MakeFilter, ...] = ()
    for telling in terms.tellings:
        if telling.shared and not whose.active:
            continue
        if telling.kept is None or _is_kept(telling.kept, visit, body, document):
            makers += (telling.make(whose),)
    return makers


def _tellings(visit: Visit, kinds: Kinds, limit_bytes: int) -> Iterator[_Telling]:
    method = visit.ask.method
    endpoint = visit.route.endpoint
    if (found := kinds.what(visit.route.named_path, method)) is not None:
        kind, what, id = found
        if what == "list":
            if kind.owned.listed:
                yield _Telling(partial(_for_list, kind, kinds, limit_bytes), shared=True)
        elif what == "make":
            yield _Telling(partial(_for_new, kind, kinds, limit_bytes), kept=kind)
        elif method == "DELETE":
            if visit.route.named_path.rstrip("/").endswith(f"/{id}"):
                yield _Telling(partial(_for_deleted, kind, kind.normal(id) or id))
        elif kind.owned.yields:
            yield _Telling(partial(_for_yields, kind, kinds, limit_bytes))
    if endpoint is not None and method in _WRITING:
        for kind in kinds.all:
            if endpoint.name in kind.owned.made_by:
                yield _Telling(partial(_for_new, kind, kinds, limit_bytes), kept=kind)


# --- what a request names -------------------------------------------------------------------------


def _in_head(visit: Visit, kinds: Kinds) -> tuple[Mention, ...] | None:
    """What path and query name; None where the path can be read in too many ways."""
    paths = readings(visit.route.named_path)
    if not paths:
        return None
    named: list[Mention] = []
    for path in paths:
        found = kinds.what(path, visit.ask.method)
        if found is not None and found[1] == "item":
            kind, _, id = found
            named.append(Mention(kind, kind.normal(id) or id, True))
        for segment in path.split("/"):
            named += kinds.in_text("", segment)
        named += kinds.in_text("", path)
    for name, value in parse_qsl(visit.route.query, keep_blank_values=True):
        named += kinds.in_text(name.removesuffix("[]"), value)
    return tuple(named)


def _in_body(visit: Visit, content: bytes, terms: Terms, limit: int) -> Iterator[Mention]:
    if not content:
        return
    kinds = terms.kinds
    plain = documents.decoded(content, visit.ask.headers, limit)
    if terms.is_form:
        for part in forms.read(plain, visit.ask.headers).parts:
            if not part.is_file:
                text = part.content.decode("utf-8", "replace")
                yield from kinds.in_text(part.name.strip().removesuffix("[]"), text)
        return
    if plain.startswith(_OTHER_ENCODINGS) or (plain[:1] in b"\0{[" and b"\0" in plain[:4]):
        raise BadRequest("The body is in an encoding that is not read here. Send it in UTF-8.")
    if documents.may_be_json(plain):
        yield from kinds.in_document(documents.read(plain))
        return
    for name, value in parse_qsl(plain[: 1 << 20].decode("utf-8", "replace")):
        yield from kinds.in_text(name.removesuffix("[]"), value)


def _is_upload(visit: Visit) -> bool:
    """A form with a file that is made anew: it names nothing that is there."""
    if not forms.is_form(visit.ask.headers):
        return False
    endpoint = visit.route.endpoint
    if endpoint is not None and endpoint.model == "multipart":
        return True
    kinds = kinds_of(visit.route.provider.entry)
    found = kinds.what(visit.route.named_path, visit.ask.method)
    return (found is not None and found[1] == "make") or (
        endpoint is not None and any(endpoint.name in kind.owned.made_by for kind in kinds.all)
    )


def _is_kept(kind: Kind, visit: Visit, body: Body, document: documents.Object | None) -> bool:
    """Whether the provider keeps what it makes, by the request's `store`."""
    if kind.owned.kept == "always":
        return True
    default = kind.owned.kept == "store: not false"
    if document is None:
        if not body.content:
            return default
        try:
            plain = documents.decoded(body.content, visit.ask.headers, 1 << 30)
            document = documents.read_object(plain)
        except BadRequest:
            return True
    stored = document.values_of("store")
    if not stored:
        return default
    return any(value is not False and value is not None for value in stored)


# --- what an answer tells -------------------------------------------------------------------------


def _for_list(kind: Kind, kinds: Kinds, limit_bytes: int, whose: Whose) -> MakeFilter:
    def make(status: int, headers: Headers) -> Filter | None:
        if not 200 <= status < 300:
            return None
        return answers.OwnList(kind, kinds, whose, limit_bytes)

    return make


def _for_new(kind: Kind, kinds: Kinds, limit_bytes: int, whose: Whose) -> MakeFilter:
    return _for_told(partial(answers.claim_new, kind, kinds, whose), limit_bytes)


def _for_yields(kind: Kind, kinds: Kinds, limit_bytes: int, whose: Whose) -> MakeFilter:
    return _for_told(partial(answers.claim_yields, kind, kinds, whose), limit_bytes)


def _for_told(learn: partial[Any], limit_bytes: int) -> MakeFilter:
    def make(status: int, headers: Headers) -> Filter | None:
        if not 200 <= status < 300:
            return None
        kind = b"".join(v for n, v in headers if n.lower() == b"content-type").lower()
        if kind.startswith(b"text/event-stream"):
            return answers.ToldInStream(learn)
        return answers.Told(learn, limit_bytes * 8) if b"json" in kind or not kind else None

    return make


def _for_deleted(kind: Kind, id: str, whose: Whose) -> MakeFilter:
    def make(status: int, headers: Headers) -> Filter | None:
        if 200 <= status < 300:
            whose.release(kind, id)
        return None

    return make
