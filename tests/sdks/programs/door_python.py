"""SDKs that no variable redirects, as their documentation writes them: no address, no argument."""

import os

import xai_sdk
import xai_sdk.chat
from deepgram import DeepgramClient
from elevenlabs.client import ElevenLabs
from huggingface_hub import InferenceClient
from mistralai.client import Mistral
from openrouter import OpenRouter
from surfaces import DENIED, LIMITED, UPLOAD, digest, surface
from vectara import Vectara
from voyageai import Client as Voyage

ASK = [{"role": "user", "content": "hi"}]
MISTRAL = {"model": "m", "messages": ASK}
mistral = Mistral(api_key=os.environ["MISTRAL_API_KEY"])
hugging_face = InferenceClient()
openrouter = OpenRouter(api_key=os.environ["OPENROUTER_API_KEY"])
elevenlabs = ElevenLabs()
deepgram = DeepgramClient()


@surface
def huggingface_plain():
    # which provider serves it is asked for at the Hub
    return hugging_face.chat_completion(ASK, model="team/chat").choices[0].message.content


@surface
def huggingface_stream():
    chunks = hugging_face.chat_completion(ASK, model="team/chat", stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@surface
def huggingface_denied():
    InferenceClient(token=f"hf_{DENIED}").chat_completion(ASK, model="team/chat")


@surface
def mistral_plain():
    return mistral.chat.complete(**MISTRAL).choices[0].message.content


@surface
def mistral_stream():
    chunks = list(mistral.chat.stream(**MISTRAL))
    return "".join(c.data.choices[0].delta.content or "" for c in chunks if c.data.choices)


@surface
def mistral_upload():
    made = mistral.files.upload(file={"file_name": "notes.jsonl", "content": UPLOAD})
    return [made.filename, made.size_bytes]


@surface
def mistral_placeholder():
    # the tunnel has shown the key: what stands here is nothing
    return Mistral(api_key="placeholder").chat.complete(**MISTRAL).choices[0].message.content


@surface
def mistral_denied():
    Mistral(api_key=DENIED).chat.complete(**MISTRAL)


@surface
def mistral_other():
    # a valid key, and another than the tunnel's
    Mistral(api_key=LIMITED).chat.complete(**MISTRAL)


@surface
def openrouter_plain():
    return openrouter.chat.send(model="m", messages=ASK).choices[0].message.content


@surface
def vectara_key():
    return [corpus.key for corpus in Vectara().corpora.list()]


@surface
def vectara_oauth():
    client = Vectara(client_id="any", client_secret="placeholder")
    return [corpus.key for corpus in client.corpora.list()]


@surface
def voyage():
    return Voyage().embed(["a"], model="m").embeddings[0]


@surface
def elevenlabs_download():
    return digest(b"".join(elevenlabs.text_to_speech.convert("voice-1", text="hi")))


@surface
def elevenlabs_socket():
    audio = elevenlabs.text_to_speech.convert_realtime(
        "voice-1", text=iter(["hello ", "you"]), model_id="eleven_flash_v2_5"
    )
    return digest(b"".join(audio))


@surface
def deepgram_upload():
    made = deepgram.listen.v1.media.transcribe_file(request=UPLOAD, model="nova-3")
    return made.results.channels[0].alternatives[0].transcript


@surface
def deepgram_socket():
    with deepgram.listen.v1.connect(model="nova-3") as connection:
        connection.send_media(UPLOAD)
        connection.send_close_stream()
        for message in connection:
            if message.type == "Results":
                return message.channel.alternatives[0].transcript
    raise EOFError("closed before it was done")


@surface
def xai_refused():
    chat = xai_sdk.Client(timeout=30).chat.create(model="m")
    chat.append(xai_sdk.chat.user("hi"))
    chat.sample()
