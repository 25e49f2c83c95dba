"""Draw a life as SVG: no library, no network, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from selfheal_edge.redteam.survival.contestant import NAMES
from selfheal_edge.redteam.survival.world import HOURS
from selfheal_edge.text import markup

__all__ = ["COLOURS", "LABELS", "life_picture", "sparkline"]

COLOURS: Final = {
    "defended": "#0060a8",
    "undefended": "#c44e00",
    "naive": "#b0438c",
    "operator": "#8a6d00",
    "undamaged": "#777777",
}
"""Told apart by people who see colours otherwise, too (after Okabe and Ito)."""
LABELS: Final = {
    "defended": "selfheal-edge",
    "undefended": "undefended",
    "naive": "retrains at any alarm",
    "operator": "hourly restart",
    "undamaged": "undamaged model",
}
_INK, _PALE, _BAND = "#222222", "#dddddd", "#eef1f5"
_FONT: Final = "font-family='system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif'"
_DRAWN: Final = ("undefended", "operator", "naive", "undamaged", "defended")
"""The last one on top."""


class _Frame(NamedTuple):
    """Where a plot is drawn."""

    left: float
    top: float
    width: float
    height: float
    days: float
    low: float
    high: float

    def x(self, day: float) -> float:
        return self.left + self.width * day / self.days

    def y(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low or 1.0)
        return self.top + self.height * (1 - min(max(part, 0.0), 1.0))


def _text(
    x: float, y: float, text: str, size: float, *, anchor: str = "start", colour: str = _INK,
    bold: bool = False,
) -> str:  # fmt: skip
    weight = " font-weight='600'" if bold else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size:g}' text-anchor='{anchor}' "
        f"fill='{colour}'{weight}>{markup(text)}</text>"
    )


def _line(points: Iterable[tuple[float, float]], colour: str, width: float, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    extra = f" stroke-dasharray='{dash}'" if dash else ""
    return (
        f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='{width:g}' "
        f"stroke-linejoin='round'{extra}/>"
    )


def _smoothed(values: Sequence[float | None], hours: int) -> list[tuple[float, float]]:
    """Return (day, mean) of every stretch of so many hours."""
    found = []
    for start in range(0, len(values), hours):
        part = [v for v in values[start : start + hours] if v is not None]
        if part:
            found.append(((start + len(part) / 2) / HOURS, sum(part) / len(part)))
    return found


def _grid(frame: _Frame, ticks: Sequence[float], size: float, form: str) -> list[str]:
    drawn = []
    for value in ticks:
        y = frame.y(value)
        drawn.append(
            f"<line x1='{frame.left:.1f}' x2='{frame.left + frame.width:.1f}' y1='{y:.1f}' "
            f"y2='{y:.1f}' stroke='{_PALE}' stroke-width='1'/>"
        )
        drawn.append(_text(frame.left - 6, y + size / 3, form.format(value), size, anchor="end"))
    return drawn


def _days(frame: _Frame, size: float, *, narrow: bool) -> list[str]:
    most = 6 if narrow else 15
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 10_000) if frame.days / n <= most)
    drawn = []
    for day in range(0, int(frame.days) + 1, every):
        drawn.append(_text(frame.x(day), frame.top + frame.height + size + 4, str(day), size,
                           anchor="middle"))  # fmt: skip
    return drawn


def _phases(
    frame: _Frame, phases: Sequence[Mapping[str, Any]], size: float, *, narrow: bool, bottom: float
) -> list[str]:
    drawn = []
    for number, phase in enumerate(phases, 1):
        x0, x1 = frame.x(phase["first_day"]), frame.x(phase["first_day"] + phase["days"])
        width = max(x1 - x0, 3.0)
        drawn.append(
            f"<rect x='{x0:.1f}' y='{frame.top:.1f}' width='{width:.1f}' "
            f"height='{bottom - frame.top:.1f}' fill='{_BAND}'/>"
        )
        # Names would run into each other: numbers above, names below the title.
        drawn.append(_text(x0 + width / 2, frame.top - 5, str(number), size, anchor="middle",
                           bold=True))  # fmt: skip
    del narrow
    return drawn


def life_picture(record: Mapping[str, Any], *, width: int = 980, title: str = "") -> str:
    """Return an SVG of one combined campaign.

    Parameters
    ----------
    record
        With ``over_time``, ``phases`` and ``timeline``.
    width
        In pixels; below 600 it is drawn for a phone.
    title
        Above it.
    """
    narrow = width < 600
    size = 11.0 if narrow else 12.0
    over_time, phases = record["over_time"], record.get("phases", ())
    days = max(len(v) for v in over_time.values()) / HOURS
    names = [n for n in NAMES if n in over_time]
    left, right = (38.0 if narrow else 56.0), 12.0
    drawn: list[str] = []
    y = 8.0
    if title:
        for line in _wrapped(title, 46 if narrow else 200):
            y += size + 5
            drawn.append(_text(left if not narrow else 8, y, line, size + 2, bold=True))
    keys, y = _legend(names, left if not narrow else 8.0, y + size + 6, width - right, size)
    drawn += keys
    listed, y = _listed(phases, left if not narrow else 8.0, y + size + 4, width - right, size)
    drawn += listed
    y += size + 12
    plot = _Frame(left, y, width - left - right, 150.0 if narrow else 220.0, days, 0.0, 1.0)
    small = 46.0 if narrow else 54.0
    gap = size + 12
    rows = _rows(record, names)
    bottom = plot.top + plot.height + len(rows) * (small + gap)
    drawn += _phases(plot, phases, size, narrow=narrow, bottom=bottom)
    drawn += _grid(plot, (0.0, 0.25, 0.5, 0.75, 1.0), size, "{:.0%}")
    for name in _DRAWN:
        if name in over_time:
            points = [(plot.x(d), plot.y(v)) for d, v in _smoothed(over_time[name], 6)]
            is_ours = name == NAMES[0]
            drawn.append(
                _line(points, COLOURS[name], 2.6 if is_ours else 1.5,
                      "4 3" if name == "undamaged" else "")
            )  # fmt: skip
    drawn.append(_text(plot.left + 4, plot.top + plot.height - 5, "accuracy, mean of 6 hours", size,
                       colour="#555555"))  # fmt: skip
    top = plot.top + plot.height
    for label, series, form in rows:
        top += gap
        most = max((max(v, default=0) for v in series.values()), default=0) or 1
        frame = _Frame(left, top, plot.width, small, days, 0.0, float(most))
        drawn += _grid(frame, (0.0, float(most)), size, form)
        step = record["timeline"]["step_hours"] / HOURS
        for name in _DRAWN:
            if name in series:
                points = [(frame.x(0), frame.y(0)), *(
                    (frame.x((n + 1) * step), frame.y(v)) for n, v in enumerate(series[name])
                )]  # fmt: skip
                drawn.append(_line(points, COLOURS[name], 2.4 if name == NAMES[0] else 1.4))
        drawn.append(_text(left + 4, top - 4, label, size, colour="#555555"))
        top += small
    end = _Frame(left, plot.top, plot.width, top - plot.top, days, 0, 1)
    drawn += _days(end, size, narrow=narrow)
    drawn.append(_text(left + plot.width, top + 2 * size + 8, "simulated days", size, anchor="end"))
    height = top + 2 * size + 18
    return _svg(width, height, drawn, title or "A simulated life under attack")


def _rows(
    record: Mapping[str, Any], names: Sequence[str]
) -> list[tuple[str, dict[str, Sequence[float]], str]]:
    timeline = record.get("timeline")
    if not timeline:
        return []

    def series(field: str, which: Sequence[str]) -> dict[str, Sequence[float]]:
        return {n: timeline[n][field] for n in which if n in timeline}

    healing = [n for n in names if n in ("defended", "naive")]
    return [
        ("harmful repairs, in all", series("harmful", healing), "{:.0f}"),
        ("labels that people gave, in all", series("labels", healing), "{:.0f}"),
        ("CPU seconds, in all", series("cpu_seconds", names), "{:.1f}"),
    ]


def _wrapped(text: str, most: int) -> list[str]:
    lines: list[str] = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _legend(
    names: Sequence[str], left: float, y: float, right: float, size: float
) -> tuple[list[str], float]:
    drawn, x = [], left
    for name in (*names, "undamaged"):
        text = LABELS[name]
        takes = 26 + 0.56 * size * len(text) + 12
        if x + takes > right and x > left:
            x, y = left, y + size + 5
        dash = " stroke-dasharray='4 3'" if name == "undamaged" else ""
        drawn.append(
            f"<line x1='{x:.1f}' x2='{x + 20:.1f}' y1='{y - size / 3:.1f}' y2='{y - size / 3:.1f}' "
            f"stroke='{COLOURS[name]}' stroke-width='{3 if name == NAMES[0] else 2}'{dash}/>"
        )
        drawn.append(_text(x + 25, y, text, size, bold=name == NAMES[0]))
        x += takes
    return drawn, y


def _listed(
    phases: Sequence[Mapping[str, Any]], left: float, y: float, right: float, size: float
) -> tuple[list[str], float]:
    """Name the phases, which the axis numbers."""
    drawn, x = [], left
    for number, phase in enumerate(phases, 1):
        text = f"{number} {phase['attack']}"
        takes = 0.56 * size * len(text) + 14
        if x + takes > right and x > left:
            x, y = left, y + size + 4
        drawn.append(_text(x, y, text, size, colour="#444444"))
        x += takes
    return drawn, y


def sparkline(record: Mapping[str, Any], *, width: int = 240, height: int = 56) -> str:
    """Return a small SVG of the accuracy of all contestants in one unit."""
    over_time = record["over_time"]
    days = max(len(v) for v in over_time.values()) / HOURS
    frame = _Frame(1, 2, width - 2, height - 4, days, 0.0, 1.0)
    begin = record["first_day"] - record["window_day"]
    x0, x1 = frame.x(begin), frame.x(min(days, begin + record["days"]))
    drawn = [
        f"<rect x='{x0:.1f}' y='0' width='{max(2.0, x1 - x0):.1f}' height='{height}' "
        f"fill='{_BAND}'/>",
        f"<line x1='0' x2='{width}' y1='{frame.y(0):.1f}' y2='{frame.y(0):.1f}' stroke='{_PALE}'/>",
        f"<line x1='0' x2='{width}' y1='{frame.y(1):.1f}' y2='{frame.y(1):.1f}' stroke='{_PALE}'/>",
    ]
    hours = max(1, round(days))
    for name in _DRAWN:
        if name in over_time:
            points = [(frame.x(d), frame.y(v)) for d, v in _smoothed(over_time[name], hours)]
            dash = "3 2" if name == "undamaged" else ""
            drawn.append(_line(points, COLOURS[name], 2.2 if name == NAMES[0] else 1.1, dash))
    return _svg(width, height, drawn, f"accuracy over time: {record['attack']}", background=False)


def _svg(
    width: float, height: float, drawn: Sequence[str], title: str, *, background: bool = True
) -> str:
    back = f"<rect width='{width:.0f}' height='{height:.0f}' fill='#ffffff'/>" if background else ""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' "
        f"width='{width:.0f}' height='{height:.0f}' role='img' {_FONT}>"
        f"<title>{markup(title)}</title>"
        f"{back}{''.join(drawn)}</svg>"
    )
