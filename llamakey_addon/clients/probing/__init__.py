"""Does a client's traffic really go by the proxy? One small call of each, made to be found again.

    probes.yaml   which call, of which package or program
    prelude.py    runs a call under the Python that the client is installed for
    prelude.cjs   the same under Node

A call bears a mark, as its tag or as the name of a model that no provider has, and the proxy tells
which marks it has seen. Under the preludes nothing leaves for any other host: a client that goes
its own way is stopped before its first byte, so that no local key is shown to anybody.
"""

from llamakey_addon.clients.probing.probes import Probe, load, program

__all__ = ["Probe", "load", "program"]
