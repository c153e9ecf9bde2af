"""What a run does to the servers.

Each act returns when it began and when it ended, as it takes effect somewhere between the two.
"""

from __future__ import annotations

from collections.abc import Callable

from netns.play.begun import Begun, Span
from netns.record.recording import HAS_ENDED, TOLD_TO_STOP
from netns.web import StopSignal


class Acts(Begun):
    """Acts on one server, each noted as a step of the run."""

    def health_off(self, server: str) -> Span:
        """Rename the server's health file."""
        return self._act("health file renamed", server, self.lab.health_off)

    def health_on(self, server: str) -> Span:
        return self._act("health file put back", server, self.lab.health_on)

    def vip_down(self, server: str) -> Span:
        """Take the VIP off the server's lo."""
        return self._act("lo:0 taken down", server, self.lab.vip_down)

    def vip_up(self, server: str) -> Span:
        return self._act("lo:0 put up", server, self.lab.vip_up)

    def stop(self, server: str, how: str | None = None) -> Span:
        """Stop the web server, as the setting `stop` says unless told how."""
        stop = StopSignal(how or self.settings.get("stop", "graceful"))
        number = self.lab.kind(server).signal(stop)
        began = self.note(f"{TOLD_TO_STOP} ({stop.value}: {number.name})", server)
        self.lab.stop(server, stop)
        left = self.lab.running(f"web {server}")
        ended = f"main process of the web server has ended, {len(left)} run on" if left else HAS_ENDED
        return began, self.note(ended, server)

    def start(self, server: str) -> Span:
        """Start the web server; it listens when that has ended."""
        began = self.now()
        self.lab.start(server)
        return began, self.note("web server started", server)

    def deploy(self, server: str) -> Span:
        """Change what the server serves, as a deploy does."""
        page = f"{server}\nthe new release\n"
        return self._act("new release deployed", server, lambda server: self.lab.put_page(server, page))

    def _act(self, text: str, server: str, act: Callable[[str], object]) -> Span:
        """The step has the time when it began: nothing that comes of it is earlier."""
        began = self.now()
        act(server)
        ended = self.now()
        self.note(text, server, began)
        return began, ended
