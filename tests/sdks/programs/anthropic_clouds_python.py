"""anthropic's clients for Vertex AI and Bedrock; the latter by signatures and by bearer token."""

import os

import anthropic
from surfaces import surface

ASK = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
GOOGLE = {"model": "claude-fake@20260101", **ASK}
AWS = {"model": "anthropic.claude-fake-20260101-v1:0", **ASK}
vertex = anthropic.AnthropicVertex(max_retries=0)
bedrock = anthropic.AnthropicBedrock(max_retries=0)


def streamed(client, ask):
    with client.messages.stream(**ask) as answer:
        return ["".join(answer.text_stream), answer.get_final_message().usage.output_tokens]


@surface
def vertex_plain():
    return vertex.messages.create(**GOOGLE).content[0].text


@surface
def vertex_stream():
    return streamed(vertex, GOOGLE)


@surface
def bedrock_plain():
    return bedrock.messages.create(**AWS).content[0].text


@surface
def bedrock_stream():
    return streamed(bedrock, AWS)


@surface
def bedrock_bearer():
    """By plain HTTP, too, which botocore would refuse."""
    by_token = anthropic.AnthropicBedrock(max_retries=0, api_key=os.environ["AWS_SESSION_TOKEN"])
    return by_token.messages.create(**AWS).content[0].text
