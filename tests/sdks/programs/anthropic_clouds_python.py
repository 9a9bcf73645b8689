"""anthropic's clients for Vertex AI (argument `vertex`) and Bedrock (`bedrock`)."""

import sys

import anthropic
from surfaces import surface

if sys.argv[1] == "vertex":
    client = anthropic.AnthropicVertex(max_retries=0)
    MODEL = "claude-fake@20260101"
else:
    client = anthropic.AnthropicBedrock(max_retries=0)
    MODEL = "anthropic.claude-fake-20260101-v1:0"
ASK = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@surface
def plain():
    return client.messages.create(**ASK).content[0].text


@surface
def stream():
    with client.messages.stream(**ASK) as answer:
        return ["".join(answer.text_stream), answer.get_final_message().usage.output_tokens]
