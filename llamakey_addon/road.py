"""The road between one client connection and the providers. No I/O: bytes and closings in, bytes,
connection wishes and closings out, through the `Rim` around it.

Theory of operation. A client connection carries one exchange at a time; what a client sends ahead
(pipelining) waits in the inbox, so answers cannot cross. An exchange walks

    HEAD ─ arrive ─► READ ──► LOOK ─ depart ─► ADMIT ──► MAKE ──► OPEN ──► STREAM ──► ANSWER ─► HEAD
                     body     hooks of those   row in    credential upstream rest of  until the
                     to judge who look         ledger    wanted     wanted   upload   answer ends
                                                                                └──► SOCKET
                                                                             until either side ends

READ is skipped for bodies that policy does not read, LOOK where nobody looks, MAKE where the real
credential is a key, STREAM where the body was read. ADMIT lasts until the row is committed, with
those of others who ask in the same turn of the loop; before that nothing is wished for. The answer
may begin while the upload runs and may end before it. SOCKET is for a request that asked for a
WebSocket where the endpoint is one, once the provider has agreed: from then on the connection
carries frames, both ways, until it ends.

By the second door a connection begins with a CONNECT. To a provider's host it leads to SECURE,
while the rim shakes hands, and from there to HEAD, with a passage that chooses the provider; to a
host that the owner lets through it leads to OPEN, and then to PIPE, in which bytes pass as they
are. A client that speaks HTTP/2 alone is told so in its own words: FOREIGN.

Real keys exist in the bytes that `_send` writes and nowhere else; an exception anywhere is a denial
while no byte of an answer has gone out, and after that the answer is cut and the upstream closed.
"""

from __future__ import annotations

import enum
import functools
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, Final

from llamakey_addon import documents, filters, frames, framing, handshake, http1, http2
from llamakey_addon.credentials import MAKING_S
from llamakey_addon.cutting import Seam, Stream, seam_of
from llamakey_addon.errors import (
    BadRequest,
    BodyTooLarge,
    Broken,
    Denied,
    Forbidden,
    HeadTimeout,
    MethodRefused,
    NoCredential,
    NoLedger,
    NotCarried,
    Spent,
    TooMany,
    Unauthenticated,
    UpstreamFault,
    UpstreamTimeout,
)
from llamakey_addon.exchange import Exchange, new_id
from llamakey_addon.filters import chain_for
from llamakey_addon.gate import ERRAND_BYTES, Gate, too_large
from llamakey_addon.here import HEALTH_PATH
from llamakey_addon.journey import (
    NO_COUNTS,
    Answer,
    Ask,
    Body,
    Detour,
    Errand,
    Grant,
    Outgoing,
    Passage,
    Recipe,
    Seal,
    Usage,
    Visit,
)
from llamakey_addon.keys import redact
from llamakey_addon.mask import KeyInAnswer, forms_of_all, holds_any, mask_all, mask_for
from llamakey_addon.meter import meter_for
from llamakey_addon.meter.sockets import SocketMeter, socket_meter_for
from llamakey_addon.relay import Relay
from llamakey_addon.rim import Goodbye, Link, Look, Rim, Seen
from llamakey_addon.store.ledger import Hold

_PIPELINE_BYTES: Final = 64 * 1024
_LINGER_BYTES: Final = 1024 * 1024
_LINGER_S: Final = 2.0
_JOIN_BYTES: Final = 4 * 1024
_WITH_BODY: Final = ("POST", "PUT", "PATCH")
_STALE_S: Final = 2.0
_COMMIT_S: Final = 10.0
"""The ledger has a deadline of its own; this one is for one that says nothing."""
_HEADS_A_TURN: Final = 8
_START_BYTES: Final = 16
_GOODBYE_S: Final = 10.0
_QUIET_S: Final = 1.0
_SPENT: Final = "budget used up"
_REVOKED: Final = "the key is no longer valid"
_CONNECTED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REASON_BYTES: Final = 200
_NEVER_S: Final = 1e9


class _State(enum.Enum):
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


_CARRYING: Final = (_State.STREAM, _State.SOCKET, _State.PIPE)
_WAITING: Final = (_State.LOOK, _State.ADMIT, _State.MAKE, _State.OPEN, _State.ANSWER)


