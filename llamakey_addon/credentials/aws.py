"""AWS's signatures (version 4), through botocore: by the credentials that AWS's own tools would
find (variables, profiles, SSO, web identity, roles of containers and instances).

botocore renews what ends by itself and ahead of time, in the thread that asks; so it is asked every
few minutes. A request is signed as it is written: exactly these bytes, at this moment.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from llamakey_addon.credentials import Ask, Made, Maker, MakingFailed
from llamakey_addon.journey import Headers, Outgoing, Recipe
from llamakey_addon.keys import Secret, SecretMisuse, looks_local

_LOOKED_S: Final = 300.0
"""How long what botocore said is taken for true."""


def maker(recipe: Recipe, ask: Ask) -> Maker:
    """Raises MakingFailed: botocore is not there."""
    try:
        session_module: Any = importlib.import_module("botocore.session")
        failures: Any = importlib.import_module("botocore.exceptions")
        importlib.import_module("botocore.auth")
    except ImportError:
        raise MakingFailed(
            "botocore is not installed: pip install 'llamakey[bedrock]'", passing=False
        ) from None
    session = session_module.Session(profile=recipe.inputs.get("profile"))

    def make() -> Made:
        try:
            found = session.get_credentials()
            frozen = None if found is None else found.get_frozen_credentials()
        except failures.ProfileNotFound:
            raise MakingFailed(
                "there is no AWS profile of this name: see `aws configure list-profiles`",
                passing=False,
            ) from None
        except failures.BotoCoreError as error:
            raise MakingFailed(
                f"AWS's credentials could not be had ({type(error).__name__}): try "
                "`aws sts get-caller-identity` as the proxy's user",
                passing=True,
            ) from None
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise MakingFailed(
                "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "a profile, or run where there is a role",
                passing=False,
            )
        if looks_local(frozen.secret_key) or looks_local(frozen.access_key):
            raise MakingFailed(
                "the AWS credentials are a local LlamaKey key: put the real ones there (did you "
                "load a client's environment in the server's shell?)",
                passing=False,
            )
        return Made(Signer(recipe, frozen.access_key, frozen.secret_key, frozen.token), _LOOKED_S)

    return make


class Signer:
    """Signs requests to the recipe's hosts."""

    __slots__ = ("_access", "_key", "_recipe", "_token")

    def __init__(self, recipe: Recipe, access: str, key: str, token: str | None) -> None:
        def secret(text: str) -> Secret:
            return Secret(text, hosts=recipe.hosts, source="AWS's credentials")

        self._recipe = recipe
        self._access = secret(access)
        self._key = secret(key)
        self._token = secret(token) if token else None

    def put(self, request: Outgoing) -> tuple[Headers, tuple[bytes, ...]]:
        if request.content is None:
            raise SecretMisuse("A body that is not there whole can't be signed.")
        auth: Any = importlib.import_module("botocore.auth")
        awsrequest: Any = importlib.import_module("botocore.awsrequest")
        basics: Any = importlib.import_module("botocore.credentials")
        host = request.upstream.host
        secrets = [s.reveal(host) for s in self.secrets()]
        texts = [secret.decode("ascii") for secret in secrets]
        covered = {
            name.decode("ascii"): value.decode("latin-1")
            for name, value in request.headers
            # What must be covered beside its own, and what says how the body is read.
            if name.lower() == b"content-type" or name.lower().startswith(b"x-amz")
        }
        draft = awsrequest.AWSRequest(
            method=request.method,
            url=f"{request.upstream.origin}{request.target}",
            headers={**covered, "Host": request.upstream.authority},
            data=request.content,
        )
        inputs = self._recipe.inputs
        auth.SigV4Auth(basics.Credentials(*texts), inputs["service"], inputs["region"]).add_auth(
            draft
        )
        ours = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
        headers = tuple(
            (name.encode("ascii"), str(draft.headers[name]).encode("ascii"))
            for name in ours
            if name in draft.headers
        )
        return headers, tuple(secrets)

    def secrets(self) -> tuple[Secret, ...]:
        return tuple(s for s in (self._access, self._key, self._token) if s is not None)
