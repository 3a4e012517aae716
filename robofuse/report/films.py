"""Videos of the scenes that fail, filmed by `robofuse replay`."""

import tempfile
from pathlib import Path

from robofuse.errors import InputError, StateError
from robofuse.report.evaluation import Condition, Evaluation
from robofuse.report.findings import Hard


def options(condition: Condition) -> tuple[str, str]:
    """What `robofuse replay` needs for this condition: the values of --disable and --faults."""
    if condition.group == "fault":
        return "", condition.name
    return ",".join(f"{key}@{step}" if step else key for key, step in condition.dead_from.items()), ""


def film(evaluation: Evaluation, policy: str, hard: Hard) -> tuple[bytes, bool]:
    """An MP4 of a scene under the first of its conditions, and whether it succeeded this time.

    Args:
        evaluation: it was found in.
        policy: name or path; must have the weights that were evaluated.
        hard: which scene.

    Raises:
        ValueError: there is no such policy, or it is another one than was evaluated.
        RuntimeError: this machine cannot draw or encode it.
    """
    from robofuse.play import fingerprint, load_trained
    from robofuse.replay.run import Replay, run_replay

    if fingerprint(load_trained(policy, device="cpu").policy) != evaluation.record["policy"].get("weights"):
        raise InputError(
            f"policy {policy} is not the one of {evaluation.folder}: its weights differ; name that one with --policy"
        )
    disable, faults = options(hard.failed[0])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "scene.mp4")
        ends = run_replay(
            Replay(
                policy=policy,
                disable=disable,
                faults=faults,
                episodes=1,
                episode=hard.scene,
                seed=evaluation.record["seed"],
                out=out,
                show="no",
            )
        )
        if not ends:
            raise StateError(f"the replay of scene {hard.scene} was stopped")
        return out.read_bytes(), bool(ends[0].success)
