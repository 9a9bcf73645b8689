"""mistralai for Python: no variable redirects it; the URL is an argument (the first one here)."""

import os
import sys

from surfaces import DENIED, LIMITED, UPLOAD, digest, surface

try:
    from mistralai import Mistral
except ImportError:  # 3.x
    from mistralai.client import Mistral

# 1.x reads no variable by itself: its documentation hands the key over like this
client = Mistral(api_key=os.environ["MISTRAL_API_KEY"], server_url=sys.argv[1])
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@surface
def plain():
    return client.chat.complete(**ASK).choices[0].message.content


@surface
def stream():
    chunks = list(client.chat.stream(**ASK))
    return "".join(c.data.choices[0].delta.content or "" for c in chunks if c.data.choices)


@surface
def embeddings():
    return client.embeddings.create(model="m", inputs=["a"]).data[0].embedding


@surface
def upload():
    made = client.files.upload(file={"file_name": "notes.jsonl", "content": UPLOAD})
    return [made.filename, made.size_bytes]


@surface
def download():
    return digest(client.files.download(file_id="file-1").read())


@surface
def models():
    return [model.id for model in client.models.list().data]


@surface
def denied():
    Mistral(api_key=DENIED, server_url=sys.argv[1]).chat.complete(**ASK)


@surface
def limited():
    Mistral(api_key=LIMITED, server_url=sys.argv[1]).chat.complete(**ASK)
