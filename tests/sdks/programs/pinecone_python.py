"""pinecone for Python."""

from pinecone import Pinecone
from surfaces import DENIED, LIMITED, surface

client = Pinecone()


@surface
def pages():
    return [index.name for index in client.list_indexes()]


@surface
def embeddings():
    made = client.inference.embed(
        model="multilingual-e5-large", inputs=["hi"], parameters={"input_type": "query"}
    )
    return list(made.data[0].values)


@surface
def index():
    index = client.Index("docs-example")
    put = index.upsert(vectors=[("a", [0.1, 0.2, 0.3]), ("b", [0.3, 0.2, 0.1])], namespace="n")
    found = index.query(vector=[0.1, 0.2, 0.3], top_k=1, namespace="n")
    stats = index.describe_index_stats()
    return [put.upserted_count, found.matches[0].id, stats.total_vector_count]


@surface
def denied():
    Pinecone(api_key=DENIED).list_indexes()


@surface
def limited():
    made = Pinecone(api_key=LIMITED)
    made.inference.embed(model="m", inputs=["hi"], parameters={"input_type": "query"})
