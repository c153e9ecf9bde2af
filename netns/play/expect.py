"""What must be seen of a run: each expectation, recorded with the figure that shows it."""

from __future__ import annotations

from collections.abc import Collection

from netns.play.begun import Span
from netns.play.view import View
from netns.record.recording import Expectation

SLACK_S = 0.05
"""Real seconds by which a measured time may be off: a check's and a process's own, on a busy machine."""


class Expect(View):
    """Expectations of what the run sees."""

    @property
    def slack_s(self) -> float:
        """SLACK_S in box seconds."""
        return SLACK_S * self.speed

    def expect(self, text: str, passed: object, measured: object) -> None:
        """Record whether what must be so was, and the figure that shows it."""
        expectation = Expectation(text, bool(passed), str(measured))
        self.expectations.append(expectation)
        self.tell(f"{'ok    ' if expectation.passed else 'FAILED'} {text}: {measured}")

    def expect_between(
        self, text: str, value_s: float, low_s: float, high_s: float, remark: str = ""
    ) -> None:
        """A time lies between two others, give or take what this machine needs."""
        self._expect_time(text, value_s, value_s, low_s, high_s, remark)

    def expect_found(
        self, server: str, state: str, after: str, act: Span, found: float, low_s: float, high_s: float
    ) -> None:
        """The box gave the server that state in time; with what its health checks said meanwhile.

        Not sooner than `low_s` after the act began, nor later than `high_s` after it ended.
        """
        began, ended = act
        checks = [
            event["detail"]
            for event in self.events("probe", server=server)
            if began < event["at"] < found + self.slack_s
        ]
        remark = f" (checks: {', '.join(checks)})"
        if ended - began > self.slack_s:
            remark += f", of which the act itself took {self.seconds(ended - began)}"
        text = f"{server} is {state} after {after}"
        self._expect_time(text, found - began, max(found - ended, 0.0), low_s, high_s, remark)

    def _expect_time(
        self, text: str, most_s: float, least_s: float, low_s: float, high_s: float, remark: str
    ) -> None:
        """A time of which only two bounds are known, `least_s` and `most_s`, may be one that is allowed."""
        passed = low_s - self.slack_s <= most_s and least_s <= high_s + self.slack_s
        allowed = f"{low_s:g}–{high_s:g}" if low_s != high_s else f"{low_s:g}"
        slack = f"±{self.slack_s:.2g} {self.unit} for {SLACK_S * 1000:.0f} ms of this machine's"
        self.expect(text, passed, f"{most_s:.1f} {self.unit}{remark}; allowed {allowed} {self.unit}, {slack}")

    def expect_none(self, text: str, found: Collection[object]) -> None:
        """There is nothing of the kind; else how many there are, and the first."""
        first = f", the first: {next(iter(found))}" if found else ""
        self.expect(text, not found, f"{len(found)} found{first}")

    def expect_equal(self, text: str, found: object, wanted: object) -> None:
        """A number, or another value, is what it must be."""
        self.expect(text, found == wanted, f"{found}, expected {wanted}")
