"""boto3's bedrock-runtime and bedrock, by whatever credentials the environment has."""

import json
import os

import boto3
from botocore.config import Config
from surfaces import DENIED, LIMITED, surface

MODEL = "anthropic.claude-fake-20260101-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/fake.1"
ONCE = Config(retries={"max_attempts": 1, "mode": "standard"})
client = boto3.client("bedrock-runtime", config=ONCE)
ASK = [{"role": "user", "content": [{"text": "hi"}]}]
CLAUDE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}


def by(key):
    """A client with a local key as its bearer token where that is the way, else its pair."""
    if "AWS_BEARER_TOKEN_BEDROCK" in os.environ:
        os.environ["AWS_BEARER_TOKEN_BEDROCK"] = key
    return boto3.client(
        "bedrock-runtime",
        config=ONCE,
        aws_access_key_id=f"LMK{key.split('-')[2]}",
        aws_secret_access_key=key,
        aws_session_token=key,
    )


@surface
def converse():
    said = client.converse(modelId=MODEL, messages=ASK)
    return [said["output"]["message"]["content"][0]["text"], said["usage"]["totalTokens"]]


@surface
def converse_arn():
    return client.converse(modelId=ARN, messages=ASK)["output"]["message"]["content"][0]["text"]


@surface
def converse_stream():
    text, tokens = "", 0
    for event in client.converse_stream(modelId=MODEL, messages=ASK)["stream"]:
        text += event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
        tokens = event.get("metadata", {}).get("usage", {}).get("totalTokens", tokens)
    return [text, tokens]


@surface
def invoke():
    said = client.invoke_model(modelId=MODEL, body=json.dumps(CLAUDE))
    return json.loads(said["body"].read())["content"][0]["text"]


@surface
def invoke_stream():
    text = ""
    said = client.invoke_model_with_response_stream(modelId=MODEL, body=json.dumps(CLAUDE))
    for event in said["body"]:
        part = json.loads(event["chunk"]["bytes"])
        text += part.get("delta", {}).get("text", "")
    return text


@surface
def large():
    """More than is read for policy: a signature covers all of it."""
    long = {**CLAUDE, "messages": [{"role": "user", "content": "x" * 9_000_000}]}
    said = client.invoke_model(modelId=MODEL, body=json.dumps(long))
    return json.loads(said["body"].read())["content"][0]["text"]


@surface
def denied():
    by(DENIED).converse(modelId=MODEL, messages=ASK)


@surface
def limited():
    by(LIMITED).converse(modelId=MODEL, messages=ASK)


if "AWS_ENDPOINT_URL_BEDROCK" in os.environ:

    @surface
    def models():
        """Of the control plane, which is another service."""
        found = boto3.client("bedrock", config=ONCE).list_foundation_models(byProvider="a")
        return [model["modelId"] for model in found["modelSummaries"]]
