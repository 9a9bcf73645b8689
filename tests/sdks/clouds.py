"""Runs of SDKs whose credentials are made: by AWS's signatures, Google's tokens, OAuth 2.

What a client gets is what `lmk env --for …` prints, and the files that it writes; beside it a
person's own choice of project and region.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.fakes.families.clouds import MODEL
from tests.sdks.matrix import SPEECH, TEXT, VECTOR
from tests.sdks.run import Environment, Raises

GOOGLE = {"GOOGLE_CLOUD_PROJECT": "p1", "GOOGLE_CLOUD_LOCATION": "us-central1"}
CLAUDE = {"ANTHROPIC_VERTEX_PROJECT_ID": "p1", "CLOUD_ML_REGION": "us-east5"}
AWS = {
    "AWS_REGION": "us-west-2",
    "AWS_DEFAULT_REGION": "us-west-2",
}  # the client's own; the owner's is chosen
GENERATED = {
    "plain": TEXT,
    "stream": TEXT,
    "argument": TEXT,
    "arguments": TEXT,
    "count": 9,
    "rate_limited": [429, "RESOURCE_EXHAUSTED"],
}
CONVERSED = {
    "converse": [TEXT, 13],
    "converse_arn": TEXT,
    "converse_stream": [TEXT, 13],
    "invoke": TEXT,
    "invoke_stream": TEXT,
    "large": TEXT,
}


@dataclass(frozen=True, slots=True)
class Cloud:
    """One program, and what its process is given."""

    id: str
    program: str
    names: str
    """After `lmk env --for`."""
    expect: Mapping[str, object]
    environment: Environment = "current"
    args: tuple[str, ...] = ()
    own: Mapping[str, str] = field(default_factory=dict)
    """What a person sets beside; `{key_file}` is one of `lmk keys new --vertex-file`, an empty
    text takes a variable away."""
    logins: bool = False
    """Whether the proxy itself logs in everywhere (Entra ID, OAuth 2), where else it has keys."""
    strays: frozenset[str] = frozenset()
    """As of a `Run`."""
    tls: bool = False
    """Whether the client calls by https."""


KEY_FILE = {"GOOGLE_APPLICATION_CREDENTIALS": "{key_file}"}
METADATA = {
    "GOOGLE_APPLICATION_CREDENTIALS": "",
    "GCE_METADATA_HOST": "localhost:{port}",
    "GCE_METADATA_IP": "localhost:{port}",
    "CLOUDSDK_CONFIG": "/nonexistent",
}

CLOUDS = (
    Cloud("vertex", "vertex_python.py", "vertex", GENERATED, own=GOOGLE),
    Cloud("vertex-before", "vertex_python.py", "vertex", GENERATED, "old", own=GOOGLE),
    Cloud("vertex-key-file", "vertex_python.py", "vertex", GENERATED, own=GOOGLE | KEY_FILE),
    Cloud(
        "vertex-express",
        "vertex_python.py",
        "vertex-express",
        {**GENERATED, "denied": Raises("ClientError"), "limited": Raises("ClientError")},
        args=("express",),
        logins=True,
    ),
    Cloud(
        "aiplatform-key-file",
        "aiplatform_python.py",
        "vertex",
        {"plain": TEXT, "stream": TEXT, "predict": VECTOR},
        "old",
        ("{vertex}",),
        KEY_FILE,
        # google-auth asks there for a trust boundary, beside its call, and does without
        strays=frozenset({"iamcredentials.googleapis.com"}),
    ),
    Cloud(
        "vertex-node",
        "vertex_node.cjs",
        "vertex",
        {"plain": TEXT, "stream": TEXT, "argument": TEXT, "count": 9},
        "node",
        own=GOOGLE,
    ),
    Cloud(
        "vertex-node-metadata",
        "vertex_node.cjs",
        "vertex",
        {"plain": TEXT, "stream": TEXT, "argument": TEXT, "count": 9},
        "node",
        own=GOOGLE | METADATA,
        logins=True,
    ),
    Cloud(
        "anthropic",
        "anthropic_clouds_python.py",
        "vertex,bedrock",
        {
            "vertex_plain": TEXT,
            "vertex_stream": [TEXT, 4],
            "bedrock_plain": TEXT,
            "bedrock_stream": [TEXT, 4],
            "bedrock_bearer": TEXT,
        },
        own=CLAUDE | AWS,
    ),
    Cloud(
        "bedrock",
        "bedrock_python.py",
        "bedrock,bedrock-control",
        {
            **CONVERSED,
            "models": [MODEL],
            "denied": Raises("ClientError"),
            "limited": Raises("ClientError"),
        },
        own=AWS,
    ),
    Cloud(
        "bedrock-bearer",
        "bedrock_python.py",
        "bedrock-bearer",
        {**CONVERSED, "denied": Raises("ClientError"), "limited": Raises("ClientError")},
        own={**AWS, "AWS_EC2_METADATA_DISABLED": "true"},
        tls=True,
    ),
    Cloud(
        "vectara-oauth",
        "vectara_oauth_python.py",
        "vectara-oauth",
        {"plain": [f"corpus-{n}" for n in range(1, 5)], "denied": Raises("ApiError")},
        args=("{vectara}",),
        logins=True,
    ),
    Cloud(
        "huggingface-endpoints",
        "huggingface_endpoints_python.py",
        "hfendpoints",
        {"listed": ["llama", "bge"], "paused": "paused", "called": [TEXT, TEXT]},
        args=("{hfendpoints}/v2", "{proxy}/llama", "{proxy}/bge"),
        logins=True,
    ),
    Cloud(
        "azure-entra",
        "azure_python.py",
        "azure",
        {
            "plain": TEXT,
            "stream": TEXT,
            "embeddings": VECTOR,
            "speech": SPEECH,
            "denied": Raises("AuthenticationError"),
            "limited": Raises("PermissionDeniedError"),
        },
        logins=True,
    ),
)
