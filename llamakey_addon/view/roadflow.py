"""A flow that this process made of a request that it judged."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import connection, flow, http
from mitmproxy.net.http import url

if TYPE_CHECKING:
    from llamakey_addon.journey import Answer, Ask, Headers, Visit

#: Keys of `flow.metadata`. Values are strings, as `-w` needs them.
META: Final = "llamakey_"


class RoadFlow(http.HTTPFlow):
    """An HTTPFlow that knows whose it is.

    As whom a flow may be replayed stands in the object and in nothing that is saved, loaded or
    edited; so there is nothing to forge, and a flow from a file is nobody's.
    """

    key_id: str = ""
    """Id of the local key that sent it, once that has verified."""
    on_kill: Callable[[], None] | None = None
    """Called when somebody kills it, while it runs."""
    request_cut: bool = False
    """The request's body was larger than what is kept of it."""

    def let_go(self) -> None:
        """End a hold, if there is one."""
        self.resume()  # type: ignore[no-untyped-call]

    async def held(self) -> None:
        """Wait while somebody holds it."""
        await self.wait_for_resume()  # type: ignore[no-untyped-call]

    def kill(self) -> None:
        super().kill()  # type: ignore[no-untyped-call]
        # mitmproxy leaves whoever waits for a resume waiting.
        if self._resume_event is not None:
            self._resume_event.set()
        if self.on_kill is not None:
            self.on_kill()

    def copy(self) -> RoadFlow:
        """A duplicate, with an id of its own; it runs as the same key when it is replayed."""
        state = self.get_state()
        state["id"] = str(uuid.uuid4())
        twin = RoadFlow(
            connection.Client(peername=("", 0), sockname=("", 0)), connection.Server(address=None)
        )
        twin.set_state(state)
        twin.key_id = self.key_id
        twin.request_cut = self.request_cut
        return twin

    @property
    def killed(self) -> bool:
        return self.error is not None and self.error.msg == flow.Error.KILLED_MESSAGE

    def note(self, **facts: str) -> None:
        """Facts for `flow.metadata`."""
        self.metadata.update({META + name: value for name, value in facts.items() if value})

    def remark(self, text: str) -> None:
        """A line for `flow.comment`, once."""
        if text not in self.comment:
            self.comment = f"{self.comment}\n{text}" if self.comment else text

    def know(self, visit: Visit) -> None:
        """Whose request it is, and where it goes."""
        provider, user = visit.route.provider, visit.user
        self.key_id = user.key_id
        self.note(user=user.name, key=user.key_id, provider=provider.id)
        if (upstream := provider.upstream) is not None:
            self.note(upstream=upstream.origin + visit.route.target)
            if self.server_conn.address != (upstream.host, upstream.port):
                self.server_conn = connection.Server(
                    address=(upstream.host, upstream.port),
                    tls=upstream.tls,
                    sni=upstream.host if upstream.tls else None,
                )


# Saved and loaded as what it is to everybody else.
RoadFlow.type = http.HTTPFlow.type


def new(ask: Ask, client: connection.Client, target: bytes, headers: Headers) -> RoadFlow:
    """The flow of a request, without its body."""
    made = RoadFlow(client, connection.Server(address=None), live=True)
    host, port = _front_door(ask, client)
    made.request = http.Request(
        host=host,
        port=port,
        method=ask.method.encode("ascii"),
        scheme=b"https" if client.tls else b"http",
        authority=b"",
        path=target,
        http_version=b"HTTP/1.1",
        headers=http.Headers(headers),
        content=None,
        trailers=None,
        timestamp_start=ask.time_s,
        timestamp_end=None,
    )
    made.note(request=ask.id, peer=ask.peer)
    return made


def response(
    status: int, reason: bytes, headers: Headers, content: bytes | None, at_s: float
) -> http.Response:
    """An answer; `at_s` is when it began, UTC seconds."""
    return http.Response(
        http_version=b"HTTP/1.1",
        status_code=status,
        reason=reason,
        headers=http.Headers(headers),
        content=content,
        trailers=None,
        timestamp_start=at_s,
        timestamp_end=None if content is None else at_s,
    )


def local_response(answer: Answer, at_s: float) -> http.Response:
    """An answer of the proxy's own, with the length that the road adds."""
    headers = answer.headers
    if answer.status not in (204, 304):
        headers += ((b"Content-Length", b"%d" % len(answer.body)),)
    return response(answer.status, answer.reason.encode("latin-1"), headers, answer.body, at_s)


def _front_door(ask: Ask, client: connection.Client) -> tuple[str, int]:
    """Host and port by which the client reached us."""
    for name, value in ask.headers:
        if name.lower() == b"host":
            try:
                host, port = url.parse_authority(value, check=True)
            except ValueError:
                break
            return host, port or (443 if client.tls else 80)
    address: Any = client.sockname
    return str(address[0]), int(address[1])
