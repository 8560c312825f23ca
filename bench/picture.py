"""Lines over time as a small SVG: panels one above the other, with axes, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

WIDTH: Final = 960
PANEL_HEIGHT: Final = 190
_LEFT, _RIGHT, _TOP, _GAP = 78, 16, 44, 44
_COLOURS: Final = ("#1f5fa8", "#c2452d", "#3c8c3f")
_TICKS_MAX: Final = 5
_STYLE: Final = "font:12px sans-serif;fill:#333"


@dataclass(frozen=True)
class Line:
    """One curve; ``values`` as many as its panel has places, None where there is nothing to show."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Panel:
    """Curves that share an axis, from 0 up."""

    title: str
    lines: Sequence[Line]
    limit: float | None = None
    """Where a dashed line stands, such as what is asked for."""


def ticks(top: float) -> list[float]:
    """Round numbers from 0 up to at least ``top``."""
    if top <= 0:
        return [0.0, 1.0]
    rough = top / _TICKS_MAX
    size = 10.0 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    count = int(-(-top // step))
    return [step * number for number in range(count + 1)]


def draw(
    title: str, places: Sequence[float], place_labels: Sequence[tuple[float, str]], panels: Sequence[Panel]
) -> str:
    """The picture. ``places`` are the curves' positions on the axis below, ``place_labels`` its marks."""
    height = _TOP + len(panels) * (PANEL_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" style="{_STYLE};font-size:15px;font-weight:bold">{escape(title)}</text>',
    ]
    low, high = min(places), max(places)
    span = (high - low) or 1.0

    def across(place: float) -> float:
        return _LEFT + (place - low) / span * (WIDTH - _LEFT - _RIGHT)

    for number, panel in enumerate(panels):
        top = _TOP + number * (PANEL_HEIGHT + _GAP) + 14
        parts += _panel(panel, top, [across(place) for place in places])
        for place, label in place_labels:
            x = across(place)
            parts.append(
                f'<text x="{x:.1f}" y="{top + PANEL_HEIGHT + 16}" text-anchor="middle" style="{_STYLE}">{label}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: int, xs: Sequence[float]) -> list[str]:
    values = [value for line in panel.lines for value in line.values if value is not None]
    marks = ticks(max([*values, panel.limit or 0.0], default=0.0))

    def up(value: float) -> float:
        return top + PANEL_HEIGHT * (1 - value / marks[-1])

    parts = [f'<text x="{_LEFT}" y="{top - 6}" style="{_STYLE}">{escape(panel.title)}</text>']
    for mark in marks:
        y = up(mark)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" style="{_STYLE}">{mark:,g}</text>')
    if panel.limit is not None:
        y = up(panel.limit)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="#333" stroke-dasharray="6 4"/>')
    for number, line in enumerate(panel.lines):
        colour, legend_x = _COLOURS[number % len(_COLOURS)], WIDTH - _RIGHT - 90 * (len(panel.lines) - number)
        parts.append(f'<path d="{_path(line.values, xs, up)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{legend_x}" y="{top - 6}" style="{_STYLE};fill:{colour}">{escape(line.name)}</text>')
    return parts


def _path(values: Sequence[float | None], xs: Sequence[float], up: Callable[[float], float]) -> str:
    """Points joined by lines; a gap where nothing is to be shown."""
    path, joined = "", False
    for x, value in zip(xs, values, strict=True):
        if value is not None:
            path += f"{'L' if joined else 'M'}{x:.1f} {up(value):.1f}"
        joined = value is not None
    return path
