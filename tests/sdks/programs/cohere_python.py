"""cohere for Python; 5 and 7. The base URL is read when the module is imported."""

import cohere
from surfaces import DENIED, LIMITED, UPLOAD, surface

client = cohere.ClientV2()
v1 = cohere.Client()
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@surface
def plain():
    return client.chat(**ASK).message.content[0].text


@surface
def stream():
    events = list(client.chat_stream(**ASK))
    deltas = [e.delta.message.content.text for e in events if e.type == "content-delta"]
    return ["".join(deltas), events[-1].type]


@surface
def v1_plain():
    return v1.chat(message="hi").text


@surface
def v1_stream():
    events = list(v1.chat_stream(message="hi"))
    return "".join(e.text for e in events if e.event_type == "text-generation")


@surface
def embeddings():
    made = client.embed(
        model="m", texts=["a"], input_type="search_query", embedding_types=["float"]
    )
    return made.embeddings.float_[0]


@surface
def rerank():
    found = client.rerank(model="m", query="q", documents=["a", "b"])
    return [result.index for result in found.results]


@surface
def pages():
    first = client.models.list()
    second = client.models.list(page_token=first.next_page_token)
    return [model.name for model in (*first.models, *second.models)]


@surface
def upload():
    return client.datasets.create(name="d", type="embed-input", data=("d.csv", UPLOAD)).id


@surface
def denied():
    cohere.ClientV2(api_key=DENIED).chat(**ASK)


@surface
def limited():
    cohere.ClientV2(api_key=LIMITED).chat(**ASK)


@surface
def rate_limited():
    client.chat(**{**ASK, "model": "fake-429"}, request_options={"max_retries": 0})
