"""The life of `lmk serve`: start, reloads, signals, end.

What a person may want to use goes to standard output (the table, the export lines, the log), what
is wrong to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamakey_addon import certificates
from llamakey_addon.config import Settings, Tls, yamlfile
from llamakey_addon.config.addresses import is_loopback, is_wildcard
from llamakey_addon.errors import ConfigError, LlamaKeyError
from llamakey_addon.house import House
from llamakey_addon.journal import Journal
from llamakey_addon.journey import Provider
from llamakey_addon.serve import envfile, localkey, loops, openfiles, ports, show
from llamakey_addon.serve.door import Door, server_tls
from llamakey_addon.serve.localkey import FileRefused, LocalKey
from llamakey_addon.serve.log import ToJournal
from llamakey_addon.store import Store, open_store

#: Between two looks at config.yaml.
_LOOK_S: Final = 1.0
#: So many looks lie between two at the certificate's end: an hour.
_LOOKS_A_RENEWAL: Final = 3600
#: Settings that a running process cannot change, beside `listen`.
_FIXED: Final = ("data_folder", "view")


class StartFailed(LlamaKeyError):
    """mitmproxy or a script did not start; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks of `lmk serve`."""

    config: Path | None = None
    listen: str | None = None
    """`HOST:PORT`, before config.yaml's."""
    web: bool = False
    """Start mitmweb beside the proxy."""
    scripts: tuple[Path, ...] = ()
    verbosity: int = 0
    """1 shows mitmproxy's own log, 2 all of it."""
    env_file: Path = Path(envfile.FILE_NAME)


def serve(wishes: Wishes) -> int:
    """Serve until a signal; the process's exit code.

    Raises LlamaKeyError when nothing could be started: ConfigError with every fault, PortTaken.
    """
    loop_factory = loops.factory()
    settings = Settings.load(wishes.config, os.environ, listen=wishes.listen)
    if settings.tls is not None and settings.tls.own:
        place = certificates.place_in(settings.data_folder)
        if lack := certificates.refresh(place):
            show.warning(lack, sys.stderr)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in ports.listening(settings.listen)]
        port = sockets[0].getsockname()[1]
        if port != settings.listen.port:  # 0: the system has chosen
            chosen = f"{_bracketed(settings.listen.host)}:{port}"
            settings = Settings.load(wishes.config, os.environ, listen=chosen)
        store = stack.enter_context(open_store(settings.data_folder))
        for warning in settings.warnings:
            show.warning(str(warning), sys.stderr)
        if lack := openfiles.make_room(settings.limits):
            show.warning(lack, sys.stderr)
        _introduce(settings, store, wishes.env_file)
        journal = Journal(settings)
        try:
            house = House(settings, store, journal)
            serving = _Serving(wishes, house, journal, sockets)
            return asyncio.run(serving.run(), loop_factory=loop_factory)
        finally:
            journal.close()


def local_url(settings: Settings) -> str:
    """By which programs on this machine reach the proxy."""
    listen, tls = settings.listen, settings.tls
    here = is_loopback(listen.host) or is_wildcard(listen.host)
    if tls is not None and not (tls.own and here):
        return settings.public_url  # the certificate's name
    if is_wildcard(listen.host):
        return f"http://localhost:{listen.port}"
    return f"http://{listen}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
        return envfile.content(ready, local_url(settings), key.text, key.name, settings.trust)

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


# --- the running process --------------------------------------------------------------------------


