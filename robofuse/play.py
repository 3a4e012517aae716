"""The one loop that plays episodes.

Evaluations, replays, recordings, validations and the calibration of monitors iterate over `play`. They play with a
trained policy (`load_trained`) in worlds like those it was trained in (`make_world`), or with a script (`scripted`).
"""

import hashlib
import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from robofuse.dropout import mask_sensors
from robofuse.envs import Noise, Step, Timing, World
from robofuse.errors import InputError
from robofuse.faults import Plan
from robofuse.machine import gl_problem
from robofuse.memory.stateful import stateful
from robofuse.registration import RENDERERS
from robofuse.sensors import AVAILABLE
from robofuse.tensors import numbers_of, one_torch_thread, put, take

if TYPE_CHECKING:
    from robofuse.policies import Policy

NOT_FINITE = "the policy's action was not finite"

# options of World that a training chooses for itself, and that do not change what the policy sees
_OWN = ("num_envs", "seed", "auto_reset", "privileged", "dropout", "faults", "num_threads")


class Actor(Protocol):
    """Anything that acts. A policy that remembers also has `stateful(num_envs)`, see `robofuse.policies.Policy`."""

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (N, A) in [−1, 1] for an observation, key → (N, …)."""
        ...


class Watch(Protocol):
    """A health monitor that watches N worlds."""

    def start(self, rows: Tensor, /) -> None:
        """New episodes begin in worlds int64 (n,)."""
        ...

    def step(self, observation: Mapping[str, Tensor], rows: Tensor, /) -> Tensor:
        """int8 (n, M), 1 for what is to be trusted; called once per control step with (n, …) of worlds int64 (n,)."""
        ...


class Monitor(Protocol):
    """A calibrated health monitor, see `robofuse.monitor`."""

    @property
    def card(self) -> dict[str, Any]:
        """How it was calibrated, plain JSON."""
        ...

    def stateful(self, num_envs: int, /) -> Watch:
        """A fresh watch over N worlds."""
        ...


class Ended(NamedTuple):
    """How an episode ended.

    Attributes:
        env_id: its world.
        job: its number in the queue.
        steps: its number of control steps.
        success: whether the task was done; false if it broke off.
        error: why it broke off: the simulation diverged, or `NOT_FINITE`; else empty.
    """

    env_id: int
    job: int
    steps: int
    success: bool
    error: str


@dataclass(frozen=True)
class PlayStep:
    """One control step of N worlds: observation, action and result.

    Worlds without a job are idle: they are simulated with actions 0, and their rows mean nothing.

    Attributes:
        jobs: world → number of the job that it plays in this step.
        began: the worlds whose episode began with this step.
        ended: the episodes that ended with this step.
        episode: int64 (N,), number of the episode.
        elapsed: int64 (N,), control steps before this one.
        observation: key → (N, …), for the policy: sensors that are unavailable or not trusted read zero.
        available: int8 (N, M), the sensors that the world says deliver, before the monitor was asked.
        trusted: bool (N, M), the sensors that the monitor trusts; all without a monitor.
        affected: bool (N, M), the sensors that faults have broken in this observation, announced or not.
        action: (N, A), of the policy. An action that is not finite ends the episode, and is not executed.
        step: the worlds' answer. Its tensors change with the next step.
        picture: uint8 (480, 640, 3), world 0 before the step; None without `pictures`.
    """

    jobs: dict[int, int]
    began: list[int]
    ended: list[Ended]
    episode: Tensor
    elapsed: Tensor
    observation: dict[str, Tensor]
    available: Tensor
    trusted: Tensor
    affected: Tensor
    action: Tensor
    step: Step
    picture: np.ndarray | None


def play(
    policy: Actor,
    world: World,
    jobs: Iterable[tuple[int, Plan | None]],
    *,
    monitor: Monitor | None = None,
    pictures: bool = False,
) -> Generator[PlayStep]:
    """Play episodes, as many at a time as there are worlds.

    Jobs wait in a queue. A world that has ended its episode takes the next one. The scene and the noise of an episode
    depend on (the world's seed, its number) alone: not on N, and not on the other jobs. Only matrix products of the
    policy may round differently for another N.

    Args:
        policy: acts.
        world: made with `auto_reset=False`; reset by this call.
        jobs: the queue, (number of the episode, its faults); None for the faults that the world was made with.
        monitor: masks the sensors that it does not trust.
        pictures: take a picture of world 0 before each step.

    Yields:
        Every control step, before the worlds that ended begin their next episode.

    Raises:
        InputError: the world resets by itself.
    """
    if world.auto_reset:
        raise InputError("episodes are played in a World(auto_reset=False): the queue says which one comes next")
    keys, device = [sensor.key for sensor in world.sensors], world.backend.device
    queue, playing = enumerate(jobs), dict[int, int]()
    actor = stateful(policy, world.num_envs)
    watch = None if monitor is None else monitor.stateful(world.num_envs)
    observation, free = world.reset(), list(range(world.num_envs))
    while True:
        began = dict(zip(free, queue, strict=False))
        if began:
            env_ids = torch.tensor(list(began), device=device)
            episodes, plans = zip(*(job for _, job in began.values()), strict=True)
            for key, first in world.restart(env_ids, episodes, None if None in plans else plans).items():
                put(observation[key], env_ids, first)
            actor.start(env_ids)
            if watch is not None:
                watch.start(env_ids)
            playing |= {env_id: number for env_id, (number, _) in began.items()}
        if not playing:
            return

        env_ids = torch.tensor(sorted(playing), device=device)
        available, affected = observation[AVAILABLE], world.affected
        trusted = torch.ones_like(available)
        if watch is not None:
            trusted[env_ids] = watch.step({key: take(value, env_ids) for key, value in observation.items()}, env_ids)
            observation = mask_sensors(observation, available & trusted, keys)
        picture = world.picture() if pictures else None

        with torch.no_grad(), one_torch_thread():  # small batches gain little from more threads
            answer = actor.act(observation).to(device)
        action = torch.zeros_like(answer)
        action[env_ids] = answer[env_ids]
        finite = action.isfinite().all(dim=1)

        now, elapsed, episode = dict(playing), world.elapsed, world.episode
        step = world.step(torch.where(finite[:, None], action, 0.0))
        ended = [
            Ended(env_id, playing.pop(env_id), int(elapsed[env_id]), False, NOT_FINITE)
            for env_id in (~finite).nonzero()[:, 0].tolist()
        ]
        for env_id in numbers_of(step.ended).tolist():
            if env_id in playing:
                failure = int(step.failure[env_id])
                error = world.cause(failure) if failure else ""
                success = bool(step.success[env_id]) and not error
                ended.append(Ended(env_id, playing.pop(env_id), int(world.elapsed[env_id]), success, error))
        yield PlayStep(
            now,
            list(began),
            ended,
            episode,
            elapsed,
            observation,
            available,
            trusted.bool(),
            affected,
            action,
            step,
            picture,
        )
        observation, free = dict(step.observation), [end.env_id for end in ended]


SCRIPTS = {
    "expert": "the task's scripted solution, which sees the simulator's truth and no sensor",
    "zero": "all actions 0",
    "random": "uniform actions",
}


@dataclass(frozen=True)
class Script:
    """An actor that ignores the observation; `choose` gives actions (N, A)."""

    choose: Callable[[], Tensor]

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (N, A)."""
        return self.choose()


def scripted(name: str, world: World, seed: int = 0) -> Script:
    """One of `SCRIPTS` for these worlds; `seed` is for random actions."""
    generator = torch.Generator().manual_seed(seed)
    shape = (world.num_envs, *(world.action_space.shape or ()))
    choices: dict[str, Callable[[], Tensor]] = {
        "expert": world.expert,
        "zero": lambda: torch.zeros(shape),
        "random": lambda: 2.0 * torch.rand(shape, generator=generator) - 1.0,
    }
    return Script(choices[name])


class Trained(NamedTuple):
    """A policy and how to build its worlds.

    Attributes:
        policy: the policy.
        options: of `World`, without those that a training chooses for itself; plain JSON.
        note: for the user, such as a renderer that the policy was not trained on; or empty.
    """

    policy: "Policy"
    options: dict[str, Any]
    note: str = ""


def load_trained(
    name: str, *, device: str = "auto", renderer: str | None = None, allow_mismatch: bool = False
) -> Trained:
    """Load a policy.

    Args:
        name: of a policy in the package, or a path; the file may be one of `robofuse export`.
        device: of the network: auto, cpu or cuda.
        renderer: by default the one that it was trained on, or warp where that does not work.
        allow_mismatch: let the renderer differ from that of the training.

    Raises:
        InputError: no such policy or renderer, or another renderer without `allow_mismatch`.
        StateError: an exported policy, and onnxruntime is not installed or too old.
    """
    from robofuse.export.played import SUFFIX, Played
    from robofuse.policies import load

    policy = Played(name, device) if Path(name).suffix == SUFFIX else load(name, device=device)
    options = {key: value for key, value in policy.world.items() if key not in _OWN}
    trained = options.setdefault("renderer", next(iter(RENDERERS)))
    sees = any(sensor.kind in ("rgb", "depth") for sensor in policy.sensors)
    if renderer is None and trained == "gl" and sees and (problem := gl_problem()):
        # to a millimetre and a shade of colour they draw the same
        note = f"pictures of warp, as gl, on which the policy was trained, does not work here ({problem})"
        return Trained(policy, {**options, "renderer": "warp"}, note)
    if renderer is None or renderer == trained:
        return Trained(policy, options)
    if renderer not in RENDERERS:
        raise InputError(f"unknown renderer {renderer!r}; renderers: {', '.join(RENDERERS)}")
    note = ""
    try:
        policy.check(policy.sensors, renderer)
    except ValueError:
        if not allow_mismatch:
            raise
        note = f"pictures of {renderer}, trained on {trained}"
    return Trained(policy, {**options, "renderer": renderer}, note)


def policy_title(name: str) -> str:
    """The name of a policy: its file or folder, and for `best` and `latest` of a training its folder, too."""
    path = Path(name)
    stem = path.stem if path.suffix in (".safetensors", ".onnx") else path.name
    return f"{path.absolute().parent.name}-{stem}" if stem in ("best", "latest") else stem


def make_world(
    trained: Trained, num_envs: int, seed: int, *, auto_reset: bool = False, privileged: bool = False
) -> World:
    """Make worlds like those that the policy was trained in; arguments as of `World`.

    Raises:
        InputError: options that World does not know, or other sensors than the policy's.
        StateError: the renderer does not work on this machine.
    """
    options, whose = dict(trained.options), f"the world of policy {getattr(trained.policy, 'name', '')!r}"
    known = [name for name in inspect.signature(World).parameters if name not in _OWN]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(
            f"{whose} has the option {unknown[0]!r}, which this robofuse does not know; it knows {', '.join(known)}"
        )
    if isinstance(options.get("noise"), Mapping):
        options["noise"] = _part(Noise, options["noise"], f"noise of {whose}")
    timing = options.get("timing") or {}
    if not isinstance(timing, Mapping):
        raise InputError(f"timing of {whose} must be given by sensor, got {timing!r}")
    options["timing"] = {key: _part(Timing, when, f"timing of {key} of {whose}") for key, when in timing.items()}
    try:
        world = World(num_envs=num_envs, seed=seed, auto_reset=auto_reset, privileged=privileged, **options)
    except TypeError as error:
        raise InputError(f"{whose} is described by something that is no world: {error}") from error
    try:
        trained.policy.check(world.sensors)
    except ValueError:
        world.close()
        raise
    return world


class Setup(NamedTuple):
    """A policy and its worlds.

    Attributes:
        world: without automatic reset.
        policy: acts in it.
        name: of the policy, for messages and file names.
        note: for the user, such as a renderer that the policy was not trained on; or empty.
        trained: the trained policy; None for a script.
    """

    world: World
    policy: Actor
    name: str
    note: str = ""
    trained: Trained | None = None


def open_setup(
    name: str,
    num_envs: int,
    seed: int,
    options: Mapping[str, Any],
    *,
    scripts: Sequence[str] = tuple(SCRIPTS),
    privileged: bool = False,
    device: str = "auto",
    renderer: str | None = None,
    allow_mismatch: bool = False,
) -> Setup:
    """A policy in worlds like those it was trained in, or one of `scripts` in worlds with these options of `World`.

    Options that are None or empty count as not given; other arguments are as of `load_trained` and `make_world`.

    Raises:
        InputError, StateError: as of `load_trained`, `make_world` and `World`; or options beside a trained policy.
    """
    given = {option: value for option, value in options.items() if value not in (None, ())}
    if name not in scripts:
        if given:
            option = "--" + next(iter(given)).replace("_", "-")
            raise InputError(f"{option} is for {', '.join(scripts)}; policy {name!r} brings its own world")
        trained = load_trained(name, device=device, renderer=renderer, allow_mismatch=allow_mismatch)
        world = make_world(trained, num_envs, seed, privileged=privileged)
        return Setup(world, trained.policy, policy_title(name), trained.note, trained)
    if renderer is not None:
        given["renderer"] = renderer
    world = World(num_envs=num_envs, seed=seed, auto_reset=False, privileged=privileged, **given)
    return Setup(world, scripted(name, world, seed), name)


def _part(what: type, given: Any, whose: str) -> Any:  # noqa: ANN401
    """A dataclass from plain JSON; anything else as it is."""
    if not isinstance(given, Mapping):
        return given
    try:
        return what(**{name: tuple(x) if isinstance(x, list) else x for name, x in given.items()})
    except TypeError:
        known = ", ".join(field.name for field in fields(what))
        raise InputError(f"{whose} is {dict(given)}; what robofuse knows there: {known}") from None


def fingerprint(policy: object) -> str | None:
    """SHA-256 of the weights of a policy's `network`, or of an exported file; None if it has neither.

    The critic does not count: files may come without it, and then it is random.
    """
    from robofuse.policies.saving import CRITIC

    if isinstance(exported := getattr(policy, "digest", None), str):
        return exported
    network = getattr(policy, "network", None)
    if not isinstance(network, nn.Module):
        return None
    return hash_weights(network, CRITIC)


def hash_weights(network: nn.Module, left_out: str | tuple[str, ...] = ()) -> str:
    """SHA-256 of all weights, but for those whose names begin with `left_out`."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name.startswith(left_out):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
