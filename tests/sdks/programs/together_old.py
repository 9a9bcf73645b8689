"""together 1.x for Python, which wants /v1 in its base URL."""

import together
from surfaces import DENIED, LIMITED, surface

client = together.Together(max_retries=0)
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@surface
def plain():
    return client.chat.completions.create(**ASK).choices[0].message.content


@surface
def stream():
    chunks = client.chat.completions.create(**ASK, stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@surface
def embeddings():
    return client.embeddings.create(model="m", input="a").data[0].embedding


@surface
def denied():
    together.Together(api_key=DENIED, max_retries=0).chat.completions.create(**ASK)


@surface
def limited():
    together.Together(api_key=LIMITED, max_retries=0).chat.completions.create(**ASK)
