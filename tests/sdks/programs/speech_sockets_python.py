"""Speech as it is spoken: ElevenLabs, Deepgram and AssemblyAI. The arguments are their URLs."""

import sys

from assemblyai.streaming.v3 import (
    RealTimeEvents,
    RealTimeParameters,
    RealTimeTranscriber,
    RealTimeTranscriberOptions,
)
from deepgram import DeepgramClient
from deepgram.environment import DeepgramClientEnvironment
from elevenlabs import ElevenLabs
from surfaces import DENIED, UPLOAD, digest, surface

elevenlabs_url, deepgram_url, assemblyai_url = sys.argv[1:4]
socket_url = deepgram_url.replace("http", "ws", 1)
place = DeepgramClientEnvironment(
    base=deepgram_url, production=socket_url, agent=socket_url, agent_rest=deepgram_url
)


def speak(**options):
    client = ElevenLabs(base_url=elevenlabs_url, **options)
    audio = client.text_to_speech.convert_realtime(
        "voice-1", text=iter(["hello ", "you"]), model_id="eleven_flash_v2_5"
    )
    return digest(b"".join(audio))


@surface
def elevenlabs():
    return speak()


@surface
def elevenlabs_denied():
    speak(api_key=DENIED)


def listen(client):
    with client.listen.v1.connect(model="nova-3") as connection:
        connection.send_media(UPLOAD)
        connection.send_close_stream()
        for message in connection:
            if message.type == "Results":
                return message.channel.alternatives[0].transcript
    raise EOFError("closed before it was done")


@surface
def deepgram():
    return listen(DeepgramClient(environment=place))


@surface
def deepgram_denied():
    listen(DeepgramClient(environment=place, api_key=DENIED))


def transcribe(key, url=assemblyai_url):
    heard, errors = [], []
    transcriber = RealTimeTranscriber(
        RealTimeTranscriberOptions(
            api_key=key, api_host=url.replace("http", "ws", 1), max_connection_retries=0
        )
    )
    transcriber.on(RealTimeEvents.Turn, lambda _, event: heard.append(event.transcript))
    transcriber.on(RealTimeEvents.Error, lambda _, error: errors.append(error))
    transcriber.connect(RealTimeParameters(sample_rate=16000, speech_model="u3-rt-pro"))
    if errors:
        raise errors[0]
    transcriber.stream([UPLOAD])
    transcriber.disconnect(terminate=True)
    return heard


@surface
def assemblyai():
    import os

    return transcribe(os.environ["ASSEMBLYAI_API_KEY"])


@surface
def assemblyai_denied():
    transcribe(DENIED)
