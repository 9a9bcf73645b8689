"""Key files, with google-auth as the client that signs by them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.auth import crypt, jwt
from google.oauth2 import service_account

from llamakey_addon import keyfile
from llamakey_addon.errors import Unauthenticated
from llamakey_addon.tokens import Tokens

ID = "abcdefghij"
AUDIENCE = "https://aiplatform.googleapis.com/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def file(folder: Path) -> dict[str, str]:
    return keyfile.make(
        Tokens(folder), ID, token_uri="http://localhost:8000/vertex/token", project="p1"
    )


def test_google_auth_takes_the_file_and_its_grant_is_known(
    folder: Path, file: dict[str, str]
) -> None:
    credentials = service_account.Credentials.from_service_account_info(file, scopes=["a"])
    assert credentials.project_id == "p1"
    assertion = credentials._make_authorization_grant_assertion()
    signed = keyfile.read(assertion.decode(), Tokens(folder), time.time())
    assert signed.key_id == ID and signed.is_grant


def test_a_self_signed_token_is_known(folder: Path, file: dict[str, str]) -> None:
    credentials = jwt.Credentials.from_service_account_info(file, audience=AUDIENCE)
    credentials.refresh(None)
    signed = keyfile.read(credentials.token.decode(), Tokens(folder), time.time())
    assert (signed.key_id, signed.audience, signed.is_grant) == (ID, AUDIENCE, False)


def claims(**change: Any) -> dict[str, Any]:
    now = int(time.time())
    name = keyfile.email(ID)
    return {"iss": name, "sub": name, "aud": AUDIENCE, "iat": now, "exp": now + 3600, **change}


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"iss": "other@x"}, "issuer"),
        ({"sub": "other@x"}, "issuer"),
        ({"exp": int(time.time()) + 10_000}, "longer than an hour"),
        ({"exp": "soon"}, "longer than an hour"),
        ({"iat": int(time.time()) - 5000, "exp": int(time.time()) - 1400}, "clocks"),
        ({"iat": int(time.time()) + 1000, "exp": int(time.time()) + 1400}, "clocks"),
    ],
)
def test_claims_that_do_not_hold(
    folder: Path, file: dict[str, str], change: dict[str, Any], why: str
) -> None:
    signer = crypt.RSASigner.from_service_account_info(file)
    text = jwt.encode(signer, claims(**change)).decode()
    with pytest.raises(Unauthenticated, match=why):
        keyfile.read(text, Tokens(folder), time.time())


def test_signatures_that_are_not_ours(folder: Path, file: dict[str, str]) -> None:
    tokens, now = Tokens(folder), time.time()
    good = jwt.encode(crypt.RSASigner.from_service_account_info(file), claims()).decode()
    assert keyfile.read(good, tokens, now).key_id == ID
    head, body, signature = good.split(".")

    def changed(part: str) -> str:
        return part[:-4] + ("AAAA" if part[-4:] != "AAAA" else "BBBB")

    # by another account's key, under our name for this one
    other = keyfile.make(tokens, "zzzzzzzzzz", token_uri="http://x/token", project="")
    forged = {**other, "private_key_id": file["private_key_id"]}
    kinds: dict[str, str] = {
        "another key": jwt.encode(
            crypt.RSASigner.from_service_account_info(forged), claims()
        ).decode(),
        "another's key id": jwt.encode(
            crypt.RSASigner.from_service_account_info(other), claims()
        ).decode(),
        "changed claims": f"{head}.{encoded(claims(aud='x'))}.{signature}",
        "changed signature": f"{head}.{body}.{changed(signature)}",
        "no signature": f"{head}.{body}.",
        "alg none": f"{encoded({'alg': 'none', 'kid': file['private_key_id']})}.{body}.",
        "alg HS256": f"{encoded({'alg': 'HS256', 'kid': file['private_key_id']})}.{body}.AAAA",
        "no kid": f"{encoded({'alg': 'RS256'})}.{body}.{signature}",
        "damaged": "eyJ.eyJ.eyJ",
        "no base64": "eyJ%.a.b",
        "too long": "eyJ" + "a" * 9000 + ".b.c",
    }
    for name, text in kinds.items():
        with pytest.raises(Unauthenticated) as raised:
            keyfile.read(text, tokens, now)
        assert "lmk keys new NAME --vertex-file" in raised.value.message, name


def test_the_forms_of_tokens() -> None:
    looks: Callable[[str], bool] = keyfile.looks_signed
    assert looks("eyJa.b.c")
    assert not looks("sk-lmk-abc") and not looks("eyJab") and not looks("ya29.a.b")
