"""Pinecone.

Shapes from https://docs.pinecone.io/reference/api/2026-07/: describe_index (its `host` is a host
name alone), list_indexes, upsert, query, describe_index_stats, embed; errors are
`{"error": {"code", "message"}, "status"}`. An index's host stands before the path, as behind the
proxy.
"""

from __future__ import annotations

from tests.fakes.families.base import Family, Way
from tests.fakes.families.openai import VECTOR
from tests.fakes.wire import Reply, Request, Routes, json_reply

routes = Routes()
HOST = "docs-example-4zo0ijk.svc.us-east1-aws.pinecone.io"


def error(status: int, code: str, message: str) -> Reply:
    return json_reply({"error": {"code": code, "message": message}, "status": status}, status)


def refusal(_: Request) -> Reply:
    return error(401, "UNAUTHENTICATED", "Invalid API Key")


def unknown(request: Request) -> Reply:
    return error(404, "NOT_FOUND", f"Resource {request.path} not found")


def _index(name: str) -> dict[str, object]:
    return {
        "id": "3f8a6f64-5717-4562-b3fc-2c963f66afa6",
        "name": name,
        "vector_type": "dense",
        "metric": "cosine",
        "dimension": len(VECTOR),
        "status": {"ready": True, "state": "Ready"},
        "host": HOST,
        "private_host": None,
        "spec": {"serverless": {"region": "us-east-1", "cloud": "aws"}},
        "deletion_protection": "disabled",
        "tags": {"home": "https://api.pinecone.io/indexes"},
        "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
        "schema": {
            "fields": {
                "_values": {"type": "dense_vector", "dimension": len(VECTOR), "metric": "cosine"}
            }
        },
    }


@routes("GET", "/indexes/{name}")
def describe(request: Request) -> Reply:
    return json_reply(_index(request.params["name"]))


@routes("GET", "/indexes")
def listing(_: Request) -> Reply:
    return json_reply({"indexes": [_index("docs-example")]})


@routes("POST", "/embed")
def embed(request: Request) -> Reply:
    inputs = request.json().get("inputs", [])
    return json_reply(
        {
            "model": request.json().get("model", ""),
            "vector_type": "dense",
            "data": [{"values": list(VECTOR), "vector_type": "dense"} for _ in inputs],
            "usage": {"total_tokens": 9},
        }
    )


@routes("POST", "/{host}/vectors/upsert")
def upsert(request: Request) -> Reply:
    return json_reply({"upsertedCount": len(request.json().get("vectors", []))})


@routes("POST", "/{host}/query")
def query(_: Request) -> Reply:
    match = {"id": "a", "score": 0.9, "values": []}
    return json_reply({"matches": [match], "namespace": "n", "usage": {"readUnits": 1}})


@routes("POST", "/{host}/describe_index_stats")
def stats(_: Request) -> Reply:
    return json_reply(
        {"namespaces": {}, "dimension": len(VECTOR), "indexFullness": 0, "totalVectorCount": 7}
    )


FAMILY = Family(
    id="pinecone",
    docs="https://docs.pinecone.io/reference/api/authentication",
    ways=(Way("api-key"),),
    key="pcsk_{random}",
    refusal=refusal,
    routes=routes,
    unknown=unknown,
)
