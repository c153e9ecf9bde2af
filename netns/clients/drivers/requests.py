"""Clients of requests, each a Session."""

from __future__ import annotations

import sys

from requests import Session
from requests.exceptions import Timeout

from netns.clients.drivers import urllib3
from netns.clients.drivers.outcomes import outcome
from netns.clients.drivers.threads import drive
from netns.clients.spec import ClientSpec, read
from netns.record.recording import Outcome


class User:
    def __init__(self, spec: ClientSpec) -> None:
        self.connections = urllib3.note()  # requests' connections are urllib3's
        self._session = Session()
        self._timeout_s = spec.max_time_s or None

    def ask(self, method: str, url: str, body: bytes | None) -> tuple[int, str]:
        response = self._session.request(method, url, data=body, timeout=self._timeout_s)
        return response.status_code, response.text

    def outcome(self, error: Exception) -> Outcome:
        return outcome(error, timeout=(Timeout,))


if __name__ == "__main__":
    drive(read(sys.argv[1:]), User)
