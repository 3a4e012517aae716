"""Speed, measured side by side: `robofuse bench env` (control steps) and `robofuse bench train` (learning)."""

from robofuse.bench.env import EnvBench, bench_env
from robofuse.bench.train import TrainBench, bench_train

__all__ = ["EnvBench", "TrainBench", "bench_env", "bench_train"]
