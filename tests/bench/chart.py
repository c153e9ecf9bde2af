"""The chart of docs/performance.md: for each kind of work, how much is left of what there is with no box.

SVG by hand: bars with their spread over the rounds, colours that follow the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tests.bench import contenders, work
from tests.bench.contenders import NONE
from tests.bench.results import Run, Spread

WIDTH, LEFT, RIGHT, ROW, GAP, HEAD = 860, 150, 90, 18, 34, 46
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.value { font-variant-numeric: tabular-nums }
.faint { fill: #57606a }
.bar { fill: #8c959f }
.ours { fill: #0969da }
.spread { stroke: #24292f; stroke-width: 1 }
.whole { stroke: #57606a; stroke-width: 1; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .faint { fill: #9198a1 }
  .bar { fill: #6e7681 }
  .ours { fill: #4493f8 }
  .spread { stroke: #e6edf3 }
  .whole { stroke: #9198a1 }
}
"""


def draw(run: Run) -> str:
    """The whole picture; latency, where less is better, is not in it."""
    body, top = [], HEAD
    for kind in work.ALL:
        if kind.figure == "p99_us":
            continue
        found = [
            (one.title, ratio)
            for one in contenders.ALL
            if one is not NONE and (ratio := run.ratio(kind.name, one.name, NONE.name, kind.figure))
        ]
        if not found:
            continue
        body.append(_text(0, top, kind.title, "title"))
        top += 8
        scale = (WIDTH - LEFT - RIGHT) / max(1.0, *(ratio.high for _, ratio in found))
        whole = LEFT + scale
        body.append(f'<path class="whole" d="M{whole:.1f} {top}v{len(found) * ROW}"/>')
        for title, ratio in found:
            body.extend(_bar(top, title, ratio, scale))
            top += ROW
        top += GAP
    heading = _text(
        0, 16, "What is left of the throughput with no box (dashed: 1.0); the line is the spread over rounds"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
        f'aria-label="Throughput of each contender relative to no box">\n'
        f"<style>{STYLE}</style>\n{heading}\n" + "\n".join(body) + "\n</svg>\n"
    )


def _bar(top: int, title: str, ratio: Spread, scale: float) -> Iterator[str]:
    middle = top + ROW / 2
    kind = "ours" if title.startswith("l4box") else "bar"
    yield _text(LEFT - 8, middle + 4, title, "label", end=True)
    width, height = ratio.median * scale, ROW - 6
    yield f'<rect class="{kind}" x="{LEFT}" y="{top + 3}" width="{width:.1f}" height="{height}" rx="2"/>'
    low, high = LEFT + ratio.low * scale, LEFT + ratio.high * scale
    yield f'<path class="spread" d="M{low:.1f} {middle}H{high:.1f}"/>'
    yield _text(high + 8, middle + 4, f"{ratio.median:.2g}", "value")


def _text(x: float, y: float, text: str, kind: str = "faint", *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:g}"{anchor}>{escape(text)}</text>'
