"""What one key may do, and what is left of it: the answer to `GET /_llamakey/me`.

It speaks of the key that asks, of its user and of what its user shares with others: of shared caps
what is left is told, and not who used the rest.

With `?mark=TEXT` it also tells which of this key's requests of the last minutes bear that mark, as
their tag or as the name of their model: whoever made one learns that it came by here.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

from llamakey_addon.caps import Bound
from llamakey_addon.config import Money
from llamakey_addon.errors import BadRequest
from llamakey_addon.journey import Answer, Policy, Rule, User
from llamakey_addon.store.ledger import Ledger, Of, Row, Standing
from llamakey_addon.store.windows import FOREVER_S

MARK_OWNER: Final = "llamakey"
"""Of a model with the name of a mark, where models have owners."""
_SEEN_S: Final = 600.0
_SEEN_MOST: Final = 20
_MARK: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")


def mark_of(target: str) -> str:
    """The mark that is asked for, or "".

    Raises BadRequest where it can be none.
    """
    marks = parse_qs(target.partition("?")[2], keep_blank_values=True).get("mark", [])
    if not marks:
        return ""
    if len(marks) > 1 or not _MARK.fullmatch(marks[0]):
        raise BadRequest("`mark` is one text of 8 to 64 letters, digits, dots and dashes.")
    return marks[0]


def marked(ledger: Ledger, key_id: str, mark: str, now_s: float) -> list[Row]:
    """A key's requests that bear the mark, the last of them, oldest first.

    It is looked for by equality, which the store does fast, whatever else the key has done; a model
    may have an owner, too. Raises StoreError.
    """
    places: tuple[tuple[Of, str], ...] = (
        ("tag", mark),
        ("model", mark),
        ("model", f"{MARK_OWNER}/{mark}"),
    )
    found: dict[str, Row] = {}
    for of, value in places:
        rows = ledger.rows(now_s - _SEEN_S, now_s + 1, {"key": key_id, of: value})
        found |= {row.id: row for row in deque(rows, _SEEN_MOST)}
    return sorted(found.values(), key=lambda row: row.time_s)[-_SEEN_MOST:]


def answer(
    user: User,
    caps: Iterable[tuple[Bound, Standing]],
    money: Money,
    now_s: float,
    *,
    tag_header: str,
    seen: Iterable[Row] | None = None,
) -> Answer:
    """The answer, as JSON.

    Arguments:
        caps: those that hold for the user, and where they are.
        tag_header: in which a request may say its tag.
        seen: requests with the mark that was asked for; None where none was.
    """
    limits, budgets = [], []
    for bound, standing in caps:
        if bound.cap.unit == "nusd":
            budgets.append(_budget(bound, standing, money))
        else:
            limits.append(_limit(bound, standing, now_s))
    bounds = [p.body_bytes for p in (user.policy, user.scope) if p is not None and p.body_bytes]
    document = {
        "user": user.name,
        "team": user.policy.team or None,
        "key": {"id": user.key_id, "name": user.key_name},
        **_rules(user.policy),
        "scope": None if user.scope is None else _rules(user.scope),
        "body_bytes": min(bounds, default=None),
        "limits": limits,
        "budgets": budgets,
        "tag_header": tag_header,
    }
    if seen is not None:
        document["seen"] = [_seen(row) for row in seen]
    headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
    return Answer(200, "OK", headers, json.dumps(document, indent=1).encode() + b"\n")


def _seen(row: Row) -> dict[str, Any]:
    facts = row.facts
    return {
        "id": row.id,
        "time": _time(row.time_s),
        "provider": facts.provider,
        "endpoint": facts.endpoint or None,
        "method": facts.method,
        "path": facts.path,
        "model": facts.model or None,
        "status": row.status or None,
        "open": row.open,
    }


def _rules(policy: Policy) -> dict[str, Any]:
    """A whitelist and what is denied; None for `allow` means that everything is allowed."""
    return {
        "allow": None if policy.allow is None else list(map(_rule, policy.allow)),
        "deny": list(map(_rule, policy.deny)),
    }


def _rule(rule: Rule) -> dict[str, list[str]]:
    parts = {
        "providers": rule.providers,
        "methods": rule.methods,
        "paths": rule.paths,
        "models": rule.models,
    }
    return {name: list(words) for name, words in parts.items() if words}


def _common(bound: Bound) -> dict[str, Any]:
    cap = bound.cap
    parts: dict[str, Any] = {"setting": cap.setting, "for": cap.subject[0], **_rule(cap.of)}
    if cap.tags:
        parts["tags"] = list(cap.tags)
    if cap.each:
        parts["each"] = list(cap.each)
    return parts


def _is_told(bound: Bound) -> bool:
    """Whether one number is all there is to tell: not where each model, say, has its own."""
    return not {"provider", "model"} & set(bound.cap.each)


def _is_own(bound: Bound) -> bool:
    return bound.cap.subject[0] in ("user", "key") or bool({"user", "key"} & set(bound.cap.each))


def _limit(bound: Bound, standing: Standing, now_s: float) -> dict[str, Any]:
    cap = bound.cap
    parts = {**_common(bound), cap.unit: cap.most}
    if cap.window:
        parts["per"] = cap.window
    if _is_told(bound):
        parts["left"] = standing.left
        if standing.free_in_s:
            parts["free_at"] = _time(now_s + standing.free_in_s)
    return parts


def _budget(bound: Bound, standing: Standing, money: Money) -> dict[str, Any]:
    cap = bound.cap
    parts = {
        **_common(bound),
        "spend": _amount(cap.most, money),
        "currency": money.currency,
        "per": cap.window,
        "hard": cap.hard,
    }
    if _is_told(bound):
        parts["left"] = _amount(standing.left, money)
        if _is_own(bound):
            parts["spent"] = _amount(standing.settled, money)
            parts["reserved"] = _amount(standing.reserved, money)
    end_s = standing.claim.span.end_s
    parts["renews"] = None if end_s >= FOREVER_S else _time(end_s)
    return parts


def _amount(nusd: int, money: Money) -> float:
    return float(round(money.amount(nusd), 9))


def _time(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")[:-6] + "Z"
