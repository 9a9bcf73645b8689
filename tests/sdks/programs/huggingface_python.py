"""huggingface_hub's InferenceClient: the router by `base_url`, an endpoint of one's own by `model`.

Arguments: the router's base URL, the endpoint's URL (or ``).
"""

import sys

from huggingface_hub import InferenceClient
from surfaces import DENIED, LIMITED, surface

router, endpoint = sys.argv[1], sys.argv[2]
client = InferenceClient(base_url=router)
own = InferenceClient(model=endpoint)
ASK = [{"role": "user", "content": "hi"}]


@surface
def plain():
    return client.chat_completion(ASK, model="m").choices[0].message.content


@surface
def stream():
    chunks = client.chat_completion(ASK, model="m", stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@surface
def endpoint_plain():
    return own.text_generation("hi")


@surface
def endpoint_stream():
    return "".join(own.text_generation("hi", stream=True))


@surface
def endpoint_chat():
    return own.chat_completion(ASK).choices[0].message.content


@surface
def denied():
    InferenceClient(base_url=router, token=DENIED).chat_completion(ASK, model="m")


@surface
def limited():
    InferenceClient(base_url=router, token=LIMITED).chat_completion(ASK, model="m")
