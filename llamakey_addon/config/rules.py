"""Rules, from what is written to what is asked."""

from __future__ import annotations

from collections.abc import Mapping

from llamakey_addon.catalogue.models import Endpoint
from llamakey_addon.config.money_reader import model_glob_problem
from llamakey_addon.config.people_model import RulePart, WhichPart
from llamakey_addon.config.words import nearest
from llamakey_addon.config.yamlfile import Document, Place, hide_keys
from llamakey_addon.errors import Fault
from llamakey_addon.globs import glob
from llamakey_addon.journey import Provider, Rule

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def setting_of(place: Place) -> str:
    """A place as people write it: `teams.research.budgets[0]`."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if part != "*" else '."*"'
    return text.removeprefix(".")


class RuleReader:
    """Reads one rule, or which requests a limit is of."""

    def __init__(
        self,
        place: Place,
        part: WhichPart,
        document: Document,
        providers: Mapping[str, Provider],
        *,
        named_where: str = "",
    ) -> None:
        self._place = place
        self._part = part
        self._document = document
        self._providers = providers
        self._named_where = named_where
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []

    def read(self) -> Rule:
        part = self._part
        for name in ("providers", "methods", "paths", "models"):
            if name in part.model_fields_set and not getattr(part, name):
                self._fault(
                    (name,), f"nothing stands here. Remove `{name}`, which means any, or the rule."
                )
        methods = self._methods(part.methods or []) if isinstance(part, RulePart) else []
        for index, name in enumerate(part.providers or ()):
            if name not in self._providers:
                hint = nearest(name, self._providers) or " `lmk providers` shows all."
                self._fault(("providers", index), f"`{hide_keys(name)}` is no provider.{hint}")
        for index, path in enumerate(part.paths or ()):
            self._check_path(index, path)
        for index, model in enumerate(part.models or ()):
            if problem := model_glob_problem(model):
                self._fault(("models", index), problem)
        return Rule(
            providers=tuple(part.providers or ()),
            methods=tuple(methods),
            paths=tuple(part.paths or ()),
            models=tuple(part.models or ()),
            setting=self._named_where + setting_of(self._place),
        )

    def _methods(self, words: list[str]) -> list[str]:
        methods = []
        for index, method in enumerate(words):
            methods.append(method.upper())
            if method.upper() not in METHODS:
                hint = nearest(method.upper(), METHODS) or f" There are {', '.join(METHODS)}."
                self._fault(("methods", index), f"`{hide_keys(method)}` is no method.{hint}")
        return methods

    def _check_path(self, index: int, path: str) -> None:
        place: Place = ("paths", index)
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

    def _fault(self, place: Place, message: str) -> None:
        self.faults.append(Fault(self._document.where((*self._place, *place)), message))


def _may_be(path: str, endpoint: Endpoint) -> bool:
    """Whether a rule's path and an endpoint's begin alike."""
    return path.split("/")[1] == endpoint.path.split("/")[1]
