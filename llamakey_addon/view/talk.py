"""A WebSocket as a flow shows it: its messages, as far as they are kept, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from mitmproxy.websocket import WebSocketData, WebSocketMessage

from llamakey_addon.rim import Goodbye


class Talk:
    """Puts the pieces of a WebSocket together to messages.

    Arguments:
        data: the flow's, to which messages are added.
        room: bytes that all messages together may keep; what comes later is counted alone.
        cover: what may be shown of a client's message.
    """

    def __init__(self, data: WebSocketData, room: int, cover: Callable[[bytes], bytes]) -> None:
        self._data = data
        self._limit = self._room = room
        self._cover = cover
        self._parts: dict[bool, list[bytes]] = {True: [], False: []}
        self._taken = {True: 0, False: 0}
        self.total = 0
        """Bytes of messages that passed."""

    def take(self, *, up: bool, opcode: int, piece: bytes, ends: bool) -> WebSocketMessage | None:
        """The message that ends with this piece; None where none does, or nothing of it is kept."""
        self.total += len(piece)
        room = self._room - self._taken[up]
        if piece and room > 0:
            self._parts[up].append(piece[:room])
            self._taken[up] += len(self._parts[up][-1])
        if not ends:
            return None
        content = b"".join(self._parts[up])
        self._parts[up] = []
        self._taken[up] = 0
        if self._room <= 0:
            return None
        self._room -= len(content)
        return WebSocketMessage(opcode, up, self._cover(content) if up else content, time.time())

    def end(self, goodbye: Goodbye | None, at_s: float) -> Iterator[str]:
        """Note how it ended; remarks for the flow's comment."""
        data = self._data
        data.timestamp_end = at_s
        data.closed_by_client = goodbye is not None and goodbye.by_client
        data.close_code = 1006 if goodbye is None else goodbye.code
        data.close_reason = "" if goodbye is None else goodbye.reason
        kept = self._limit - self._room
        if self.total > kept:
            yield (
                f"LlamaKey: of the messages' {self.total} bytes the first {kept} are kept "
                "(view.body_bytes)."
            )
