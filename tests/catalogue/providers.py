"""Providers for tests of stages: the catalogue's entries, with upstreams of the test's."""

from __future__ import annotations

from llamakey_addon import catalogue
from llamakey_addon.catalogue.models import Entry
from llamakey_addon.journey import Provider, Upstream


def provider(entry: Entry, missing: str = "") -> Provider:
    upstream = Upstream("https", f"{entry.id}.test", 443)
    return Provider(entry.id, entry.prefix, entry, upstream, None, missing)


def every() -> dict[str, Provider]:
    """Every catalogued provider by its prefix, ready."""
    return {entry.prefix: provider(entry) for entry in catalogue.load().entries.values()}
