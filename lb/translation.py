"""What the configuration means to the core, to the rules and to a health check. Pure."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from lb.config import BoxConfig, VirtualServer
from lb.core import packet, service
from lb.core.service import RealServer
from lb.core.services import Services
from lb.linux import probe, rules


def service_settings(virtual: VirtualServer) -> service.ServiceSettings:
    """A virtual server of the configuration in the core's terms."""
    check, reset = virtual.health_check, virtual.reset_on_port_fail
    return service.ServiceSettings(
        name=virtual.name,
        vip=virtual.address.packed,
        port=virtual.port,
        dscp=virtual.dscp,
        servers=tuple(
            service.ServerSettings(server.name, server.address.packed, server.weight)
            for server in virtual.real_server
        ),
        protocol=packet.TCP if virtual.protocol == "tcp" else packet.UDP,
        scheduler=virtual.scheduler,
        aging_s=virtual.aging_s,
        syn_timeout_s=virtual.syn_timeout_s,
        on_port_reuse=service.PortReuse(virtual.on_port_reuse),
        on_no_entry=service.Policy(virtual.on_no_entry),
        on_no_server=service.Policy(virtual.on_no_server),
        on_table_full=service.Policy(virtual.on_table_full),
        reset_on_aging=virtual.reset_on_aging,
        drain_timeout_s=virtual.drain_timeout_s,
        check=service.CheckSettings(check.interval_s, check.retries, check.on_bad_status == "immediate"),
        reset=service.ResetSettings(
            on_port_fail=reset.enabled,
            client=reset.sides in ("client", "both"),
            server=reset.sides in ("server", "both"),
            precise=reset.mode == "precise",
            pace=reset.pace,
        ),
    )


def ruleset(config: BoxConfig, services: Services) -> rules.Ruleset:
    """The rules of the box; `services` has taken this configuration and given each real server its mark."""
    return rules.render(
        config.name,
        config.queue.number,
        [
            rules.Service(
                virtual.address,
                virtual.port,
                virtual.protocol,
                virtual.dscp,
                tuple(
                    rules.Target(_mark(server), ip_address(server.settings.address))
                    for server in services.by_name[virtual.name].servers
                ),
            )
            for virtual in config.virtual_server
        ],
        config.rewrite,
    )


def check_request(config: BoxConfig, server: RealServer, real: Callable[[float], float]) -> probe.Request:
    """The health check of a server; `real` turns box seconds into real seconds."""
    virtual = next(one for one in config.virtual_server if one.name == server.service.name)
    check = virtual.health_check
    direct = check.path == "direct"
    return probe.Request(
        kind=check.kind,
        address=ip_address(server.settings.address) if direct else virtual.address,
        port=virtual.port,
        mark=None if direct else _mark(server),
        url=check.url,
        expect=check.expect,
        host=check.host or probe.authority(virtual.address, virtual.port),
        timeout_s=real(check.timeout_s),
    )


def _mark(server: RealServer) -> int:
    """By which the rules send packets to the server."""
    return rules.MARK_BASE | server.id
