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

Here are what a rim tells, and the request up to its sending; the answer, WebSockets and the second
door have files of their own, and all stand on `floor.py`.

Real keys exist in the bytes that `_send` writes and nowhere else; an exception anywhere is a denial
while no byte of an answer has gone out, and after that the answer is cut and the upstream closed.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from llamakey_addon import documents, frames, framing, handshake, http1
from llamakey_addon.credentials import MAKING_S
from llamakey_addon.errors import (
    BadRequest,
    BodyTooLarge,
    Denied,
    Forbidden,
    Unauthenticated,
    UpstreamFault,
)
from llamakey_addon.exchange import Exchange, new_id
from llamakey_addon.gate import ERRAND_BYTES, too_large
from llamakey_addon.here import HEALTH_PATH
from llamakey_addon.journey import (
    Answer,
    Ask,
    Body,
    Errand,
    Grant,
    Outgoing,
    Recipe,
    Seal,
    Visit,
)
from llamakey_addon.mask import forms_of_all
from llamakey_addon.rim import Link, Look, Seen
from llamakey_addon.road.answer import AnswerRoad
from llamakey_addon.road.floor import NEVER_S, State, guarded
from llamakey_addon.road.second import QUIET_S
from llamakey_addon.store.ledger import Hold

__all__ = ["Road"]

_JOIN_BYTES: Final = 4 * 1024
_WITH_BODY: Final = ("POST", "PUT", "PATCH")
_STALE_S: Final = 2.0
_COMMIT_S: Final = 10.0
"""The ledger has a deadline of its own; this one is for one that says nothing."""
_HEADS_A_TURN: Final = 8
_START_BYTES: Final = 16
_REVOKED: Final = "the key is no longer valid"


