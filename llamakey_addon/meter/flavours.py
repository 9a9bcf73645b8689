"""Every flavour by its word in the catalogue, and which figures of it are counted.

Counts follow genai-prices: `input_tokens` and `output_tokens` are everything that went in and came
out, and cached tokens, audio or reasoning are parts of them, whatever the provider's own words. Its
extractors are not used here, for they raise where a field is missing and want their table loaded;
a test holds these tables against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from llamakey_addon.meter import odd
from llamakey_addon.meter.figures import Kind, kind, path
from llamakey_addon.meter.flavour import Flavour, Mark, texts

_CHAT_TEXT: Final = texts(
    "content", "reasoning_content", "reasoning", "thinking", "text", "refusal", "arguments"
)
_TIER: Final = (("service_tier", path("service_tier")),)
# OpenRouter in dollars; Perplexity; xAI in ticks of 10^-10 dollars.
_BILLED: Final = (
    kind("billed_nusd", "cost", "cost.total_cost", scale=10**9),
    kind("billed_nusd", "cost_in_usd_ticks", scale="0.1"),
    kind("billed_nusd", "_own_key_cost", scale=10**9),
)

_CHAT: Final = (
    kind("input_tokens", "prompt_tokens"),
    # DeepSeek's older name; Moonshot's
    kind(
        "cache_read_tokens",
        "prompt_tokens_details.cached_tokens",
        "prompt_cache_hit_tokens",
        "cached_tokens",
        "prompt_token_details.cached_tokens",
    ),
    kind("cache_write_tokens", "prompt_tokens_details.cache_write_tokens"),
    kind("input_audio_tokens", "prompt_tokens_details.audio_tokens"),
    kind("output_tokens", "completion_tokens"),
    kind(
        "output_reasoning_tokens",
        "completion_tokens_details.reasoning_tokens",
        "reasoning_tokens",
    ),
    kind("output_audio_tokens", "completion_tokens_details.audio_tokens"),
    kind("audio_ms", "prompt_audio_seconds", scale=1000),
    kind("input_audio_ms", "prompt_audio_seconds", scale=1000),
    *_BILLED,
)
# xAI and Perplexity tell reasoning beside the completion, not as a part of it.
_CHAT_BESIDE: Final = (
    *_CHAT,
    kind("output_tokens", "completion_tokens_details.reasoning_tokens", "reasoning_tokens"),
)
_RESPONSES: Final = (
    # Fireworks has chat's words here
    kind("input_tokens", "input_tokens", "prompt_tokens"),
    kind(
        "cache_read_tokens",
        "input_tokens_details.cached_tokens",
        "input_tokens_details.cache_read_input_tokens",
    ),
    kind(
        "cache_write_tokens",
        "input_tokens_details.cache_write_tokens",
        "input_tokens_details.cache_creation_input_tokens",
    ),
    kind("output_tokens", "output_tokens", "completion_tokens"),
    kind("output_reasoning_tokens", "output_tokens_details.reasoning_tokens"),
    kind("web_searches", "tool_calls_details.search_web.invocation"),
    *_BILLED,
)
# Of a batch's results, which are chats, responses or embeddings.
_RESULTS: Final = (
    kind("input_tokens", "prompt_tokens", "input_tokens", "total_tokens"),
    kind(
        "cache_read_tokens",
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
    ),
    kind("output_tokens", "completion_tokens", "output_tokens"),
    kind(
        "output_reasoning_tokens",
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
    ),
    *_BILLED,
)
_ANTHROPIC: Final = (
    kind("input_tokens", "input_tokens"),
    kind("input_tokens", "cache_creation_input_tokens"),
    kind("input_tokens", "cache_read_input_tokens"),
    kind("cache_read_tokens", "cache_read_input_tokens"),
    kind("cache_write_tokens", "cache_creation_input_tokens"),
    kind("cache_write_5m_tokens", "cache_creation.ephemeral_5m_input_tokens"),
    kind("cache_write_1h_tokens", "cache_creation.ephemeral_1h_input_tokens"),
    kind("output_tokens", "output_tokens"),
    kind("output_reasoning_tokens", "output_tokens_details.thinking_tokens"),
    kind("web_searches", "server_tool_use.web_search_requests"),
    # of what runs beside the message, see `odd.iterations`
    kind("input_tokens", "_beside.input_tokens"),
    kind("input_tokens", "_beside.cache_creation_input_tokens"),
    kind("input_tokens", "_beside.cache_read_input_tokens"),
    kind("cache_read_tokens", "_beside.cache_read_input_tokens"),
    kind("cache_write_tokens", "_beside.cache_creation_input_tokens"),
    kind("output_tokens", "_beside.output_tokens"),
    *_BILLED,
)


def _modal(name: str, where: str, member: str = "tokenCount", *, upper: bool = True) -> list[Kind]:
    """Counts of a list of modalities. Documents are seen as images."""
    kinds = []
    for ours, theirs in (
        ("audio", "AUDIO"),
        ("image", "IMAGE"),
        ("image", "DOCUMENT"),
        ("video", "VIDEO"),
    ):
        value = theirs if upper else theirs.lower()
        kinds.append(kind(name.format(ours), f"{where}[modality={value}].{member}"))
    return kinds


_GEMINI: Final = (
    kind("input_tokens", "promptTokenCount"),
    kind("input_tokens", "toolUsePromptTokenCount"),
    kind("input_tool_tokens", "toolUsePromptTokenCount"),
    kind("cache_read_tokens", "cachedContentTokenCount"),
    *_modal("cache_{}_read_tokens", "cacheTokensDetails"),
    *_modal("input_{}_tokens", "promptTokensDetails"),
    *_modal("input_{}_tokens", "toolUsePromptTokensDetails"),
    kind("output_tokens", "candidatesTokenCount", "responseTokenCount"),
    kind("output_tokens", "thoughtsTokenCount"),
    kind("output_reasoning_tokens", "thoughtsTokenCount"),
    *_modal("output_{}_tokens", "candidatesTokensDetails"),
    *_modal("output_{}_tokens", "responseTokensDetails"),
)
_INTERACTIONS: Final = (
    kind("input_tokens", "total_input_tokens"),
    kind("input_tokens", "total_tool_use_tokens"),
    kind("input_tool_tokens", "total_tool_use_tokens"),
    kind("cache_read_tokens", "total_cached_tokens"),
    *_modal("cache_{}_read_tokens", "cached_tokens_by_modality", "tokens", upper=False),
    *_modal("input_{}_tokens", "input_tokens_by_modality", "tokens", upper=False),
    kind("output_tokens", "total_output_tokens"),
    kind("output_tokens", "total_thought_tokens", "total_reasoning_tokens"),
    kind("output_reasoning_tokens", "total_thought_tokens", "total_reasoning_tokens"),
    *_modal("output_{}_tokens", "output_tokens_by_modality", "tokens", upper=False),
    kind("web_searches", "grounding_tool_count[type=google_search].count"),
)
_CONVERSE: Final = (
    kind("input_tokens", "inputTokens"),
    kind("input_tokens", "cacheReadInputTokens"),
    kind("input_tokens", "cacheWriteInputTokens"),
    kind("cache_read_tokens", "cacheReadInputTokens"),
    kind("cache_write_tokens", "cacheWriteInputTokens"),
    kind("cache_write_5m_tokens", "cacheDetails[ttl=5m].inputTokens"),
    kind("cache_write_1h_tokens", "cacheDetails[ttl=1h].inputTokens"),
    kind("output_tokens", "outputTokens"),
)
_SOUND_S: Final = (
    "seconds",
    "prompt_audio_seconds",
    "audio_duration_secs",
    "audio_duration",
    "metadata.duration",
    "duration",
    "_words_end",
)

OPENAI_CHAT: Final = Flavour(
    roots=(path("usage"), path("x_groq.usage")),
    kinds=_CHAT,
    terms=_TIER,
    lazy=True,
    text=_CHAT_TEXT,
    also=odd.own_key,
)
RESPONSES: Final = Flavour(
    roots=(path("usage"), path("response.usage")),
    kinds=_RESPONSES,
    model=(path("model"), path("response.model")),
    terms=(*_TIER, ("service_tier", path("response.service_tier"))),
    closing=(b"response.completed", b"response.incomplete", b"response.failed"),
    ends=(b"response.completed", b"response.incomplete", b"response.failed", b"[DONE]"),
    text=texts("delta"),
    whole_text=texts("text", "arguments"),
    also=odd.response,
)
ANTHROPIC: Final = Flavour(
    roots=(path("message.usage"), path("usage")),
    kinds=_ANTHROPIC,
    model=(path("model"), path("message.model")),
    terms=(("speed", path("usage.speed")), ("speed", path("message.usage.speed"))),
    closing=(b"message_delta",),
    ends=(b"message_stop",),
    text=texts("text", "thinking", "partial_json"),
    also=odd.iterations,
)
GEMINI: Final = Flavour(
    roots=(path("usageMetadata"),),
    kinds=_GEMINI,
    model=(path("modelVersion"),),
    marks=(
        Mark("usageMetadata"),
        Mark("error"),
        Mark("groundingMetadata"),
        Mark("finishReason"),
        Mark("blockReason"),
    ),
    lazy=True,
    closing=(b'"finishReason"', b'"blockReason"'),
    text=texts("text"),
    also=odd.grounding,
    heads=odd.gemini_tier,
)
EMBEDDINGS: Final = Flavour(
    kinds=(
        kind("input_tokens", "prompt_tokens", "total_tokens", "input_tokens"),
        kind("output_tokens", "completion_tokens"),
        kind("rerank_searches", "search_units"),
        *_BILLED,
    ),
    by_its_end=True,
    also=odd.own_key,
)
COHERE: Final = Flavour(
    roots=(
        path("usage.billed_units"),
        path("delta.usage.billed_units"),
        path("meta.billed_units"),
        path("response.meta.billed_units"),
    ),
    kinds=(
        kind("input_tokens", "input_tokens"),
        kind("output_tokens", "output_tokens"),
        kind("rerank_searches", "search_units"),
        kind("classifications", "classifications"),
        kind("images", "images"),
    ),
    marks=(Mark("billed_units"), Mark("error")),
    ends=(b"message-end", b"stream-end", b"[DONE]"),
    text=texts("text", "thinking", "arguments", "tool_plan"),
    by_its_end=True,
)
OLLAMA: Final = Flavour(
    roots=((),),
    kinds=(kind("input_tokens", "prompt_eval_count"), kind("output_tokens", "eval_count")),
    marks=(Mark("done_reason"), Mark("eval_count"), Mark("prompt_eval_count"), Mark("error")),
    closing=(b'"done":true', b'"done": true'),
    ends=(b'"done":true', b'"done": true'),
    text=texts("content", "response", "thinking"),
)
IMAGES: Final = Flavour(
    kinds=(
        kind("input_tokens", "input_tokens", "prompt_tokens"),
        kind("input_image_tokens", "input_tokens_details.image_tokens"),
        kind("cache_read_tokens", "input_tokens_details.cached_tokens"),
        kind(
            "cache_image_read_tokens",
            "input_tokens_details.cached_tokens_details.image_tokens",
        ),
        kind("output_tokens", "output_tokens", "completion_tokens"),
        kind("output_image_tokens", "output_tokens_details.image_tokens"),
        *_BILLED,
    ),
    closing=(b"image_generation.completed", b"image_edit.completed"),
    adds=True,
    guess=None,
    also=odd.images,
    asks=odd.images_asked,
)
SPEECH: Final = Flavour(
    kinds=(
        kind("input_tokens", "input_tokens", "prompt_tokens"),
        kind("output_tokens", "output_tokens", "completion_tokens"),
        kind("output_audio_tokens", "output_tokens", "completion_tokens"),
        *_BILLED,
    ),
    guess=None,
    heads=odd.billed_characters,
    asks=odd.characters_asked,
)
TRANSCRIPTION: Final = Flavour(
    roots=((), path("usage"), path("x_groq.usage")),
    kinds=(
        kind("input_tokens", "input_tokens", "prompt_tokens"),
        kind("input_audio_tokens", "input_token_details.audio_tokens"),
        kind("output_tokens", "output_tokens", "completion_tokens"),
        kind("audio_ms", *_SOUND_S, scale=1000),
        kind("audio_ms", "audio_duration_ms"),
        kind("input_audio_ms", *_SOUND_S, scale=1000),
        kind("input_audio_ms", "audio_duration_ms"),
        *_BILLED,
    ),
    marks=(Mark("usage"), Mark("audio_duration_ms"), Mark("error")),
    guess=odd.guess_sound,
    also=odd.sound,
)
# Whatever stands at Bedrock's models' own; what they leave out stands in its headers, and in a
# stream's last chunk. Models are named by the path alone: the answer's name has no region.
_INVOKE: Final = (
    kind(
        "input_tokens",
        "input_tokens",
        "inputTokens",
        "prompt_tokens",
        "prompt_token_count",
        "inputTokenCount",
        "inputTextTokenCount",
    ),
    *(
        kind(name, f"cache_{verb}_input_tokens", f"{word}InputTokens", f"{word}InputTokenCount")
        for name, verb, word in (
            ("input_tokens", "creation", "cacheWrite"),
            ("input_tokens", "read", "cacheRead"),
            ("cache_read_tokens", "read", "cacheRead"),
            ("cache_write_tokens", "creation", "cacheWrite"),
        )
    ),
    kind("cache_write_5m_tokens", "cache_creation.ephemeral_5m_input_tokens"),
    kind("cache_write_1h_tokens", "cache_creation.ephemeral_1h_input_tokens"),
    kind(
        "output_tokens",
        "output_tokens",
        "outputTokens",
        "completion_tokens",
        "generation_token_count",
        "outputTokenCount",
    ),
)
CONVERSE: Final = Flavour(
    roots=(path("usage"),),
    kinds=_CONVERSE,
    model=(),
    terms=(("service_tier", path("serviceTier.type")),),
    closing=(b'"usage"',),
    ends=(b'"usage"',),
    text=texts("text", "input"),
)
INVOKE: Final = Flavour(
    roots=((), path("message.usage"), path("usage"), path("amazon-bedrock-invocationMetrics")),
    kinds=_INVOKE,
    model=(),
    marks=(Mark("usage"), Mark("amazon-bedrock-invocationMetrics"), Mark("error")),
    closing=(b"amazon-bedrock-invocationMetrics",),
    ends=(b"amazon-bedrock-invocationMetrics",),
    text=texts("text", "generation", "outputText", "completion", "partial_json", "content"),
    heads=odd.bedrock_tokens,
)

UNKNOWN: Final = Flavour(
    roots=(),
    marks=(Mark("usage"), Mark("usageMetadata"), Mark("billed_units")),
    model=(path("model"), path("modelVersion"), path("message.model"), path("response.model")),
    guess=None,
    also=odd.recogniser(
        {
            "prompt_tokens": _CHAT,
            "promptTokenCount": _GEMINI,
            "cache_read_input_tokens": _ANTHROPIC,
            "cache_creation_input_tokens": _ANTHROPIC,
            "input_tokens": _RESPONSES,
            "inputTokens": _CONVERSE,
            "total_tokens": EMBEDDINGS.kinds,
        }
    ),
    exact=False,
)
"""What looks like usage is taken for it, and never for exact."""

RESULTS_FILE: Final = Flavour(
    roots=(path("response.body.usage"),),
    kinds=_RESULTS,
    model=(path("response.body.model"),),
    marks=(Mark("usage"),),
    ends=(),
    adds=True,
    guess=None,
    also=odd.result_line,
    asks=odd.batch_file,
    lines=True,
    errors=False,
    reports=True,
)
"""A batch's results: a line each."""

