"""What a benchmark found, as tables."""

from typing import Any

from rich.table import Table


def best_processes(rows: list[dict[str, Any]], size: int, tuned: bool) -> int:
    """The number of processes with which SubprocVecEnv was fastest."""
    fitting = [row for row in rows if row["size"] == size and row["tuned"] == tuned]
    return max(fitting, key=lambda row: row["steps"])["processes"]


def bench_tables(result: dict[str, Any]) -> list[Table]:
    """Tables of `scripts.bench env`: speed, ratios, memory."""
    speed = Table(title="control steps per second of all worlds together; ms per step; memory", title_justify="left")
    columns = ("pixels", "renderer", "worlds", "physics", "+ render (floor)", "World", "VecEnv", "gym.make")
    ratios = ("World/floor", "VecEnv/floor", "vs tuned subproc", "vs default subproc")
    for name in (*columns, *ratios, "ms/step", "peak MiB"):
        speed.add_column(name, justify="right")
    for row in result["worlds"]:
        speed.add_row(
            f"{row['size']}²",
            row["renderer"],
            str(row["num_envs"]),
            *(f"{row[name]:,.0f}" if name in row else "–" for name in ("physics", "floor", "world", "ours", "gym")),
            *(f"{row[name]:.0%}" for name in ("world_to_floor", "ours_to_floor")),
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


def train_tables(result: dict[str, Any]) -> list[Table]:
    """Tables of `scripts.bench train`: pace, memory, phases, live rows."""
    options, training = result["options"], result["training"]
    scenes, learning = options["scenes"], options["learning"]
    pace = _table(
        f"{options['task']} with the {options['robot']}, {scenes['num_envs']} worlds, {scenes['image_size']}² RGB-D "
        f"from {scenes['renderer']}, {learning['n_steps']} steps a rollout, batch {learning['batch_size']}, "
        f"epochs: {learning['epochs']}; {options['device']}, threads: {options['threads']}",
        ("learner, end to end", "samples/s", "weights", "ratio (turns)"),
        "FusionPPO as in `robofuse train`: all four sensors, dropout p = "
        f"{options['masking']['p']:g}, auxiliary loss on ({learning['aux_coef']:g}), no teacher.\n"
        "SB3's PPO: MultiInputPolicy, CombinedExtractor, NatureCNN; depth as bytes; no auxiliary loss, no privileged "
        "critic.",
    )
    ratio = f"{training['ratio']:.2f} × ({training['ratio_least']:.2f} to {training['ratio_most']:.2f})"
    memory = _table(
        "rollout buffer, bytes per stored step",
        ("learner", "held", "of that, depth", "copied to flatten", "largest copy at one time"),
        "FusionPPO keeps depth in millimetres (16 bits) and the truth for critic and auxiliary loss; SB3's PPO was "
        "given 8 bits of depth.",
    )
    for name, label in (("fusion", "FusionPPO"), ("sb3", "SB3's PPO")):
        row, held = training[name], result["memory"][name]
        pace.add_row(
            label,
            f"{row['samples_per_second']:,.0f}",
            f"{row['weights']:,}",
            ratio if name == "fusion" else "1",
        )
        depth = sum(x for key, x in held["by_key"].items() if key.startswith("depth"))
        memory.add_row(label, *(f"{x:,.0f}" for x in (held["held"], depth, held["copied"], held["beside"])))
    phases = dict(result["phases"])
    samples, total = phases.pop("samples"), sum(x for name, x in result["phases"].items() if name != "samples")
    time = _table(
        f"FusionPPO, seconds per rollout of {samples:,} steps and its update",
        tuple(phases),
        "render: the time of a step less that of the same worlds without cameras executing the same actions; drawing "
        "overlaps with computing.",
    )
    time.add_row(*(f"{x:.3f}" for x in phases.values()))
    time.add_row(*(f"{x / total:.0%}" for x in phases.values()))
    live = _table(
        "encoding live rows only, against all rows; seconds on the same rollout",
        ("p", "readings live", "act", "act, all", "learn", "learn, all", "speed-up act", "learn", "both"),
        "each sensor hidden independently with probability p, drawn in every step",
    )
    for row in result["live_rows"]:
        live.add_row(
            f"{row['p']:g}",
            f"{row['share']:.0%}",
            *(f"{row[rows][part]:.3f}" for part in ("act", "learn") for rows in ("live", "all")),
            *(f"{row['speedup'][part]:.2f} ×" for part in ("act", "learn", "both")),
        )
    return [pace, memory, time, live]


def learn_table(result: dict[str, Any]) -> Table:
    """The table of `scripts.bench learn`: seconds until success, median over seeds."""
    names = list(dict.fromkeys((row["which"], row["threshold"]) for row in result["times"]))
    headings = {"all": "all sensors", "worst": "worst single loss"}
    table = _table(
        f"seconds until the lower 95 % bound of success ({result['config']['episodes']} episodes) passes …",
        ("learner", *(f"{headings[which]} {threshold:.0%}" for which, threshold in names)),
        "median over all seeds (seeds that reached it); never, if half of them or more did not; teacher and validation "
        "included",
    )
    rows = {(row["contender"], row["which"], row["threshold"]): row for row in result["times"]}
    for contender in dict.fromkeys(row["contender"] for row in result["times"]):
        cells = [rows[contender, *name] for name in names]
        table.add_row(
            contender,
            *(
                f"{'never' if row['median'] is None else format(row['median'], ',.0f')} "
                f"({row['reached']} of {len(row['seconds'])})"
                for row in cells
            ),
        )
    return table


def _table(title: str, columns: tuple[str, ...], caption: str) -> Table:
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", min_width=100)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 and name.startswith("learner") else "right")
    return table
