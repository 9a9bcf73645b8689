"""How requests end that no provider answers: refused, answered by the proxy itself, left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llamakey_addon import account, authenticate, catalogue, denial
from llamakey_addon.here import HEALTH_PATH
from llamakey_addon.journey import Answer, Ask, Grant, Provider, Usage, User, Visit

if TYPE_CHECKING:
    from llamakey_addon.book import Book
    from llamakey_addon.config import Settings
    from llamakey_addon.cutting import Stream
    from llamakey_addon.errors import Denied
    from llamakey_addon.store import Store


class Endings:
    """Words for the client, and lines of the log, by one snapshot of the settings."""

    def __init__(self, settings: Settings, store: Store, book: Book) -> None:
        self._settings = settings
        self._store = store
        self._book = book
        self._envelopes = catalogue.load().envelopes

    def refuse(
        self,
        ask: Ask,
        visit: Visit | None,
        denied: Denied,
        usage: Usage,
        grant: Grant | None = None,
    ) -> Answer:
        """The denial as an answer in the provider's envelope, and its line in the log.

        Arguments:
            usage: what the road has seen until now.
            grant: where the request was let through before.
        """
        visit = visit or denied.visit
        provider = self._provider_of(ask, visit)
        answer = denial.answer(denied, provider, ask.id, self._settings.contact, self._envelopes)
        row = None
        if grant is not None:
            visit = grant.visit
            row = self._book.close(grant, replace(usage, status=answer.status, end=denied.code))
        self._book.write(
            account.unserved(
                ask,
                visit,
                provider,
                status=answer.status,
                total_s=usage.total_s,
                end="denied",
                denied=denied.code,
                setting=denied.setting,
                bytes_up=usage.bytes_up,
                row=row,
                user=None if visit is not None else self._holder(ask, denied),
            )
        )
        if denied.detail:
            self._book.note(f"{ask.id}: {denied.detail}")
        return answer

    def last_word(self, grant: Grant, denied: Denied, stream: Stream) -> bytes:
        """The denial as a stream's last event, for an answer that has begun."""
        ask, provider = grant.visit.ask, grant.visit.route.provider
        contact = self._settings.contact
        return denial.event(denied, provider, stream, ask.id, contact, self._envelopes)

    def cut_off(self, ask: Ask, denied: Denied) -> None:
        """Say in the log why a WebSocket that was open is ended. It is booked by `settle`."""
        self._book.note(f"{ask.id}: {denied.detail or denied.message}")

    def answer_here(
        self, ask: Ask, visit: Visit | None, answer: Answer, why: str, *, total_s: float
    ) -> None:
        """Book a request that the proxy answered itself. Looks at its health are not booked."""
        if ask.target != HEALTH_PATH:
            self._book.write(
                account.unserved(
                    ask,
                    visit,
                    self._provider_of(ask, visit),
                    status=answer.status,
                    total_s=total_s,
                    end=why,
                )
            )

    def abandoned(self, ask: Ask, visit: Visit, why: str, *, total_s: float) -> None:
        """Book a request whose client left before anything was sent."""
        provider = visit.route.provider
        self._book.write(account.unserved(ask, visit, provider, status=0, total_s=total_s, end=why))

    def _holder(self, ask: Ask, denied: Denied) -> User | None:
        """Who sent what was refused before it was a visit, where a key was shown with CONNECT."""
        key_id = denied.key_id or ("" if ask.passage is None else ask.passage.key_id)
        return authenticate.holder(key_id, self._store, self._settings) if key_id else None

    def _provider_of(self, ask: Ask, visit: Visit | None) -> Provider | None:
        if visit is not None:
            return visit.route.provider
        prefix = ask.target.lstrip("/").partition("/")[0].partition("?")[0]
        return self._settings.providers.get(prefix)
