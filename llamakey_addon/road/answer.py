"""A provider's answer on its way to the client: head, pieces, end."""

from __future__ import annotations

from dataclasses import replace

from llamakey_addon import frames, framing, http1
from llamakey_addon.cutting import TAIL_BYTES, Seam, Stream, seam_of
from llamakey_addon.errors import Denied, Spent, UpstreamFault
from llamakey_addon.exchange import Exchange
from llamakey_addon.filters import chain_for, of_other_bytes
from llamakey_addon.mask import KeyInAnswer, holds_any, mask_all, mask_for
from llamakey_addon.meter import meter_for
from llamakey_addon.road.floor import State
from llamakey_addon.road.second import SecondDoorRoad
from llamakey_addon.road.websocket import SPENT


class AnswerRoad(SecondDoorRoad):
    """What a road does in ANSWER."""

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
        read = (head.kind, head.coding)
        x.meter = meter_for(endpoint, head.status, headers, x.grant.asked, read=read)
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
            headers = of_other_bytes(headers)
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
            if x.seam is not None and not (x.meter is None or x.meter.is_within()):
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
        if x.cutting is not None or x.seam is None or x.meter is None or x.grant is None:
            return
        try:
            x.meter.allow(self._gate.grow(x.grant, x.meter.so_far()))
        except Spent as spent:
            x.cutting = spent
            x.seam.passed(x.last_piece)

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
            self._cut(SPENT)
            return True
        self._pass(x, piece[:end])
        self._last_word(x, x.cutting, x.seam.kind, SPENT)
        return True

    def _end_by_word(self, x: Exchange, denied: Denied, why: str) -> None:
        """End what has begun: a stream that stands between two events with the provider's own word
        for an error, where its bytes allow that; all else is cut."""
        if self._state is State.SOCKET:
            self._stop(why, frames.POLICY)
            return
        seam = x.seam
        if seam is None:
            seam = _seam(x)
        if seam is not None and x.cutting is None:
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
        x.last_piece = piece if len(piece) >= TAIL_BYTES else x.last_piece[-TAIL_BYTES:] + piece
        if x.cutting is not None and x.seam is not None:
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
        if self._exchange is not x:
            return  # it could not leave: the connection has ended, and what was on it is booked
        link, x.link = x.link, None
        assert x.answer is not None
        if link is not None:
            if x.answer.keep_alive and x.body.done and not x.answer_body.rest:
                link.give_back()
            else:
                link.drop()
        self._end(x, "complete")
        self._next(x)


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
