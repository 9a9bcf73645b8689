"""A credentials file of Google's for a client: its SDKs exchange the local key in it for a token.

It is of the kind that Google means for workload identities (`external_account`): `token_url` is
this proxy, and what is exchanged stands in the file itself. Unlike a service account's file it
needs nothing of the proxy's secrets, so `lmk env` makes it where the client is.
"""

from __future__ import annotations

import json
import re
from typing import Final

_NAME: Final = re.compile(r"llamakey_([a-z0-9-]+)\.json")


def name(prefix: str) -> str:
    """The file's name, which stands for it in the environment until its folder is known."""
    return f"llamakey_{prefix}.json"


def prefix_of(value: str) -> str:
    """The prefix in such a name; "" for any other value."""
    match = _NAME.fullmatch(value)
    return match[1] if match else ""


def content(proxy_url: str, prefix: str, key: str, path: str) -> str:
    """The file's text.

    Arguments:
        path: where it will stand, absolute: it names itself.
    """
    file = {
        "type": "external_account",
        "audience": "llamakey",  # a pool of Google's would be looked up at Google
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{proxy_url}/{prefix}/token",
        "credential_source": {
            "file": path,
            "format": {"type": "json", "subject_token_field_name": "local_key"},
        },
        "local_key": key,
    }
    return json.dumps(file, indent=2) + "\n"
