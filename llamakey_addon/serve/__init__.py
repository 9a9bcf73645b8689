"""`lmk serve`: clients on sockets of our own, and everything around its start and end.

run.py        the order of a start
alone.py      signals and reloads, where one process serves
parent.py     the parent of several: forks, reloads, restarts, signals
worker.py     one of several
orders.py     what the two tell each other
turns.py      whose turn it is to accept
program.py    the program's files, and becoming it anew
signals.py    signals without an event loop
serving.py    one process that serves
changes.py    config.yaml, keys and certificate: looked at, and loaded anew
wishes.py     what the command line asks
door.py       the listening sockets, TLS, who is let in
client.py     one client connection: the road on an `asyncio.Protocol`
master.py     mitmproxy beside it, for scripts and the page
log.py        Python's log, and so mitmproxy's, to the journal
loops.py      uvloop where it is installed
ports.py      listening, and who holds a port that is taken
openfiles.py  the limit of open files
localkey.py   ./llamakey_local.env: the owner's own local key, reused or minted
show.py       what a start prints
"""
