"""Whether an account of a provider's is shared: whether more than one user has keys."""

from __future__ import annotations

from llamakey_addon.config.words import folded
from llamakey_addon.errors import NotReady
from llamakey_addon.store import Store, StoreError


class Sharing:
    """Looks at the keys again when they have changed, or one of them has ended."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.shared = True
        """Whether more than one user has keys that are valid, as of the last look."""
        self._as_of = -1

    def look(self, now_s: float) -> int:
        """The validity of the keys (`Store.validity`), after a look at them where it is another.

        Raises NotReady.
        """
        try:
            validity = self._store.validity(now_s)
            if validity != self._as_of:
                rows = self._store.keys()
                users = {folded(row.user) for row in rows if row.ended(now_s) is None}
                self.shared = len(users) > 1
                self._as_of = validity
        except StoreError as error:
            raise NotReady(
                "The proxy can't look up keys at the moment. Try again soon; if it stays so, tell "
                "its owner.",
                detail=str(error),
            ) from error
        return validity
