"""What speed comes to, measured: `python -m scripts.bench env`, `train`, `learn`, …, from the repository's root.

`env` measures control steps, `train` learning beside Stable-Baselines3's PPO, `learn` the time until a policy succeeds,
`faults` what broken sensors cost, `device` worlds and learning part by part on a GPU, `deploy` how long an action takes
on one core, `fusion` what ways to fuse tokens cost, and `live` how soon a switch of a live replay acts. But for `learn`
and `live`, contenders take turns, so ratios hold on a busy machine too.
"""

import sys

import tyro
from rich.console import Console
from tyro.conf import OmitArgPrefixes

from robofuse.errors import RobofuseError
from scripts.bench.deploy import DeployBench, bench_deploy
from scripts.bench.device import DeviceBench, bench_device
from scripts.bench.env import EnvBench, bench_env
from scripts.bench.faults import FaultBench, bench_faults
from scripts.bench.fusion import FusionBench, bench_fusion
from scripts.bench.learn import LearnBench, bench_learn
from scripts.bench.live import LiveBench, bench_live
from scripts.bench.train import TrainBench, bench_train


def main(arguments: list[str] | None = None) -> int:
    """Runs one benchmark; exit status 0, or 2 after a mistake in the options."""

    def env(config: OmitArgPrefixes[EnvBench]) -> None:
        """Measures the control steps per second of an environment."""
        bench_env(config)

    def train(config: OmitArgPrefixes[TrainBench]) -> None:
        """Measures the pace and memory of learning, beside Stable-Baselines3's PPO."""
        bench_train(config)

    def learn(config: OmitArgPrefixes[LearnBench]) -> None:
        """Measures the time until a policy succeeds with all sensors and without any one, over seeds."""
        bench_learn(config)

    def faults(config: OmitArgPrefixes[FaultBench]) -> None:
        """Measures what broken sensors cost, beside the same worlds without faults."""
        bench_faults(config)

    def device(config: OmitArgPrefixes[DeviceBench]) -> None:
        """Measures worlds and learning part by part, all on one device: a GPU if there is one."""
        bench_device(config)

    def deploy(config: OmitArgPrefixes[DeployBench]) -> None:
        """Measures how long an action takes on one core, exported and in torch, with sensors masked."""
        bench_deploy(config)

    def fusion(config: OmitArgPrefixes[FusionBench]) -> None:
        """Measures the parameters and the time of every fusion of tokens."""
        bench_fusion(config)

    def live(config: OmitArgPrefixes[LiveBench]) -> None:
        """Measures how soon a switch of a live replay acts, and its frames a second."""
        bench_live(config)

    commands = {one.__name__: one for one in (env, train, learn, faults, device, deploy, fusion, live)}
    words = sys.argv[1:] if arguments is None else arguments
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands, prog="python -m scripts.bench", description=__doc__, args=words or ["--help"]
        )
    except RobofuseError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
