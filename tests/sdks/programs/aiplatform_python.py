"""google-cloud-aiplatform by REST: its endpoint is an argument, for it reads no variable."""

import sys

import vertexai
from google.cloud import aiplatform
from surfaces import surface
from vertexai.generative_models import GenerativeModel

vertexai.init(project="p1", location="us-central1", api_endpoint=sys.argv[1], api_transport="rest")


@surface
def plain():
    return GenerativeModel("gemini-fake-1").generate_content("hi").text


@surface
def stream():
    chunks = GenerativeModel("gemini-fake-1").generate_content("hi", stream=True)
    return "".join(chunk.text for chunk in chunks)


@surface
def predict():
    client = aiplatform.gapic.PredictionServiceClient(
        client_options={"api_endpoint": sys.argv[1]}, transport="rest"
    )
    place = "projects/p1/locations/us-central1/publishers/google/models/fake-embedding"
    answer = client.predict(endpoint=place, instances=[{"content": "hi"}])
    return list(answer.predictions[0]["embeddings"]["values"])
