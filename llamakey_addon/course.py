"""What of a request follows from its head, its sender and the settings alone.

A client sends the same head again and again, with other bodies. Where it goes and what of its head
goes along, with which credential, what reads the answer, and what of the body has to be looked at
is worked out when the head first comes, and goes with the visit. A head that comes again has the
same course; with other settings it gets another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llamakey_addon import addresses, authorize, documents, filters, http1, isolation
from llamakey_addon.admit import normal
from llamakey_addon.credentials import Placed
from llamakey_addon.errors import BadRequest, NotReady
from llamakey_addon.meter import include_usage
from llamakey_addon.quick import quick

if TYPE_CHECKING:
    from llamakey_addon.admit import Admission
    from llamakey_addon.config import Settings
    from llamakey_addon.filters import MakeFilter
    from llamakey_addon.journey import Body, Headers, Provider, Upstream, User, Visit


@quick
@dataclass(frozen=True, slots=True)
class Course:
    """The course of requests with one head."""

    settings: Settings
    """By which it was worked out."""
    upstream: Upstream
    target: str
    headers: Template
    """Everything that goes upstream but the credential and the body's framing."""
    whole_headers: Template
    """The same where the answer is changed or may be cut: it is to come whole, and in no
    content-coding."""
    seal: Placed | None
    """The provider's key as it is put on requests; None where there is none, or it is made."""
    names: addresses.Names
    has_places: bool
    """Whether addresses stand in the answer's body."""
    makers: tuple[MakeFilter, ...]
    """What changes the answer, whatever the body says."""
    reads_plainly: bool
    """Whether its body is a JSON object that comes as it is, and has to be one."""
    rules: authorize.Terms
    things: isolation.Terms
    may_cut: bool
    """Whether the answer may have to be ended with a word."""
    asks_usage: bool
    """Whether a stream is to say what it used."""


type Template = tuple[tuple[int, tuple[bytes, bytes]], ...]
"""Headers of a request upstream: where each stands in the client's head, or -1 and the header."""


def filled(template: Template, headers: Headers) -> Headers:
    """The headers upstream for this head of the client's. Heads that are known as one may differ in
    values that nothing hangs on."""
    return tuple([own if place < 0 else headers[place] for place, own in template])


def _template(kept: Headers, headers: Headers) -> Template:
    places = {id(pair): place for place, pair in enumerate(headers)}
    return tuple((places.get(id(pair), -1), pair) for pair in kept)


class Courses:
    """Works them out, by one snapshot of the settings."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._settings = settings
        self._admission = admission
        self._strip = settings.strip_headers | {normal(settings.metering.tag_header.encode())}
        self._names: dict[str, addresses.Names] = {}

    def of(self, visit: Visit) -> Course:
        """The course of a request whose head the rules let pass. Raises NotReady."""
        way = visit.route
        provider = way.provider
        passage = visit.ask.passage
        region = way.region if passage is None else passage.upstream or way.region
        upstream = region or provider.upstream
        if upstream is None:
            raise NotReady(f"{provider.entry.name} has no upstream on this proxy.")
        # one upstream for all is asked as we are: for `/<host>/…`
        by_name = way.host != "" and way.region is None
        headers = http1.upstream_headers(
            visit.ask.headers, strip=self._strip, authority=upstream.authority
        )
        names = self.names(provider)
        limit = self._settings.limits.json_body_bytes
        shown = authorize.answer_filter(visit, limit_bytes=limit)
        return Course(
            settings=self._settings,
            upstream=upstream,
            target=way.named_target if by_name else way.target,
            headers=_template(headers, visit.ask.headers),
            whole_headers=_template(filters.unconditional(headers), visit.ask.headers),
            seal=seal(provider),
            names=names,
            has_places=bool(names.places_in(way)),
            makers=() if shown is None else (shown,),
            reads_plainly=authorize.reads_plainly(visit),
            rules=authorize.terms(visit, priced=self.prices_batch(visit)),
            things=isolation.terms(visit, limit_bytes=limit),
            may_cut=self._admission.may_cut(visit),
            asks_usage=self._admission.is_counted(visit.user)
            and include_usage.may_ask(way.endpoint, way.query)
            and not documents.is_packed(visit.ask.headers),
        )

    def names(self, provider: Provider) -> addresses.Names:
        """How a provider's addresses are told."""
        names = self._names.get(provider.prefix)
        if names is None:
            names = addresses.Names(provider, self._settings.providers.values())
            self._names[provider.prefix] = names
        return names

    def counts(self, user: User) -> bool:
        """Whether limits or budgets hold for somebody, so that the model matters."""
        scoped = user.scope is not None and user.scope.caps
        return bool(self._settings.everybody or user.policy.caps or scoped)

    def prices_batch(self, visit: Visit) -> bool:
        """Whether it matters what requests within this one cost."""
        endpoint = visit.route.endpoint
        return (
            endpoint is not None
            and endpoint.requests is not None
            and self._admission.bounds_money(visit.user)
        )


def seal(provider: Provider) -> Placed | None:
    """The provider's key as it is put on requests."""
    if provider.secret is None:
        return None
    return Placed(provider.secret, provider.entry.credential.place)


def with_usage(body: Body, document: documents.Object | None = None) -> bytes | None:
    """The body, with the wish that a stream say what it used, where the client has not asked; None
    leaves it as it is.

    Arguments:
        document: of the body, where that was read.
    """
    content = body.content
    if not content:
        return None
    if document is None:
        try:
            document = documents.read_object(content)
        except BadRequest:
            return None
    return include_usage.with_usage(content, document)
