"""elevenlabs for Python (REST): the URL is an argument; the key is read at import."""

import sys

from elevenlabs.client import ElevenLabs
from surfaces import DENIED, LIMITED, UPLOAD, digest, surface

client = ElevenLabs(base_url=sys.argv[1])


@surface
def download():
    return digest(b"".join(client.text_to_speech.convert("voice-1", text="hi")))


@surface
def stream():
    return digest(b"".join(client.text_to_speech.stream("voice-1", text="hi")))


@surface
def plain():
    return [voice.voice_id for voice in client.voices.get_all().voices]


@surface
def pages():
    first = client.voices.search()
    second = client.voices.search(next_page_token=first.next_page_token)
    return [voice.voice_id for voice in (*first.voices, *second.voices)]


@surface
def upload():
    return client.speech_to_text.convert(model_id="scribe_v1", file=("a.mp3", UPLOAD)).text


@surface
def denied():
    ElevenLabs(base_url=sys.argv[1], api_key=DENIED).voices.get_all()


@surface
def limited():
    wrong = ElevenLabs(base_url=sys.argv[1], api_key=LIMITED)
    list(wrong.text_to_speech.convert("voice-1", text="hi"))
