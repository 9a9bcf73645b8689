"""fal-client for Python."""

import fal_client
from surfaces import DENIED, LIMITED, surface

ASK = {"prompt": "hi"}


@surface
def plain():
    return fal_client.run("fal-ai/flux/dev", arguments=ASK)["images"][0]["url"]


@surface
def stream():
    return "".join(event["output"] for event in fal_client.stream("fal-ai/flux/dev", ASK))


@surface
def subscribe():
    return fal_client.subscribe("fal-ai/flux/dev", ASK)["prompt"]


@surface
def queue():
    handle = fal_client.submit("fal-ai/flux/dev", ASK)
    handle.cancel()
    states = [type(event).__name__ for event in handle.iter_events()]
    return [states, handle.get()["prompt"]]


@surface
def denied():
    fal_client.SyncClient(key=DENIED).run("fal-ai/flux/dev", ASK)


@surface
def limited():
    fal_client.SyncClient(key=LIMITED).run("fal-ai/flux/dev", ASK)
