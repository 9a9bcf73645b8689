"""openai's Responses API over a WebSocket, sync and async."""

import asyncio

import openai
from surfaces import DENIED, surface


def ask(model="m"):
    return {"type": "response.create", "model": model, "input": "hi"}


@surface
def responses():
    answers = []
    with openai.OpenAI().responses.connect() as connection:
        for _ in range(2):
            connection.send(ask())
            text = ""
            for event in connection:
                if event.type == "response.output_text.delta":
                    text += event.delta
                elif event.type == "response.completed":
                    answers.append([text, event.response.usage.total_tokens])
                    break
    return answers


@surface
def responses_async():
    async def run():
        async with openai.AsyncOpenAI().responses.connect() as connection:
            await connection.send(ask())
            async for event in connection:
                if event.type == "response.completed":
                    return event.response.output_text
        raise EOFError("closed before it was done")

    return asyncio.run(run())


@surface
def responses_denied():
    with openai.OpenAI(api_key=DENIED).responses.connect() as connection:
        connection.send(ask())
        next(iter(connection))
