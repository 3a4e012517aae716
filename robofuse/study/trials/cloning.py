"""The trial `clone`: a policy copies recorded demonstrations, and is judged in closed loop without each sensor.

It takes a minute on a core where PPO takes ten, and masks, losses, encoders and fusions are the very ones of
`robofuse train`. Its options are those of `robofuse train`; `episodes`, `noise` and `held_out` for the demonstrations,
which are recorded once and shared by all jobs; `target`, `supporting` and `specialist` for aggressive dropout, see
`sequences.py`; `lost`, sensor → share of the demonstrations in which it was never recorded; and, of the rivals of
dropout, `copies`, over which actions are averaged (`policies/augment.py`), and `paint_depth` (`policies/generate.py`).
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robofuse.demos.reader import read
from robofuse.demos.run import Record, run_record
from robofuse.errors import InputError, StateError
from robofuse.evaluate.conditions import Condition
from robofuse.play import Actor
from robofuse.policies import FusionActorCriticPolicy, Policy
from robofuse.policies.augment import Averaged
from robofuse.policies.generate import Completed, Completion, DepthFromColour, learn_depth
from robofuse.policies.planes import millimetres
from robofuse.policies.saving import save
from robofuse.policies.u2a.alignment import Alignment
from robofuse.sensors import AVAILABLE, MODALITIES, PRIVILEGED, Sensor
from robofuse.study.registry import Kind, Options
from robofuse.tensors import take
from robofuse.train.build import make_env, make_model, resolve, world_options
from robofuse.train.config import Train, preset
from robofuse.train.imitation import BehaviourCloning
from robofuse.train.validate import Validator, alone, removed

DATA = {"episodes": 1000, "noise": 0.4, "held_out": 60}  # of the demonstrations
# Of aggressive dropout: the sensor that is never masked, how often each other one is, and whether there are others.
TARGET: dict[str, Any] = {"target": "", "supporting": 0.0, "specialist": False}
OTHERS: dict[str, Any] = {"copies": 1, "paint_depth": False, "lost": {}}
# Little is simulated, so one core of a job is left to the network; what is not learned in this trial is off.
BASE = {"render_size": None, "demo_epochs": 12, "replay_rows": 0, "num_envs": 1, "validation_episodes": 64}
_HELD_OUT = 999  # seed of the demonstrations that nobody copies; trainings begin at 0
_BATCH = 512


def prepare(options: Options, folder: Path) -> None:
    """Records the demonstrations that these options ask for, unless they are there.

    Args:
        options: that all jobs share.
        folder: for the demonstrations.

    Raises:
        StateError: the expert did not succeed often enough.
    """
    config, data = _config(options, 0, folder)
    for name, episodes, seed in (("copied", data["episodes"], 0), ("held-out", data["held_out"], _HELD_OUT)):
        record = Record(
            task=config.task,
            robot=config.robot,
            episodes=episodes,
            out=_demos(config, data, folder, name),
            keep="all",
            noise=data["noise"],
            seed=seed,
            image_size=config.scenes.image_size,
            render_size=config.scenes.render_size,
            cameras=config.scenes.cameras,
            renderer=config.scenes.renderer,
        )
        if run_record(record):
            raise StateError(f"the demonstrations in {record.out} could not be recorded")


def run(options: Options, seed: int, folder: Path, report: Callable[[float], None]) -> dict[str, float]:
    """Trains and judges one policy.

    Args:
        options: of `robofuse train` by plain names, of the demonstrations, and `prepared`, the folder that holds them.
        seed: of network, masks and the order of rows.
        folder: of the job; gets the policy, `policy.safetensors`.
        report: told the share that is done.

    Returns:
        By condition such as `all`, `no-rgb` and `only-rgb`: `success/…` in closed loop on scenes that nobody has seen;
        `action/…`, the squared difference to the expert's action, also by phase (`action/all@contact`), and, with
        auxiliary heads, `offset/…` [mm], the error of what they say of the object's place from the hand, both on
        held-out demonstrations; `estimate/relative…`, the errors of estimated tokens, see `u2a/alignment.py`.
        `success/worst` is the least with one sensor missing, `success/alone` the mean of each sensor alone, `…/target`
        with the target alone; `parameters`; `painted`, the mean error of painted depth [mm]. Not the same twice are
        `seconds` of training, and `milliseconds`, the processor's time for one action with all sensors but depth.
    """
    began, prepared = time.perf_counter(), Path(options["prepared"])
    config, data = _config({name: x for name, x in options.items() if name != "prepared"}, seed, prepared)
    others = {name: options.get(name, value) for name, value in OTHERS.items()}
    held_out = _demos(config, data, prepared, "held-out")
    env = make_env(config)
    try:
        torch.manual_seed(seed)
        with warnings.catch_warnings():  # nothing is rolled out
            warnings.filterwarnings("ignore", "You have specified a mini-batch size")
            policy = make_model(config, env).policy
        keys, painted, complete = [sensor.key for sensor in env.world.sensors], 0.0, None
        if others["paint_depth"]:
            painted = 0.2
            network = _painter(config, env.world.sensors, seed, lambda share: report(painted * share))
            complete = Completion(network, keys)
        cloning, done = BehaviourCloning(config, env.world, complete), 0
        cloning.lose(others["lost"])

        def show(_: str) -> None:
            nonlocal done
            done += 1
            report(painted + (0.8 - painted) * done / config.imitation.demo_epochs)

        cloning.run(policy, show, lambda: False)
        seconds = time.perf_counter() - began
        policy.set_training_mode(False)

        def actor(policy: Policy) -> Actor:
            acts = policy if complete is None else Completed(policy, complete)
            return Averaged(policy, others["copies"]) if others["copies"] != 1 else acts

        validator = Validator(config, keys)
        try:
            success = validator.run(policy, lambda: False, actor)
        finally:
            validator.close()
        report(0.95)
        save(policy, folder / "policy.safetensors", world_options(config))
        errors = _held_out(policy, validator.conditions, held_out, config, env.world.privileged_names, complete)
        errors["milliseconds"] = _milliseconds(actor(Policy(policy, "timed")), keys, held_out)
    finally:
        env.close()
    found = by_condition(success, validator.conditions) | errors
    if target := options.get("target"):
        named = "all" if options.get("specialist") else f"only-{target}"
        parts = ("success", "action", "offset")
        found |= {f"{what}/target": found[f"{what}/{named}"] for what in parts if f"{what}/{named}" in found}
    learnable = [weight for weight in policy.parameters() if weight.requires_grad]
    return found | {"parameters": float(sum(weight.numel() for weight in learnable)), "seconds": seconds}


def _painter(config: Train, sensors: Sequence[Sensor], seed: int, report: Callable[[float], None]) -> DepthFromColour:
    """A network that has learned depth from colour from the demonstrations that are copied."""
    by_key, episodes = {sensor.key: sensor for sensor in sensors}, read(config.imitation.demos).episodes
    rgb, depth = (torch.cat([one.observation[key] for one in episodes]) for key in ("rgb", "depth"))
    return learn_depth(rgb, depth, DepthFromColour(by_key["rgb"], by_key["depth"]), seed=seed, report=report)


def _milliseconds(actor: Actor, keys: Sequence[str], demos: Path, calls: int = 100) -> float:
    """Median time of the processor for an action on one observation without depth, for which some have to do more."""
    episode = read(demos).episodes[0]
    row = {key: take(episode.observation[key], torch.zeros(1, dtype=torch.int64)) for key in keys}
    row[AVAILABLE] = torch.tensor([[key != "depth" for key in keys]], dtype=torch.int8)
    taken = []
    for _ in range(calls):
        before = time.thread_time()
        actor.act(row)
        taken.append(1000.0 * (time.thread_time() - before))
    return float(np.median(taken))


def by_condition(success: Mapping[str, float], conditions: Sequence[Condition]) -> dict[str, float]:
    """Metrics of success by condition; see `run`."""
    found = {f"success/{name}": value for name, value in success.items()}
    if without := removed(conditions):
        found["success/worst"] = min(success[name] for name in without)
    if left := alone(conditions):
        found["success/alone"] = float(np.mean([success[name] for name in left]))
    return found


def from_json(options: Options) -> dict[str, Any]:
    """Options of `robofuse train`, in which lists stand for tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def demonstrations(options: Options, folder: Path, name: str) -> Path:
    """The folder in which `prepare` has put demonstrations; `name` is `copied` or `held-out`."""
    return _demos(*_config(options, 0, folder), folder, name)


