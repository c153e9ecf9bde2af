"""What would have saved new connections that the box gave to a server which no longer served. Pure.

Every figure is of this run, or a setting of the health check.
"""

from __future__ import annotations

from collections.abc import Sequence

from netns.analysis.causes import Explained
from netns.analysis.facts import Facts
from netns.analysis.health_window import Sign, Window, misses, worst_s
from netns.analysis.remedy import Remedy, statuses
from netns.analysis.wording import plural, were


def for_health_window(server: str, lost: Sequence[Explained], window: Window | None, facts: Facts) -> Remedy:
    """`window`: the outage in which they were lost; None where nothing that a check sees went."""
    if window is None:
        return _unnoticed(server, lost)
    return _Case(window, lost, facts).remedy()


def _unnoticed(server: str, lost: Sequence[Explained]) -> Remedy:
    flows = plural(len(lost), "new connection")
    return Remedy(
        f"The box gave {server} {flows} that {were(len(lost))} lost. No check failed",
        "Make its health check fail, and wait until the box says FAILED, before the deploy changes it",
        "Make the health check fail, and wait for FAILED, before the deploy changes the server",
    )


class _Case:
    """One outage, and the requests that were lost in it."""

    def __init__(self, window: Window, lost: Sequence[Explained], facts: Facts) -> None:
        self._window = window
        self._lost = lost
        self._facts = facts
        self._service = facts.service(window)
        self._check = self._service.health_check
        worst = worst_s(self._service)
        silent = window.measured and window.needed_s > worst
        self._wait_s = worst + (self._check.timeout_s if silent else 0.0)
        self._wait = facts.setting(self._wait_s)

    def remedy(self) -> Remedy:
        window = self._window
        if window.sign is Sign.BOX:
            return self._taken_out()
        if window.stopped is None:
            return self._changed_in_service()
        failed_at = window.failed_check_at
        failed_before = failed_at is not None and failed_at <= window.stopped
        if self._check.kind == "l4":
            return self._refused_checks() if window.sign is Sign.CHECK else self._stopped_at_l4()
        if window.sign in (Sign.TOLD, Sign.CHECK) and failed_before:
            return self._drained_too_short()
        ignored = self._facts.health_file_ignored(self._service.name)
        if window.sign is Sign.HEALTH_FILE and (failed_before or not ignored):
            return self._waited_too_short()
        return self._check_never_failed() if window.passed else self._stopped_at_l7()

    def _cost(self) -> str:
        """How long the box went on binding it, and what that cost."""
        window, count = self._window, len(self._lost)
        if window.unbound is None:
            bound = "The box never took it out of the binding list"
        elif window.stopped is not None and window.unbound > window.stopped:
            bound = f"The box still bound it for {self._facts.seconds(window.unbound - window.stopped)} more"
        else:
            bound = "The box still bound it"
        return f"{bound} and gave it {plural(count, 'new connection')} that {were(count)} lost"

    def _long(self) -> str:
        """The wait, and where it comes from."""
        each = self._facts.setting(self._check.interval_s)
        return f"{self._wait} ({plural(misses(self._service), 'check')}, {each} apart)"

    def _waited(self) -> str:
        return self._facts.seconds(self._window.waited_s or 0.0)

    def _waited_too_short(self) -> Remedy:
        fact = (
            f"{self._window.server} stopped {self._waited()} after its health file went away. {self._cost()}"
        )
        if (self._window.waited_s or 0.0) >= self._wait_s:
            return Remedy(
                fact,
                "Wait until the box says FAILED between the two",
                "Wait until the box says FAILED between renaming the health file and the stop",
                self._wait_s,
            )
        return Remedy(
            fact,
            f"Wait at least {self._long()} between the two, or until the box says FAILED",
            f"Wait {self._wait} between renaming the health file and the stop",
            self._wait_s,
        )

    def _drained_too_short(self) -> Remedy:
        window = self._window
        saw = window.failed_check
        if window.sign is Sign.TOLD:
            drained = f"{window.server} answered {saw} to its check for {self._waited()} before it stopped"
        else:
            after = (window.stopped or 0.0) - (window.failed_check_at or 0.0)
            drained = (
                f"{window.server} stopped {self._facts.seconds(after)} after its check first failed ({saw})"
            )
        return Remedy(
            f"{drained}. {self._cost()}",
            f"Drain for {self._long()}: fail the check for that long before the stop",
            f"Drain for {self._wait}: fail the health check for that long before the stop",
            self._wait_s,
        )

    def _check_never_failed(self) -> Remedy:
        window = self._window
        after = self._facts.seconds((window.stopped or 0.0) - (window.health_off or 0.0))
        url = self._check.url
        return Remedy(
            f"{window.server}'s check never failed before the stop: {url} passed "
            f"{plural(window.passed, 'check')} in the {after} after the health file went away. "
            f"{self._cost()}",
            f"Make {url} fail, wait at least {self._long()} or until the box says FAILED, and stop it then",
            f"Make the health check itself fail, {self._wait} before the stop",
            self._wait_s,
        )

    def _stopped_at_l7(self) -> Remedy:
        by_file = self._facts.health_file_decides(self._service.name)
        first = (
            "Rename its health file first" if by_file else f"Make its check of {self._check.url} fail first"
        )
        step = "Rename the health file" if by_file else "Make the health check fail"
        return Remedy(
            f"{self._window.server} stopped while the box bound it. {self._cost()}",
            f"{first}, wait at least {self._long()} or until the box says FAILED, and stop it then",
            f"{step} {self._wait} before the stop",
            self._wait_s,
        )

    def _stopped_at_l4(self) -> Remedy:
        return Remedy(
            f"{self._window.server} stopped while the box bound it: a check of its port fails only then. "
            f"{self._cost()}",
            "Make the server refuse the box's checks first: they come from the box's own address. Wait at "
            f"least {self._long()} or until the box says FAILED, and stop it then",
            f"Make the server refuse the box's checks {self._wait} before the stop",
            self._wait_s,
        )

    def _refused_checks(self) -> Remedy:
        window = self._window
        after = self._facts.seconds((window.stopped or 0.0) - (window.failed_check_at or 0.0))
        return Remedy(
            f"{window.server} stopped {after} after its check first failed ({window.failed_check}). "
            f"{self._cost()}",
            f"Refuse the box's checks for {self._long()} before the stop, or until the box says FAILED",
            f"Refuse the box's checks for {self._wait} before the stop",
            self._wait_s,
        )

    def _changed_in_service(self) -> Remedy:
        window, count = self._window, len(self._lost)
        after = self._facts.seconds(max(0.0, self._lost[0].at - window.failing))
        since = (
            "its health file went away" if window.sign is Sign.HEALTH_FILE else "it began to fail its check"
        )
        errors = [one for one in self._lost if one.request.status]
        answered = f" ({plural(len(errors), 'answer')} {statuses(errors)})" if errors else ""
        return Remedy(
            f"The box still bound {window.server} {after} after {since}, and gave it "
            f"{plural(count, 'new connection')} that {were(count)} lost{answered}",
            f"Wait at least {self._long()}, or until the box says FAILED, before the deploy changes it",
            f"Wait {self._wait} between failing the health check and changing the server",
            self._wait_s,
        )

    def _taken_out(self) -> Remedy:
        window, count = self._window, len(self._lost)
        after = f"stopped {self._waited()} after" if window.stopped is not None else "failed just as"
        return Remedy(
            f"{window.server} {after} the box took it out of the binding list, and "
            f"{plural(count, 'new connection')} on the way {were(count)} lost",
            "Wait until no connection to it is being opened",
            "Wait a second between taking the server out of the binding list and the stop",
        )
