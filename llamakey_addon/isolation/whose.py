"""What somebody sees of what was made under an account of the provider's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from llamakey_addon.config.words import folded
from llamakey_addon.errors import Absent, NotReady
from llamakey_addon.isolation.kinds import Kind, Mention
from llamakey_addon.journey import Visit
from llamakey_addon.store import StoreError
from llamakey_addon.store.owners import Owner, Owners


class Whose:
    """The sight of the user of one request.

    Arguments:
        active: others have keys too; else everything is the one user's.
        unowned_allowed: what nobody made through this proxy may be seen.
        shown_to: who sees what a user made, by that user's rule: names as compared, or `*`.
    """

    def __init__(
        self,
        owners: Owners,
        visit: Visit,
        *,
        active: bool,
        unowned_allowed: bool,
        shown_to: Callable[[str], Collection[str]],
    ) -> None:
        self.active = active
        self._shown_to = shown_to
        self._owners = owners
        self._visit = visit
        self._unowned_allowed = unowned_allowed
        self._provider = visit.route.provider.id

    @property
    def _me(self) -> Owner:
        visit = self._visit
        return Owner(
            folded(visit.user.name), visit.user.policy.team, visit.user.key_id, visit.ask.time_s
        )

    def sees(self, kind: Kind, id: str, *, certain: bool = True) -> bool:
        """Whether something may be seen and used.

        Arguments:
            certain: the id is one; else something that looks like it, which may be anything as long
                as it is nobody's.
        """
        if not self.active or kind.is_public(id):
            return True
        owner = self._owner(kind, id)
        if owner is None:
            return self._unowned_allowed or not certain
        policy = self._visit.user.policy
        if owner.user == self._me.user:
            return True
        if policy.shared and policy.team != "" and owner.team == policy.team:
            return True
        shown_to = self._shown_to(owner.user)
        return self._me.user in shown_to or "*" in shown_to

    def check(self, mention: Mention) -> None:
        """Raise Absent for what the user does not see."""
        if not self.sees(mention.kind, mention.id, certain=mention.certain):
            raise self.absent(mention.kind, mention.id)

    def absent(self, kind: Kind, id: str) -> Absent:
        """As if it were not there: what is another's and what is nobody's are told alike."""
        name = self._visit.route.provider.entry.name
        return Absent(
            f"{self._visit.user.name} has no {kind.name.replace('-', ' ')} {id[:200]} at {name}. "
            "What others made under the account is not shown, nor is what nobody made through "
            "this proxy.",
            setting="isolation",
        )

    def claim(self, kind: Kind, ids: Iterable[str]) -> None:
        """Put what was made into the user's name. Raises Absent for what is another's."""
        wanted = [id for id in dict.fromkeys(ids) if id and not kind.is_public(id)]
        if not wanted:
            return
        try:
            self._owners.claim(self._provider, kind.name, wanted, self._me)
        except StoreError as error:
            raise _unkept(error) from error
        for id in wanted:
            if not self.sees(kind, id):
                raise self.absent(kind, id)

    def claim_quietly(self, kind: Kind, ids: Iterable[str]) -> None:
        """The same of what came along; what is another's stays so."""
        try:
            self.claim(kind, ids)
        except Absent:
            pass

    def release(self, kind: Kind, id: str) -> None:
        """It was deleted."""
        try:
            self._owners.release(self._provider, kind.name, id)
        except StoreError as error:
            raise _unkept(error) from error

    def _owner(self, kind: Kind, id: str) -> Owner | None:
        try:
            return self._owners.find(self._provider, kind.name, (id,)).get(id)
        except StoreError as error:
            raise _unkept(error) from error


def _unkept(error: StoreError) -> NotReady:
    return NotReady(
        "The proxy can't look up whose files and the like are whose at the moment. Try again soon; "
        "if it stays so, tell its owner.",
        detail=str(error),
    )
