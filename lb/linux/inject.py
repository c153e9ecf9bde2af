"""Sends whole IP packets, the resets above all, under addresses that are not the box's own: raw(7)."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Iterable
from typing import Self

_SO_SNDBUFFORCE = 32  # socket(7); not in Python's socket module
_SEND_BUFFER = 8 << 20  # bytes: a burst waits in the device's queue, at nearly 1 KiB of memory a packet
_KERNEL_FILLS_IN = 0  # the port of a raw socket's address


class Injector:
    """Two non-blocking raw sockets in the network namespace that it was made in.

    They carry no mark, so the rules for health probes leave their packets alone. Raises PermissionError
    without CAP_NET_RAW.
    """

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        """Packets that could not be sent, by errno name: EPERM (a firewall), EAGAIN (buffer full), …"""
        self._ipv4 = _raw_socket(socket.AF_INET)
        self._ipv6: socket.socket | None = None
        try:
            self._ipv6 = _raw_socket(socket.AF_INET6)
        except PermissionError:
            self._ipv4.close()
            raise
        except OSError:  # a kernel without IPv6
            pass

    def send_all(self, packets: Iterable[bytes]) -> int:
        """Send packets with complete headers; the number that left. Never raises: see `failed`.

        The kernel routes by destination, and fills in IPv4's header checksum, and its identification if 0.
        """
        send_ipv4 = self._ipv4.sendto
        send_ipv6 = self._ipv6.sendto if self._ipv6 is not None else None
        sent = 0
        for packet in packets:
            try:
                version = packet[0] >> 4 if len(packet) >= 20 else 0
                if version == 4:
                    send_ipv4(packet, (socket.inet_ntoa(packet[16:20]), _KERNEL_FILLS_IN))
                elif version == 6 and len(packet) >= 40 and send_ipv6 is not None:
                    address = socket.inet_ntop(socket.AF_INET6, packet[24:40])
                    send_ipv6(packet, (address, _KERNEL_FILLS_IN))
                else:
                    self.failed["EAFNOSUPPORT" if version == 6 and send_ipv6 is None else "EINVAL"] += 1
                    continue
                sent += 1
            except OSError as error:
                self.failed[errno.errorcode.get(error.errno or 0, "unknown")] += 1
        return sent

    def close(self) -> None:
        """Close the sockets."""
        self._ipv4.close()
        if self._ipv6 is not None:
            self._ipv6.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _raw_socket(family: socket.AddressFamily) -> socket.socket:
    # IPPROTO_RAW: the headers are in the data, for both families.
    raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
    try:
        raw.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
    except PermissionError:  # without CAP_NET_ADMIN the limit is net.core.wmem_max
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return raw
