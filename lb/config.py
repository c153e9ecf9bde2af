"""The box's configuration: strict TOML, checked as a whole before anything on the machine changes.

Times are the box's seconds (SPEC §7: `speed` divides them, nothing else). An error names the file, the key,
the value found and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
"""Names appear in nftables tables, namespaces and file names: lower-case letters, digits, dashes."""


def _address(value: object) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not an IPv4 or IPv6 address in quotes")  # noqa: TRY004 - pydantic's
    return ip_address(value)


Address = Annotated[IPv4Address | IPv6Address, PlainValidator(_address)]

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(Exception):
    """The configuration can't be used; `problems` has one line for each thing wrong."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


def _between(low: float, high: float) -> AfterValidator:
    """Values from `low` to `high`, both included; the message gives the whole range."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise PydanticCustomError(
                "range", "{low} to {high} is allowed", {"low": str(low), "high": str(high)}
            )
        return value

    return AfterValidator(check)


class Strict(BaseModel):
    """A table of the file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_HOST = re.compile(r"([A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def _host_field(value: str) -> str:
    """A Host header field: a name or an address, and a port or none (RFC 9110 §7.2, RFC 3986 §3.2)."""
    if not _HOST.fullmatch(value):
        raise PydanticCustomError(
            "host", "'www.example.com', '192.0.2.10:8080' or '[2001:db8::10]' is allowed, for example"
        )
    return value


class HealthCheck(Strict):
    """How the servers of a virtual server are checked (SPEC §4)."""

    kind: Literal["l7", "l4"] = "l7"
    url: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$")] = "/health_check.html"
    host: Annotated[str, AfterValidator(_host_field)] | None = Field(
        default=None, description="the Host header field; by default the VIP, and the port unless it is 80"
    )
    expect: tuple[Annotated[StrictInt, _between(100, 599)], ...] = Field(default=(200,), min_length=1)
    interval_s: Annotated[StrictFloat, _between(1, 120)] = 10.0
    retries: Annotated[StrictInt, _between(0, 10)] = 1
    timeout_s: Annotated[StrictFloat, _between(0.1, 60)] = 1.0
    on_bad_status: Literal["count", "immediate"] = "count"
    path: Literal["dsr", "direct"] = "dsr"

    @model_validator(mode="after")
    def _answer_before_next_question(self) -> Self:
        if self.timeout_s > self.interval_s:
            raise ValueError(f"timeout_s {self.timeout_s:g} must not exceed interval_s {self.interval_s:g}")
        return self


class ResetOnPortFail(Strict):
    """Whether, and how, the sessions of a server that fails are reset (SPEC §5).

    Sides and mode hold for every reset, pace for every reset of all sessions of a server: by an administrator
    and after `drain_timeout_s` too.
    """

    enabled: StrictBool = False
    sides: Literal["client", "server", "both"] = "client"
    mode: Literal["precise", "naive"] = "precise"
    pace: Annotated[StrictFloat, _between(0, 1_000_000)] = Field(
        default=0.0, description="resets per box second; 0 for as many as can be sent"
    )


class RealServer(Strict):
    """A web server behind the box. In L3DSR the port is the virtual server's: nothing rewrites it."""

    name: Name
    address: Address
    weight: Annotated[StrictInt, _between(1, 65535)] = 1


class VirtualServer(Strict):
    """One VIP:port and what the box does with its flows (SPEC §2, §3)."""

    name: Name
    address: Address
    port: Annotated[StrictInt, _between(1, 65535)]
    protocol: Literal["tcp", "udp"] = "tcp"
    dscp: Annotated[StrictInt, _between(1, 63)]
    scheduler: Literal["round-robin", "weighted-round-robin", "least-connections", "source-hash"] = (
        "round-robin"
    )
    aging_s: Annotated[StrictFloat, _between(120, 3600)] = 600.0
    syn_timeout_s: Annotated[StrictFloat, _between(1, 120)] = Field(
        default=60.0, description="idle timeout of a session whose client has sent a SYN and no ACK"
    )
    on_port_reuse: Literal["schedule", "keep"] = "schedule"
    on_no_entry: Literal["reset", "drop", "forward"] = "reset"
    on_no_server: Literal["reset", "drop"] = "reset"
    on_table_full: Literal["reset", "drop"] = "reset"
    reset_on_port_fail: ResetOnPortFail = ResetOnPortFail()
    reset_on_aging: StrictBool = False
    drain_timeout_s: Annotated[StrictFloat, _between(0, 86_400)] = Field(
        default=0.0, description="after this long a shut-down server's sessions are reset; 0 for never"
    )
    health_check: HealthCheck = HealthCheck()
    real_server: tuple[RealServer, ...] = Field(description="[] for those that come by the API")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key in ("name", "address"):
            _refuse_repeats("real_server", key, [getattr(server, key) for server in self.real_server])
        for server in self.real_server:
            if server.address.version != self.address.version:
                raise ValueError(
                    f"real_server {server.name!r} has the IPv{server.address.version} address "
                    f"{server.address}: the VIP {self.address} is IPv{self.address.version}"
                )
            if server.address == self.address:
                raise ValueError(f"real_server {server.name!r} has the VIP {self.address} as its own address")
        if self.protocol == "udp" and self.health_check.path == "dsr":
            raise ValueError(
                "protocol 'udp' needs health_check.path = 'direct': checks speak TCP, and the DSCP of a UDP "
                "virtual server says nothing about a TCP port"
            )
        return self


class Queue(Strict):
    """The netfilter queue the packets come through."""

    number: Annotated[StrictInt, _between(0, 65535)] = 0
    length: Annotated[StrictInt, _between(64, 1_000_000)] = Field(
        default=8192, description="packets the kernel holds before it drops"
    )


class Sessions(Strict):
    """The session table."""

    limit: Annotated[StrictInt, _between(1, 16_000_000)] = 1_000_000


class Events(Strict):
    """What the event stream carries."""

    keep: Annotated[StrictInt, _between(1, 1_000_000)] = Field(
        default=10_000, description="events kept for a reader that comes late"
    )
    sessions: StrictBool = Field(default=False, description="report every session opened and removed")


class Log(Strict):
    """The daemon's log, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class BoxConfig(Strict):
    """A whole `box.toml`."""

    name: Name = "l4box"
    speed: Annotated[StrictFloat, _between(1, 100)] = 1.0
    rewrite: Literal["kernel", "userspace"] = Field(
        default="kernel", description="where destination and DSCP are written; the same on the wire"
    )
    queue: Queue = Queue()
    sessions: Sessions = Sessions()
    events: Events = Events()
    log: Log = Log()
    virtual_server: tuple[VirtualServer, ...] = Field(description="[] for those that come by the API")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        services = self.virtual_server
        _refuse_repeats("virtual_server", "name", [service.name for service in services])
        _refuse_repeats(
            "virtual_server",
            "address, port and protocol",
            [f"{service.address} {service.port}/{service.protocol}" for service in services],
        )
        for one in services:
            for other in services:
                same_vip = one.address == other.address
                if same_vip and one.dscp != other.dscp:
                    raise ValueError(
                        f"virtual servers {one.name!r} and {other.name!r} share the VIP {one.address} "
                        f"but have dscp {one.dscp} and {other.dscp}: a VIP has one DSCP"
                    )
                if not same_vip and one.address.version == other.address.version and one.dscp == other.dscp:
                    raise ValueError(
                        f"virtual servers {one.name!r} and {other.name!r} both have dscp {one.dscp}: "
                        f"each VIP of an address family needs its own, 1 to 63"
                    )
        return self

    def warnings(self) -> list[str]:
        """What will run but not as meant: times that `speed` makes too short to be kept (SPEC §7)."""
        found = []
        for service in self.virtual_server:
            timeout_s = service.health_check.timeout_s / self.speed
            if timeout_s < 0.020:
                found.append(
                    f"virtual_server {service.name!r}: at speed {self.speed:g} the health timeout is "
                    f"{timeout_s * 1000:.0f} ms of real time; under 20 ms a healthy server may miss it"
                )
            aging_s = service.aging_s / self.speed
            if aging_s < 2:
                found.append(
                    f"virtual_server {service.name!r}: at speed {self.speed:g} sessions age out after "
                    f"{aging_s:.1f} s of real time; under 2 s TCP's own retransmissions may be slower"
                )
        return found


def load(path: Path) -> BoxConfig:
    """Read and check `path`; raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(str(path), [f"can't be read: {reason}"]) from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), [f"is not TOML: {error}"]) from error
    return parse(BoxConfig, document, str(path))


