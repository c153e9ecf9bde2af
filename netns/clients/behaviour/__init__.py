"""What each kind of client does when its connection dies: measured against a server that is made to do it.

`endings.py` has the ways a connection dies, `server.py` dies in these ways, `measure.py` plays them to every
kind in a lab of its own, `table.py` tells what was seen: `l4lab clients measure`.
"""
