"""AWS's signatures, verified by an AWS that recomputes them from the bytes that came."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamakey_addon.config import Settings
from llamakey_addon.credentials import Made, MakingFailed, Reply, maker
from llamakey_addon.journey import Outgoing, Recipe, Upstream
from llamakey_addon.keys import SecretMisuse
from tests.fakes import aws
from tests.fakes.wire import Request

KEY = "aws/canary+0123456789abcdefghijklmnopqrst"
HOST = "bedrock-runtime.us-east-1.amazonaws.com"
RUNTIME = Upstream("https", HOST, 443)
VARIABLES = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION")


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def nobody(*_: object, **__: object) -> Reply:
    raise AssertionError("botocore asks by itself")


def recipe(folder: Path, monkeypatch: pytest.MonkeyPatch, **environ: str) -> Recipe:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (folder / "config.yaml").write_text("{}")
    environ = {"HOME": "/home/me", "AWS_REGION": "us-east-1", **environ}
    bedrock = Settings.load(folder / "config.yaml", environ).providers["bedrock"]
    assert bedrock.recipe is not None, bedrock.missing
    return bedrock.recipe


def make(given: Recipe) -> Made:
    return maker(given, nobody)()


def sent(made: Made, target: str, body: bytes = b"{}", method: str = "POST") -> Request:
    """A request as the fake AWS sees it."""
    fields = ((b"Host", HOST.encode()), (b"Content-Type", b"application/json"), (b"X-A", b"b"))
    more, _ = made.seal.put(Outgoing(RUNTIME, method, target, fields, body))
    return Request(
        family="bedrock",
        connection=1,
        method=method,
        target=target,
        version="1.1",
        headers=(*fields, *more),
        head=b"",
        body=body,
        key=KEY,
    )


def keys(**more: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": aws.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": KEY, **more}


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/model/anthropic.claude-v1%3A0/converse", b'{"a": 1}'),
        ("POST", "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ap%2Fx.y/invoke", b"\x00\xff" * 999),
        ("GET", "/foundation-models?byProvider=a%20b&maxResults=3", b""),
    ],
)
def test_the_exact_bytes_are_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, target: str, body: bytes
) -> None:
    made = make(recipe(tmp_path, monkeypatch, **keys()))
    request = sent(made, target, body, method)
    assert aws.credential_of(request) == "real"
    request.body += b"x"
    assert aws.credential_of(request) == "foreign"


def test_a_profile_with_a_session_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id={aws.ACCESS_KEY}\naws_secret_access_key={KEY}\n"
        "aws_session_token=session-canary\n"
    )
    given = recipe(tmp_path, monkeypatch, AWS_PROFILE="team")
    assert given.source == "the profile team"
    made = make(given)
    request = sent(made, "/model/m/converse")
    assert request.values("x-amz-security-token") == ["session-canary"]
    assert aws.credential_of(request) == "real"
    _, secrets = made.seal.put(Outgoing(RUNTIME, "GET", "/", (), b""))
    # everything that an answer could echo
    assert set(secrets) == {aws.ACCESS_KEY.encode(), KEY.encode(), b"session-canary"}


def test_it_signs_for_its_own_host_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal = make(recipe(tmp_path, monkeypatch, **keys())).seal
    with pytest.raises(SecretMisuse):
        seal.put(Outgoing(Upstream("https", "s3.amazonaws.com", 443), "GET", "/", (), b""))
    with pytest.raises(SecretMisuse, match="not there whole"):
        seal.put(Outgoing(RUNTIME, "POST", "/", (), None))
    assert KEY not in repr(seal)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"AWS_PROFILE": "nobody"}, "no AWS profile of this name"),
        ({"AWS_PROFILE": "clients"}, "local LlamaKey key"),
        ({"AWS_PROFILE": "empty"}, "there are no AWS credentials"),
    ],
)
def test_what_cannot_be_had_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], says: str
) -> None:
    (tmp_path / "config").write_text("[profile empty]\nregion = us-east-1\n")
    (tmp_path / "credentials").write_text(
        "[clients]\naws_access_key_id=LMKabcdefghij\naws_secret_access_key=sk-lmk-abcdefghij-x\n"
    )
    with pytest.raises(MakingFailed, match=says) as failed:
        make(recipe(tmp_path, monkeypatch, **environ))
    assert not failed.value.passing


def test_the_region_may_stand_in_login(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("providers: {bedrock: {login: {region: eu-west-1}}}")
    bedrock = Settings.load(tmp_path / "config.yaml", {"HOME": "/home/me"}).providers["bedrock"]
    assert bedrock.upstream is not None and bedrock.recipe is not None
    assert bedrock.upstream.host == "bedrock-runtime.eu-west-1.amazonaws.com"
    assert bedrock.recipe.source == "the usual places"
    missing = Settings.load(None, {"HOME": "/home/me"}).providers["bedrock"].missing
    assert "set AWS_REGION" in missing
