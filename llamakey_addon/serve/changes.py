"""What may change under `lmk serve`."""

from __future__ import annotations

from llamakey_addon import changes
from llamakey_addon.changes import LOOK_S
from llamakey_addon.config import Settings
from llamakey_addon.journal import Journal
from llamakey_addon.serve import second
from llamakey_addon.serve.door import server_tls
from llamakey_addon.serve.wishes import Wishes

__all__ = ["LOOK_S", "Changes"]


class Changes(changes.Changes):
    """Those of the command line's file, with a certificate that the door can serve."""

    def __init__(self, wishes: Wishes, settings: Settings, journal: Journal) -> None:
        super().__init__(wishes.config, settings, journal, server_tls)

    def take(self, why: str, new: Settings, *, restarted: bool = False) -> None:
        super().take(why, new, restarted=restarted)
        if new.door.open and (lacking := second.lacking(new)):
            self._journal.note(
                f"warning: the second door's authority does not vouch for {second.some(lacking)}: "
                "its clients are refused until the proxy is started anew, which makes another; "
                "clients on other machines then need its new ca.pem"
            )