class _Serving:
    """One process that serves: its master, its signals, its reloads."""

    def __init__(
        self, wishes: Wishes, house: House, journal: Journal, sockets: Sequence[socket.socket]
    ) -> None:
        self._wishes = wishes
        self._house = house
        self._journal = journal
        settings = house.settings
        tls = None if settings.tls is None else server_tls(settings.tls)
        self._door = Door(house, sockets, tls)
        self._log = ToJournal(journal, house.gate.scrub, {0: 30, 1: 20}.get(wishes.verbosity, 10))
        self._written_listen = _written_listen(settings.path)
        self._signals = 0
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._started = False

    async def run(self) -> int:
        self._log.install()
        try:
            self._listen_to_signals()
            if self._wishes.web or self._wishes.scripts:
                await self._run_beside_mitmproxy()
            else:
                await self._open()
                await self._stopped.wait()
                await self._house.end()
        finally:
            self._door.shut()
            for task in self._tasks:
                task.cancel()
            self._log.uninstall()
        if not self._started:
            raise StartFailed("\n".join(["The proxy did not start.", *self._log.failures]))
        self._journal.note("stopped")
        return 0

    async def _run_beside_mitmproxy(self) -> None:
        from mitmproxy.exceptions import OptionsError

        from llamakey_addon.serve.master import LmkMaster

        master = LmkMaster(self._house, self._log, scripts=self._wishes.scripts, started=self._open)
        beside: list[object] = []
        if self._wishes.web:
            from llamakey_addon.view.web import Web

            beside = Web(master, self._house.settings).addons
        try:
            master.begin(beside)
        except OptionsError as error:
            raise StartFailed(str(error)) from None
        self._door.greeter = master.greeter
        running = asyncio.ensure_future(master.run())
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        master.stop()
        await running

    async def _open(self) -> None:
        await self._door.open()
        self._house.open_ahead()
        self._log.starting = False
        self._started = True
        settings = self._house.settings
        ready = sum(provider.ready for provider in settings.providers.values())
        show.heading(
            f"Serving {ready} of {len(settings.providers)} providers "
            f"on {local_url(settings)} (Ctrl-C stops)",
            sys.stdout,
        )
        sys.stdout.flush()
        self._spawn(self._watch())

    # --- the end

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        handlers: dict[str, Callable[[], None]] = {
            "SIGINT": self._stop,
            "SIGTERM": self._stop,
            "SIGHUP": lambda: self._spawn(self._reload("SIGHUP")),
        }
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            if number is None:
                continue
            try:
                loop.add_signal_handler(number, handler)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_, run=handler: loop.call_soon_threadsafe(run))
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _stop(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._spawn(self._drain())
        elif self._signals == 2:
            self._stopped.set()
        else:
            os._exit(130)

    async def _drain(self) -> None:
        """Take no new connections, let running answers end, then stop."""
        house = self._house
        if self._started:
            self._door.shut()
            limit_s = house.settings.limits.drain_timeout_s
            if house.roads:
                self._journal.note(
                    f"stopping: waiting up to {limit_s:.0f} s for running requests "
                    "(Ctrl-C again to stop at once)"
                )
            left = await house.drain(limit_s)
            if left:
                self._journal.note(
                    f"{left} connections did not end within {limit_s:.0f} s: they are cut"
                )
        self._stopped.set()

    # --- reloads

    async def _watch(self) -> None:
        """Reload when config.yaml or the certificate has changed and stands still again."""
        known = seen = {path: _fingerprint(path) for path in self._watched()}
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            looks += 1
            if looks % _LOOKS_A_RENEWAL == 0:
                await self._renew()
            now = {path: _fingerprint(path) for path in self._watched()}
            # An editor writes in steps, some by way of no file at all.
            changed = [
                path
                for path, print_ in now.items()
                if print_ is not None and print_ == seen.get(path) and print_ != known.get(path)
            ]
            if changed:
                known = now
                await self._reload(f"{changed[0]} has changed")
            seen = now

    def _watched(self) -> list[Path]:
        """config.yaml, and the certificate for clients, whether it is there or not."""
        settings = self._house.settings
        place = certificates.place_in(settings.data_folder)
        tls = settings.tls or Tls(place.cert, place.key)
        return [settings.path or Path("config.yaml"), tls.cert, tls.key]

    async def _renew(self) -> None:
        """The proxy's own certificate near its end; a new one is then a change like any other."""
        settings = self._house.settings
        if settings.tls is not None and settings.tls.own:
            place = certificates.place_in(settings.data_folder)
            if warning := await asyncio.to_thread(certificates.refresh, place):
                self._journal.note(f"warning: {warning}")

    async def _reload(self, why: str) -> None:
        """Load the settings anew; what is faulty changes nothing."""
        journal = self._journal
        journal.reopen()
        current = self._house.settings
        path = current.path or self._wishes.config
        listen = str(current.listen)
        try:
            # In a thread: a key's reference may be a command that takes its time.
            new = await asyncio.to_thread(Settings.load, path, os.environ, listen=listen)
            tls = None if new.tls is None else await asyncio.to_thread(server_tls, new.tls)
        except ConfigError as error:
            faults = "\n".join(str(fault) for fault in error.faults)
            journal.note(f"{why}: not taken, the proxy goes on with the settings it has.\n{faults}")
            return
        for warning in new.warnings:
            if warning not in current.warnings:
                journal.note(f"warning: {warning}")
        fixed = [name for name in _FIXED if getattr(new, name) != getattr(current, name)]
        if (written := _written_listen(path)) != self._written_listen:
            self._written_listen = written
            fixed.append("listen")
        self._door.tls = tls
        self._house.reload(new)
        journal.reload(new)
        journal.note(f"{why}: {_difference(current, new)}")
        if fixed:
            journal.note(f"{', '.join(fixed)}: changed, and taken at the next start")

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _written_listen(path: Path | None) -> object:
    """`listen` as config.yaml has it: the settings hold the address that is served."""
    try:
        return yamlfile.read(path, str(path)).data.get("listen") if path else None
    except ConfigError:
        return None  # told of by the load


def _difference(old: Settings, new: Settings) -> str:
    """What a reload did to the providers, for the log."""
    before = {provider.id for provider in old.providers.values() if provider.ready}
    after = {provider.id for provider in new.providers.values() if provider.ready}
    words = [
        f"{word} {', '.join(sorted(names))}"
        for word, names in (("now ready:", after - before), ("no longer ready:", before - after))
        if names
    ]
    return "; ".join(["settings taken", *words])