def parse(model: type[Model], document: dict[str, Any], source: str) -> Model:
    """`document` as a `model`; raises ConfigError with a line for each problem."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(source, [_explain(problem, model) for problem in _causes(error)]) from None


def _causes(error: ValidationError) -> list[Any]:
    """The error's problems, less those that only say that a table with a bad entry is short of one."""
    problems = error.errors()
    places = [problem["loc"] for problem in problems]

    def follows(problem: Any) -> bool:
        place = problem["loc"]
        return problem["type"] == "too_short" and any(
            len(other) > len(place) and other[: len(place)] == place for other in places
        )

    return [problem for problem in problems if not follows(problem)]


def _explain(problem: Any, model: type[BaseModel]) -> str:
    """One line of a validation error: key, value, what is allowed."""
    key = ""
    for part in problem["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    match problem["type"]:
        case "extra_forbidden":
            allowed = ", ".join(_table(model, problem["loc"][:-1]).model_fields)
            return f"{key}: unknown key; there are {allowed}"
        case "missing":
            return f"{key}: missing, a value is required"
        case "value_error":
            message = str(problem["ctx"]["error"])
            return f"{key}: {message}" if key else message
        case _:
            return f"{key} = {_shown(problem['input'])}: {_lower_first(problem['msg'])}"


def _table(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """The model of the table at this place in a document."""
    for key in path:
        if isinstance(key, str):
            annotation: Any = model.model_fields[key].annotation
            model = next((kind for kind in get_args(annotation) if kind is not ...), annotation)
    return model


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _refuse_repeats(table: str, key: str, values: list[Any]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{table}: {key} {str(value)!r} is used {count} times; it must be unique")
