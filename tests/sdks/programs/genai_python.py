"""google-genai for Python."""

import io

from google import genai
from google.genai import errors
from surfaces import DENIED, LIMITED, UPLOAD, surface

client = genai.Client()


def strict(key):
    return genai.Client(api_key=key)


@surface
def plain():
    return client.models.generate_content(model="gemini-fake-1", contents="hi").text


@surface
def stream():
    chunks = client.models.generate_content_stream(model="gemini-fake-1", contents="hi")
    return "".join(chunk.text or "" for chunk in chunks)


@surface
def embeddings():
    made = client.models.embed_content(model="gemini-fake-1", contents="hi")
    return made.embeddings[0].values


@surface
def count():
    return client.models.count_tokens(model="gemini-fake-1", contents="hi").total_tokens


@surface
def pages():
    return [model.name for model in client.models.list(config={"page_size": 2})]


@surface
def upload():
    made = client.files.upload(
        file=io.BytesIO(UPLOAD),
        config={"mime_type": "text/plain", "display_name": f"python {genai.__version__}"},
    )
    return [
        made.uri == f"https://generativelanguage.googleapis.com/v1beta/{made.name}",
        made.size_bytes,
    ]


@surface
def denied():
    # a client that nobody holds closes itself before it sends
    wrong = strict(DENIED)
    wrong.models.generate_content(model="gemini-fake-1", contents="hi")


@surface
def limited():
    wrong = strict(LIMITED)
    try:
        wrong.models.generate_content(model="gemini-fake-1", contents="hi")
    except errors.ClientError as error:
        return [error.code, error.status]


@surface
def rate_limited():
    try:
        client.models.generate_content(model="fake-429", contents="hi")
    except errors.ClientError as error:
        return [error.code, error.status]
