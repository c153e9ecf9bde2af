"""Clients: real ones, each with the keep-alive and retry behaviour that its library has by default.

A client is one user: one connection that is kept alive, one request at a time, at a rate. `kinds.py` says
which kinds there are, `group.py` starts a number of one kind on a node of a lab and reads what they log.
A kind's clients are driven by a program of `drivers`; all drivers take the same spec (`spec.py`) and log
the same lines (`log.py`), whatever language they are in.

Each request has a name, which is the query of its URL: "GET /?urllib3-3.17" is the 17th request of the client
urllib3-3. What the library does by itself, a retry above all, has the same name on the wire.
"""
