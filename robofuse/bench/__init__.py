"""Speed, measured side by side: `robofuse bench env` (control steps), `train` (learning), `faults`, `deploy`."""

from robofuse.bench.deploy import DeployBench, bench_deploy
from robofuse.bench.env import EnvBench, bench_env
from robofuse.bench.faults import FaultBench, bench_faults
from robofuse.bench.train import TrainBench, bench_train

__all__ = [
    "DeployBench",
    "EnvBench",
    "FaultBench",
    "TrainBench",
    "bench_deploy",
    "bench_env",
    "bench_faults",
    "bench_train",
]
