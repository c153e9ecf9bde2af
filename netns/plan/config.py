"""The lab's configuration, `lab.toml`: strict, checked as a whole before anything on the machine changes.

Every key has a default, so an empty file is the default lab: one client, three web servers, one virtual
server with the article's settings.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path, PurePosixPath
from signal import Signals
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lb.config import (
    BoxConfig,
    ConfigError,
    Events,
    Log,
    Name,
    Queue,
    RealServer,
    Sessions,
    Strict,
    VirtualServer,
    parse,
)
from netns.plan.addresses import server_addresses
from netns.plan.speeds import OWN_COMMAND

DEFAULT_NAME: Final = "l4lab"
"""The lab's name unless told otherwise."""

RESERVED = re.compile(r"router|box|client\d*|lo|all|default")
"""The lab's own nodes, and names that mean something else as an interface."""


def _free(name: str) -> str:
    if RESERVED.fullmatch(name):
        raise ValueError(f"{name!r} is taken; not allowed: router, box, client, client2 …, lo, all, default")
    return name


ServerName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$"), AfterValidator(_free)
]
"""A server's name is also its interface's at the router: at most 15 characters (IFNAMSIZ)."""


SHORT: Final = {
    "retries": "health_check.retries",
    "interval": "health_check.interval_s",
    "timeout": "health_check.timeout_s",
    "aging": "aging_s",
    "reset": "reset_on_port_fail.enabled",
}
"""Names for the settings of a virtual server that are changed most; any other key goes by its path."""

WebKind = Literal["nginx", "apache", "gunicorn", "uvicorn", "node", "builtin"]
"""The kinds of web server that the lab knows (netns/web)."""


def _signal(name: str) -> str:
    short = name.removeprefix("SIG")
    if f"SIG{short}" not in Signals.__members__:
        raise ValueError(
            f"{name!r} is no signal's name: TERM, QUIT, INT, HUP, KILL and others of signal(7) are"
        )
    return short


SignalName = Annotated[str, AfterValidator(_signal)]


def _words(command: str) -> str:
    if not shlex.split(command):  # ValueError: a quotation that is not closed
        raise ValueError("an empty command: a program and its arguments are allowed")
    return command


class Server(Strict):
    """A web server node: of a kind, or the user's own by its command (netns/web/own.py).

    Without either it is nginx where nginx is installed, else the built-in one.
    """

    name: ServerName
    web: WebKind | None = None
    command: Annotated[str, AfterValidator(_words)] | None = None
    directory: Path | None = Field(
        default=None, description="where `command` runs; by default where lab.toml is"
    )
    graceful_signal: SignalName | None = Field(
        default=None, description="tells `command` to finish its requests and end; by default TERM"
    )
    abrupt_signal: SignalName | None = Field(
        default=None, description="ends `command` at once; by default KILL, to all of its processes"
    )
    weight: Annotated[int, Field(ge=1, le=65535)] = 1

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.command is not None and self.web is not None:
            raise ValueError(f'web = "{self.web}" and command exclude each other: one of them is allowed')
        for key in ("directory", "graceful_signal", "abrupt_signal"):
            if self.command is None and getattr(self, key) is not None:
                raise ValueError(f"{key} is for a server with a command, and {self.name!r} has none")
        return self


class LabVirtualServer(VirtualServer):
    """The box's virtual server; its real servers are given by the names of the lab's, all by default."""

    servers: tuple[ServerName, ...] | None = Field(default=None, min_length=1)
    real_server: tuple[RealServer, ...] = Field(default=(), exclude=True)

    @field_validator("address")
    @classmethod
    def _one_the_lab_can_route(cls, address: Any) -> Any:
        if not isinstance(address, IPv4Address):
            raise ValueError(f"{address} is an IPv6 VIP: the lab's network is IPv4 only, for now")  # noqa: TRY004
        if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local:
            raise ValueError(f"{address} can't be a VIP: a routable unicast address is allowed")
        return address

    @field_validator("real_server", mode="before")
    @classmethod
    def _filled_in_by_the_lab(cls, _: Any) -> Any:
        raise ValueError('the lab fills this in: name its servers by servers = ["rs1", …]')

    @property
    def vip(self) -> IPv4Address:
        """The address, which is IPv4 here."""
        return IPv4Address(int(self.address))

    @property
    def health_file(self) -> PurePosixPath:
        """The file under a server's web root that the health check asks for."""
        return _file_of(self.health_check.url)

    @model_validator(mode="after")
    def _health_file_under_the_root(self) -> Self:
        if ".." in self.health_file.parts:
            raise ValueError(f"health_check.url {self.health_check.url!r} leaves the web root")
        return self


def _file_of(url: str) -> PurePosixPath:
    path = unquote(urlsplit(url).path).lstrip("/")
    return PurePosixPath(path + "index.html" if path == "" or path.endswith("/") else path)


class LabEvents(Events):
    """The box's events; in the lab every session is reported unless told otherwise."""

    sessions: bool = True


class BoxOptions(Strict):
    """Settings that go to the box as they are."""

    rewrite: Literal["kernel", "userspace"] = "kernel"
    queue: Queue = Queue()
    sessions: Sessions = Sessions()
    events: LabEvents = LabEvents()
    log: Log = Log()


