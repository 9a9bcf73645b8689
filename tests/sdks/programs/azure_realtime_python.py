"""Azure OpenAI's realtime API."""

import asyncio

import openai
from surfaces import DENIED, surface


async def talk(client):
    text = ""
    async with client.realtime.connect(model="my-deployment") as connection:
        await connection.response.create()
        async for event in connection:
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.done":
                return text
    raise EOFError("closed before it was done")


@surface
def realtime():
    return asyncio.run(talk(openai.AsyncAzureOpenAI()))


@surface
def realtime_denied():
    asyncio.run(talk(openai.AsyncAzureOpenAI(api_key=DENIED)))
