"""The fake providers by id."""

from __future__ import annotations

from dataclasses import replace

from tests.fakes.families import (
    anthropic,
    clouds,
    cohere,
    compatible,
    fal,
    gemini,
    huggingface,
    logins,
    openai,
    others,
    pinecone,
    replicate,
    speech,
    talks,
    vectara,
)
from tests.fakes.families.base import Family

FAMILIES: dict[str, Family] = {
    family.id: replace(family, talks=talks.TALKS.get(family.id, family.talks))
    for family in (
        openai.FAMILY,
        anthropic.FAMILY,
        cohere.FAMILY,
        gemini.FAMILY,
        vectara.FAMILY,
        replicate.FAMILY,
        fal.FAMILY,
        pinecone.FAMILY,
        *huggingface.FAMILIES,
        *speech.FAMILIES,
        *compatible.FAMILIES,
        *others.FAMILIES,
        *logins.FAMILIES,
        *clouds.FAMILIES,
    )
}

__all__ = ["FAMILIES", "Family"]
