"""openai for Python; the same program for the majors 1 and 3."""

import openai
from surfaces import DENIED, LIMITED, UPLOAD, digest, surface

client = openai.OpenAI(max_retries=0)
ASK = [{"role": "user", "content": "hi"}]


def strict(key):
    return openai.OpenAI(api_key=key, max_retries=0)


@surface
def plain():
    return client.chat.completions.create(model="m", messages=ASK).choices[0].message.content


@surface
def stream():
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="m", messages=ASK, stream=True, stream_options=options)
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    return [text, chunks[-1].usage.total_tokens]


@surface
def responses():
    return client.responses.create(model="m", input="hi").output_text


@surface
def responses_stream():
    events = list(client.responses.create(model="m", input="hi", stream=True))
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    return ["".join(deltas), events[-1].type]


@surface
def embeddings():
    return client.embeddings.create(model="m", input=["a", "b"]).data[1].embedding


@surface
def upload():
    made = client.files.create(file=("notes.jsonl", UPLOAD), purpose="batch")
    return [made.filename, made.bytes]


@surface
def transcription():
    return client.audio.transcriptions.create(model="m", file=("a.mp3", UPLOAD)).text


@surface
def download():
    return digest(client.files.content("file-1").read())


@surface
def speech():
    answer = client.audio.speech.create(model="m", voice="alloy", input="hi")
    return digest(answer.read())


@surface
def speech_stream():
    call = client.audio.speech.with_streaming_response
    with call.create(model="m", voice="alloy", input="hi") as answer:
        return digest(b"".join(answer.iter_bytes()))


@surface
def pages():
    return [file.id for file in client.files.list(limit=2)]


@surface
def models():
    return [model.id for model in client.models.list()]


@surface
def denied():
    strict(DENIED).models.list()


@surface
def denied_upload():
    # the denial comes while most of the body is still to be sent
    strict(DENIED).files.create(file=("big.jsonl", b"x" * 20_000_000), purpose="batch")


@surface
def limited():
    strict(LIMITED).chat.completions.create(model="m", messages=ASK)


@surface
def rate_limited():
    client.chat.completions.create(model="fake-429", messages=ASK)


@surface
def unknown():
    client.get("/no/such/path", cast_to=object)
