"""What may be asked: the rules for the user and the key, and a body that means one thing alone.

`rules.py` is what rules say, `models.py` which models a request names, `batches.py` the requests
within one. A body that policy reads is read strictly:
what was judged is what is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llamakey_addon import documents
from llamakey_addon.authorize import batches, models, rules
from llamakey_addon.authorize.batches import FindRoute
from llamakey_addon.authorize.models import Named
from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.errors import BadRequest, Forbidden
from llamakey_addon.filters import Filter, MakeFilter
from llamakey_addon.journey import Body, Call, Headers, Route, Visit, Within
from llamakey_addon.listings import ListFilter

__all__ = [
    "Terms",
    "allow",
    "answer_filter",
    "judge",
    "judge_message",
    "judges_messages",
    "names_model",
    "reads_plainly",
    "terms",
    "wants_body",
]

_WRITING = ("POST", "PUT", "PATCH", "QUERY")
_KEPT = 64
_KEPT_NAMES = 4
_KEPT_CHARACTERS = 256

type _Said = tuple[tuple[str, ...], str, int]
"""Which models a request names, why it may use others, how many requests are within it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What of judging a request follows from its head and its sender alone."""

    batch: bool
    """Whether requests within it are to be judged."""
    strict: bool
    """Whether its models must be known for certain."""
    passed: set[_Said] = field(default_factory=set)
    """What was let pass with this head: it is let pass again without a look."""


def _nowhere(path: str, method: str) -> Route:
    raise BadRequest("There are no requests within a request here.")


def terms(visit: Visit, *, priced: bool = False) -> Terms:
    """What follows from the head of a request that `allow` has let pass.

    Arguments:
        priced: the requests within it matter beyond rules, for what they cost.
    """
    batch = _holds_requests(visit, priced=priced)
    return Terms(batch=batch, strict=batch or rules.about_models(visit))


def reads_plainly(visit: Visit) -> bool:
    """Whether a request names its model in a body of JSON that comes as it is."""
    endpoint = visit.route.endpoint
    return (
        endpoint is not None
        and endpoint.model == "body"
        and not documents.is_packed(visit.ask.headers)
    )


def judge(
    visit: Visit,
    body: Body,
    known: Terms | None = None,
    *,
    document: documents.Object | None = None,
    json_body_bytes: int = 33554432,
    find_route: FindRoute = _nowhere,
) -> Call:
    """Let a request pass, or raise Forbidden or BadRequest.

    Arguments:
        body: whole, or None while it streams; then its model is unknown.
        known: the terms of its head, which was let pass; else it is judged as well.
        document: the body of one that `reads_plainly`, where that was read.
        json_body_bytes: up to which size a compressed body is unpacked to be read.
        find_route: the way of a request within this one.
    """
    if known is None:
        allow(visit)
        known = terms(visit)
    endpoint = visit.route.endpoint
    if endpoint is not None and endpoint.model == "message" and not body.content:
        return Call(visit, "")  # the head of a WebSocket: its messages are judged as they come
    if document is not None and endpoint is not None:
        named = models.of_object(endpoint, document)
    else:
        named = models.find(visit, body, json_body_bytes=json_body_bytes, strict=known.strict)
    within = _judge_within(visit, body, named, find_route) if known.batch else ()
    said = (named.names, named.unknown, sum(part.requests for part in within) if within else 0)
    if said not in known.passed:
        _check(visit, named, inner=said[2])
        names = said[0]  # the client's choice, as are how many and how long
        if len(names) <= _KEPT_NAMES and sum(map(len, names)) <= _KEPT_CHARACTERS:
            if len(known.passed) >= _KEPT:
                known.passed.clear()
            known.passed.add(said)
    return Call(visit, named.names[0] if named.names else "", within)


def _judge_within(
    visit: Visit, body: Body, named: Named, find_route: FindRoute
) -> tuple[Within, ...]:
    """Judge each request within this one; how many there are of which kind."""
    inner = 0
    seen: dict[tuple[str, str], tuple[Endpoint | None, int]] = {}
    for within, of_it in batches.within(visit, named, find_route):
        inner += 1
        allow(within)
        _check(within, of_it, inner=0)
        to = within.route.endpoint
        kind = ("" if to is None else to.name, of_it.main)
        seen[kind] = (to, seen.get(kind, (to, 0))[1] + 1)
    size = len(body.content or b"")
    return tuple(
        Within(to, model, count, size * count // inner) for (_, model), (to, count) in seen.items()
    )


def allow(visit: Visit) -> None:
    """Raise Forbidden where a policy stands against the head of a request.

    By itself it serves to refuse a body before it is read.
    """
    for policy in rules.policies(visit.user):
        rules.check_head(visit, policy)
    rules.check_minting(visit)


def wants_body(visit: Visit, *, counted: bool, priced: bool = False) -> bool:
    """Whether the body is needed to judge a request.

    Arguments:
        counted: its model matters beyond rules, for limits and budgets.
        priced: so does what the requests within it cost.
    """
    endpoint = visit.route.endpoint
    if endpoint is None or visit.ask.body_length == 0:
        return False
    match endpoint.model:
        case "body":
            return True
        case "multipart":
            return counted or rules.about_models(visit)
        case _:
            return _holds_requests(visit, priced=priced) or (
                bool(endpoint.model_also) and (counted or rules.about_models(visit))
            )


def answer_filter(visit: Visit, *, limit_bytes: int) -> MakeFilter | None:
    """What shows of a list of models those that the user may use; None where all are shown."""
    endpoint = visit.route.endpoint
    looking = visit.ask.method in ("GET", "HEAD")
    if endpoint is None or not endpoint.lists or not looking or not rules.any_rules(visit.user):
        return None
    provider = visit.route.provider
    policies = rules.policies(visit.user)

    def keep(name: str) -> bool:
        return all(rules.may_use(policy, provider, name) for policy in policies)

    def make(status: int, headers: Headers) -> Filter | None:
        return ListFilter(endpoint.lists, keep, limit_bytes) if 200 <= status < 300 else None

    return make


def judges_messages(visit: Visit) -> bool:
    """Whether a client's messages through a WebSocket are judged, each before it is sent."""
    endpoint = visit.route.endpoint
    return endpoint is not None and (
        endpoint.model == "message" or (bool(endpoint.model_also) and rules.about_models(visit))
    )


