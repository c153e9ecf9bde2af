"""A compose project as a lab's configuration."""

from __future__ import annotations

from typing import Any

import pytest

from lb.config import ConfigError, parse
from netns.plan.config import LabConfig
from netns.plan.project import ProjectConfig

LONG = "product-catalogue-service"


def document(name: str, vip: str = "192.0.2.10") -> dict[str, Any]:
    service = {"name": "web", "address": vip, "port": 80, "dscp": 10, "servers": [name]}
    return {"name": "shop", "server": [{"name": name}], "virtual_server": [service]}


def test_service_may_have_a_longer_name_than_an_interface() -> None:
    found = parse(ProjectConfig, document(LONG), "test")
    assert [service.name for service in found.services_of(LONG)] == ["web"]
    with pytest.raises(ConfigError):
        parse(LabConfig, document(LONG), "test")


def test_vip_may_lie_where_a_lab_of_namespaces_has_its_links() -> None:
    vip = "10.80.1.1"
    assert str(parse(ProjectConfig, document("web1", vip), "test").virtual_server[0].vip) == vip
    with pytest.raises(ConfigError, match="links' subnet"):
        parse(LabConfig, document("web1", vip), "test")


def test_server_that_is_not_there_is_refused_as_in_a_lab() -> None:
    wrong = document("web1")
    wrong["virtual_server"][0]["servers"] = ["web2"]
    with pytest.raises(ConfigError, match="web2"):
        parse(ProjectConfig, wrong, "test")
