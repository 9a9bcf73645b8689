"""Time zones by their names, and the one that config.yaml names.

Apart from `load.py`, as `folders.py` is: `lmk keys` reads days while the rest of the file is
faulty.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, tzinfo
from pathlib import Path

from llamakey_addon.config.words import nearest
from llamakey_addon.config.yamlfile import hide_keys, read
from llamakey_addon.errors import ConfigError, Fault


def zone_of(name: str) -> tzinfo | str:
    """A time zone, or what is wrong with its name."""
    if name == "UTC":
        return UTC  # needs no data of the system's
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    shown = hide_keys(name)
    known = zoneinfo.available_timezones()
    if not known:
        return (
            f"this system has no data of time zones, so `{shown}` can't be found. Install its "
            "package tzdata, or `pip install tzdata`, or write UTC."
        )
    hint = nearest(name, known) or " Write one as Europe/Berlin, or UTC."
    return f"`{shown}` is no time zone.{hint}"


def time_zone(path: Path | None) -> tzinfo:
    """`money.time_zone`, without a look at anything else that config.yaml says.

    Arguments:
        path: config.yaml; None takes ./config.yaml if there is one.

    Raises ConfigError when the file is not YAML, or what stands there is no time zone.
    """
    if path is None:
        path = Path("config.yaml")
        if not path.is_file():
            return UTC
    document = read(path, str(path))
    money = document.data.get("money")
    name = money.get("time_zone", "UTC") if isinstance(money, dict) else "UTC"
    zone = zone_of(name) if isinstance(name, str) else "a time zone is a text."
    if isinstance(zone, str):
        raise ConfigError([Fault(document.where(("money", "time_zone")), zone)])
    return zone
