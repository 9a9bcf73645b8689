"""mitmproxy's options: those that LlamaKey sets, and those with which it does not run.

mitmproxy reads options from the command line and from `~/.mitmproxy/config.yaml`, and mitmweb from
its page. What would open a way around the gate, or put a key where it does not belong, is refused
by name, at the start and at every change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: The dead upstream: whatever slips past the gate goes nowhere (port 9 is `discard`).
DEAD_MODE: Final = "reverse:http://127.0.0.1:9"

#: Option → why LlamaKey does not run with it set.
REFUSED: Final[Mapping[str, str]] = {
    "allow_hosts": "connections to other hosts would pass unjudged",
    "ignore_hosts": "connections to these hosts would pass unjudged",
    "tcp_hosts": "these connections would pass unjudged as raw TCP",
    "udp_hosts": "these connections would pass unjudged as raw UDP",
    "stream_large_bodies": "LlamaKey streams by itself (limits.json_body_bytes in config.yaml)",
    "body_size_limit": "LlamaKey has its own (limits.body_bytes in config.yaml)",
    "keep_host_header": "providers must get their own Host",
    "stickyauth": "it would copy credentials between requests",
    "ssl_insecure": "certificates are always verified (a provider's `ca:` adds a root)",
    "proxy_debug": "it logs what is on the wire",
    "proxyauth": "the local keys are the authentication (lmk keys)",
    "upstream_auth": "LlamaKey adds the credentials itself (upstream_proxy in config.yaml)",
    "map_remote": "host, scheme and credential of a request can't be edited",
    "onboarding": "its page mitm.it would be served without a key",
}


def is_ours(mode: str) -> bool:
    """Whether a mode of mitmproxy's is the one that LlamaKey serves, wherever it listens."""
    return mode == DEAD_MODE or mode.startswith(f"{DEAD_MODE}@")


def refusal(values: Mapping[str, Any]) -> str:
    """Why LlamaKey does not run with these option values, or ""."""
    for name, why in REFUSED.items():
        if values.get(name):
            return (
                f"LlamaKey does not run with mitmproxy's option {name!r}: {why}. "
                "Remove it from the command line or from mitmproxy's config.yaml."
            )
    modes = list(values.get("mode") or ())
    for mode in modes:
        if not is_ours(mode):
            return (
                f"LlamaKey does not run in mitmproxy's mode {mode!r}: it serves "
                f"{DEAD_MODE!r} alone, which it sets by itself. Remove --mode."
            )
    if values.get("connection_strategy", "lazy") != "lazy":
        return (
            "LlamaKey does not run with mitmproxy's option 'connection_strategy' other than lazy: "
            "a connection would be opened before anybody is judged."
        )
    return ""
