"""`lmk providers`: which are ready, and what switches the others on."""

from __future__ import annotations

import difflib
import json
import os
import sys
from pathlib import Path

from llamakey_addon.config import Settings
from llamakey_addon.errors import ConfigError
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


def show_endpoints(name: str, *, as_json: bool, config: Path | None) -> None:
    """The endpoints of one provider by name: what a whitelist's `paths` may say.

    Raises ConfigError when there is no such provider.
    """
    providers = Settings.load(config, os.environ).providers
    provider = providers.get(name) or next((p for p in providers.values() if p.id == name), None)
    if provider is None:
        close = difflib.get_close_matches(name, providers, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"There is no provider {name!r}: `lmk providers` lists them.{hint}")
    entry = provider.entry
    if as_json:
        record = _record(provider) | {
            "endpoints": [
                {
                    "name": e.name,
                    "methods": list(e.methods),
                    "path": e.path,
                    "websocket": e.stream == "websocket",
                }
                for e in entry.endpoints
            ],
            "mints": list(entry.mints),
        }
        showing.say(json.dumps(record, indent=2, ensure_ascii=False))
        return
    width = max((len(e.name) for e in entry.endpoints), default=0)
    verbs = max((len(" ".join(e.methods)) for e in entry.endpoints), default=0)
    for e in entry.endpoints:
        mark = "  (WebSocket)" if e.stream == "websocket" else ""
        showing.say(f"{e.name:<{width}}  {' '.join(e.methods):<{verbs}}  {e.path}{mark}")
    if entry.mints:
        showing.say("\nHands out credentials of the account: only for a rule that names the path.")
        for request in entry.mints:
            showing.say(f"  {request}")


def _record(provider: Provider) -> dict[str, object]:
    secret = provider.secret
    return {
        "id": provider.id,
        "name": provider.entry.name,
        "prefix": provider.prefix,
        "ready": provider.ready,
        "upstream": provider.upstream.origin if provider.upstream else None,
        "key": secret.masked if secret else None,
        "source": provider.recipe.source if provider.recipe else secret.source if secret else None,
        "missing": provider.missing or None,
        "key_env": list(provider.entry.key_env),
        "docs": provider.entry.docs,
    }
