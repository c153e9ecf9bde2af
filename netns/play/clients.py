"""The clients of a run: they are started, and what they log is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from netns.clients.group import Clients, start_clients
from netns.clients.kinds import KINDS, Wanted
from netns.clients.log import Ended, Volume
from netns.clients.spec import MAX_TIME_S, POST_EVERY, RATE, ClientSpec
from netns.errors import LabError
from netns.play.begun import Beginning
from netns.play.view import View
from netns.record.recording import ClientGroup, Request


class ClientsAtWork(View):
    """The groups of clients that run, and those that ran."""

    def __init__(self, beginning: Beginning, *, clients: Sequence[Wanted]) -> None:
        """`clients`: those that the run was asked to have."""
        super().__init__(beginning)
        self.groups: list[ClientGroup] = []
        self._wanted = clients
        self._running: list[Clients] = []
        self._servers = {node.name for node in self.lab.plan.servers}

    def start_clients(self, service: str | None = None, *, rate: float = RATE) -> None:
        """Start the clients that the run was asked to have; `rate` is each one's, per real second.

        `service` is the virtual server of those that name none.
        """
        for wanted in self._wanted:
            kind, asked_service = wanted.kind.name, wanted.service or service
            self.start_group(kind, wanted.count, asked_service, name=wanted.group, rate=rate)

    def start_group(
        self,
        kind: str,
        count: int,
        service: str | None = None,
        *,
        name: str = "",
        rate: float = RATE,
        max_time_s: float = MAX_TIME_S,
        post_every: int = POST_EVERY,
        options: Sequence[str] = (),
    ) -> Clients:
        """Start clients of a virtual server, the first by default; an idle one has a connection open once it
        has had its first answer. Times are real; `options` are those of the kind's driver."""
        virtual_server = self._service(service)
        host, port = str(virtual_server.vip), virtual_server.port
        spec = ClientSpec(host, port, name or kind, count, rate, max_time_s, post_every)
        self.note(f"{count} {spec.client} clients {'connect' if kind == 'idle' else 'start'}", "client")
        started = start_clients(self.lab, "client", KINDS[kind], spec, options)
        self._running.append(started)
        self.groups.append(
            ClientGroup(
                spec.client, kind, virtual_server.name, count, rate, max_time_s, paced=KINDS[kind].asks_on
            )
        )
        return started

    def silent(self) -> set[str]:
        """The clients that log answers and have logged none."""
        expected = {name for group in self._running if group.kind.answered for name in group.names}
        return expected - {request.client for request in self.requests}

    def _check_clients(self) -> None:
        """LabError with their words when clients have ended by themselves."""
        for group in self._running:
            if not group.stopped and not group.running:
                raise LabError(
                    f"the {group.name} clients have ended; they say:\n" + "\n".join(group.unread[-9:])
                )

    def _read_clients(self) -> None:
        for group in self._running:
            for logged in group.read():
                match logged:
                    case Request():
                        started = self.clock.monotonic(logged.started)
                        ended = self.clock.monotonic(logged.ended)
                        # An image that is not the lab's need not say who answers: the wire knows.
                        server = logged.server if logged.server in self._servers else ""
                        self.requests.append(replace(logged, started=started, ended=ended, server=server))
                    case Ended():
                        self.ends.append(replace(logged, time=self.clock.monotonic(logged.time)))
                    case Volume():
                        self.figures[logged.client] = asdict(logged)
