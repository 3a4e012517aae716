"""What a benchmark found, as tables."""

from typing import Any

from rich.table import Table


def best_processes(rows: list[dict[str, Any]], size: int, tuned: bool) -> int:
    """The number of processes with which SubprocVecEnv was fastest."""
    fitting = [row for row in rows if row["size"] == size and row["tuned"] == tuned]
    return max(fitting, key=lambda row: row["steps"])["processes"]


def bench_tables(result: dict[str, Any]) -> list[Table]:
    """Tables of `robofuse bench env`: speed, ratios, memory."""
    speed = Table(title="control steps per second of all worlds together; ms per step; memory", title_justify="left")
    columns = ("pixels", "renderer", "worlds", "physics", "+ render (floor)", "ours", "ours/floor")
    for name in (*columns, "vs tuned subproc", "vs default subproc", "ms/step", "peak MiB"):
        speed.add_column(name, justify="right")
    for row in result["worlds"]:
        speed.add_row(
            f"{row['size']}²",
            row["renderer"],
            str(row["num_worlds"]),
            *(f"{row[name]:,.0f}" for name in ("physics", "floor", "ours")),
            f"{row['ours'] / row['floor']:.0%}",
            *(f"{row['ours'] / row[other]:.1f} ×" if other in row else "–" for other in ("tuned", "default")),
            f"{row['ms_per_step']:.1f}",
            f"{row['peak_mib']:,.0f}",
        )
    today = Table(title="SubprocVecEnv over single environments, two mujoco.Renderer passes", title_justify="left")
    for name in ("pixels", "quality", "processes", "steps/s", "ms/step", "peak MiB, all processes"):
        today.add_column(name, justify="right")
    for row in result["subprocesses"]:
        star = " *" if best_processes(result["subprocesses"], row["size"], row["tuned"]) == row["processes"] else ""
        today.add_row(
            f"{row['size']}²",
            "no shadows, no multisampling" if row["tuned"] else "MuJoCo's default",
            f"{row['processes']}{star}",
            f"{row['steps']:,.0f}",
            f"{row['ms_per_step']:.1f}",
            f"{row['peak_mib']:,.0f}",
        )
    return [speed, today]
