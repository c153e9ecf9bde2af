"""The HTTP API of a running box, one room: each file is about one thing of it."""
