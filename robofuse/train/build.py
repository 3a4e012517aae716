"""From options to worlds and a learner."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from robofuse.dropout import (
    Constant,
    Cosine,
    Dropout,
    Groups,
    Independent,
    Law,
    Linear,
    Markov,
    Rates,
    Schedule,
    Subsets,
)
from robofuse.envs import World
from robofuse.envs.cameras import resolve
from robofuse.envs.sb3 import SB3VecEnv
from robofuse.errors import InputError
from robofuse.evaluate.conditions import standard
from robofuse.faults import Mix, Plan
from robofuse.files import read_tensors
from robofuse.memory import VecSensorStack, stacked_sensors
from robofuse.policies import FusionPPO
from robofuse.policies.files import check_device
from robofuse.policies.teacher import Teacher, load_teacher
from robofuse.train.best import BEST, FINAL
from robofuse.train.groups import Hiding
from robofuse.train.options import Train, preset
from robofuse.train.warm_start import WarmStart

TEACHER = "teacher"  # folder of the teacher's training in that of its student
VALIDATION_SEED = 2_000_000  # neither a seed of trainings (below 1000) nor that of `robofuse evaluate`
_VALIDATING = 64  # worlds at most


def world_options(config: Train) -> dict[str, Any]:
    """What a policy file says of the world it was trained in, in plain JSON.

    Of cameras it says all there is to say, so that a name that means another camera one day does no harm.
    """
    scenes = config.scenes
    cameras = [asdict(camera) for camera in resolve(scenes.cameras, scenes.image_size)]
    return {
        "task": config.task,
        "robot": config.robot,
        "sensors": list(scenes.sensors),
        "cameras": [{k: list(x) if isinstance(x, tuple) else x for k, x in one.items()} for one in cameras],
        "image_size": scenes.image_size,
        "renderer": scenes.renderer,
        "force_window": scenes.force_window,
    }


def make_env(config: Train) -> SB3VecEnv | VecSensorStack:
    """The worlds to train in."""
    hiding, network = config.hiding, config.network
    env = SB3VecEnv(
        num_envs=config.scenes.num_envs,
        privileged=True,
        dropout=make_dropout(config.hiding),
        faults=partial(Mix.parse, hiding.faults, hiding.fault_share) if hiding.faults else None,
        seed=config.seed,
        num_threads=config.threads,
        **_world(config),
    )
    return VecSensorStack(env, network.frames) if network.memory == "stack" else env


def make_validation_world(config: Train, episodes: int) -> World:
    """The worlds to validate in; `episodes` of all conditions together."""
    return World(
        num_envs=min(_VALIDATING, episodes),
        auto_reset=False,
        seed=VALIDATION_SEED,
        num_threads=config.threads,
        **_world(config),
    )


def _world(config: Train) -> dict[str, Any]:
    return world_options(config) | {"cameras": config.scenes.cameras}


def try_out(config: Train) -> None:
    """Whether worlds and a learner can be made of these options, apart from its teacher; ValueError if not."""
    tiny = config.replace(num_envs=2, n_steps=2, batch_size=4, teacher="none")
    env = make_env(tiny)
    try:
        make_model(tiny, env, Path())
        find_demos(config, env.world)
        standard([sensor.key for sensor in env.world.sensors])
    finally:
        env.close()


def find_demos(config: Train, world: World) -> WarmStart | None:
    """The demonstrations that the options ask for; ValueError if there are none or they are of something else."""
    if config.imitation.demos == "none":
        return None
    if config.network.memory != "none":
        raise InputError("--demos cannot be copied by a policy with --memory: demonstrations are read row by row")
    return WarmStart(config, world, world_options(config), make_dropout(config.hiding))


def make_model(config: Train, env: SB3VecEnv | VecSensorStack, folder: Path) -> FusionPPO:
    """The learner, with random weights; its own teacher is in the run's folder."""
    network, learning = config.network, config.learning
    sensors = env.world.sensors
    return FusionPPO(
        "FusionPolicy",
        env,
        learning_rate=learning_rate(config),
        n_steps=learning.n_steps,
        batch_size=learning.batch_size,
        n_epochs=learning.epochs,
        gamma=learning.gamma,
        gae_lambda=learning.gae_lambda,
        clip_range=partial(_ramp, learning.clip, learning.clip * learning.clip_final),
        ent_coef=partial(_ramp, learning.ent_coef, learning.ent_coef * learning.ent_final),
        aux_coef=learning.aux_coef,
        teacher=find_teacher(config, folder, len(env.world.privileged_names)),
        teacher_coef=learning.teacher_coef,
        teacher_until=learning.teacher_until,
        vf_coef=learning.vf_coef,
        max_grad_norm=learning.max_grad_norm,
        target_kl=learning.target_kl,
        stats_window_size=max(100, 4 * env.num_envs),
        seed=config.seed,
        device=config.device,
        policy_kwargs={
            "net_arch": list(network.hidden),
            "log_std_init": network.log_std_init,
            "features_extractor_kwargs": {
                "sensors": stacked_sensors(sensors, network.frames) if network.memory == "stack" else sensors,
                "token_dim": network.token_dim,
                "fusion": network.fusion,
                "encoders": own_encoders(config),
                "masked_as": network.masked_as,
                "mixed_precision": network.mixed_precision,
            },
            "visible": env.world.task.visible(),
            "memory": network.memory_size if network.memory == "recurrent" else 0,
            "frames": network.frames if network.memory == "stack" else 0,
        },
    )


