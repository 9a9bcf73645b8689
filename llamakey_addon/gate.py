"""The story of a request: who asks, for what, may they, and what it came to.

    arrive   the head is here: where to, and who?          Ask   → Visit
    depart   what is needed to judge is here: may they?    Visit → Grant
    settle   the answer, an error or a goodbye             Grant → Receipt

Each step takes the value that the step before made, so nothing is sent that was not judged. Plain
Python: no I/O but the store, and nothing of mitmproxy. A refusal is an exception (`Denied`);
`endings.py` turns it into an answer that the provider's SDK understands.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final

from llamakey_addon import (
    account,
    addresses,
    again,
    authenticate,
    authorize,
    documents,
    doorway,
    handshake,
    here,
    isolation,
    proof,
    route,
    signin,
)
from llamakey_addon.book import Admitted, Book, Journal
from llamakey_addon.config import Limits, Settings
from llamakey_addon.course import Course, Courses, filled, with_usage
from llamakey_addon.credentials.vault import Vault
from llamakey_addon.door import Door
from llamakey_addon.endings import Endings
from llamakey_addon.errors import (
    BodyTooLarge,
    Denied,
    Draining,
    NotCarried,
    NotReady,
    UnknownRoute,
)
from llamakey_addon.forwarded import client_address
from llamakey_addon.isolation import Sharing, Whose
from llamakey_addon.journey import (
    Answer,
    Ask,
    Body,
    Counts,
    Detour,
    Errand,
    Grant,
    Headers,
    Passage,
    Provider,
    Receipt,
    Route,
    Seal,
    Usage,
    User,
    Visit,
)
from llamakey_addon.meter import Asked
from llamakey_addon.meter.include_usage import strip_for
from llamakey_addon.store import Store
from llamakey_addon.tokens import Tokens

ERRAND_BYTES: Final = signin.BODY_BYTES
"""Of the body of a call that the proxy answers itself."""


class Gate:
    """Judges by one snapshot of the settings; `reload` puts the next one in its place."""

    def __init__(
        self, settings: Settings, store: Store, journal: Journal, vault: Vault | None = None
    ) -> None:
        self._store = store
        self.vault = vault
        self.book = Book(store.ledger, journal, vault)
        self._tokens = Tokens(settings.data_folder)
        self._sharing = Sharing(store)
        self.leaving = False
        """Set while others take the place of this process: answers say that their connection ends
        with them."""
        self.draining = False
        """Set while the proxy ends: new requests are refused."""
        self.shut = ""
        """Why nothing is served, or "": set while the addon is out of mitmproxy's chain."""
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Judge by these settings from the next request on."""
        self.settings = settings
        if self.vault is not None:
            self.vault.keep(p.recipe for p in settings.providers.values() if p.recipe is not None)
        self.book.reload(settings)
        self._admission = self.book.admission
        self._door = Door(settings, self._store, self.book)
        self.endings = Endings(settings, self._store, self.book)
        self._courses = Courses(settings, self._admission)
        self.limits: Limits = settings.limits
        self.view_bytes = settings.view.body_bytes

    # ── the second door ───────────────────────────────────────────────────────────────────────

    def connect(self, ask: Ask) -> Passage | Detour:
        """Where does this CONNECT lead, and who sends it?

        Raises Denied. No name has been looked up by then, and nothing sent.
        """
        self._check_in_service()
        return self._door.connect(ask)

    def foreign_word(self, passage: Passage) -> str:
        """What a client is told that speaks HTTP/2 alone: the way that works."""
        return self._door.foreign_word(passage)

    # ── the story ─────────────────────────────────────────────────────────────────────────────

    def arrive(self, ask: Ask) -> Visit | Errand | Answer:
        """Where does this request go, and who sends it?

        Raises:
            Denied: unknown prefix, ambiguous path, no valid key, provider not in service.
        """
        if ask.target == here.HEALTH_PATH:
            return here.health(well=not (self.draining or self.shut))
        self._check_in_service()
        settings = self.settings
        passage = ask.passage
        known = ask.known
        if passage is not None:
            doorway.check(ask)
        elif known is not None:
            validity = self._sharing.look(ask.time_s)
            before = again.find(ask, known, settings, self._store, validity=validity)
            if before is not None:
                return before
        if signin.is_metadata(ask):
            return signin.metadata(ask, settings.providers)
        if ask.target.partition("?")[0] == here.ME_PATH:
            return here.my_own(ask, settings, self._store, self._admission)
        way: Route | None = None if known is None else known.recall("route", settings)
        if way is None:
            way = route.find(
                ask.target,
                ask.method,
                settings.providers,
                settings.query_keys,
                aliases=passage is None,
                named=passage is None or passage.named != "",
            )
            if known is not None:
                known.keep("route", settings, way)
        if passage is None and here.is_courtesy(ask, way, settings):
            return here.COURTESY
        if (errand := signin.find(way, ask)) is not None:
            return errand
        if passage is not None and passage.sign_in:
            raise UnknownRoute(f"Of {passage.host} nothing is served here but calls for a token.")
        validity = self._sharing.look(ask.time_s)
        if way.ticket and not ask.as_key:
            user = authenticate.by_ticket(ask, way, self._store, settings, self._tokens)
        else:
            user = authenticate.who(ask, way.provider, self._store, settings, self._tokens)
        self._store.used(user.key_id, ask.time_s)
        endpoint = way.endpoint
        recipe = way.provider.recipe
        claim = proof.claim(ask, way.provider)
        body_bytes, body_setting = self._body_bound(user)
        shared = self._sharing.shared
        visit = Visit(
            ask=ask,
            route=way,
            user=user,
            body_wanted=False,
            body_signed=claim is not None or (recipe is not None and recipe.signs_body),
            claim=claim,
            body_bytes=body_bytes,
            body_setting=body_setting,
            shared=shared,
        )
        courses = self._courses
        read = authorize.wants_body(
            visit, counted=courses.counts(user), priced=courses.prices_batch(visit)
        ) or self._admission.reads(visit)
        looked_at = not read and isolation.wants_body(visit, active=shared)
        visit = replace(
            visit,
            body_wanted=read or looked_at,
            body_peeked=looked_at and isolation.may_peek(visit),
        )
        try:
            authorize.allow(visit)  # before a body is read for nothing
            if not ask.as_key:
                addresses.check_ids(courses.names(way.provider), way)
            if not way.provider.ready:
                raise NotReady(
                    f"{way.provider.entry.name} is not set up on this proxy.",
                    setting=f"providers.{way.provider.id}",
                    detail=way.provider.missing,
                )
            if ask.websocket and (endpoint is None or endpoint.stream != "websocket"):
                raise NotCarried(
                    "This endpoint is no WebSocket. Use its HTTP form, with server-sent events "
                    "where it streams."
                )
            if ask.body_length is not None and ask.body_length > body_bytes:
                raise too_large(visit)
            upgrade = handshake.read(ask, way.provider.entry) if ask.websocket else None
            visit = replace(visit, upgrade=upgrade, course=courses.of(visit))
        except Denied as denied:
            denied.visit = visit
            raise
        if known is not None and passage is None and claim is None and not way.ticket:
            again.remember(known, visit, settings, self._store, validity=validity)
        return visit

    def perform(self, errand: Errand, content: bytes) -> Answer:
        """Answer a call for a token. Raises Denied."""
        return signin.perform(errand, content, self._store, self._tokens)

    def prove(self, visit: Visit, content: bytes | None) -> None:
        """Verify the client's signature, where its body was waited for. Raises Unauthenticated."""
        proof.prove(visit, content, self._store)

    def depart(
        self, visit: Visit, body: Body, *, waited: bool = True, admitted: Admitted | None = None
    ) -> Grant:
        """May this request be sent, and what of it?

        Arguments:
            waited: time has passed since it arrived, in which its key may have ended.
            admitted: where its row is opened together with others': told when that is done. Until
                then the grant's row is 0, and nothing may be sent.

        Raises:
            Denied: a rule stands against it, or its body cannot be read.
        """
        shared = visit.shared
        if waited:
            self.still(visit)
            shared = self._is_shared(visit)
        course = self._course(visit)
        limit = self.limits.json_body_bytes
        provider = visit.route.provider
        document = None
        if course.reads_plainly and body.content:
            document = documents.read_object(body.content)
        call = authorize.judge(
            visit,
            body,
            course.rules,
            document=document,
            json_body_bytes=limit,
            find_route=functools.partial(self._within, provider),
        )
        whose = self._whose(visit, shared=shared)
        things = course.things
        isolation.judge(visit, body, whose, things, document=document, json_body_bytes=limit)
        makers = isolation.answer_filters(visit, body, whose, things, document=document)
        makers = course.makers + makers
        named = addresses.Addresses(course.names, visit, self.settings.public_url, self._tokens)
        if course.has_places:
            makers += named.filters(limit * 8)
        content = with_usage(body, document) if course.asks_usage else None
        if content is not None:
            makers = (strip_for, *makers)
        whole = makers or course.may_cut
        headers = filled(course.whole_headers if whole else course.headers, visit.ask.headers)
        asked = Asked.of(call, body)
        # Last: from here on it is reserved, and the grant is who remembers that.
        hold = self.book.open(call, asked, admitted)
        try:
            return Grant(
                call=call,
                upstream=course.upstream,
                method=visit.ask.method,
                target=course.target,
                headers=headers,
                filters=makers,
                addresses=named,
                seal=course.seal,
                recipe=provider.recipe,
                hold=hold,
                asked=asked,
                content=content,
                watched=self._admission.watches(hold),
                upgrade=visit.upgrade,
            )
        except BaseException:
            self.book.give_up(hold)
            raise

    def message(self, grant: Grant, content: bytes, used: Counts) -> Grant:
        """May this message of a client's WebSocket be sent? The grant, with the model it names.

        Arguments:
            used: what the WebSocket has used until now.

        Raises:
            Denied: a rule stands against it, or it cannot be read.
        """
        visit = grant.visit
        isolation.judge_message(visit, content, self._whose(visit, shared=self._is_shared(visit)))
        authorize.judge_message(visit, content)
        if not authorize.names_model(visit, content):
            return grant
        body = Body(content)
        call = authorize.judge(visit, body, self._course(visit).rules)
        self._admission.name(grant, call, Asked.of(call, body), used)
        return replace(grant, call=call, watched=self._admission.watches(grant.hold))

    @staticmethod
    def judges_messages(visit: Visit) -> bool:
        """Whether `message` is to be asked before a WebSocket's messages are sent."""
        return authorize.judges_messages(visit)

    def told(self, grant: Grant) -> Headers:
        """What the answer's head says of its request, beside the provider's own."""
        return self._admission.told(grant.hold)

    def grow(self, grant: Grant, counts: Counts) -> int:
        """Reserve more for an answer that has used this much until now; how many tokens more may
        come out before that has to be asked again.

        Raises:
            Spent: a hard budget has no more; the answer is to be ended.
        """
        return self._admission.grow(grant, counts)

    def settle(self, grant: Grant, usage: Usage) -> Receipt:
        """Book what a sent request came to."""
        receipt = account.served(grant, usage, self.book.close(grant, usage))
        self.book.write(receipt)
        return receipt

    def doubt(self, grant: Grant, seal: Seal | None) -> None:
        """The provider refused a request with this credential; one that is made is made anew."""
        if grant.recipe is not None and seal is not None and self.vault is not None:
            self.vault.doubt(grant.recipe, seal)

    # ── on the way ────────────────────────────────────────────────────────────────────────────

    def still(self, visit: Visit) -> None:
        """Raises Denied when the key of a running request is no longer valid."""
        authenticate.still(visit, self._store)

    def is_valid(self, key_id: str) -> bool:
        """Whether a key that was valid still is; also where it can't be looked up."""
        return authenticate.is_valid(key_id, self._store)

    def peer(self, address: str, headers: Headers) -> str:
        """The client's address: the connection's, or what a trusted proxy in front forwards."""
        trusted = self.settings.trusted_proxies
        return client_address(address, headers, trusted) if trusted else address

    # ── inner ─────────────────────────────────────────────────────────────────────────────────

    def _check_in_service(self) -> None:
        if self.shut:
            raise NotReady(f"The proxy is not in service: {self.shut}.")
        if self.draining:
            raise Draining

    def _course(self, visit: Visit) -> Course:
        """What follows of a visit by the settings of now."""
        course = visit.course
        if course is None or course.settings is not self.settings:
            return self._courses.of(visit)
        return course

    def _within(self, provider: Provider, path: str, method: str) -> Route:
        """The way of a request that stands within another one to the same provider."""
        settings = self.settings
        target = f"/{provider.prefix}{path}"
        return route.find(target, method, settings.providers, settings.query_keys)

    def _is_shared(self, visit: Visit) -> bool:
        """Whether, by now, more than one user has keys."""
        self._sharing.look(visit.ask.time_s)
        return self._sharing.shared

    def _whose(self, visit: Visit, *, shared: bool) -> Whose:
        """What the user of a request sees of the account."""
        settings = self.settings
        return Whose(
            self._store.owners,
            visit,
            active=shared,
            unowned_allowed=settings.unowned_allowed,
            shown_to=settings.shown_to,
        )

    def _body_bound(self, user: User) -> tuple[int, str]:
        """How large a body may be, and by which setting."""
        bounds = [(self.limits.body_bytes, "limits.body_bytes")]
        for policy in (user.policy, user.scope):
            if policy is not None and policy.body_bytes is not None:
                bounds.append((policy.body_bytes, policy.body_setting))
        return min(bounds)


def too_large(visit: Visit) -> BodyTooLarge:
    """The denial of a body that is larger than it may be."""
    return BodyTooLarge(
        f"The body is larger than {visit.body_bytes} bytes.", setting=visit.body_setting
    )
