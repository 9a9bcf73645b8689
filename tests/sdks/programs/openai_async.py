"""openai for Python, asynchronous, several calls at once on one pool of connections."""

import asyncio

import openai
from surfaces import surface

ASK = [{"role": "user", "content": "hi"}]


async def _one(client):
    stream = await client.chat.completions.create(model="m", messages=ASK, stream=True)
    return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])


async def _many():
    async with openai.AsyncOpenAI(max_retries=0) as client:
        return await asyncio.gather(*(_one(client) for _ in range(20)))


@surface
def stream():
    return sorted(set(asyncio.run(_many())))
