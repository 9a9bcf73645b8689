"""A road by the second door: CONNECT, and then TLS with a provider's host, or a tunnel."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from llamakey_addon import http1, http2
from llamakey_addon.errors import BadRequest, Denied, MethodRefused, NotCarried
from llamakey_addon.exchange import Exchange, new_id
from llamakey_addon.journey import Ask, Detour, Passage, Usage
from llamakey_addon.rim import Link
from llamakey_addon.road.floor import State, guarded
from llamakey_addon.road.websocket import WebSocketRoad

QUIET_S: Final = 1.0
_CONNECTED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class SecondDoorRoad(WebSocketRoad):
    """What a road does in SECURE, FOREIGN and PIPE, and how it gets there."""

    @guarded
    def secured(self, sni: str, *, http2_alone: bool = False) -> None:
        """TLS stands.

        Arguments:
            sni: the name that the client asked for; "" for none.
            http2_alone: it speaks HTTP/2 and nothing that is spoken here.
        """
        passage = self._passage
        if self._state is not State.SECURE or passage is None:
            return
        self._passage = replace(passage, sni=sni)
        self._expect(self._gate.limits.head_timeout_s)
        if http2_alone:
            self._state = State.FOREIGN
            self._refusal = http2.Refusal(self._refuse_foreign(passage))
        else:
            self._state = State.HEAD

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
                self._state = State.OPEN
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
        self._state = State.SECURE

    def _pipe(self, x: Exchange, link: Link) -> None:
        x.link = link
        self._link_full = False
        if self._inbox:
            raise BadRequest("Something came behind CONNECT before it was answered.")
        x.begun = True
        x.close_after = self._ends_soon
        self._state = State.PIPE
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
        self._expect(QUIET_S if x.close_after else self._gate.limits.answer_timeout_s)

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
