"""Which loop `lmk serve` runs on."""

from __future__ import annotations

import asyncio
import builtins
import sys
from typing import Any

import pytest
from mitmproxy.master import Master
from mitmproxy.options import Options

from llamakey_addon.errors import ConfigError
from llamakey_addon.serve import loops

uvloop = pytest.importorskip("uvloop")


def test_uvloop_is_taken_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(loops.VARIABLE, raising=False)
    make = loops.factory()
    assert make is not None
    loop = make()
    assert isinstance(loop, uvloop.Loop)
    loop.close()


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(loops.VARIABLE, "asyncio")
    assert loops.factory() is None
    monkeypatch.setenv(loops.VARIABLE, "trio")
    with pytest.raises(ConfigError, match="set it to asyncio or uvloop"):
        loops.factory()


def test_without_it_asyncios_own_is_taken_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "uvloop":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert loops.factory("") is None
    with pytest.raises(ConfigError, match=r"llamakey\[fast\]"):
        loops.factory("uvloop")


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
def test_mitmproxys_eager_tasks_run_on_it() -> None:
    """Its own factory fails there."""

    async def work() -> int:
        return 7

    async def run() -> list[bool]:
        master = Master(Options())
        running = asyncio.ensure_future(master.run())
        await asyncio.sleep(0)
        made = [asyncio.create_task(work()), asyncio.create_task(work(), name="named")]
        done = [task.done() for task in made]
        assert await asyncio.gather(*made) == [7, 7]
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
        master.should_exit.set()
        await running
        return done

    assert asyncio.run(run(), loop_factory=loops.factory("uvloop")) == [True, True]


def test_a_live_one_runs_on_it(lmk) -> None:
    """With a script, so with mitmproxy beside it."""
    (lmk.folder / "mine.py").write_text(
        "import asyncio, logging\n"
        "def running():\n"
        "    loop = type(asyncio.get_running_loop()).__mro__[1]\n"
        "    logging.getLogger('mine').warning('on %s', loop.__module__)\n"
    )
    with lmk.serving("-s", "mine.py") as serving:
        serving.wait_for("on uvloop")
        assert serving.get("/_llamakey/health")[0] == 200
        assert serving.stop() == 0
