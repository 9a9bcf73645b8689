"""Fake providers over real TLS: they demand the real key, refuse a local one, record all bytes.

    World            a thread with its own loop; one port a provider (`world.origin("openai")`)
    families/        what each provider answers, shaped by its documentation
    odd.py           answers that no documentation promises, by path (`/odd/…`), on every provider
    steps.py         gates: a test decides when the next chunk of a stream is sent
    __main__.py      the same as a process of its own, commanded by JSON lines

What a fake knows of a provider (paths, credential, shapes) comes from the provider's documentation,
which each module cites, and never from the catalogue under test.
"""

from tests.fakes.certs import Certificates
from tests.fakes.steps import Gate
from tests.fakes.wire import Reply, Request
from tests.fakes.world import World

__all__ = ["Certificates", "Gate", "Reply", "Request", "World"]
