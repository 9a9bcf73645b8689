"""Servers of tokens: Microsoft's Entra ID, for Azure, and Vectara's.

Shapes from
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow (form with
`client_id`, `scope`, `client_secret`, `grant_type`; errors as in RFC 6749 5.2 with AADSTS numbers)
and https://docs.vectara.com/docs/learn/authentication/oauth-2 (the same without a scope).
"""

from __future__ import annotations

from urllib.parse import parse_qs

from tests.fakes import tokens
from tests.fakes.families.base import Family
from tests.fakes.wire import Reply, Request, Routes, json_reply

CLIENT = "app-of-the-owner"
TENANT = "contoso.example"
SCOPE = "https://cognitiveservices.azure.com/.default"


def _form(request: Request) -> dict[str, str]:
    if request.header("content-type") != "application/x-www-form-urlencoded":
        return {}
    found = parse_qs(request.body.decode(), strict_parsing=True)
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def error(word: str, status: int = 400) -> Reply:
    return json_reply(
        {"error": word, "error_description": f"{word}: see the documentation"}, status
    )


def _granted(request: Request, family: str) -> Reply:
    form = _form(request)
    if form.get("grant_type") != "client_credentials":
        return error("unsupported_grant_type")
    if (form.get("client_id"), form.get("client_secret")) != (CLIENT, request.key):
        return error("invalid_client", 401)
    token = {"token_type": "Bearer", "expires_in": 3599, "access_token": tokens.issue(family)}
    return json_reply(token)


def entra(request: Request) -> Reply:
    if _form(request).get("scope") != SCOPE:
        return error("invalid_scope")
    return _granted(request, "azure")


def vectara(request: Request) -> Reply:
    return _granted(request, "vectara")


def anybody(request: Request) -> str:
    """Who asks is judged by what is asked: the secret is in the form."""
    return "real" if request.body else "missing"


def refusal(_: Request) -> Reply:
    return error("invalid_client", 401)


_entra, _vectara = Routes(), Routes()
_entra("POST", f"/{TENANT}/oauth2/v2.0/token")(entra)
_vectara("POST", "/oauth2/token")(vectara)

FAMILIES = tuple(
    Family(
        id=id,
        docs=docs,
        ways=(),
        key="secret~{random}",
        refusal=refusal,
        routes=routes,
        proof=anybody,
    )
    for id, docs, routes in (
        (
            "entra",
            "https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow",
            _entra,
        ),
        (
            "vectara-auth",
            "https://docs.vectara.com/docs/learn/authentication/oauth-2",
            _vectara,
        ),
    )
)
