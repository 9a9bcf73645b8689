"""The book: what requests came to, in the ledger's rows and the log's lines.

A row is opened before a request is sent, and closed once, with the truth or as it was reserved;
each request has its line in the log. No key stands in any: texts go through `scrub`.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from llamakey_addon import account, admit
from llamakey_addon.admit import Admission
from llamakey_addon.caps import Bound
from llamakey_addon.config import Settings
from llamakey_addon.credentials.vault import Vault
from llamakey_addon.errors import Broken, Denied, NoLedger
from llamakey_addon.estimate import Estimates
from llamakey_addon.journey import NO_COUNTS, Ask, Call, Grant, Receipt, Usage, Visit
from llamakey_addon.keys import redact
from llamakey_addon.mask import forms_of, mask_all
from llamakey_addon.meter import Asked
from llamakey_addon.prices import Prices
from llamakey_addon.store import StoreError
from llamakey_addon.store.ledger import Alert, Closing, Hold, Ledger

type Admitted = Callable[[Hold, Denied | None], None]
"""Told of a row that it is open, or why not."""

_TOGETHER: Final = 64
"""How many are admitted in one transaction at most: for the next ones the first do not wait, nor
does another process for long."""


class Journal(Protocol):
    """Where receipts go."""

    def write(self, receipt: Receipt) -> None: ...
    def note(self, text: str) -> None: ...


class Book:
    """Keeps ledger and log for a gate, which hands it each snapshot of the settings by `reload`,
    the first one before anything else."""

    def __init__(self, ledger: Ledger, journal: Journal, vault: Vault | None) -> None:
        self._ledger = ledger
        self._ledger.warn = self._warn
        self._journal = journal
        self._vault = vault
        self._estimates = Estimates(ledger)
        self._unwritten = False
        self._asking: list[tuple[Hold, Admitted]] = []
        """Rows that are to be admitted."""
        self.soon: Callable[[], None] | None = None
        """Called when the first of a group of requests asks; whoever sets it sees to it that
        `admit` is called soon: at the end of this turn of the loop, say. None admits each at
        once."""

    def reload(self, settings: Settings) -> None:
        """Price and admit by these settings from now on."""
        if self._asking:
            self.admit()  # by the caps that they asked under
        self._settings = settings
        self.prices = Prices(settings.prices)
        self.admission = Admission(settings, self._ledger, self.prices, self._estimates)

    # ── rows ──────────────────────────────────────────────────────────────────────────────────

    def open(self, call: Call, asked: Asked, admitted: Admitted | None = None) -> Hold:
        """Reserve for a request, and open its row.

        Arguments:
            admitted: told later, with others that ask now: until then the row is 0, and nothing may
                be sent. None waits for it here.

        Raises Denied.
        """
        try:
            hold = self.admission.ask(call, asked, time.time())
            if admitted is not None and self.soon is not None:
                if len(self._asking) >= _TOGETHER:
                    self.admit()
                if not self._asking:
                    self.soon()
                self._asking.append((hold, admitted))
                return hold
            self.admission.admit([hold])
        except NoLedger as denied:
            self._say_unwritten(denied.detail)
            denied.detail = ""
            raise
        self._say_written()
        if (refusal := self.admission.refusal(hold)) is not None:
            raise refusal
        return hold

    def admit(self) -> None:
        """Admit all that have asked, in one transaction, and tell each. Where that fails, exactly
        they are denied."""
        if not self._asking:
            return
        try:
            self.admission.admit([hold for hold, _ in self._asking])
            self._say_written()
        except NoLedger as failure:
            self._say_unwritten(failure.detail)
            self.tell(failure)
        except BaseException as failure:
            self.tell(failure)
        else:
            self.tell()

    def tell(self, failure: BaseException | None = None) -> None:
        """Tell all that have asked what came of it. Never raises."""
        asking, self._asking = self._asking, []
        for hold, admitted in asking:
            if hold.closed:
                continue  # its client has left, say
            try:
                admitted(hold, None if hold.row else self._refusal(hold, failure))
            except BaseException as error:
                self.alarm(error)

    def _refusal(self, hold: Hold, failure: BaseException | None) -> Denied | None:
        """Why a row is not open."""
        try:
            if failure is None:
                return self.admission.refusal(hold)
            # one of its own for each, since a denial remembers whose it is
            return NoLedger("") if isinstance(failure, NoLedger) else Broken(self.describe(failure))
        except BaseException as error:
            return Broken(self.describe(error))

    def give_up(self, hold: Hold) -> None:
        """Close the row of a request that was not sent after all."""
        self._ledger.settle(hold, Closing(0, "failed", "none"))

    def close(self, grant: Grant, usage: Usage) -> Closing:
        """Put the truth into a request's row, and learn from it."""
        call, hold = grant.call, grant.hold
        entry = call.visit.route.provider.entry
        metered = account.used(grant, usage)
        if metered.job and metered.counts and self._is_booked(entry.id, metered.job):
            metered = replace(metered, counts=NO_COUNTS, job="")
        bill = self.prices.bill(entry, call.model, metered, hold.opening.time_s)
        row = account.closing(
            usage, metered, bill, uncounted=usage.sent and self.admission.is_uncounted(call)
        )
        claims = None
        if hold.epoch != self._ledger.epoch:
            claims = self.admission.claims(hold, call.visit.user)
        try:
            self._ledger.settle(hold, row, claims)
        except StoreError as error:
            self._say_unwritten(str(error))
        self._estimates.learn(call, grant.asked, metered, row.cost_nusd)
        return row

    def salvage(
        self,
        error: BaseException,
        ask: Ask,
        visit: Visit | None,
        usage: Usage,
        grant: Grant | None = None,
    ) -> None:
        """Book a request after its booking failed: it may have reached the provider."""
        self.alarm(error)
        if grant is not None:
            try:
                self._ledger.settle_as_held(grant.hold, usage.end, usage.status)
            except Exception as worse:
                self.alarm(worse)
        receipt = account.unserved(
            ask,
            visit,
            None if visit is None else visit.route.provider,
            status=usage.status,
            total_s=usage.total_s,
            end=usage.end,
            denied=Broken.code,
            bytes_up=usage.bytes_up,
        )
        self.write(receipt)

    def flush(self) -> bool:
        """Commit rows that were closed; whether that went well. Where not, they wait."""
        try:
            self._ledger.flush()
        except StoreError as error:
            self._say_unwritten(str(error))
            return False
        self._say_written()
        return True

    def recover(self) -> None:
        """Close rows that killed processes have left open."""
        try:
            closed = self._ledger.recover()
        except StoreError as error:
            self._say_unwritten(str(error))
            return
        if closed:
            self._journal.note(
                f"A proxy was killed while {closed} of its requests ran: they are in the ledger "
                "as estimated."
            )

    # ── lines ─────────────────────────────────────────────────────────────────────────────────

    def write(self, receipt: Receipt) -> None:
        """A request's line in the log."""
        try:
            self._journal.write(receipt)
        except Exception as error:
            self.alarm(error)

    def note(self, text: str) -> None:
        """A line of the log that is no request's. Raises what a broken log raises."""
        self._journal.note(self.scrub(text))

    def alarm(self, error: BaseException) -> None:
        """Something failed where nobody can be answered any more."""
        try:
            self._journal.note(f"failed: {self.describe(error)}")
        except Exception:  # noqa: S110  the log itself is broken, and has said so
            pass

    def describe(self, error: BaseException) -> str:
        """An exception for the log: where and what, without any key."""
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames)
        )
        try:
            what = str(error)
        except BaseException:
            what = "(its text cannot be read)"
        return self.scrub(f"{type(error).__name__}: {what} ({where})")

    def scrub(self, text: str) -> str:
        """`text` without real or local keys."""
        data = text.encode("utf-8", "replace")
        for provider in self._settings.providers.values():
            data = mask_all(data, forms_of(provider.secrets))
        if self._vault is not None:
            data = mask_all(data, forms_of(self._vault.secrets()))
        return redact(data.decode("utf-8", "replace"))

    # ── inner ─────────────────────────────────────────────────────────────────────────────────

    def _is_booked(self, provider: str, job: str) -> bool:
        try:
            return self._ledger.booked(provider, job)
        except StoreError:
            return False  # looked at once more when it is written

    def _say_written(self) -> None:
        if self._unwritten:
            self._unwritten = False
            self._journal.note("The ledger is written again.")

    def _say_unwritten(self, why: str) -> None:
        """Once, until it is well again."""
        if not self._unwritten:
            self._unwritten = True
            self._journal.note(
                f"{why} No new request is sent until then; what runs goes on, and is booked when "
                "that is possible."
            )

    def _warn(self, alert: Alert) -> None:
        money, cap = self._settings.money, alert.cap
        per = "in all" if cap.window == "total" else f"a {cap.window}"
        who = admit.whose_cap(cap, cap.subject[1])
        apart = alert.scope.removeprefix(Bound(cap).name)
        self._journal.note(
            f"{cap.setting}: {money.shown(alert.settled)} of {money.shown(cap.most)} {per} are "
            f"spent ({alert.percent} %) by {who}{' ' if apart else ''}{apart}"
        )
