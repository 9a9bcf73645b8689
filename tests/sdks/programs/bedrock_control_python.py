"""boto3's bedrock: the control plane."""

import boto3
from surfaces import surface


@surface
def models():
    found = boto3.client("bedrock").list_foundation_models(byProvider="anthropic")
    return [model["modelId"] for model in found["modelSummaries"]]
