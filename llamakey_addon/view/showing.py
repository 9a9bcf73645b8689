"""One exchange of the road, shown as a flow.

The road tells what happens and goes on; a task of the flow's own calls the hooks, in mitmproxy's
order. The road waits for it at one point, between `asked` and `looked`: there a request may be
held, edited, answered or killed. Answers are shown while they pass, and never held.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from mitmproxy import flow as mitmflow
from mitmproxy import hooks, http
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)
from mitmproxy.proxy.layers.websocket import (
    WebsocketEndHook,
    WebsocketMessageHook,
    WebsocketStartHook,
)
from mitmproxy.websocket import WebSocketData, WebSocketMessage

from llamakey_addon.errors import BadRequest
from llamakey_addon.journey import Answer, Ask, Headers, Usage, Visit
from llamakey_addon.keys import redact
from llamakey_addon.rim import Goodbye, Seen
from llamakey_addon.road import Road
from llamakey_addon.view import roadflow
from llamakey_addon.view.cover import Cover
from llamakey_addon.view.dispatch import cancelled, fire
from llamakey_addon.view.roadflow import RoadFlow
from llamakey_addon.view.store import trim
from llamakey_addon.view.talk import Talk

if TYPE_CHECKING:
    from mitmproxy.connection import Client
    from mitmproxy.master import Master

    from llamakey_addon.house import House

#: Of an addon's answer: the road writes its own.
_FRAMING = frozenset(
    {b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade", b"trailer"}
)
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
SWITCHED: Final = 101
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class _Record:
    """The first bytes of a body that passes."""

    __slots__ = ("_limit", "_parts", "kept", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self.kept = self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        if room := self._limit - self.kept:
            self._parts.append(data[:room])
            self.kept += min(room, len(data))

    def content(self) -> bytes:
        return b"".join(self._parts)

    def remark(self, whose: str) -> str:
        return (
            f"LlamaKey: of the {whose}'s {self.total} bytes the first {self.kept} are kept "
            "(view.body_bytes)."
        )


class Showing:
    """A `road.Look` at one exchange."""

    def __init__(
        self,
        master: Master,
        house: House,
        road: Road,
        ask: Ask,
        client: Client,
        flow: RoadFlow | None = None,
    ) -> None:
        """`flow` is given for a replay: it is shown again as it runs."""
        self._master = master
        self._house = house
        self._road = road
        self._ask = ask
        self._cover = Cover(ask, house.settings)
        limit = house.settings.view.body_bytes
        self._limit = limit
        self._up = _Record(limit)
        self._down = _Record(limit)
        self._flow = flow or roadflow.new(ask, client, self._cover.target, self._cover.headers)
        self._flow.note(request=ask.id)
        self._flow.on_kill = self._killed
        self._replayed = flow is not None
        self.shown = asyncio.Event()
        """Set when the last hook has been called."""
        self._streams = False
        self._asked = False
        self._told = False
        self._was_held = False
        self._spoken: http.Response | None = None
        self._talk: Talk | None = None
        self._over = False
        self._steps: deque[Callable[[], Awaitable[None]]] = deque()
        self._running = False

    # ── what the road tells ───────────────────────────────────────────────────────────────────

    def asked(self, visit: Visit, content: bytes | None) -> None:
        self._later(lambda: self._show_request(visit, content))

    def uploaded(self, data: bytes) -> None:
        if self._streams:
            self._up.add(data)

    def answered(self, status: int, reason: bytes, headers: Headers) -> None:
        # The subprotocol that a client is told may be the one in which it sent its key; an address
        # may hold a ticket.
        headers = tuple((name, redact(value)) for name, value in headers)
        answer = roadflow.response(status, reason, headers, None, time.time())
        if status == SWITCHED:
            data = WebSocketData()
            self._talk = Talk(data, self._limit, self._cover.content)
            answer.data.content = b""
            self._later(lambda: self._show_switch(answer, data))
        else:
            self._later(lambda: self._show_head(answer))

    def piece(self, data: bytes) -> None:
        self._down.add(data)

    def message(self, *, up: bool, opcode: int, piece: bytes, ends: bool) -> None:
        if self._talk is None:
            return
        message = self._talk.take(up=up, opcode=opcode, piece=piece, ends=ends)
        if message is not None:
            self._later(lambda: self._show_message(message))

    def ended(self, usage: Usage, goodbye: Goodbye | None = None) -> None:
        self._end()
        at_s = time.time()
        if self._talk is not None:
            talk = self._talk
            self._later(lambda: self._show_goodbye(talk, goodbye, at_s))
        else:
            self._later(lambda: self._show_end(usage, at_s))

    def refused(self, ask: Ask, answer: Answer) -> None:
        self._end()
        at_s = time.time()
        self._later(lambda: self._show_refusal(answer, at_s))

    async def finish(self) -> None:
        """Wait until all is shown, once the road has closed."""
        if not self._over:  # it broke, and said nothing
            self._end()
            self._later(self._nothing)
        await self.shown.wait()

    # ── the flow's own task ───────────────────────────────────────────────────────────────────

    def _later(self, step: Callable[[], Awaitable[None]]) -> None:
        self._steps.append(step)
        if not self._running:
            self._running = True
            try:
                # Not at once: hooks would run inside the road's own step.
                asyncio.get_running_loop().call_soon(lambda: self._house.spawn(self._run()))
            except RuntimeError:
                pass  # the loop has ended, and nobody looks any more

    async def _run(self) -> None:
        try:
            while self._steps:
                step = self._steps.popleft()
                try:
                    await step()
                except Exception as error:
                    self._house.gate.book.alarm(error)
        finally:
            self._running = False
            if self._over:
                self._flow.live = False
                self._flow.on_kill = None
                self.shown.set()

    async def _nothing(self) -> None:
        pass

    def _end(self) -> None:
        """The exchange is over: whoever still holds the request holds nothing."""
        self._over = True
        self._flow.let_go()

    def _killed(self) -> None:
        """Somebody killed the flow: `Seen` says so, or it is too late for that and it is cut."""
        if self._told and not self._over:
            self._road.end("killed in the view")

    # ── request ───────────────────────────────────────────────────────────────────────────────

    async def _show_request(self, visit: Visit, content: bytes | None) -> None:
        """Call the hooks of the request; whatever they raise denies it."""
        try:
            seen: Seen | BaseException = await self._judge_view(visit, content)
        except BaseException as error:
            seen = error
            if cancelled(error):
                # The process ends: nobody calls `looked` any more.
                self._tell(error)
                raise
        self._tell(seen)

    def _tell(self, seen: Seen | BaseException) -> None:
        if self._over:
            return  # the client has left meanwhile
        self._told = True
        if isinstance(seen, BaseException):
            self._road.look_failed(seen)
        else:
            self._road.looked(seen)

    async def _judge_view(self, visit: Visit, content: bytes | None) -> Seen:
        flow, request = self._flow, self._flow.request
        self._asked = True
        flow.know(visit)
        self._streams = content is None
        shown = None if content is None else self._cover.content(content)
        first = (request.data.method, request.data.path, request.headers.fields)
        place = (request.data.host, request.data.port, request.data.scheme)
        await self._call(HttpRequestHeadersHook(flow))
        trim(self._master, self._house.settings.view.max_flows)
        if not flow.killed:
            if request.data.content is None:
                request.data.content = shown
            request.timestamp_end = time.time()
            await self._call(HttpRequestHook(flow))
        request = flow.request  # an addon may have put another in its place
        seen = self._read(request, first, content, shown)
        if place != (request.data.host, request.data.port, request.data.scheme):
            self._house.journal.note(
                f"{self._ask.id}: an edit of host, port or scheme is ignored: the path's prefix "
                "chooses the provider, and config.yaml its address"
            )
        self._shorten()
        return seen

    async def _call(self, hook: HttpRequestHeadersHook | HttpRequestHook) -> None:
        error = await fire(self._master, hook, self._flow)
        if error is not None:
            raise error
        if self._flow.intercepted and not self._over:
            self._was_held = True
            await self._flow.held()

    def _read(
        self,
        request: http.Request,
        first: tuple[bytes, bytes, Headers],
        content: bytes | None,
        shown: bytes | None,
    ) -> Seen:
        """What those who look have made of the request."""
        flow = self._flow
        if flow.killed:
            return Seen(self._ask, content, killed=True)
        if flow.response is not None:
            answer = _answer(flow.response)
            self._spoken = flow.response
            return Seen(self._ask, content, answer=answer)
        method, target, fields = now = (
            request.data.method,
            request.data.path,
            request.headers.fields,
        )
        body = request.data.content
        if now == first and body == shown:
            # Who was held is judged anew: the key may have been revoked meanwhile.
            return Seen(self._ask, content, edited=self._was_held)
        if content is None and body is not None:
            raise BadRequest(
                "Somebody who looks at this proxy's flows edited the body of a request that "
                "streams. Raise limits.json_body_bytes and view.body_bytes, or leave such bodies.",
                setting="view.body_bytes",
            )
        if content is not None and body is None:
            body = b""
        ask, body = self._cover.ask(method, target, fields, body)
        if content is not None and request.data.content == shown:
            body = content
        self._house.journal.note(f"{ask.id}: edited by an addon or a person who looks")
        return Seen(ask, body, edited=True)

    def _shorten(self) -> None:
        """Keep no more of a request's body than the settings say."""
        data = self._flow.request.data
        if data.content is not None and len(data.content) > self._limit:
            self._up.add(data.content)
            data.content = self._up.content()
            self._flow.request_cut = True
            self._flow.remark(self._up.remark("request"))

    # ── answer ────────────────────────────────────────────────────────────────────────────────

    async def _show_head(self, answer: http.Response) -> None:
        flow = self._flow
        flow.server_conn.timestamp_start = flow.request.timestamp_end
        flow.response = answer
        await self._show(HttpResponseHeadersHook(flow))

    async def _show_switch(self, answer: http.Response, data: WebSocketData) -> None:
        """The handshake is a whole flow; what comes then are its messages."""
        await self._show_head(answer)
        answer.timestamp_end = answer.timestamp_start
        self._flow.websocket = data
        await self._show(HttpResponseHook(self._flow))
        await self._show(WebsocketStartHook(self._flow))

    async def _show_message(self, message: WebSocketMessage) -> None:
        assert self._flow.websocket is not None
        self._flow.websocket.messages.append(message)
        await self._show(WebsocketMessageHook(self._flow))

    async def _show_goodbye(self, talk: Talk, goodbye: Goodbye | None, at_s: float) -> None:
        for remark in talk.end(goodbye, at_s):
            self._flow.remark(remark)
        await self._show(WebsocketEndHook(self._flow))

    async def _show_end(self, usage: Usage, at_s: float) -> None:
        flow = self._flow
        self._keep_upload()
        if flow.response is not None:
            self._keep_answer(at_s)
        if usage.end == "complete":
            await self._show(HttpResponseHook(flow))
        else:
            if not flow.killed:
                flow.error = mitmflow.Error(f"{usage.end}", at_s)
            await self._show(HttpErrorHook(flow))

    async def _show_refusal(self, answer: Answer, at_s: float) -> None:
        """An answer of our own: a denial, or what an addon said in the provider's place."""
        flow = self._flow
        final = flow.response = self._spoken or roadflow.local_response(answer, at_s)
        if not self._asked and not self._replayed:
            # Refused by its head alone; shown all the same, and held by nobody.
            if self._ask.body_length == 0:
                flow.request.data.content = b""
            flow.request.timestamp_end = at_s
            await self._show(HttpRequestHeadersHook(flow))
            trim(self._master, self._house.settings.view.max_flows)
            await self._show(HttpRequestHook(flow))
        self._keep_upload()
        flow.response = final
        await self._show(HttpResponseHeadersHook(flow))
        await self._show(HttpResponseHook(flow))

    async def _show(self, hook: hooks.Hook) -> None:
        """Call a hook that changes nothing any more."""
        flow = self._flow
        error = await fire(self._master, hook, flow)
        if error is not None:
            self._house.gate.book.alarm(error)
        if flow.intercepted:
            flow.let_go()
            await fire(self._master, hooks.UpdateHook([flow]), flow)

    def _keep_upload(self) -> None:
        if self._streams:
            data = self._flow.request.data
            data.content = self._cover.content(self._up.content())
            if self._up.total > self._up.kept:
                self._flow.request_cut = True
                self._flow.remark(self._up.remark("request"))

    def _keep_answer(self, at_s: float) -> None:
        answer = self._flow.response
        assert answer is not None
        answer.data.content = redact(self._down.content())  # an address in it may hold a ticket
        answer.timestamp_end = at_s
        if self._down.total > self._down.kept:
            self._flow.remark(self._down.remark("answer"))


def _answer(answer: http.Response) -> Answer:
    """An addon's answer in the provider's place."""
    fields = tuple(pair for pair in answer.headers.fields if pair[0].lower() not in _FRAMING)
    if answer.status_code < 200:
        raise ValueError("an addon answered with an interim status; 200 or above is wanted")
    if not all(_TOKEN.fullmatch(name) and not _CONTROL.search(value) for name, value in fields):
        raise ValueError("an addon's answer has a header that is no valid HTTP")
    reason = "".join(letter for letter in answer.reason if " " <= letter <= "~")
    return Answer(answer.status_code, reason, fields, answer.raw_content or b"")
