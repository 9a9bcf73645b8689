"""What a client proves by signing in place of showing its key (AWS's SigV4), and that it counts
once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llamakey_addon import signature
from llamakey_addon.errors import NoLedger
from llamakey_addon.store import Store, StoreError

if TYPE_CHECKING:
    from llamakey_addon.journey import Ask, Provider, Visit


def claim(ask: Ask, provider: Provider) -> signature.Claim | None:
    """The client's signature, where it signs; what the head alone can prove is proved. Raises
    Unauthenticated."""
    slots = provider.entry.credential.accept
    proved = ask.as_key or (ask.passage is not None and ask.passage.key_id)
    if proved or not any(slot.proof == "sigv4" for slot in slots):
        return None
    if not signature.is_signed(ask):
        return None
    found = signature.claim(ask, time.time())
    if found.body_sha256:
        signature.verify(found, None)
    return found


def prove(visit: Visit, content: bytes | None, store: Store) -> None:
    """Verify the client's signature, where its body was waited for.

    Raises Unauthenticated, also where the signature was used before, in this process or in another.
    """
    if visit.claim is None:
        return
    signature.verify(visit.claim, content)
    if not signature.counts_once(visit.claim):
        return
    until_s = time.time() + 2 * signature.WINDOW_S
    try:
        first = store.ledger.first(f"sigv4 {visit.claim.signature}", until_s)
    except StoreError as error:
        raise NoLedger(str(error)) from error
    if not first:
        raise signature.used_before()
