"""Who is measured: FusionPPO, SB3's PPO, and the same worlds without pictures, in turns; SB3's PPO learning a task."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from robofuse.envs import World
from robofuse.policies import FusionPPO
from robofuse.sensors import PRIVILEGED
from robofuse.train import Train
from robofuse.train.build import make_env, make_model, make_validation_world
from robofuse.train.validate import Interrupted, conditions_of, success_rates
from scripts.bench.curves import Point

BLIND = ("proprio", "force")
STEP_MM = 8  # of depth as a byte: 255 of them reach 2 m


class Recorder(BaseCallback):
    """Keeps the actions that FusionPPO executed, for worlds that are to live through the same."""

    def __init__(self) -> None:
        """Starts empty."""
        super().__init__()
        self.actions: list[np.ndarray] = []

    def _on_step(self) -> bool:
        self.actions.append(self.locals["executed"])
        return True


def compare(options: Train, rollouts: int, turns: int, advance: Callable[[], None]) -> dict[str, Any]:
    """Samples per second end to end, bytes per stored step, and seconds by phase.

    The split of FusionPPO's simulation is a subtraction: worlds with the same scenes but without cameras execute the
    same actions, and what they need less is called rendering. Drawing overlaps with computing, so this is what
    pictures cost, not what they would take alone.

    Args:
        options: without `auto`.
        rollouts: rollouts with their updates in a turn.
        turns: turns of each.
        advance: called 3 × (turns + 1) times.

    Returns:
        `training`, `memory` and `phases`.
    """
    with ExitStack() as stack:
        ours, theirs, blind = (
            stack.enter_context(closing(make_env(one))) for one in (options, options, options.replace(sensors=BLIND))
        )
        fusion, wrapped = make_model(options, ours), ByteDepth(theirs)
        sb3 = PPO(
            "MultiInputPolicy",
            wrapped,
            n_steps=options.learning.n_steps,
            batch_size=options.learning.batch_size,
            n_epochs=options.learning.epochs,
            seed=options.seed,
            device=options.device,
        )
        blind.reset()
        per_rollout = options.scenes.num_envs * options.learning.n_steps
        held, fused = Held(), Recorder()

        # The first rollout and update of each are slower than all others, so they do not count.
        fusion.learn(per_rollout, fused)
        advance()
        sb3.learn(per_rollout, held)
        memory = {"fusion": held_by_fusion(fusion), "sb3": held_by_sb3(sb3, held.arrays)}
        held.arrays = {}
        advance()
        _replay(blind, fused)
        advance()

        seconds: dict[str, list[float]] = {"fusion": [], "sb3": []}
        phases: dict[str, list[float]] = {name: [] for name in ("simulate", "render", "act", "learn", "other")}
        for _ in range(turns):
            before = dict(fusion.seconds)
            whole = _timed(lambda: fusion.learn(rollouts * per_rollout, fused, reset_num_timesteps=False))
            spent = {name: fusion.seconds[name] - before[name] for name in before}
            seconds["fusion"].append(whole)
            advance()
            seconds["sb3"].append(_timed(lambda: sb3.learn(rollouts * per_rollout, reset_num_timesteps=False)))
            advance()
            physics = _timed(lambda: _replay(blind, fused))
            advance()
            spent |= {"other": whole - sum(spent.values()), "render": spent["simulate"] - physics, "simulate": physics}
            for name, values in phases.items():
                values.append(spent[name] / rollouts)
        samples = rollouts * per_rollout
        ratios = [slow / fast for fast, slow in zip(seconds["fusion"], seconds["sb3"], strict=True)]
        training: dict[str, Any] = {
            name: {
                "samples_per_second": samples / median(values),
                "turns": [samples / value for value in values],
                "weights": sum(x.numel() for x in model.policy.parameters()),
            }
            for (name, values), model in zip(seconds.items(), (fusion, sb3), strict=True)
        }
        training["ratio"] = median(seconds["sb3"]) / median(seconds["fusion"])
        training |= {"ratio_least": min(ratios), "ratio_most": max(ratios)}
        return {
            "training": training,
            "memory": memory,
            "phases": {name: median(values) for name, values in phases.items()} | {"samples": per_rollout},
        }


def live_rows(options: Train, p: float, turns: int, advance: Callable[[], None]) -> dict[str, Any]:
    """Seconds of acting and learning on one rollout, encoding live rows only and encoding all.

    Sensors are hidden independently with probability p, drawn anew in every step so that a short rollout has the share
    that it should; every turn begins with the same weights.

    Args:
        options: without `auto`.
        p: probability of masking a sensor.
        turns: turns of each.
        advance: called 2 × turns times.

    Returns:
        `live` and `all`, seconds of `act` and `learn`; `speedup` of both together and of each; `share` of the readings
        that are live.
    """
    masked = options.replace(dropout="independent", p=p, full=0.0, every="step", schedule="constant")
    with closing(make_env(masked)) as env:
        model = make_model(masked, env)
        model.learn(model.n_steps * env.num_envs)  # the rollout, and a warm-up
    weights = copy.deepcopy(model.policy.state_dict()), copy.deepcopy(model.policy.optimizer.state_dict())
    spent: dict[str, dict[str, list[float]]] = {name: {"act": [], "learn": []} for name in ("live", "all")}
    for turn in range(turns + 1):
        for name, only in (("live", True), ("all", False)):
            model.policy.features_extractor.live_rows_only = only
            model.policy.load_state_dict(weights[0])
            model.policy.optimizer.load_state_dict(copy.deepcopy(weights[1]))
            act, learn = _timed(lambda: _act(model)), _timed(model.train)
            if turn:  # the first is a warm-up
                spent[name]["act"].append(act)
                spent[name]["learn"].append(learn)
                advance()
    row: dict[str, Any] = {name: {part: median(values) for part, values in x.items()} for name, x in spent.items()}
    both = {name: median([a + b for a, b in zip(x["act"], x["learn"], strict=True)]) for name, x in spent.items()}
    speedup = {part: row["all"][part] / row["live"][part] for part in ("act", "learn")}
    share = float(model.rollout_buffer.stored["available"].float().mean())
    return {"p": p, "share": share, **row, "speedup": {"both": both["all"] / both["live"], **speedup}}


def _act(model: FusionPPO) -> None:
    """What FusionPPO computes between two steps, for every step of its rollout."""
    model.policy.set_training_mode(False)
    with torch.no_grad():
        for step in range(model.n_steps):
            actions, _, _ = model.policy({key: x[step] for key, x in model.rollout_buffer.stored.items()})
            model.policy.execute(actions).cpu()


def _replay(env: VecEnv, recorder: Recorder) -> None:
    """Every action that was recorded, and forgets them."""
    for actions in recorder.actions:
        env.step(actions)
    recorder.actions.clear()


def _timed(run: Callable[[], object]) -> float:
    """Seconds, with what the GPU still has to do."""
    _wait()
    began = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


class ByteDepth(VecEnvWrapper):
    """Observations as SB3's CombinedExtractor needs them: depth as bytes, else it flattens it; no `privileged`."""

    def __init__(self, venv: VecEnv) -> None:
        """Wraps environments with a Dict space."""
        assert isinstance(venv.observation_space, gym.spaces.Dict)
        spaces = {key: space for key, space in venv.observation_space.spaces.items() if key != PRIVILEGED}
        self._depths = [key for key, space in spaces.items() if space.dtype == np.uint16]
        for key in self._depths:
            spaces[key] = gym.spaces.Box(0, 255, spaces[key].shape, np.uint8)
        self._keys = list(spaces)
        super().__init__(venv, observation_space=gym.spaces.Dict(spaces))

    def reset(self) -> VecEnvObs:
        """See `VecEnv.reset`."""
        return self.convert(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observation, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones):
            infos[index]["terminal_observation"] = self.convert(infos[index]["terminal_observation"])
        return self.convert(observation), rewards, dones, infos

    def convert(self, observation: VecEnvObs) -> dict[str, np.ndarray]:
        """An observation of the environments inside."""
        assert isinstance(observation, dict)
        converted = {key: observation[key] for key in self._keys}
        for key in self._depths:
            converted[key] = np.minimum(converted[key] // STEP_MM, 255).astype(np.uint8)
        return converted


class PlainPolicy:
    """A policy of SB3 as `robofuse.play` takes it; masked sensors read zero, and only `available` tells so."""

    def __init__(self, model: PPO, env: ByteDepth) -> None:
        """`env` is what the model learns in."""
        self._model, self._env = model, env

    def act(self, observation: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Actions without noise."""
        arrays = self._env.convert({key: x.numpy() for key, x in observation.items()})
        return torch.as_tensor(self._model.predict(arrays, deterministic=True)[0])  # pyright: ignore[reportArgumentType]


class Validations(BaseCallback):
    """Validates between updates, as `robofuse train` does, and notes the time."""

    def __init__(self, options: Train, env: ByteDepth, world: World, stop: Callable[[], bool]) -> None:
        """Nothing is validated yet.

        Args:
            options: of the training.
            env: what it learns in.
            world: to validate in.
            stop: asked after every step.
        """
        super().__init__()
        self.curve, self._options, self._env, self._world, self._stop = list[Point](), options, env, world, stop
        self._conditions = conditions_of(options, [sensor.key for sensor in world.sensors])
        self._began, self._spent = time.perf_counter(), 0.0
        self._bar = Progress(*Progress.get_default_columns(), console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("SB3's PPO", total=options.steps)

    def _on_training_start(self) -> None:
        self._began = time.perf_counter()
        self._bar.start()

    def _on_step(self) -> bool:
        self._bar.update(self._task, completed=self.num_timesteps)
        return not self._stop()

    def _on_rollout_start(self) -> None:
        done = self.curve[-1].step if self.curve else 0
        every = self._options.records.validate_every
        if self.num_timesteps // every > done // every:
            self._validate()

    def _on_training_end(self) -> None:
        if not self._stop() and not (self.curve and self.curve[-1].step == self.num_timesteps):
            self._validate()
        self._bar.stop()

    def _validate(self) -> None:
        began = time.perf_counter()
        assert isinstance(self.model, PPO)
        policy, episodes = PlainPolicy(self.model, self._env), self._options.records.validation_episodes
        try:
            rates = success_rates(policy, self._world, self._conditions, episodes, self._stop)
        except Interrupted:
            return
        now = time.perf_counter()
        self._spent += now - began
        success = {name: rate for name, rate in rates.items() if name == "all" or name.startswith("no-")}
        training = now - self._began - self._spent
        self.curve.append(Point(self.num_timesteps, 0.0, round(training, 3), round(self._spent, 3), success))
        shown = ", ".join(f"{name} {rate:.0%}" for name, rate in success.items())
        self._bar.console.print(f"validation at {self.num_timesteps:,}: {shown}", highlight=False, soft_wrap=True)


def learn_sb3(options: Train, stop: Callable[[], bool]) -> list[Point] | None:
    """Trains SB3's PPO with CombinedExtractor: our rollouts, epochs and discounts, else its own defaults.

    Args:
        options: without `auto`; nothing masked.
        stop: asked after every step.

    Returns:
        Its validations, None if `stop` has become true before the end.
    """
    learning, count = options.learning, options.records.validation_episodes
    with closing(make_env(options)) as worlds:
        conditions = len(conditions_of(options, [sensor.key for sensor in worlds.world.sensors]))
        with closing(make_validation_world(options, count * conditions)) as world:
            env = ByteDepth(worlds)
            model = PPO(
                "MultiInputPolicy",
                env,
                n_steps=learning.n_steps,
                batch_size=learning.batch_size,
                n_epochs=learning.epochs,
                gamma=learning.gamma,
                gae_lambda=learning.gae_lambda,
                seed=options.seed,
                device=options.device,
            )
            validations = Validations(options, env, world, stop)
            model.learn(options.steps, validations)
            return None if stop() else validations.curve


class Held(BaseCallback):
    """Looks at the arrays of SB3's rollout buffer when a rollout is complete."""

    arrays: dict[str, np.ndarray]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.arrays = stored_arrays(self.model.rollout_buffer)  # pyright: ignore[reportAttributeAccessIssue]


def stored_arrays(buffer: DictRolloutBuffer) -> dict[str, np.ndarray]:
    """Everything that SB3's buffer keeps, by name."""
    others = {name: x for name, x in vars(buffer).items() if isinstance(x, np.ndarray)}
    return {**buffer.observations, **others}


def held_by_sb3(model: PPO, before: dict[str, np.ndarray]) -> dict[str, Any]:
    """Bytes per step: held after a rollout, copied before the first epoch, and of that held beside at one time.

    Args:
        model: after an update.
        before: its arrays before it.
    """
    buffer = model.rollout_buffer
    assert isinstance(buffer, DictRolloutBuffer)
    after, steps = stored_arrays(buffer), buffer.buffer_size * buffer.n_envs
    return _bytes(before, [x for name, x in after.items() if not np.shares_memory(x, before[name])], steps)


def held_by_fusion(model: FusionPPO) -> dict[str, Any]:
    """The same for FusionPPO, at any time."""
    buffer = model.rollout_buffer
    tensors = {**buffer.stored, "actions": buffer.action_store, "scalars": buffer.scalars}
    copied = [x for x in buffer.stored.values() if x.flatten(0, 1).data_ptr() != x.data_ptr()]
    return _bytes(tensors, copied, buffer.buffer_size * buffer.n_envs)


def _bytes(held: Mapping[str, Any], copied: Sequence[Any], steps: int) -> dict[str, Any]:
    """Per step: all that is held, what is copied, and the largest copy; by name."""
    by_key = {name: x.nbytes / steps for name, x in held.items()}
    sizes = [x.nbytes / steps for x in copied]
    return {"held": sum(by_key.values()), "copied": sum(sizes), "beside": max(sizes, default=0.0), "by_key": by_key}
