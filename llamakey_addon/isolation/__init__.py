"""Whose things are whose, where many users share one account of the provider's.

Files, batches, stored answers and the like belong to the user who made them through this proxy; to
others they are not there. Which kinds a provider has, and where their ids stand, is data of its
catalogue entry (`owned`). A request is looked through for ids: its path in every reading, its
query, its body. Answers that list are filtered, and those that tell of something new are noted
before the client has them.
"""

from __future__ import annotations

from collections.abc import Iterator
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

__all__ = ["Sharing", "Whose", "answer_filters", "judge", "judge_message", "may_peek", "wants_body"]

_WRITING = ("POST", "PUT", "PATCH", "DELETE", "QUERY")
_OTHER_ENCODINGS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


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


def judge(visit: Visit, body: Body, whose: Whose, *, json_body_bytes: int) -> None:
    """Let a request pass that names only what its user may see.

    Raises:
        Absent: it names something else.
        BadRequest, Forbidden: what it names cannot be known.
    """
    kinds = kinds_of(visit.route.provider.entry)
    if not whose.active or not kinds.all:
        return
    known = visit.ask.known
    if known is None or not known.recall("names nothing", visit.route):
        named = False
        for mention in _in_head(visit, kinds):
            named = True
            whose.check(mention)
        if known is not None and not named:
            known.keep("names nothing", visit.route, True)
    if wants_body(visit, active=True):
        if body.content is None:
            if may_peek(visit) and body.start and not documents.may_be_json(body.start):
                return  # a file
            raise Forbidden(
                "The body is longer than is read before a request is judged, and may name what "
                "others made. Send a shorter one.",
                setting="limits.json_body_bytes",
            )
        for mention in _in_body(visit, body.content, kinds, json_body_bytes):
            whose.check(mention)


def judge_message(visit: Visit, content: bytes, whose: Whose) -> None:
    """The same for a message of a client's WebSocket, as far as others' things are concerned."""
    kinds = kinds_of(visit.route.provider.entry)
    if not whose.active or not kinds.all:
        return
    for mention in _in_document(documents.read(content), kinds):
        whose.check(Mention(mention.kind, mention.id, False))


def answer_filters(
    visit: Visit, body: Body, whose: Whose, *, limit_bytes: int
) -> tuple[MakeFilter, ...]:
    """What reads, or prunes, the answer."""
    kinds = kinds_of(visit.route.provider.entry)
    if not kinds.all:
        return ()
    method = visit.ask.method
    endpoint = visit.route.endpoint
    makers: list[MakeFilter] = []
    learn: partial[Any]
    if (found := kinds.what(visit.route.named_path, method)) is not None:
        kind, what, id = found
        if what == "list":
            if whose.active and kind.owned.listed:
                makers.append(_for_list(kind, kinds, whose, limit_bytes))
        elif what == "make":
            if _is_kept(kind, visit, body):
                learn = partial(answers.claim_new, kind, kinds, whose)
                makers.append(_for_told(learn, limit_bytes))
        elif method == "DELETE":
            if visit.route.named_path.rstrip("/").endswith(f"/{id}"):
                makers.append(_for_deleted(kind, whose, kind.normal(id) or id))
        elif kind.owned.yields:
            learn = partial(answers.claim_yields, kind, kinds, whose)
            makers.append(_for_told(learn, limit_bytes))
    if endpoint is not None and method in _WRITING:
        for kind in kinds.all:
            if endpoint.name in kind.owned.made_by and _is_kept(kind, visit, body):
                learn = partial(answers.claim_new, kind, kinds, whose)
                makers.append(_for_told(learn, limit_bytes))
    return tuple(makers)


# --- what a request names -------------------------------------------------------------------------


def _in_head(visit: Visit, kinds: Kinds) -> Iterator[Mention]:
    paths = readings(visit.route.named_path)
    if not paths:
        raise BadRequest("The path can be read in too many ways. Write it plainly.")
    for path in paths:
        found = kinds.what(path, visit.ask.method)
        if found is not None and found[1] == "item":
            kind, _, id = found
            yield Mention(kind, kind.normal(id) or id, True)
        for segment in path.split("/"):
            yield from kinds.in_text("", segment)
        yield from kinds.in_text("", path)
    for name, value in parse_qsl(visit.route.query, keep_blank_values=True):
        yield from kinds.in_text(name.removesuffix("[]"), value)


def _in_body(visit: Visit, content: bytes, kinds: Kinds, limit: int) -> Iterator[Mention]:
    if not content:
        return
    plain = documents.decoded(content, visit.ask.headers, limit)
    if forms.is_form(visit.ask.headers):
        for part in forms.read(plain, visit.ask.headers).parts:
            if not part.is_file:
                text = part.content.decode("utf-8", "replace")
                yield from kinds.in_text(part.name.strip().removesuffix("[]"), text)
        return
    if plain.startswith(_OTHER_ENCODINGS) or (plain[:1] in b"\0{[" and b"\0" in plain[:4]):
        raise BadRequest("The body is in an encoding that is not read here. Send it in UTF-8.")
    if documents.may_be_json(plain):
        yield from _in_document(documents.read(plain), kinds)
        return
    for name, value in parse_qsl(plain[: 1 << 20].decode("utf-8", "replace")):
        yield from kinds.in_text(name.removesuffix("[]"), value)


def _in_document(document: Any, kinds: Kinds) -> Iterator[Mention]:
    in_text, plain = kinds.in_text, kinds.plain
    for pair in documents.strings(document):
        if pair not in plain and (found := in_text(*pair)):
            yield from found


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


def _is_kept(kind: Kind, visit: Visit, body: Body) -> bool:
    """Whether the provider keeps what it makes, by the request's `store`."""
    if kind.owned.kept == "always":
        return True
    default = kind.owned.kept == "store: not false"
    if not body.content:
        return default
    try:
        plain = documents.decoded(body.content, visit.ask.headers, 1 << 30)
        stored = documents.read_object(plain).values_of("store")
    except BadRequest:
        return True
    return any(value is not False and value is not None for value in stored) or (
        default and not stored
    )


# --- what an answer tells -------------------------------------------------------------------------


def _for_list(kind: Kind, kinds: Kinds, whose: Whose, limit_bytes: int) -> MakeFilter:
    def make(status: int, headers: Headers) -> Filter | None:
        if not 200 <= status < 300:
            return None
        return answers.OwnList(kind, kinds, whose, limit_bytes)

    return make


def _for_told(learn: partial[Any], limit_bytes: int) -> MakeFilter:
    def make(status: int, headers: Headers) -> Filter | None:
        if not 200 <= status < 300:
            return None
        kind = b"".join(v for n, v in headers if n.lower() == b"content-type").lower()
        if kind.startswith(b"text/event-stream"):
            return answers.ToldInStream(learn)
        return answers.Told(learn, limit_bytes * 8) if b"json" in kind or not kind else None

    return make


def _for_deleted(kind: Kind, whose: Whose, id: str) -> MakeFilter:
    def make(status: int, headers: Headers) -> Filter | None:
        if 200 <= status < 300:
            whose.release(kind, id)
        return None

    return make
