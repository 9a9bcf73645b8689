"""Whitelists of users, as written and as they are asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.config.model import RulePart, UserPart
from llamakey_addon.config.providers import nearest
from llamakey_addon.config.settings import folded
from llamakey_addon.config.yamlfile import Document, hide_keys
from llamakey_addon.errors import Fault
from llamakey_addon.globs import glob
from llamakey_addon.journey import Provider, Rule

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def read_users(
    parts: Mapping[str, UserPart | None], document: Document, providers: Collection[Provider]
) -> tuple[dict[str, tuple[Rule, ...] | None], list[Fault], list[Fault]]:
    """Whitelists by user, faults, and warnings."""
    faults: list[Fault] = []
    warnings: list[Fault] = []
    users: dict[str, tuple[Rule, ...] | None] = {}
    names: dict[str, str] = {}
    by_id = {provider.id: provider for provider in providers}
    for name, part in parts.items():
        place = ("users", name)
        if name != "*":
            if other := names.get(folded(name)):
                faults.append(
                    Fault(
                        document.where(place),
                        f"`{name}` and `{other}` are one user: names are compared without case. "
                        "Keep one of them.",
                    )
                )
            names[folded(name)] = name
        if part is None or part.allow is None:
            # Left empty by commenting out what stood below: that must not allow everything.
            if part is None or "allow" in part.model_fields_set:
                faults.append(
                    Fault(
                        document.where(place if part is None else (*place, "allow")),
                        f"nothing stands here. Write `{name}: {{}}` to allow everything, or "
                        "`allow: []` to allow nothing.",
                    )
                )
            users[name] = None
            continue
        rules = []
        for index, rule in enumerate(part.allow):
            reader = _RuleReader((*place, "allow", index), rule, document, by_id)
            rules.append(reader.read())
            faults += reader.faults
            warnings += reader.warnings
        users[name] = tuple(rules)
    return users, faults, warnings


class _RuleReader:
    def __init__(
        self,
        place: tuple[str | int, ...],
        part: RulePart,
        document: Document,
        providers: Mapping[str, Provider],
    ) -> None:
        self._place = place
        self._part = part
        self._document = document
        self._providers = providers
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []

    def read(self) -> Rule:
        part = self._part
        for name in ("providers", "methods", "paths"):
            if not getattr(part, name) and name in part.model_fields_set:
                self._fault(
                    (name,), f"nothing stands here. Remove `{name}` to allow any, or the rule."
                )
        methods = []
        for index, method in enumerate(part.methods or ()):
            methods.append(method.upper())
            if method.upper() not in METHODS:
                hint = nearest(method.upper(), METHODS) or f" There are {', '.join(METHODS)}."
                self._fault(("methods", index), f"`{hide_keys(method)}` is no method.{hint}")
        for index, name in enumerate(part.providers or ()):
            if name not in self._providers:
                hint = nearest(name, self._providers) or " `lmk providers` shows all."
                self._fault(("providers", index), f"`{hide_keys(name)}` is no provider.{hint}")
        for index, path in enumerate(part.paths or ()):
            self._check_path(index, path)
        return Rule(tuple(part.providers or ()), tuple(methods), tuple(part.paths or ()))

    def _check_path(self, index: int, path: str) -> None:
        place = ("paths", index)
        if not path or not path.isprintable() or " " in path or "?" in path or "#" in path:
            self._fault(
                place, "a path has no query, spaces or control characters: /v1/models/*, say."
            )
            return
        if path in ("*", "**"):
            return
        concerned = self._concerned()
        endpoints = [endpoint for provider in concerned for endpoint in provider.entry.endpoints]
        if not path.startswith("/"):
            names = sorted({endpoint.name for endpoint in endpoints})
            if concerned and not any(glob(path, "names").fullmatch(name) for name in names):
                hint = nearest(path, names) or " A path begins with `/`."
                self._fault(place, f"`{hide_keys(path)}` is no endpoint here.{hint}")
            return
        prefix, slash, rest = path[1:].partition("/")
        mistaken = any(provider.prefix == prefix for provider in concerned)
        if mistaken and slash and not any(_may_be(path, endpoint) for endpoint in endpoints):
            self.warnings.append(
                Fault(
                    self._document.where((*self._place, *place)),
                    f"paths are the provider's own, without prefix: is `/{rest}` meant?",
                )
            )

    def _concerned(self) -> list[Provider]:
        if self._part.providers is None:
            return list(self._providers.values())
        return [self._providers[name] for name in self._part.providers if name in self._providers]

    def _fault(self, place: tuple[str | int, ...], message: str) -> None:
        self.faults.append(Fault(self._document.where((*self._place, *place)), message))


def _may_be(path: str, endpoint: Endpoint) -> bool:
    """Whether a rule's path and an endpoint's begin alike."""
    return path.split("/")[1] == endpoint.path.split("/")[1]
