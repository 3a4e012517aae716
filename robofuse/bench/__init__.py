"""Speed, measured side by side: `robofuse bench env` (control steps), `train` (learning) and `faults`."""

from robofuse.bench.env import EnvBench, bench_env
from robofuse.bench.faults import FaultBench, bench_faults
from robofuse.bench.train import TrainBench, bench_train

__all__ = ["EnvBench", "FaultBench", "TrainBench", "bench_env", "bench_faults", "bench_train"]
