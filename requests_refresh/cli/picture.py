"""The storm as a picture: each request a bar in time, coloured by what it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from .storm import Done

COLOURS = {
    "sent": "#4c9f70",
    "refused": "#d1495b",
    "held": "#edae49",
    "sent again": "#30638e",
    "failed": "#1d1d1d",
}
_SVG = "http://www.w3.org/2000/svg"
_FONT = 'font-family="sans-serif" font-size="13"'
_WIDTH, _LEFT, _TOP = 960, 16, 64  # of the picture, and of the bars' place in it
_BEFORE, _AFTER, _LONGEST = 0.25, 0.4, 4.0  # seconds around a storm that are shown


def storm(done: Iterable[Done], gap: float, title: str) -> str | None:
    """An SVG of the last storm of refusals, or None where nobody was refused.

    gap: seconds without a refusal between two storms. title: shown above it.
    """
    requests = sorted(done, key=lambda one: one.began)
    window = _window(requests, gap)
    if window is None:
        return None
    begin, end = window
    seen = [one for one in requests if one.ended > begin and one.began < end]
    rows = {row: n for n, row in enumerate(sorted({one.row for one in seen}))}
    height = max(3.0, min(14.0, 560.0 / max(1, len(rows))))
    scale = (_WIDTH - 2 * _LEFT) / (end - begin)
    below = _TOP + height * len(rows)
    parts = [
        f'<svg xmlns="{_SVG}" viewBox="0 0 {_WIDTH} {below + 36:.0f}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{below + 36:.0f}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="16">{escape(title)}</text>',
        *_legend(),
    ]
    for one in seen:
        y = _TOP + rows[one.row] * height
        for kind, from_, to in _bars(one):
            left, right = max(from_, begin), min(to, end)
            if right > left:
                x, width = _LEFT + (left - begin) * scale, max(0.6, (right - left) * scale)
                place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height - 1:.1f}"'
                parts.append(f'<rect {place} fill="{COLOURS[kind]}"/>')
    parts += _axis(end - begin, scale, below)
    return "\n".join([*parts, "</svg>", ""])


def _window(requests: list[Done], gap: float) -> tuple[float, float] | None:
    """From shortly before the last storm until shortly after it."""
    refused = [one for one in requests if any(sent.status == 401 for sent in one.sent)]
    if not refused:
        return None
    last = refused[-1:]
    for one in reversed(refused[:-1]):
        if last[0].began - one.began > gap:
            break
        last.insert(0, one)
    begin = min(sent.ended for one in last for sent in one.sent if sent.status == 401) - _BEFORE
    end = max(one.ended for one in last) + _AFTER
    return begin, min(end, begin + _LONGEST)


def _bars(one: Done) -> Iterator[tuple[str, float, float]]:
    """What a request did, and from when until when."""
    at = one.began
    for n, sent in enumerate(one.sent):
        yield "held", at, sent.began
        refused = sent.status == 401
        kind = "refused" if refused else "sent again" if n else "sent"
        yield kind if sent.status else "failed", sent.began, sent.ended
        at = sent.ended
    yield "held" if one.status == 200 else "failed", at, one.ended


def _legend() -> Iterator[str]:
    x = float(_LEFT)
    for kind, colour in COLOURS.items():
        yield f'<rect x="{x:.0f}" y="36" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 17:.0f}" y="47">{kind}</text>'
        x += 38 + 8 * len(kind)


def _axis(seconds: float, scale: float, y: float) -> Iterator[str]:
    step = next(step for step in (0.1, 0.2, 0.5, 1.0) if seconds / step <= 12 or step == 1.0)
    for n in range(int(seconds / step) + 1):
        x = _LEFT + n * step * scale
        yield f'<path d="M{x:.1f} {y:.1f}v6" stroke="#888888"/>'
        yield f'<text x="{x:.1f}" y="{y + 22:.1f}" fill="#555555">{n * step:.1f} s</text>'
