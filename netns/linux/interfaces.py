"""A node's interfaces: the addresses on its loopback, what its NIC does itself. In the caller's namespace."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address
from typing import Final

from pyroute2 import IPRoute, NetlinkError
from pyroute2.ethtool.ioctl import IoctlEthtool

LOOPBACK: Final = 1
"""lo's index, in every namespace."""


def loopback_addresses() -> set[IPv4Address]:
    """What is on lo now."""
    with IPRoute() as ip:
        return {IPv4Address(entry.get_attr("IFA_LOCAL")) for entry in ip.get_addr(index=LOOPBACK)}


def put_on_loopback(address: IPv4Address, label: str) -> None:
    """As `ifconfig lo:0 ADDRESS/32 up` does, under the label ("lo:0"); fine when it is there."""
    with IPRoute() as ip:
        ip.addr("replace", index=LOOPBACK, address=str(address), prefixlen=32, label=label)


def take_off_loopback(address: IPv4Address) -> None:
    """As `ifconfig lo:0 down` does; fine when it is not there."""
    with IPRoute() as ip:
        try:
            ip.addr("del", index=LOOPBACK, address=str(address), prefixlen=32)
        except NetlinkError as error:
            if error.code != errno.EADDRNOTAVAIL:
                raise


def turn_off_offload(interface: str) -> None:
    """Have the stack do what a NIC would: checksum each packet, cut it to the MTU."""
    control = IoctlEthtool(interface)
    try:
        for flag in ("tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload"):
            control.set_offload_flag(flag, False)
    finally:
        control.close()
