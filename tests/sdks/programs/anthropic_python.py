"""anthropic for Python; the same program for 0.x (x-api-key) and 2.x (Bearer)."""

import anthropic
from surfaces import DENIED, LIMITED, UPLOAD, digest, surface

client = anthropic.Anthropic(max_retries=0)
ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def strict(key):
    return anthropic.Anthropic(api_key=key, max_retries=0)


@surface
def plain():
    return client.messages.create(**ASK).content[0].text


@surface
def stream():
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        return [text, stream.get_final_message().usage.output_tokens]


@surface
def raw_stream():
    return [event.type for event in client.messages.create(**ASK, stream=True)][-1]


@surface
def count():
    ask = {name: value for name, value in ASK.items() if name != "max_tokens"}
    return client.messages.count_tokens(**ask).input_tokens


@surface
def pages():
    return [model.id for model in client.models.list(limit=2)]


@surface
def upload():
    made = client.beta.files.upload(file=("notes.txt", UPLOAD, "text/plain"))
    return [made.filename, made.size_bytes]


@surface
def download():
    return digest(client.beta.files.download("file_fake1").read())


@surface
def denied():
    strict(DENIED).messages.create(**ASK)


@surface
def limited():
    strict(LIMITED).messages.create(**ASK)


@surface
def rate_limited():
    client.messages.create(**{**ASK, "model": "fake-429"})


@surface
def unknown():
    client.get("/v1/no/such/path", cast_to=object)