class LabConfig(Strict):
    """A whole `lab.toml`."""

    name: Name = DEFAULT_NAME
    speed: Annotated[float, Field(ge=1, le=100)] = OWN_COMMAND
    subnet: IPv4Network = Field(
        IPv4Network("10.80.0.0/16"), description="the links' subnets are carved from it"
    )
    clients: Annotated[int, Field(ge=1, le=64)] = 1
    offload: bool = Field(
        True,
        description="false: packets look as on a wire, with their own checksums and at most one MTU long",
    )
    delay_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="what a client's link adds to a round trip, half of it each way, in real milliseconds",
    )
    server: tuple[Server, ...] = Field(
        tuple(Server(name=f"rs{number}") for number in (1, 2, 3)), min_length=1
    )
    virtual_server: tuple[LabVirtualServer, ...] = Field(
        (LabVirtualServer(name="web", address=IPv4Address("192.0.2.10"), port=80, dscp=10),), min_length=1
    )
    box: BoxOptions = BoxOptions()

    @field_validator("subnet")
    @classmethod
    def _unicast(cls, subnet: IPv4Network) -> IPv4Network:
        if subnet.is_multicast or subnet.is_loopback or subnet.is_link_local or subnet.is_unspecified:
            raise ValueError(f"{subnet} can't be used for links: a unicast subnet is allowed")
        return subnet

    @field_validator("server")
    @classmethod
    def _unique(cls, servers: tuple[Server, ...]) -> tuple[Server, ...]:
        names = [server.name for server in servers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"name {name!r} is used {names.count(name)} times; it must be unique")
        return servers

    @field_validator("virtual_server")
    @classmethod
    def _known_servers(
        cls, services: tuple[LabVirtualServer, ...], info: ValidationInfo
    ) -> tuple[LabVirtualServer, ...]:
        known = [server.name for server in info.data.get("server", ())]
        for service in services:
            for name in service.servers or ():
                if known and name not in known:
                    raise ValueError(
                        f"{service.name!r}: servers names {name!r}; the lab has {', '.join(known)}"
                    )
        return services

    @model_validator(mode="after")
    def _room(self) -> Self:
        links = 1 + self.clients + len(self.server)
        if 2 ** max(0, 30 - self.subnet.prefixlen) < links:
            raise ValueError(f"subnet {self.subnet} is too small for {links} links of a /30 each")
        for service in self.virtual_server:
            if service.address in self.subnet:
                raise ValueError(
                    f"virtual_server {service.name!r}: the VIP {service.address} lies in the links' subnet "
                    f"{self.subnet}"
                )
        return self

    def server_names(self, service: LabVirtualServer) -> tuple[str, ...]:
        """The names of the servers behind `service`."""
        return service.servers or tuple(server.name for server in self.server)

    def services_of(self, server: str) -> tuple[LabVirtualServer, ...]:
        """The virtual servers that `server` is behind."""
        return tuple(service for service in self.virtual_server if server in self.server_names(service))

    def ports_of(self, server: str) -> tuple[int, ...]:
        """The ports of the virtual servers that `server` is behind, each once."""
        return tuple(sorted({service.port for service in self.services_of(server)}))

    def box_config(self, source: str = "the lab's configuration") -> BoxConfig:
        """The box's configuration for this lab; raises ConfigError for what only the box refuses."""
        addresses = server_addresses(self.subnet, [server.name for server in self.server])
        weights = {server.name: server.weight for server in self.server}
        services = [
            {
                **service.model_dump(exclude={"servers"}),
                "real_server": [
                    {"name": name, "address": addresses[name], "weight": weights[name]}
                    for name in self.server_names(service)
                ],
            }
            for service in self.virtual_server
        ]
        document = {
            "name": self.name,
            "speed": self.speed,
            **self.box.model_dump(),
            "virtual_server": services,
        }
        return parse(BoxConfig, document, source)


def load(
    path: Path | None,
    *,
    name: str | None = None,
    speed: float | None = None,
    delay_ms: float | None = None,
) -> LabConfig:
    """The lab of `path` (None: the default lab), its values replaced by those given; raises ConfigError."""
    document: dict[str, Any] = {}
    source = "the default lab"
    if path is not None:
        source = str(path)
        try:
            document = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigError(source, [f"can't be read: {error.strerror}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(source, [f"is not TOML: {error}"]) from error
    given = {"name": name, "speed": speed, "delay_ms": delay_ms}
    document.update({key: value for key, value in given.items() if value is not None})
    config = parse(LabConfig, document, source)
    config.box_config(source)
    return _placed(config, path.parent.resolve() if path is not None else Path.cwd())


def _placed(config: LabConfig, base: Path) -> LabConfig:
    """`config` with the directories that commands run in made whole: they are given from `base`."""
    servers = tuple(
        server.model_copy(update={"directory": base / (server.directory or "")}) if server.command else server
        for server in config.server
    )
    return config.model_copy(update={"server": servers})


def with_settings(config: LabConfig, changes: Mapping[str, Any]) -> LabConfig:
    """The lab with settings of every virtual server changed, by SHORT names or paths; ConfigError for what is
    not allowed."""
    document = config.model_dump(mode="json", exclude_unset=True)
    services = [one.model_dump(mode="json", exclude_unset=True) for one in config.virtual_server]
    for key, value in changes.items():
        *path, last = SHORT.get(key, key).split(".")
        for service in services:
            table = service
            for name in path:
                table = table.setdefault(name, {})
                if not isinstance(table, dict):
                    raise ConfigError(f"the lab with {key} = {value}", [f"{name} has no keys, so no {last}"])
            table[last] = value
    source = f"the lab with {', '.join(f'{key} = {value}' for key, value in changes.items())}"
    changed = parse(LabConfig, {**document, "virtual_server": services}, source)
    changed.box_config(source)
    return changed
