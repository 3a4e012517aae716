"""One job of a study, in a process of its own: `python -m robofuse.study.job FOLDER [--import FILE.py …]`.

The process ends with 0 once the results are written, with 2 if the job's own options are to blame, else with something
else. Its standard input is a pipe from the runner: when the runner has died, so does the job.
"""

import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from robofuse import __version__
from robofuse.errors import InputError, RobofuseError
from robofuse.plugins import import_requested
from robofuse.study.registry import find_trial

JOB, RESULT, LOG, PROGRESS = "job.json", "result.json", "log.txt", "progress"
BLAMED = 2  # exit status: running it again would end in the same way
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "PYTHONHASHSEED": "0",
}
"""Environment of every job: one thread, as another number of threads rounds otherwise, and the same order of sets."""
_PAUSE = 0.25  # seconds between two notes of progress


def main(arguments: Sequence[str]) -> int:
    """Do the job in a folder, and return the exit status; what went wrong is the last line that is printed."""
    try:
        folder, *_ = import_requested([*arguments])
        do(Path(folder))
    except RobofuseError as error:
        print(f"error: {error}", file=sys.stderr)
        return BLAMED
    except Exception as error:  # of the trial, which may be the user's
        traceback.print_exc()
        print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def do(folder: Path) -> None:
    """Do the job that `job.json` tells of, and write `result.json`, with what it ran on.

    Raises:
        InputError: its options, or the metrics that it returns, are not as they should be.
    """
    told: dict[str, Any] = json.loads((folder / JOB).read_text(encoding="utf-8"))
    kind, options = find_trial(told["trial"]), dict(told["options"])
    metrics: Mapping[str, float] = {}
    if told["seed"] is None:
        assert kind.prepare is not None
        kind.prepare(options, folder)
    else:
        if told["prepared"]:
            options["prepared"] = str((folder / told["prepared"]).resolve())
        metrics = checked(kind.run(options, told["seed"], folder, _progress(folder / PROGRESS)))
    from robofuse.files import write_atomic
    from robofuse.machine import describe_machine

    made = {"metrics": metrics, "machine": describe_machine(), "robofuse": __version__}
    write_atomic(folder / RESULT, json.dumps(made, indent=1) + "\n")
    (folder / PROGRESS).unlink(missing_ok=True)


def checked(metrics: object) -> dict[str, float]:
    """The metrics, if they are finite numbers by name; InputError names the first that is not."""
    if not isinstance(metrics, Mapping) or not metrics:
        raise InputError(f"a trial must return metrics, numbers by name, got {metrics!r}")
    found = {}
    for name, value in metrics.items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError):
            raise InputError(f"the metric {name} must be a number, got {value!r}") from None
        if not math.isfinite(found[name]):
            raise InputError(f"the metric {name} must be finite, got {value}")
    return found


def _progress(path: Path) -> Callable[[float], None]:
    """Notes the progress in a file, now and then."""
    last = -math.inf
    draft = path.with_suffix(".new")

    def report(share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _PAUSE:
            last = now
            with suppress(OSError):  # a full disk must not end the job here
                draft.write_text(f"{min(max(share, 0.0), 1.0):.3f}")
                os.replace(draft, path)

    return report


def _die_with_the_runner() -> None:
    """Wait until the other end of standard input is closed."""
    with suppress(OSError):
        while os.read(0, 1):  # not through sys.stdin, whose lock Python wants when it ends
            pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_die_with_the_runner, daemon=True).start()
    sys.exit(main(sys.argv[1:]))
