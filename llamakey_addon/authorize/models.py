"""Which models a request names, and what of it cannot be known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from llamakey_addon import documents, forms
from llamakey_addon.catalogue.models import Endpoint, ModelNames
from llamakey_addon.documents import Object
from llamakey_addon.errors import BadRequest
from llamakey_addon.journey import Body, Route, Visit
from llamakey_addon.quick import quick

_MODEL_MAX = 1024
_WRITING = ("POST", "PUT", "PATCH", "QUERY")


@quick
@dataclass(frozen=True, slots=True)
class Named:
    """The models of a request."""

    names: tuple[str, ...] = ()
    """As the forwarded bytes name them, the main one first."""
    unknown: str = ""
    """Why it may use a model that is not among them, for people; empty when it does not."""
    setting: str = ""
    """The setting that this is due to, if one is."""
    document: Any = None
    """The JSON body, where it was read."""
    form: forms.Form | None = None
    """The form, where it was read."""

    @property
    def main(self) -> str:
        return self.names[0] if self.names else ""


def find(visit: Visit, body: Body, *, json_body_bytes: int, strict: bool) -> Named:
    """The models that a request names.

    Arguments:
        json_body_bytes: up to which size a compressed body is unpacked.
        strict: rules hang on it, so forms and batches must be readable, too.

    Raises BadRequest where the body says more than one thing, or nothing that is certain.
    """
    try:
        return _find(visit, body, json_body_bytes)
    except BadRequest:
        endpoint = visit.route.endpoint
        if strict or endpoint is None or endpoint.model in ("body", "query", "message"):
            raise
        return Named(unknown="its body can't be read with certainty")


def _find(visit: Visit, body: Body, json_body_bytes: int) -> Named:
    route = visit.route
    endpoint = route.endpoint
    if endpoint is None:
        return Named(unknown="this path is not in the catalogue")
    content = body.content
    if content and endpoint.model in ("body", "none", "multipart"):
        content = _plain(visit, endpoint, content, json_body_bytes)
    if visit.ask.method not in _WRITING and not content and endpoint.model in ("body", "multipart"):
        return Named()  # one that looks at what was made there
    match endpoint.model:
        case "path":
            return _with_more(endpoint, of_path(route, endpoint), content, body)
        case "query":
            return _of_query(route, endpoint)
        case "message":
            if not content:
                return Named()  # the head; the model comes in a message
            document = documents.read_object(content)
            return _one(documents.at(document, endpoint.model_field), endpoint, document)
        case "body":
            return _of_body(endpoint, content, body)
        case "multipart":
            return _of_form(visit, endpoint, content)
        case "none":
            return _of_none(visit, endpoint, content, body)


def of_message(endpoint: Endpoint, content: bytes) -> Named:
    """The models that a WebSocket's message names, where its own is named by the query."""
    return Named(_further(endpoint, documents.read_object(content)))


def of_object(endpoint: Endpoint, document: Object) -> Named:
    """The models that the body of a request to this endpoint names; see `find`."""
    named = _one(documents.at(document, endpoint.model_field), endpoint, document)
    more = _further(endpoint, document) if endpoint.model_also else ()
    if not more:
        return named
    # A list of fallbacks is as good as a model: without `model`, its first is the main one.
    unknown = named.unknown if named.names else ""
    return Named((*named.names, *more), unknown, named.setting, document)


def _plain(visit: Visit, endpoint: Endpoint, content: bytes, limit: int) -> bytes | None:
    if endpoint.model == "none" and endpoint.requests is None and not endpoint.model_also:
        return content
    return documents.decoded(content, visit.ask.headers, limit)


def of_path(route: Route, endpoint: Endpoint) -> Named:
    """The model that a path names."""
    field = endpoint.model_field
    if "{" in field:
        name = re.sub(r"\{([a-z_]+)\}", lambda part: route.params.get(part[1], ""), field)
    else:
        name = route.params.get(field, "")
    return Named((checked(name),))


def _with_more(endpoint: Endpoint, named: Named, content: bytes | None, body: Body) -> Named:
    """What the body names beside the path."""
    if not endpoint.model_also or body.content == b"":
        return named
    if content is None:
        return Named(named.names, _streams(), "limits.json_body_bytes")
    document = documents.read_object(content)
    more = _further(endpoint, document)
    unread = any(value for path in endpoint.unread for value in documents.at(document, path))
    unknown = "its requests stand in a file that is not read" if unread else ""
    return Named((*named.names, *more), unknown, document=document)


