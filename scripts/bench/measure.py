"""One measurement of `scripts.bench env`, in a process of its own: kind and job in, a line of JSON out."""

import json
import sys

from scripts.bench.env import measure_subprocesses, measure_worlds

if __name__ == "__main__":
    measure = {"worlds": measure_worlds, "subprocesses": measure_subprocesses}[sys.argv[1]]
    print(json.dumps(measure(**json.loads(sys.argv[2]))))
