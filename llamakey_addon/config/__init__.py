"""config.yaml and the environment, read once into frozen settings.

`yamlfile.py` reads YAML and remembers lines, `model.py` is the file's shape, `load.py` checks and
resolves, `providers.py` joins catalogue, upstreams and keys, `settings.py` is the result.
"""

from __future__ import annotations

from llamakey_addon.config.settings import (
    Limits,
    Listen,
    Logging,
    Network,
    Settings,
    Tls,
    View,
)

__all__ = ["Limits", "Listen", "Logging", "Network", "Settings", "Tls", "View"]
