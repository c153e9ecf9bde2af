"""Whether a virtual server's servers speak TLS: asked by a handshake, from a client's node."""

from __future__ import annotations

import socket
import ssl

from netns.lab.interface import Lab
from netns.plan.topology import Role

WITHIN_S = 2.0
"""Real seconds for the handshake."""


def speaks_tls(lab: Lab, service: str) -> bool:
    """Whether a handshake with the virtual server succeeds, whatever certificate it shows."""
    asked = next(one for one in lab.config.virtual_server if one.name == service)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def handshake() -> bool:
        try:
            with (
                socket.create_connection((str(asked.vip), asked.port), WITHIN_S) as connection,
                context.wrap_socket(connection),
            ):
                return True
        except OSError:  # ssl.SSLError among them
            return False

    return lab.network(lab.plan.of(Role.CLIENT)[0].name).inside(handshake)
