"""Streams that a budget ends, by the SDKs of several providers; and the call after each."""

import anthropic
import cohere
import groq
import ollama
import openai
from google import genai
from surfaces import surface

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = {"model": "m", "messages": MESSAGES, "max_tokens": 1}
RESPONSE = {"model": "r", "input": "hi", "max_output_tokens": 1}
GENAI = {
    "model": "g",
    "contents": "hi",
    "config": genai.types.GenerateContentConfig(max_output_tokens=1),
}


def gate(name):
    """Has the stream come chunk by chunk, and its end not at all."""
    return {"X-Fake-Gate": f"spent-{name}"}


@surface
def openai_chat():
    client = openai.OpenAI(max_retries=0, default_headers=gate("chat"))
    list(client.chat.completions.create(**CHAT, stream=True))


@surface
def openai_chat_then():
    openai.OpenAI(max_retries=2).chat.completions.create(**CHAT)


@surface
def openai_responses():
    client = openai.OpenAI(max_retries=0, default_headers=gate("responses"))
    list(client.responses.create(**RESPONSE, stream=True))


@surface
def anthropic_messages():
    client = anthropic.Anthropic(max_retries=0, default_headers=gate("messages"))
    list(client.messages.create(**CHAT, stream=True))


@surface
def anthropic_messages_then():
    anthropic.Anthropic(max_retries=2).messages.create(**CHAT)


@surface
def groq_chat():
    client = groq.Groq(max_retries=0, default_headers=gate("groq"))
    list(client.chat.completions.create(**CHAT, stream=True))


@surface
def ollama_chat():
    client = ollama.Client(headers=gate("ollama"))
    list(client.chat(model="o", messages=MESSAGES, stream=True, options={"num_predict": 1}))


@surface
def ollama_chat_then():
    ollama.chat(model="o", messages=MESSAGES, options={"num_predict": 1})


@surface
def genai_content():
    client = genai.Client(http_options={"headers": gate("genai")})
    list(client.models.generate_content_stream(**GENAI))


@surface
def genai_content_then():
    client = genai.Client()
    client.models.generate_content(**GENAI)


@surface
def cohere_chat_then():
    # it has no word for an error in a stream
    list(cohere.ClientV2().chat_stream(**CHAT))
    cohere.ClientV2().chat(**CHAT)
