"""A head that was let in before: what followed from it, and whether it still does.

A client sends the same head again and again. Where it leads, who sends it and how its body is read
follow from it and the settings; what may have changed since is looked at each time: the key, its
time and place, who else has keys, the body's length.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llamakey_addon import authenticate
from llamakey_addon.journey import Ask, KnownHead, Visit

if TYPE_CHECKING:
    from llamakey_addon.config import Settings
    from llamakey_addon.store import KeyRow, Store


def remember(
    known: KnownHead, visit: Visit, settings: Settings, store: Store, *, validity: int
) -> None:
    """A head that was let in: what follows of it, for when it comes again.

    Arguments:
        validity: of the keys, before they were looked at.
    """
    if known.recall("key", settings) is None:
        return  # it shows something derived from a key, which ends by itself
    row = authenticate.row_of(visit.user, store)
    if row is not None:
        # Without the headers, which lead back to what is known: one that is forgotten is to go at
        # once, and not when the collector of garbage comes.
        let_in = replace(visit, ask=replace(visit.ask, headers=()))
        known.keep("visit", settings, (let_in, row, validity))


def find(
    ask: Ask, known: KnownHead, settings: Settings, store: Store, *, validity: int
) -> Visit | None:
    """The visit of a head that was let in before. None where something has changed since: the long
    way says what.

    Arguments:
        validity: of the keys, now. While it is the same, no key was changed, nor has one ended.
    """
    found: tuple[Visit, KeyRow, int] | None = known.recall("visit", settings)
    if found is None:
        return None
    before, row, was_valid = found
    length = ask.body_length
    if (
        validity != was_valid
        or (length == 0) is not (before.ask.body_length == 0)
        or (length is not None and length > before.body_bytes)
        or (row.networks and not authenticate.is_in_place(row, ask))
    ):
        return None
    store.used(row.id, ask.time_s)
    return Visit(
        ask=ask,
        route=before.route,
        user=before.user,
        body_wanted=before.body_wanted,
        body_peeked=before.body_peeked,
        body_signed=before.body_signed,
        body_bytes=before.body_bytes,
        body_setting=before.body_setting,
        shared=before.shared,
        course=before.course,
    )
