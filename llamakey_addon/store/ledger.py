"""The ledger and its counters: the contract.

A row is opened, committed, before the first byte of a request goes to a provider, and closed when
its answer has ended. The open row holds the estimate: its tokens and its cost are those that are
reserved. Closing puts the truth in their place. What a process leaves open when it dies is closed
by the others, or by the next, at the estimate.

A transaction costs several times what a row does. So requests that arrive together are admitted
together (`admit_all`), in one transaction that also closes the rows of answers that have ended.

Counters are what caps compare with. They are sums of rows, kept so that no row has to be read:
`settled` of closed ones, `reserved` of open ones. One that is asked for and is not there is summed
up from the rows, so that a cap that is new begins with the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Literal, NamedTuple, Protocol

from llamakey_addon.caps import Bound, Facts
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.journey import NO_COUNTS, Cap, Counts, Quality
from llamakey_addon.quick import quick
from llamakey_addon.store.windows import Span

type Of = Literal[
    "user", "team", "key", "provider", "endpoint", "model", "served", "tag", "quality", "status"
]
"""What rows can be chosen by. `key` is the key's id, `served` the model that the answer named."""
type By = Of | Literal["day"]
"""What totals can be told apart by. `day` is a date in a time zone, as 2026-11-28."""


class Opening(NamedTuple):
    """A row as it is opened."""

    id: str
    """The request's id."""
    time_s: float
    """When it was let through, UTC seconds since 1970."""
    facts: Facts
    input_tokens: int = 0
    """Reserved, as the two below."""
    output_tokens: int = 0
    cost_nusd: int = 0


@quick
@dataclass(frozen=True, slots=True)
class Closing:
    """What comes into a row when it is closed."""

    status: int
    """Of the provider's answer; 0 when there was none."""
    end: str
    """`complete`, or why it ended before."""
    quality: Quality
    counts: Counts = NO_COUNTS
    cost_nusd: int = 0
    served: str = ""
    """The model as the answer names it; "" where it does not."""
    job: str = ""
    """Whose usage this is, where an answer can be fetched more than once: of a provider's job only
    the first counts."""
    priced: str = ""
    """Date of the price table, or the setting, that the cost is from; "" without a price."""
    first_byte_ms: float | None = None
    total_ms: float = 0.0


class Claim(NamedTuple):
    """What a request takes of a cap."""

    bound: Bound
    scope: str
    span: Span
    amount: int
    """Requests and concurrent: 1; tokens and nano-dollars: the estimate, at least 1. With 0, for a
    request that should take nothing, the cap is not looked at; what it took is settled all the
    same."""

    @property
    def cap(self) -> Cap:
        return self.bound.cap


class Standing(NamedTuple):
    """Where a counter is."""

    claim: Claim
    settled: int
    """Of closed requests; those of a sliding window weighted, rounded up."""
    reserved: int
    """Of open ones."""
    free_in_s: float = 0.0
    """When what the claim asks for will be there, if nothing else comes; 0 now, infinity when
    waiting within this window is of no use."""

    @property
    def used(self) -> int:
        return self.settled + self.reserved

    @property
    def left(self) -> int:
        return max(0, self.claim.cap.most - self.used)


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget has passed one of its thresholds."""

    cap: Cap
    scope: str
    percent: int
    settled: int


class CapReached(LlamaKeyError):
    """A hard cap stands against a request. Nothing was written.

    Arguments:
        standing: of that cap; of several the one that stands longest against it.
        spent: waiting for open requests to end is of no use: it is used up, or the request's
            estimate alone is more than what is left, until the window ends.
    """

    def __init__(self, standing: Standing, *, spent: bool) -> None:
        self.standing = standing
        self.spent = spent
        super().__init__(standing.claim.cap.setting)


class Hold:
    """A row, with what is reserved for it: asked for, then admitted or not, then closed. The one
    value of the journey that changes: an answer that turns out larger takes more
    (`Ledger.extend`)."""

    __slots__ = (
        "claims",
        "closed",
        "cost_nusd",
        "epoch",
        "left",
        "opening",
        "output_tokens",
        "reached",
        "row",
    )

    def __init__(self, opening: Opening, claims: Sequence[Claim], epoch: int) -> None:
        self.row = 0
        """Its key; 0 while it is not committed."""
        self.reached: CapReached | None = None
        """What stood against it."""
        self.opening = opening
        self.claims = tuple(claims)
        self.left: Sequence[int] = ()
        """What each of their caps had left after it."""
        self.epoch = epoch
        """Of the caps that the claims are of; see `Ledger.renew`."""
        self.output_tokens = opening.output_tokens
        self.cost_nusd = opening.cost_nusd
        self.closed = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ledger."""

    time_s: float
    id: str
    facts: Facts
    status: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    other: Mapping[str, int]
    """Counts of other kinds."""
    cost_nusd: int
    quality: Quality
    served: str
    priced: str
    first_byte_ms: float | None
    total_ms: float
    end: str
    open: bool
    """Not ended yet: tokens and cost are what is reserved."""
    process: str


@dataclass(frozen=True, slots=True)
class Total:
    """Sums of rows that are alike in what was asked for."""

    of: tuple[str, ...]
    """Values in the order of `by`."""
    requests: int
    open: int
    """Of those not ended yet, which are counted at their estimate."""
    failed: int
    """With a status of 400 or more, or without an answer."""
    estimated: int
    unpriced: int
    input_tokens: int
    """With what was read from or written to the provider's cache."""
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_nusd: int


