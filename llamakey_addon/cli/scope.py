"""What a key may do, as the owner writes it on the command line, and as a list shows it.

A scope is stored as JSON of a user's part of config.yaml. The small language of the options covers
what is usual; `--scope FILE` takes the rest.

    --allow openai,anthropic/messages    providers, or endpoints of theirs
    --allow 'openai:gpt-5*'              models of theirs
    --models 'gpt-5*,claude-*'           models of whatever is allowed
    --deny openai/files,':o3*'           as --allow; goes before it
    --limit 60/minute                    also `100k tokens/day`, `4 at once`
    --budget 5/day                       also `100/month`, `20` in all; `soft` behind it only warns
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamakey_addon.cli.errors import Miswritten

_FILE_MAX_BYTES: Final = 1 << 20
_FACTORS: Final = {"": 1, "k": 1000, "m": 1_000_000, "g": 1_000_000_000}
_WINDOWS: Final = {
    **{name: name for name in ("second", "minute", "hour", "day", "week", "month", "total")},
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
}
_LIMIT: Final = re.compile(
    r"(?P<number>\d+(?:\.\d+)?)(?P<factor>[kmg]?)\s*(?P<unit>requests?|tokens?|)\s*"
    r"(?:(?:/|\bper\b)\s*(?P<per>[a-z]+)|(?P<once>at once|concurrent))"
)
_BUDGET: Final = re.compile(
    r"(?P<number>\d+(?:\.\d+)?)(?:\s*(?:/|\bper\b)\s*(?P<per>[a-z]+))?(?P<soft>\s+soft)?"
)


class BadScope(Miswritten):
    """A scope that can't be read; the message says how one is written."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options, each as it was given, commas and all."""

    allow: Sequence[str] = ()
    models: Sequence[str] = ()
    deny: Sequence[str] = ()
    limits: Sequence[str] = ()
    budgets: Sequence[str] = ()
    file: Path | None = None

    @property
    def in_words(self) -> bool:
        return any((self.allow, self.models, self.deny, self.limits, self.budgets))

    @property
    def any(self) -> bool:
        return self.in_words or self.file is not None


def written(wishes: Wishes) -> str:
    """The scope as the store takes it, not yet checked; of a file, its text. "" for none.

    Raises BadScope.
    """
    if wishes.file is not None:
        if wishes.in_words:
            raise BadScope("--scope FILE says all of it. Leave the other options out, or the file.")
        return _read(wishes.file)
    part: dict[str, Any] = {}
    models = _split(wishes.models)
    if wishes.allow or models:
        rules = _rules("--allow", _split(wishes.allow)) or [{}]
        part["allow"] = [{**({"models": models} if models else {}), **rule} for rule in rules]
    if wishes.deny:
        part["deny"] = _rules("--deny", _split(wishes.deny))
    if wishes.limits:
        part["limits"] = [_limit(text) for text in _split(wishes.limits)]
    if wishes.budgets:
        part["budgets"] = [_budget(text) for text in _split(wishes.budgets)]
    return json.dumps(part, ensure_ascii=False) if part else ""


