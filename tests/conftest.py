"""Fixtures: the fakes, and proxies in front of them.

    world           the fake providers of this worker
    proxy           starts a proxy of the test's own: `proxy(mode="lmk", config={…}, env={…})`
    shared_proxy    the same, but one for all tests of this worker that ask for the same

At its end each test is held to this: no provider saw a local key. A proxy's own end adds: no key
stands in anything that it printed or wrote.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings

from tests.fakes import World
from tests.harness import Mode, Proxy, start

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 * 2**30
"""Free there, beside what a run writes (some hundred MB) and its processes take."""


def has_room(place: Path) -> bool:
    """Whether a run's files may lie in memory."""
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    return os.access(place, os.W_OK) and found.f_bavail * found.f_frsize >= ENOUGH_BYTES


# Every commit of a ledger waits for the disk, and with it the test; in memory nothing does. Of
# processes that are killed the files stay, there as here.
if has_room(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


# ── what thousands of small tests cost beside themselves ────────────────────────────────────────


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays to the end: no search of it for garbage, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class Turned(pytest.Package):
    """These tests, begun elsewhere by each worker: what one has compiled the others find compiled.

    In a fresh clone this is most of what collecting them takes.
    """

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        found = list(super().collect())
        number, count = _worker(self.config)
        at = len(found) * number // count
        return found[at:] + found[:at]


def _worker(config: pytest.Config) -> tuple[int, int]:
    """Number of this worker, from 0, and how many there are."""
    told = getattr(config, "workerinput", None)
    if told is None:
        return 0, 1
    return int(told["workerid"].removeprefix("gw")), int(told["workercount"])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The one order in which all workers know them."""
    items.sort(key=lambda item: item.path)


class Here:
    """Hooks for this folder itself, for which its conftest.py comes too late."""

    def pytest_collect_directory(
        self, path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        if path == Path(__file__).parent:
            return Turned.from_parent(parent, path=path)
        return None


class Brief:
    """A worker tells the controller of a test what it prints, in two messages of six.

    Most of the controller's time would go into reading that nothing was wrong with a set-up.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "call" or not report.passed:
                item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(
        self,
    ) -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
        data = yield
        if data and "keywords" in data:
            data["keywords"] = {}
        return data


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Here())
    # who asks for durations, or for a file of results, gets every report
    whole = config.option.durations is not None or config.option.xmlpath
    if hasattr(config, "workerinput") and not whole:
        config.pluginmanager.register(Brief())


class Start(Protocol):
    """Starts a proxy, or gives a running one; arguments as those of `harness.start`."""

    def __call__(
        self,
        mode: Mode = "lmk",
        *,
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        own_tls: bool = False,
    ) -> Proxy: ...


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("fakes")) as running:
        yield running


@pytest.fixture
def no_local_key_upstream(world: World) -> Iterator[None]:
    """Holds the test to it that no provider sees a local key while it runs."""
    before = len(world.violations)
    yield
    assert world.violations[before:] == []


@pytest.fixture
def proxy(
    world: World, tmp_path_factory: pytest.TempPathFactory, no_local_key_upstream: None
) -> Iterator[Start]:
    """Starts proxies of the test's own; they are stopped and searched at its end."""
    running: list[Proxy] = []

    def begin(
        mode: Mode = "lmk",
        *,
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        own_tls: bool = False,
    ) -> Proxy:
        folder = tmp_path_factory.mktemp(mode)
        running.append(
            start(world, folder, mode, config=config, env=env, args=args, own_tls=own_tls)
        )
        return running[-1]

    yield begin
    _end(running)


@pytest.fixture(scope="session")
def _shared(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    running: dict[str, Proxy] = {}

    def begin(
        mode: Mode = "lmk",
        *,
        config: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        own_tls: bool = False,
    ) -> Proxy:
        name = json.dumps([mode, config, env, list(args), own_tls], sort_keys=True, default=str)
        if name not in running or running[name].process.poll() is not None:
            folder: Path = tmp_path_factory.mktemp(f"shared-{mode}")
            running[name] = start(
                world, folder, mode, config=config, env=env, args=args, own_tls=own_tls
            )
        return running[name]

    yield begin
    _end(list(running.values()))


@pytest.fixture
def shared_proxy(_shared: Start, no_local_key_upstream: None) -> Start:
    """Gives a proxy that other tests may use too: leave it as it was."""
    return _shared


def _end(running: list[Proxy]) -> None:
    for each in running:
        each.stop()
    leaks = [leak for each in running for leak in each.leaks()]
    assert leaks == []
