"""What may be asked: the rules for the user and the key, and a body that means one thing alone.

`rules.py` is what rules say, `models.py` which models a request names, `batches.py` the requests
within one. A body that policy reads is read strictly:
what was judged is what is sent.
"""

from __future__ import annotations

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
    "allow",
    "answer_filter",
    "judge",
    "judge_message",
    "judges_messages",
    "names_model",
    "wants_body",
]

_WRITING = ("POST", "PUT", "PATCH", "QUERY")


def _nowhere(path: str, method: str) -> Route:
    raise BadRequest("There are no requests within a request here.")


def judge(
    visit: Visit,
    body: Body,
    *,
    json_body_bytes: int = 33554432,
    find_route: FindRoute = _nowhere,
    priced: bool = False,
) -> Call:
    """Let a request pass, or raise Forbidden or BadRequest.

    Arguments:
        body: whole, or None while it streams; then its model is unknown.
        json_body_bytes: up to which size a compressed body is unpacked to be read.
        find_route: the way of a request within this one.
        priced: the requests within it matter beyond rules, for what they cost.
    """
    allow(visit)
    endpoint = visit.route.endpoint
    if endpoint is not None and endpoint.model == "message" and not body.content:
        return Call(visit, "")  # the head of a WebSocket: its messages are judged as they come
    batch = _holds_requests(visit, priced=priced)
    named = models.find(
        visit, body, json_body_bytes=json_body_bytes, strict=batch or rules.about_models(visit)
    )
    inner = 0
    seen: dict[tuple[str, str], tuple[Endpoint | None, int]] = {}
    if batch:
        for within, of_it in batches.within(visit, named, find_route):
            inner += 1
            allow(within)
            _check(within, of_it, inner=0)
            to = within.route.endpoint
            kind = ("" if to is None else to.name, of_it.main)
            seen[kind] = (to, seen.get(kind, (to, 0))[1] + 1)
    _check(visit, named, inner=inner)
    size = len(body.content or b"")
    return Call(
        visit,
        named.main,
        tuple(
            Within(to, model, count, size * count // inner)
            for (_, model), (to, count) in seen.items()
        ),
    )


def allow(visit: Visit) -> None:
    """Raise Forbidden where a policy stands against the head of a request.

    By itself it serves to refuse a body before it is read. What was let pass is let pass again
    without a look: it follows from the head, the route and the policies alone.
    """
    known, user, route = visit.ask.known, visit.user, visit.route
    if known is not None and (passed := known.recall("allowed", route)) is not None:
        policy, scope = passed
        if policy is user.policy and scope is user.scope:
            return
    for policy in rules.policies(user):
        rules.check_head(visit, policy)
    rules.check_minting(visit)
    if known is not None:
        known.keep("allowed", route, (user.policy, user.scope))


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
    """Raise where a policy stands against the models that are named. What was let pass with the
    same head is let pass again: it follows from both alone."""
    known, user = visit.ask.known, visit.user
    said = (named.names, named.unknown, inner)
    if known is not None and (passed := known.recall("models", visit.route)) is not None:
        policy, scope, before = passed
        if policy is user.policy and scope is user.scope and before == said:
            return
    _check_models(visit, named, inner)
    if known is not None:
        known.keep("models", visit.route, (user.policy, user.scope, said))


def _check_models(visit: Visit, named: Named, inner: int) -> None:
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
