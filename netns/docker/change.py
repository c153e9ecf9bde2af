"""What is changed in a container's network namespace, each change with what takes it back.

Every function acts in the calling thread's namespace (netns.linux.namespace.inside). Making a change twice,
or undoing one that is gone, is fine: who was killed in between may try again.
"""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from netns.errors import LabError, MissingError
from netns.linux.interfaces import loopback_addresses, put_on_loopback, take_off_loopback

MAIN = 254
"""The table that routes are looked for in by default, from linux/rtnetlink.h."""
TABLE = 0x4C34
"""Our own: "L4", as in the box's marks. It has the way that a VIP's replies take."""


@dataclass(frozen=True, slots=True)
class VipOnLo:
    """A VIP as `ifconfig lo:0 VIP/32 up` puts it there."""

    address: str
    label: str

    def __str__(self) -> str:
        return f"{self.address} on {self.label}"

    def there(self) -> bool:
        return IPv4Address(self.address) in loopback_addresses()

    def make(self) -> None:
        put_on_loopback(IPv4Address(self.address), self.label)

    def undo(self) -> None:
        take_off_loopback(IPv4Address(self.address))


@dataclass(frozen=True, slots=True)
class Rules:
    """An nftables table of the family ip, as netns.plan.topology.dsr_ruleset renders it."""

    table: str
    text: str

    def __str__(self) -> str:
        return f"the nft table {self.table}"

    def there(self) -> bool:
        return f"table ip {self.table}" in _nft("list tables ip").splitlines()

    def make(self) -> None:
        if not self.there():
            _nft(self.text)

    def undo(self) -> None:
        if self.there():
            _nft(f"delete table ip {self.table}")


@dataclass(frozen=True, slots=True)
class RepliesBy:
    """What a VIP sends leaves by way of a router; the container's own traffic goes where it went."""

    vip: str
    router: str

    def __str__(self) -> str:
        return f"replies of {self.vip} by {self.router}"

    def there(self) -> bool:
        with IPRoute() as ip:
            rules = ip.get_rules(family=socket.AF_INET)
        return any(
            rule.get_attr("FRA_SRC") == self.vip and rule.get_attr("FRA_TABLE") == TABLE for rule in rules
        ) and bool(_routes("default", TABLE))

    def make(self) -> None:
        with IPRoute() as ip:
            ip.route("replace", dst="default", gateway=self.router, table=TABLE)
            with _unless(errno.EEXIST):
                ip.rule("add", src=self.vip, src_len=32, table=TABLE, priority=TABLE)

    def undo(self) -> None:
        with IPRoute() as ip:
            with _unless(errno.ENOENT):
                ip.rule("del", src=self.vip, src_len=32, table=TABLE, priority=TABLE)
            with _unless(errno.ESRCH):
                ip.route("del", dst="default", gateway=self.router, table=TABLE)


@dataclass(frozen=True, slots=True)
class RouteBy:
    """The way to a destination ("192.0.2.10/32", or "default") by way of a router."""

    destination: str
    router: str

    def __str__(self) -> str:
        return f"a route to {self.destination} by {self.router}"

    def there(self) -> bool:
        """Whether there is a route to exactly that destination, by whatever way."""
        return bool(_routes(self.destination, MAIN))

    def make(self) -> None:
        with IPRoute() as ip:
            ip.route("replace", dst=self.destination, gateway=self.router)

    def undo(self) -> None:
        with IPRoute() as ip, _unless(errno.ESRCH):
            ip.route("del", dst=self.destination, gateway=self.router)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A path under /proc/sys and its value."""

    path: str
    value: str
    before: str | None = field(default=None, compare=False)
    """What it was, None until that is known."""

    def __str__(self) -> str:
        return f"{self.path} = {self.value}"

    def there(self) -> bool:
        return sysctl(self.path) == self.value

    def make(self) -> None:
        (_SYSCTLS / self.path).write_text(self.value)

    def undo(self) -> None:
        if self.before is not None and self.there():
            (_SYSCTLS / self.path).write_text(self.before)


Change = VipOnLo | Rules | RepliesBy | RouteBy | Sysctl
_KINDS: dict[str, type[Change]] = {
    kind.__name__: kind for kind in (VipOnLo, Rules, RepliesBy, RouteBy, Sysctl)
}
_SYSCTLS = Path("/proc/sys")


def document(change: Change) -> dict[str, Any]:
    """The change as JSON."""
    return {"kind": type(change).__name__, **asdict(change)}


def parse(document: Mapping[str, Any]) -> Change:
    """The change of a `document`."""
    fields = dict(document)
    return _KINDS[fields.pop("kind")](**fields)


def noted(change: Change) -> Change:
    """The change with all that it takes to undo it, before it is made."""
    return replace(change, before=sysctl(change.path)) if isinstance(change, Sysctl) else change


def sysctl(path: str) -> str:
    """Its value; LabError when there is none of that path."""
    try:
        return (_SYSCTLS / path).read_text().strip()
    except OSError as error:
        raise LabError(f"no sysctl {path}: {error.strerror}") from error


def _routes(destination: str, table: int) -> list[Any]:
    address, _, _ = destination.partition("/")
    wanted = None if destination == "default" else address
    with IPRoute() as ip:
        return [
            route
            for route in ip.get_routes(family=socket.AF_INET, table=table)
            if route.get_attr("RTA_DST") == wanted and route["dst_len"] == (0 if wanted is None else 32)
        ]


def _nft(text: str) -> str:
    """What nft prints for an input."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MissingError("nft is not installed: `apt-get install nftables`") from None
    if done.returncode != 0:
        raise LabError(f"nft refused: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def _unless(number: int) -> Iterator[None]:
    """Pass over the kernel's refusal of that number: it is so already."""
    try:
        yield
    except NetlinkError as error:
        if error.code != number:
            raise
