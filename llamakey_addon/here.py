"""What the proxy answers itself, to nobody's account: how it is, what a key may do, and a keyless
look at a bare prefix."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llamakey_addon import authenticate, me
from llamakey_addon.errors import MethodRefused, NoLedger
from llamakey_addon.journey import Answer, Ask, Route
from llamakey_addon.store import Store, StoreError

if TYPE_CHECKING:
    from llamakey_addon.admit import Admission
    from llamakey_addon.config import Settings

HEALTH_PATH = "/_llamakey/health"
ME_PATH = "/_llamakey/me"
COURTESY = Answer(200, "OK", (), b"")


def health(*, well: bool) -> Answer:
    """Whether requests are served."""
    state = b"ok" if well else b"draining"
    status, reason = (200, "OK") if well else (503, "Service Unavailable")
    headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
    return Answer(status, reason, headers, b'{"status": "' + state + b'"}\n')


def my_own(ask: Ask, settings: Settings, store: Store, admission: Admission) -> Answer:
    """What the key that asks may do, and what is left of it. Raises Denied."""
    if ask.method not in ("GET", "HEAD"):
        raise MethodRefused("Ask with GET.")
    user = authenticate.anyone(ask, store, settings)
    mark = me.mark_of(ask.target)
    now_s = time.time()
    seen = None
    try:
        caps = admission.standings(user, admission.tag(ask.headers), now_s)
        if mark:
            seen = me.marked(store.ledger, user.key_id, mark, now_s)
    except StoreError as error:
        raise NoLedger(str(error)) from error
    tag_header = settings.metering.tag_header
    return me.answer(user, caps, settings.money, now_s, tag_header=tag_header, seen=seen)


def is_courtesy(ask: Ask, way: Route, settings: Settings) -> bool:
    """A keyless look at a bare prefix, as some clients send before their first request."""
    if way.path != "/" or ask.method not in ("GET", "HEAD") or ask.as_key:
        return False
    return way.query == "" and not any(
        name.lower() in settings.strip_headers for name, _ in ask.headers
    )
