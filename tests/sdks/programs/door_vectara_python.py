"""vectara for Python as one writes it for OAuth 2, with its addresses as they are."""

import os

from surfaces import surface
from vectara import Vectara

client = Vectara(
    client_id=os.environ["VECTARA_CLIENT_ID"], client_secret=os.environ["VECTARA_CLIENT_SECRET"]
)


@surface
def variables():
    return [corpus.key for corpus in client.corpora.list()]
