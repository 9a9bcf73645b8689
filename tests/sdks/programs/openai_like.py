"""SDKs that were generated like openai's: groq, together, cerebras, perplexity, writer, fireworks.

The argument names the package and its client, e.g. `groq.Groq`.
"""

import importlib
import sys

from surfaces import DENIED, LIMITED, UPLOAD, digest, surface

package, _, name = sys.argv[1].rpartition(".")
wanted = sys.argv[2].split(",")
Client = getattr(importlib.import_module(package), name)
client = Client(max_retries=0)
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def chat(client, **more):
    made = getattr(client.chat, "completions", None) or client.chat
    return (made.create if hasattr(made, "create") else made.chat)(**{**ASK, **more})


def plain():
    return chat(client).choices[0].message.content


def stream():
    chunks = chat(client, stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def embeddings():
    return client.embeddings.create(model="m", input="a").data[0].embedding


def upload():
    return client.audio.transcriptions.create(model="m", file=("a.mp3", UPLOAD)).text


def speech():
    return digest(client.audio.speech.create(model="m", voice="v", input="hi").read())


def models():
    found = client.models.list()
    return [model.id for model in getattr(found, "data", None) or getattr(found, "models", found)]


def rerank():
    found = client.rerank.create(model="m", query="q", documents=["a", "b"])
    return [result.index for result in found.results]


def denied():
    chat(Client(api_key=DENIED, max_retries=0))


def limited():
    chat(Client(api_key=LIMITED, max_retries=0))


def rate_limited():
    chat(client, model="fake-429")


for call in wanted:
    surface(globals()[call])
