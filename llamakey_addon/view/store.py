"""A bound on the flows that mitmweb and the console keep."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from mitmproxy.addons.view import View

if TYPE_CHECKING:
    from mitmproxy.master import Master


def trim(master: Master, flows: int) -> None:
    """Remove the oldest until no more than `flows` are kept; never one that runs or is held."""
    view = master.addons.get("view")
    if not isinstance(view, View):
        return
    too_many = view.store_count() - flows
    if too_many > 0:
        old = (flow for flow in view._store.values() if not (flow.live or flow.intercepted))
        for flow in list(islice(old, too_many)):
            view.remove([flow])
