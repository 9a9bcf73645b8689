"""vectara for Python by OAuth 2: id and secret from the environment, the addresses by argument."""

import sys

import vectara
from surfaces import DENIED, surface
from vectara.environment import VectaraEnvironment

place = VectaraEnvironment(default=sys.argv[1], auth=sys.argv[1])
client = vectara.Vectara(environment=place)


@surface
def plain():
    return [corpus.key for corpus in client.corpora.list()]


@surface
def denied():
    wrong = vectara.Vectara(environment=place, client_id="x", client_secret=DENIED)
    list(wrong.corpora.list())
