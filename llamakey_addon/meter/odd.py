"""What tables of paths cannot say: figures in headers and in requests, lists to count, work whose
figures come later.

`also` functions get each document or event that was parsed, `heads` the answer's headers, `asks`
the tally when a successful answer has ended, `guess` the counts that may lack something.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from llamakey_addon.meter.figures import Kind, amount, counts_of, find, path

if TYPE_CHECKING:
    from llamakey_addon.meter.flavour import Named
    from llamakey_addon.meter.tally import Tally

type Document = Mapping[str, Any]

_AUDIO_BYTES_PER_S: Final = 16_000
"""Of a recording whose length nobody tells: MP3 at 128 kbit/s. Speech is mostly smaller."""


def _dict(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[Document]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value[:256] if isinstance(value, str) else ""


def _number(headers: Named, *names: bytes) -> int | None:
    for name in names:
        if (value := headers.get(name, b"")).strip().isdigit():
            return amount(int(value[:20]))
    return None


# --- chat -----------------------------------------------------------------------------------------


def own_key(tally: Tally, document: Document) -> None:
    """OpenRouter with a key of the account's own at the provider: `cost` is its fee alone, and the
    provider bills the rest."""
    usage = document.get("usage")
    if isinstance(usage, dict) and usage.get("is_byok") is True:
        tally.put("_own_key_cost", find(usage, ("cost_details", "upstream_inference_cost")))


def route(tally: Tally, headers: Named) -> None:
    """Which provider a router took: from its answer's header or the request's path."""
    chosen = tally.asked.params.get("provider", "")
    if b"x-inference-provider" in headers:
        chosen = headers[b"x-inference-provider"].decode("ascii", "replace").strip()
    if chosen:
        tally.terms["route"] = chosen[:64].lower()


def response(tally: Tally, document: Document) -> None:
    """A Responses object: searches are billed by the call, and what runs in the background is
    fetched later, maybe more than once."""
    inner = document.get("response")
    answer = inner if isinstance(inner, dict) else document
    own_key(tally, answer)
    if answer.get("background") is True:
        tally.job = _text(answer.get("id"))
        tally.later = True
    if not isinstance(answer.get("usage"), dict):
        return
    if tally.partial and tally.asked.document.get("tools"):
        tally.failed = True  # what was dropped may have been calls of tools
    calls = _dicts(answer.get("output"))
    searches = [
        call
        for call in calls
        if call.get("type") == "web_search_call"
        and _dict(call.get("action")).get("type") in (None, "search")
    ]
    files = [call for call in calls if call.get("type") == "file_search_call"]
    for name, found in (("web_searches", searches), ("storage_searches", files)):
        if found:
            tally.counts[name] = len(found)


def stored(tally: Tally, document: Document) -> None:
    """A Responses object that is fetched: it was paid when it was made, but for what ran in the
    background."""
    response(tally, document)
    if not tally.job:
        tally.clear()
        tally.counts.clear()


def deferred(tally: Tally, document: Document) -> None:
    """xAI: a chat whose answer is fetched later, once."""
    own_key(tally, document)
    if "request_id" in document and "choices" not in document:
        tally.later = True


def iterations(tally: Tally, document: Document) -> None:
    """Anthropic: a message's figures leave out compactions, and advisors, which have a model of
    their own."""
    own_key(tally, document)
    usage = document.get("usage") or find(document, ("message", "usage"))
    beside: dict[str, int] = {}
    for one in _dicts(_dict(usage).get("iterations")):
        kind = one.get("type")
        if kind not in ("compaction", "advisor_message"):
            continue
        tally.failed |= kind == "advisor_message"
        for name, value in one.items():
            number = amount(value)
            if number is not None:
                beside[name] = beside.get(name, 0) + number
    if beside:
        tally.put("_beside", beside)


def grounding(tally: Tally, document: Document) -> None:
    """Gemini's searches: as many as it names. Gemini 2 bills a grounded prompt once, however many
    it made, so that its figure may be too high."""
    searches = 0
    for candidate in _dicts(document.get("candidates")):
        queries = find(candidate, ("groundingMetadata", "webSearchQueries"))
        searches += len(queries) if isinstance(queries, list) else 0
    if searches > tally.counts.get("web_searches", 0):
        tally.counts["web_searches"] = searches


def gemini_tier(tally: Tally, headers: Named) -> None:
    if tier := headers.get(b"x-gemini-service-tier", b""):
        tally.terms["service_tier"] = tier.decode("ascii", "replace").strip().lower()[:64]


def recogniser(
    tables: Mapping[str, tuple[Kind, ...]],
) -> Callable[[Tally, Document], None]:
    """For answers of unknown paths: by the first of these members that a usage object has."""
    places = [
        path(place)
        for place in ("usage", "usageMetadata", "message.usage", "response.usage", "x_groq.usage")
    ]

    def recognise(tally: Tally, document: Document) -> None:
        for place in places:
            usage = find(document, place)
            if not isinstance(usage, dict):
                continue
            for name, kinds in tables.items():
                if name in usage:
                    tally.counts.update(counts_of(usage, kinds))
                    tally.said = True
                    break

    return recognise


# --- Google's and AWS's own -----------------------------------------------------------------------


def predictions(tally: Tally, document: Document) -> None:
    """Vertex AI's: embeddings with their tokens, or images."""
    for one in _dicts(document.get("predictions")):
        tokens = amount(find(one, path("embeddings.statistics.token_count")))
        tally.add({"images": 1} if tokens is None else {"input_tokens": tokens})
        tally.said = True


