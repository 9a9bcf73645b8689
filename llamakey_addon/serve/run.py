"""`lmk serve`, from its start on: what is loaded, opened and printed, in this order.

What a person may want to use goes to standard output (the table, the export lines, the log), what
is wrong to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from llamakey_addon import certificates
from llamakey_addon.config import Listen, Settings
from llamakey_addon.config.addresses import is_loopback, is_wildcard
from llamakey_addon.errors import ConfigError
from llamakey_addon.house import House
from llamakey_addon.journal import Journal
from llamakey_addon.journey import Provider
from llamakey_addon.prices import Prices
from llamakey_addon.serve import envfile, localkey, loops, openfiles, ports, program, second, show
from llamakey_addon.serve.alone import Alone
from llamakey_addon.serve.crew import Duty
from llamakey_addon.serve.localkey import FileRefused, LocalKey
from llamakey_addon.serve.parent import Parent
from llamakey_addon.serve.ports import Listener
from llamakey_addon.serve.signals import Signals
from llamakey_addon.serve.wishes import StartFailed, Wishes
from llamakey_addon.serve.worker import work
from llamakey_addon.store import Store, open_store

__all__ = ["StartFailed", "Wishes", "local_url", "serve"]

_AGAIN_S: Final = 1.0

type _LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None


def serve(wishes: Wishes) -> int:
    """Serve until a signal; the process's exit code.

    Raises LlamaKeyError when nothing could be started: ConfigError with every fault, PortTaken.
    """
    loop_factory = loops.factory()
    heritage = program.heritage()
    if heritage is not None:
        return _go_on(wishes, heritage, loop_factory)
    settings = Settings.load(wishes.config, os.environ, listen=wishes.listen, door=wishes.door)
    count = _count(wishes, settings)
    if program.is_rehearsal():
        return 0
    if settings.tls is not None and settings.tls.own:
        place = certificates.place_in(settings.data_folder)
        if lack := certificates.refresh(place):
            show.warning(lack, sys.stderr)
    with contextlib.ExitStack() as stack:
        wanted: dict[ports.Role, Listen] = {"front": settings.listen}
        if settings.door.open:
            wanted["door"] = settings.door.listen
        listeners = ports.listeners(wanted)
        for listener in listeners:
            stack.callback(listener.close)
        # where one is 0, the system has chosen
        chosen = {each.role: str(Listen(wanted[each.role].host, each.port)) for each in listeners}
        if chosen != {role: str(listen) for role, listen in wanted.items()}:
            settings = Settings.load(
                wishes.config,
                os.environ,
                listen=chosen["front"],
                door=wishes.door,
                door_listen=chosen.get("door"),
            )
        if settings.door.open:
            settings = second.prepare(settings)
        for warning in settings.warnings:
            show.warning(str(warning), sys.stderr)
        if lack := openfiles.make_room(settings.limits):
            show.warning(lack, sys.stderr)
        with open_store(settings.data_folder) as store:
            _introduce(settings, store, wishes.env_file)
            if count == 1:
                return _serve_alone(wishes, settings, store, listeners, loop_factory)
        # Closed before the first fork: SQLite's connections must not be inherited.
        return _look_after_workers(wishes, settings, listeners, Signals(), loop_factory)


def _serve_alone(
    wishes: Wishes,
    settings: Settings,
    store: Store,
    listeners: Sequence[Listener],
    loop_factory: _LoopFactory,
) -> int:
    journal = Journal(settings)
    try:
        house = House(settings, store, journal)
        alone = Alone(wishes, house, journal, listeners, lambda: _say_serving(settings, 1))
        return asyncio.run(alone.run(), loop_factory=loop_factory)
    finally:
        journal.close()


def _look_after_workers(
    wishes: Wishes,
    settings: Settings,
    listeners: Sequence[Listener],
    signals: Signals,
    loop_factory: _LoopFactory,
    heirs: Sequence[program.Heir] = (),
) -> int:
    """The parent's life; and, from its fork on, each worker's."""
    journal = Journal(settings, at_once=True)
    count = _count(wishes, settings)
    Prices(settings.prices).load()  # in memory that workers share
    try:
        parent = Parent(
            wishes,
            settings,
            journal,
            listeners,
            signals,
            lambda: _say_serving(settings, count),
            heirs,
        )
        outcome = parent.run()
    finally:
        journal.close()
    if isinstance(outcome, Duty):
        return work(outcome, wishes, listeners, loop_factory)
    return outcome


def _go_on(wishes: Wishes, heritage: program.Heritage, loop_factory: _LoopFactory) -> int:
    """After an upgrade: the same process, with its sockets and its workers, by the new code."""
    signals = Signals()
    told = ""
    while True:
        try:
            settings = _loaded_for(wishes, heritage.addresses)
            break
        except ConfigError as error:  # it was well a moment ago
            if str(error) != told:
                show.error(f"restart: {error}", sys.stderr)
            told = str(error)
            time.sleep(_AGAIN_S)
            if {signal.SIGTERM, signal.SIGINT} & set(signals.take()):
                raise  # the workers end with this process
    return _look_after_workers(
        wishes, settings, heritage.listeners, signals, loop_factory, heritage.heirs
    )


def _loaded_for(wishes: Wishes, addresses: Mapping[ports.Role, str]) -> Settings:
    """The settings for sockets that listen there. Raises ConfigError."""
    has_door = "door" in addresses
    settings = Settings.load(
        wishes.config,
        os.environ,
        listen=addresses["front"],
        door=has_door,
        door_listen=addresses.get("door"),
    )
    if settings.door.open and has_door:
        return second.prepare(settings)
    return replace(settings, door=replace(settings.door, open=has_door))


def _count(wishes: Wishes, settings: Settings) -> int:
    """How many processes serve. Raises ConfigError."""
    count = settings.workers if wishes.workers is None else wishes.workers
    if count > 1 and wishes.web:
        raise ConfigError(
            f"--web shows what one process serves, and {count} workers are wanted. Start it with "
            "--workers 1."
        )
    if count > 1 and not hasattr(os, "fork"):
        raise ConfigError("This system has no fork, so one process serves: set `workers: 1`.")
    return count


def local_url(settings: Settings) -> str:
    """By which programs on this machine reach the proxy."""
    listen, tls = settings.listen, settings.tls
    here = is_loopback(listen.host) or is_wildcard(listen.host)
    if tls is not None and not (tls.own and here):
        return settings.public_url  # the certificate's name
    if is_wildcard(listen.host):
        return f"http://localhost:{listen.port}"
    return f"http://{listen}"


# --- what a start prints --------------------------------------------------------------------------


def _introduce(settings: Settings, store: Store, env_file: Path) -> None:
    """Print the providers and the client's environment, and write the latter to its file."""
    from llamakey_addon import __version__, clients

    out = sys.stdout
    show.heading(f"LlamaKey {__version__}", out)
    show.providers(settings.providers.values(), out)
    ready = [provider for provider in settings.providers.values() if provider.ready]
    if not envfile.served(ready):
        show.warning(_nothing_ready(settings.providers.values()), sys.stderr)

    def content(key: LocalKey) -> str:
        return envfile.content(
            ready,
            local_url(settings),
            key.text,
            key.name,
            settings.trust,
            door=settings.door.url if settings.door.open else "",
        )

    try:
        key = localkey.make(env_file, store, content)
    except FileRefused as error:
        _without_file(error, store)
        return
    lines = envfile.lines(ready, local_url(settings), key.text, trust=settings.trust)
    bare = [line._replace(comment="") for line in lines if line.variable]
    show.say(out=out)
    show.environment(clients.render("bash", bare), out)
    show.say(out=out)
    found = "new key" if key.new else "key"
    show.prose(f"These lines, with your {found} {key.name!r}, stand in {env_file}.", out)
    show.say(f"  in a client's shell   source {env_file}", out)
    show.say(show.hint("  for a teammate        lmk keys new NAME --env"), out)
    out.flush()


def _say_serving(settings: Settings, workers: int) -> None:
    ready = sum(provider.ready for provider in settings.providers.values())
    show.heading(
        f"Serving {ready} of {len(settings.providers)} providers "
        f"on {local_url(settings)}{f' with {workers} workers' if workers > 1 else ''} "
        "(Ctrl-C stops)",
        sys.stdout,
    )
    if settings.door.open:
        show.say(
            f"The second door takes CONNECT on {settings.door.url}: lmk run -- COMMAND",
            out=sys.stdout,
        )
    sys.stdout.flush()


def _without_file(error: FileRefused, store: Store) -> None:
    show.warning(str(error), sys.stderr)
    rows = store.keys()
    if all(row.ended(time.time()) for row in rows):
        show.warning(
            "There is no local key yet, so every request will be refused. "
            "Make one: lmk keys new NAME",
            sys.stderr,
        )


def _nothing_ready(providers: Iterable[Provider]) -> str:
    variables = [p.entry.key_env[0] for p in providers if p.entry.key_env]
    first = [v for v in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "CO_API_KEY") if v in variables]
    return (
        "No real key is set, so no provider that needs one can be called. Set the variable of at "
        f"least one ({', '.join(first or variables[:3])}, …: the table has all) and start again."
    )