def _config(options: Options, seed: int, folder: Path) -> tuple[Train, dict[str, Any]]:
    """The training's options and those of the demonstrations."""
    data = {name: options.get(name, value) for name, value in DATA.items()}
    own = {name: x for name, x in from_json(options).items() if name not in (*DATA, *TARGET, *OTHERS)}
    own |= _aggressive(**{name: options.get(name, value) for name, value in TARGET.items()})
    config = preset("quick").replace(**BASE | {"device": "cpu", "threads": 1, "seed": seed} | own)
    config.check()
    config, _ = resolve(config)
    return config.replace(demos=str(_demos(config, data, folder, "copied"))), data


def _aggressive(target: str, supporting: float, specialist: bool) -> dict[str, Any]:
    """Options of `robofuse train` that say so."""
    if not target:
        return {}
    if target not in MODALITIES:
        raise InputError(f"unknown target {target!r}; sensors: {', '.join(MODALITIES)}")
    if specialist or not supporting:
        return {"dropout": "none", "sensors": (target,) if specialist else MODALITIES}
    rates = tuple(f"{key}={supporting}" for key in MODALITIES if key != target)
    return {"dropout": "rates", "rates": rates, "full": 0.0}


def _demos(config: Train, data: Mapping[str, Any], folder: Path, name: str) -> Path:
    what = f"{config.task}-{config.robot}-{config.scenes.image_size}-{data['episodes']}-{data['noise']:g}".lower()
    return folder / f"{what}-{name}"


