"""Where our data is: the store with the local keys' hashes.

Apart from `load.py`, so that `lmk keys revoke` works at once, and while config.yaml is faulty.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from llamakey_addon.errors import ConfigError, Fault


def data_folder(path: Path | None, environ: Mapping[str, str]) -> Path:
    """As `Settings.data_folder`, without a look at anything else that config.yaml says.

    Arguments:
        path: config.yaml; None takes ./config.yaml if there is one.

    Raises ConfigError when the file is not YAML, and LLAMAKEY_HOME does not name the folder.
    """
    if home := environ.get("LLAMAKEY_HOME", "").strip():
        return Path(home).expanduser().absolute()
    if path is None:
        path = Path("config.yaml")
        if not path.is_file():
            return default_data_folder(environ, sys.platform)
    from llamakey_addon.config.yamlfile import read

    try:
        named = read(path, str(path)).data.get("data_folder")
    except ConfigError as error:
        raise ConfigError(
            [*error.faults, Fault("", "LLAMAKEY_HOME names the data folder without this file.")]
        ) from None
    if isinstance(named, str) and named:
        return path.absolute().parent / Path(named).expanduser()
    return default_data_folder(environ, sys.platform)


def default_data_folder(environ: Mapping[str, str], platform: str) -> Path:
    """The platform's place for our data.

    Arguments:
        platform: as `sys.platform` says it.
    """
    if platform == "win32" and (local := environ.get("LOCALAPPDATA", "").strip()):
        return Path(local) / "llamakey"
    if platform == "darwin":
        return _home(environ) / "Library" / "Application Support" / "llamakey"
    data = environ.get("XDG_DATA_HOME", "").strip()
    if data.startswith("/"):  # the XDG specification: a relative one is ignored
        return Path(data) / "llamakey"
    return _home(environ) / ".local" / "share" / "llamakey"


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "").strip()
    return Path(home) if home else Path("~").expanduser()
