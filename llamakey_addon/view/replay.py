"""Replays come through the front door.

mitmproxy's own replay opens a connection to whatever host a flow names, past every layer of ours.
So its addon is replaced by one that keeps its commands, options and queue, and lets the road run
each request: as the local key that the flow was made with, judged and booked like any call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mitmproxy import command, ctx, flow, hooks, http
from mitmproxy.addons.clientplayback import ClientPlayback
from mitmproxy.utils import asyncio_utils

from llamakey_addon.edge import RoadEdge
from llamakey_addon.errors import Denied
from llamakey_addon.exchange import new_id
from llamakey_addon.journey import Ask, Headers
from llamakey_addon.rim import Look
from llamakey_addon.road import Road
from llamakey_addon.view.cover import reread
from llamakey_addon.view.roadflow import RoadFlow
from llamakey_addon.view.showing import Showing

if TYPE_CHECKING:
    from mitmproxy.master import Master

    from llamakey_addon.house import House

_NOBODYS = (
    "LlamaKey does not replay this flow: it was loaded, uploaded or made here, or was refused "
    "before its key was known, so there is no key that it could run as. Send the request from a "
    "client with a local key."
)
_CUT = (
    "LlamaKey does not replay this flow: only the first part of its body is kept. Raise "
    "view.body_bytes in config.yaml, or send the request again from its client."
)


def install(master: Master, house: House) -> None:
    """Put our replay in the place of mitmproxy's. Without effect where that is done, or has none.

    What was queued with mitmproxy's (`-C` may come first) is judged too.
    """
    addons = master.addons
    theirs: Any = addons.get("clientplayback")
    if not isinstance(theirs, ClientPlayback) or isinstance(theirs, FrontDoorPlayback):
        return
    ours = FrontDoorPlayback(house)
    addons.chain[addons.chain.index(theirs)] = ours
    addons.lookup["clientplayback"] = ours
    master.commands.collect_commands(ours)
    queued = []
    while not theirs.queue.empty():
        queued.append(theirs.queue.get_nowait())
    if theirs.playback_task is not None:
        theirs.playback_task.cancel()
        ours.running()  # type: ignore[no-untyped-call]
    ours.start_replay(queued)


class FrontDoorPlayback(ClientPlayback):
    """`replay.client` and its kin, by the road."""

    name = "clientplayback"

    def __init__(self, house: House) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._house = house

    @command.command("replay.client")  # type: ignore[untyped-decorator]
    def start_replay(self, flows: Sequence[flow.Flow]) -> None:
        """
        Add flows to the replay queue. Each runs as the local key that it was made with; flows of
        no known key are refused.
        """
        updated: list[flow.Flow] = []
        for each in flows:
            why = self._refusal(each)
            if why:
                self._house.journal.note(why)
                if why in (_NOBODYS, _CUT):
                    each.error = flow.Error(why)
                    updated.append(each)
                continue
            assert isinstance(each, RoadFlow)
            each.backup()  # type: ignore[no-untyped-call]
            each.is_replay = "request"
            each.response = None
            each.error = None
            self.queue.put_nowait(each)
            updated.append(each)
        ctx.master.addons.trigger(hooks.UpdateHook(updated))

    async def playback(self) -> None:
        while True:
            self.inflight = await self.queue.get()
            try:
                assert isinstance(self.inflight, RoadFlow)
                run = _Rim(self._house, self.inflight).run()
                if ctx.options.client_replay_concurrency == -1:
                    task = asyncio_utils.create_task(run, name="replay", keep_ref=True)
                    self.replay_tasks.add(task)
                    task.add_done_callback(self.replay_tasks.discard)
                else:
                    await run
            except Exception as error:
                self._house.gate.book.alarm(error)
            self.queue.task_done()
            self.inflight = None

    def _refusal(self, each: flow.Flow) -> str:
        """Why a flow is not replayed, or ""."""
        if not isinstance(each, RoadFlow) or not each.key_id:
            return _NOBODYS if isinstance(each, http.HTTPFlow) else "Only HTTP flows are replayed."
        if each.request_cut:
            return _CUT
        if each.request.raw_content is None:
            each.request.raw_content = b""
        return self.check(each) or ""


class _Rim(RoadEdge):
    """What is around the road of one replay: an upstream, and no client."""

    def __init__(self, house: House, shown: RoadFlow) -> None:
        super().__init__(house)
        self._flow = shown
        self._over = asyncio.Event()
        self.road = Road(self, house.gate, shown.client_conn.peername[0])

    async def run(self) -> None:
        """Until its answer has ended."""
        each = self._flow
        each.live = True
        each.request.timestamp_start = time.time()
        each.request.timestamp_end = None
        look: Showing | None = None
        try:
            ask, content = _ask(each, self._house)
            look = Showing(ctx.master, self._house, self.road, ask, each.client_conn, each)
            self._house.enter(self.road)
            self.road.replay(ask, content, look)
            await self._over.wait()
            await look.finish()
        except Denied as denied:
            each.error = flow.Error(f"LlamaKey does not replay this flow: {denied.message}")
            self._house.journal.note(each.error.msg)
            ctx.master.addons.trigger(hooks.UpdateHook([each]))
        finally:
            each.live = False
            if not self.road.closed:
                self.road.end("the replay ended")
            self._gone()

    def _gone(self) -> None:
        super()._gone()
        self._over.set()

    # ── the rim ───────────────────────────────────────────────────────────────────────────────

    def to_client(self, data: bytes) -> None:
        pass  # the flow has it

    def flush(self) -> None:
        pass

    def pause_client(self) -> None:
        pass

    def resume_client(self) -> None:
        pass

    def finish_client(self) -> None:
        self._over.set()

    def close_client(self, *, reset: bool = False) -> None:
        self._gone()

    def watch(self, ask: Ask) -> Look | None:
        return None  # it looks already


def _ask(each: RoadFlow, house: House) -> tuple[Ask, bytes]:
    """The request that a flow stands for now, edits and all.

    Raises:
        Denied: it is no valid request.
    """
    request, settings = each.request, house.settings
    content = request.raw_content or b""
    fields: Headers = tuple(
        (name, value)
        for name, value in request.headers.fields
        if name.lower().replace(b"_", b"-") not in settings.slot_headers
    )
    head = reread(request.data.method, request.data.path, fields, b"-", settings.limits)
    ask = Ask(
        id=new_id(),
        time_s=time.time(),
        peer=each.client_conn.peername[0],
        method=head.method,
        target=head.target,
        headers=head.headers,
        body_length=len(content),
        as_key=each.key_id,
    )
    return ask, content
