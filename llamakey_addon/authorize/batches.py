"""Requests within a request: a batch's, each judged as if it came by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NoReturn

from llamakey_addon import documents
from llamakey_addon.authorize import models
from llamakey_addon.authorize.models import Named
from llamakey_addon.catalogue.models import Requests
from llamakey_addon.documents import Object
from llamakey_addon.errors import BadRequest, Denied, Forbidden
from llamakey_addon.journey import Route, Visit

type FindRoute = Callable[[str, str], Route]
"""The route of a provider's path and method. Raises Denied."""

_LINES = 200_000


def within(visit: Visit, named: Named, find_route: FindRoute) -> Iterator[tuple[Visit, Named]]:
    """Each request in the body of this one, and the models that it names.

    Raises BadRequest or Forbidden where they can't be judged.
    """
    endpoint = visit.route.endpoint
    if endpoint is None or (requests := endpoint.requests) is None:
        return
    if named.setting or named.unknown:
        what = "uploaded" if requests.field else "sent"
        raise Forbidden(
            f"A batch is judged request by request, and this one can't be read: it is larger than "
            f"bodies are read. Let it be {what} in smaller ones.",
            setting=named.setting or "limits.json_body_bytes",
        )
    if requests.at is not None:
        if named.document is not None:
            for body in documents.at(named.document, requests.at):
                yield _inner(visit, requests.path, "POST", body, find_route)
        return
    if named.form is None and named.document is None:
        return
    if not _is_batch(named, requests):
        return
    if requests.elsewhere:
        raise Forbidden(
            "A batch is judged request by request, and what is uploaded in parts can't be. Upload "
            "the file in one piece.",
            setting=visit.user.policy.allow_setting,
        )
    part = None if named.form is None else named.form.one(requests.file)
    if part is None:
        _refuse(f"it has no `{requests.file}`")
    lines = part.content.split(b"\n", _LINES)
    if len(lines) > _LINES:
        _refuse(f"it has more than {_LINES} lines")
    for line in lines:
        if not line.strip(b" \t\r"):
            continue
        request = documents.read_object(line)
        path = requests.path or documents.one(request, "url")
        method = documents.one(request, "method") or "POST"
        if not isinstance(path, str) or not isinstance(method, str) or not path.startswith("/"):
            _refuse("a line has no `url` that is a path, or a `method` that is no text")
        inner, of_it = _inner(
            visit, path, method, documents.one(request, requests.body), find_route
        )
        if requests.model_elsewhere and not of_it.names:
            continue
        yield inner, of_it


def _is_batch(named: Named, requests: Requests) -> bool:
    """Whether an upload is meant for a batch."""
    if named.form is not None:
        part = named.form.one(requests.field)
        purpose = "" if part is None else part.text()
    else:
        said = documents.one(named.document, requests.field)
        purpose = said if isinstance(said, str) else ""
    if requests.values and purpose not in requests.values:
        if purpose.strip().casefold() in {value.casefold() for value in requests.values}:
            _refuse(f"its `{requests.field}` is written oddly")
        return False
    return True


def _inner(
    visit: Visit, path: str, method: str, body: object, find_route: FindRoute
) -> tuple[Visit, Named]:
    if not isinstance(body, Object):
        _refuse("a request in it has no body that is an object")
    try:
        route = find_route(path, method)
    except Denied as denied:
        raise BadRequest(f"A request in this batch has a bad path. {denied.message}") from None
    inner = replace(visit, ask=replace(visit.ask, method=method), route=route)
    if route.endpoint is None:
        return inner, Named(unknown="a request in it has a path that is not in the catalogue")
    if route.endpoint.model == "body":
        return inner, models.of_object(route.endpoint, body)
    if route.endpoint.model == "path":
        return inner, models.of_path(route, route.endpoint)
    return inner, Named(unknown="a request in it is for an endpoint whose models are not known")


def _refuse(why: str) -> NoReturn:
    raise BadRequest(f"The batch can't be judged: {why}.")