def _guarded[**P](
    step: Callable[Concatenate[Road, P], None],
) -> Callable[Concatenate[Road, P], None]:
    """Every way into the road: an exception of any kind ends the exchange, never the process."""

    @functools.wraps(step)
    def guard(self: Road, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self._state is _State.CLOSED:
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


class Road:
    """The state machine of one client connection.

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
        self._state = _State.HEAD
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
        self._alarm_s = _NEVER_S
        self._expect(gate.limits.head_timeout_s)

    # ── what a rim tells ──────────────────────────────────────────────────────────────────────

    @property
    def closed(self) -> bool:
        return self._state is _State.CLOSED

    @property
    def idle(self) -> bool:
        """Between two requests, with nothing begun."""
        return self._state in (_State.HEAD, _State.SECURE, _State.FOREIGN) and not self._inbox

    @_guarded
    def client_data(self, data: bytes) -> None:
        if self._state is _State.HEAD and not (self._inbox or self._client_full or self._walking):
            end = http1.find_head_end(data)
            if end > 0 and data[:2] != b"\r\n":
                # as nearly every request: a head, whole, and all or some of its body
                self._take_request(data[:end], data[end:])
                return
            if not self._blank:
                self._expect(self._gate.limits.head_timeout_s)
            self._inbox += data
        elif self._state is _State.LINGER:
            self._lingered += len(data)
        elif self._state is _State.STREAM and not self._inbox:
            self._take_body(data)
        elif self._state is _State.SOCKET and not self._inbox:
            self._relay_up(data)
        elif self._state is _State.PIPE and not self._inbox:
            self._pipe_up(data)
        elif self._state is _State.FOREIGN:
            self._speak_foreign(data)
        else:
            if self.idle and not self._blank:
                self._expect(self._gate.limits.head_timeout_s)
            self._inbox += data

    @_guarded
    def client_closed(self) -> None:
        self._leave("client left")

    @_guarded
    def end(self, why: str, code: int = frames.GOING_AWAY) -> None:
        """End the connection from our side, whatever it is at; `why` is for the log.

        The client of a WebSocket is told, with this code.
        """
        self._stop(why, code)

    @_guarded
    def recheck(self) -> None:
        """Keys have changed: end what is here by one that is no longer valid. Before its answer
        has begun it is denied; a connection that waits for its next request is closed."""
        x = self._exchange
        if self._state is _State.LOOK:
            return  # `depart` asks again
        if x is None or x.visit is None:
            waits = self.idle or (x is not None and x.detour is not None)
            if waits and self._key_id and not self._gate.is_valid(self._key_id):
                self._leave(_REVOKED)
            return
        try:
            self._gate.still(x.visit)
        except Unauthenticated as denied:
            if not x.begun:
                raise
            self._end_by_word(x, denied, _REVOKED)
        except Denied:
            pass  # nothing is known of it at the moment

    @_guarded
    def client_writable(self, writable: bool) -> None:
        self._client_full = not writable
        if (x := self._exchange) is not None and x.link is not None:
            if writable:
                x.link.resume()
            else:
                x.link.pause()

    @_guarded
    def admitted(self, hold: Hold, denied: Denied | None) -> None:
        """The row of a request is committed, or it is not to be sent."""
        x = self._exchange
        if x is None or x.grant is None or x.grant.hold is not hold:
            self._gate.book.give_up(hold)
        elif denied is None:
            self._go(x, x.grant)
        else:
            x.grant = None  # there is nothing to close
            raise denied

    @_guarded
    def credited(self, recipe: Recipe, seal: Seal) -> None:
        x = self._maker_of(recipe)
        if x is not None:
            x.seal = seal
            self._wish(x, fresh=False)

    @_guarded
    def uncredited(self, recipe: Recipe, denied: Denied) -> None:
        if self._maker_of(recipe) is not None:
            self._deny(denied)

    @_guarded
    def opened(self, link: Link) -> None:
        x = self._exchange
        if x is not None and x.detour is not None and link.upstream == x.detour.upstream:
            self._pipe(x, link)
        elif (
            x is None
            or x.grant is None
            or self._state is not _State.OPEN
            or link.upstream != x.grant.upstream  # never a connection that another one wished for
        ):
            link.give_back()
        else:
            self._send(x, link)

    @_guarded
    def unopened(self, denied: Denied) -> None:
        if self._state is _State.OPEN:
            self._deny(denied)

    def link_data(self, data: bytes) -> None:
        x = self._exchange
        if x is None or x.answer is None or self._state is not _State.ANSWER or self._depth:
            self._link_data(data)
            return
        # In the midst of an answer, as nearly always: what the guard does, less what changes
        # nothing then.
        self._depth = 1
        try:
            self._now_s = self._rim.now()
            self._take_answer(x, data)
            if self._exchange is x:
                self._expect(self._gate.limits.answer_timeout_s)
            else:
                self._turn += 1
                if self._inbox:
                    self._walk()
                self._flow()
        except BaseException as error:
            self._broke(error)
        finally:
            self._depth = 0
        self._let_go()

    @_guarded
    def _link_data(self, data: bytes) -> None:
        x = self._exchange
        if x is None or x.link is None:
            return
        if self._state is _State.SOCKET:
            self._relay_down(data)
            return
        if self._state is _State.PIPE:
            self._pipe_down(x, data)
            return
        if x.answer is None:
            if x.first_byte_s is None:
                x.first_byte_s = self._now_s - x.started_s
            rest = self._take_answer_head(x, data)
            if rest is None:
                self._expect(self._gate.limits.answer_timeout_s)
                return
            data = rest
            if x.relay is not None:
                self._relay_down(data)
                return
        self._take_answer(x, data)
        if self._exchange is x:
            self._expect(self._gate.limits.answer_timeout_s)

    @_guarded
    def link_closed(self, why: str, *, orderly: bool) -> None:
        x = self._exchange
        if x is None or x.link is None:
            return
        if self._state is _State.PIPE:
            self._leave(why)
            return
        if x.answer is None:
            if (
                x.link.reused
                and x.first_byte_s is None
                and x.content is not None
                and not x.resent
                and self._now_s - x.sent_s < _STALE_S
            ):
                # The provider closed an idle connection just as we took it. After a longer wait it
                # may have been at work on the request, which must not be served twice.
                x.resent = True
                x.link = None
                self._wish(x, fresh=True)
                return
            raise UpstreamFault(
                "The provider closed the connection before it answered. Try again.", detail=why
            )
        if x.relay is not None:
            self._settle_socket(x, "upstream cut")
            self._linger()
            return
        if orderly:
            x.answer_body.end()
        if x.answer_body.done:
            self._finish(x)
        elif not x.begun:
            raise UpstreamFault(
                "The provider closed the connection within its answer. Try again.", detail=why
            )
        else:
            if x.chain is None:
                self._pass(x, x.mask.cut())
            self._cut("upstream cut")

    @_guarded
    def link_writable(self, writable: bool) -> None:
        self._link_full = not writable
        if self._state is _State.STREAM:
            # while the provider does not read, it is the provider that is waited for
            limits = self._gate.limits
            self._expect(limits.body_timeout_s if writable else limits.answer_timeout_s)

    @_guarded
    def looked(self, seen: Seen) -> None:
        x = self._exchange
        if x is None or self._state is not _State.LOOK or x.visit is None:
            return
        if seen.killed:
            self._leave("killed by an addon")
            return
        if seen.answer is not None:
            self._answer_locally(seen.answer, "answered by an addon")
            return
        visit = x.visit
        if seen.edited:
            if (seen.ask.method == "HEAD") != (x.ask.method == "HEAD"):
                raise BadRequest("An edit cannot make a HEAD of a request, or the reverse.")
            again = self._gate.arrive(replace(seen.ask, as_key=visit.user.key_id))
            if isinstance(again, Answer):
                self._answer_locally(again, "answered here")
                return
            if isinstance(again, Errand):
                raise BadRequest("An edit cannot make a call for a token of a request.")
            visit = x.visit = again
            if seen.content is not None:
                x.parts = [seen.content]
        self._depart(x, visit, seen.content)

    @_guarded
    def look_failed(self, error: BaseException) -> None:
        if self._state is _State.LOOK:
            raise error

    @_guarded
    def tick(self) -> None:
        self._alarm_s = _NEVER_S
        if self._now_s < self._deadline_s:
            self._alarm_s = self._deadline_s
            self._rim.wake_at(self._deadline_s)
        else:
            self._expire()

    @_guarded
    def replay(self, ask: Ask, content: bytes, look: Look) -> None:
        """Run a request that came by no connection: `ask.as_key` says as whom."""
        head = http1.RequestHead(
            method=ask.method,
            target=ask.target,
            headers=ask.headers,
            length=0,
            keep_alive=False,
            http10=False,
            expects_continue=False,
            websocket=False,
        )
        x = self._begin(ask, head, look)
        self._arrive(x)
        if self._exchange is x:
            x.parts = [content]
            self._read_all(x)

    @_guarded
    def go_on(self) -> None:
        """Another turn, as asked for by `Rim.soon`."""

    @property
    def _ends_soon(self) -> bool:
        """Whether this process will be gone: an answer tells its client not to come here again."""
        return self._gate.leaving or self._gate.draining

    def close_when_idle(self) -> None:
        """For a drain: end the connection between two requests."""
        if self.idle:
            self._close()
        elif self._exchange is not None:
            self._exchange.close_after = True
            if self._state is _State.PIPE:
                self._now_s = self._rim.now()
                self._expect(_QUIET_S)

    # ── the second door ───────────────────────────────────────────────────────────────────────

    @_guarded
    def secured(self, sni: str, *, http2_alone: bool = False) -> None:
        """TLS stands.

        Arguments:
            sni: the name that the client asked for; "" for none.
            http2_alone: it speaks HTTP/2 and nothing that is spoken here.
        """
        passage = self._passage
        if self._state is not _State.SECURE or passage is None:
            return
        self._passage = replace(passage, sni=sni)
        self._expect(self._gate.limits.head_timeout_s)
        if http2_alone:
            self._state = _State.FOREIGN
            self._refusal = http2.Refusal(self._refuse_foreign(passage))
        else:
            self._state = _State.HEAD

    def _connect(self, ask: Ask, head: http1.RequestHead) -> None:
        """The first head of a connection by the second door."""
        x = self._begin(ask, head, None)
        x.close_after = True
        try:
            if ask.method != "CONNECT":
                raise MethodRefused(
                    "This port takes CONNECT alone: plain http:// does not go through it. Set it "
                    "as HTTPS_PROXY, not as HTTP_PROXY or as a base URL."
                )
            if self._inbox:
                raise BadRequest("Something came behind CONNECT before it was answered.")
            way = self._gate.connect(ask)
            self._key_id = way.key_id
            if isinstance(way, Detour):
                x.detour = way
                self._state = _State.OPEN
                self._expect(self._gate.limits.connect_timeout_s + 5)
                self._rim.open_upstream(way.upstream, fresh=True)
                return
            self._peer = ask.peer
            self._rim.secure(way.host, _CONNECTED)
        except Denied as denied:
            self._deny(denied)
            return
        self._exchange = None
        self._passage = way
        self._state = _State.SECURE

    def _pipe(self, x: Exchange, link: Link) -> None:
        x.link = link
        self._link_full = False
        if self._inbox:
            raise BadRequest("Something came behind CONNECT before it was answered.")
        x.begun = True
        x.close_after = self._ends_soon
        self._state = _State.PIPE
        self._pipe_on(x)
        self._rim.to_client(_CONNECTED)

    def _pipe_up(self, data: bytes) -> None:
        x = self._exchange
        assert x is not None
        assert x.link is not None
        x.up += len(data)
        self._pipe_on(x)
        x.link.write(data)

    def _pipe_down(self, x: Exchange, data: bytes) -> None:
        x.down += len(data)
        self._pipe_on(x)
        self._rim.to_client(data)

    def _pipe_on(self, x: Exchange) -> None:
        """Nobody knows what is in there: a drain ends it when it is quiet."""
        self._expect(_QUIET_S if x.close_after else self._gate.limits.answer_timeout_s)

    def _refuse_foreign(self, passage: Passage) -> str:
        """Book what can't be carried; the word for the client."""
        ask = Ask(
            id=new_id(),
            time_s=time.time(),
            peer=self._peer,
            method="PRI",
            target=f"/{passage.prefix}/",
            headers=(),
            body_length=0,
            passage=passage,
        )
        denied = NotCarried(self._gate.foreign_word(passage))
        self._gate.endings.refuse(ask, None, denied, Usage(0, 0, 0, None, 0.0, denied.code))
        return f"LlamaKey: {denied.message} ({ask.id})"

    def _speak_foreign(self, data: bytes) -> None:
        assert self._refusal is not None
        out = self._refusal.feed(data)
        if out:
            self._rim.to_client(out)
        if self._refusal.done:
            self._close()

    # ── request ───────────────────────────────────────────────────────────────────────────────

    def _walk(self) -> None:
        """Go on as far as the inbox reaches."""
        if self._walking:
            return
        self._walking = True
        heads = 0
        try:
            while self._inbox:
                if self._state is _State.HEAD:
                    heads += 1
                    if heads > _HEADS_A_TURN:
                        self._rim.soon()  # others come first
                        return
                    if self._client_full or not self._take_head():
                        return
                elif self._state is _State.READ or self._state is _State.STREAM:
                    data = bytes(self._inbox)
                    self._inbox.clear()
                    self._take_body(data)
                elif self._state is _State.SOCKET and not self._link_full:
                    data = bytes(self._inbox)
                    self._inbox.clear()
                    self._relay_up(data)
                elif self._state is _State.PIPE and not self._link_full:
                    data = bytes(self._inbox)
                    self._inbox.clear()
                    self._pipe_up(data)
                else:
                    return
        finally:
            self._walking = False

    def _take_head(self) -> bool:
        """Parse a head if it is there; False where more bytes are needed."""
        inbox = self._inbox
        limits = self._gate.limits
        end = http1.find_head_end(inbox, self._searched)
        try:
            if inbox[:2] == b"\r\n" and not self._searched:
                # RFC 9112 2.2: an empty line before a request is ignored; one, not a stream of them
                if self._blank:
                    raise BadRequest("There are empty lines in place of a request.")
                self._blank = True
                del inbox[:2]
                return bool(inbox)
            if end < 0:
                http1.check_partial_head(inbox, self._searched, head_bytes=limits.head_bytes)
                self._searched = len(inbox)
                return False
            raw = bytes(inbox[:end])
            del inbox[:end]
        except Denied as denied:
            self._refuse_head(denied)
            return False
        return self._take_request(raw, b"")

    def _take_request(self, raw: bytes, rest: bytes) -> bool:
        """Begin an exchange by its head; False where it can't be gone on from there.

        Arguments:
            rest: what came behind it, and is not in the inbox.
        """
        self._searched = 0
        self._blank = False
        limits = self._gate.limits
        try:
            head = http1.parse_request_head(
                raw, head_bytes=limits.head_bytes, head_fields=limits.head_fields
            )
        except Denied as denied:
            self._refuse_head(denied)
            return False
        if rest and (not head.length or self._door):
            self._inbox += rest  # another request
            rest = b""
        passage, target = self._passage, head.target
        if passage is None:
            peer = self._gate.peer(self._peer, head.headers)
        else:
            peer = self._peer  # what stands in a tunnel is the client's own word
            target = f"/{passage.lead}{target}" if target[0] == "/" else target
        ask = Ask(
            new_id(),
            time.time(),
            peer,
            head.method,
            target,
            head.headers,
            None if head.length == framing.CHUNKED else head.length,
            websocket=head.websocket,
            passage=passage,
            tls=self._rim.is_tls(),
            forwarded=peer != self._peer,
        )
        if self._door and passage is None and target != HEALTH_PATH:
            self._connect(ask, head)
            return False
        x = self._begin(ask, head, self._rim.watch(ask))
        self._arrive(x)
        if self._exchange is not x:
            return True
        peeked = x.visit is not None and x.visit.body_peeked
        if (head.length > x.window and not peeked) or (head.length and not x.window):
            self._judge(x, None)
        elif x.body.done:
            self._judge(x, b"")
        else:
            self._state = _State.READ
            if head.expects_continue:
                self._rim.to_client(b"HTTP/1.1 100 Continue\r\n\r\n")
            if rest:
                self._take_body(rest)
                return True
            self._expect(limits.body_timeout_s)
        if rest and self._exchange is x:
            self._inbox += rest  # until there is a connection
        return True

    def _begin(self, ask: Ask, head: http1.RequestHead, look: Look | None) -> Exchange:
        x = self._exchange = Exchange(ask, head, self._now_s)
        x.look = look
        x.turn = self._turn
        self._deadline_s = _NEVER_S
        return x

    def _arrive(self, x: Exchange) -> None:
        """Where to, and who; leaves no exchange where it ends here."""
        limits = self._gate.limits
        try:
            visit = self._gate.arrive(x.ask)
            if not isinstance(visit, Visit):
                self._stay(x, visit)
                return
        except Denied as denied:
            self._deny(denied)
            return
        x.visit = visit
        self._key_id = visit.user.key_id
        if visit.body_signed:
            x.window = limits.signed_body_bytes
        elif visit.body_wanted:
            x.window = limits.json_body_bytes
        elif x.look is not None:
            x.window = self._gate.view_bytes

    def _stay(self, x: Exchange, answer: Answer | Errand) -> None:
        """It goes to no provider. Raises Denied."""
        if isinstance(answer, Answer):
            self._answer_locally(answer, "answered here")
            return
        if answer.metadata and not self._rim.is_own_user():
            raise Forbidden(
                "The metadata server answers none but programs of the same user on the same "
                "machine as the proxy.",
                setting=f"providers.{answer.provider.id}.metadata",
            )
        x.errand, x.window = answer, ERRAND_BYTES

    def _take_body(self, data: bytes) -> None:
        x = self._exchange
        assert x is not None
        try:
            piece = x.body.read(data)
        except framing.FramingError as error:
            if x.link is not None:
                x.link.drop()
                x.link = None
            raise BadRequest(f"The request's body is not valid HTTP/1.1: {error}.") from None
        if x.visit is not None and x.body.size > x.visit.body_bytes:
            raise too_large(x.visit)
        if x.body.done:
            if x.body.rest:
                self._inbox += x.body.rest
        elif not self._link_full:
            self._expect(self._gate.limits.body_timeout_s)
        if self._state is _State.READ:
            if x.body.done and not x.parts:
                self._judge(x, piece)
                return
            x.parts.append(piece)
            if len(x.start) < _START_BYTES:
                x.start = (x.start + piece).lstrip()[:_START_BYTES]
            if x.body.done:
                self._read_all(x)
            elif x.body.size > x.window or (x.visit is not None and self._is_file(x, x.visit)):
                self._judge(x, None)
        else:
            self._upload(x, piece)

    def _is_file(self, x: Exchange, visit: Visit) -> bool:
        """Whether the body need not be read on, as it begins as nothing does that names things."""
        return visit.body_peeked and not documents.may_be_json(x.start)

    def _read_all(self, x: Exchange) -> None:
        self._judge(x, b"".join(x.parts))

    def _judge(self, x: Exchange, content: bytes | None) -> None:
        if x.errand is not None:
            if content is None:
                raise BodyTooLarge(f"The body is larger than {x.window} bytes.")
            self._answer_locally(self._gate.perform(x.errand, content), "answered here")
            return
        assert x.visit is not None
        if content is None and x.visit.body_signed:
            raise BodyTooLarge(
                f"This body's hash is signed, so it is read whole, up to {x.window} bytes; it is "
                "larger.",
                setting="limits.signed_body_bytes",
            )
        self._gate.prove(x.visit, content)
        if x.look is None:
            self._depart(x, x.visit, content)
        else:
            self._state = _State.LOOK
            self._deadline_s = _NEVER_S
            x.look.asked(x.visit, content)

    def _depart(self, x: Exchange, visit: Visit, content: bytes | None) -> None:
        body = Body(content, b"" if content is not None else x.start)
        grant = self._gate.depart(visit, body, waited=x.turn != self._turn, admitted=self.admitted)
        x.grant = grant
        x.content = content if grant.content is None else grant.content
        x.parts = [] if content is not None else x.parts
        if grant.hold.row:
            self._go(x, grant)
        else:
            self._state = _State.ADMIT
            self._expect(_COMMIT_S)

    def _go(self, x: Exchange, grant: Grant) -> None:
        """Its row is committed: it may be sent."""
        if grant.recipe is None:
            x.seal = grant.seal
            self._wish(x, fresh=False)
        else:
            self._state = _State.MAKE
            # its makers have deadlines of their own; this one is for a maker that fails
            self._expect(MAKING_S + 5)
            self._rim.make_credential(grant.recipe)

    def _maker_of(self, recipe: Recipe) -> Exchange | None:
        """The exchange that waits for what is made by this recipe; None where none does."""
        x = self._exchange
        if self._state is not _State.MAKE or x is None or x.grant is None:
            return None
        return x if x.grant.recipe is recipe else None

    def _wish(self, x: Exchange, *, fresh: bool) -> None:
        assert x.grant is not None
        self._state = _State.OPEN
        self._deadline_s = _NEVER_S
        self._rim.open_upstream(x.grant.upstream, fresh=fresh)
        if self._state is _State.OPEN and self._exchange is x:
            # the pool has a deadline of its own; this one is for a pool that fails
            self._expect(self._gate.limits.connect_timeout_s + 5)

    def _send(self, x: Exchange, link: Link) -> None:
        """The one place where a real key becomes bytes."""
        grant = x.grant
        assert grant is not None
        x.link = link
        self._link_full = False
        headers = list(grant.headers)
        content = x.content
        if x.seal is not None:
            out = Outgoing(link.upstream, grant.method, grant.target, grant.headers, content)
            credential, keys = x.seal.put(out)
            headers += credential
            x.spelled = forms_of_all(keys)
        if grant.upgrade is not None:
            headers += handshake.upstream_fields(grant.upgrade)
        if content is None and x.head.length == framing.CHUNKED:
            headers.append((b"Transfer-Encoding", b"chunked"))
        else:
            length = x.head.length if content is None else len(content)
            if length or grant.method in _WITH_BODY:
                headers.append((b"Content-Length", b"%d" % length))
        head = http1.write_request_head(grant.method, grant.target, headers)
        x.sent_s = self._now_s
        self._expect(self._gate.limits.answer_timeout_s)
        if self._client_full:
            link.pause()
        if content is not None:
            self._state = _State.ANSWER
            x.up = len(content)
            if x.up > _JOIN_BYTES:
                link.write(head, content)
            else:
                link.write(head + content)
            return
        self._state = _State.STREAM
        link.write(head)
        if x.head.expects_continue and not x.body.size:
            self._rim.to_client(b"HTTP/1.1 100 Continue\r\n\r\n")
        early = b"".join(x.parts)
        x.parts = []
        self._expect(self._gate.limits.body_timeout_s)
        self._upload(x, early)

    def _upload(self, x: Exchange, piece: bytes) -> None:
        link = x.link
        if link is None:
            return
        if piece:
            x.up += len(piece)
            link.write(framing.chunk(piece) if x.head.length == framing.CHUNKED else piece)
            if x.look is not None:
                x.look.uploaded(piece)
        if x.body.done:
            if x.head.length == framing.CHUNKED:
                link.write(framing.last_chunk([]))
            self._state = _State.ANSWER
            self._expect(self._gate.limits.answer_timeout_s)

    # ── answer ────────────────────────────────────────────────────────────────────────────────

    def _take_answer_head(self, x: Exchange, data: bytes) -> bytes | None:
        """Pass the answer's head on once it is whole; the bytes that follow it, or None."""
        assert x.grant is not None
        most = self._gate.limits.answer_head_bytes
        if x.head_bytes:
            data = x.head_bytes + data
        while True:
            end = http1.find_head_end(data)
            if end < 0 or end > most:
                if len(data) > most:
                    raise UpstreamFault(
                        "The head of the provider's answer is too large.",
                        setting="limits.answer_head_bytes",
                    )
                x.head_bytes = data
                return None
            raw, data = data[:end], data[end:]
            head = http1.parse_answer_head(raw, request_method=x.grant.method)
            if head.status == 101:
                self._switch(x, head)
                return data
            if head.status >= 200:
                break  # any other 1xx is between the provider and us
        x.head_bytes = b""
        if head.status == 401:
            self._gate.doubt(x.grant, x.seal)
        headers = head.headers
        if head.length:
            x.mask = mask_for(head.coding, x.spelled)
        if holds_any(raw, x.spelled):
            headers = tuple((mask_all(n, x.spelled), mask_all(v, x.spelled)) for n, v in headers)
            head = replace(head, reason=mask_all(head.reason, x.spelled))
        if x.grant.addresses is not None:
            headers = x.grant.addresses.headers(headers)
        endpoint = x.grant.visit.route.endpoint
        x.meter = meter_for(endpoint, head.status, headers, x.grant.asked)
        x.chain = chain_for(x.grant.filters, head.status, headers)
        x.answer = head
        x.answer_headers = headers
        if x.grant.watched:
            x.seam = _seam(x)
        x.answer_body = framing.Body(head.length, any_chunks=True)
        if x.chain is None or not x.chain.whole or not head.length:
            self._begin_answer(x, head.length)
        return data

    def _begin_answer(self, x: Exchange, length: int) -> None:
        """Send the answer's head. `length`: of its body as the provider frames it, or as it turned
        out to be."""
        head, headers = x.answer, x.answer_headers
        assert head is not None
        assert x.grant is not None
        if x.chain is not None and x.chain.changes:
            headers = filters.of_other_bytes(headers)
            if length and not x.chain.whole:
                length = framing.CHUNKED
            elif x.grant.method != "HEAD" and head.status not in (204, 304):
                headers += ((b"Content-Length", b"%d" % length),)
        if length == framing.UNTIL_CLOSE or (length == framing.CHUNKED and x.head.http10):
            x.close_after = x.ends_with_connection = True
        elif length == framing.CHUNKED:
            x.chunked_out = True
            headers += ((b"Transfer-Encoding", b"chunked"),)
        gate = self._gate
        if gate.leaving or gate.draining or (self._inbox and x.grant.upgrade is not None):
            x.close_after = True  # frames that came too early are no request
        if x.close_after:
            headers += ((b"Connection", b"close"),)
        elif x.head.http10:
            headers += ((b"Connection", b"keep-alive"),)
        headers += self._gate.told(x.grant)
        x.begun = True
        self._rim.to_client(http1.write_answer_head(head.status, head.reason, headers))
        if x.look is not None:
            x.look.answered(head.status, head.reason, headers)

    def _take_answer(self, x: Exchange, data: bytes) -> None:
        body = x.answer_body
        if body.done:
            body.rest = data  # more than the answer: the connection is not clean
        else:
            try:
                came = body.read(data)
                piece = x.mask.feed(came)
            except framing.FramingError:
                self._spoilt(x, "upstream's framing is broken")
                return
            except KeyInAnswer as error:
                self._spoilt(x, str(error))
                return
            if x.meter is not None:
                x.meter.feed(piece)
            if x.seam is not None:
                self._look_at_budget(x)
            if x.chain is not None:
                piece = x.chain.feed(piece)
            if x.cutting is None or body.done:
                as_it_came = body.sole and piece is came
                self._pass(x, piece, data if as_it_came else None)
            elif piece and self._cut_short(x, piece):
                return
        if body.done:
            self._finish(x)

    def _look_at_budget(self, x: Exchange) -> None:
        """Has a stream used up what there is for it?"""
        meter = x.meter
        if x.cutting is not None or meter is None or meter.is_within() or x.grant is None:
            return
        try:
            meter.allow(self._gate.grow(x.grant, meter.so_far()))
        except Spent as spent:
            x.cutting = spent

    def _cut_short(self, x: Exchange, piece: bytes) -> bool:
        """End a stream with the provider's own word for an error, where its bytes allow that."""
        assert x.seam is not None
        assert x.cutting is not None
        assert x.grant is not None
        end = x.seam.last(piece)
        if end is None and not x.seam.hopeless:
            self._pass(x, piece)
            return False
        if end is None or not (x.chunked_out or x.ends_with_connection):
            self._cut(_SPENT)
            return True
        self._pass(x, piece[:end])
        self._last_word(x, x.cutting, x.seam.kind, _SPENT)
        return True

    def _end_by_word(self, x: Exchange, denied: Denied, why: str) -> None:
        """End what has begun: a stream that stands between two events with the provider's own word
        for an error, where its bytes allow that; all else is cut."""
        if self._state is _State.SOCKET:
            self._stop(why, frames.POLICY)
            return
        seam = x.seam
        if seam is None and (seam := _seam(x)) is not None:
            seam.passed(x.last_piece)
        if seam is None or seam.last(b"") is None or not (x.chunked_out or x.ends_with_connection):
            self._leave(why)
            return
        x.close_after = True
        self._last_word(x, denied, seam.kind, why)

    def _last_word(self, x: Exchange, denied: Denied, stream: Stream, why: str) -> None:
        """End a stream with an event that says why."""
        assert x.grant is not None
        link, x.link = x.link, None
        if link is not None:
            link.drop()
        self._pass(x, self._gate.endings.last_word(x.grant, denied, stream))
        if x.chunked_out:
            self._rim.to_client(framing.last_chunk([]))
        self._end(x, why)
        self._next(x)

    def _spoilt(self, x: Exchange, why: str) -> None:
        """Nothing more of the answer may pass."""
        if not x.begun:
            raise UpstreamFault("The provider's answer can't be passed on. Try again.", detail=why)
        self._cut(why)

    def _pass(self, x: Exchange, piece: bytes, chunk: bytes | None = None) -> None:
        """Pass a piece on. `chunk`: it is there as one already."""
        if not piece:
            return
        x.down += len(piece)
        x.last_piece = piece
        if x.seam is not None:
            x.seam.passed(piece)
        if x.chunked_out:
            self._rim.to_client(framing.chunk(piece) if chunk is None else chunk)
        else:
            self._rim.to_client(piece)
        if x.look is not None:
            x.look.piece(piece)

    def _finish(self, x: Exchange) -> None:
        """The answer is complete."""
        try:
            piece = x.mask.end()
        except KeyInAnswer as error:
            self._spoilt(x, str(error))
            return
        if x.meter is not None:
            x.meter.feed(piece)
        if x.chain is not None and x.answer_body.size:
            piece = (x.chain.feed(piece) if piece else b"") + x.chain.end()
        if not x.begun:
            assert x.answer is not None
            self._begin_answer(x, len(piece) if _changes(x) else x.answer.length)
        self._pass(x, piece)
        if x.chunked_out:
            trailers = [mask_all(line, x.spelled) for line in x.answer_body.trailers]
            self._rim.to_client(framing.last_chunk([] if _changes(x) else trailers))
        # The client has all of it now, and waits for nothing of what follows. It is booked in the
        # same turn, so that a next request, however soon, finds it booked.
        self._rim.flush()
        link, x.link = x.link, None
        assert x.answer is not None
        if link is not None:
            if x.answer.keep_alive and x.body.done and not x.answer_body.rest:
                link.give_back()
            else:
                link.drop()
        self._end(x, "complete")
        self._next(x)

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
            self._state = _State.HEAD
            limits = self._gate.limits
            begun = bool(self._inbox)
            self._expect(limits.head_timeout_s if begun else limits.keepalive_timeout_s)

    # ── WebSocket ─────────────────────────────────────────────────────────────────────────────

    def _switch(self, x: Exchange, head: http1.AnswerHead) -> None:
        """The provider has switched: frames from here on."""
        grant = x.grant
        assert grant is not None
        if grant.upgrade is None:
            raise UpstreamFault("The provider switched protocols without being asked to.")
        headers = tuple(
            (mask_all(name, x.spelled), mask_all(value, x.spelled))
            for name, value in handshake.accepted(grant.upgrade, head)
        )
        headers += self._gate.told(grant)
        limits = self._gate.limits
        endpoint = grant.visit.route.endpoint
        judged = self._gate.judges_messages(grant.visit)
        x.listener = socket_meter_for(endpoint, grant.asked)
        x.relay = Relay(
            spelled=x.spelled,
            message_bytes=limits.body_bytes,
            judge=functools.partial(self._judge_message, x) if judged else None,
            judged_bytes=limits.json_body_bytes,
            tell=functools.partial(_tell, x.listener, x.look),
        )
        x.answer = head
        x.begun = True
        x.close_after = True
        self._state = _State.SOCKET
        self._deadline_s = _NEVER_S
        reason = mask_all(head.reason, x.spelled)
        self._rim.to_client(http1.write_answer_head(head.status, reason, headers))
        if x.look is not None:
            x.look.answered(head.status, reason, headers)

    def _judge_message(self, x: Exchange, content: bytes) -> None:
        assert x.grant is not None
        used = NO_COUNTS if x.listener is None else x.listener.so_far()
        x.grant = self._gate.message(x.grant, content, used)

    def _relay_up(self, data: bytes) -> None:
        x = self._exchange
        assert x is not None
        assert x.relay is not None
        assert x.link is not None
        out = x.relay.up(data)
        if out:
            x.up += len(out)
            x.link.write(out)
        stop = x.relay.stop
        if isinstance(stop, Denied):
            raise stop
        if stop is not None:
            self._hang_up("the client broke the protocol", stop.code, f"LlamaKey: {stop}")
            return
        self._expect_goodbye(x.relay)

    def _relay_down(self, data: bytes) -> None:
        x = self._exchange
        assert x is not None
        assert x.relay is not None
        out = x.relay.down(data)
        if out:
            x.down += len(out)
            self._rim.to_client(out)
        if (stop := x.relay.stop) is not None:
            self._hang_up("upstream broke the protocol", frames.BAD_GATEWAY, f"provider: {stop}")
            return
        if x.grant is not None and x.grant.watched and x.listener is not None:
            try:
                self._gate.grow(x.grant, x.listener.so_far())
            except Spent as spent:
                x.cutting = spent
                self._hang_up(_SPENT, frames.POLICY, f"LlamaKey: {spent.message}")
                return
        self._expect_goodbye(x.relay)

    def _expect_goodbye(self, relay: Relay) -> None:
        """Where one side has said it, the other has a moment, and so has the connection."""
        if relay.closing and self._deadline_s == _NEVER_S:
            self._expect(_GOODBYE_S)

    def _hang_up(self, why: str, code: int, reason: str) -> None:
        """End a WebSocket from our side, and tell both others."""
        x = self._exchange
        assert x is not None
        relay, link = x.relay, x.link
        assert relay is not None
        if link is not None and relay.up_clear:
            link.write(frames.close(frames.GOING_AWAY, "", mask=secrets.token_bytes(4)))
        tells = relay.down_clear
        if tells:
            self._rim.to_client(frames.close(code, reason))
        self._settle_socket(x, why, Goodbye(by_client=False, code=code, reason=reason))
        if tells:
            self._linger()
        else:
            self._close()

    def _settle_socket(self, x: Exchange, why: str, goodbye: Goodbye | None = None) -> None:
        """A WebSocket is over: it is complete where either side said goodbye."""
        self._exchange = None
        link, x.link = x.link, None
        if link is not None:
            link.drop()
        relay = x.relay
        assert relay is not None
        if goodbye is None and (said := relay.client_close or relay.provider_close) is not None:
            by_client = relay.client_close is not None
            goodbye, why = Goodbye(by_client, said.code, said.reason), "complete"
        self._end(x, why, goodbye or Goodbye(why == "client left", frames.ABNORMAL, ""))

    # ── ends ──────────────────────────────────────────────────────────────────────────────────

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
        if x is not None and self._state is _State.SOCKET:
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
        if self._state is _State.OPEN:
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
        if self._state is _State.HEAD:
            if self._inbox:
                self._refuse_head(
                    HeadTimeout(
                        "The request's head did not come in time.", setting="limits.head_timeout_s"
                    )
                )
            else:
                self._close()
        elif self._state in (_State.LINGER, _State.SECURE, _State.FOREIGN):
            self._close()
        elif self._state is _State.READ or (self._state is _State.STREAM and not self._link_full):
            raise HeadTimeout(
                "The rest of the request's body did not come in time.",
                setting="limits.body_timeout_s",
            )
        elif self._state is _State.ADMIT:
            raise NoLedger("It is silent.")
        elif self._state is _State.MAKE and x is not None and x.visit is not None:
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
        if self._exchange is not None and self._state is _State.SOCKET:
            try:
                self._settle_socket(self._exchange, why)
            finally:
                self._close()
            return
        x, self._exchange = self._exchange, None
        if x is not None:
            if self._state is _State.OPEN:
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
        if self._state is _State.SOCKET:
            self._hang_up(why, code, f"LlamaKey: {why}")
        else:
            self._leave(why)

    def _linger(self) -> None:
        """Close so that the answer arrives: a socket closed over unread bytes is reset, and the
        reset can overtake the answer. So end our side, and read on for a moment, into nothing."""
        self._inbox.clear()
        self._state = _State.LINGER
        self._expect(_LINGER_S)
        self._rim.finish_client()

    def _close(self, *, reset: bool = False) -> None:
        self._state = _State.CLOSED
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
        if state is _State.HEAD:
            want = not self._client_full
        elif state in _CARRYING:
            want = not self._link_full and not self._inbox
        elif state in _WAITING:
            want = len(self._inbox) <= _PIPELINE_BYTES
        elif state is _State.LINGER:
            # Then unread, and still open: a client that meets a closed door while it sends (Node's
            # fetch) never looks at its answer.
            want = self._lingered <= _LINGER_BYTES
        else:
            want = True
        if want != self._reading and self._state is not _State.CLOSED:
            self._reading = want
            if want:
                self._rim.resume_client()
            else:
                self._rim.pause_client()


def _changes(x: Exchange) -> bool:
    """Whether the answer's bytes are not the provider's."""
    return x.chain is not None and x.chain.changes


def _seam(x: Exchange) -> Seam | None:
    """Where an answer can be ended by a word; None for one that is no stream, or an error."""
    head, grant = x.answer, x.grant
    if head is None or grant is None or not head.length or not 200 <= head.status < 300:
        return None
    endpoint = grant.visit.route.endpoint
    coding = b"" if _changes(x) else head.coding
    return seam_of(head.kind, coding, "" if endpoint is None else endpoint.stream)


def _tell(
    meter: SocketMeter, look: Look | None, *, up: bool, opcode: int, piece: bytes, ends: bool
) -> None:
    """A piece of a WebSocket's message, to those who read along."""
    meter(up=up, opcode=opcode, piece=piece, ends=ends)
    if look is not None:
        look.message(up=up, opcode=opcode, piece=piece, ends=ends)
