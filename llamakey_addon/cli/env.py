"""`lmk env`: the client's environment, for a shell or a file. `lmk run` gives the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llamakey_addon import clients
from llamakey_addon.clients import Line, Shell, keyfiles
from llamakey_addon.config import Settings
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.serve import envfile, localkey
from llamakey_addon.serve import show as showing

#: What stands where the key belongs while there is none. No shell takes it for anything else.
PLACEHOLDER = "YOUR-LOCAL-KEY"


class NoKey(LlamaKeyError):
    """There is no local key where one was looked for."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """A file with a local key, as it was read."""

    key: str
    url: str
    """The proxy's URL that it names, or ""."""
    variables: frozenset[str]
    """The variables that it sets."""


def show(
    *, shell: Shell, names: str, key_file: Path | None, url: str | None, config: Path | None
) -> None:
    source = read_key(key_file)
    settings = Settings.load(config, os.environ)
    lines = environment(settings, source, split(names), url)
    lines = with_key_files(lines, source, folder_of(key_file))
    showing.say(clients.render(shell, lines).rstrip("\n"))
    if source is None:
        showing.prose(
            f"No local key in ./{envfile.FILE_NAME}: put yours in the place of {PLACEHOLDER}, or "
            "name its file by --key-file. The proxy's owner makes keys: lmk keys new NAME --env",
            sys.stderr,
        )


def split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def read_key(key_file: Path | None) -> KeySource | None:
    """The local key of a file, of standard input (`-`), or of ./llamakey_local.env; None when the
    last is not there.

    Raises NoKey.
    """
    if key_file is None:
        text, shown = localkey.read(Path(envfile.FILE_NAME)), f"./{envfile.FILE_NAME}"
        if not text:
            return None
    elif str(key_file) == "-":
        text, shown = sys.stdin.read(), "standard input"
    else:
        try:
            text, shown = key_file.read_text("utf-8", "replace"), str(key_file)
        except OSError as error:
            raise NoKey(
                f"--key-file {key_file}: {error.strerror}. Name the file with your local key, "
                "or - for standard input."
            ) from None
    found = envfile.find_keys(text)
    if not found:
        raise NoKey(
            f"{shown} holds no whole local key (sk-lmk-…; one that is cut or mistyped is not "
            "taken). Ask the proxy's owner for a file: lmk keys new NAME --env"
        )
    return KeySource(found[0], envfile.find_url(text), envfile.find_variables(text))


def environment(
    settings: Settings, source: KeySource | None, names: Sequence[str], url: str | None
) -> list[Line]:
    """Variables of the providers asked for by `names`; without names, of those that are served as
    far as this machine knows, else of all.

    A client's machine has no real keys, so nothing is ready there: what its file sets tells.
    """
    everything = list(settings.providers.values())
    key = source.key if source else PLACEHOLDER
    where = (url or (source.url if source else "") or settings.public_url).rstrip("/")
    ready = envfile.served(everything)
    if ready:
        served = everything if names else ready
        return envfile.lines(served, where, key, names, settings.trust)
    lines = envfile.lines([replace(p, missing="") for p in everything], where, key, names)
    offered = source.variables if source else frozenset()
    if not names and len(offered) > len({envfile.URL_VARIABLE, envfile.KEY_VARIABLE}):
        lines = [line for line in lines if line.variable in offered]
    return [*lines, *envfile.trust_lines(settings.trust)]


def with_key_files(lines: Sequence[Line], source: KeySource | None, folder: Path) -> list[Line]:
    """The same lines, with the credentials files that they name written, for their owner alone.

    Raises FileRefused. Without a key nothing is written.
    """
    where = next((line.value for line in lines if line.variable == envfile.URL_VARIABLE), "")
    done: list[Line] = []
    for line in lines:
        prefix = keyfiles.prefix_of(line.value)
        if prefix and source is not None:
            path = folder.absolute() / line.value
            localkey.write(path, keyfiles.content(where, prefix, source.key, str(path)))
            line = line._replace(value=str(path))
        done.append(line)
    return done


def folder_of(key_file: Path | None) -> Path:
    """Where files stand beside the one with the key."""
    return Path() if key_file is None or str(key_file) == "-" else key_file.parent


def script_path() -> Path:
    """What `mitmdump -s` loads."""
    import llamakey_addon

    return Path(llamakey_addon.__file__).resolve().parent / "script.py"
