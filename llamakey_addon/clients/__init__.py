"""What a client sets so that its SDKs call this proxy: for shells, files and people."""

from __future__ import annotations

from llamakey_addon.clients.environment import Line, UnknownClient, VariableTaken, environment
from llamakey_addon.clients.shells import SHELLS, Shell, env_file, render
from llamakey_addon.clients.table import providers_table

__all__ = [
    "SHELLS",
    "Line",
    "Shell",
    "UnknownClient",
    "VariableTaken",
    "env_file",
    "environment",
    "providers_table",
    "render",
]
