"""`lmk keys`: the owner's hand on the store. Works while config.yaml is faulty too, but for what
needs it: a key has to be revoked at any hour."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from llamakey_addon import keys
from llamakey_addon.cli import scope, when
from llamakey_addon.cli.errors import Miswritten
from llamakey_addon.cli.table import Cell, Column, print_table
from llamakey_addon.errors import ConfigError, Fault
from llamakey_addon.serve import show as showing
from llamakey_addon.store import KeyRow, Store, open_store

if TYPE_CHECKING:
    from llamakey_addon.config import Settings

_NEVER: Final = "never"


class BadNetwork(Miswritten):
    """What was given is no network."""


class BadExpiry(Miswritten):
    """It is not said when, or said twice."""


@dataclass(frozen=True, slots=True)
class New:
    """What the command line asks of a new key."""

    name: str
    user: str
    scope: scope.Wishes = field(default_factory=scope.Wishes)
    expires: str = ""
    networks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """How a key is given out: alone, as the file for its owner, or as JSON."""

    env: bool = False
    as_json: bool = False
    vertex_file: Path | None = None
    """Where a key file of Google's goes, beside."""

    @property
    def needs_settings(self) -> bool:
        return self.env or self.vertex_file is not None


def new(wishes: New, form: Form, *, config: Path | None) -> None:
    """Make a key, and give it out."""
    minted = keys.mint()
    expires_s = _expiry(wishes.expires, time.time(), config)
    networks = _networks(wishes.networks)
    # Read before the key is made: a faulty file must not leave a key that nobody saw.
    settings = _settings(config) if form.needs_settings or wishes.scope.any else None
    text = scope.written(wishes.scope)
    if settings is not None and text:
        text = _checked(settings, text, wishes.name)
    with open_keys(config) as store:
        row = store.add_key(
            wishes.name, wishes.user, minted, scope=text, networks=networks, expires_s=expires_s
        )
    _give_out(row, minted.text, form, settings)
    if not form.as_json and not form.env:
        _tell(
            f"Key {row.name!r} for {row.user}{_terms(row, config)}. It is shown this once: give "
            f"it to {row.user} alone."
        )


def rotate(
    name: str, *, overlap: str, expires: str | None, form: Form, config: Path | None
) -> None:
    """Put a new key in the place of one, and give it out."""
    overlap_s = when.duration(overlap, "--overlap")
    settings = _settings(config) if form.needs_settings else None
    minted = keys.mint()
    now_s = time.time()
    with open_keys(config) as store:
        if expires is not None:
            expires_s = _expiry(expires, now_s, config)
        else:
            # As long as the old one was meant to live.
            old = store.find(name)
            lives = old.expires_s is not None and old.expires_s > old.created_s
            expires_s = now_s + (old.expires_s or 0) - old.created_s if lives else None
        old, row = store.rotate(name, minted, overlap_s=overlap_s, expires_s=expires_s)
    _give_out(row, minted.text, form, settings)
    if not form.as_json:
        ended = old.ended(time.time())
        _tell(
            f"This is the key {row.name!r} of {row.user} from now on{_terms(row, config)}. It is "
            f"shown this once. The old one (id {old.id}) "
            + (
                f"is valid until {_shown(_end_s(old) or now_s, config)}."
                if ended is None
                else f"is {'refused from now on' if ended == 'rotated' else ended}."
            )
        )


def expire(
    name: str,
    *,
    at: str | None,
    within: str | None,
    never: bool,
    as_json: bool,
    config: Path | None,
) -> None:
    """Set or take away a key's expiry."""
    if (at is not None) + (within is not None) + never != 1:
        raise BadExpiry(
            f"When does {name} expire? Say --in 30d, --at 2026-12-31 (with all of that day), or "
            "--never."
        )
    now_s = time.time()
    if at is not None:
        expires_s: float | None = _coming(at, now_s, "--at", config)
    elif within is not None:
        expires_s = now_s + when.duration(within, "--in")
    else:
        expires_s = None
    with open_keys(config) as store:
        row = store.expire(name, expires_s)
    if as_json:
        print_json(_record(row))
        return
    if expires_s is None:
        end = "does not expire"
    else:
        end = f"{'expires' if expires_s > now_s else 'expired'} at {_shown(expires_s, config)}"
    showing.say(f"The key {row.name!r} of {row.user} (id {row.id}) {end}.")


