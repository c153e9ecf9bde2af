"""What is right of a deploy in the corpus: its expect.toml, read strictly.

    about = "stops the web server 0.5 s after the health file goes"
    verdict = ["lost"]                  # ok, lost, failed, ill, inconclusive: any of these
    lost = [1, 60]                      # how many requests, least and most
    causes = ["health_window"]          # no other cause is right
    must = ["health_window"]            # each is the cause of at least one lost request
    advice = ["Wait at least 4 s"]      # regular expressions; each is found in an advice
    no_advice = ["drain"]               # none is found
    command = ["./deploy.sh"]           # by default ["./deploy.sh", "{server}"]
    clients = "curl:4"                  # by default CLIENTS
    servers = "rs1"                     # by default all
    options = ["--parallel", "2"]       # more options of `l4lab rehearse`
    ci = true                           # part of the short corpus

A lab.toml beside it is the deploy's lab; without one it is tests/corpus/lab.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

CLIENTS: Final = "curl:4,curl-post:2,curl-new:2,urllib3:2,node:2"

VERDICTS: Final = {0: "ok", 1: "lost", 6: "failed", 7: "ill", 8: "inconclusive"}
"""By exit code of `l4lab rehearse`."""


@dataclass(frozen=True, slots=True)
class Expect:
    """What is right of one deploy."""

    about: str
    verdict: tuple[str, ...]
    lost: tuple[int, int] = (0, 0)
    causes: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    no_advice: tuple[str, ...] = ()
    command: tuple[str, ...] = ("./deploy.sh", "{server}")
    clients: str = CLIENTS
    servers: str = ""
    options: tuple[str, ...] = ()
    ci: bool = False

    def objections(self, exit_code: int, lost: int, result: Mapping[str, Any]) -> list[str]:
        """Where a rehearsal is not what is right, a sentence each; `lost` is the clients' own count."""
        verdict = VERDICTS.get(exit_code, f"exit {exit_code}")
        found = []
        if verdict not in self.verdict:
            found.append(f"the verdict is {verdict}, not {' or '.join(self.verdict)}")
        if verdict in ("ok", "lost") and (verdict == "lost") != (lost > 0):
            found.append(f"the verdict is {verdict}, and {lost} requests are lost")
        if not self.lost[0] <= lost <= self.lost[1]:
            found.append(f"{lost} requests are lost, not {self.lost[0]} to {self.lost[1]}")
        causes = result.get("causes", {})
        found += [f"{causes[one]} × {one}, which can't be" for one in sorted(causes.keys() - {*self.causes})]
        found += [f"{one} is not among the causes" for one in self.must if one not in causes]
        return found + self._advice([one["text"] for one in result.get("advice", ())])

    def _advice(self, texts: Sequence[str]) -> list[str]:
        said = "\n".join(texts)
        found = [f"no advice says /{one}/: {said}" for one in self.advice if not re.search(one, said)]
        return found + [f"an advice says /{one}/: {said}" for one in self.no_advice if re.search(one, said)]


def load(file: Path) -> Expect:
    """ValueError for an unknown key or verdict, and for a cause that must be and can't."""
    document = tomllib.loads(file.read_text())
    if unknown := document.keys() - {field.name for field in fields(Expect)}:
        raise ValueError(f"{file}: unknown keys: {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {k: tuple(one) if isinstance(one, list) else one for k, one in document.items()}
    expect = Expect(**values)
    if wrong := {*expect.verdict} - {*VERDICTS.values()}:
        raise ValueError(f"{file}: verdict: {', '.join(sorted(wrong))}")
    if wrong := {*expect.must} - {*expect.causes}:
        raise ValueError(f"{file}: must: {', '.join(sorted(wrong))} is not in causes")
    return expect
