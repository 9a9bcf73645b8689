"""`lmk serve`: the launcher's own mitmproxy master, and everything around its start and end.

run.py        the order of a start, reloads, signals, the end
master.py     the master: a slim chain of addons, its log to the journal
ports.py      is the port free, and who holds it
openfiles.py  the limit of open files
localkey.py   ./llamakey_local.env: the owner's own local key, reused or minted
show.py       what a start prints
"""
