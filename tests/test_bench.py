"""The benchmark runs as it stands on this machine, and refuses what cannot be measured before it starts."""

import json
import math

import pytest

from robofuse.bench import EnvBench, bench_env
from robofuse.cli import main


@pytest.mark.slow  # five processes have to start
def test_a_tiny_run_measures_every_contender(tmp_path, needs_gl, capsys, monkeypatch):
    needs_gl()
    monkeypatch.delenv("MUJOCO_GL", raising=False)  # as a user without a screen would start it
    path = tmp_path / "bench.json"
    few = {"worlds": (2,), "sizes": (16,), "renderers": ("gl",), "processes": (1,), "seconds": 0.2, "rounds": 1}
    config = EnvBench(task="Reach", robot="gripper", json=path, **few)
    result = bench_env(config)
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    (row,) = result["worlds"]
    for name in ("physics", "floor", "ours", "tuned", "default", "peak_mib", "ms_per_step"):
        assert math.isfinite(row[name]) and row[name] > 0, name
    assert row["physics"] > row["floor"]
    assert [other["tuned"] for other in result["subprocesses"]] == [True, False]
    assert "ours/floor" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "Juggle"], "error: unknown task 'Juggle'; tasks: Reach, Grasp"),
        (["--robot", "octopus"], "error: unknown robot 'octopus'"),
        (["--renderers", "crayon"], "error: unknown renderer 'crayon'; renderers: warp, gl"),
        (["--worlds", "0"], "error: worlds must be an integer of at least 1, got 0"),
        (["--seconds", "0"], "error: seconds must be more than 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(arguments, message, capsys):
    assert main(["bench", "env", *arguments]) == 2
    assert message in capsys.readouterr().err
