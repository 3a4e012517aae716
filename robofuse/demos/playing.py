"""Plays episodes to be recorded: one after the other, whatever the number of worlds."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from robofuse.demos.episode import Episode
from robofuse.envs import World
from robofuse.rng import Stream, normal
from robofuse.tensors import one_torch_thread

_SALT = 0x5A  # the noise of actions within the stream of noise; sensors have 0 and 1

Act = Callable[[dict[str, Tensor]], Tensor]


def play(world: World, act: Act, noise: float = 0.0, first: int = 0) -> Iterator[Episode]:
    """Episodes `first`, `first` + 1, … in this order, for as long as somebody asks.

    What is in an episode depends on (the world's seed, its number) alone, as far as the demonstrator's arithmetic
    does not depend on how many it acts for at a time.

    Args:
        world: made with `auto_reset=True`; reset by this call.
        act: observation → actions (N, A).
        noise: standard deviation of what is added to them, clipped to the bounds.
        first: number of the first episode.
    """
    observation = world.reset(episode=first)
    env_ids: list[list[tuple[dict[str, Tensor], Tensor, Tensor, Tensor, Tensor]]] = [[] for _ in range(world.num_envs)]
    ready: dict[int, Episode] = {}
    while True:
        with torch.no_grad(), one_torch_thread():
            chosen = act(observation).float().cpu().clamp(-1.0, 1.0)
        executed = chosen
        if noise:
            z = normal(world.seed, Stream.NOISE, world.episode, world.elapsed, chosen.shape[1], _SALT)
            executed = (chosen + noise * z.float()).clamp(-1.0, 1.0)
        step = world.step(executed)
        for env_id, history in enumerate(env_ids):
            sensed = {key: value[env_id] for key, value in observation.items()}
            history.append((sensed, chosen[env_id], executed[env_id], step.reward[env_id], step.success[env_id]))
        for env_id in step.ended.tolist():
            number = int(step.episode[env_id])
            ready[number] = _episode(env_ids[env_id], number, bool(noise))
            env_ids[env_id] = []
        observation = step.observation
        while first in ready:
            yield ready.pop(first)
            first += 1


def _episode(
    history: list[tuple[dict[str, Tensor], Tensor, Tensor, Tensor, Tensor]], number: int, noisy: bool
) -> Episode:
    sensed, *rest = zip(*history, strict=True)
    chosen, executed, reward, success = (torch.stack(one) for one in rest)
    observation = {key: torch.stack([one[key] for one in sensed]) for key in sensed[0]}
    return Episode(observation, chosen, reward, success, number, executed if noisy else None)
