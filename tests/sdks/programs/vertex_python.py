"""google-genai for Python against Vertex AI; an argument `express` for its express mode."""

import os
import sys

from google import genai
from google.genai import errors
from surfaces import DENIED, LIMITED, surface

EXPRESS = sys.argv[1:] == ["express"]
MODEL = "gemini-fake-1"
client = genai.Client()


@surface
def plain():
    return client.models.generate_content(model=MODEL, contents="hi").text


@surface
def stream():
    chunks = client.models.generate_content_stream(model=MODEL, contents="hi")
    return "".join(chunk.text or "" for chunk in chunks)


@surface
def argument():
    told = genai.Client(vertexai=True)
    return told.models.generate_content(model=MODEL, contents="hi").text


@surface
def arguments():
    if EXPRESS:
        told = genai.Client(vertexai=True, api_key=os.environ["GOOGLE_API_KEY"])
    else:
        told = genai.Client(vertexai=True, project="p1", location="europe-west4")
    return told.models.generate_content(model=MODEL, contents="hi").text


@surface
def count():
    return client.models.count_tokens(model=MODEL, contents="hi").total_tokens


@surface
def rate_limited():
    try:
        client.models.generate_content(model="fake-429", contents="hi")
    except errors.ClientError as error:
        return [error.code, error.status]


if EXPRESS:

    @surface
    def denied():
        wrong = genai.Client(vertexai=True, api_key=DENIED)
        wrong.models.generate_content(model=MODEL, contents="hi")

    @surface
    def limited():
        wrong = genai.Client(vertexai=True, api_key=LIMITED)
        wrong.models.generate_content(model=MODEL, contents="hi")
