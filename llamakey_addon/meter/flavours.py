"""Every flavour by its word in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from llamakey_addon.meter.figures import kind, path
from llamakey_addon.meter.flavour import Flavour, texts

_CHAT_TEXT: Final = texts(
    "content", "reasoning_content", "reasoning", "thinking", "text", "refusal", "arguments"
)

OPENAI_CHAT: Final = Flavour(
    roots=(path("usage"), path("x_groq.usage")),
    kinds=(
        kind("input_tokens", "prompt_tokens"),
        kind(
            "cache_read_tokens",
            "prompt_tokens_details.cached_tokens",
            "prompt_cache_hit_tokens",
            "cached_tokens",
        ),
        kind("cache_write_tokens", "prompt_tokens_details.cache_write_tokens"),
        kind("input_audio_tokens", "prompt_tokens_details.audio_tokens"),
        kind("output_audio_tokens", "completion_tokens_details.audio_tokens"),
        kind(
            "output_reasoning_tokens",
            "completion_tokens_details.reasoning_tokens",
            "reasoning_tokens",
        ),
        kind("output_tokens", "completion_tokens"),
        kind("billed_nusd", "cost", scale=10**9),
    ),
    terms=(("service_tier", path("service_tier")),),
    text=_CHAT_TEXT,
)

UNKNOWN: Final = replace(OPENAI_CHAT, guesses=False)
FLAVOURS: Final[Mapping[str, Flavour]] = {"openai-chat": OPENAI_CHAT}