class Road(AnswerRoad):
    """The state machine of one client connection."""

    # ── what a rim tells ──────────────────────────────────────────────────────────────────────

    @guarded
    def client_data(self, data: bytes) -> None:
        if self._state is State.HEAD and not (self._inbox or self._client_full or self._walking):
            end = http1.find_head_end(data)
            if end > 0 and data[:2] != b"\r\n":
                # as nearly every request: a head, whole, and all or some of its body
                self._take_request(data[:end], data[end:])
                return
            if not self._blank:
                self._expect(self._gate.limits.head_timeout_s)
            self._inbox += data
        elif self._state is State.LINGER:
            self._lingered += len(data)
        elif self._state is State.STREAM and not self._inbox:
            self._take_body(data)
        elif self._state is State.SOCKET and not self._inbox:
            self._relay_up(data)
        elif self._state is State.PIPE and not self._inbox:
            self._pipe_up(data)
        elif self._state is State.FOREIGN:
            self._speak_foreign(data)
        else:
            if self.idle and not self._blank:
                self._expect(self._gate.limits.head_timeout_s)
            self._inbox += data

    @guarded
    def client_closed(self) -> None:
        self._leave("client left")

    @guarded
    def end(self, why: str, code: int = frames.GOING_AWAY) -> None:
        """End the connection from our side, whatever it is at; `why` is for the log.

        The client of a WebSocket is told, with this code.
        """
        self._stop(why, code)

    @guarded
    def recheck(self) -> None:
        """Keys have changed: end what is here by one that is no longer valid. Before its answer
        has begun it is denied; a connection that waits for its next request is closed."""
        x = self._exchange
        if self._state is State.LOOK:
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

    @guarded
    def client_writable(self, writable: bool) -> None:
        self._client_full = not writable
        if (x := self._exchange) is not None and x.link is not None:
            if writable:
                x.link.resume()
            else:
                x.link.pause()

    @guarded
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

    @guarded
    def credited(self, recipe: Recipe, seal: Seal) -> None:
        x = self._maker_of(recipe)
        if x is not None:
            x.seal = seal
            self._wish(x, fresh=False)

    @guarded
    def uncredited(self, recipe: Recipe, denied: Denied) -> None:
        if self._maker_of(recipe) is not None:
            self._deny(denied)

    @guarded
    def opened(self, link: Link) -> None:
        x = self._exchange
        if x is not None and x.detour is not None and link.upstream == x.detour.upstream:
            self._pipe(x, link)
        elif x is None or x.grant is None or self._state is not State.OPEN:
            link.give_back()
        elif (there := link.upstream) is not x.grant.upstream and there != x.grant.upstream:
            link.give_back()  # never a connection that another one wished for
        else:
            self._send(x, link)

    @guarded
    def unopened(self, denied: Denied) -> None:
        if self._state is State.OPEN:
            self._deny(denied)

    def link_data(self, data: bytes) -> None:
        x = self._exchange
        if x is None or x.answer is None or self._state is not State.ANSWER or self._depth:
            self._link_data(data)
            return
        # In the midst of an answer, as nearly always: what the guard does, less what changes
        # nothing then.
        self._depth = 1
        try:
            self._now_s = self._rim.now()
            self._take_answer(x, data)
            if self._exchange is x:
                timeout_s = self._gate.limits.answer_timeout_s
                self._deadline_s = self._now_s + timeout_s
                if self._deadline_s < self._alarm_s:
                    self._expect(timeout_s)
            else:
                self._turn += 1
                if self._inbox:
                    self._walk()
                self._flow()
        except BaseException as error:
            self._broke(error)
        finally:
            self._depth = 0
        try:
            self._rim.flush()
        except BaseException as error:
            self._stuck(error)

    @guarded
    def _link_data(self, data: bytes) -> None:
        x = self._exchange
        if x is None or x.link is None:
            return
        if self._state is State.SOCKET:
            self._relay_down(data)
            return
        if self._state is State.PIPE:
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

    @guarded
    def link_closed(self, why: str, *, orderly: bool) -> None:
        x = self._exchange
        if x is None or x.link is None:
            return
        if self._state is State.PIPE:
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

    @guarded
    def link_writable(self, writable: bool) -> None:
        self._link_full = not writable
        if self._state is State.STREAM:
            # while the provider does not read, it is the provider that is waited for
            limits = self._gate.limits
            self._expect(limits.body_timeout_s if writable else limits.answer_timeout_s)

    @guarded
    def looked(self, seen: Seen) -> None:
        x = self._exchange
        if x is None or self._state is not State.LOOK or x.visit is None:
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

    @guarded
    def look_failed(self, error: BaseException) -> None:
        if self._state is State.LOOK:
            raise error

    @guarded
    def tick(self) -> None:
        self._alarm_s = NEVER_S
        if self._now_s < self._deadline_s:
            self._alarm_s = self._deadline_s
            self._rim.wake_at(self._deadline_s)
        else:
            self._expire()

    @guarded
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

    @guarded
    def go_on(self) -> None:
        """Another turn, as asked for by `Rim.soon`."""

    def close_when_idle(self) -> None:
        """For a drain: end the connection between two requests."""
        if self.idle:
            self._close()
        elif self._exchange is not None:
            self._exchange.close_after = True
            if self._state is State.PIPE:
                self._now_s = self._rim.now()
                self._expect(QUIET_S)

    # ── request ───────────────────────────────────────────────────────────────────────────────

    def _walk(self) -> None:
        """Go on as far as the inbox reaches."""
        if self._walking:
            return
        self._walking = True
        heads = 0
        try:
            while self._inbox:
                if self._state is State.HEAD:
                    heads += 1
                    if heads > _HEADS_A_TURN:
                        self._rim.soon()  # others come first
                        return
                    if self._client_full or not self._take_head():
                        return
                elif self._state is State.READ or self._state is State.STREAM:
                    data = bytes(self._inbox)
                    self._inbox.clear()
                    self._take_body(data)
                elif self._state is State.SOCKET and not self._link_full:
                    data = bytes(self._inbox)
                    self._inbox.clear()
                    self._relay_up(data)
                elif self._state is State.PIPE and not self._link_full:
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
            self._state = State.READ
            if head.expects_continue:
                self._rim.to_client(b"HTTP/1.1 100 Continue\r\n\r\n")
            if rest:
                self._take_body(rest)
                return True
            self._expect(limits.body_timeout_s)
        if rest and self._exchange is x:
            self._inbox += rest  # until there is a connection
        return True

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
        if self._state is State.READ:
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
            self._state = State.LOOK
            self._deadline_s = NEVER_S
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
            self._state = State.ADMIT
            self._expect(_COMMIT_S)

    def _go(self, x: Exchange, grant: Grant) -> None:
        """Its row is committed: it may be sent."""
        if grant.recipe is None:
            x.seal = grant.seal
            self._wish(x, fresh=False)
        else:
            self._state = State.MAKE
            # its makers have deadlines of their own; this one is for a maker that fails
            self._expect(MAKING_S + 5)
            self._rim.make_credential(grant.recipe)

    def _maker_of(self, recipe: Recipe) -> Exchange | None:
        """The exchange that waits for what is made by this recipe; None where none does."""
        x = self._exchange
        if self._state is not State.MAKE or x is None or x.grant is None:
            return None
        return x if x.grant.recipe is recipe else None

    def _wish(self, x: Exchange, *, fresh: bool) -> None:
        assert x.grant is not None
        self._state = State.OPEN
        self._deadline_s = NEVER_S
        self._rim.open_upstream(x.grant.upstream, fresh=fresh)
        if self._state is State.OPEN and self._exchange is x:
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
            self._state = State.ANSWER
            x.up = len(content)
            if x.up > _JOIN_BYTES:
                link.write(head, content)
            else:
                link.write(head + content)
            return
        self._state = State.STREAM
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
            self._state = State.ANSWER
            self._expect(self._gate.limits.answer_timeout_s)
