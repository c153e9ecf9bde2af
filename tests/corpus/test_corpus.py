"""Each deploy of the corpus is rehearsed, and its verdict is held against expect.toml, logs and captures.

`pytest tests/corpus` plays the short corpus, `--whole-corpus` all of it (`make corpus`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.corpus.expect import load
from tests.corpus.judge import PROOFS
from tests.corpus.play import deploys, play


def test_every_expect_toml_names_causes_that_the_judge_can_prove() -> None:
    assert len(deploys()) >= 40
    for deploy in deploys():
        expect = load(deploy / "expect.toml")
        assert {*expect.causes} <= PROOFS.keys(), deploy.name
        if expect.command[0] == "./deploy.sh":
            assert (deploy / "deploy.sh").stat().st_mode & 0o100, deploy.name


@pytest.mark.integration
def test_the_verdict_is_what_clients_and_captures_say(
    deploy: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    played = play(deploy, tmp_path / "report")
    record_property("corpus", played.row)
    assert not played.objections, "\n".join([*played.objections, "", played.said])
