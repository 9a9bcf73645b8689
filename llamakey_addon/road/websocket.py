"""A road that has become a WebSocket: frames, both ways, judged and metered, until one ends it."""

from __future__ import annotations

import functools
import secrets
from typing import Final

from llamakey_addon import frames, handshake, http1
from llamakey_addon.errors import Denied, Spent, UpstreamFault
from llamakey_addon.exchange import Exchange
from llamakey_addon.journey import NO_COUNTS
from llamakey_addon.mask import mask_all
from llamakey_addon.meter.sockets import SocketMeter, socket_meter_for
from llamakey_addon.relay import Relay
from llamakey_addon.rim import Goodbye, Look
from llamakey_addon.road.floor import NEVER_S, Floor, State

_GOODBYE_S: Final = 10.0
SPENT: Final = "budget used up"


class WebSocketRoad(Floor):
    """What a road does in SOCKET, and how it gets there."""

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
        self._state = State.SOCKET
        self._deadline_s = NEVER_S
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
                self._hang_up(SPENT, frames.POLICY, f"LlamaKey: {spent.message}")
                return
        self._expect_goodbye(x.relay)

    def _expect_goodbye(self, relay: Relay) -> None:
        """Where one side has said it, the other has a moment, and so has the connection."""
        if relay.closing and self._deadline_s == NEVER_S:
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


def _tell(
    meter: SocketMeter, look: Look | None, *, up: bool, opcode: int, piece: bytes, ends: bool
) -> None:
    """A piece of a WebSocket's message, to those who read along."""
    meter(up=up, opcode=opcode, piece=piece, ends=ends)
    if look is not None:
        look.message(up=up, opcode=opcode, piece=piece, ends=ends)