class Size(NamedTuple):
    """What an answer that grows may have, in all."""

    output_tokens: int
    cost_nusd: int
    plenty: int = 1
    """It is had where so many times what is added is left, of budgets; and, where that is more than
    once, of limits of tokens."""


class Ledger(Protocol):
    """Belongs to the thread that opened the store. Every method may raise StoreError, and then
    nothing of what it would have done is done.

    `admit` waits for another process's write for a moment only, and not at all while such a wait
    was in vain the last time: a proxy's one thread has others to serve.
    """

    # --- the running proxy ------------------------------------------------------------------------

    def renew(self, caps: Collection[str], zone: str) -> None:
        """The caps are these from now on, but for those of keys.

        Counters of others than were there until now are summed up anew from the rows when they are
        next asked for; so are those of money, where its time zone is another.

        Arguments:
            caps: their names (`Bound.name`).
        """

    @property
    def epoch(self) -> int:
        """A number that grows with each change of caps in this process."""

    def ask(self, opening: Opening, claims: Sequence[Claim]) -> Hold:
        """A row that is to be admitted. Nothing is written, nor looked at."""

    def admit_all(self, holds: Sequence[Hold]) -> None:
        """Reserve for each what its claims take, and open its row: all of it, or nothing. The first
        come first, and one that is refused leaves nothing behind and undoes no other. Then each has
        a row or, in `reached`, what stands against it; one that was closed meanwhile has neither.

        One transaction, which also closes what `settle` has collected. What is committed survives
        the process, not a loss of power: that may take the last moments. Where it fails, none has a
        row.
        """

    def admit(self, opening: Opening, claims: Sequence[Claim]) -> Hold:
        """`ask`, and admit that alone. Raises CapReached."""

    def readmit(
        self, hold: Hold, opening: Opening, claims: Sequence[Claim], *, again: bool
    ) -> None:
        """An open row is for another model from now on: what was reserved for it is given back, and
        taken anew by these claims. The row stays as it was where one stands against it.

        Arguments:
            opening: of the same row and time.
            again: this is one request more within the row, and counts as one.

        Raises CapReached.
        """

    def extend(self, hold: Hold, *sizes: Size) -> None:
        """Reserve the first of these for a row, where it is more than the row has.

        Raises CapReached where a hard budget has not even the last left; limits of tokens grow
        without a look, for an answer that has begun is not ended for them.
        """

    def settle(self, hold: Hold, closing: Closing, claims: Sequence[Claim] | None = None) -> None:
        """Close a row: counters lose its reservation and gain the truth. Once only. Of one that is
        not admitted yet nothing will be written.

        It is collected, and committed with the next admission or by `flush`, whichever is first:
        until then the row counts as open for other processes.

        Arguments:
            claims: as of the caps of now, where these have changed since the row was opened.
        """

    def settle_as_held(self, hold: Hold, end: str, status: int = 0) -> None:
        """Close a row with what was reserved for it, marked estimated."""

    def booked(self, provider: str, job: str) -> bool:
        """Whether what a job used has been booked already, with the answer to another request."""

    def first(self, name: str, until_s: float) -> bool:
        """Whether nothing of this name has been here, in any process; remembered until then."""

    def flush(self) -> None:
        """Commit what `settle` has collected."""

    written: int
    """How many transactions were committed here."""
    checkpoints_elsewhere: bool
    """Set, before anything is written, by who calls `checkpoint`. Else SQLite does it with every
    thousandth page or so, and whoever commits waits for the disk."""

    def checkpoint(self) -> None:
        """Bring what was committed into the main file, which takes a while: for another thread."""

    waiting: Callable[[], None] | None
    """Called when the first of a group of settlements waits; whoever sets it sees to it that
    `flush` is called soon. None flushes at once."""
    warn: Callable[[Alert], None] | None
    """Told of each threshold that a budget passes, once in its window."""

    def standing(self, facts: Facts, claims: Sequence[Claim], now_s: float) -> list[Standing]:
        """Where the counters are that a request with these facts and claims falls under."""

    def recover(self) -> int:
        """Close what dead processes have left open, at its estimate; how many rows.

        Cheap when there is nothing to do: to be called at a start, and every few seconds.
        """

    def learned(self, key_id: str, provider: str, endpoint: str, model: str) -> Mapping[str, float]:
        """What was remembered by `remember`; empty where nothing was."""

    def remember(
        self,
        key_id: str,
        provider: str,
        endpoint: str,
        model: str,
        figures: Callable[[], Mapping[str, float]],
    ) -> None:
        """Keep some figures, which are asked for when they are written, now and then."""

    # --- the owner's command ----------------------------------------------------------------------

    def totals(
        self,
        since_s: float,
        until_s: float,
        by: Sequence[By],
        where: Mapping[Of, str] | None = None,
        zone: tzinfo = UTC,
    ) -> list[Total]:
        """Sums of the rows from `since_s` until before `until_s`, by these; dearest first.

        `where` takes exact values. Without `by` there is one total, or none where there is no row.
        """

    def rows(
        self, since_s: float, until_s: float, where: Mapping[Of, str] | None = None
    ) -> Iterator[Row]:
        """The rows themselves, oldest first."""

    # --- life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Commit what waits, and give everything back; the store does it when it is closed. What
        can't be committed stays open, for the next process to close. Never raises."""
