"""vectara for Python: no variable redirects it; its environment object has the URL (argument)."""

import sys

from surfaces import DENIED, LIMITED, UPLOAD, surface
from vectara import Vectara
from vectara.environment import VectaraEnvironment
from vectara.types import KeyedSearchCorpus, SearchCorporaParameters

place = VectaraEnvironment(default=sys.argv[1], auth=sys.argv[1])
client = Vectara(environment=place)
SEARCH = SearchCorporaParameters(corpora=[KeyedSearchCorpus(corpus_key="corpus-1")])


@surface
def plain():
    return client.query(query="hi", search=SEARCH).summary


@surface
def stream():
    events = list(client.query_stream(query="hi", search=SEARCH))
    chunks = [e.generation_chunk for e in events if e.type == "generation_chunk"]
    return "".join(chunks)


@surface
def pages():
    return [corpus.key for corpus in client.corpora.list(limit=2)]


@surface
def upload():
    made = client.upload.file("corpus-1", file=("a.txt", UPLOAD, "text/plain"), filename="a.txt")
    return [made.id, made.storage_usage.bytes_used]


@surface
def denied():
    Vectara(environment=place, api_key=DENIED).query(query="hi", search=SEARCH)


@surface
def limited():
    Vectara(environment=place, api_key=LIMITED).query(query="hi", search=SEARCH)
