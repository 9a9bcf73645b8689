"""What a request came to: from its grant and what the road saw, to its row and its receipt."""

from __future__ import annotations

from llamakey_addon.journey import (
    NO_COUNTS,
    Ask,
    Grant,
    Metered,
    Provider,
    Quality,
    Receipt,
    Usage,
    User,
    Visit,
)
from llamakey_addon.prices import Bill
from llamakey_addon.store.ledger import Closing

NOTHING = Bill(0, "none")


def used(grant: Grant, usage: Usage) -> Metered:
    """What is to be booked.

    A provider that was sent a request and has not answered may have been at work on it: what went
    in is counted. What it refused, or never got, costs nothing.
    """
    if usage.metered is not None:
        return usage.metered
    reserved = grant.hold.opening
    if usage.sent and reserved.input_tokens:
        return Metered({"input_tokens": reserved.input_tokens})
    return Metered(exact=True)


def closing(usage: Usage, metered: Metered, bill: Bill, *, uncounted: bool) -> Closing:
    """What comes into the row.

    Arguments:
        uncounted: something may have been used, and it can't be told what.
    """
    quality: Quality = "unpriced" if uncounted else bill.quality
    return Closing(
        status=usage.status,
        end=usage.end,
        quality=quality,
        counts=metered.counts,
        cost_nusd=bill.cost_nusd,
        served=metered.model,
        job=metered.job,
        priced=bill.table_date or bill.source,
        first_byte_ms=None if usage.first_byte_s is None else round(usage.first_byte_s * 1000, 3),
        total_ms=round(usage.total_s * 1000, 3),
    )


def served(grant: Grant, usage: Usage, row: Closing) -> Receipt:
    """The receipt of a request that was let through."""
    call = grant.call
    visit, facts = call.visit, grant.hold.opening.facts
    ask, user = visit.ask, visit.user
    first_s = usage.first_byte_s
    return Receipt(
        id=ask.id,
        time_s=ask.time_s,
        peer=ask.peer,
        user=user.name,
        key_name=user.key_name,
        provider=facts.provider,
        endpoint=facts.endpoint,
        method=ask.method,
        path=facts.path,
        model=call.model,
        status=usage.status,
        bytes_up=usage.bytes_up,
        bytes_down=usage.bytes_down,
        first_byte_ms=None if first_s is None else first_s * 1000,
        total_ms=usage.total_s * 1000,
        end=usage.end,
        note=_note(visit.route.provider, usage),
        team=facts.team,
        tag=facts.tag,
        counts=row.counts,
        cost_nusd=row.cost_nusd,
        quality=row.quality,
    )


def unserved(
    ask: Ask,
    visit: Visit | None,
    provider: Provider | None,
    *,
    status: int,
    total_s: float,
    end: str,
    denied: str = "",
    setting: str = "",
    bytes_up: int = 0,
    row: Closing | None = None,
    user: User | None = None,
) -> Receipt:
    """The receipt of a request that the proxy answered itself, or that never got so far.

    Arguments:
        user: who sent it, where that alone is known.
        row: of one that was let through all the same.
    """
    route = None if visit is None else visit.route
    user = user if visit is None else visit.user
    endpoint = None if route is None else route.endpoint
    return Receipt(
        id=ask.id,
        time_s=ask.time_s,
        peer=ask.peer,
        user="" if user is None else user.name,
        key_name="" if user is None else user.key_name,
        provider="" if provider is None else provider.id,
        endpoint="" if endpoint is None else endpoint.name,
        method=ask.method,
        path=ask.target.partition("?")[0] if route is None else route.path,
        model="",
        status=status,
        bytes_up=bytes_up,
        bytes_down=0,
        first_byte_ms=None,
        total_ms=total_s * 1000,
        end=end,
        denied=denied,
        note=f"stopped by {setting}" if setting else "",
        team="" if user is None else user.policy.team,
        counts=NO_COUNTS if row is None else row.counts,
        cost_nusd=0 if row is None else row.cost_nusd,
        quality="none" if row is None else row.quality,
    )


def _note(provider: Provider, usage: Usage) -> str:
    """What the owner should know beside the figures."""
    if usage.note:
        return usage.note
    if usage.status in (401, 403) and provider.secret is not None:
        return f"{provider.entry.name} refused the real key (from {provider.secret.source})"
    if usage.status in (401, 403) and provider.recipe is not None:
        return (
            f"{provider.entry.name} refused the credential that was made from "
            f"{provider.recipe.source}"
        )
    return ""
