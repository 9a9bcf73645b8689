"""`lmk providers`: which are ready, and what switches the others on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from llamakey_addon.config import Settings
from llamakey_addon.journey import Provider
from llamakey_addon.serve import show as showing


def show(*, as_json: bool, config: Path | None) -> None:
    settings = Settings.load(config, os.environ)
    if as_json:
        rows = showing.by_readiness(settings.providers.values())
        showing.say(json.dumps([_record(row) for row in rows], indent=2, ensure_ascii=False))
        return
    showing.providers(settings.providers.values(), sys.stdout)
    ready = sum(provider.ready for provider in settings.providers.values())
    showing.prose(f"{ready} of {len(settings.providers)} are ready.", sys.stderr)


def _record(provider: Provider) -> dict[str, object]:
    secret = provider.secret
    return {
        "id": provider.id,
        "name": provider.entry.name,
        "prefix": provider.prefix,
        "ready": provider.ready,
        "upstream": provider.upstream.origin if provider.upstream else None,
        "key": secret.masked if secret else None,
        "source": secret.source if secret else None,
        "missing": provider.missing or None,
        "key_env": list(provider.entry.key_env),
        "docs": provider.entry.docs,
    }
