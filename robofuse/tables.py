"""What a benchmark found, as tables."""

from typing import Any

from rich.table import Table


def bench_tables(result: dict[str, Any]) -> list[Table]:
    """Tables of `robofuse bench env`: speed, ratios, memory."""
    best = {
        (size, tuned): max((row["steps"], row["processes"]) for row in rows)
        for size, tuned in {(row["size"], row["tuned"]) for row in result["subprocesses"]}
        if (rows := [r for r in result["subprocesses"] if (r["size"], r["tuned"]) == (size, tuned)])
    }
    speed = Table(title="control steps per second of all worlds together; ms per step; memory", title_justify="left")
    columns = ("pixels", "renderer", "worlds", "physics", "+ render (floor)", "ours", "ours/floor")
    for name in (*columns, "vs tuned subproc", "vs default subproc", "ms/step", "peak MiB"):
        speed.add_column(name, justify="right")
    for row in result["worlds"]:
        versus = [best.get((row["size"], tuned)) for tuned in (True, False)]
        speed.add_row(
            f"{row['size']}²",
            row["renderer"],
            str(row["num_worlds"]),
            *(f"{row[name]:,.0f}" for name in ("physics", "floor", "ours")),
            f"{row['ours'] / row['floor']:.0%}",
            *(f"{row['ours'] / other[0]:.1f} ×" if other else "–" for other in versus),
            f"{row['ms_per_step']:.1f}",
            f"{row['peak_mib']:,.0f}",
        )
    today = Table(title="SubprocVecEnv over single environments, two mujoco.Renderer passes", title_justify="left")
    for name in ("pixels", "quality", "processes", "steps/s", "ms/step", "peak MiB, all processes"):
        today.add_column(name, justify="right")
    for row in result["subprocesses"]:
        star = " *" if best[row["size"], row["tuned"]][1] == row["processes"] else ""
        today.add_row(
            f"{row['size']}²",
            "no shadows, no multisampling" if row["tuned"] else "MuJoCo's default",
            f"{row['processes']}{star}",
            f"{row['steps']:,.0f}",
            f"{row['ms_per_step']:.1f}",
            f"{row['peak_mib']:,.0f}",
        )
    return [speed, today]