def judge_message(visit: Visit, content: bytes) -> None:
    """Let a message pass, as far as the models are concerned that it names beside the WebSocket's.

    Raises Forbidden, and BadRequest where it cannot be read.
    """
    endpoint = visit.route.endpoint
    if endpoint is None or endpoint.model == "message" or not endpoint.model_also:
        return
    named = models.of_message(endpoint, content)
    if named.names:
        _check(visit, named, inner=0)


def names_model(visit: Visit, content: bytes) -> bool:
    """Whether this message of a client's WebSocket is one that names the model.

    Raises BadRequest where it cannot be read.
    """
    endpoint = visit.route.endpoint
    if endpoint is None or endpoint.model != "message":
        return False
    outermost = endpoint.model_field.partition(".")[0]
    message = documents.read_object(content)
    if endpoint.model_type:
        return bool(documents.one(message, "type") == endpoint.model_type)
    return bool(message.values_of(outermost))


def _holds_requests(visit: Visit, *, priced: bool) -> bool:
    """Whether requests within this one are to be judged."""
    endpoint = visit.route.endpoint
    if endpoint is None or endpoint.requests is None or visit.ask.method not in _WRITING:
        return False
    return rules.any_rules(visit.user) or (priced and not endpoint.requests.elsewhere)


def _check(visit: Visit, named: Named, *, inner: int) -> None:
    """Raise where a policy stands against the models that are named.

    Arguments:
        inner: how many requests stand in its body.
    """
    provider = visit.route.provider
    for policy in rules.policies(visit.user):
        rules.check_models(visit, policy, named, inner=inner)
        if rules.looks_at_a_model(visit.route.endpoint, visit.ask.method):
            for name in named.names:
                if not rules.may_use(policy, provider, name):
                    raise Forbidden(
                        f"{visit.user.name} may not use the model {name}. The proxy's owner can "
                        f"allow it in {policy.allow_setting}.",
                        setting=policy.allow_setting,
                    )
