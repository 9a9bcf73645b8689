"""`lmk check`: everything that a start would stumble over, in one report."""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from llamakey_addon import certificates, keys
from llamakey_addon.cli import unpriced
from llamakey_addon.config import Listen, Settings
from llamakey_addon.config.words import folded
from llamakey_addon.errors import ConfigError, LlamaKeyError
from llamakey_addon.journey import Policy
from llamakey_addon.serve import envfile, localkey, openfiles, ports, second
from llamakey_addon.serve import show as showing
from llamakey_addon.store import KeyRow, Store, open_store


@dataclass(slots=True)
class _Report:
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


def check(*, config: Path | None, listen: str | None) -> int:
    """Print the report; 0 when there is no fault, else 1."""
    report = _Report()
    settings = _settings(config, listen, report)
    if settings is not None:
        showing.providers(settings.providers.values(), sys.stdout)
        showing.say()
        _providers(settings, report)
        _store(settings, report)
        _port(settings.listen, "front", report)
        if settings.door.open:
            _door(settings, report)
        _certificate(settings, report)
        if lack := openfiles.make_room(settings.limits):
            report.warnings.append(lack)
    for fact in report.facts:
        showing.prose(f"ok: {fact}", sys.stdout)
    for warning in report.warnings:
        showing.warning(warning, sys.stdout)
    for fault in report.faults:
        showing.error(fault, sys.stdout)
    words = [_count(len(report.faults), "fault"), _count(len(report.warnings), "warning")]
    showing.heading(", ".join(words), sys.stdout)
    return 1 if report.faults else 0


def _settings(config: Path | None, listen: str | None, report: _Report) -> Settings | None:
    try:
        settings = Settings.load(config, os.environ, listen=listen)
    except ConfigError as error:
        report.faults += map(str, error.faults)
        return None
    report.warnings += map(str, settings.warnings)
    shown = settings.path or "no config.yaml here: defaults hold"
    report.facts.append(f"configuration ({shown})")
    return settings


def _providers(settings: Settings, report: _Report) -> None:
    ready = [provider.id for provider in settings.providers.values() if provider.ready]
    if envfile.served(settings.providers.values()):
        report.facts.append(f"{_count(len(ready), 'provider')} ready")
    else:
        report.warnings.append(
            "no real key is set: set the variable of at least one provider, as the table says"
        )


def _store(settings: Settings, report: _Report) -> None:
    try:
        with open_store(settings.data_folder) as store:
            rows = store.keys()
            _env_file(store, report)
    except LlamaKeyError as error:
        report.faults.append(str(error))
        return
    valid = [row for row in rows if row.ended(time.time()) is None]
    if refused := unpriced.told(settings, _scopes(settings, valid)):
        report.warnings.append(refused)
    report.facts.append(f"{_count(len(valid), 'local key')} in {settings.data_folder}")
    for provider in settings.providers.values():
        if provider.metadata and provider.metadata not in {row.name for row in valid}:
            report.warnings.append(
                f"providers.{provider.id}.metadata: there is no valid local key named "
                f"{provider.metadata}. Make it: lmk keys new {provider.metadata}"
            )
    users = settings.people.users
    if users and "*" not in users:
        named = {folded(name) for name in users}
        free = sorted({row.user for row in valid if folded(row.user) not in named})
        if free:
            report.warnings.append(
                f"no whitelist holds for {', '.join(free)}: they may call everything. "
                'Add them to `users`, or `"*"` for everybody who is not named.'
            )


def _scopes(settings: Settings, rows: Iterable[KeyRow]) -> Iterator[Policy]:
    for row in rows:
        if row.scope:
            with contextlib.suppress(ConfigError):  # what can't be read allows nothing
                yield settings.scope(row.scope, row.id)


def _env_file(store: Store, report: _Report) -> None:
    path = Path(envfile.FILE_NAME)
    text = localkey.read(path)
    if not text:
        return
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        report.warnings.append(f"others can read {path}: chmod 600 {path}")
    for key in envfile.find_keys(text):
        parsed = keys.parse(key)
        row = None if parsed is None else store.key(parsed.id)
        if parsed is None or row is None or not hmac.compare_digest(row.digest, parsed.digest):
            report.warnings.append(
                f"the key {keys.mask_local(key)} in {path} is not of this proxy: `lmk` writes a "
                "new one at its next start"
            )
        elif ended := row.ended(time.time()):
            what = "was rotated" if ended == "rotated" else f"is {ended}"
            report.warnings.append(
                f"the key {row.name!r} in {path} {what}: `lmk` writes a new one at its next start"
            )
        else:
            report.facts.append(f"{path} holds the valid key {row.name!r} of {row.user}")


def _port(listen: Listen, role: ports.Role, report: _Report) -> None:
    what = "second door: " if role == "door" else ""
    try:
        ports.claim(listen, role)
    except ports.PortTaken as error:
        if ports.is_llamakey(listen):
            report.facts.append(f"{what}a LlamaKey serves on {listen}")
        else:
            report.faults.append(f"{what}{error}")
    else:
        report.facts.append(f"{what}{listen} is free")


def _door(settings: Settings, report: _Report) -> None:
    _port(settings.door.listen, "door", report)
    if settings.door.trust is None:
        report.facts.append("second door: its authority is made at the start")
        return
    try:
        lacking = second.lacking(settings)
    except certificates.CertificateRefused as error:
        report.faults.append(str(error))
        return
    if lacking:
        report.warnings.append(
            f"second door: its authority does not vouch for {second.some(lacking)}: the next start "
            "makes another, and clients on other machines need its new ca.pem"
        )


def _certificate(settings: Settings, report: _Report) -> None:
    if settings.tls is None:
        return
    cert = settings.tls.cert
    try:
        facts = certificates.facts(cert)
    except certificates.CertificateRefused as error:
        report.faults.append(str(error))
        return
    remedy = "run lmk tls" if settings.tls.own else "put a new one there"
    host = urlsplit(settings.public_url).hostname or ""
    left = facts.expires - datetime.now(UTC)
    if left < timedelta(0):
        report.faults.append(f"the certificate {cert} has ended: {remedy}")
    elif left < timedelta(days=14):
        report.warnings.append(f"the certificate {cert} ends in {left.days} days: {remedy}")
    elif host not in facts.names and f"*.{host.partition('.')[2]}" not in facts.names:
        report.warnings.append(
            f"the certificate {cert} is not for {host}, where public_url sends clients: {remedy}"
        )
    else:
        report.facts.append(f"certificate for {', '.join(facts.names)}, {left.days} days left")


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
