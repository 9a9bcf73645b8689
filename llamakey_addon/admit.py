"""May they, now: rates, what runs at once, and money, reserved before anything is sent.

Every request that is let through has a row in the ledger; what caps apply to it is reserved with
it. A reservation of tokens and money is an estimate, and it is let through only where a hard budget
has room for that. So what can be spent beyond one is bounded:

    spent ≤ budget + Σ (cost - reserved), over the answers that run when it is reached

Each of them was admitted once, so with n running at once it is at most n of these differences. An
answer that streams takes more as it grows, and is ended when there is no more
(`metering.cut_streams`): its difference is what came with the piece that there was no room for. Of
one that does not stream, or comes in one piece, it is the whole; of work whose cost is told later,
a batch, all that was begun and is not told of yet. `tests/attacks/test_limits.py` has
two hundred callers at once come to exactly that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from llamakey_addon.caps import Bound, Facts
from llamakey_addon.catalogue.models import Entry
from llamakey_addon.config import Settings
from llamakey_addon.errors import Denied, Forbidden, NoLedger, Rate, Spent, TooMany, Unpriced
from llamakey_addon.estimate import Estimates
from llamakey_addon.journey import (
    Call,
    Cap,
    Counts,
    Grant,
    Headers,
    Policy,
    Unit,
    User,
    Visit,
    values_of,
)
from llamakey_addon.meter import Asked
from llamakey_addon.meter.flavours import SOCKETS
from llamakey_addon.prices import Price, Prices
from llamakey_addon.store import StoreError
from llamakey_addon.store.ledger import CapReached, Claim, Hold, Ledger, Opening, Size, Standing
from llamakey_addon.store.windows import FOREVER_S, Span, Windows

#: Session ids of coding agents: Claude Code's, and Codex's. The owner's header goes before them.
_SESSION_HEADERS: Final = (b"x-claude-code-session-id", b"session-id")
_TAG_MAX: Final = 128
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
"""Such requests begin nothing that costs; what an answer to one says was used is booked, though."""
_KEPT: Final = 4096
_KINDS: Final = 8
"""Of requests with one head, by their model; an agent asks for two or three."""
_PLENTY: Final = 100
_AHEAD_TOKENS: Final = 1000
#: Of providers whose answers say what they cost, where nobody has asked yet: a tenth of a cent.
_UNKNOWN_NUSD: Final = 1_000_000


class Expected(NamedTuple):
    """What a request will probably use."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0
    free: bool = False
    price: Price | None = None
    lacks: str = ""
    """A model within it that has no price."""


_NOTHING: Final = Expected()
#: Before anything is known; enough that a cap which is used up stands against it.
_LITTLE: Final = Expected(input_tokens=1, cost_nusd=1, free=True)
_LATER: Final = Expected(cost_nusd=1, free=True)
_IN_BATCH: Final = (("processing", "batch"),)


class _Caps(NamedTuple):
    """What holds for a user with a key."""

    bounds: tuple[Bound, ...]
    counted: bool
    """Whether tokens or money are among them."""
    spends: bool
    """Whether money is, and hard."""
    policy: Policy
    scope: Policy | None


class _Part(NamedTuple):
    """A cap that counts requests of a kind, until its window ends."""

    bound: Bound
    scope: str
    span: Span
    unit: Unit
    claim: Claim | None
    """Where each request takes the same of it."""


class _Kind:
    """Requests that are alike to the caps, from one user on one way: which caps count them, under
    what names, and over which time, until that is over."""

    __slots__ = (
        *("_parts", "_since_s", "_until_s", "_windows"),
        *("bounds", "counted", "expected", "facts", "route", "user"),
    )

    def __init__(self, call: Call, facts: Facts, bounds: Iterable[Bound], windows: Windows) -> None:
        self.user = call.visit.user
        self.route = call.visit.route
        self.facts = facts
        self.bounds = tuple([bound for bound in bounds if bound.fits(facts)])
        self.counted = any(bound.cap.unit in ("tokens", "nusd") for bound in self.bounds)
        """Whether tokens or money are among them."""
        self.expected = _LITTLE if _names_its_model_later(call) else _by_the_way(call.visit)
        """What each of them will use; None where that is to be estimated."""
        self._windows = windows
        self._since_s = self._until_s = 0
        self._parts: tuple[_Part, ...] = ()

    def claims(self, expected: Expected, now_s: float) -> list[Claim]:
        """What one of them takes that is expected to use so much."""
        if not self._since_s <= now_s < self._until_s:
            self._look_up(now_s)
        amounts = {
            "tokens": expected.input_tokens + expected.output_tokens,
            "nusd": expected.cost_nusd,
        }
        return [
            claim or Claim(bound, scope, span, amounts[unit])
            for bound, scope, span, unit, claim in self._parts
        ]

    def _look_up(self, now_s: float) -> None:
        """Which windows it is now, and until when."""
        self._since_s, self._until_s = 0, FOREVER_S
        parts = []
        for bound in self.bounds:
            unit = bound.cap.unit
            scope, span = bound.scope(self.facts), self._windows.span(unit, bound.cap.window, now_s)
            same = unit in ("requests", "concurrent")
            claim = Claim(bound, scope, span, 1) if same else None
            parts.append(_Part(bound, scope, span, unit, claim))
            self._since_s = max(self._since_s, span.start_s)
            self._until_s = min(self._until_s, span.end_s)
        self._parts = tuple(parts)


