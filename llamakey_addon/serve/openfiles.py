"""The limit of open files: a proxy needs two for each client that it serves."""

from __future__ import annotations

import sys

from llamakey_addon.config import Limits

#: Standard streams, log, store, event loop, listening sockets, and room.
_OWN = 64


def make_room(limits: Limits) -> str:
    """Raise the soft limit as far as `limits` need; a warning with figures where that is not far
    enough, else ""."""
    if sys.platform == "win32":
        return ""
    import resource

    wanted = 2 * limits.connections + _OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    if soft == endless or soft >= wanted:
        return ""
    # macOS says that its hard limit is endless and refuses more than the kernel's own.
    for goal in (wanted if hard == endless else min(wanted, hard), 10_240):
        if goal <= soft:
            continue
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
            soft = goal
            break
        except (OSError, ValueError):
            continue
    if soft >= wanted:
        return ""
    return (
        f"{soft} open files are allowed, enough for about {max(0, soft - _OWN) // 2} connections "
        f"at once, and limits.connections is {limits.connections}: raise the limit to {wanted} "
        "(ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of docker), or lower that setting."
    )
