"""What makes a fake provider: its credential, its errors and its routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fakes import tokens
from tests.fakes.socket import Talks
from tests.fakes.wire import Reply, Request, Routes, json_reply


@dataclass(frozen=True, slots=True)
class Way:
    """A documented way to send the key: a header (or query parameter) and the form of its value."""

    header: str = ""
    format: str = "{key}"
    query: str = ""
    token: bool = False
    """Whether it is no key but a token that a fake server of tokens has issued for this family."""

    @property
    def place(self) -> tuple[str, str]:
        return self.header, self.query


BEARER = Way("authorization", "Bearer {key}")
TOKEN = Way("authorization", "Bearer {key}", token=True)


def no_such_path(request: Request) -> Reply:
    return json_reply({"error": {"message": f"Unknown path {request.path}"}}, 404)


@dataclass(frozen=True, slots=True)
class Family:
    """One fake provider."""

    id: str
    docs: str
    """The page that documents the credential."""
    ways: tuple[Way, ...]
    """Documented ways to send the key, first the one that the documentation gives first."""
    key: str
    """Form of a real key; `{random}` is replaced."""
    refusal: Callable[[Request], Reply]
    """The provider's own answer to a wrong key."""
    routes: Routes
    unknown: Callable[[Request], Reply] = no_such_path
    proof: Callable[[Request], str] | None = None
    """Judges the credential when the body has come, where it depends on it; else `ways` do."""
    talks: Talks = field(default_factory=Talks)
    """Its WebSockets."""

    def make_key(self, random: str) -> str:
        return self.key.replace("{random}", random)

    def credential_of(self, request: Request, key: str) -> str:
        """`real`, `local`, `foreign` or `missing`; a header that comes twice is foreign."""
        seen = "missing"
        for way in self.ways:
            values = request.values(way.header) if way.header else []
            if way.query and way.query in request.query:
                values = [request.query[way.query]]
            same = [other for other in self.ways if other.place == way.place]
            for value in values:
                if "sk-lmk-" in value:
                    return "local"
                fits = any(self._is_real(other, value, key) for other in same)
                if len(values) == 1 and fits:
                    seen = "real" if seen == "missing" else seen
                else:
                    seen = "foreign"
        return seen

    def _is_real(self, way: Way, value: str, key: str) -> bool:
        if not way.token:
            return value == way.format.format(key=key)
        before = way.format.partition("{key}")[0]
        return value.startswith(before) and tokens.good(value.removeprefix(before), self.id)
