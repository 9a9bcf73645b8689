"""Access tokens of Google's, through google-auth: for a service account, a workload identity, or
whatever else a credentials file of Google's says.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from llamakey_addon.credentials import MAKING_S, Ask, Made, Maker, MakingFailed, client
from llamakey_addon.journey import Recipe

_LIVES_S: Final = 3600.0

#: Type of a credentials file → module and maker of its class. Not google.auth's own choice, which
#: asks Google for a project's name on the way.
_CLASSES: Final[Mapping[str, tuple[str, str]]] = {
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
    "impersonated_service_account": (
        "google.auth.impersonated_credentials",
        "from_impersonated_service_account_info",
    ),
    "external_account": ("google.auth.identity_pool", "from_info"),
    "external_account of AWS": ("google.auth.aws", "from_info"),
    "external_account of a program": ("google.auth.pluggable", "from_info"),
}


def maker(recipe: Recipe, ask: Ask) -> Maker:
    """Raises MakingFailed: the file can't be used, or google-auth is not there."""
    try:
        failures: Any = importlib.import_module("google.auth.exceptions")
        transport: Any = importlib.import_module("google.auth.transport")
    except ImportError:
        raise MakingFailed(
            "google-auth is not installed: pip install 'llamakey[vertex]'", passing=False
        ) from None
    assert recipe.secret is not None
    info = json.loads(recipe.secret.reveal(min(recipe.secret.hosts)))
    try:
        module, name = _CLASSES[_kind(info)]
        load = getattr(importlib.import_module(module).Credentials, name)
        credentials = load(info, scopes=recipe.inputs["scope"].split())
    except (failures.GoogleAuthError, ImportError, ValueError, KeyError, TypeError) as error:
        raise MakingFailed(
            f"Google's credentials file can't be used ({type(error).__name__}): get a new one",
            passing=False,
        ) from None
    # Google's clients know of no time-out for the whole; each request of theirs has one of ours.
    send = _request(transport, failures, ask, recipe.ca)

    def make() -> Made:
        try:
            credentials.refresh(send)
        except MakingFailed:
            raise
        except failures.TransportError as error:
            raise _failed(error, passing=True) from None
        except failures.GoogleAuthError as error:
            raise _failed(error, passing=bool(getattr(error, "retryable", False))) from None
        token, ends = credentials.token, credentials.expiry  # naive, and UTC
        lives_s = _LIVES_S if ends is None else (ends.replace(tzinfo=UTC) - _now()).total_seconds()
        if not token or not math.isfinite(lives_s) or lives_s <= 0:
            raise MakingFailed("Google gave no token that is good now", passing=True)
        return client.placed(recipe, token, lives_s)

    return make


def _kind(info: dict[str, Any]) -> str:
    source = info.get("credential_source")
    if isinstance(source, dict) and "environment_id" in source:
        return "external_account of AWS"
    if isinstance(source, dict) and "executable" in source:
        return "external_account of a program"
    return str(info.get("type"))


def _now() -> datetime:
    return datetime.now(UTC)


def _failed(error: Exception, *, passing: bool) -> MakingFailed:
    """By the server's word alone, for its texts and google-auth's may hold anything."""
    word = ""
    for part in error.args:
        if isinstance(part, dict) and isinstance(part.get("error"), str):
            word = part["error"]
    word = word if word.replace("_", "").isalnum() and len(word) < 60 else ""
    said = f"Google refused to give a token ({word or type(error).__name__})"
    return MakingFailed(
        f"{said}: check that the service account exists, has its key and may use Vertex AI, and "
        "that the clock of this machine is right",
        passing=passing,
    )


def _request(transport: Any, failures: Any, ask: Ask, ca: str) -> Any:
    """What google-auth calls to send a request, by way of ours."""

    class Response(transport.Response):  # type: ignore[misc]
        def __init__(self, status: int, headers: Any, data: bytes) -> None:
            self._status, self._headers, self._data = status, headers, data

        @property
        def status(self) -> int:
            return self._status

        @property
        def headers(self) -> Any:
            return self._headers

        @property
        def data(self) -> bytes:
            return self._data

    class Request(transport.Request):  # type: ignore[misc]
        def __call__(
            self,
            url: str,
            method: str = "GET",
            body: Any = None,
            headers: Any = None,
            timeout: float = MAKING_S,
            **_: Any,
        ) -> Any:
            raw = body.encode() if isinstance(body, str) else body
            reply = ask(method, url, dict(headers or {}), raw, ca=ca)
            return Response(reply.status, reply.headers, reply.body)

    return Request()
