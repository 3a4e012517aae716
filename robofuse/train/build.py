"""From options to worlds, a learner and its teacher."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from robofuse.checks import parse_numbers, parse_pairs, usable_cores
from robofuse.envs import World
from robofuse.envs.cameras import resolve as resolve_cameras
from robofuse.envs.sb3 import SB3VecEnv
from robofuse.envs.tasks import Task, resolve_task
from robofuse.errors import InputError
from robofuse.faults import Mix, Plan
from robofuse.files import read_tensors
from robofuse.machine import gl_problem
from robofuse.memory import stacked_sensors
from robofuse.policies import FusionPPO
from robofuse.policies.teacher import Advice, load_teacher
from robofuse.policies.u2a.weights import load_pretrained
from robofuse.ranks import on_this_machine, own_gpu
from robofuse.sensors import Sensor
from robofuse.tensors import find_device
from robofuse.train.checkpoint import BEST, FINAL
from robofuse.train.config import Train, preset
from robofuse.train.masking import make_dropout, spell_out_rates
from robofuse.wrappers import VecSensorStack

EXPERT, LEARNED = "expert", "learned"  # the scripted solution, and a policy that is trained first
TEACHER = "teacher"  # folder of the teacher's training in that of its student
VALIDATION_SEED = 2_000_000  # neither a seed of trainings (below 1000) nor that of `robofuse evaluate`
_MOST_VALIDATION_ENVS = 64


def resolve(config: Train) -> tuple[Train, str]:
    """Puts in what the options leave open by `auto` or nothing: renderer, device and threads of this machine, teacher.

    Returns:
        The options, and a note for the user, which may be empty.

    Raises:
        InputError: there is no such device.
    """
    note, renderer, device = "", config.scenes.renderer, config.device
    if config.scenes.physics != "mujoco" and renderer == "gl":
        raise InputError(f"--physics {config.scenes.physics} draws by mujoco_warp; leave --renderer gl out")
    if renderer == "auto" and config.scenes.physics != "mujoco":
        renderer = "warp"
    if renderer == "auto":
        renderer = "warp"
        if {"rgb", "depth"} & set(config.scenes.sensors):
            if problem := gl_problem():
                note = f"the gl renderer does not work here ({problem}), so warp draws; robofuse doctor says more"
            else:
                renderer = "gl"
    device = str(find_device(device))
    if config.device in ("auto", "cuda") and device != "cpu" and on_this_machine() > 1:
        device = f"cuda:{own_gpu()}"
    teacher, replay_rows = config.learning.teacher, config.learning.replay_rows
    if teacher == "auto":
        teacher = EXPERT if _has_expert(resolve_task(config.task)) else LEARNED
    elif teacher == EXPERT and not _has_expert(resolve_task(config.task)):
        raise InputError(
            f"the task {config.task} has no scripted expert; train a teacher first (--teacher learned), or go without "
            "(--teacher none)"
        )
    if config.network.memory == "recurrent":
        replay_rows = 0  # it learns from whole rollouts only
    remask = 0 if config.network.masked_as == "zeros" else config.learning.remask  # which has no mask tokens
    threads = config.threads or max(1, usable_cores() // on_this_machine())
    learned = {"teacher": teacher, "replay_rows": replay_rows, "remask": remask}
    rates = spell_out_rates(config.masking).rates
    return config.replace(
        renderer=renderer, device=device, threads=threads, **learned, rates=rates, rates_from=None
    ), note


def world_options(config: Train) -> dict[str, Any]:
    """Options of `World` as they are saved with a policy, in plain JSON.

    Cameras are described in full, so that the policy keeps them should a name mean another camera one day.
    """
    scenes = config.scenes
    cameras = [asdict(camera) for camera in resolve_cameras(scenes.cameras, scenes.image_size)]
    return {
        "task": config.task,
        "robot": config.robot,
        "sensors": list(scenes.sensors),
        "cameras": [{k: list(x) if isinstance(x, tuple) else x for k, x in one.items()} for one in cameras],
        "image_size": scenes.image_size,
        "render_size": drawn_size(config),
        "renderer": scenes.renderer,
        "force_window": scenes.force_window,
    }


def drawn_size(config: Train) -> int:
    """Pixels a side at which cameras draw: the least multiple of what is read that is large enough."""
    read, wanted = config.scenes.image_size, config.scenes.render_size or 1
    return read * -(-wanted // read)


def make_env(config: Train) -> SB3VecEnv | VecSensorStack:
    """The worlds to train in.

    Raises:
        InputError: options that `World` refuses, a dropout law that does not fit them, or a plan that cannot be read.
    """
    failures, network, physics = config.failures, config.network, config.scenes.physics
    env = SB3VecEnv(
        physics="warp" if physics == "warp" else "mujoco",
        device="cpu" if physics == "mujoco" else config.device,
        num_envs=config.scenes.num_envs,
        privileged=True,
        dropout=make_dropout(config.masking),
        fill="keep" if config.masking.encode_masked else "zeros",
        faults=partial(Mix.parse, failures.faults, failures.fault_share) if failures.faults else None,
        seed=config.seed,
        num_threads=config.threads,
        **world_options(config),
    )
    return VecSensorStack(env, network.frames) if network.memory == "stack" else env


def make_validation_world(config: Train, episodes: int) -> World:
    """The worlds to validate in, as many as are useful for this number of episodes."""
    return World(
        num_envs=min(_MOST_VALIDATION_ENVS, episodes),
        auto_reset=False,
        seed=VALIDATION_SEED,
        num_threads=config.threads,
        **world_options(config),
    )


def make_model(config: Train, env: SB3VecEnv | VecSensorStack) -> FusionPPO:
    """The learner, with random weights, but for pretrained encoders, and still without a teacher.

    Raises:
        InputError: options that the network or PPO refuse, or encoders that do not fit.
    """
    network, learning = config.network, config.learning
    sensors = env.world.sensors
    if learning.augment and not learning.replay_rows and config.imitation.demos == "none":
        raise InputError(
            "--augment changes rows that are copied: past rows of a teacher (--replay-rows) or --demos, and there are "
            "neither"
        )
    model = FusionPPO(
        "FusionPolicy",
        env,
        learning_rate=ramp(learning.lr, learning.lr * (learning.lr_final if learning.lr_schedule == "linear" else 1.0)),
        n_steps=learning.n_steps,
        batch_size=learning.batch_size,
        n_epochs=learning.epochs,
        gamma=learning.gamma,
        gae_lambda=learning.gae_lambda,
        clip_range=ramp(learning.clip, learning.clip * learning.clip_final),
        ent_coef=ramp(learning.ent_coef, learning.ent_coef * learning.ent_final),
        policy_coef=learning.policy_coef,
        aux_coef=learning.aux_coef,
        sensor_weights=sensor_weights(config),
        modulation=learning.modulation,
        modulation_noise=learning.modulation_noise,
        teacher_coef=learning.teacher_coef,
        teacher_until=learning.teacher_until,
        teacher_final=learning.teacher_final,
        remask=learning.remask,
        remask_keep=learning.remask_keep,
        remask_coef=learning.remask_coef,
        remask_self=learning.remask_self,
        replay_rows=learning.replay_rows,
        replay_passes=learning.replay_passes,
        balance=learning.balance,
        augment=augmentations(config) if learning.replay_rows else None,
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
                "encoders": encoder_names(config),
                "masked_as": network.masked_as,
                "estimate": network.estimate,
                "adapt": network.adapt,
                "mixed_precision": network.mixed_precision,
                "encode_masked": encodes_masked(config),
                "token_dropout": parse_numbers("--token-dropout", "standard=0.1", network.token_dropout),
            },
            "visible": env.world.task.visible(),
            "memory": network.memory_size if network.memory == "recurrent" else 0,
            "frames": network.frames if network.memory == "stack" else 0,
            "regularisers": parse_numbers("--regularisers", "contrastive=0.1", learning.regularisers),
        },
    )
    if network.pretrained != "none":
        load_pretrained(model.policy.features_extractor, network.pretrained)
    return model


def needs_teacher(config: Train, folder: Path) -> bool:
    """Whether a teacher has to be trained before a run in this folder can go on."""
    return _has_teacher(config) and config.learning.teacher == LEARNED and not (folder / TEACHER / FINAL).exists()


def find_teacher(config: Train, folder: Path, world: World) -> tuple[Advice, dict[str, Any]] | None:
    """The teacher that the options name, and what its training took; None for a training without one.

    Args:
        config: options.
        folder: of the run, with its own teacher in it.
        world: the worlds of the run.

    Returns:
        The teacher, and the `steps`, `seconds` and `validation_seconds` of its whole training, None where unknown.

    Raises:
        InputError: there is no such policy, or it is for another task or robot.
    """
    if not _has_teacher(config):
        return None
    if config.learning.teacher == EXPERT:
        return lambda _: world.expert(), {"steps": 0, "seconds": 0.0, "validation_seconds": 0.0}
    path = folder / TEACHER if config.learning.teacher == LEARNED else Path(config.learning.teacher)
    size = len(world.privileged_names)
    try:
        teacher = load_teacher(str(path), size, config.device, task=config.task, robot=config.robot)
    except InputError as error:
        raise InputError(f"--teacher takes auto, {EXPERT}, {LEARNED}, none or a policy: {error}") from None
    file = path / FINAL if (path / FINAL).is_file() else path / BEST if path.is_dir() else path
    card = read_tensors(file)[1].get("card") or {}
    return teacher, {name: card.get(name) for name in ("steps", "seconds", "validation_seconds")}


def _has_expert(task: Task) -> bool:
    return type(task).expert is not Task.expert


def _has_teacher(config: Train) -> bool:
    return config.learning.teacher != "none" and config.learning.teacher_coef > 0.0


def teacher_config(config: Train, folder: Path) -> Train:
    """Options of the training of a run's own teacher: same task, robot, worlds and seed."""
    shared = ("task", "robot", "seed", "num_envs", "device", "physics", "threads")
    same = {name: value for name, value in config.items() if name in shared}
    return preset("teacher").replace(**same, steps=config.learning.teacher_steps, renderer="warp", out=folder / TEACHER)


