"""What providers say over WebSockets, each as its documentation has it.

OpenAI Realtime (https://platform.openai.com/docs/guides/realtime-websocket, API reference "Realtime
client events/server events"): `session.created` first; `session.update`, `response.create`; audio
in base64; usage in `response.done`.
OpenAI Responses over WebSocket (https://developers.openai.com/api/docs/guides/websocket-mode):
`response.create` with the body of POST /v1/responses; the events are those of its stream, and usage
is in `response.completed`.
Gemini Live (https://ai.google.dev/api/live): `setup` first, `setupComplete`; `clientContent`;
`serverContent`, `usageMetadata`; JSON in binary frames.
ElevenLabs stream-input (https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input):
text in, base64 audio out, an empty text ends it.
Deepgram listen (https://developers.deepgram.com/reference/speech-to-text/listen-streaming): audio
in, `Results` out; `CloseStream` ends it with `Metadata`.
AssemblyAI streaming v3 (https://www.assemblyai.com/docs/api-reference/streaming-api/streaming-api):
`Begin`, `Turn`, `Termination`.
"""

from __future__ import annotations

import base64
import json

from tests.fakes.families import openai
from tests.fakes.families.openai import SPEECH, TEXT, WORDS
from tests.fakes.socket import Socket, Talk, Talks
from tests.fakes.wire import Reply