def bedrock_tokens(tally: Tally, headers: Named) -> None:
    for header, name in (
        (b"x-amzn-bedrock-input-token-count", "inputTokenCount"),
        (b"x-amzn-bedrock-output-token-count", "outputTokenCount"),
        (b"x-amzn-bedrock-cache-read-input-token-count", "cacheReadInputTokenCount"),
        (b"x-amzn-bedrock-cache-write-input-token-count", "cacheWriteInputTokenCount"),
    ):
        count = _number(headers, header)
        if count is not None:
            tally.put(name, count)
            tally.said = True


# --- text generation and embeddings of Hugging Face -----------------------------------------------


def token_headers(tally: Tally, headers: Named) -> None:
    """TGI's and TEI's headers."""
    read = _number(headers, b"x-prompt-tokens", b"x-compute-tokens")
    written = _number(headers, b"x-generated-tokens")
    if read is not None:
        tally.put("_prompt_tokens", read)
        tally.said = True
    if written is not None:
        tally.put("_generated_tokens", written)


def prefill(tally: Tally, document: Document) -> None:
    tokens = find(document, ("details", "prefill"))
    if isinstance(tokens, list) and tokens and "_prompt_tokens" not in tally.usage:
        tally.put("_prompt_tokens", len(tokens))


# --- images, videos, sound ------------------------------------------------------------------------


def images(tally: Tally, document: Document) -> None:
    """Count the images of an answer, in any provider's list."""
    count = 0
    for name in ("data", "artifacts", "images", "predictions"):
        found = document.get(name)
        count += len(found) if isinstance(found, list) else 0
    if isinstance(document.get("image"), str) or _text(document.get("type")).endswith(".completed"):
        count += 1
    if count:
        tally.add({"images": count})
        tally.said = True
    if document.get("svg_usage"):
        tally.failed = True  # a second model's tokens
    own_key(tally, document)


def images_asked(tally: Tally) -> None:
    """Where the answer is the image, or too long to count: as many as were asked for."""
    if "images" not in tally.counts:
        asked = tally.asked
        tally.add({"images": asked.count("n", asked.count("samples", 1))})
        tally.said = True


def video(tally: Tally, document: Document) -> None:
    length = document.get("seconds")
    seconds = int(length) if isinstance(length, str) and length.isdigit() else length
    if (length_ms := amount(seconds)) is not None:
        tally.counts["video_ms"] = length_ms * 1000


def video_asked(tally: Tally) -> None:
    """A video that was ordered. Whether it comes to be is seen later."""
    tally.counts["videos"] = 1
    if "video_ms" not in tally.counts:
        video(tally, {"seconds": tally.asked.document.get("seconds")})
    tally.said = True


def billed_characters(tally: Tally, headers: Named) -> None:
    """ElevenLabs, Deepgram and AssemblyAI say in a header how many characters they bill."""
    count = _number(headers, b"character-cost", b"dg-char-count", b"x-tts-billed-characters")
    if count is not None:
        tally.counts["input_characters"] = count
        tally.said = True


def characters_asked(tally: Tally) -> None:
    if "input_characters" not in tally.counts:
        count = tally.asked.characters("input", "text", "inputs", "prompt")
        if count:
            tally.counts["input_characters"] = count
            tally.said = True


def sound(tally: Tally, document: Document) -> None:
    """The length of a recording that was written down."""
    words = _dicts(document.get("words"))
    if words and amount(words[-1].get("end")) is not None:
        tally.put("_words_end", words[-1]["end"])
        tally.said = True
    channels = find(document, ("results", "channels"))
    metadata = _dict(document.get("metadata"))
    if isinstance(channels, list) and len(channels) > 1 and amount(metadata.get("duration")):
        # Deepgram bills each channel that it is asked to hear by itself
        tally.put("metadata", {"duration": metadata["duration"] * len(channels)})


def guess_sound(tally: Tally, counts: dict[str, int]) -> None:
    """From the upload's size, where neither time nor tokens are told."""
    if "audio_ms" not in counts and "input_tokens" not in counts:
        counts["audio_ms"] = tally.asked.length * 1000 // _AUDIO_BYTES_PER_S
        counts["input_audio_ms"] = counts["audio_ms"]


# --- work that is fetched when it is done ---------------------------------------------------------


