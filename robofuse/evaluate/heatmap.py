"""Success by live sensors, as a picture that also tells in black and white."""

import io
from collections.abc import Sequence
from itertools import combinations

from robofuse.evaluate.summary import Row

_DPI = 200
_COLOURS = "YlGnBu"  # from light to dark all along, so that it prints
_CELL, _TOP, _BOTTOM, _RIGHT = 0.85, 1.15, 0.45, 0.85  # inches
_LEGEND = "success [%] and its 95 % interval; hatched: not evaluated"


def split_keys(keys: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sensors down the side and those along the top: cameras and the rest, or two halves if it is all one kind."""
    cameras = tuple(key for key in keys if key.split("_")[0] in ("rgb", "depth"))
    others = tuple(key for key in keys if key not in cameras)
    if cameras and others:
        return cameras, others
    return tuple(keys[: len(keys) // 2]), tuple(keys[len(keys) // 2 :])


def draw_heatmap(rows: Sequence[Row], title: str, subtitle: str) -> bytes | None:
    """A PNG: rows are the live cameras, columns the other live sensors, a cell the success and its 95 % interval.

    Args:
        rows: conditions; those in which a sensor dies later on are left out.
        title: first line.
        subtitle: second line.

    Returns:
        The file's content, or None where there is nothing to draw.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    cells = {frozenset(row.condition.live): row for row in rows if row.condition.group in ("all", "dead") and row.n}
    if not cells:
        return None
    side, head = split_keys(rows[0].condition.keys)
    # what was never played takes no room
    down = [names for names in _sets(side) if any(names == live & set(side) for live in cells)]
    along = [names for names in _sets(head) if any(names == live & set(head) for live in cells)]
    heads = [_label(names, head) for names in along]
    sides = [_label(names, side) for names in down]
    # everything in inches
    left = 0.35 + 0.083 * max(map(len, sides))
    cell = max(1.2, 0.15 + 0.083 * max(map(len, heads)))
    grid_w, grid_h = cell * len(along), _CELL * len(down)
    width = left + max(grid_w, 4.5 - left, 0.085 * len(title) + 1.2 - left, 0.066 * len(subtitle) - left) + _RIGHT
    height = _TOP + grid_h + _BOTTOM
    figure = Figure((width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    box = (left / width, _BOTTOM / height, grid_w / width, grid_h / height)
    axes = figure.add_axes(box, xlim=(0, len(along)), ylim=(len(down), 0))
    colours = colormaps[_COLOURS]
    for y, cameras in enumerate(down):
        for x, others in enumerate(along):
            row = cells.get(cameras | others)
            if row is None or row.success is None or row.interval is None:
                axes.add_patch(Rectangle((x, y), 1, 1, facecolor="white", edgecolor="0.8", hatch="///", lw=0))
                continue
            colour = colours(row.success)
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour))
            ink = "black" if _luminance(colour) > 0.22 else "white"
            low, high = (round(100 * end) for end in row.interval)
            for place, text, size, weight in (
                (0.42, f"{100 * row.success:.0f}", 17, "bold"),
                (0.78, f"{low} – {high}", 8.5, "normal"),
            ):
                axes.text(x + 0.5, y + place, text, size=size, weight=weight, color=ink, ha="center", va="center")
    for x in range(1, len(along)):
        axes.axvline(x, color="white", lw=2)
    for y in range(1, len(down)):
        axes.axhline(y, color="white", lw=2)
    axes.xaxis.tick_top()
    axes.set_xticks([x + 0.5 for x in range(len(along))], heads, size=10)
    axes.set_yticks([y + 0.5 for y in range(len(down))], sides, size=10)
    axes.tick_params(length=0, pad=5)
    axes.spines[:].set_color("0.6")
    bar = figure.add_axes(((left + grid_w + 0.2) / width, box[1], 0.14 / width, box[3]))
    bar.imshow(
        [[k / 255] for k in range(255, -1, -1)], cmap=colours, vmin=0, vmax=1, aspect="auto", extent=(0, 1, 0, 1)
    )
    bar.yaxis.tick_right()
    bar.set_xticks([])
    bar.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"], size=8)
    bar.tick_params(length=2)
    bar.spines[:].set_color("0.6")
    figure.text(0.15 / width, 1 - 0.3 / height, title, size=13, weight="bold", va="center")
    figure.text(0.15 / width, 1 - 0.6 / height, subtitle, size=9, color="0.25", va="center")
    figure.text(0.15 / width, 0.22 / height, _LEGEND, size=8, color="0.25", va="center")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Title": title})
    return buffer.getvalue()


def _sets(keys: Sequence[str]) -> list[frozenset[str]]:
    """Every set of the keys, the largest first."""
    return [frozenset(some) for count in range(len(keys), -1, -1) for some in combinations(keys, count)]


def _label(names: frozenset[str], among: Sequence[str]) -> str:
    return " + ".join(sorted(names)) or (f"no {among[0]}" if len(among) == 1 else "none of them")


def _luminance(rgba: tuple[float, float, float, float]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
