"""The majors before, and google-cloud-aiplatform by REST: no address, no argument."""

import os

import vertexai
from google.cloud import aiplatform
from huggingface_hub import InferenceClient
from mistralai import Mistral
from surfaces import surface
from vertexai.generative_models import GenerativeModel

ASK = [{"role": "user", "content": "hi"}]
vertexai.init(project="p1", location="us-central1", api_transport="rest")


@surface
def vertex_plain():
    return GenerativeModel("gemini-fake-1").generate_content("hi").text


@surface
def vertex_stream():
    chunks = GenerativeModel("gemini-fake-1").generate_content("hi", stream=True)
    return "".join(chunk.text for chunk in chunks)


@surface
def vertex_predict():
    client = aiplatform.gapic.PredictionServiceClient(
        client_options={"api_endpoint": "us-central1-aiplatform.googleapis.com"}, transport="rest"
    )
    place = "projects/p1/locations/us-central1/publishers/google/models/fake-embedding"
    answer = client.predict(endpoint=place, instances=[{"content": "hi"}])
    return list(answer.predictions[0]["embeddings"]["values"])


@surface
def huggingface_plain():
    return InferenceClient().chat_completion(ASK, model="team/chat").choices[0].message.content


@surface
def mistral_plain():
    client = Mistral(api_key=os.environ["MISTRAL_API_KEY"])
    return client.chat.complete(model="m", messages=ASK).choices[0].message.content
