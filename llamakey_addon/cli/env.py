"""`lmk env`: the client's environment, for a shell or a file. `lmk run` gives the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from llamakey_addon import clients
from llamakey_addon.clients import Line, Shell, agents, keyfiles
from llamakey_addon.clients.agents import Agent
from llamakey_addon.config import Settings
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.journey import Provider
from llamakey_addon.serve import envfile, localkey
from llamakey_addon.serve import show as showing

#: What stands where the key belongs while there is none. No shell takes it for anything else.
PLACEHOLDER = "YOUR-LOCAL-KEY"
_OWN: Final = frozenset({envfile.URL_VARIABLE, envfile.KEY_VARIABLE, envfile.DOOR_VARIABLE})


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
    door: str = ""
    """The second door's URL that it names, or ""."""


def show(
    *, shell: Shell, names: str, key_file: Path | None, url: str | None, config: Path | None
) -> None:
    wanted = split(names)
    if wanted in (["list"], ["help"]):
        show_names(config)
        return
    source = read_key(key_file)
    settings = Settings.load(config, os.environ)
    lines = ready(settings, source, wanted, url, folder_of(key_file))
    showing.say(clients.render(shell, lines).rstrip("\n"))
    if source is None:
        showing.prose(
            f"No local key in ./{envfile.FILE_NAME}: put yours in the place of {PLACEHOLDER}, or "
            "name its file by --key-file. The proxy's owner makes keys: lmk keys new NAME --env",
            sys.stderr,
        )


def show_names(config: Path | None) -> None:
    """Print what may stand after `--for`, and what for."""
    settings = Settings.load(config, os.environ)
    told: dict[str, list[str]] = {
        agent.id: [agent.name, *(f"(lmk run -- {command})" for command in agent.commands)]
        for agent in agents.load().values()
    }
    tools: dict[str, list[str]] = {}
    for provider in settings.providers.values():
        told.setdefault(provider.prefix, [f"{provider.entry.name}'s own SDKs"])
        for client in provider.entry.clients:
            for tool in client.tools:
                tools.setdefault(tool, []).append(provider.entry.name)
    for tool, names in sorted(tools.items()):
        told.setdefault(tool, [f"for {', '.join(dict.fromkeys(names))}"])
    width = max(map(len, told))
    for name, words in told.items():
        showing.say(f"{name:<{width}}  {' '.join(words)}")


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
    return KeySource(
        found[0],
        envfile.find_url(text),
        envfile.find_variables(text),
        envfile.find_door(text),
    )


def ready(
    settings: Settings,
    source: KeySource | None,
    names: Sequence[str],
    url: str | None,
    folder: Path,
    command: str = "",
) -> list[Line]:
    """The whole environment, with the files that it names written, for their owner alone.

    Arguments:
        folder: where files go that stand beside the one with the key.
        command: the program that it is for: what an agent of this name needs is added, unless
            `names` says what is wanted.

    Raises FileRefused, SettingsUnreadable. Without a key nothing is written.
    """
    lines = environment(settings, source, names, url)
    known = agents.load()
    chosen = [known[name] for name in names if name in known]
    own = agents.of_command(command) if command and not names else None
    if own is not None:
        chosen = [own]
        fixed = {line.variable for line in lines}
        more = environment(settings, source, [own.id], url)
        lines = [*lines, *(line for line in more if line.variable not in fixed)]
    for agent in chosen:
        lines = _with_agent(lines, agent, settings, source, explicit=bool(names))
    return with_key_files(lines, source, folder)


def _make_private(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for their owner alone."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _with_agent(
    lines: Sequence[Line],
    agent: Agent,
    settings: Settings,
    source: KeySource | None,
    *,
    explicit: bool,
) -> list[Line]:
    """The lines with an agent's own.

    Arguments:
        explicit: what the lines set is asked for by name, and not taken out for the agent's sake.
    """
    where = next(line.value for line in lines if line.variable == envfile.URL_VARIABLE)
    outfit = agents.outfit(
        agent,
        [provider.id for provider in served(settings, source, [agent.id]) if provider.ready],
        proxy_url=where,
        key=source.key if source else PLACEHOLDER,
        folder=agents.folder(settings.data_folder, where, agent),
        environ=os.environ,
    )
    if source is not None:
        for path, text in outfit.files.items():
            _make_private(path.parent)
            localkey.write(path, text)
    asked = {line.variable for line in lines if line.variable} if explicit else set()
    variables = {n: v for n, v in outfit.variables.items() if v or n not in asked}
    kept = [line for line in lines if line.variable not in variables]
    own = [Line(name, value, agent.name) for name, value in variables.items()]
    told = [Line("", "", f"{agent.name}: {agent.note}")] if agent.note else []
    return [*kept, *own, *told]


def environment(
    settings: Settings, source: KeySource | None, names: Sequence[str], url: str | None
) -> list[Line]:
    """Variables of the providers asked for by `names`; without names, of those that are served as
    far as this machine knows, else of all. Files that they name are not written."""
    key = source.key if source else PLACEHOLDER
    where = (url or (source.url if source else "") or settings.public_url).rstrip("/")
    door = door_of(settings, source)
    providers = served(settings, source, names)
    if not names and not envfile.served(settings.providers.values()):
        offered = _offered(source)
        lines = envfile.lines(providers, where, key, door=door)
        if offered:
            lines = [line for line in lines if line.variable in offered | _OWN]
        return [*lines, *envfile.trust_lines(settings.trust)]
    return envfile.lines(providers, where, key, names, settings.trust, door)


def served(settings: Settings, source: KeySource | None, names: Sequence[str]) -> list[Provider]:
    """The providers, ready or not as far as this machine knows.

    A client's machine has no real keys, so nothing is ready there: what its file sets tells, and
    whoever asks for a provider by its name knows more.
    """
    everything = list(settings.providers.values())
    if here := envfile.served(everything):
        return everything if names else here
    offered = _offered(source)
    return [
        replace(provider, missing="")
        if not names
        or not offered
        or not (told := _variables(provider))  # the file says nothing of such a one
        or not offered.isdisjoint(told)
        or not {provider.id, provider.prefix}.isdisjoint(names)
        else replace(provider, missing="your file has no variables of it")
        for provider in everything
    ]


def _variables(provider: Provider) -> set[str]:
    return {name for client in provider.entry.clients if client.default for name in client.env}


def _offered(source: KeySource | None) -> frozenset[str]:
    """The variables that a client's file sets for SDKs; empty where it sets none."""
    return frozenset() if source is None else source.variables - _OWN


def door_of(settings: Settings, source: KeySource | None) -> str:
    """The second door's URL, as far as this machine knows; "" for none."""
    if source is not None and source.door:
        return source.door
    return settings.door.url if settings.door.open else ""


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
