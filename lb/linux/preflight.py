"""What the box needs of the machine, looked at before anything is changed. Reads only."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from pathlib import Path

from lb.linux import netfilter, rules

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}  # linux/capability.h


class Missing(Exception):
    """The machine lacks something; `problems` has a line for each, with the fix."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def check(families: Collection[int] = (4,)) -> None:
    """Whether a box with VIPs of these IP versions can run here; raises Missing."""
    # One after the other: a lack further up makes what comes after it fail too.
    problems = list(_missing_capabilities(Path("/proc/self/status").read_text()))
    problems = problems or list(_missing_tools(families))
    problems = problems or list(_missing_kernel_features(families))
    if problems:
        raise Missing(problems)


def warnings(families: Collection[int] = (4,), sysctls: Path = Path("/proc/sys/net")) -> list[str]:
    """Settings of the kernel that let the box run and L3DSR break."""
    found: list[str] = []
    if 4 in families:
        found += _ipv4_warnings(sysctls / "ipv4")
    forwarding = sysctls / "ipv6/conf/all/forwarding"
    if 6 in families and _read(forwarding) == 0:
        found.append("IPv6 packets will not leave the box: sysctl -w net.ipv6.conf.all.forwarding=1")
    return found


def _ipv4_warnings(ipv4: Path) -> Iterator[str]:
    interfaces = sorted(
        path.name for path in (ipv4 / "conf").iterdir() if path.name not in ("all", "default", "lo")
    )
    if _read(ipv4 / "ip_forward") == 0:
        yield "packets will not leave the box: sysctl -w net.ipv4.ip_forward=1"

    # The kernel takes `all` OR the interface's own (ip-sysctl: send_redirects).
    redirecting = [name for name in ("all", *interfaces) if _read(ipv4 / "conf" / name / "send_redirects")]
    if redirecting:
        yield (
            "ICMP redirects will tell clients' routers to go round the box: "
            + _sysctl(redirecting, "send_redirects", 0)
        )

    # The kernel takes the larger of `all` and the interface's own; 1 is strict (ip-sysctl: rp_filter).
    everywhere = _read(ipv4 / "conf/all/rp_filter")
    strict = [name for name in interfaces if max(everywhere, _read(ipv4 / "conf" / name / "rp_filter")) == 1]
    if strict:
        yield (
            f"the strict reverse-path filter of {', '.join(strict)} drops packets whose answer would leave "
            f"by another interface: {_sysctl(strict, 'rp_filter', 2)}"
        )


def _sysctl(names: list[str], key: str, value: int) -> str:
    # Slashes, because an interface's name may have a dot.
    return "sysctl -w " + " ".join(f"net/ipv4/conf/{name}/{key}={value}" for name in names)


def _read(path: Path) -> int:
    """A sysctl's number; 0 for one that is not there (any more)."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _missing_capabilities(status: str) -> Iterator[str]:
    effective = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0
    )
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        yield f"{' and '.join(missing)} missing: run as root (in a container: cap_add NET_ADMIN and NET_RAW)"


def _missing_tools(families: Collection[int]) -> Iterator[str]:
    packages = {"nft": "nftables"}
    for prefix in [name for version, name in ((4, "iptables"), (6, "ip6tables")) if version in families]:
        packages |= {prefix: "iptables", f"{prefix}-save": "iptables", f"{prefix}-restore": "iptables"}
    for tool, package in packages.items():
        if shutil.which(tool, path=netfilter.SEARCH_PATH) is None:
            yield f"{tool} not found: apt-get install {package}"


def _missing_kernel_features(families: Collection[int]) -> Iterator[str]:
    for version in sorted(families):
        vip = ip_address("192.0.2.1" if version == 4 else "2001:db8::1")
        example = rules.Service(vip, 80, "tcp", 1, (rules.Target(rules.MARK_BASE | 1, vip),))
        table = rules.render("preflight", 0, [example]).families[0].table
        try:
            netfilter.run("nft", "--check", "--file", "-", text=table)
        except netfilter.RulesRefused as error:
            yield f"the kernel does not take the IPv{version} nft rules, Linux 5.10 or later does: {error}"
        # --queue-balance, because iptables takes the plain form for supported without asking the kernel.
        queue = "*mangle\n-A PREROUTING -j NFQUEUE --queue-balance 0:1\nCOMMIT\n"
        restore = "iptables-restore" if version == 4 else "ip6tables-restore"
        try:
            netfilter.run(restore, "--test", "--noflush", text=queue)
        except netfilter.RulesRefused as error:
            yield (
                f"no NFQUEUE target for IPv{version}, try modprobe xt_NFQUEUE "
                f"(CONFIG_NETFILTER_XT_TARGET_NFQUEUE): {error}"
            )
