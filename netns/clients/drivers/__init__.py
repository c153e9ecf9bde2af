"""Programs that drive clients, one a library: `python -m netns.clients.drivers.urllib3 host=192.0.2.10 …`.

A driver takes its spec as words (netns/clients/spec.py) and logs each request as it ends, one JSON object a
line on stdout (netns/clients/log.py). SIGTERM ends it at once: a request under way then is not logged. With
`on_demand=1` it makes a request when it is told to by a line on stdin, "POST 3": client 3 makes a POST, now.

Nothing of a library is set but its longest time for a request (or attempt, where it knows no other) and, so
that a client is one user, a pool of one connection.
"""
