"""Health checks on loopback: those that the box cannot make, and those that read on."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from lb.core.health import ProbeResult
from lb.linux import probe
from lb.linux.probe import NotMade, ReadingOn, Request

HOST = "127.0.0.1"


def request(port: int) -> Request:
    return Request(
        kind="l7",
        address=ip_address(HOST),
        port=port,
        mark=None,
        url="/",
        expect=(200,),
        host=HOST,
        timeout_s=20.0,
    )


@contextmanager
def no_free_descriptor() -> Iterator[None]:
    """This process can open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_check_without_a_descriptor_is_not_made_and_reports_nothing() -> None:
    results: list[ProbeResult] = []

    async def run() -> None:
        with no_free_descriptor():
            await probe.check(request(80), results.append)

    with pytest.raises(NotMade, match=r"^EMFILE$"):
        asyncio.run(run())
    assert results == []


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def test_next_check_of_a_server_ends_the_one_that_reads_on_and_no_other() -> None:
    async def run() -> None:
        reading = ReadingOn()
        one, other = (asyncio.create_task(_for_ever()) for _ in range(2))
        reading.begin(1, one)
        reading.begin(2, other)
        reading.end(1)
        await asyncio.wait({one}, timeout=20)
        assert one.cancelled()
        assert not other.cancelling()
        reading.end(2)

    asyncio.run(run())


def test_oldest_check_that_reads_on_ends_when_they_are_too_many() -> None:
    async def run() -> None:
        reading = ReadingOn()
        tasks = [asyncio.create_task(_for_ever()) for _ in range(probe.READ_ON_LIMIT + 1)]
        for server, task in enumerate(tasks):
            reading.begin(server, task)
        assert [task.cancelling() for task in tasks] == [1] + [0] * probe.READ_ON_LIMIT
        for task in tasks[1:]:
            task.cancel()

    asyncio.run(run())


def test_check_that_has_ended_by_itself_is_none_that_reads_on() -> None:
    async def run() -> None:
        reading = ReadingOn()
        for server in range(2 * probe.READ_ON_LIMIT):
            done = asyncio.create_task(asyncio.sleep(0))
            reading.begin(server, done)
            await done
            await asyncio.sleep(0)  # its callbacks run
        newest = asyncio.create_task(_for_ever())
        reading.begin(0, newest)
        assert not newest.cancelling()
        assert len(reading) == 1
        newest.cancel()

    asyncio.run(run())


def test_check_that_is_ended_while_it_reads_on_closes_with_a_fin() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server((HOST, 0)) as listener:
            listener.setblocking(False)
            reported = asyncio.Event()
            reading = ReadingOn()
            port = listener.getsockname()[1]
            task = asyncio.create_task(probe.check(request(port), lambda _: reported.set()))
            connection, _ = await loop.sock_accept(listener)
            with connection:
                await loop.sock_recv(connection, 4096)
                await loop.sock_sendall(connection, b"HTTP/1.1 200 OK\r\n\r\n")
                await reported.wait()
                reading.begin(1, task)
                reading.end(1)
                assert await asyncio.wait_for(loop.sock_recv(connection, 1), 20) == b""
            assert task.cancelled()

    asyncio.run(run())
