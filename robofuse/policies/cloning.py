"""An agent that copies what an expert did, with sensors masked: a warm start, or all there is to learn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from robofuse.checks import at_least_zero, whole
from robofuse.dropout import Dropout, Law, RowMasker
from robofuse.errors import InputError
from robofuse.policies.agents import of_agent
from robofuse.sensors import AVAILABLE


def clone(
    agent: BaseAlgorithm,
    observations: Mapping[str, np.ndarray],
    actions: np.ndarray,
    *,
    dropout: Dropout | Law | float = 0.0,
    passes: int = 50,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: Callable[[int, float], object] | None = None,
) -> float:
    """Behaviour cloning (Pomerleau 1989) into an agent of Stable-Baselines3 with `FusionExtractor`.

    Every row is seen under masks of its own, drawn anew in every pass. Only what acts learns: the extractor and the
    actor, in place, by Adam, from the squared difference to the expert's action in a Box (before PPO's clipping, which
    has no gradient), or cross-entropy of discrete ones. Train on with `agent.learn` afterwards, or not. Recorded worlds
    of robofuse have `robofuse train --demos`.

    Args:
        agent: of PPO, A2C, SAC, TD3, DDPG, TQC, DQN or QR-DQN, with `available` in its observation. With an extractor
            that is shared with critics, they learn on from what it has become.
        observations: key → (N, …), as the agent's environment gives them, so after `VecNormalize`, if there is one;
            `available` may be missing.
        actions: (N, …), what the expert did, within the bounds of the action space.
        dropout: what to mask, as of `FusionExtractor`; a probability or a law.
        passes: over all rows.
        batch_size: rows of a gradient step.
        learning_rate: of Adam.
        seed: of the order of the rows and the masks.
        progress: called after each pass with its number, from 1, and its mean loss.

    Returns:
        The mean loss of the last pass.

    Raises:
        InputError: an agent of another kind; rows that do not fit the spaces; actions that are not finite.
    """
    whole(passes, "passes", 1)
    whole(batch_size, "batch_size", 1)
    at_least_zero(learning_rate, "learning_rate")
    network, policy, space = of_agent(agent), agent.policy, agent.action_space
    extractor, count = network.extractor, len(actions)
    keys = [sensor.key for sensor in extractor.sensors]
    layers, box = network.scores, isinstance(space, gym.spaces.Box)
    masker = RowMasker(dropout, extractor.told_of) if dropout else None
    if masker and AVAILABLE not in cast(gym.spaces.Dict, agent.observation_space).spaces:
        raise InputError(
            "the agent's observation has no `available`; wrap its environment in VecSensorDropout(env, 0.0)"
        )
    rows = _rows(agent, observations, keys, count)
    live = torch.ones(count, len(extractor.told_of), dtype=torch.bool, device=policy.device)
    if AVAILABLE in rows:
        live = extractor.available({AVAILABLE: rows[AVAILABLE]})[:, [key in extractor.told_of for key in keys]]
    wanted = torch.as_tensor(_checked(space, actions), device=policy.device)
    learned = [*extractor.parameters(), *layers.parameters()]
    optimizer = torch.optim.Adam([x for x in learned if x.requires_grad], learning_rate)
    loss_of = nn.MSELoss() if box else nn.CrossEntropyLoss()
    policy.set_training_mode(True)
    last = float("nan")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for number in range(1, passes + 1):
                total = 0.0
                for batch in torch.randperm(count).split(batch_size):
                    given = {key: x[batch] for key, x in rows.items()}
                    if masker is not None:
                        given[AVAILABLE] = extractor.tell(masker.draw(live[batch]))
                    plain = preprocess_obs(
                        cast(Any, given), agent.observation_space, normalize_images=policy.normalize_images
                    )
                    out = layers(extractor(cast(dict[str, Tensor], plain)))
                    loss = loss_of(out.reshape(len(batch), *wanted.shape[1:]) if box else out, wanted[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    total += float(loss.detach()) * len(batch)
                last = total / count
                if progress is not None:
                    progress(number, last)
    finally:
        policy.set_training_mode(False)
    for name in ("actor", "q_net", "quantile_net"):  # training begins with targets of what was learned
        if hasattr(policy, f"{name}_target"):
            getattr(policy, f"{name}_target").load_state_dict(getattr(policy, name).state_dict())
    return last


def _rows(
    agent: BaseAlgorithm, observations: Mapping[str, np.ndarray], keys: Sequence[str], count: int
) -> dict[str, Tensor]:
    """Observations as tensors on the agent's device, with `available`."""
    spaces = cast(gym.spaces.Dict, agent.observation_space).spaces
    given = {key: np.asarray(x) for key, x in observations.items() if key in spaces}
    if AVAILABLE in spaces and AVAILABLE not in given:
        given[AVAILABLE] = np.ones((count, *(spaces[AVAILABLE].shape or ())), np.int8)
    for key in spaces:
        if key not in given and key in keys:
            raise InputError(f"the agent reads {key!r}; the observations have {', '.join(observations)}")
        if key in given and len(given[key]) != count:
            raise InputError(f"{key!r} has {len(given[key])} rows, and there are {count} actions")
        if key in given and sorted(given[key].shape[1:]) != sorted(spaces[key].shape or ()):  # channels may move
            raise InputError(f"{key!r} is (N, …) of {given[key].shape[1:]}; the agent reads {spaces[key].shape}")
    return cast(dict[str, Tensor], agent.policy.obs_to_tensor(cast(Any, given))[0])


def _checked(space: gym.Space, actions: np.ndarray) -> np.ndarray:
    """Actions in the dtype of the loss; InputError if they are not of the space."""
    actions = np.asarray(actions)
    if isinstance(space, gym.spaces.Discrete):
        if actions.ndim != 1 or actions.dtype.kind not in "iu" or not ((actions >= 0) & (actions < space.n)).all():
            raise InputError(f"actions must be (N,) integers of {space}, got {actions.dtype} {actions.shape}")
        return actions.astype(np.int64)
    assert isinstance(space, gym.spaces.Box)
    if actions.shape[1:] != space.shape or not len(actions):
        raise InputError(f"actions must be (N, {', '.join(map(str, space.shape))}), got {actions.shape}")
    slack = 1e-4 * np.maximum(1.0, np.abs(space.high - space.low))
    if not ((actions >= space.low - slack) & (actions <= space.high + slack)).all():  # NaN is neither
        raise InputError(f"actions must be finite and within {space}; clip them: numpy.clip(actions, low, high)")
    return actions.astype(np.float32)