REALTIME_USAGE = {
    "total_tokens": 25,
    "input_tokens": 9,
    "output_tokens": 16,
    "input_token_details": {
        "text_tokens": 5,
        "audio_tokens": 4,
        "image_tokens": 0,
        "cached_tokens": 2,
        "cached_tokens_details": {"text_tokens": 2, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 6, "audio_tokens": 10},
}
LIVE_USAGE = {
    "promptTokenCount": 9,
    "responseTokenCount": 4,
    "totalTokenCount": 13,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
    "responseTokensDetails": [{"modality": "TEXT", "tokenCount": 4}],
}


async def realtime(socket: Socket) -> None:
    """A session: each `response.create` is answered by text and audio."""
    model = socket.request.query.get("model") or socket.request.query.get("deployment", "")
    session = {
        "type": "realtime",
        "object": "realtime.session",
        "id": "sess_fake1",
        "model": model,
        "output_modalities": ["audio"],
    }
    await socket.send({"type": "session.created", "event_id": "event_1", "session": session})
    number = 1
    while True:
        event = await socket.json()
        number += 1
        name = {"event_id": f"event_{number}"}
        if event.get("type") == "session.update":
            session |= event["session"]
            await socket.send({"type": "session.updated", **name, "session": session})
        elif event.get("type") == "response.create":
            await _respond(socket, name)
        elif event.get("type") == "fake.ping":
            await socket.ping(event["data"].encode())
        elif event.get("type") == "fake.echo":
            # what a provider's debug page would show: the credential that it was sent
            await socket.send({"type": "error", "error": socket.request.header("authorization")})


async def _respond(socket: Socket, name: dict[str, str]) -> None:
    response: dict[str, object] = {
        "object": "realtime.response",
        "id": "resp_fake1",
        "status": "in_progress",
        "status_details": None,
        "output": [],
        "usage": None,
    }
    place = {
        "response_id": "resp_fake1",
        "item_id": "item_fake1",
        "output_index": 0,
        "content_index": 0,
    }
    await socket.send({"type": "response.created", **name, "response": response})
    for word in WORDS:
        await socket.send({"type": "response.output_text.delta", **name, **place, "delta": word})
    audio = base64.b64encode(SPEECH).decode()
    await socket.send({"type": "response.output_audio.delta", **name, **place, "delta": audio})
    item = {
        "id": "item_fake1",
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": TEXT}],
    }
    done = {**response, "status": "completed", "output": [item], "usage": REALTIME_USAGE}
    await socket.send({"type": "response.done", **name, "response": done})


async def responses(socket: Socket) -> None:
    """The stream of POST /v1/responses, an event a message."""
    while True:
        event = await socket.json()
        if event.pop("type", "") != "response.create":
            continue
        asked = socket.request
        asked.body = json.dumps({**event, "stream": True}).encode()
        reply = openai.responses(asked)
        if reply.chunks is None:
            await socket.send(_error(reply))
            continue
        for chunk in reply.chunks:
            await socket.send(chunk.partition(b"data: ")[2].strip().decode())


def _error(reply: Reply) -> dict[str, object]:
    return {"type": "error", "status": reply.status, "error": json.loads(reply.body)["error"]}


async def live(socket: Socket) -> None:
    setup = (await socket.json()).get("setup", {})
    if not str(setup.get("model", "")).startswith("models/"):
        await socket.close(1007, "setup must be the first message and name a model")
        return
    await socket.send(b'{"setupComplete": {"sessionId": "fake1"}}')
    while True:
        message = await socket.json()
        # Google reads both spellings of a field, and its SDKs send both
        if message.keys().isdisjoint({"clientContent", "client_content", "realtimeInput"}):
            continue
        for word in WORDS:
            turn = {"role": "model", "parts": [{"text": word}]}
            await socket.send(json.dumps({"serverContent": {"modelTurn": turn}}).encode())
        done = {"serverContent": {"turnComplete": True}, "usageMetadata": LIVE_USAGE}
        await socket.send(json.dumps(done).encode())


async def stream_input(socket: Socket) -> None:
    """Audio for the text so far comes when the text has ended."""
    spoken = ""
    while text := (await socket.json()).get("text", ""):
        spoken += text
    for at in range(0, len(SPEECH), 4096):
        audio = base64.b64encode(SPEECH[at : at + 4096]).decode()
        await socket.send({"audio": audio, "isFinal": None, "alignment": None})
    await socket.send({"audio": None, "isFinal": True})
    await socket.close()


async def listen(socket: Socket) -> None:
    heard = 0
    while True:
        message = await socket.receive()
        if isinstance(message, bytes):
            heard += len(message)
            continue
        if json.loads(message).get("type") in ("Finalize", "CloseStream"):
            break
    alternative = {"transcript": f"{TEXT} ({heard} bytes)", "confidence": 1.0, "words": []}
    info = {"name": "fake", "version": "1", "arch": "nova-3"}
    result = {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": 1.0,
        "start": 0.0,
        "is_final": True,
        "speech_final": True,
        "channel": {"alternatives": [alternative]},
        "metadata": {"request_id": "fake1", "model_info": info, "model_uuid": "fake1"},
    }
    metadata = {
        "type": "Metadata",
        "transaction_key": "deprecated",
        "request_id": "fake1",
        "sha256": "0" * 64,
        "created": "2026-01-01T00:00:00.000Z",
        "duration": 1.0,
        "channels": 1,
    }
    await socket.send(result)
    await socket.send(metadata)
    await socket.close()


async def assembly(socket: Socket) -> None:
    await socket.send({"type": "Begin", "id": "fake1", "expires_at": 1_790_000_000})
    heard = 0
    while True:
        message = await socket.receive()
        if isinstance(message, bytes):
            heard += len(message)
            continue
        if json.loads(message).get("type") == "Terminate":
            break
    turn = {
        "type": "Turn",
        "turn_order": 0,
        "turn_is_formatted": True,
        "end_of_turn": True,
        "transcript": f"{TEXT} ({heard} bytes)",
        "end_of_turn_confidence": 1.0,
        "words": [],
    }
    await socket.send(turn)
    await socket.send(
        {"type": "Termination", "audio_duration_seconds": 2, "session_duration_seconds": 3}
    )
    await socket.close()


def openai_talks(base: str = "/v1") -> Talks:
    """Of OpenAI, and of those who speak its API below `base`."""
    talks = Talks()
    talks(f"{base}/realtime", subprotocols=("realtime",))(realtime)
    talks(f"{base}/responses")(responses)
    return talks


def _talks(*ways: tuple[str, Talk]) -> Talks:
    talks = Talks()
    for path, talk in ways:
        talks(path)(talk)
    return talks


_LIVE = "/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent"
_AZURE = openai_talks("/openai/v1")
_AZURE("/openai/realtime")(realtime)

TALKS: dict[str, Talks] = {
    "openai": openai_talks(),
    "azure": _AZURE,
    "xai": openai_talks(),
    # with two slashes, as Google's SDK for Node asks Google itself
    "gemini": _talks((_LIVE, live), (f"/{_LIVE}", live)),
    "elevenlabs": _talks(("/v1/text-to-speech/{voice}/stream-input", stream_input)),
    "deepgram": _talks(("/v1/listen", listen)),
    "assemblyai-streaming": _talks(("/v3/ws", assembly)),
}
"""By family; others have none."""
