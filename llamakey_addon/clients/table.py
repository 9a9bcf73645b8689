"""The README's table of providers, made from the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Client, Entry

__all__ = ["providers_table"]


def providers_table(entries: Iterable[Entry]) -> str:
    """A Markdown table, a row for each entry, ended by a newline."""
    rows = [
        "| Provider | Prefix | The owner sets | Clients set (`lmk env` prints it) |",
        "|---|---|---|---|",
    ]
    for entry in entries:
        ways = [f"`{name}`" for name in entry.key_env]
        if made := entry.credential.made:
            ways += [f"`{name}`" for name in made.starts[:2]]
            if not made.starts:
                variables = [made.inputs[need][0].removeprefix("file:") for need in made.needs]
                ways.append(" + ".join(f"`{name}`" for name in variables))
        owner = " or ".join(ways)
        owner += "".join(f", `{name}`" for name in entry.upstream_vars.values())
        if entry.credential.optional:
            owner += " (optional)"
        rows.append(
            f"| [{entry.name}]({entry.docs}) | `/{entry.prefix}` | {owner} | {_clients(entry)} |"
        )
    return "\n".join(rows) + "\n"


def _clients(entry: Entry) -> str:
    variables: dict[str, None] = {}
    in_code: list[str] = []
    for client in entry.clients:
        if client.default:
            variables |= dict.fromkeys(client.env)
        if client.code and client.default:
            in_code.append(client.sdk)
    parts = [", ".join(f"`{name}`" for name in variables)] if variables else []
    if not any(_sets_address(client) for client in entry.clients if client.default):
        parts += [f"`lmk env --for {entry.id}`"] if _elsewhere(entry.clients) else []
    if in_code:
        parts.append("in code: " + ", ".join(in_code))
    return "; ".join(parts) or "none"


def _sets_address(client: Client) -> bool:
    return any("{proxy}" in value for value in client.env.values())


def _elsewhere(clients: Iterable[Client]) -> bool:
    """Whether a client that is not there by default is reached by the provider's own id."""
    return any(not client.default and not client.tools for client in clients)
