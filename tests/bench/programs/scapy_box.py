"""The load balancer that tutorials show: NetfilterQueue for the packets, scapy for everything else.

scapy_box.py QUEUE DSCP SERVER...
"""

from __future__ import annotations

import sys
from itertools import cycle

from netfilterqueue import NetfilterQueue, Packet
from scapy.layers.inet import IP, TCP

dscp, servers = int(sys.argv[2]), cycle(sys.argv[3:])
sessions: dict[tuple[str, int], str] = {}


def forward(queued: Packet) -> None:
    packet = IP(queued.get_payload())
    client = packet.src, packet[TCP].sport
    if client not in sessions:
        sessions[client] = next(servers)
    packet.dst = sessions[client]
    packet.tos = dscp << 2
    del packet.chksum
    del packet[TCP].chksum
    queued.set_payload(bytes(packet))
    queued.accept()


queue = NetfilterQueue()
queue.bind(int(sys.argv[1]), forward)
queue.run()
