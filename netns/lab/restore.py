"""A lab made whole again, after a deploy or a test has changed it."""

from __future__ import annotations

from typing import Protocol

from netns.lab.interface import Lab, Say, quiet


class Restorable(Lab, Protocol):
    """A lab whose box can be started again."""

    def start_box(self) -> bool:
        """Start the box's daemon and wait until its API answers; whether it was stopped."""

    def wait_until_bound(self, say: Say = quiet, timeout_s: float | None = None) -> None:
        """Return when the box has every server ACTIVE; LabError when that takes too long."""


def restore(lab: Restorable) -> None:
    """Have box and web servers run, VIPs and health files be there, and every server be ACTIVE.

    LabError where that can't be done. What a deploy changed of pages, configurations, rules and routes stays.
    """
    lab.start_box()
    for node in lab.plan.servers:
        lab.health_on(node.name)
        lab.vip_up(node.name)
        lab.start(node.name)
    lab.wait_until_bound()
