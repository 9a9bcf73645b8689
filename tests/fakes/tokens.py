"""Tokens as a provider's own server issues them: for one family, for a time, none ever twice."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Issued:
    """A token's other half, which its server keeps."""

    family: str
    """At whose endpoints it counts."""
    ends_s: float


_issued: dict[str, Issued] = {}


def issue(family: str, lives_s: float = 3600) -> str:
    token = f"ya29.{secrets.token_urlsafe(48)}"
    _issued[token] = Issued(family, time.time() + lives_s)
    return token


def good(token: str, family: str) -> bool:
    issued = _issued.get(token)
    return issued is not None and issued.family == family and time.time() < issued.ends_s


def every() -> list[str]:
    """All that were issued: what may stand in nobody's logs."""
    return list(_issued)
