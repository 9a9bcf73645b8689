"""SDKs with few surfaces: ollama (variable), voyageai (argument), ai21 (variable), plain requests.

Arguments: base URLs of voyage, jina and stability.
"""

import os
import sys

import ollama
import requests
import voyageai
from ai21 import AI21Client
from ai21.models.chat import ChatMessage
from surfaces import DENIED, LIMITED, digest, surface

voyage_url, jina_url, stability_url = sys.argv[1:4]
ASK = [{"role": "user", "content": "hi"}]


@surface
def ollama_plain():
    return ollama.chat(model="m", messages=ASK).message.content


@surface
def ollama_stream():
    return "".join(part.message.content for part in ollama.chat("m", messages=ASK, stream=True))


@surface
def ollama_embeddings():
    return list(ollama.embed(model="m", input="a").embeddings[0])


@surface
def ollama_models():
    return [model.model for model in ollama.list().models]


@surface
def ollama_denied():
    wrong = ollama.Client(headers={"Authorization": f"Bearer {DENIED}"})
    try:
        wrong.chat(model="m", messages=ASK)
    except ollama.ResponseError as error:
        return error.status_code


@surface
def voyage_embeddings():
    client = voyageai.Client(base_url=voyage_url)
    return client.embed(["a"], model="m").embeddings[0]


@surface
def voyage_denied():
    voyageai.Client(base_url=voyage_url, api_key=DENIED).embed(["a"], model="m")


@surface
def ai21_plain():
    client = AI21Client()
    made = client.chat.completions.create(
        model="m", messages=[ChatMessage(role="user", content="a")]
    )
    return made.choices[0].message.content


@surface
def ai21_denied():
    client = AI21Client(api_key=DENIED)
    client.chat.completions.create(model="m", messages=[ChatMessage(role="user", content="a")])


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@surface
def jina_embeddings():
    key = os.environ["JINA_API_KEY"]
    body = {"model": "m", "input": ["a"]}
    answer = requests.post(f"{jina_url}/embeddings", json=body, headers=bearer(key), timeout=20)
    return answer.json()["data"][0]["embedding"]


@surface
def stability_download():
    headers = {**bearer(os.environ["STABILITY_API_KEY"]), "Accept": "image/*"}
    url = f"{stability_url}/v2beta/stable-image/generate/core"
    form = {"prompt": (None, "a llama"), "output_format": (None, "png")}
    answer = requests.post(url, files=form, headers=headers, timeout=20)
    return [answer.headers["content-type"], digest(answer.content)]


@surface
def stability_denied():
    return requests.get(
        f"{stability_url}/v1/user/balance", headers=bearer(DENIED), timeout=20
    ).status_code


@surface
def stability_limited():
    url = f"{stability_url}/v2beta/stable-image/generate/core"
    return requests.post(
        url, files={"a": (None, "b")}, headers=bearer(LIMITED), timeout=20
    ).status_code
