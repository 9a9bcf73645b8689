"""What a request came to: from its grant and the usage that the road saw, to its receipt."""

from __future__ import annotations

from llamakey_addon.journey import Ask, Call, Provider, Receipt, Usage, Visit


def served(call: Call, usage: Usage) -> Receipt:
    """The receipt of a request that went to its provider."""
    provider = call.visit.route.provider
    return _receipt(
        call.visit.ask,
        call.visit,
        provider,
        model=call.model,
        status=usage.status,
        usage=usage,
        total_s=usage.total_s,
        end=usage.end,
        note=_note(provider, usage),
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
) -> Receipt:
    """The receipt of a request that the proxy answered itself, or that never got so far."""
    usage = Usage(status, bytes_up, 0, None, total_s, end)
    return _receipt(
        ask,
        visit,
        provider,
        model="",
        status=status,
        usage=usage,
        total_s=total_s,
        end=end,
        denied=denied,
        note=f"stopped by {setting}" if setting else "",
    )


def _receipt(
    ask: Ask,
    visit: Visit | None,
    provider: Provider | None,
    *,
    model: str,
    status: int,
    usage: Usage,
    total_s: float,
    end: str,
    denied: str = "",
    note: str = "",
) -> Receipt:
    route = None if visit is None else visit.route
    endpoint = None if route is None else route.endpoint
    return Receipt(
        id=ask.id,
        time_s=ask.time_s,
        peer=ask.peer,
        user="" if visit is None else visit.user.name,
        key_name="" if visit is None else visit.user.key_name,
        provider="" if provider is None else provider.id,
        endpoint="" if endpoint is None else endpoint.name,
        method=ask.method,
        path=ask.target.partition("?")[0] if route is None else route.path,
        model=model,
        status=status,
        bytes_up=usage.bytes_up,
        bytes_down=usage.bytes_down,
        first_byte_ms=None if usage.first_byte_s is None else usage.first_byte_s * 1000,
        total_ms=total_s * 1000,
        end=end,
        denied=denied,
        note=note,
    )


def _note(provider: Provider, usage: Usage) -> str:
    """What the owner should know beside the figures."""
    if usage.status in (401, 403) and provider.secret is not None:
        return f"{provider.entry.name} refused the real key (from {provider.secret.source})"
    if usage.status in (401, 403) and provider.recipe is not None:
        return (
            f"{provider.entry.name} refused the credential that was made from "
            f"{provider.recipe.source}"
        )
    return ""