FLAVOURS: Final[Mapping[str, Flavour]] = {
    "anthropic": ANTHROPIC,
    "anthropic-batch": replace(
        ANTHROPIC,
        roots=(path("result.message.usage"),),
        model=(path("result.message.model"),),
        terms=(("speed", path("result.message.usage.speed")),),
        closing=(),
        ends=(),
        adds=True,
        guess=None,
        text=None,
        also=odd.batch_line,
        asks=odd.batch,
        reports=True,
    ),
    "anthropic-complete": Flavour(roots=(), text=texts("completion")),
    "assemblyai": replace(TRANSCRIPTION, also=odd.transcript, guess=None, reports=True),
    "auto": UNKNOWN,
    "batch-file": RESULTS_FILE,
    "bedrock-converse": CONVERSE,
    "bedrock-invoke": INVOKE,
    "characters": SPEECH,
    "cohere-v1": COHERE,
    "cohere-v2": COHERE,
    "deepgram-read": Flavour(
        roots=(
            path("metadata.summary_info"),
            path("metadata.sentiment_info"),
            path("metadata.topics_info"),
            path("metadata.intents_info"),
        ),
        kinds=_RESPONSES,
        adds=True,
    ),
    "gemini": GEMINI,
    "gemini-batch": replace(
        GEMINI,
        roots=(),
        closing=(),
        adds=True,
        guess=None,
        text=None,
        also=odd.gemini_batch,
        reports=True,
    ),
    "gemini-batch-file": replace(
        RESULTS_FILE,
        roots=(path("response.usageMetadata"),),
        kinds=_GEMINI,
        model=(path("response.modelVersion"),),
        marks=(Mark("usageMetadata"),),
    ),
    "gemini-interactions": Flavour(
        roots=(path("usage"), path("interaction.usage")),
        kinds=_INTERACTIONS,
        model=(path("model"), path("interaction.model")),
        closing=(b"interaction.completed", b"interaction.complete"),
        text=texts("text"),
        also=odd.interaction,
    ),
    "images": IMAGES,
    "mistral-conversations": Flavour(
        kinds=(
            *_CHAT,
            kind("input_tokens", "connector_tokens"),
            kind("web_searches", "connectors.web_search"),
            kind("web_searches", "connectors.web_search_premium"),
        ),
        closing=(b"conversation.response.done",),
        text=texts("content", "text", "arguments"),
    ),
    "mistral-ocr": Flavour(
        roots=(path("usage_info"),),
        kinds=(kind("input_document_pages", "pages_processed"),),
        guess=None,
        also=odd.annotated,
    ),
    "ollama": OLLAMA,
    "openai-batch": Flavour(
        roots=(),
        kinds=_RESPONSES,
        guess=None,
        also=odd.openai_batch,
        reports=True,
    ),
    "openai-chat": OPENAI_CHAT,
    "openai-embeddings": EMBEDDINGS,
    "openai-responses": RESPONSES,
    "openai-stored": replace(RESPONSES, guess=None, also=odd.stored, reports=True),
    "openai-run": Flavour(
        roots=(),
        kinds=_CHAT,
        marks=(Mark("usage"), Mark("error")),
        guess=None,
        also=odd.run,
        reports=True,
    ),
    "perplexity": replace(
        OPENAI_CHAT,
        kinds=(
            *_CHAT_BESIDE,
            kind("output_tokens", "citation_tokens"),
            kind("output_citation_tokens", "citation_tokens"),
            kind("web_searches", "num_search_queries"),
        ),
    ),
    "perplexity-async": replace(
        OPENAI_CHAT,
        roots=(path("response.usage"),),
        model=(path("response.model"), path("model")),
        kinds=(
            *_CHAT_BESIDE,
            kind("output_tokens", "citation_tokens"),
            kind("output_citation_tokens", "citation_tokens"),
            kind("web_searches", "num_search_queries"),
        ),
        guess=None,
        also=odd.job_of_id,
        reports=True,
    ),
    "predictions": Flavour(roots=(), model=(), guess=None, also=odd.predictions),
    "replicate": Flavour(
        roots=(path("metrics"),),
        kinds=(
            kind("compute_ms", "predict_time", scale=1000),
            kind("input_tokens", "input_token_count"),
            kind("output_tokens", "output_token_count"),
            kind("images", "image_count"),
            kind("videos", "video_count"),
        ),
        guess=None,
        also=odd.prediction,
        reports=True,
    ),
    "requests": Flavour(roots=(), guess=None, asks=odd.one_request),
    "routed-chat": replace(OPENAI_CHAT, heads=odd.route),
    "routed-responses": replace(RESPONSES, heads=odd.route),
    "text-generation": Flavour(
        roots=((), path("details")),
        kinds=(
            kind("input_tokens", "_prompt_tokens", "input_length"),
            kind("output_tokens", "_generated_tokens", "generated_tokens"),
        ),
        marks=(Mark("details"), Mark("error")),
        text=texts("text"),
        whole_text=texts("generated_text"),
        heads=odd.token_headers,
        also=odd.prefill,
    ),
    "transcription": TRANSCRIPTION,
    "videos": Flavour(kinds=_BILLED, guess=None, also=odd.video, asks=odd.video_asked, exact=False),
    "xai-chat": replace(OPENAI_CHAT, kinds=_CHAT_BESIDE, also=odd.deferred),
    "xai-video": Flavour(kinds=_BILLED, guess=None, asks=odd.job_of_path, reports=True),
}

