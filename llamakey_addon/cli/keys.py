"""`lmk keys`: the owner's hand on the store. Works while config.yaml is faulty too: a key has to be
revoked at any hour."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from llamakey_addon import keys
from llamakey_addon.serve import show as showing
from llamakey_addon.serve.show import is_terminal
from llamakey_addon.store import KeyRow, Store, open_store


def new(name: str, user: str, *, env: bool, config: Path | None) -> None:
    """Make a key and print it, or with `env` the file for its owner."""
    if not env:
        with _store(config) as store:
            key = _add(store, name, user)
        showing.say(key)
        _tell(f"Key {name!r} for {user}. It is shown this once: give it to {user} alone.")
        return
    from llamakey_addon.config import Settings
    from llamakey_addon.config.addresses import is_loopback
    from llamakey_addon.serve import envfile

    # Read before the key is made: a faulty file must not leave a key that nobody saw.
    settings = Settings.load(config, os.environ)
    ready = envfile.served(settings.providers.values())
    offered = ready or [replace(p, missing="") for p in settings.providers.values()]
    with open_store(settings.data_folder) as store:
        key = _add(store, name, user)
    # The paths are this machine's: of no use on another.
    here = is_loopback(urlsplit(settings.public_url).hostname or "")
    trust = settings.trust if here else None
    showing.say(envfile.content(offered, settings.public_url, key, name, trust).rstrip("\n"))
    if settings.trust is not None and not here:
        _tell(
            f"{user} needs {settings.trust.ca} as well: lmk tls --trust ca.pem, on their machine."
        )
    if not ready:
        _tell(
            "warning: no real key is set in this shell, so the file names every provider. Make it "
            "where the keys are set to name those that are served."
        )
    if "//localhost:" in settings.public_url:
        _tell(
            "warning: the file says localhost. Set public_url in config.yaml to the URL by which "
            f"{user} reaches this proxy."
        )


def _add(store: Store, name: str, user: str) -> str:
    minted = keys.mint()
    store.add_key(name, user, minted)
    return minted.text


def show(*, as_json: bool, config: Path | None) -> None:
    """List the keys."""
    with _store(config) as store:
        rows = store.keys()
    if as_json:
        showing.say(json.dumps([_record(row) for row in rows], indent=2))
        return
    if not rows:
        _tell("There is no local key yet. Make one: lmk keys new NAME")
        return
    if is_terminal(sys.stdout):
        showing.keys(rows, sys.stdout)
        return
    for row in rows:
        columns = (f"{row.name:<20}", f"{row.user:<16}", row.id, _date(row), _state(row))
        showing.say("  ".join(columns))


def revoke(name: str, *, config: Path | None) -> None:
    """Revoke a key by its name, its id or its text."""
    with _store(config) as store:
        rows = store.keys()
        row = store.revoke(name)[0]
    already = any(old.id == row.id and old.revoked for old in rows)
    was = "was revoked already" if already else "is revoked"
    showing.say(f"The key {row.name!r} of {row.user} (id {row.id}) {was}.")


def _store(config: Path | None) -> Store:
    return open_store(_data_folder(config))


def _data_folder(config: Path | None) -> Path:
    """As `Settings.data_folder`, but without a look at anything else in config.yaml."""
    from llamakey_addon.config.folders import data_folder

    return data_folder(config, os.environ)


def _record(row: KeyRow) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "user": row.user,
        "created": _utc(row.created_s),
        "revoked": None if row.revoked_s is None else _utc(row.revoked_s),
    }


def _date(row: KeyRow) -> str:
    return _utc(row.created_s)[:10]


def _state(row: KeyRow) -> str:
    return "valid" if row.revoked_s is None else f"revoked {_utc(row.revoked_s)}"


def _utc(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tell(text: str) -> None:
    """To the person, beside what a program reads."""
    showing.prose(text, sys.stderr)