def _of_query(route: Route, endpoint: Endpoint) -> Named:
    field = endpoint.model_field
    query = parse_qsl(route.query, keep_blank_values=True)
    models = [value for name, value in query if name.casefold() == field.casefold()]
    if len(set(models)) > 1:
        raise BadRequest(f"The query names more than one `{field}`. Send one.")
    if not models or not models[0]:
        return Named(unknown=f"its query names no `{field}`")
    return Named((checked(models[0]),))


def _of_body(endpoint: Endpoint, content: bytes | None, body: Body) -> Named:
    if body.content is None:
        return Named(unknown=_streams(), setting="limits.json_body_bytes")
    if not content:
        return Named(unknown="it has no body")
    return of_object(endpoint, documents.read_object(content))


def _of_form(visit: Visit, endpoint: Endpoint, content: bytes | None) -> Named:
    field = endpoint.model_field
    if content is None:
        return Named(unknown=_streams(), setting="limits.json_body_bytes")
    if not content:
        return Named(unknown="it has no body")
    if not forms.is_form(visit.ask.headers):
        return of_object(endpoint, documents.read_object(content))  # as some take it
    form = forms.read(content, visit.ask.headers)
    part = form.one(field)
    if part is None:
        return Named(unknown=f"its form names no `{field}`", form=form)
    return Named((checked(part.text()),), form=form)


def _of_none(visit: Visit, endpoint: Endpoint, content: bytes | None, body: Body) -> Named:
    """Of an endpoint without a model of its own: a batch, or one that stands for several."""
    if endpoint.requests is not None and visit.ask.method in _WRITING:
        if content is None:
            return Named(setting="limits.json_body_bytes")
        if not content:
            return Named()
        if endpoint.requests.field and forms.is_form(visit.ask.headers):
            return Named(form=forms.read(content, visit.ask.headers))
        return Named(document=documents.read_object(content))
    if endpoint.model_also:
        return _with_more(endpoint, Named(), content, body)
    if (
        "..." in endpoint.path
        and not endpoint.modelless
        and visit.ask.method in _WRITING
        and body.content != b""
    ):
        return Named(unknown="this path stands for several, and its models are not known")
    return Named()


def _one(values: list[Any], endpoint: Endpoint, document: Object) -> Named:
    name = values[0] if values else None
    if isinstance(name, str) and name:
        return Named((checked(name),), document=document)
    what = "names no" if name is None or name == "" else "has something that is no text as"
    return Named(unknown=f"its body {what} `{endpoint.model_field}`", document=document)


def _further(endpoint: Endpoint, document: Object) -> tuple[str, ...]:
    """The models beside the main one."""
    found = []
    for path in endpoint.model_also:
        for value in documents.at(document, path):
            if not isinstance(value, str):
                raise BadRequest(f"What stands at `{path}` is no text. Send a model's name there.")
            if value:
                found.append(checked(value))
    return tuple(found)


def _streams() -> str:
    return "its body is longer than is read before a request is judged"


def checked(model: str) -> str:
    """A model's name. Raises BadRequest for what is none."""
    if len(model) > _MODEL_MAX:
        raise BadRequest("The model's name is longer than any model's. Check it.")
    try:
        model.encode()
    except UnicodeEncodeError:
        raise BadRequest("The model's name is not valid Unicode. Check it.") from None
    return model


# --- one model in several ways --------------------------------------------------------------------


def spellings(name: str, ways: ModelNames) -> tuple[str, ...]:
    """A name as it may be allowed: as it is, and without what means nothing before it."""
    found = [name]
    for prefix in ways.prefixes:
        if name.startswith(prefix):
            found.append(name.removeprefix(prefix))
    return tuple(found)


def readings(name: str, ways: ModelNames) -> tuple[str, ...]:
    """All that a provider may take a name for, folded: a denial of any of them holds."""
    found = [name]
    text = name
    while "%" in text and (once := unquote(text)) != text and len(found) < 8:
        found.append(once)
        text = once
    found += [spelling for text in tuple(found) for spelling in spellings(text.strip(), ways)]
    if ways.suffix:
        for text in tuple(found):
            bare, parting, _ = text.partition(ways.suffix)
            if parting:
                found.append(bare)
            elif ways.default:
                found.append(f"{text}{ways.suffix}{ways.default}")
    return tuple(dict.fromkeys(text.casefold() for text in found))


def is_opaque(name: str, ways: ModelNames) -> bool:
    """Whether a name says nothing of the model."""
    return ways.opaque != "" and re.fullmatch(ways.opaque, name) is not None
