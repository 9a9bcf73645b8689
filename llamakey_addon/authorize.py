"""What may be asked: the rules for the user and the key, and a body that means one thing alone.

A body that policy reads is read strictly. Where two readers could see two different models in it
(a doubled field, another encoding, a broken tail), it is refused: what was judged is what is sent.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import replace
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from llamakey_addon.errors import BadRequest, Forbidden
from llamakey_addon.globs import glob
from llamakey_addon.journey import Body, Call, Headers, Policy, Route, Rule, User, Visit

_MODEL_MAX = 1024
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_DOTS = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")


def judge(visit: Visit, body: Body, *, json_body_bytes: int = 8388608) -> Call:
    """Let a request pass, or raise Forbidden or BadRequest.

    Arguments:
        body: whole, or None while it streams; then its model is unknown.
        json_body_bytes: up to which size a compressed body is unpacked to be read.
    """
    allow(visit)
    model = _model(visit, body, json_body_bytes)
    for policy in _policies(visit.user):
        _check_model(visit, policy, model)
    return Call(visit, model)


def names_model(visit: Visit, content: bytes) -> bool:
    """Whether this message of a client's WebSocket is one that names the model.

    Raises BadRequest where it cannot be read.
    """
    endpoint = visit.route.endpoint
    if endpoint is None or endpoint.model != "message":
        return False
    outermost = endpoint.model_field.partition(".")[0]
    message = _json_object(content, outermost)
    if endpoint.model_type:
        return message.get("type") == endpoint.model_type
    return outermost in message


def allow(visit: Visit) -> None:
    """Raise Forbidden where a policy stands against the head of a request.

    By itself it serves to refuse a body before it is read.
    """
    for policy in _policies(visit.user):
        _check_head(visit, policy)
    _check_minting(visit)


def _policies(user: User) -> tuple[Policy, ...]:
    """What must allow a request, each by itself."""
    return (user.policy,) if user.scope is None else (user.policy, user.scope)


# --- rules ----------------------------------------------------------------------------------------


def _check_head(visit: Visit, policy: Policy) -> None:
    """Pass when one rule may allow it; else say which part of the whitelist stands against it."""
    for rule in policy.deny:
        if not rule.models and _fits(visit, rule, every=False):
            _deny(visit, rule, "may not do this at")
    if policy.allow is None:
        return
    route, user = visit.route, visit.user
    name, method = route.provider.entry.name, visit.ask.method
    rules = tuple(r for r in policy.allow if not r.providers or route.provider.id in r.providers)
    if not rules:
        _refuse(user, policy, f"may not use {name}")
    rules = tuple(r for r in rules if not r.methods or method.upper() in r.methods)
    if not rules:
        _refuse(user, policy, f"may not send {method} to {name}")
    if not any(not rule.paths or _paths_fit(rule, route, every=True) for rule in rules):
        _refuse(user, policy, f"may not use this path of {name}")


def _check_model(visit: Visit, policy: Policy, model: str) -> None:
    """The same with the model that the request names, "" where it names none that is known."""
    for rule in policy.deny:
        if (
            rule.models
            and _fits(visit, rule, every=False)
            and (not model or _models_fit(rule, model.casefold(), fold=True))
        ):
            _deny(visit, rule, f"may not use {model or 'an unknown model'} at")
    if policy.allow is not None and not any(
        _fits(visit, rule, every=True) and (not rule.models or _models_fit(rule, model))
        for rule in policy.allow
    ):
        _refuse(
            visit.user,
            policy,
            f"may not use {model or 'a model that is not known'} at "
            f"{visit.route.provider.entry.name} in this way",
        )


def _fits(visit: Visit, rule: Rule, *, every: bool) -> bool:
    """Whether a rule is about the head of a request; see `_paths_fit` for `every`."""
    route = visit.route
    return (
        (not rule.providers or route.provider.id in rule.providers)
        and (not rule.methods or visit.ask.method.upper() in rule.methods)
        and (not rule.paths or _paths_fit(rule, route, every=every))
    )


def _models_fit(rule: Rule, model: str, *, fold: bool = False) -> bool:
    return model != "" and any(
        glob(pattern.casefold() if fold else pattern, "names").fullmatch(model)
        for pattern in rule.models
    )


def _check_minting(visit: Visit) -> None:
    """Keep credentials of the account, which an answer would hand out, from all but the named."""
    entry = visit.route.provider.entry
    if not entry.mints:
        return
    method = "GET" if visit.ask.method == "HEAD" else visit.ask.method
    paths = [reading.lower().rstrip("/") for reading in _readings(visit.route.path)]
    for pattern in entry.mints:
        verb, _, path = pattern.partition(" ")
        if verb == method and any(glob(path.lower()).fullmatch(reading) for reading in paths):
            break
    else:
        return
    for policy in _policies(visit.user):
        for rule in policy.allow or ():
            named = replace(rule, paths=tuple(p for p in rule.paths if "**" not in p and p != "*"))
            if named.paths and _fits(visit, named, every=True):
                break
        else:
            if policy is visit.user.scope and policy.allow is None:
                continue  # a scope without a whitelist takes nothing away
            setting = policy.allow_setting
            raise Forbidden(
                f"This request hands out a credential of the {entry.name} account, with which its "
                "holder needs this proxy no more. The proxy's owner can allow it by a rule in "
                f"{setting} that names its path.",
                setting=setting,
            )


def _refuse(user: User, policy: Policy, what: str) -> NoReturn:
    raise Forbidden(
        f"{user.name} {what}. The proxy's owner can allow it in {policy.allow_setting}.",
        setting=policy.allow_setting,
    )


def _deny(visit: Visit, rule: Rule, what: str) -> NoReturn:
    raise Forbidden(
        f"{visit.user.name} {what} {visit.route.provider.entry.name}: {rule.setting} denies it.",
        setting=rule.setting,
    )


def _paths_fit(rule: Rule, route: Route, *, every: bool) -> bool:
    """Whether one of a rule's paths is the route's.

    Arguments:
        every: in every reading of the path, as is safe where the rule allows; else in any, as is
            safe where it denies.
    """
    readings = _readings(route.path)
    enough = all if every else any
    for pattern in rule.paths:
        if pattern in ("*", "**"):
            return True
        if not readings:
            if not every:
                return True
            continue
        if pattern.startswith("/"):
            fitting = glob(_unescaped(pattern, slashes=False))
            if enough(fitting.fullmatch(reading) for reading in readings):
                return True
        elif route.endpoint and glob(pattern, "names").fullmatch(route.endpoint.name):
            return True
    return False


def _readings(path: str) -> tuple[str, ...]:
    """A path as a provider may read it; a rule must allow every reading.

    With its escapes undone, for `%3A` is `:` to all; with `%2F` as a character of a segment and as
    a slash; and undone once more where that leaves escapes. A path that turns out to have dot
    segments has no reading that a rule could allow.
    """
    if "%" not in path:
        return (path,)
    readings = [_unescaped(path, slashes=False)]
    text = path
    for _ in range(4):
        text = _unescaped(text, slashes=True)
        readings.append(text)
        if not _ESCAPE.search(text):
            return () if _DOTS.search(text) else tuple(dict.fromkeys(readings))
    return ()


def _unescaped(text: str, *, slashes: bool) -> str:
    """Undo escapes once, byte for byte, so that what is no UTF-8 stays different too."""

    def undo(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return match[0].upper() if char == "/" and not slashes else char

    return _ESCAPE.sub(undo, text)


# --- model ----------------------------------------------------------------------------------------


def _model(visit: Visit, body: Body, json_body_bytes: int) -> str:
    """The model that a request names; "" where it names none, or streams."""
    endpoint = visit.route.endpoint
    if endpoint is None:
        return ""
    field = endpoint.model_field
    match endpoint.model:
        case "path":
            return _name(visit.route.params.get(field, ""))
        case "query":
            query = parse_qsl(visit.route.query, keep_blank_values=True)
            models = {value for name, value in query if name == field}
            if len(models) > 1:
                raise BadRequest(f"The query names more than one `{field}`. Send one.")
            return _name(models.pop() if models else "")
        case "body" if body.content:
            content = _decoded(body.content, visit.ask.headers, json_body_bytes)
            model = _json_object(content, field).get(field)
            return _name(model) if isinstance(model, str) else ""
        case "message" if body.content:
            outermost, *inner = field.split(".")
            model = _json_object(body.content, outermost).get(outermost)
            for name in inner:
                model = model.get(name) if isinstance(model, dict) else None
            return _name(model) if isinstance(model, str) else ""
        case _:
            # A multipart body is an upload: it streams, and nothing of it is known yet.
            return ""


def _name(model: str) -> str:
    if len(model) > _MODEL_MAX:
        raise BadRequest("The model's name is longer than any model's. Check it.")
    try:
        model.encode()
    except UnicodeEncodeError:
        raise BadRequest("The model's name is not valid Unicode. Check it.") from None
    return model


class _Pairs:
    """Makes objects of JSON's pairs, and remembers the last one made, which is the outermost."""

    def __init__(self) -> None:
        self.last: list[tuple[str, Any]] = []

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.last = pairs
        return dict(pairs)


