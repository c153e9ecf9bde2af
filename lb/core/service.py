"""Virtual servers, their real servers and their binding lists."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import floor

from lb.core.health import BOUND, Health, ServerState
from lb.core.packet import TCP
from lb.core.scheduler import SCHEDULERS, Scheduler


class Policy(Enum):
    """What to do with a segment that can't be forwarded as it is."""

    RESET = "reset"
    DROP = "drop"
    FORWARD = "forward"


class PortReuse(Enum):
    """What a new SYN on a session that exists meets."""

    SCHEDULE = "schedule"
    """A new connection, scheduled afresh."""
    KEEP = "keep"
    """The stale entry, as on the real box; its server may be long gone."""


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """When a server is checked and when it fails (SPEC §4); how it is checked is the shell's."""

    interval_s: float = 10.0
    retries: int = 1
    fail_on_bad_status: bool = False


@dataclass(frozen=True, slots=True)
class ResetSettings:
    """Reset On Port Fail, and how sessions are reset whenever they are (SPEC §5)."""

    on_port_fail: bool = False
    client: bool = True
    """Reset the client's side of a session."""
    server: bool = False
    """Reset the real server's side."""
    precise: bool = True
    """Follow up until the client's stack has taken its reset; else send one and hope."""
    pace: float = 0.0
    """Resets per box second; 0 for as many as can be sent."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """A real server: its address as 4 or 16 bytes."""

    name: str
    address: bytes
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """A virtual server: its VIP as 4 or 16 bytes, its IP protocol number."""

    name: str
    vip: bytes
    port: int
    dscp: int
    servers: tuple[ServerSettings, ...]
    protocol: int = TCP
    scheduler: str = "round-robin"
    aging_s: float = 600.0
    syn_timeout_s: float = 60.0
    """Idle timeout of a half-open session, whose client has sent no ACK.

    At least REAL_FLOOR_S of real time, at most the aging time.
    """
    on_port_reuse: PortReuse = PortReuse.SCHEDULE
    on_no_entry: Policy = Policy.RESET
    on_no_server: Policy = Policy.RESET
    on_table_full: Policy = Policy.RESET
    reset_on_aging: bool = False
    drain_timeout_s: float = 0.0
    """After this long a shut-down server's sessions are reset; 0 for never."""
    check: CheckSettings = CheckSettings()
    reset: ResetSettings = ResetSettings()

    @property
    def place(self) -> tuple[int, bytes, int]:
        """Protocol, VIP and port: what a packet to this virtual server has."""
        return self.protocol, self.vip, self.port


class RealServer:
    """A real server of one virtual server. `id` is its number in verdicts and in the session table."""

    __slots__ = ("epoch", "flows", "health", "id", "phase", "service", "sessions", "settings")

    def __init__(
        self, server_id: int, service: VirtualServer, settings: ServerSettings, phase: float
    ) -> None:
        self.id = server_id
        self.service = service
        self.settings = settings
        check = service.settings.check
        self.health = Health(check.retries, fail_on_bad_status=check.fail_on_bad_status)
        self.sessions = 0
        self.flows = 0
        """Sessions it was ever given."""
        self.phase = phase
        """Its checks are at `phase` + n intervals, box seconds."""
        self.epoch = 0
        """Names the run of checks it is in, so that the end of a check from an earlier run is told apart."""

    def reconfigure(self, settings: ServerSettings) -> None:
        """Take changed settings, its own and its service's; health goes on from where it is."""
        self.settings = settings
        check = self.service.settings.check
        self.health.configure(check.retries, fail_on_bad_status=check.fail_on_bad_status)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def weight(self) -> int:
        return self.settings.weight

    @property
    def state(self) -> ServerState:
        return self.health.state

    @property
    def bound(self) -> bool:
        return self.health.state in BOUND

    def next_check(self, now: float) -> float:
        """The time of the check after the one at `now`: the next in its own phase."""
        interval_s = self.service.settings.check.interval_s
        # A timer that was due at a round comes no earlier than it, but for the last bits of a float.
        done = floor((now - self.phase) / interval_s + 1e-6)
        return self.phase + (done + 1) * interval_s


class VirtualServer:
    """A VIP:port, its real servers, and the binding list: those that get new flows."""

    __slots__ = ("binding", "scheduler", "servers", "settings")

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.servers: list[RealServer] = []
        self.binding: tuple[RealServer, ...] = ()
        self.scheduler: Scheduler[RealServer] = SCHEDULERS[settings.scheduler]()

    @property
    def name(self) -> str:
        return self.settings.name

    def reconfigure(self, settings: ServiceSettings) -> None:
        """Take changed settings; a scheduler of the same kind goes on where it was."""
        if settings.scheduler != self.settings.scheduler:
            self.scheduler = SCHEDULERS[settings.scheduler]()
        self.settings = settings

    def rebind(self) -> None:
        """Bring the binding list up to date with the servers' health."""
        self.binding = tuple(server for server in self.servers if server.bound)
        self.scheduler.bind(self.binding)
