"""What each part of a road stands on: its state, its one exchange at a time, ends, its clock."""

from __future__ import annotations

import enum
import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, Final

from llamakey_addon import frames, framing, http1, http2
from llamakey_addon.errors import (
    Broken,
    Denied,
    HeadTimeout,
    NoCredential,
    NoLedger,
    TooMany,
    UpstreamTimeout,
)
from llamakey_addon.exchange import Exchange, new_id
from llamakey_addon.gate import Gate
from llamakey_addon.journey import Answer, Ask, Passage, Usage
from llamakey_addon.keys import redact
from llamakey_addon.rim import Goodbye, Look, Rim

_PIPELINE_BYTES: Final = 64 * 1024
_LINGER_BYTES: Final = 1024 * 1024
_LINGER_S: Final = 2.0
_REASON_BYTES: Final = 200
NEVER_S: Final = 1e9


class State(enum.Enum):
    HEAD = enum.auto()
    SECURE = enum.auto()
    FOREIGN = enum.auto()
    PIPE = enum.auto()
    READ = enum.auto()
    LOOK = enum.auto()
    ADMIT = enum.auto()
    MAKE = enum.auto()
    OPEN = enum.auto()
    STREAM = enum.auto()
    ANSWER = enum.auto()
    SOCKET = enum.auto()
    LINGER = enum.auto()
    CLOSED = enum.auto()


_CARRYING: Final = (State.STREAM, State.SOCKET, State.PIPE)
_WAITING: Final = (State.LOOK, State.ADMIT, State.MAKE, State.OPEN, State.ANSWER)


