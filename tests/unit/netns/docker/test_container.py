"""A container as the engine tells of it."""

from __future__ import annotations

import pytest

from tests.unit.netns.docker.fake_containers import server


@pytest.mark.parametrize("name", ["SIGQUIT", "3", "SIGRTMIN+3"])
def test_stop_signal_of_any_image_is_read_as_it_is_named(name: str) -> None:
    """systemd's is a real-time one: its containers are servers like others."""
    assert server("web", "172.20.0.2", stop_signal=name).stop_signal == name


def test_image_without_a_stop_signal_is_stopped_by_sigterm() -> None:
    assert server("web", "172.20.0.2").stop_signal == "SIGTERM"
