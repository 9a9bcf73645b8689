"""huggingface_hub: the management of dedicated endpoints, and two of them at prefixes of their own.

Arguments: the management's URL, then the endpoints'. Its address is a constant of the package.
"""

import sys

from huggingface_hub import HfApi, InferenceClient, constants
from surfaces import surface

constants.INFERENCE_ENDPOINTS_ENDPOINT = sys.argv[1]
api = HfApi()


@surface
def listed():
    return [endpoint.name for endpoint in api.list_inference_endpoints(namespace="team")]


@surface
def paused():
    return api.pause_inference_endpoint("llama", namespace="team").status


@surface
def called():
    return [InferenceClient(model=url).text_generation("hi") for url in sys.argv[2:]]