def find_teacher(config: Train, folder: Path, truth: int) -> Teacher | None:
    """The teacher that the options ask for; ValueError if there is none or it is for something else."""
    asked = config.learning.teacher
    if not wants_teacher(config):
        return None
    path = str(folder / TEACHER) if asked == "auto" else asked
    return load_teacher(path, truth, config.device, task=config.task, robot=config.robot)


def teacher_cost(config: Train, folder: Path) -> dict[str, Any] | None:
    """What its training took, to the end, if that is known: steps and seconds."""
    if not wants_teacher(config):
        return None
    path = folder / TEACHER if config.learning.teacher == "auto" else Path(config.learning.teacher)
    file = path / FINAL if (path / FINAL).is_file() else path / BEST if path.is_dir() else path
    card = read_tensors(file)[1].get("card") or {}
    return {name: card.get(name) for name in ("steps", "seconds", "validation_seconds")}


def wants_teacher(config: Train) -> bool:
    """Whether anybody would listen to a teacher."""
    return config.learning.teacher != "none" and config.learning.teacher_coef > 0.0


def teacher_config(config: Train, folder: Path) -> Train:
    """How the teacher of a training is trained: same task, robot, worlds and seed."""
    same = {
        name: value
        for name, value in config.items()
        if name in ("task", "robot", "seed", "num_envs", "device", "threads")
    }
    return preset("teacher").replace(**same, steps=config.learning.teacher_steps, renderer="warp", out=folder / TEACHER)


def learning_rate(config: Train) -> Callable[[float], float]:
    """Learning rate by the share of the training that is left, from 1 to 0."""
    first = config.learning.lr
    last = first * config.learning.lr_final if config.learning.lr_schedule == "linear" else first
    return partial(_ramp, first, last)


def _ramp(first: float, last: float, left: float) -> float:
    return last + (first - last) * left


def make_dropout(hiding: Hiding) -> Dropout | None:
    """What to hide."""
    if hiding.dropout != "rates" and hiding.rates:
        raise InputError("--rates is for --dropout rates; the other laws take --p")
    if hiding.dropout == "none":
        return None
    ramp = {"warmup": hiding.warmup, "until": hiding.until}
    schedules: dict[str, Callable[[], Schedule]] = {
        "constant": Constant,
        "linear": lambda: Linear(**ramp),
        "cosine": lambda: Cosine(**ramp),
    }
    return Dropout(
        law=_law(hiding),
        every=hiding.every,
        schedule=schedules[hiding.schedule](),
        full=hiding.full,
        outage_steps=hiding.outage_steps,
    )


def _law(hiding: Hiding) -> Law:
    if hiding.dropout == "rates":
        return Rates(dict(_rate(text) for text in hiding.rates))
    if hiding.dropout == "subsets":
        return Subsets()
    if hiding.dropout == "markov":
        if not 0.0 <= hiding.p < 1.0 or not hiding.outage_steps >= 1.0:
            raise InputError(f"markov needs p in [0, 1) and outages of at least 1 step, got {hiding}")
        recover = 1.0 / hiding.outage_steps
        fail = recover * hiding.p / (1.0 - hiding.p)
        if fail > 1.0:
            raise InputError(
                f"outages of {hiding.outage_steps:g} steps cannot fill {hiding.p:.0%} of the time; longer outages, or "
                "a smaller p"
            )
        return Markov(fail, recover)
    return Groups(p=hiding.p) if hiding.dropout == "groups" else Independent(hiding.p)


def own_encoders(config: Train) -> dict[str, str]:
    """Names of encoders by sensor or kind of sensor."""
    pairs = [text.partition("=") for text in config.network.encoders]
    for key, _, name in pairs:
        if not key or not name:
            raise InputError(f"--encoders takes entries such as rgb=NAME, got {'='.join(filter(None, (key, name)))!r}")
    return {key: name for key, _, name in pairs}


def _rate(text: str) -> tuple[str, float]:
    key, _, value = text.partition("=")
    try:
        return key, float(value)
    except ValueError:
        raise InputError(f"--rates takes entries such as rgb=0.1, got {text!r}") from None


def settle(config: Train) -> tuple[Train, str]:
    """The configuration without `auto` and with what files of plans say, and what to tell people of it.

    Raises:
        ValueError: no such device, or a plan that cannot be read.
    """
    note, renderer = "", config.scenes.renderer
    if renderer == "auto":
        renderer = "warp"
        if {"rgb", "depth"} & set(config.scenes.sensors):
            try:
                World("Reach", 1, renderer="gl", image_size=32).close()
                renderer = "gl"
            except RuntimeError as error:
                note = f"the gl renderer does not work here ({error}), so warp draws; robofuse doctor says more"
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    config = config.replace(renderer=renderer, device=device)
    return config.replace(faults=_spelled_out(config)) if config.hiding.faults else config, note


def _spelled_out(config: Train) -> tuple[str, ...]:
    """The plans to train on, without files, which the run and its policies may outlive."""
    with closing(World(num_envs=1, **_world(config))) as world:
        sensors = world.sensors
    return tuple(text if text == "standard" else str(Plan.read(text, sensors)) for text in config.hiding.faults)
