"""OAuth2's client credentials (RFC 6749 4.4): id and secret, for a token that lasts a while."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from llamakey_addon.credentials import Ask, Made, Maker, MakingFailed, Placed, Reply
from llamakey_addon.journey import Recipe
from llamakey_addon.keys import Secret

_LIVES_S = 300.0
"""Where the answer does not say."""


def maker(recipe: Recipe, ask: Ask) -> Maker:
    url = recipe.inputs["token_url"]
    host = urlsplit(url).hostname or ""

    def make() -> Made:
        secret = recipe.secret
        assert secret is not None
        form = {
            "grant_type": "client_credentials",
            "client_id": recipe.inputs["client_id"],
            "client_secret": secret.reveal(host).decode("ascii"),
        }
        if scope := recipe.inputs.get("scope"):
            form["scope"] = scope
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        reply = ask("POST", url, headers, urlencode(form).encode("ascii"), ca=recipe.ca)
        return placed(recipe, *read_token(reply, host))

    return make


def placed(recipe: Recipe, token: str, lives_s: float) -> Made:
    """A token bound to the recipe's hosts, as it is put on requests."""
    secret = Secret(token, hosts=recipe.hosts, source=recipe.source)
    return Made(Placed(secret, recipe.place), lives_s)


def read_token(reply: Reply, host: str) -> tuple[str, float]:
    """The token in an answer, and its life in seconds (RFC 6749 5.1).

    Raises MakingFailed with the server's own word for what is wrong (5.2).
    """
    said = _object(reply.body)
    if reply.status != 200:
        word = said.get("error")
        word = word if isinstance(word, str) and word.isprintable() and len(word) < 80 else ""
        told = f"{host} answered {reply.status}{f' {word}' if word else ''}"
        if reply.status in (408, 429) or reply.status >= 500:
            raise MakingFailed(f"{told} when asked for a token: try later", passing=True)
        raise MakingFailed(
            f"{told} when asked for a token: check the client's id, its secret and what it may do",
            passing=False,
        )
    token, lives = said.get("access_token"), said.get("expires_in", _LIVES_S)
    if not (isinstance(token, str) and token and all("\x21" <= c <= "\x7e" for c in token)):
        raise MakingFailed(f"{host} gave no token: check `token_url`", passing=False)
    try:
        return token, float(lives)
    except (TypeError, ValueError):
        return token, _LIVES_S


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