def _json_object(content: bytes, field: str) -> dict[str, Any]:
    pairs = _Pairs()
    try:
        # As text, for json would take UTF-16 and UTF-32 too.
        document = json.loads(
            content.decode("utf-8"), object_pairs_hook=pairs, parse_constant=_no_constant
        )
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8. Send JSON in UTF-8.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply. Send a flatter one.") from None
    except ValueError:
        # Integers of thousands of digits are here as well.
        raise BadRequest("The body is not JSON, and this endpoint takes JSON.") from None
    if not isinstance(document, dict):
        raise BadRequest("The body is JSON, but no object. Send an object with the parameters.")
    if sum(name == field for name, _ in pairs.last) > 1:
        raise BadRequest(f"The body names `{field}` twice. Send it once.")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _decoded(content: bytes, headers: Headers, limit: int) -> bytes:
    """The body as the provider will read it. The packed one is what is sent."""
    codings = [
        coding
        for name, value in headers
        if name.lower() == b"content-encoding"
        for part in value.split(b",")
        if (coding := part.strip().lower()) not in (b"", b"identity")
    ]
    if not codings:
        return content
    if len(codings) > 1 or codings[0] not in (b"gzip", b"x-gzip", b"deflate"):
        raise BadRequest(
            "This Content-Encoding can't be read here. Send the body uncompressed, or with gzip."
        )
    # By specification deflate has zlib's wrapping; some senders leave it out.
    wraps = (
        (zlib.MAX_WBITS | 16,) if codings[0] != b"deflate" else (zlib.MAX_WBITS, -zlib.MAX_WBITS)
    )
    for wrap in wraps:
        unpacker = zlib.decompressobj(wrap)
        try:
            text = unpacker.decompress(content, limit + 1)
        except zlib.error:
            continue
        if len(text) > limit:
            raise BadRequest(
                f"The body unpacks to more than {limit} bytes. Send it uncompressed.",
                setting="limits.json_body_bytes",
            )
        if not unpacker.eof or unpacker.unused_data:
            break  # cut, or with more behind it, which some readers take and others don't
        return text
    raise BadRequest("The body is not what its Content-Encoding says. Send it uncompressed.")
