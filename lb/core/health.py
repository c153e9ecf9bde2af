"""The health state machine of a real server (SPEC §4), as a table.

A server that is enabled is checked once per interval. In ACTIVE and SUSPECT it is *bound*: it gets new flows.
The first miss makes it SUSPECT and restores its retries; each further miss uses one, and the miss that leaves
none makes it FAILED. One success makes it ACTIVE again, from anywhere. DISABLED and SHUTDOWN are the
administrator's: such a server is not checked and gets no new flows; its sessions stay.

`python -m lb.core.health` draws the table, as docs/architecture.md has it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum


class ServerState(Enum):
    """The box's own words for a real server's state."""

    DISABLED = "DISABLED"
    ENABLED = "ENABLED"
    TESTING = "TESTING"
    SUSPECT = "SUSPECT"
    FAILED = "FAILED"
    ACTIVE = "ACTIVE"
    SHUTDOWN = "SHUTDOWN"


class Signal(Enum):
    """What can happen to a server's health."""

    CHECK = "a check has started"
    SUCCESS = "the check succeeded"
    MISS = "the check failed, a retry is left"
    LAST_MISS = "the check failed, no retry is left"
    ENABLE = "enabled by an administrator"
    DISABLE = "disabled by an administrator"
    SHUT_DOWN = "shut down by an administrator"


class Outcome(Enum):
    """How one check ended."""

    SUCCESS = "success"
    BAD_STATUS = "bad_status"
    """The server answered, with a status that is not expected."""
    MISS = "miss"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """An outcome and what was seen, for people: "200", "404", "refused", "timeout"."""

    outcome: Outcome
    detail: str
    status: int | None = None
    """The HTTP status, if there was one."""


INITIAL = ServerState.ENABLED
BOUND = frozenset({ServerState.ACTIVE, ServerState.SUSPECT})
CHECKED = frozenset(ServerState) - {ServerState.DISABLED, ServerState.SHUTDOWN}

_S, _G = ServerState, Signal
_BY_ADMINISTRATOR = {_G.DISABLE: _S.DISABLED, _G.SHUT_DOWN: _S.SHUTDOWN}

TRANSITIONS: dict[ServerState, dict[Signal, ServerState]] = {
    _S.DISABLED: {_G.ENABLE: _S.ENABLED, _G.SHUT_DOWN: _S.SHUTDOWN},
    _S.SHUTDOWN: {_G.ENABLE: _S.ENABLED, _G.DISABLE: _S.DISABLED},
    _S.ENABLED: {_G.CHECK: _S.TESTING, **_BY_ADMINISTRATOR},
    _S.TESTING: {_G.SUCCESS: _S.ACTIVE, _G.MISS: _S.FAILED, _G.LAST_MISS: _S.FAILED, **_BY_ADMINISTRATOR},
    _S.ACTIVE: {_G.MISS: _S.SUSPECT, _G.LAST_MISS: _S.FAILED, **_BY_ADMINISTRATOR},
    _S.SUSPECT: {_G.SUCCESS: _S.ACTIVE, _G.LAST_MISS: _S.FAILED, **_BY_ADMINISTRATOR},
    _S.FAILED: {_G.SUCCESS: _S.ACTIVE, **_BY_ADMINISTRATOR},
}
"""What is not in the table changes nothing."""


def diagram() -> str:
    """The table as a Mermaid state diagram in Markdown."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {INITIAL.value}"]
    for state, following in TRANSITIONS.items():
        for target in dict.fromkeys(following.values()):
            signals = " or ".join(signal.value for signal, to in following.items() if to is target)
            lines.append(f"    {state.value} --> {target.value}: {signals}")
    bound = ", ".join(state.value for state in ServerState if state in BOUND)
    return "\n".join([*lines, "```", "", f"A server gets new flows in {bound}.", ""])


class Health:
    """One server's health. It has no clock: whoever owns it says when a check was made."""

    __slots__ = ("_fail_on_bad_status", "_retries", "retries_left", "state")

    def __init__(self, retries: int, *, fail_on_bad_status: bool) -> None:
        """`fail_on_bad_status`: a bad status fails the server at once, whatever retries are left."""
        self.state = INITIAL
        self.retries_left = self._retries = retries
        self._fail_on_bad_status = fail_on_bad_status

    def configure(self, retries: int, *, fail_on_bad_status: bool) -> None:
        """Take other settings; misses that were counted still count."""
        self.retries_left += retries - self._retries
        self._retries = retries
        self._fail_on_bad_status = fail_on_bad_status

    def signal(self, signal: Signal) -> bool:
        """Apply a signal; true if the state changed."""
        following = TRANSITIONS[self.state].get(signal, self.state)
        changed = following is not self.state
        self.state = following
        if following is not ServerState.SUSPECT:
            self.retries_left = self._retries
        return changed

    def check_ended(self, outcome: Outcome) -> bool:
        """Apply the end of a check; true if the state changed."""
        if outcome is Outcome.SUCCESS:
            return self.signal(Signal.SUCCESS)
        if self.state is ServerState.SUSPECT:
            self.retries_left -= 1
        out_of_retries = self.retries_left <= 0
        at_once = self._fail_on_bad_status and outcome is Outcome.BAD_STATUS
        return self.signal(Signal.LAST_MISS if out_of_retries or at_once else Signal.MISS)


if __name__ == "__main__":
    sys.stdout.write(diagram())
