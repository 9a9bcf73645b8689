"""What is wrong with a command line."""

from __future__ import annotations

from llamakey_addon.errors import ConfigError


class Miswritten(ConfigError):
    """A word on the command line, or a file that it names, can't be used; nothing was done."""
