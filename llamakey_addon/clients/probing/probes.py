"""What is called, as data: `probes.yaml`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from llamakey_addon.catalogue.models import Model

type Language = Literal["python", "node", "command"]


class Probe(Model):
    """One client and its call."""

    client: str
    """As people call it, e.g. `openai (python)`."""
    language: Language
    package: str
    """Of a language its package; else the name of the program."""
    provider: str
    """Whose id the call is for."""
    names: tuple[str, ...] = ()
    """For `--for`, where what is set without it does not serve this client."""
    no_call: bool = False
    """That no door takes it; what the catalogue says of it is told."""
    call: str = ""
    """Its program: `HEADERS` holds the mark as a header, `MARK` is a name for a model, `BASE` the
    address to write in code where no variable redirects it."""
    in_code: str = ""
    """What `BASE` is, with `{proxy}`; "" where variables are enough."""
    words: tuple[str, ...] = ()
    """Of a program its arguments, with `{mark}`, `{header}` and `{proxy}`."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables for the call alone, same placeholders."""
    merges: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By variable: JSON to lay over what it holds, same placeholders."""

    @model_validator(mode="after")
    def _one_way(self) -> Probe:
        given = (bool(self.call), bool(self.words), self.no_call)
        if sum(given) != 1 or (self.language == "command") != given[1]:
            raise ValueError("a package has a `call` or `no_call`, a program has `words`")
        return self


@cache
def load() -> tuple[Probe, ...]:
    text = (resources.files(__package__) / "probes.yaml").read_text("utf-8")
    return tuple(Probe.model_validate(each) for each in yaml.safe_load(text))


def program(language: Annotated[str, "python or node"]) -> str:
    """The text of a prelude."""
    name = "prelude.py" if language == "python" else "prelude.cjs"
    return (resources.files(__package__) / name).read_text("utf-8")