def _split(texts: Iterable[str]) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def _rules(option: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """`openai,azure,openai/chat:gpt-5*`: those that name a provider alone are one rule."""
    whole: list[str] = []
    rules: list[dict[str, Any]] = []
    for word in words:
        where, colon, model = word.partition(":")
        provider, slash, endpoint = where.partition("/")
        if (colon and not model) or (slash and not (provider and endpoint)):
            raise BadScope(
                f"{option}: {word!r} is not whole. Write a provider and what of it: openai, "
                "openai/chat, 'openai:gpt-5*', or ':gpt-5*' for a model of any."
            )
        if not colon and not slash:
            whole.append(provider)
            continue
        rule: dict[str, Any] = {"providers": [provider]} if provider else {}
        if endpoint:
            rule["paths"] = [endpoint]
        if model:
            rule["models"] = [model]
        rules.append(rule)
    return ([{"providers": whole}] if whole else []) + rules


def _limit(text: str) -> dict[str, Any]:
    found = _LIMIT.fullmatch(text.lower())
    most = 0 if found is None else round(float(found["number"]) * _FACTORS[found["factor"]])
    if found is not None and found["once"] and not found["unit"].startswith("token") and most:
        return {"concurrent": most}
    per = _WINDOWS.get(found["per"] or "") if found else None
    if found is None or per in (None, "total") or not most:
        raise BadScope(
            f"--limit: {text!r} is no limit. Write 60/minute, '100k tokens/day' or '4 at once', "
            "by second, minute, hour, day, week or month."
        )
    return {"tokens" if found["unit"].startswith("token") else "requests": most, "per": per}


def _budget(text: str) -> dict[str, Any]:
    found = _BUDGET.fullmatch(text.lower())
    per = _WINDOWS.get(found["per"] or "total") if found else None
    if found is None or per not in ("day", "week", "month", "total"):
        raise BadScope(
            f"--budget: {text!r} is no budget. Write 5/day, 20/week, 100/month, or 50 for all its "
            "life; in the currency of config.yaml's `money`."
        )
    number = float(found["number"])
    spend = int(number) if number.is_integer() else number
    return {"spend": spend, "per": per, **({"hard": False} if found["soft"] else {})}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise BadScope(f"--scope {path}: {error.strerror}. Name a file with the scope.") from None
    except UnicodeDecodeError:
        raise BadScope(f"--scope {path}: this is no text. Name a YAML or JSON file.") from None
    if len(raw) > _FILE_MAX_BYTES:
        raise BadScope(f"--scope {path}: more than 1 MiB. Name a file with a scope alone.")
    if not text.strip():
        raise BadScope(
            f"--scope {path}: nothing stands there. Write what a user's part of config.yaml may "
            "say: allow, deny, limits, budgets."
        )
    return text


# --- for people -----------------------------------------------------------------------------------


def shown(text: str) -> str:
    """A stored scope in short, e.g. `openai, anthropic; not openai/files; 60/minute`."""
    if not text:
        return ""
    try:
        part = json.loads(text)
        words = [
            *_allowed(part.get("allow")),
            *(f"not {_rule(rule)}" for rule in part.get("deny") or ()),
            *(_shown_limit(limit) for limit in part.get("limits") or ()),
            *(_shown_budget(budget) for budget in part.get("budgets") or ()),
        ]
    except (ValueError, AttributeError, TypeError, KeyError):
        return "(unreadable)"
    return "; ".join(words)


def _allowed(rules: Sequence[Mapping[str, Any]] | None) -> list[str]:
    if rules is None:
        return []
    return [_rule(rule) for rule in rules] or ["nothing"]


def _rule(rule: Mapping[str, Any]) -> str:
    return rule_words(
        *(rule.get(name) or () for name in ("providers", "methods", "paths", "models"))
    )


def rule_words(
    providers: Sequence[str], methods: Sequence[str], paths: Sequence[str], models: Sequence[str]
) -> str:
    """A rule in few words: `GET openai,azure/chat:gpt-5*`; `everything` for one without bounds."""
    words = ",".join(providers)
    if paths:
        words += "/" + ",".join(path.removeprefix("/") for path in paths)
    if models:
        words += ":" + ",".join(models)
    return " ".join(part for part in (",".join(methods), words) if part) or "everything"


def amount_words(most: float) -> str:
    """`60`, `100k`, `2.5M`."""
    for factor, letter in ((10**9, "G"), (10**6, "M"), (1000, "k")):
        if most >= factor and most * 10 % factor == 0:
            return f"{most / factor:g}{letter}"
    return f"{most:g}" if most < 10**6 else f"{most:.0f}"


def _shown_limit(limit: Mapping[str, Any]) -> str:
    if most := limit.get("concurrent"):
        return f"{amount_words(most)} at once"
    unit = "tokens" if limit.get("tokens") else "requests"
    words = "" if unit == "requests" else " tokens"
    return f"{amount_words(limit[unit])}{words}/{limit['per']}"


def _shown_budget(budget: Mapping[str, Any]) -> str:
    per = "" if budget["per"] == "total" else f"/{budget['per']}"
    soft = "" if budget.get("hard", True) else " soft"
    return f"spend {budget['spend']:g}{per}{soft}"