def revoke(name: str, *, as_json: bool, config: Path | None) -> None:
    """Revoke a key by its name, its id or its text."""
    with open_keys(config) as store:
        before = store.keys()
        rows = store.revoke(name)
    already = {row.id for row in before if row.revoked}
    if as_json:
        print_json([_record(row) for row in rows])
        return
    for row in rows:
        was = "was revoked already" if row.id in already else "is revoked"
        showing.say(f"The key {row.name!r} of {row.user} (id {row.id}) {was}.")


# --- the list -------------------------------------------------------------------------------------


COLUMNS: Final = (
    Column("Name"),
    Column("User", drop=2),
    Column("Id", drop=3, whole=True),
    Column("Made", drop=6, whole=True),
    Column("Used", drop=1, whole=True),
    Column("State", whole=True),
    Column("May", drop=4),
    Column("From", drop=5),
)


def show(*, user: str | None, valid: bool, as_json: bool, config: Path | None) -> None:
    """List the keys."""
    now_s = time.time()
    with open_keys(config) as store:
        rows = store.keys()
    rows = [row for row in rows if user in (None, row.user) and not (valid and row.ended(now_s))]
    if as_json:
        print_json([_record(row) for row in rows])
        return
    if not rows:
        _tell(
            "There is no such key."
            if user or valid
            else "There is no local key yet. Make one: lmk keys new NAME"
        )
        return
    print_table(COLUMNS, [cells(row, now_s) for row in rows], sys.stdout, header=False)


def cells(row: KeyRow, now_s: float) -> list[Cell]:
    """A key under `COLUMNS`."""
    ended = row.ended(now_s)
    style = "dim" if ended else ""
    return [
        Cell(row.name, style),
        Cell(row.user, style),
        Cell(row.id, style),
        Cell(_day(row.created_s), style),
        Cell(used(row, now_s), style),
        Cell(state(row, now_s), style or ("yellow" if _end_s(row) else "green")),
        Cell(scope.shown(row.scope).replace("; ", "\n") or "-", style),
        Cell("\n".join(row.networks) or "-", style),
    ]


def used(row: KeyRow, now_s: float) -> str:
    """How long ago it was used last."""
    return "never" if row.last_used_s is None else when.ago(row.last_used_s, now_s)


def state(row: KeyRow, now_s: float) -> str:
    """Whether it is valid, and until when; or since when it is not."""
    match row.ended(now_s):
        case "revoked":
            return f"revoked {_day(row.revoked_s)}"
        case "rotated":
            return f"rotated {_day(row.rotated_s)}"
        case "expired":
            return f"expired {_day(row.expires_s)}"
    end_s = _end_s(row)
    if end_s is None:
        return "valid"
    return f"{'rotated,' if row.rotated_s else 'valid'} until {_day(end_s)}"


def _end_s(row: KeyRow) -> float | None:
    """When it ceases to be valid by itself."""
    return min((s for s in (row.retires_s, row.expires_s) if s is not None), default=None)


# --- words and numbers ----------------------------------------------------------------------------


def _expiry(text: str, now_s: float, config: Path | None) -> float | None:
    return _coming(text, now_s, "--expires", config) if text and text != _NEVER else None


def _coming(text: str, now_s: float, option: str, config: Path | None) -> float:
    """A time to come; days are those of `money.time_zone`. Raises BadTime, ConfigError."""
    if when.says_all(text):
        return when.coming(text, now_s, option)
    from llamakey_addon.config.zones import time_zone

    try:
        zone = time_zone(config)
    except ConfigError as error:
        remedy = f"{option} 30d, or a time with its offset as 2026-12-31T18:00Z, needs no file."
        raise ConfigError([*error.faults, Fault("", remedy)]) from None
    return when.coming(text, now_s, option, zone)


def _shown(time_s: float, config: Path | None) -> str:
    """A time for people, in UTC where config.yaml can't be read."""
    from llamakey_addon.config.zones import time_zone

    try:
        zone = time_zone(config)
    except ConfigError:
        zone = UTC
    return when.shown(time_s, zone)


def _networks(texts: Sequence[str]) -> tuple[str, ...]:
    found = []
    for text in (word.strip() for given in texts for word in given.split(",")):
        try:
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            raise BadNetwork(
                f"--from: {text!r} is no address or network. Write 10.0.0.0/8, 192.0.2.7 or "
                "fd00::/8, several with commas."
            ) from None
    return tuple(dict.fromkeys(found))


