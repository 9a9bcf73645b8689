"""What every part of config.yaml's shape is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

type Seconds = Annotated[float, Field(gt=0, le=7 * 86400)]
type Bytes = Annotated[int, Field(ge=1024, le=2**50)]
type Count = Annotated[int, Field(ge=1, le=10_000_000)]


class Part(BaseModel):
    """Base of everything here: strict about unknown words and about types, silent about values."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        # A value may be a key that stands in the wrong place.
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )
