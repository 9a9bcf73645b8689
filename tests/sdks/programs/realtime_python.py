"""openai's realtime API for Python; the same program for the majors 1 and 3."""

import base64

import openai
from surfaces import DENIED, digest, surface


def talk(client, model="gpt-realtime"):
    """Everything up to the end of one response."""
    text, audio = "", b""
    with client.realtime.connect(model=model) as connection:
        connection.session.update(session={"type": "realtime", "instructions": "Be kind."})
        connection.response.create()
        for event in connection:
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.output_audio.delta":
                audio += base64.b64decode(event.delta)
            elif event.type == "response.done":
                return [text, digest(audio), event.response.usage.output_tokens]
    raise EOFError("closed before it was done")


@surface
def realtime():
    return talk(openai.OpenAI())


@surface
def realtime_denied():
    talk(openai.OpenAI(api_key=DENIED))
