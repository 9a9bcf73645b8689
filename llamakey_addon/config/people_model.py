"""The shape of config.yaml where it says who may do what, how fast and for how much.

A key's scope has the same shape as a user's part.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llamakey_addon.config.part import Bytes, Part

type Amount = Annotated[int, Field(ge=1, le=10**15)]
type Money = Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)]
type Percent = Annotated[int, Field(ge=1, le=100)]
type Apart = Literal["key", "user", "team", "provider", "model", "tag"]


class WhichPart(Part):
    """Which requests are meant. What is left out means any."""

    providers: list[str] | None = None
    """Ids of providers."""
    paths: list[str] | None = None
    """The provider's own paths, without prefix, e.g. `/v1/chat/completions`, or names of its
    endpoints, e.g. `chat`. `*` stands for anything within a segment, `**` for any segments."""
    models: list[str] | None = None
    """Names of models, in which `*` stands for anything, e.g. `gpt-5*`. With their case."""


class RulePart(WhichPart):
    """One thing that is allowed or denied. What is left out means any."""

    methods: list[str] | None = None
    """HTTP methods."""


class CapPart(WhichPart):
    tags: list[str] | None = None
    """Session tags, in which `*` stands for anything."""
    each: list[Apart] | None = None
    """Counted apart for each of these: `each: [user]` gives every member of a team as much. Left
    out, all requests are counted together."""


class LimitPart(CapPart):
    """How much at most: exactly one of `requests`, `tokens` and `concurrent`."""

    requests: Amount | None = None
    """Requests within the time of `per`."""
    tokens: Amount | None = None
    """Tokens within the time of `per`, in and out together."""
    concurrent: Amount | None = None
    """Requests that run at once."""
    per: Literal["second", "minute", "hour", "day", "week", "month"] | None = None
    """The window, which slides."""


class BudgetPart(CapPart):
    """How much money at most, in the currency of `money`."""

    spend: Money
    """What may be spent; 0 lets only what is free pass."""
    per: Literal["day", "week", "month", "total"]
    """Calendar day, week from Monday, or calendar month, in the time zone of `money`; or in all."""
    hard: bool = True
    """Refuse what goes beyond. false only tells of it in the log."""
    warn_at: list[Percent] = []
    """Percentages of `spend` at which the log says so."""


class EverybodyPart(Part):
    limits: list[LimitPart] = []
    """Bounds on how much, and how much at once."""
    budgets: list[BudgetPart] = []
    """Bounds on money."""


class UserPart(EverybodyPart):
    """A user, and the scope of a key."""

    allow: list[RulePart] | None = None
    """Whitelist: a request passes when one rule allows it. An empty list allows nothing; left out,
    everything is allowed. A user's and their team's count together."""
    deny: list[RulePart] = []
    """A request that one of these rules fits is refused, whatever allows it."""
    body_bytes: Bytes | None = None
    """Body of a request, where that is less than `limits.body_bytes`."""


class MemberPart(UserPart):
    team: str | None = None
    """The team that the user belongs to."""
    share: list[str] = []
    """Users who see and use what this one made under the account; `"*"` is everybody. Of a team,
    `share` lets the members see what is theirs together."""


class TeamPart(UserPart):
    share: bool = False
    """Members see and use what others of the team made under the account: files, batches and so
    on. Else each sees their own."""