_REALTIME: Final = Flavour(
    roots=(path("response.usage"), path("usage")),
    kinds=(
        kind("input_tokens", "input_tokens"),
        kind("input_audio_tokens", "input_token_details.audio_tokens"),
        kind("input_image_tokens", "input_token_details.image_tokens"),
        kind("cache_read_tokens", "input_token_details.cached_tokens"),
        kind(
            "cache_audio_read_tokens",
            "input_token_details.cached_tokens_details.audio_tokens",
        ),
        kind(
            "cache_image_read_tokens",
            "input_token_details.cached_tokens_details.image_tokens",
        ),
        kind("output_tokens", "output_tokens"),
        kind("output_audio_tokens", "output_token_details.audio_tokens"),
        kind("audio_ms", "billable_audio_seconds", "seconds", scale=1000),
        kind("input_audio_ms", "seconds", scale=1000),
        kind("input_text_messages", "input_text_messages"),
    ),
    model=(path("session.model"),),
    adds=True,
    guess=None,
    also=odd.realtime,
)
SOCKETS: Final[Mapping[str, Flavour]] = {
    "characters": Flavour(roots=(), model=(), guess=None, sent=odd.spoken),
    "gemini-live": replace(GEMINI, lazy=False, adds=True, guess=None, binary=True),
    "openai-realtime": _REALTIME,
    "openai-responses": replace(RESPONSES, roots=(path("response.usage"),), adds=True, guess=None),
    "transcription": Flavour(
        roots=(),
        kinds=(
            kind("audio_ms", "duration", "audio_duration_seconds", scale=1000),
            kind("input_audio_ms", "duration", "audio_duration_seconds", scale=1000),
        ),
        model=(),
        marks=(Mark("Metadata"), Mark("Termination")),
        guess=None,
        also=odd.session_ended,
    ),
}
"""Flavours of WebSockets, whose events add up."""
