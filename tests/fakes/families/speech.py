"""Those who speak and listen: ElevenLabs, Deepgram, AssemblyAI.

ElevenLabs, from https://elevenlabs.io/docs/api-reference: authentication (`xi-api-key`),
text-to-speech/convert (binary audio, streamed), voices (v1 list; v2 search pages by
`next_page_token`), speech-to-text (multipart `file`, `model_id`), errors
(`{"detail": {"status", "message"}}`).
Deepgram, from https://developers.deepgram.com/reference: authentication (`Authorization: Token`),
listen (body is the audio), speak (binary), projects; errors
(`{"err_code", "err_msg", "request_id"}`).
AssemblyAI, from https://www.assemblyai.com/docs/api-reference: a bare key in `Authorization`,
upload (body is the file), transcript submit, get and list (`page_details`); errors (`{"error"}`).
Deepgram's agents and AssemblyAI's further products have hosts of their own, with the same keys.
"""

from __future__ import annotations

from tests.fakes.families.base import Family, Way
from tests.fakes.families.openai import SPEECH, TEXT, compatible
from tests.fakes.wire import Reply, Request, Routes, json_reply

elevenlabs = Routes()
deepgram = Routes()
assemblyai = Routes()


def _audio(content_type: str, *headers: tuple[str, str]) -> Reply:
    chunks = tuple(SPEECH[i : i + 4096] for i in range(0, len(SPEECH), 4096))
    return Reply(headers=(("content-type", content_type), *headers), chunks=chunks)


def _eleven_error(status: int, word: str, message: str) -> Reply:
    return json_reply({"detail": {"status": word, "message": message}}, status)


@elevenlabs(
    "POST",
    "/v1/text-to-speech/{voice}",
    "/v1/text-to-speech/{voice}/stream",
)
def convert(request: Request) -> Reply:
    if "text" not in request.json():
        return _eleven_error(422, "missing", "text is required")
    return _audio("audio/mpeg", ("character-cost", str(len(request.json()["text"]))))


def _voice(number: int) -> dict[str, object]:
    return {"voice_id": f"voice-{number}", "name": f"Voice {number}", "category": "premade"}


@elevenlabs("GET", "/v1/voices")
def voices(_: Request) -> Reply:
    return json_reply({"voices": [_voice(1), _voice(2)]})


@elevenlabs("GET", "/v2/voices")
def voices_search(request: Request) -> Reply:
    """Two pages of two."""
    second = request.query.get("next_page_token") == "second"
    first = 3 if second else 1
    page = {"voices": [_voice(first), _voice(first + 1)], "total_count": 4}
    return json_reply(
        {**page, "has_more": not second, "next_page_token": None if second else "second"}
    )


@elevenlabs("POST", "/v1/speech-to-text")
def eleven_listen(request: Request) -> Reply:
    parts = request.form()
    if "file" not in parts or "model_id" not in parts:
        return _eleven_error(422, "missing", "file and model_id are required")
    text = f"{TEXT} ({len(parts['file'].content)} bytes)"
    return json_reply(
        {"language_code": "en", "language_probability": 1.0, "text": text, "words": []}
    )


def _deepgram_error(status: int, code: str, message: str) -> Reply:
    body = {"err_code": code, "err_msg": message, "request_id": "fake1"}
    return json_reply(body, status, ("dg-request-id", "fake1"))


@deepgram("POST", "/v1/listen")
def deepgram_listen(request: Request) -> Reply:
    alternative = {"transcript": f"{TEXT} ({request.body_length} bytes)", "confidence": 1.0}
    metadata = {
        "request_id": "fake1",
        "sha256": request.body_sha256,
        "created": "2026-01-01T00:00:00.000Z",
        "duration": 1.0,
        "channels": 1,
        "models": [],
        "model_info": {},
    }
    channels = [{"alternatives": [{**alternative, "words": []}]}]
    return json_reply({"metadata": metadata, "results": {"channels": channels}})


