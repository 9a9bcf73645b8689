"""Calls that the proxy answers itself: tokens for keys and key files, the metadata server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from google.auth import crypt, jwt

from llamakey_addon import keyfile
from llamakey_addon.credentials import Placed
from llamakey_addon.keys import Secret, mint, redact
from llamakey_addon.tokens import LIVES_S, Tokens
from tests.fakes import google
from tests.roadside import Bench, make_bench

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GENERATE = "POST /vertex/v1/projects/p/locations/{}/publishers/google/models/m:generateContent"
JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
FLAVOUR = "Metadata-Flavor: Google"
TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token?scopes=x"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    account = tmp_path / "account.json"
    account.write_text(json.dumps(google.account("https://oauth2.googleapis.com/token")))
    account.chmod(0o600)
    login = {"credentials": "file:account.json"}
    vertex = {"login": login, "metadata": "laptop"}
    secret = {"client_id": "app", "client_secret": "env:OPENAI_API_KEY"}
    with make_bench(tmp_path, providers={"vertex": vertex, "vectara": {"login": secret}}) as made:
        yield made


def tokens(bench: Bench) -> Tokens:
    return Tokens(bench.gate.settings.data_folder)


def key_id(bench: Bench) -> str:
    return bench.store.find("laptop").id


def call(bench: Bench, line: str, *headers: str, body: bytes | None = None) -> Any:
    """One request without a key; status and JSON, or text, of the answer."""
    done = len(bench.rim.out)
    bench.client(bench.head(line, *headers, key=None, body=body))
    [got] = read(bytes(bench.rim.out[done:]), line)
    try:
        return got.status, json.loads(got.body)
    except ValueError:
        return got.status, got.body.decode()


def read(data: bytes, line: str) -> Any:
    from tests.roadside import read_answers

    return read_answers(data, [line.partition(" ")[0]], closed=False)


def form(bench: Bench, path: str, **fields: str) -> Any:
    return call(bench, f"POST {path}", body=urlencode(fields).encode())


def key_file(bench: Bench) -> dict[str, str]:
    return keyfile.make(tokens(bench), key_id(bench), token_uri="http://x/token", project="p")


def signed(file: dict[str, str], audience: str) -> str:
    now = int(time.time())
    name = file["client_email"]
    claims = {"iss": name, "sub": name, "aud": audience, "iat": now, "exp": now + 3600}
    return str(jwt.encode(crypt.RSASigner.from_service_account_info(file), claims).decode())


def use(bench: Bench, token: str, line: str = GENERATE.format("us-central1")) -> int:
    """Send a request with a token; its status, 200 by a provider that answers."""
    bench.client(bench.head(line, f"Authorization: Bearer {token}", key=None))
    if len(bench.rim.recipes) == 0:
        return int(bench.got(*["POST"] * 9)[-1].status)
    recipe = bench.rim.recipes.pop()
    secret = Secret("ya29.made", hosts=recipe.hosts, source="test")
    bench.road.credited(recipe, Placed(secret, recipe.place))
    bench.open()
    bench.answer(OK)
    assert bench.sent()[0].values("authorization") == ["Bearer ya29.made"]
    return 200


# --- tokens ---------------------------------------------------------------------------------------


def test_a_local_key_as_client_secret_gets_a_token(bench: Bench) -> None:
    status, said = form(
        bench,
        "/vectara/oauth2/token",
        grant_type="client_credentials",
        client_id="any",
        client_secret=bench.key,
    )
    assert (status, said["token_type"], said["expires_in"]) == (200, "Bearer", LIVES_S)
    assert bench.upstream_untouched
    assert use(bench, said["access_token"], "POST /vectara/v2/query") == 200
    # and it is Vectara's alone
    assert use(bench, said["access_token"]) == 401


def test_a_local_key_is_exchanged_as_a_workload_identity_would_be(bench: Bench) -> None:
    status, said = form(bench, "/vertex/token", grant_type=EXCHANGE, subject_token=bench.key)
    assert status == 200 and said["issued_token_type"].endswith(":access_token")
    assert use(bench, said["access_token"]) == 200


def test_a_key_file_gets_a_token_and_its_signature_serves_too(bench: Bench) -> None:
    file = key_file(bench)
    grant = signed(file, "https://oauth2.googleapis.com/token")
    status, said = form(bench, "/vertex/token", grant_type=JWT, assertion=grant)
    assert status == 200
    assert use(bench, said["access_token"]) == 200
    assert use(bench, signed(file, "https://aiplatform.googleapis.com/")) == 200
    receipt = bench.receipts[-1]
    assert (receipt.user, receipt.key_name, receipt.status) == ("alice", "laptop", 200)


def test_what_is_for_one_door_opens_no_other(bench: Bench) -> None:
    file = key_file(bench)
    self_signed = signed(file, "https://aiplatform.googleapis.com/")
    status, said = form(bench, "/vertex/token", grant_type=JWT, assertion=self_signed)
    assert (status, said["error"]) == (401, "invalid_client")
    assert use(bench, signed(file, "https://oauth2.googleapis.com/token")) == 401
    # Vectara's clients sign nothing
    bench.client(
        bench.head("POST /vectara/v2/query", f"Authorization: Bearer {self_signed}", key=None)
    )
    assert bench.got(*["POST"] * 3)[-1].status == 401
    assert bench.upstream_untouched


@pytest.mark.parametrize("revoke", [True, False])
def test_a_revoked_key_takes_all_with_it_at_once(bench: Bench, revoke: bool) -> None:
    file = key_file(bench)
    _, said = form(bench, "/vertex/token", grant_type=EXCHANGE, subject_token=bench.key)
    if revoke:
        bench.store.revoke("laptop")
    wanted = 401 if revoke else 200
    assert use(bench, said["access_token"]) == wanted
    assert use(bench, signed(file, "https://aiplatform.googleapis.com/")) == wanted
    grant = signed(file, "https://oauth2.googleapis.com/token")
    assert form(bench, "/vertex/token", grant_type=JWT, assertion=grant)[0] == wanted
    assert form(bench, "/vertex/token", grant_type=EXCHANGE, subject_token=bench.key)[0] == wanted
    assert call(bench, f"GET {TOKEN_PATH}", FLAVOUR)[0] == wanted


def test_a_token_that_has_ended_says_so(bench: Bench) -> None:
    old = tokens(bench).issue(key_id(bench), "vertex", time.time() - LIVES_S - 1)
    assert use(bench, old) == 401
    assert b"has ended" in bytes(bench.rim.out)


@pytest.mark.parametrize(
    ("path", "fields", "error"),
    [
        ("/vectara/oauth2/token", {"grant_type": "password"}, "invalid_request"),
        ("/vectara/oauth2/token", {"grant_type": JWT, "assertion": "a.b.c"}, "invalid_request"),
        ("/vertex/token", {"grant_type": "client_credentials"}, "invalid_request"),
        ("/vertex/token", {"grant_type": EXCHANGE}, "invalid_request"),
        ("/vertex/token", {"grant_type": EXCHANGE, "subject_token": "real"}, "invalid_client"),
        (
            "/vertex/token",
            {"grant_type": EXCHANGE, "subject_token": mint().text},
            "invalid_client",
        ),
        ("/vertex/token", {"grant_type": JWT, "assertion": "eyJ.eyJ.x"}, "invalid_client"),
    ],
)
def test_what_shows_no_key_gets_none_in_oauths_words(
    bench: Bench, path: str, fields: dict[str, str], error: str
) -> None:
    status, said = form(bench, path, **fields)
    assert status in (400, 401) and said["error"] == error
    assert "LlamaKey request lmk_" in said["error_description"]
    assert bench.receipts[-1].status == status


def test_bodies_that_are_no_form(bench: Bench) -> None:
    for body in (b"\xff", b"a=1&a=2", b"&".join(b"a%d=1" % n for n in range(40))):
        status, said = call(bench, "POST /vertex/token", body=body)
        assert (status, said["error"]) == (400, "invalid_request")
    bench.client(bench.head("POST /vertex/token", key=None, body=b"a" * 70_000))
    assert bench.got(*["POST"] * 4)[-1].status == 413


def test_no_token_stands_in_what_those_who_look_are_shown(bench: Bench) -> None:
    class Looker:
        def __init__(self) -> None:
            self.shown: list[bytes] = []

        def refused(self, ask: object, answer: Any) -> None:
            self.shown.append(answer.body)

    looker = Looker()
    bench.rim.look = looker  # type: ignore[assignment]
    status, said = form(bench, "/vertex/token", grant_type=EXCHANGE, subject_token=bench.key)
    assert status == 200
    [shown] = looker.shown
    assert said["access_token"].encode() not in shown and shown == redact(shown)


# --- Google's metadata server ---------------------------------------------------------------------


def test_the_metadata_server_gives_tokens_of_the_named_key(bench: Bench) -> None:
    assert call(bench, "GET /", FLAVOUR)[0] == 200
    assert b"Metadata-Flavor: Google\r\n" in bytes(bench.rim.out)
    assert call(bench, "GET /computeMetadata/v1/instance", FLAVOUR)[0] == 200
    status, said = call(bench, f"GET {TOKEN_PATH}", FLAVOUR)
    assert (status, said["expires_in"]) == (200, LIVES_S)
    assert use(bench, said["access_token"]) == 200
    assert call(bench, "GET /computeMetadata/v1/project/project-id", FLAVOUR) == (
        200,
        google.PROJECT,
    )
    account = "/computeMetadata/v1/instance/service-accounts/default"
    email = keyfile.email(key_id(bench))
    assert call(bench, f"GET {account}/email", FLAVOUR) == (200, email)
    assert call(bench, f"GET {account}/?recursive=true", FLAVOUR)[1]["email"] == email
    assert call(bench, f"GET {account.replace('default', email)}/token", FLAVOUR)[0] == 200
    assert call(bench, f"GET {account}/identity?audience=x", FLAVOUR)[0] == 404
    assert bench.receipts[-1].status == 404


@pytest.mark.parametrize(
    ("headers", "host"),
    [
        ([], "localhost:8000"),
        (["Metadata-Flavor: Microsoft"], "localhost:8000"),
        ([FLAVOUR, "X-Forwarded-For: 127.0.0.1"], "localhost:8000"),
        ([FLAVOUR, "Forwarded: for=127.0.0.1"], "localhost:8000"),
        # a page of a browser, by a name that was rebound to this machine
        ([FLAVOUR], "evil.example:8000"),
        ([FLAVOUR], "localhost.evil.example"),
    ],
)
def test_it_answers_none_but_an_sdk_on_this_machine(
    bench: Bench, headers: list[str], host: str
) -> None:
    raw = bench.head(f"GET {TOKEN_PATH}", *headers, key=None)
    bench.client(raw.replace(b"Host: localhost:8000", f"Host: {host}".encode()))
    [got] = bench.got("GET")
    assert got.status == 403 and b"access_token" not in got.body


def test_it_answers_none_but_the_proxys_own_user(bench: Bench) -> None:
    bench.rim.own_user = False
    status, said = call(bench, f"GET {TOKEN_PATH}", FLAVOUR)
    assert status == 403 and "same user" in said


def test_it_is_off_unless_the_owner_names_a_key(tmp_path: Path) -> None:
    with make_bench(tmp_path) as bench:
        status, said = call(bench, f"GET {TOKEN_PATH}", FLAVOUR)
        assert status == 403 and "providers.vertex.metadata" in said
        assert "lmk env --for vertex" in said


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with make_bench(tmp_path, providers={"vertex": {"metadata": "nobody"}}) as bench:
        status, said = call(bench, f"GET {TOKEN_PATH}", FLAVOUR)
        assert status == 503 and "'nobody'" in str(said)


# --- regions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_the_path_chooses_the_host_and_the_token_may_go_there(
    bench: Bench, location: str, host: str
) -> None:
    token = tokens(bench).issue(key_id(bench), "vertex", time.time())
    assert use(bench, token, GENERATE.format(location)) == 200
    upstream, _ = bench.rim.wishes[-1]
    assert (upstream.host, bench.sent()[0].values("host")) == (host, [host])


@pytest.mark.parametrize("location", ["evil", "us-central1.evil.example", "us-central1%2Fx", "-"])
def test_an_unknown_location_goes_nowhere(bench: Bench, location: str) -> None:
    token = tokens(bench).issue(key_id(bench), "vertex", time.time())
    assert use(bench, token, GENERATE.format(location)) == 400
    assert bench.upstream_untouched and not bench.rim.recipes


def test_a_path_without_a_location_goes_to_the_global_host(bench: Bench) -> None:
    token = tokens(bench).issue(key_id(bench), "vertex", time.time())
    for base in ("/vertex", "/vertex/aiplatform.googleapis.com"):
        line = f"POST {base}/v1beta1/publishers/google/models/m:generateContent"
        assert use(bench, token, line) == 200
        assert bench.rim.wishes[-1][0].host == "aiplatform.googleapis.com"
        assert bench.sent()[0].target == "/v1beta1/publishers/google/models/m:generateContent"
