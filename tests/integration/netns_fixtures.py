"""Networks for tests: namespaces, links between them, and captures of what was on the wire."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import shlex
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

DEADLINE_S = 10.0
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCETHTOOL, _ETHTOOL_SRXCSUM, _ETHTOOL_STXCSUM = 0x8946, 0x15, 0x17  # linux/sockios.h, linux/ethtool.h
_ETH_P_ALL = 3
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def namespaces(*nodes: str) -> Iterator[list[str]]:
    """A namespace for each node, with its loopback up; their names, which are this process's own."""
    names = [f"lx-{os.getpid()}-{node}" for node in nodes]
    made: list[str] = []
    try:
        for name in names:
            run("ip netns add", name)
            made.append(name)
            # Without it an IPv6 address is not to be used for its first second or two.
            execute(name, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")
            execute(name, "ip link set lo up")
        yield names
    finally:
        for name in made:
            run("ip netns del", name)


def run(command: str, *more: str, text: str = "") -> str:
    """What a command prints; its errors in the exception."""
    done = subprocess.run([*shlex.split(command), *more], input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} {shlex.join(more)}: {done.stderr}"
    return done.stdout


def execute(namespace: str, command: str, text: str = "") -> str:
    """What a command prints when run in a namespace."""
    return run(f"ip netns exec {namespace} {command}", text=text)


def link(left: str, left_addresses: list[str], right: str, right_addresses: list[str]) -> None:
    """A cable: each end is named after the node at the other, and checksums on it are real."""
    left_end, right_end = right.split("-")[-1], left.split("-")[-1]
    run(f"ip link add name {left_end} netns {left} type veth peer name {right_end} netns {right}")
    for namespace, end, addresses in ((left, left_end, left_addresses), (right, right_end, right_addresses)):
        for address in addresses:
            execute(namespace, f"ip address add {address} dev {end}")
        execute(namespace, f"ip link set dev {end} up")
        with inside(namespace):
            _compute_checksums(end)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread, and the sockets and processes it makes, in a namespace."""
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as after:
        _setns(after.fileno())
        try:
            yield
        finally:
            _setns(before.fileno())


class Capture:
    """What an interface has seen since the capture began."""

    def __init__(self, tap: socket.socket) -> None:
        self._tap = tap
        self.packets: list[Packet] = []

    def wait_for(self, wanted: Callable[[Packet], object]) -> Packet:
        """The first packet (from its IP header on) that is wanted, already here or still to come."""
        for packet in self.packets:
            if wanted(packet):
                return packet
        end = time.monotonic() + DEADLINE_S
        while (left := end - time.monotonic()) > 0:
            self._tap.settimeout(left)
            try:
                frame = Ether(self._tap.recv(65536))
            except TimeoutError:
                break
            if IP not in frame and IPv6 not in frame:
                continue
            self.packets.append(frame.payload)
            if wanted(frame.payload):
                return frame.payload
        seen = "\n".join(packet.summary() for packet in self.packets)
        raise AssertionError(f"no such packet within {DEADLINE_S:g} s; seen:\n{seen}")


@contextmanager
def capture(namespace: str, interface: str) -> Iterator[Capture]:
    """Everything that passes an interface, from now on."""
    with inside(namespace):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    with tap:
        tap.bind((interface, _ETH_P_ALL))
        yield Capture(tap)


def checksums_are_right(packet: Packet) -> bool:
    """Whether the packet's own checksums are those that scapy computes for it."""
    again = packet.copy()
    for layer in (again, again.payload):
        for field in ("chksum", "cksum"):
            if field in layer.fields:
                delattr(layer, field)
    return bytes(again) == bytes(packet)


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true within the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return held


def snmp(namespace: str, counter: str) -> int:
    """A counter of a namespace's kernel, by nstat's name for it."""
    for line in execute(namespace, "nstat -asz").splitlines():
        if line.startswith(f"{counter} "):
            return int(line.split()[1])
    raise LookupError(counter)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _compute_checksums(interface: str) -> None:
    """Switch checksum offload off: a veth would leave packets without checksums."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in (_ETHTOOL_STXCSUM, _ETHTOOL_SRXCSUM):
            value = array.array("B", struct.pack("II", command, 0))
            ifreq = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(any_socket, _SIOCETHTOOL, ifreq)