def guarded[R: Floor, **P](
    step: Callable[Concatenate[R, P], None],
) -> Callable[Concatenate[R, P], None]:
    """Every way into the road: an exception of any kind ends the exchange, never the process."""

    @functools.wraps(step)
    def guard(self: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self._state is State.CLOSED:
            self._too_late(*args)
            return
        self._depth += 1
        self._turn += 1
        try:
            self._now_s = self._rim.now()
            step(self, *args, **kwargs)
            if self._inbox:
                self._walk()
            if self._depth == 1:
                self._flow()
        except BaseException as error:
            self._broke(error)
        finally:
            self._depth -= 1
        if not self._depth:
            self._let_go()

    return guard


class Floor:
    """The state of one client connection's road, and how it ends.

    Arguments:
        door: it came by the second door: nothing is served before it has said where to.
    """

    def __init__(self, rim: Rim, gate: Gate, peer: str, *, door: bool = False) -> None:
        self._rim = rim
        self._gate = gate
        self._peer = peer
        self._door = door
        self._passage: Passage | None = None
        self._refusal: http2.Refusal | None = None
        self._inbox = bytearray()
        self._searched = 0
        self._blank = False
        self._state = State.HEAD
        self._exchange: Exchange | None = None
        self._served = 0
        self._key_id = ""
        """Of the last request that came with a valid one."""
        self._reading = True
        self._client_full = False
        self._link_full = False
        self._lingered = 0
        self._walking = False
        self._depth = 0
        self._turn = 0
        """Counts the steps: what happens in the same one happens at once."""
        self._now_s = rim.now()
        """When the step began."""
        self._deadline_s = 0.0
        self._alarm_s = NEVER_S
        self._expect(gate.limits.head_timeout_s)

    @property
    def closed(self) -> bool:
        return self._state is State.CLOSED

    @property
    def idle(self) -> bool:
        """Between two requests, with nothing begun."""
        return self._state in (State.HEAD, State.SECURE, State.FOREIGN) and not self._inbox

    @property
    def _ends_soon(self) -> bool:
        """Whether this process will be gone: an answer tells its client not to come here again."""
        return self._gate.leaving or self._gate.draining

    # ── from one exchange to the next ─────────────────────────────────────────────────────────

    def _walk(self) -> None:
        """Go on as far as the inbox reaches."""
        raise NotImplementedError

    def _begin(self, ask: Ask, head: http1.RequestHead, look: Look | None) -> Exchange:
        x = self._exchange = Exchange(ask, head, self._now_s)
        x.look = look
        x.turn = self._turn
        self._link_full = False  # of the connection before
        self._deadline_s = NEVER_S
        return x

    def _next(self, x: Exchange) -> None:
        """After an answer: the next request, or the end."""
        self._exchange = None
        if not x.body.done:
            self._linger()
        elif x.close_after:
            # What a client sends behind its last request may still be under way. An answer that
            # ends with its connection is ended whole, so that TLS says goodbye, too.
            if self._inbox or not x.ends_with_connection:
                self._linger()
            else:
                self._close()
        else:
            self._served += 1
            self._state = State.HEAD
            limits = self._gate.limits
            begun = bool(self._inbox)
            self._expect(limits.head_timeout_s if begun else limits.keepalive_timeout_s)

    # ── ends ──────────────────────────────────────────────────────────────────────────────────

    def _hang_up(self, why: str, code: int, reason: str) -> None:
        """End a WebSocket from our side, and tell both others."""
        raise NotImplementedError

    def _settle_socket(self, x: Exchange, why: str, goodbye: Goodbye | None = None) -> None:
        """A WebSocket is over: it is complete where either side said goodbye."""
        raise NotImplementedError

    def _end(self, x: Exchange, end: str, goodbye: Goodbye | None = None) -> None:
        """Book what happened, once. A failure here cannot change what was sent."""
        grant, x.grant = x.grant, None
        usage = self._usage(x, end)
        if grant is not None:
            try:
                self._gate.settle(grant, usage)
            except BaseException as error:
                x.close_after = True
                self._gate.book.salvage(error, grant.visit.ask, grant.visit, usage, grant)
        look, x.look = x.look, None
        if look is not None:
            look.ended(usage, goodbye)

    def _usage(self, x: Exchange, end: str) -> Usage:
        """What was seen of an exchange until now."""
        meter = x.meter or x.listener
        return Usage(
            status=0 if x.answer is None else x.answer.status,
            bytes_up=x.up,
            bytes_down=x.down,
            first_byte_s=x.first_byte_s,
            total_s=self._now_s - x.started_s,
            end=end,
            sent=x.sent_s > 0,
            metered=None if meter is None else meter.end(end == "complete"),
            note="" if x.cutting is None else f"ended by {x.cutting.setting}",
        )

    def _refuse_head(self, denied: Denied) -> None:
        """A head that cannot be parsed: answer in plain words, and close."""
        ask = Ask(
            id=new_id(),
            time_s=time.time(),
            peer=self._peer,
            method="?",
            target="",
            headers=(),
            body_length=0,
        )
        head = http1.RequestHead(
            method="?",
            target="",
            headers=(),
            length=framing.UNTIL_CLOSE,
            keep_alive=False,
            http10=False,
            expects_continue=False,
            websocket=False,
        )
        self._begin(ask, head, self._rim.watch(ask))
        self._deny(denied)

    def _deny(self, denied: Denied) -> None:
        """Answer the exchange with a denial, or cut it where an answer has begun."""
        x = self._exchange
        if x is not None and self._state is State.SOCKET:
            self._gate.endings.cut_off(x.ask, denied)
            if denied.setting:
                x.cutting = denied
            if isinstance(denied, TooMany):
                code = frames.TRY_AGAIN
            else:
                code = frames.INTERNAL_ERROR if denied.status >= 500 else frames.POLICY
            self._hang_up(denied.code, code, f"LlamaKey: {denied.message}")
            return
        if x is None or x.begun:
            self._cut(denied.code)
            return
        if self._state is State.OPEN:
            self._rim.cancel_upstream()
        if x.link is not None:
            x.link.drop()
            x.link = None
        answer = self._gate.endings.refuse(
            x.ask, x.visit, denied, self._usage(x, denied.code), grant=x.grant
        )
        if self._door and self._passage is None:
            # the reason is all that most clients show of a proxy's answer to CONNECT
            word = denied.message.replace("…", "...").encode("ascii", "replace").decode("ascii")
            answer = replace(answer, reason=word[:_REASON_BYTES])
            x.detour = None
        x.grant = None
        self._write_answer(x, answer)

    def _answer_locally(self, answer: Answer, why: str) -> None:
        x = self._exchange
        assert x is not None
        self._gate.endings.answer_here(
            x.ask, x.visit, answer, why, total_s=self._now_s - x.started_s
        )
        told = (b"x-llamakey-request-id", x.ask.id.encode("ascii"))
        self._write_answer(x, replace(answer, headers=(*answer.headers, told)))

    def _write_answer(self, x: Exchange, answer: Answer) -> None:
        x.close_after = x.close_after or not x.body.done or self._ends_soon
        headers = answer.headers
        if answer.status not in (204, 304):
            headers += ((b"Content-Length", b"%d" % len(answer.body)),)
        if x.close_after:
            headers += ((b"Connection", b"close"),)
        elif x.head.http10:
            headers += ((b"Connection", b"keep-alive"),)
        head = http1.write_answer_head(answer.status, answer.reason.encode("latin-1"), headers)
        bodiless = x.ask.method == "HEAD" or answer.status in (204, 304)
        self._rim.to_client(head if bodiless else head + answer.body)
        look, x.look = x.look, None
        self._next(x)
        if look is not None:
            # An answer to a call for a token holds one.
            look.refused(x.ask, replace(answer, body=redact(answer.body)))

    def _expire(self) -> None:
        """A deadline has passed."""
        x = self._exchange
        if self._state is State.HEAD:
            if self._inbox:
                self._refuse_head(
                    HeadTimeout(
                        "The request's head did not come in time.", setting="limits.head_timeout_s"
                    )
                )
            else:
                self._close()
        elif self._state in (State.LINGER, State.SECURE, State.FOREIGN):
            self._close()
        elif self._state is State.READ or (self._state is State.STREAM and not self._link_full):
            raise HeadTimeout(
                "The rest of the request's body did not come in time.",
                setting="limits.body_timeout_s",
            )
        elif self._state is State.ADMIT:
            raise NoLedger("It is silent.")
        elif self._state is State.MAKE and x is not None and x.visit is not None:
            raise NoCredential(
                x.visit.route.provider.entry.name, detail="its maker is silent", retry_after_s=5
            )
        elif x is not None and not x.begun:
            raise UpstreamTimeout(
                "The provider did not answer in time.", setting="limits.answer_timeout_s"
            )
        else:
            self._cut("timeout")

    def _cut(self, why: str) -> None:
        """End an answer that has begun: the client sees that it is not whole."""
        self._leave(why)

    def _leave(self, why: str) -> None:
        if self._exchange is not None and self._state is State.SOCKET:
            try:
                self._settle_socket(self._exchange, why)
            finally:
                self._close()
            return
        x, self._exchange = self._exchange, None
        if x is not None:
            if self._state is State.OPEN:
                self._rim.cancel_upstream()
            link, x.link = x.link, None
            if link is not None:
                link.drop()
        try:
            if x is not None:
                if x.grant is None and x.visit is not None and x.answer is None:
                    self._gate.endings.abandoned(
                        x.ask, x.visit, why, total_s=self._now_s - x.started_s
                    )
                self._end(x, why)
        finally:
            # an answer that ends with its connection looks whole unless the connection is reset
            self._close(reset=x is not None and x.begun and x.ends_with_connection)

    def _stop(self, why: str, code: int) -> None:
        """End what is going on from our side; the client of a WebSocket is told with this code."""
        if self._state is State.SOCKET:
            self._hang_up(why, code, f"LlamaKey: {why}")
        else:
            self._leave(why)

    def _linger(self) -> None:
        """Close so that the answer arrives: a socket closed over unread bytes is reset, and the
        reset can overtake the answer. So end our side, and read on for a moment, into nothing."""
        self._inbox.clear()
        self._state = State.LINGER
        self._expect(_LINGER_S)
        self._rim.finish_client()

    def _close(self, *, reset: bool = False) -> None:
        self._state = State.CLOSED
        self._inbox.clear()
        self._rim.close_client(reset=reset)

    def _broke(self, error: BaseException) -> None:
        """An exception on the way is a denial."""
        try:
            denied = error if isinstance(error, Denied) else Broken(self._gate.book.describe(error))
            self._deny(denied)
            self._flow()
            if self._inbox and not self.closed:
                self._rim.soon()  # what comes behind is another exchange, with its own failures
        except BaseException as worse:
            x, self._exchange = self._exchange, None
            if x is None:
                self._gate.book.alarm(worse)
            else:
                if x.link is not None:
                    x.link.drop()
                try:
                    usage = self._usage(x, "failed")
                except BaseException:
                    usage = Usage(0, x.up, x.down, x.first_byte_s, 0.0, "failed")
                self._gate.book.salvage(worse, x.ask, x.visit, usage, x.grant)
            self._close()

    def _let_go(self) -> None:
        """The step is over: what was written in it may leave."""
        try:
            self._rim.flush()
        except BaseException as error:
            self._stuck(error)

    def _stuck(self, error: BaseException) -> None:
        """What was written cannot leave."""
        self._gate.book.alarm(error)
        if not self.closed:
            self._leave("failed")

    def _too_late(self, *args: object) -> None:
        """A connection that comes after the client has left goes back as it came."""
        for thing in args:
            give_back = getattr(thing, "give_back", None)
            if give_back is not None:
                give_back()

    # ── time and pressure ─────────────────────────────────────────────────────────────────────

    def _expect(self, seconds: float) -> None:
        self._deadline_s = self._now_s + seconds
        if self._deadline_s < self._alarm_s:
            self._alarm_s = self._deadline_s
            self._rim.wake_at(self._deadline_s)

    def _flow(self) -> None:
        """Read from the client only what there is room for."""
        state = self._state
        if state is State.HEAD:
            # More than a head may be long is whole ones, which come a few at a time.
            most = max(_PIPELINE_BYTES, self._gate.limits.head_bytes)
            want = not self._client_full and len(self._inbox) <= most
        elif state in _CARRYING:
            want = not self._link_full and not self._inbox
        elif state in _WAITING:
            want = len(self._inbox) <= _PIPELINE_BYTES
        elif state is State.LINGER:
            # Then unread, and still open: a client that meets a closed door while it sends (Node's
            # fetch) never looks at its answer.
            want = self._lingered <= _LINGER_BYTES
        else:
            want = True
        if want != self._reading and self._state is not State.CLOSED:
            self._reading = want
            if want:
                self._rim.resume_client()
            else:
                self._rim.pause_client()
