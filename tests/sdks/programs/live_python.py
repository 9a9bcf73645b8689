"""google-genai's Live API."""

import asyncio

from google import genai
from surfaces import DENIED, surface


async def talk(client):
    text = ""
    config = {"response_modalities": ["TEXT"]}
    async with client.aio.live.connect(model="gemini-live-fake", config=config) as session:
        await session.send_client_content(
            turns={"role": "user", "parts": [{"text": "hi"}]}, turn_complete=True
        )
        async for message in session.receive():
            text += message.text or ""
            if message.usage_metadata:
                return [text, message.usage_metadata.total_token_count]
    raise EOFError("closed before it was done")


@surface
def live():
    return asyncio.run(talk(genai.Client()))


@surface
def live_denied():
    asyncio.run(talk(genai.Client(api_key=DENIED)))
