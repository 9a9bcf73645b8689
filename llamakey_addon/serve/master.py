"""mitmproxy's master beside the proxy, where there is something for it to do: scripts that the
owner asked for, and mitmweb's page.

Clients are served on sockets of our own (`door.py`) either way. Scripts see their flows, which the
road shows to whoever looks, and their connections. Stock mitmdump walks some 35 addons for each
hook; here stand the scripts, what the page needs, and LlamaKey.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from mitmproxy.addons import core, proxyserver, script
from mitmproxy.master import Master
from mitmproxy.options import Options

from llamakey_addon.addon import LlamaKey
from llamakey_addon.house import House
from llamakey_addon.serve.log import ToJournal
from llamakey_addon.view.visitors import Greeter


class LmkMaster(Master):
    """Runs scripts and the page beside the house.

    Arguments:
        scripts: mitmproxy scripts to load, in their order.
        log: told when the start is over.
        started: awaited when everything is loaded; not where something failed.
    """

    def __init__(
        self,
        house: House,
        log: ToJournal,
        *,
        scripts: Sequence[Path] = (),
        started: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(Options())
        self._log = log
        self._scripts = scripts
        self._started = started
        self._ours = LlamaKey(house)
        # Without its server: it is there for its options, and for what the page asks it.
        self.addons.add(core.Core(), proxyserver.Proxyserver())
        self.options.update(server=False)

    def begin(self, beside: Sequence[object] = ()) -> None:
        """Build the chain, with these addons before LlamaKey. Raises mitmproxy's OptionsError."""
        self.addons.add(*beside)
        if self._scripts:
            self.addons.add(script.ScriptLoader())
        self.addons.add(self._ours)
        if self._scripts:
            self.options.update(scripts=[str(path) for path in self._scripts])

    @property
    def greeter(self) -> Greeter:
        """Who calls the scripts' hooks of connections."""
        return Greeter(self, self._ours)

    async def running(self) -> None:
        await super().running()
        if self._log.failures:
            # A script that was asked for and does not load may be somebody's guard: nothing is
            # served without it.
            self.stop()
            return
        await self._started()

    def stop(self) -> None:
        """End `run`, at once."""
        self.should_exit.set()