@torch.no_grad()
def _held_out(
    policy: FusionActorCriticPolicy,
    conditions: list[Condition],
    demos: Path,
    config: Train,
    names: Sequence[str],
    complete: Completion | None,
) -> dict[str, float]:
    """Errors on demonstrations that nobody copied, by condition; `names` are those of `privileged`."""
    episodes, keys = read(demos).episodes, [sensor.key for sensor in policy.features_extractor.sensors]
    rows = {key: torch.cat([one.observation[key] for one in episodes]) for key in (*keys, PRIVILEGED)}
    wanted = policy.squashed(torch.cat([one.action for one in episodes]))
    heads = config.learning.aux_coef > 0.0
    offset = [i for i, place in enumerate(policy.visible) if names[place].endswith(("_dx", "_dy", "_dz"))]
    unit = policy.truth_norm.std[policy.visible][offset]
    truth = policy.visible_truth(rows[PRIVILEGED])[:, offset]
    phases, found = _phases(rows[PRIVILEGED], names), dict[str, float]()
    for condition in conditions:
        rows[AVAILABLE] = torch.tensor([[key in condition.live for key in keys]]).expand(len(wanted), -1).to(torch.int8)
        off, away = [], []
        for some in torch.arange(len(wanted)).split(_BATCH):
            batch = {key: take(x, some) for key, x in rows.items()}
            fused = policy.fuse(batch if complete is None else complete(batch))
            off.append((policy.mean_action(fused) - wanted[some]).square().sum(1))
            if heads:
                told = policy.truth_heads.features(fused.features)[:, offset]
                away.append(((told - truth[some]) * unit).square().sum(1).sqrt())
        found[f"action/{condition.name}"] = float(torch.cat(off).mean())
        for phase, within in phases.items():
            found[f"action/{condition.name}@{phase}"] = float(torch.cat(off)[within].mean())
        if heads:
            found[f"offset/{condition.name}"] = 1000.0 * float(torch.cat(away).mean())
    if complete is not None:
        wanted_depth, painted = millimetres(rows["depth"]), millimetres(complete.network.paint(rows["rgb"]))
        found["painted"] = float((painted - wanted_depth).abs()[wanted_depth > 0].mean())
    if policy.features_extractor.masked_as == "estimate":
        rows[AVAILABLE] = torch.ones_like(rows[AVAILABLE])
        extractor = policy.features_extractor
        fused = extractor.fuse({key: x[:: max(1, len(wanted) // _BATCH)] for key, x in rows.items()})
        said = Alignment(extractor)(extractor, fused, {})
        found |= {f"estimate/{name}": float(x) for name, x in said.items() if name != "loss"}
    return found


def _phases(privileged: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Rows of each phase of a task with touches, bool (n,), as far as there are any; see `Grasp.phase`."""
    if "touch_left" not in names:
        return {}
    left, right, table = (privileged[:, names.index(f"touch_{what}")] > 0 for what in ("left", "right", "table"))
    touched = left | right
    parts = {"reach": ~touched, "contact": touched & table, "lift": touched & ~table}
    return {name: within for name, within in parts.items() if bool(within.any())}


def about(options: Options) -> str:
    """What a job does with these options, in sentences."""
    config, data = _config(options, 0, Path())
    return (
        f"A policy copies {data['episodes']:,} recorded demonstrations of {config.task} with the robot {config.robot}, "
        f"{config.imitation.demo_epochs} passes; success is the share of {config.records.validation_episodes} unseen "
        f"scenes, the same in every job, and errors are those on {data['held_out']} held-out demonstrations."
    )


KIND = Kind(run, prepare, about=about)