def ramp(first: float, last: float) -> Callable[[float], float]:
    """A value that goes from first to last, as a function of the share of the training that is left, from 1 to 0."""
    return partial(_ramp, first, last)


def _ramp(first: float, last: float, left: float) -> float:
    return last + (first - last) * left


def encodes_masked(config: Train) -> bool:
    """Whether encoders learn from masked readings; InputError if nothing would teach them, or they do not get these."""
    if not config.masking.encode_masked:
        return False
    if not config.learning.aux_coef and not any(
        one.startswith("reconstruction=") for one in config.learning.regularisers
    ):
        raise InputError("--encode-masked needs a loss on tokens: --aux-coef, or --regularisers reconstruction=1")
    if config.network.memory == "stack":
        raise InputError("--memory stack holds what was delivered, and no masked reading; leave --encode-masked out")
    return True


def encoder_names(config: Train) -> dict[str, str]:
    """Sensor or kind of sensor → name of its encoder, where it is not the standard one.

    Raises:
        InputError: an entry that is not KEY=NAME.
    """
    return parse_pairs("--encoders", "rgb=NAME", config.network.encoders)


def augmentations(config: Train) -> dict[str, float]:
    """Strength of each augmentation; InputError for an entry that is not NAME=NUMBER."""
    return parse_numbers("--augment", "shift=2", config.learning.augment)


def sensor_weights(config: Train) -> dict[str, float]:
    """Sensor → factor on the auxiliary loss of its token; InputError for an entry that is not KEY=NUMBER."""
    return parse_numbers("--sensor-weights", "rgb=2", config.learning.sensor_weights)


def spell_out_faults(config: Train, sensors: Sequence[Sensor]) -> Train:
    """Replaces names of files in `--faults` by the plans in them, which the run and its policies may outlive."""
    texts = config.failures.faults
    return config.replace(faults=tuple(x if x == "standard" else str(Plan.read(x, sensors)) for x in texts))
