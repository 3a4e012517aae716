"""What `robofuse list` prints: the names one can ask for, as tables."""

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from robofuse import sensors
from robofuse.envs import registration


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    # A name is there to be copied: let the other columns wrap.
    table.columns[0].no_wrap = True
    table.columns[0].style = "bold"
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def _glossary(title: str, entries: Mapping[str, str]) -> Table:
    return _table(title, ("name", "what it is"), entries.items())


def _faults() -> list[tuple[str, str, str]]:
    """Rows (name, kinds of sensors, the first sentence about it)."""
    from robofuse.faults.catalogue import everything  # brings torch
    from robofuse.faults.fault import EVERY_KIND

    rows = []
    for fault in everything():
        kinds = "any" if fault.kinds == EVERY_KIND else ", ".join(fault.kinds)
        rows.append((fault.name, kinds, " ".join((fault.__doc__ or "").partition("\n\n")[0].split())))
    return rows


def print_listing(console: Console | None = None) -> None:
    """Prints tasks, robots, sensors, cameras, renderers and faults.

    Args:
        console: Where to print; by default standard output.
    """
    console = console or Console(markup=False)
    tables = (
        _glossary("Tasks", registration.TASKS),
        _glossary("Robots", registration.ROBOTS),
        _table("Sensors", ("key", "kind", "shape", "dtype", "unit"), sensors.describe()),
        _glossary("Cameras", registration.CAMERAS),
        _glossary("Renderers", registration.RENDERERS),
        _table("Faults", ("name", "of", "what happens"), _faults()),
    )
    for table in tables:
        console.print(table)
        console.print()
