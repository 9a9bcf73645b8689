"""openai's AzureOpenAI for Python; 1.x sends the key in two headers."""

import openai
from surfaces import DENIED, LIMITED, digest, surface

client = openai.AzureOpenAI(max_retries=0)
ASK = [{"role": "user", "content": "hi"}]


@surface
def plain():
    return client.chat.completions.create(model="m", messages=ASK).choices[0].message.content


@surface
def stream():
    chunks = client.chat.completions.create(model="m", messages=ASK, stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@surface
def embeddings():
    return client.embeddings.create(model="m", input="a").data[0].embedding


@surface
def speech():
    return digest(client.audio.speech.create(model="m", voice="alloy", input="hi").read())


@surface
def denied():
    wrong = openai.AzureOpenAI(api_key=DENIED, max_retries=0)
    wrong.chat.completions.create(model="m", messages=ASK)


@surface
def limited():
    wrong = openai.AzureOpenAI(api_key=LIMITED, max_retries=0)
    wrong.chat.completions.create(model="m", messages=ASK)
