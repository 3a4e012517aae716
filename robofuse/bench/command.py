"""The benchmarks as subcommands of `robofuse bench`."""

from collections.abc import Callable

from tyro.conf import OmitArgPrefixes

from robofuse.bench import (
    DeployBench,
    EnvBench,
    FaultBench,
    TrainBench,
    bench_deploy,
    bench_env,
    bench_faults,
    bench_train,
)


def benches() -> dict[str, Callable[..., int | None]]:
    """Name → function whose annotations and first line tyro reads."""

    def env(config: OmitArgPrefixes[EnvBench]) -> None:
        """Measures the control steps per second of an environment."""
        bench_env(config)

    def train(config: OmitArgPrefixes[TrainBench]) -> None:
        """Measures the pace and memory of learning, beside Stable-Baselines3's PPO."""
        bench_train(config)

    def faults(config: OmitArgPrefixes[FaultBench]) -> None:
        """Measures what broken sensors cost, beside the same worlds without faults."""
        bench_faults(config)

    def deploy(config: OmitArgPrefixes[DeployBench]) -> None:
        """Measures how long an action takes on one core, exported and in torch, with sensors hidden."""
        bench_deploy(config)

    return {"env": env, "train": train, "faults": faults, "deploy": deploy}
