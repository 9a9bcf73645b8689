"""YAML with lines: what a file says, and where it says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from llamakey_addon.errors import ConfigError, Fault

type Place = tuple[str | int, ...]
"""Path of a value in a document: names of settings and indices of lists."""

_MAX_BYTES = 4 * 1024 * 1024
_MAX_NODES = 200_000

# libyaml is in every wheel of PyYAML; its marks are the same.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What real keys look like at their usual providers. Only for warning: a text that does not match
# may be a key all the same.
_KEY_LIKE: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|rk|pk)-[A-Za-z0-9_-]{20,}"
    r"|(?:hf|r8|gsk|sk|al|pa|pcsk|jina|fw|csk|tgp_v1)_[A-Za-z0-9_-]{20,}"
    r"|(?:nvapi|pplx|xai|csk|sk_live|esecret)[-_][A-Za-z0-9_-]{20,}"
    r"|AIza[A-Za-z0-9_-]{30,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    r")"
)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file: its values, and the line of each."""

    name: str
    """As faults name it."""
    data: dict[str, Any]
    lines: dict[Place, int]
    """Line of each setting, from 1."""
    faults: tuple[Fault, ...] = ()
    """Duplicates and names that are no text."""
    secret_lines: tuple[int, ...] = ()
    """Lines, comments included, in which something stands that looks like a key."""

    def where(self, place: Sequence[str | int]) -> str:
        """`config.yaml:12`, of the innermost part of `place` that stands in the file."""
        for length in range(len(place), 0, -1):
            if line := self.lines.get(tuple(place[:length])):
                return f"{self.name}:{line}"
        return self.name if self.lines else ""


def read(path: Path, name: str) -> Document:
    """The document in a file. Raises ConfigError when there is none, or it is not YAML."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            [Fault(name, "there is no such file. Create it, or start without --config.")]
        ) from None
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise ConfigError(
            [Fault(name, f"the file can't be read ({problem}). Let the proxy's user read it.")]
        ) from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError([Fault(name, "the file is longer than 4 MiB. Is it the right one?")])
    try:
        return parse(raw.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [Fault(f"{name}:{line}", "the file is not UTF-8. Save it as UTF-8.")]
        ) from None


def parse(text: str, name: str) -> Document:
    """The document in a text. Raises ConfigError when it is not YAML, or no mapping."""
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            reader = _Reader(loader, name)
            data = {} if root is None else reader.value(root, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        # Only the words of the parser: its snippets show the file's text, which may hold a key.
        problem = hide_keys(error.problem or "malformed")
        raise ConfigError(
            [Fault(where, f"this is not YAML: {problem}. See to indents and quotes.")]
        ) from None
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(
            [Fault(name, "this is not YAML: a character or a nesting that it does not allow.")]
        ) from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            [Fault(f"{name}:1", "settings are expected, each as `name: value` on a line.")]
        )
    secret_lines = tuple(
        number for number, line in enumerate(text.splitlines(), 1) if _KEY_LIKE.search(line)
    )
    return Document(name, data, reader.lines, tuple(reader.faults), secret_lines)


def hide_keys(text: str) -> str:
    """`text` for a message: without what looks like a key, and not too long."""
    text = _KEY_LIKE.sub("…", text)
    return text if len(text) <= 80 else f"{text[:79]}…"


class _Reader:
    """Walks the nodes of one document, noting lines and duplicates."""

    def __init__(self, loader: Any, name: str) -> None:
        self._loader = loader
        self._name = name
        self._open: set[int] = set()
        self._nodes = 0
        self.lines: dict[Place, int] = {}
        self.faults: list[Fault] = []

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._nodes += 1
        # Aliases can make a short file endless.
        if self._nodes > _MAX_NODES or id(node) in self._open:
            raise yaml.MarkedYAMLError(
                problem="an alias makes it endless", problem_mark=node.start_mark
            )
        if isinstance(node, yaml.ScalarNode):
            try:
                return self._loader.construct_object(node)
            except (ValueError, OverflowError):  # a date that is none, an integer without end
                raise yaml.MarkedYAMLError(
                    problem="a value that can't be read; put it in quotes",
                    problem_mark=node.start_mark,
                ) from None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._item(child, (*place, i)) for i, child in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode):
                return dict(self._settings(node, place))
        finally:
            self._open.discard(id(node))
        raise yaml.MarkedYAMLError(problem="an unknown kind of value", problem_mark=node.start_mark)

    def _item(self, node: yaml.Node, place: Place) -> Any:
        self.lines[place] = node.start_mark.line + 1
        return self.value(node, place)

    def _settings(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        first: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            where = f"{self._name}:{line}"
            if key.tag == "tag:yaml.org,2002:merge":
                self.faults.append(
                    Fault(where, "`<<` is not supported. Write the settings out, or use an alias.")
                )
                continue
            name = self.value(key, place) if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str):
                # `no:` is false, `1:` a number.
                self.faults.append(
                    Fault(where, "a name that YAML does not read as text: quote it.")
                )
                continue
            if name in first:
                self.faults.append(
                    Fault(
                        where,
                        f"`{hide_keys(name)}` stands here again (first on line {first[name]}). "
                        "Keep one of them.",
                    )
                )
                continue
            first[name] = line
            self.lines[(*place, name)] = line
            yield name, self.value(child, (*place, name))
