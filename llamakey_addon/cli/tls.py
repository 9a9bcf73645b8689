"""`lmk tls`: a certificate of the proxy's own, for clients that insist on TLS, and trust in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from llamakey_addon import certificates
from llamakey_addon.config import Settings
from llamakey_addon.config.addresses import is_loopback, is_wildcard
from llamakey_addon.serve import show as showing


def make(*, config: Path | None) -> None:
    """Make what is missing or near its end, and say what there is."""
    settings = Settings.load(config, os.environ)
    if settings.tls is not None and not settings.tls.own:
        facts = certificates.facts(settings.tls.cert)
        showing.prose(
            f"config.yaml names a certificate of yours: {settings.tls.cert}, for "
            f"{_words(facts.names)}, until {_day(facts.expires)}. There is nothing to make.",
            sys.stdout,
        )
        return
    place = certificates.place_in(settings.data_folder)
    made = certificates.ensure(place, names_of(settings))
    certificates.refresh_door(certificates.door_in(settings.data_folder), place)
    verb = "New certificate" if made.new_cert else "Certificate"
    showing.prose(
        f"{verb} for {_words(made.names)}, until {_day(made.expires)}: {place.cert}", sys.stdout
    )
    verb = "New authority that clients trust" if made.new_ca else "Authority that clients trust"
    showing.prose(f"{verb}: {place.ca}", sys.stdout)
    if made.new_cert:
        showing.say()
        showing.prose(
            "lmk serve's port now speaks TLS too, also if it runs already (mitmdump -s needs a new "
            "start). `lmk env` has the variables that make SDKs trust it, and so has the file "
            "that the next start writes.",
            sys.stdout,
        )
    if not is_loopback(urlsplit(settings.public_url).hostname or ""):
        showing.prose(
            f"Clients on other machines: give them {place.ca}, and there: lmk tls --trust ca.pem",
            sys.stdout,
        )


def trust(ca: Path, *, config: Path | None) -> None:
    """On a client's machine: from now on `lmk env` and `lmk run` make SDKs trust this authority."""
    from llamakey_addon.config.folders import data_folder

    data = data_folder(config, os.environ)
    place = certificates.place_in(data)
    facts = certificates.trust(place, ca)
    certificates.refresh_door(certificates.door_in(data), place)
    showing.prose(
        f"SDKs that get their variables from `lmk env` or `lmk run` now trust the proxy at "
        f"{_words(facts.names)}, until {_day(facts.expires)}: {place.bundle}",
        sys.stdout,
    )


def trust_door(ca: Path, *, config: Path | None) -> None:
    """On a client's machine: from now on `lmk run` makes SDKs trust the second door."""
    from llamakey_addon.config.folders import data_folder

    data = data_folder(config, os.environ)
    place = certificates.door_in(data)
    facts = certificates.trust_door(place, certificates.place_in(data), ca)
    showing.prose(
        f"Programs of `lmk run` now trust the proxy's second door for {len(facts.names)} hosts of "
        f"providers, until {_day(facts.expires)}: {place.bundle}",
        sys.stdout,
    )


def names_of(settings: Settings) -> list[str]:
    """By which clients reach this proxy."""
    names = [*certificates.OWN_NAMES, urlsplit(settings.public_url).hostname or "localhost"]
    host = settings.listen.host
    if not (is_loopback(host) or is_wildcard(host)):
        names.append(host)
    return list(dict.fromkeys(names))


def _words(names: Iterable[str]) -> str:
    return ", ".join(names) or "no name"


def _day(time: datetime) -> str:
    return time.strftime("%Y-%m-%d")