def _terms(row: KeyRow, config: Path | None) -> str:
    """What holds for a key, as a part of a sentence."""
    words = []
    if row.scope:
        words.append(f"may: {scope.shown(row.scope)}")
    if row.networks:
        words.append(f"from {', '.join(row.networks)}")
    if row.expires_s is not None:
        words.append(f"until {_shown(row.expires_s, config)}")
    return f" ({'; '.join(words)})" if words else ""


def _give_out(row: KeyRow, text: str, form: Form, settings: Settings | None) -> None:
    if form.env:
        assert settings is not None
        _print_file(settings, text, row)
    elif form.as_json:
        print_json({**_record(row), "key": text})
    else:
        showing.say(text)
    if form.vertex_file is not None:
        assert settings is not None
        _write_key_file(settings, row, form.vertex_file)


def _write_key_file(settings: Settings, row: KeyRow, path: Path) -> None:
    """A service account's file that is this key, for Google's SDKs."""
    from llamakey_addon import keyfile
    from llamakey_addon.serve import localkey
    from llamakey_addon.tokens import Tokens

    provider = next(p for p in settings.providers.values() if p.entry.metadata)
    project = "" if provider.recipe is None else provider.recipe.inputs.get("project", "")
    content = keyfile.make(
        Tokens(settings.data_folder),
        row.id,
        token_uri=f"{settings.public_url}/{provider.prefix}/token",
        project=project,
    )
    localkey.write(path, json.dumps(content, indent=2) + "\n")
    _tell(
        f"{path} is this key as Google's SDKs take it (GOOGLE_APPLICATION_CREDENTIALS). It is "
        f"revoked with the key: give it to {row.user} alone."
    )


def _print_file(settings: Settings, text: str, row: KeyRow) -> None:
    """The complete environment file for the key's owner."""
    from llamakey_addon.config.addresses import is_loopback
    from llamakey_addon.serve import envfile

    ready = envfile.served(settings.providers.values())
    offered = ready or [replace(p, missing="") for p in settings.providers.values()]
    url = settings.public_url
    # The paths are this machine's: of no use on another.
    here = is_loopback(urlsplit(url).hostname or "")
    trust = settings.trust if here else None
    showing.say(envfile.content(offered, url, text, row.name, trust).rstrip("\n"))
    if settings.trust is not None and not here:
        _tell(
            f"{row.user} needs {settings.trust.ca} as well: lmk tls --trust ca.pem, on their "
            "machine."
        )
    if not ready:
        _tell(
            "warning: no real key is set in this shell, so the file names every provider. Make it "
            "where the keys are set to name those that are served."
        )
    if "//localhost:" in url:
        _tell(
            "warning: the file says localhost. Set public_url in config.yaml to the URL by which "
            f"{row.user} reaches this proxy."
        )


def _checked(settings: Settings, text: str, name: str) -> str:
    """A scope as the store takes it. Raises ConfigError with all that is wrong with it."""
    from llamakey_addon.config.yamlfile import parse

    settings.check_scope(text, name)
    return json.dumps(parse(text, "scope").data, ensure_ascii=False, separators=(",", ":"))


def _settings(config: Path | None) -> Settings:
    from llamakey_addon.config import Settings

    return Settings.load(config, os.environ)


def open_keys(config: Path | None) -> Store:
    return open_store(_data_folder(config))


def _data_folder(config: Path | None) -> Path:
    """As `Settings.data_folder`, but without a look at anything else in config.yaml."""
    from llamakey_addon.config.folders import data_folder

    return data_folder(config, os.environ)


def _record(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "user": row.user,
        "state": row.ended(time.time()) or "valid",
        "created": _utc(row.created_s),
        "last_used": _utc(row.last_used_s),
        "expires": _utc(row.expires_s),
        "revoked": _utc(row.revoked_s),
        "rotated": _utc(row.rotated_s),
        "valid_until": _utc(_end_s(row)),
        "replaces": row.replaces or None,
        "scope": json.loads(row.scope) if row.scope else None,
        "networks": list(row.networks),
    }


def _day(time_s: float | None) -> str:
    return (_utc(time_s) or "")[:10]


def _utc(time_s: float | None) -> str | None:
    return None if time_s is None else when.iso(time_s)


def print_json(what: object) -> None:
    showing.say(json.dumps(what, indent=2, ensure_ascii=False))


def _tell(text: str) -> None:
    """To the person, beside what a program reads."""
    showing.prose(text, sys.stderr)
