"""An episode that is still going on, and checks of what it is made of."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from robofuse.demos.episode import Episode
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor


class Running:
    """Control steps of one episode."""

    def __init__(self, sensors: Sequence[Sensor], actions: int, privileged: int) -> None:
        """Empty.

        Args:
            sensors: in the order of `available`.
            actions: length of an action.
            privileged: length of the simulator's truth, 0 if it is not recorded.
        """
        self._expected: dict[str, tuple[tuple[int, ...], str]] = {s.key: (s.shape, s.dtype) for s in sensors}
        self._expected[AVAILABLE] = ((len(sensors),), "int8")
        if privileged:
            self._expected[PRIVILEGED] = ((privileged,), "float32")
        self._actions, self._steps = actions, list[tuple[dict[str, Tensor], Tensor, float, bool]]()

    def add(
        self,
        observation: Mapping[str, Tensor | np.ndarray],
        action: Tensor | np.ndarray | Sequence[float],
        reward: float,
        success: bool,
    ) -> None:
        """One control step; see `Recorder.add`."""
        found: dict[str, Tensor] = {}
        for key, (shape, dtype) in self._expected.items():
            if key not in observation:
                if key != AVAILABLE:
                    raise InputError(f"the observation has no {key!r}; it has {', '.join(observation)}")
                found[key] = torch.ones(shape, dtype=torch.int8)
                continue
            given = torch.as_tensor(observation[key]).detach().cpu()
            given = given.to(torch.int8) if key == AVAILABLE else given
            given = given[0] if given.shape == (1, *shape) else given
            if given.shape != shape or str(given.dtype) != f"torch.{dtype}":
                raise InputError(f"{key!r} must be {dtype} {shape}, got {given.dtype} {tuple(given.shape)}")
            found[key] = given.clone()  # whoever drives the robot may write into it
        chosen = torch.as_tensor(action).detach().cpu().float().flatten().clone()
        if chosen.shape != (self._actions,) or not bool(chosen.isfinite().all()):
            raise InputError(f"an action is {self._actions} finite numbers, got {chosen.tolist()}")
        self._steps.append((found, chosen, float(reward), bool(success)))

    def finish(self, scene: int) -> Episode:
        """The episode, and nothing is left for the next one."""
        observations, actions, rewards, successes = zip(*self._steps, strict=True)
        self._steps = []
        return Episode(
            {key: torch.stack([one[key] for one in observations]) for key in self._expected},
            torch.stack(actions),
            torch.tensor(rewards),
            torch.tensor(successes),
            scene,
        )

    def discard(self) -> int:
        """Forget it; how many control steps it had."""
        count, self._steps = len(self._steps), []
        return count

    def check(self, episode: Episode, executed: bool) -> None:
        """ValueError if an episode has no control steps, or other ones than these.

        Args:
            episode: which.
            executed: whether what was done is recorded beside what was chosen.
        """
        rows = {"action": (episode.action, (self._actions,), "float32"), "reward": (episode.reward, (), "float32")}
        rows["success"] = (episode.success, (), "bool")
        if executed or episode.executed is not None:
            if not executed or episode.executed is None:
                raise InputError("an episode has `executed` if and only if the Recorder was made with executed=True")
            rows["executed"] = (episode.executed, (self._actions,), "float32")
        for key, (shape, dtype) in self._expected.items():
            if key not in episode.observation:
                raise InputError(f"the episode has no {key!r}; it has {', '.join(episode.observation)}")
            rows[key] = (episode.observation[key], shape, dtype)
        for name, (x, shape, dtype) in rows.items():
            if not len(episode) or x.shape != (len(episode), *shape) or str(x.dtype) != f"torch.{dtype}":
                expected = f"{dtype} {(len(episode) or 'T', *shape)}"
                raise InputError(f"{name!r} of the episode must be {expected}, got {x.dtype} {tuple(x.shape)}")