class Admission:
    """Admits by one snapshot of the settings."""

    def __init__(
        self, settings: Settings, ledger: Ledger, prices: Prices, estimates: Estimates
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._prices = prices
        self._estimates = estimates
        self._windows = Windows(settings.money.time_zone)
        self._bounds: dict[tuple[int, int], _Caps] = {}
        self._latest: tuple[User | None, _Caps] = (None, _Caps((), False, False, Policy(), None))
        self._tag_headers = (
            normal(settings.metering.tag_header.encode("ascii")),
            *_SESSION_HEADERS,
        )
        self._known_prices: dict[tuple[str, str, int], Price | None] = {}
        self._named = False

    def ask(self, call: Call, asked: Asked, now_s: float) -> Hold:
        """What a request will probably use, to be reserved for it by `admit`.

        Raises:
            Unpriced: a budget holds, and the model has no price.
            Forbidden: tokens or money are bounded, and it can't be counted.
            NoLedger: the ledger cannot be written.
        """
        visit = call.visit
        kind = self._kind(call)
        expected = self._expected(call, asked, now_s, kind.expected, counted=kind.counted)
        if kind.counted:
            self._check_countable(call, kind.bounds, expected)
        opening = Opening(
            id=visit.ask.id,
            time_s=now_s,
            facts=kind.facts,
            input_tokens=expected.input_tokens,
            output_tokens=expected.output_tokens,
            cost_nusd=expected.cost_nusd,
        )
        try:
            if not self._named:
                self._ledger.renew(self._names(), self._settings.money.zone)
                self._named = True
            return self._ledger.ask(opening, kind.claims(expected, now_s))
        except StoreError as error:
            raise NoLedger(str(error)) from error

    def admit(self, holds: Sequence[Hold]) -> None:
        """Reserve for each, and open their rows, in one transaction. Those that are refused have no
        row then, but a `refusal`. Raises NoLedger, for all of them."""
        try:
            self._ledger.admit_all(holds)
        except StoreError as error:
            raise NoLedger(str(error)) from error

    def refusal(self, hold: Hold) -> Denied | None:
        """Why a row was not admitted.

        TooMany: a limit, or a budget of which the rest is reserved at the moment; Spent: a budget
        is used up.
        """
        return None if hold.reached is None else self._denial(hold.reached, hold.opening.facts.user)

    def name(self, grant: Grant, call: Call, asked: Asked, used: Counts) -> None:
        """Admit a message of a WebSocket that names the model; each is a request of its own.

        Arguments:
            call: with that model.
            asked: what the message says of itself.
            used: what the WebSocket has used until now.

        Raises as `ask` does, TooMany and Spent as a `refusal` is, and Forbidden where what was used
        could not be told apart by model.
        """
        hold, visit = grant.hold, call.visit
        before = grant.call.model
        if before and before != call.model and self.is_counted(visit.user):
            raise Forbidden(
                f"This WebSocket is for {before}, since tokens or money of {visit.user.name} are "
                "bounded and its answers are priced by one model. Open another for another model."
            )
        facts = hold.opening.facts._replace(model=call.model)
        bounds = [bound for bound in self._bounds_of(visit.user) if bound.fits(facts)]
        if not bounds and not hold.claims and before == call.model:
            return
        now_s = hold.opening.time_s
        counted = any(bound.cap.unit in ("tokens", "nusd") for bound in bounds)
        known = _by_the_way(visit)
        expected = self._expected(call, asked, now_s, known, counted=counted)
        if counted:
            self._check_countable(call, bounds, expected)
        spent = 0 if expected.price is None else expected.price.cost_nusd(used) or 0
        expected = expected._replace(
            input_tokens=expected.input_tokens + used.get("input_tokens", 0),
            output_tokens=expected.output_tokens + used.get("output_tokens", 0),
            cost_nusd=expected.cost_nusd + spent,
        )
        opening = hold.opening._replace(
            facts=facts,
            input_tokens=expected.input_tokens,
            output_tokens=expected.output_tokens,
            cost_nusd=expected.cost_nusd,
        )
        claims = self._claims(bounds, facts, expected, now_s)
        try:
            self._ledger.readmit(hold, opening, claims, again=bool(before))
        except CapReached as reached:
            raise self._denial(reached, visit.user.name) from None
        except StoreError as error:
            raise NoLedger(str(error)) from error

    def claims(self, hold: Hold, user: User) -> list[Claim]:
        """What an open row takes of the caps of now, which may be others than it was opened under:
        those of the team that it counts for, whoever is in it now."""
        opening = hold.opening
        facts = opening.facts
        caps = [*self._settings.everybody, *self._settings.policy(user.name).caps]
        if facts.team in self._settings.teams:
            caps += self._settings.teams[facts.team].policy.caps
        if user.scope is not None:
            caps += user.scope.caps
        bounds = {bound.name: bound for bound in map(Bound, caps)}.values()
        fitting = [bound for bound in bounds if bound.is_of(facts) and bound.fits(facts)]
        held = Expected(opening.input_tokens, hold.output_tokens, hold.cost_nusd)
        return self._claims(fitting, facts, held, opening.time_s)

    def grow(self, grant: Grant, counts: Counts) -> int:
        """Reserve more for an answer, in steps, where it has outgrown what is reserved.

        How many tokens more may come out before it has, for certain; 0 where that is not known.
        Raises Spent where a hard budget has not so much.
        """
        call, hold = grant.call, grant.hold
        entry = call.visit.route.provider.entry
        price = self._price(entry, call.model, hold.opening.time_s)
        cost = counts.get("billed_nusd") if price is None else price.cost_nusd(counts)
        if cost is None or cost <= hold.cost_nusd:
            return _spare(price, counts, hold)
        output = counts.get("output_tokens", 0)
        try:
            self._ledger.extend(
                hold,
                self._ahead(price, counts, cost),
                Size(output + output // 4, cost + cost // 4),
                Size(output, cost),  # not another quarter; but this much may still be there
            )
        except CapReached as reached:
            raise self._used_up(reached, call.visit.user.name) from None
        except StoreError:
            return 0  # it can't be written now; the answer goes on, and is settled when it can
        return _spare(price, counts, hold)

    @staticmethod
    def _ahead(price: Price | None, counts: Counts, cost_nusd: int) -> Size:
        """As much again and a thousand tokens, where there is plenty for others, too: so that few
        steps do, each of which is written."""
        output = counts.get("output_tokens", 0)
        ahead = output * 2 + _AHEAD_TOKENS
        cost = None if price is None else price.cost_nusd({**counts, "output_tokens": ahead})
        return Size(ahead, max(cost or 0, cost_nusd * 2), plenty=_PLENTY)

    def watches(self, hold: Hold) -> bool:
        """Whether an answer is ended where it uses up a hard budget."""
        if self._settings.metering.cut_streams:
            for claim in reversed(hold.claims):  # budgets come after limits
                cap = claim.bound.cap
                if cap.unit == "nusd" and cap.hard:
                    return True
        return False

    def may_cut(self, visit: Visit) -> bool:
        """Whether an answer may have to be ended with a word, so that it must not come packed."""
        endpoint = visit.route.endpoint
        return (
            self._settings.metering.cut_streams
            and endpoint is not None
            and endpoint.stream in ("sse", "ndjson")
            and self.bounds_money(visit.user)
        )

    def bounds_money(self, user: User) -> bool:
        """Whether a hard budget holds for a user."""
        return self._caps_of(user).spends

    def told(self, hold: Hold) -> Headers:
        """What an answer's head says of its request: its id, and what is left where the owner
        wants that told."""
        told = ((b"x-llamakey-request-id", hold.opening.id.encode("ascii")),)
        if not self._settings.metering.show_left or not hold.claims:
            return told
        left = ", ".join(map(self._left, hold.claims, hold.left))
        return (*told, (b"x-llamakey-left", left.encode()))

    def _left(self, claim: Claim, left: int) -> str:
        """e.g. `requests;left=59;of=60;per=minute`."""
        cap = claim.cap
        per = f";per={cap.window}" if cap.window else ""
        if cap.unit != "nusd":
            return f"{cap.unit};left={left};of={cap.most}{per}"
        money = self._settings.money
        amounts = (f"{money.amount(nusd):.6f}".rstrip("0").rstrip(".") for nusd in (left, cap.most))
        return "spend;left={};of={};currency={}{}".format(*amounts, money.currency, per)

    def reads(self, visit: Visit) -> bool:
        """Whether a body is read for what it says of its cost."""
        endpoint = visit.route.endpoint
        if endpoint is None or endpoint.usage == "none" or visit.ask.body_length == 0:
            return False
        if endpoint.model == "multipart" or not self.is_counted(visit.user):
            return False
        kinds = values_of(visit.ask.headers, b"content-type")
        return bool(kinds) and b"json" in kinds[0].lower()

    def is_counted(self, user: User) -> bool:
        """Whether tokens or money of a user are bounded."""
        return self._caps_of(user).counted

    def is_uncounted(self, call: Call) -> bool:
        """Whether nobody can tell what a request uses."""
        endpoint = call.visit.route.endpoint
        return call.visit.ask.websocket and endpoint is not None and endpoint.usage not in SOCKETS

    def standings(self, user: User, tag: str, now_s: float) -> Iterator[tuple[Bound, Standing]]:
        """Where the caps are that a user's requests fall under. Raises StoreError."""
        facts = Facts(user.name, user.key_id, user.policy.team, "", "", "", "", "", tag)
        bounds = self._bounds_of(user)
        claims = self._claims(bounds, facts, Expected(1, 0, 1), now_s)
        return zip(bounds, self._ledger.standing(facts, claims, now_s), strict=True)

    def tag(self, headers: Headers) -> str:
        """The tag of a request: a label that the client gives it, and no identity. Of the owner's
        header and those of coding agents the first that holds one counts."""
        found: dict[bytes, str] = {}
        for name, value in headers:
            slot = normal(name)
            if slot in self._tag_headers:
                text = value.decode("latin-1").strip()[:_TAG_MAX]
                if text and text.isprintable():
                    found.setdefault(slot, text)
        return next((found[name] for name in self._tag_headers if name in found), "")

    def facts(self, call: Call) -> Facts:
        """What caps look at of a request."""
        visit = call.visit
        ask, route, user = visit.ask, visit.route, visit.user
        return Facts(
            user=user.name,
            key_id=user.key_id,
            team=user.policy.team,
            provider=route.provider.id,
            endpoint="" if route.endpoint is None else route.endpoint.name,
            method=ask.method,
            path=route.path,
            model=call.model,
            tag=self.tag(ask.headers),
        )

    def _kind(self, call: Call) -> _Kind:
        """What a request is alike to. Of one whose head is known it is kept with that."""
        visit = call.visit
        known = visit.ask.known
        if known is not None and not known.varying.isdisjoint(self._tag_headers):
            known = None  # its tag is another each time
        kinds: dict[str, _Kind] | None = None
        if known is not None:
            kinds = known.recall("kinds", self)
            if kinds is None:
                kinds = {}
                known.keep("kinds", self, kinds)
            kind = kinds.get(call.model)
            if kind is not None and kind.user is visit.user and kind.route is visit.route:
                return kind
        kind = _Kind(call, self.facts(call), self._bounds_of(visit.user), self._windows)
        if kinds is not None:
            if len(kinds) >= _KINDS:
                kinds.clear()
            kinds[call.model] = kind
        return kind

    # --- what applies, and how much ---------------------------------------------------------------

    def _bounds_of(self, user: User) -> tuple[Bound, ...]:
        """Caps of everybody, of the user with the team, and of the key."""
        return self._caps_of(user).bounds

    def _caps_of(self, user: User) -> _Caps:
        latest, caps = self._latest
        if latest is not user:
            caps = self._caps_by_policy(user)
            self._latest = (user, caps)
        return caps

    def _caps_by_policy(self, user: User) -> _Caps:
        name = (id(user.policy), id(user.scope))
        known = self._bounds.get(name)
        if known is None:
            caps = (*self._settings.everybody, *user.policy.caps)
            if user.scope is not None:
                caps += user.scope.caps
            if len(self._bounds) >= _KEPT:
                self._bounds.clear()
            # With the policies, so that no other can come to have their place in memory.
            known = self._bounds[name] = _Caps(
                tuple(map(Bound, caps)),
                any(cap.unit in ("tokens", "nusd") for cap in caps),
                any(cap.unit == "nusd" and cap.hard for cap in caps),
                user.policy,
                user.scope,
            )
        return known

    def _expected(
        self, call: Call, asked: Asked, now_s: float, known: Expected | None, *, counted: bool
    ) -> Expected:
        """What a request will probably use. `known` is what follows from its way alone."""
        if call.within:
            return self._of_batch(call, now_s)
        if known is not None:
            return known
        entry = call.visit.route.provider.entry
        counts = self._estimates.counts(call, asked, closely=counted)
        price = self._price(entry, call.model, now_s)
        if "requests" in counts and price is not None and price.cost_nusd(counts) is None:
            price = None  # of the model's tokens, and not of a request that has it trained, say
        if not counts:
            return Expected(price=price, free=True)
        cost = 0
        free = price is not None and price.free
        if not free and (price is not None or entry.states_cost):
            cost = (0 if price is None else price.cost_nusd(counts)) or (
                self._estimates.cost_nusd(call) or (_UNKNOWN_NUSD if price is None else 1)
            )
        return Expected(
            input_tokens=counts.get("input_tokens", 0) or 1,
            output_tokens=counts.get("output_tokens", 0),
            cost_nusd=cost,
            free=free,
            price=price,
        )

    def _of_batch(self, call: Call, now_s: float) -> Expected:
        """What the requests of a batch will probably cost. It is not booked with this request: the
        answer that tells of the batch's end has the truth."""
        entry = call.visit.route.provider.entry
        cost = 1
        for part in call.within:
            price = self._prices.of(entry, part.model, now_s, _IN_BATCH)
            if price is None:
                return Expected(cost_nusd=1, free=entry.states_cost, lacks=part.model)
            cost += price.cost_nusd(self._estimates.within(call, part)) or 0
        return Expected(cost_nusd=cost, free=True)

    def _price(self, entry: Entry, model: str, at_s: float) -> Price | None:
        """A model's price, looked up once a second: it may hang on the time."""
        name = (entry.id, model, int(at_s))  # answers that began in different seconds run at once
        try:
            return self._known_prices[name]
        except KeyError:
            pass
        if len(self._known_prices) >= _KEPT:
            self._known_prices.clear()
        price = self._known_prices[name] = self._prices.of(entry, model, at_s)
        return price

    def _claims(
        self, bounds: Iterable[Bound], facts: Facts, expected: Expected, now_s: float
    ) -> list[Claim]:
        amounts = {
            "requests": 1,
            "concurrent": 1,
            "tokens": expected.input_tokens + expected.output_tokens,
            "nusd": expected.cost_nusd,
        }
        return [
            Claim(
                bound,
                bound.scope(facts),
                self._windows.span(bound.cap.unit, bound.cap.window, now_s),
                amounts[bound.cap.unit],
            )
            for bound in bounds
        ]

    def _check_countable(self, call: Call, bounds: Sequence[Bound], expected: Expected) -> None:
        """Raise where a cap holds and nobody can tell what a request takes of it."""
        visit = call.visit
        entry = visit.route.provider.entry
        if visit.ask.websocket and self.is_uncounted(call):
            for bound in bounds:
                if bound.cap.hard and bound.cap.unit in ("tokens", "nusd"):
                    raise Forbidden(
                        "What this WebSocket uses can't be counted, so it is not opened where "
                        f"tokens or money are bounded. Use {entry.name}'s HTTP endpoints.",
                        setting=bound.cap.setting,
                    )
        if expected.free or expected.price or entry.states_cost:
            return
        if _uses_nothing(visit) and not expected.lacks:
            return
        for bound in bounds:
            if bound.cap.hard and bound.cap.unit == "nusd":
                model = expected.lacks or call.model
                what = f"the model {model}" if model else "this request"
                raise Unpriced(
                    f"{visit.user.name} has a budget ({bound.cap.setting}), and what {what} costs "
                    f"at {entry.name} is not known, so it is not sent. The proxy's owner can say "
                    "what it costs, or that it is free, under `prices` in config.yaml.",
                    setting="prices",
                    detail=f"prices: [{{provider: {visit.route.provider.id}, "
                    f"model: {json.dumps(model or '*')}, input_mtok: …, output_mtok: …}}]",
                )

    def _names(self) -> set[str]:
        """Of every cap in config.yaml."""
        return {Bound(cap).name for cap in self._settings.people.caps()}

    # --- refusals ---------------------------------------------------------------------------------

    def _denial(self, reached: CapReached, user: str) -> Denied:
        standing = reached.standing
        cap = standing.claim.cap
        whose = whose_cap(cap, user)
        if cap.unit == "nusd":
            return self._no_money(reached, whose)
        if cap.unit == "concurrent":
            return TooMany(
                f"{cap.most} requests at once are the most for {whose}, and as many are running. "
                "Wait until one has ended.",
                setting=cap.setting,
            )
        wait_s = math.ceil(standing.free_in_s)
        return TooMany(
            f"{cap.most:,} {cap.unit} a {cap.window} are the most for {whose}. "
            f"Try again in {wait_s:,} s.",
            retry_after_s=standing.free_in_s,
            rate=Rate(cap.unit, cap.most, standing.left, standing.free_in_s),
            setting=cap.setting,
        )

    def _no_money(self, reached: CapReached, whose: str) -> Denied:
        standing = reached.standing
        money, cap = self._settings.money, standing.claim.cap
        per = "in all" if cap.window == "total" else f"a {cap.window}"
        budget = f"The budget of {money.shown(cap.most)} {per} for {whose}"
        if not reached.spent:
            return TooMany(
                f"{budget} has {money.shown(max(0, cap.most - standing.settled))} left, which is "
                "reserved for requests that are running. Try again when they have ended.",
                setting=cap.setting,
            )
        if standing.settled >= cap.most:
            state = f"{budget} is spent."
        else:
            state = (
                f"{budget} has {money.shown(cap.most - standing.settled)} left, and this request "
                f"is estimated at {money.shown(standing.claim.amount)}."
            )
        return self._spent(standing, state)

    def _used_up(self, reached: CapReached, user: str) -> Spent:
        """Of an answer that has used up a budget."""
        cap = reached.standing.claim.cap
        whose = whose_cap(cap, user)
        return self._spent(
            reached.standing, f"This answer has used up the budget for {whose} and was ended here."
        )

    def _spent(self, standing: Standing, state: str) -> Spent:
        money, end_s = self._settings.money, standing.claim.span.end_s
        renews_s, renews = None, "It does not renew."
        if end_s < FOREVER_S:
            when = datetime.fromtimestamp(end_s, money.time_zone)
            renews_s, renews = end_s, f"It renews at {when:%Y-%m-%d %H:%M} {money.zone}."
        return Spent(f"{state} {renews}", setting=standing.claim.cap.setting, renews_s=renews_s)


def _spare(price: Price | None, counts: Counts, hold: Hold) -> int:
    """Tokens for which what is reserved is enough, beside what was used."""
    output = counts.get("output_tokens", 0)
    spare = 0 if price is None else max(output, hold.output_tokens - output)
    while price is not None and spare > 0:
        cost = price.cost_nusd({**counts, "output_tokens": output + spare})
        if cost is not None and cost <= hold.cost_nusd:
            return spare
        spare //= 2
    return 0


def whose_cap(cap: Cap, user: str) -> str:
    """Whose requests a cap counts, for people."""
    kind, name = cap.subject
    who = {
        "everybody": "everybody together",
        "team": f"the team {name}",
        "user": user,
        "key": "this key",
    }[kind]
    apart = [group for group in cap.each if group != kind]
    return f"{who}, for each {' and '.join(apart)}" if apart else who


def _uses_nothing(visit: Visit) -> bool:
    """Whether a request begins nothing that uses tokens or money."""
    endpoint = visit.route.endpoint
    if visit.ask.websocket:
        return False
    if endpoint is not None and endpoint.usage == "none":
        return True
    return visit.ask.method in _READING


def _by_the_way(visit: Visit) -> Expected | None:
    """What a request will use, where that follows from its method and endpoint: one that begins
    something whose cost is told later by another answer, a batch; one that uses nothing."""
    endpoint = visit.route.endpoint
    if endpoint is not None and endpoint.later and visit.ask.method not in _READING:
        return _LATER
    return _NOTHING if _uses_nothing(visit) else None


def _names_its_model_later(call: Call) -> bool:
    """Whether a request is the head of a WebSocket whose messages name the model."""
    endpoint = call.visit.route.endpoint
    return endpoint is not None and endpoint.model == "message" and not call.model


def normal(name: bytes) -> bytes:
    """A header's name as it is compared."""
    return name.lower().replace(b"_", b"-")
