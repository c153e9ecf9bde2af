"""What labels say, and what is no label of ours."""

from __future__ import annotations

import pytest

from lb.config import ConfigError
from netns.docker import labels


def test_vip_alone_makes_a_server_on_port_80_checked_as_its_virtual_server_is() -> None:
    found = labels.read("web", {"l4box.vip": "192.0.2.10", "maintainer": "somebody"})
    assert found is not None
    assert (str(found.vip), found.port, found.weight, found.health) == ("192.0.2.10", 80, 1, None)


def test_container_without_labels_of_ours_is_nothing_to_us() -> None:
    assert labels.read("web", {"com.docker.compose.service": "web"}) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"vip": "192.0.2.300"}, "l4box.vip = '192.0.2.300'"),
        ({"vip": "fd00::1"}, "l4box.vip = 'fd00::1'"),
        ({"vip": "127.0.0.1"}, "127.0.0.1 can't be a VIP"),
        ({"vip": "192.0.2.10", "port": "70000"}, "l4box.port = '70000'"),
        ({"vip": "192.0.2.10", "weight": "heavy"}, "l4box.weight = 'heavy'"),
        ({"vip": "192.0.2.10", "health": "health.html"}, "l4, or the path of a page"),
        ({"vip": "192.0.2.10", "health": "/a b"}, "'/a b': l4, or the path of a page"),
        ({"vip": "192.0.2.10", "health": "/상태"}, "'/상태': l4, or the path of a page"),
        ({"vip": "255.255.255.255"}, "255.255.255.255 can't be a VIP"),
        ({"vip": "192.0.2.10", "wieght": "2"}, "l4box.wieght: unknown key; there are role, vip, port"),
        ({"role": "boss"}, "l4box.role = 'boss'"),
        ({"vip": "192.0.2.10", "setup": "me"}, "l4box.setup = 'me'"),
        ({"port": "80"}, "l4box.vip is missing, a real server (port) needs it"),
        ({"role": "box", "vip": "192.0.2.10"}, "exclude each other"),
    ],
)
def test_mistake_names_container_label_and_value(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        labels.read("shop_web_1", {f"l4box.{key}": value for key, value in given.items()})
    assert str(error.value).startswith("container shop_web_1: ")
    assert said in str(error.value)
