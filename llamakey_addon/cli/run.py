"""`lmk run -- COMMAND`: a command that calls the providers by way of the proxy, and holds no real
key."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from llamakey_addon.cli.env import (
    KeySource,
    NoKey,
    door_of,
    folder_of,
    read_key,
    ready,
    served,
    split,
)
from llamakey_addon.clients import Line, agents, door
from llamakey_addon.config import Settings
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.serve import envfile
from llamakey_addon.serve import show as showing
from llamakey_addon.serve.show import COMMAND_VARIABLE

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def run(
    command: Sequence[str],
    *,
    names: str,
    key_file: Path | None,
    url: str | None,
    config: Path | None,
) -> None:
    """Become the command. Returns only by an exception."""
    words = list(command[1:] if command[:1] == ["--"] else command)
    if not words:
        raise LlamaKeyError("Name the command: lmk run -- python app.py")
    source = read_key(key_file)
    if source is None:
        raise NoKey(
            f"There is no ./{envfile.FILE_NAME} with a local key. Start lmk here first, or name "
            "the file by --key-file."
        )
    settings = Settings.load(config, os.environ)
    lines = ready(settings, source, split(names), url, folder_of(key_file), command=words[0])
    _warn_of_needs(words[0], settings, source)
    environ = client_environment(settings, lines)
    if url_of_door := door_of(settings, source):
        through_door(environ, url_of_door, source.key, settings)
        past_proxies(environ, lines)
    program = shutil.which(words[0], path=environ.get("PATH"))
    if program is None:
        # As a shell says it, and with its exit code.
        _fail(f"lmk run: {words[0]}: command not found", 127)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if os.name == "nt":
            sys.exit(subprocess.run([program, *words[1:]], env=environ, check=False).returncode)  # noqa: S603
        os.execve(program, words, environ)  # noqa: S606  the user's own command, without a shell
    except OSError as error:
        _fail(f"lmk run: {words[0]}: {error.strerror}", 126)


def _warn_of_needs(command: str, settings: Settings, source: KeySource) -> None:
    """Say so where an agent is run and no provider that it can use is served."""
    agent = agents.of_command(command)
    if agent is None or not agent.needs:
        return
    ready = {p.id for p in served(settings, source, [agent.id]) if p.ready}
    if ready.isdisjoint(agent.needs):
        need = " or ".join(agent.needs)
        showing.warning(
            f"{agent.name} needs {need}, which this proxy does not serve as far as is known here: "
            "`lmk providers` on the proxy's machine says what switches it on.",
            sys.stderr,
        )


def client_environment(settings: Settings, lines: Sequence[Line]) -> dict[str, str]:
    """What a command's process gets: this one's environment less the real keys, and the lines."""
    environ = without_real_keys(os.environ, settings)
    environ.pop(COMMAND_VARIABLE, None)  # how this one was called, not the next
    environ |= {line.variable: line.value for line in lines if line.variable}
    for line in lines:
        if line.variable and not line.value:
            del environ[line.variable]
    past_proxies(environ, lines)
    return environ


def without_real_keys(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment less every variable that holds, or by its name would hold, a real key."""
    entries = [provider.entry for provider in settings.providers.values()]
    dropped = {name for entry in entries for name in entry.key_env}
    dropped |= {name for entry in entries for client in entry.clients for name in client.env}
    dropped.update(*(agent.unset for agent in agents.load().values()))
    for making in filter(None, (entry.credential.made for entry in entries)):
        dropped |= {
            name.removeprefix("file:") for names in making.inputs.values() for name in names
        }
        dropped |= set(making.starts)
    values = [
        secret.reveal(min(secret.hosts)).decode("ascii")
        for provider in settings.providers.values()
        for secret in provider.secrets
    ]
    return {
        name: value
        for name, value in environ.items()
        # By value too: the same key under a name of the owner's own.
        if name not in dropped and not any(key in value for key in values)
    }


def through_door(environ: dict[str, str], url: str, key: str, settings: Settings) -> None:
    """What makes SDKs that no variable redirects go through the second door, and trust it."""
    trust = settings.door.trust
    if trust is None:
        showing.warning(
            f"The second door at {url} is left alone, since this machine does not trust its "
            "authority: take door/ca.pem of the proxy's data folder, then lmk tls --trust-door "
            "ca.pem",
            sys.stderr,
        )
        return
    environ |= {line.variable: line.value for line in envfile.trust_lines(trust)}
    # What calls by https alone needs no certificate of the front door's for it.
    for provider in settings.providers.values():
        for client in provider.entry.clients:
            for name, value in client.env.items():
                if client.door == "second" and "{authority}" in value:
                    environ.pop(name, None)
    environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(trust.bundle)
    environ |= door.variables(url, key, environ)


def past_proxies(environ: dict[str, str], lines: Sequence[Line]) -> None:
    """Where a company's proxy is set, SDKs would send calls for localhost to it too."""
    if not any(environ.get(name) or environ.get(name.upper()) for name in _PROXIES):
        return
    url = next(line.value for line in lines if line.variable == envfile.URL_VARIABLE)
    host = urlsplit(url).hostname or "localhost"
    hosts = ["localhost", "127.0.0.1"] if host == "localhost" else [host]
    known = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    words = [word.strip() for word in known.split(",") if word.strip()]
    joined = ",".join(dict.fromkeys([*words, *hosts]))
    environ["no_proxy"] = environ["NO_PROXY"] = joined


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(code)
