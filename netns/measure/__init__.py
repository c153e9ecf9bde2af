"""What kinds of servers do to their clients when they stop, and kinds of clients when their connection dies.

| | servers | clients |
| --- | --- | --- |
| measured by | `servers.py` | `clients.py`; `failing_server.py` kills connections as `deaths.py` says |
| told by | `servers_table.py`: `l4lab web measure` | `clients_table.py`: `l4lab clients measure` |
"""
