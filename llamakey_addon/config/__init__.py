"""config.yaml and the environment, read once into frozen settings.

`yamlfile.py` reads YAML and remembers lines, `model.py` is the file's shape (with `people_model.py`
and `money_model.py`), `shape.py` puts the one into the other. `load.py` checks and resolves, with
`providers.py` for catalogue, upstreams and keys, `people_reader.py` for teams, users and scopes (by
`rules.py` and `caps.py`), `money_reader.py` for prices. `settings.py` is the result, with
`people.py` and `money.py`, which load no YAML.
"""

from __future__ import annotations

from llamakey_addon.config.money import Metering, Money
from llamakey_addon.config.people import People, Team
from llamakey_addon.config.settings import (
    Limits,
    Listen,
    Logging,
    Network,
    Settings,
    Tls,
    Trust,
    View,
)

__all__ = [
    "Limits",
    "Listen",
    "Logging",
    "Metering",
    "Money",
    "Network",
    "People",
    "Settings",
    "Team",
    "Tls",
    "Trust",
    "View",
]