@deepgram("POST", "/v1/speak")
def deepgram_speak(request: Request) -> Reply:
    return _audio("audio/mpeg", ("dg-char-count", str(len(request.json().get("text", "")))))


@deepgram("GET", "/v1/projects")
def projects(_: Request) -> Reply:
    return json_reply({"projects": [{"project_id": "project-1", "name": "Fake"}]})


def _transcript(id: str = "fake1", status: str = "completed") -> dict[str, object]:
    return {
        "id": id,
        "status": status,
        "audio_url": "https://cdn.assemblyai.com/upload/fake1",
        "text": TEXT if status == "completed" else None,
        "language_code": "en_us",
        "acoustic_model": "default",
        "language_model": "default",
        "words": [],
        "webhook_auth": False,
        "speed_boost": False,
        "redact_pii": False,
        "summarization": False,
        "auto_highlights": False,
    }


@assemblyai("POST", "/v2/upload")
def assembly_upload(_: Request) -> Reply:
    return json_reply({"upload_url": "https://cdn.assemblyai.com/upload/fake1"})


@assemblyai("POST", "/v2/transcript")
def assembly_submit(request: Request) -> Reply:
    if "audio_url" not in request.json():
        return json_reply({"error": "audio_url is required"}, 400)
    return json_reply(_transcript(status="queued"))


@assemblyai("GET", "/v2/transcript/{id}")
def assembly_get(request: Request) -> Reply:
    return json_reply(_transcript(request.params["id"]))


@assemblyai("GET", "/v2/transcript")
def assembly_list(_: Request) -> Reply:
    item = {
        "id": "fake1",
        "resource_url": "https://api.assemblyai.com/v2/transcript/fake1",
        "status": "completed",
        "created": "2026-01-01T00:00:00.000000",
        "completed": "2026-01-01T00:00:01.000000",
        "audio_url": "https://cdn.assemblyai.com/upload/fake1",
        "error": None,
    }
    page = {
        "limit": 10,
        "result_count": 1,
        "current_url": "https://api.assemblyai.com/v2/transcript?limit=10",
        "prev_url": None,
        "next_url": None,
    }
    return json_reply({"page_details": page, "transcripts": [item]})


def _deepgram(id: str, routes: Routes) -> Family:
    return Family(
        id=id,
        docs="https://developers.deepgram.com/reference/authentication",
        ways=(Way("authorization", "Token {key}"),),
        key="{random}",
        refusal=lambda _: _deepgram_error(401, "INVALID_AUTH", "Invalid credentials."),
        routes=routes,
        unknown=lambda _: _deepgram_error(404, "NOT_FOUND", "Not found."),
    )


def _assemblyai(id: str, routes: Routes) -> Family:
    return Family(
        id=id,
        docs="https://www.assemblyai.com/docs/api-reference/overview#authorization",
        ways=(Way("authorization"),),
        key="{random}",
        refusal=lambda _: json_reply(
            {"error": "Authentication error, API token missing/invalid"}, 401
        ),
        routes=routes,
        unknown=lambda _: json_reply({"error": "Not found"}, 404),
    )


FAMILIES = (
    Family(
        id="elevenlabs",
        docs="https://elevenlabs.io/docs/api-reference/authentication",
        ways=(Way("xi-api-key"),),
        key="sk_{random}",
        refusal=lambda _: _eleven_error(401, "invalid_api_key", "Invalid API key"),
        routes=elevenlabs,
        unknown=lambda _: json_reply({"detail": "Not Found"}, 404),
    ),
    _deepgram("deepgram", deepgram),
    _deepgram("deepgram-agent", Routes()),
    _assemblyai("assemblyai", assemblyai),
    _assemblyai("assemblyai-dictation", Routes()),
    _assemblyai("assemblyai-llm", compatible()),
    _assemblyai("assemblyai-streaming", Routes()),
    _assemblyai("assemblyai-sync", Routes()),
    _assemblyai("assemblyai-tts", Routes()),
)