def transcript(tally: Tally, document: Document) -> None:
    """AssemblyAI: a transcript has its length before it is done; it is billed when it is."""
    if document.get("status") == "completed":
        tally.job = _text(document.get("id"))
    else:
        tally.clear()


def prediction(tally: Tally, document: Document) -> None:
    if isinstance(document.get("metrics"), dict):
        tally.job = _text(document.get("id"))


def job_of_id(tally: Tally, document: Document) -> None:
    if tally.said:
        tally.job = _text(document.get("id"))


def job_of_path(tally: Tally) -> None:
    tally.job = "/".join(tally.asked.params.values())


def interaction(tally: Tally, document: Document) -> None:
    found = _dict(document.get("interaction")) or document
    tally.later = found.get("status") in ("in_progress", "queued")
    if isinstance(found.get("usage"), dict):
        tally.job = _text(found.get("id"))


def run(tally: Tally, document: Document) -> None:
    """A run of an assistant; its steps tell parts of the same."""
    usage = document.get("usage")
    if document.get("object") == "thread.run" and isinstance(usage, dict):
        tally.merge(usage)
        tally.said = True
        tally.job = _text(document.get("id"))


def openai_batch(tally: Tally, document: Document) -> None:
    usage = document.get("usage")
    ended = document.get("status") in ("completed", "expired", "cancelled", "failed")
    if document.get("object") == "batch" and ended and isinstance(usage, dict):
        tally.merge(usage)
        tally.said = True
        results = _text(document.get("output_file_id"))
        tally.job = f"file:{results}" if results else _text(document.get("id"))
        tally.terms["processing"] = "batch"


def batch(tally: Tally) -> None:
    """Anthropic's results of a batch, whose id is in the path."""
    tally.job = tally.asked.params.get("id", "")
    tally.terms["processing"] = "batch"


def batch_file(tally: Tally) -> None:
    """A batch's results in a file, whose id is in the path. The batch itself may have told."""
    params = tally.asked.params
    id = params.get("id") or params.get("rest", "").removesuffix("/content")
    tally.job = f"file:{id.removesuffix(':download')}"
    tally.terms["processing"] = "batch"


def result_line(tally: Tally, document: Document) -> None:
    """One result in it. Of several models the last is named, so that the cost is a guess."""
    if isinstance(document.get("response"), dict):
        tally.add({"requests": 1})
    for place in ("response.body.model", "response.modelVersion"):
        model = find(document, path(place))
        if isinstance(model, str):
            tally.mixed |= bool(tally.first) and tally.first != model
            tally.first = tally.first or model


def batch_line(tally: Tally, document: Document) -> None:
    """One result. Of several models only the last is named, so that the cost is a guess."""
    model = find(document, ("result", "message", "model"))
    if isinstance(model, str):
        tally.mixed |= bool(tally.first) and tally.first != model
        tally.first = tally.first or model


def gemini_batch(tally: Tally, document: Document) -> None:
    """Results that stand in the batch itself; those in a file come without a name for their
    batch."""
    results = find(document, path("response.inlinedResponses.inlinedResponses"))
    for result in _dicts(results):
        answer = _dict(result.get("response"))
        usage = answer.get("usageMetadata")
        if isinstance(usage, dict):
            tally.add(counts_of(usage, tally.flavour.kinds))
            tally.model = _text(answer.get("modelVersion")) or tally.model
            tally.said = True
            tally.job = _text(document.get("name"))
            tally.terms["processing"] = "batch"


# --- WebSockets -----------------------------------------------------------------------------------


def realtime(tally: Tally, document: Document) -> None:
    """OpenAI's Realtime: what was said to it is written down by another model than the session's,
    so that its part of the cost is a guess."""
    if _text(document.get("type")).endswith("input_audio_transcription.completed"):
        tally.failed = True


def session_ended(tally: Tally, document: Document) -> None:
    """Deepgram's and AssemblyAI's last message has the whole length; others have a piece's."""
    if document.get("type") in ("Metadata", "Termination"):
        tally.merge(document)
        tally.said = bool(counts_of(document, tally.flavour.kinds))


def spoken(tally: Tally, text: bytes) -> None:
    """A text that is sent to be spoken."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    said = document.get("text") if isinstance(document, dict) else None
    if isinstance(said, str) and said.strip():
        tally.add({"input_characters": len(said)})
        tally.said = True


# --- by the request -------------------------------------------------------------------------------


def annotated(tally: Tally, document: Document) -> None:
    """Pages of OCR that were annotated too, which has a price of its own."""
    asked = tally.asked.document
    pages = amount(find(document, ("usage_info", "pages_processed")))
    if pages and (asked.get("document_annotation_format") or asked.get("bbox_annotation_format")):
        tally.counts["input_annotated_document_pages"] = pages


def one_request(tally: Tally) -> None:
    """What is billed by the request, or in a way that no answer tells."""
    if not tally.asked.looks:
        tally.counts["requests"] = 1
        tally.said = True
