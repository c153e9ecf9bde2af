"""What a command for the whole fleet finds: per server the commands and the variables that reach it.

$L4LAB_NODES/rs1/web stop          what "$L4LAB_WEB" stop is to a command for one server; also wait, sleep
$L4LAB_NODES/rs1/exec ip addr      run anything on the server
. "$L4LAB_NODES/rs1/env"           L4LAB_SERVER, L4LAB_ROOT, L4LAB_HEALTH, …
ansible-playbook -i "$L4LAB_INVENTORY" deploy.yml    the same as variables of hosts: l4lab_web, l4lab_root, …
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from netns.lab.interface import Lab
from netns.rehearsal.controls import Controls
from netns.rehearsal.script import environment, surroundings

ANY: Final = "-"
"""In place of a server: for what concerns none."""


def hand_out(lab: Lab, controls: Controls, directory: Path, servers: Sequence[str]) -> dict[str, str]:
    """Write it for these servers; the environment of the command."""
    known = {server: _node(lab, controls, directory / server, server) for server in servers}
    inventory = directory / "inventory.yml"
    inventory.write_text(json.dumps(_inventory(lab, known), indent=1) + "\n")  # JSON is YAML, too
    return {
        **surroundings(lab),
        "L4LAB_SERVERS": " ".join(servers),
        "L4LAB_NODES": str(directory),
        "L4LAB_INVENTORY": str(inventory),
        "ANSIBLE_INVENTORY": str(inventory),
        "L4LAB_SLEEP": controls.commands(ANY)["sleep"],
    }


def _node(lab: Lab, controls: Controls, directory: Path, server: str) -> dict[str, str]:
    commands = controls.commands(server)
    variables = environment(lab, server, commands)
    run = directory / "exec"
    run.write_text(f'#!/bin/sh\nexec {variables["L4LAB_EXEC"]} "$@"\n')
    run.chmod(0o755)
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    (directory / "env").write_text("".join(lines))
    return variables


def _inventory(lab: Lab, known: dict[str, dict[str, str]]) -> dict[str, Any]:
    """An Ansible inventory: a group for each virtual server, hosts that are reached from here."""
    hosts = {
        server: {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            **{name.lower(): value for name, value in variables.items()},
        }
        for server, variables in known.items()
    }
    groups: dict[str, Any] = {
        service.name.replace("-", "_"): {
            "hosts": {name: {} for name in lab.config.server_names(service) if name in known}
        }
        for service in lab.config.virtual_server
    }
    return {"all": {"hosts": hosts, "children": groups}}
