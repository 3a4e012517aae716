"""What policies still know of the block after both cameras have died: `python scripts/remembered.py RUN [RUN …]`.

The heads that learn the simulator's truth from the fused features (`robofuse.policies.modules`) are asked, step by
step, where the block is. That separates what is not remembered from what is remembered and not acted upon.
"""

from contextlib import closing
from dataclasses import dataclass

import torch
import tyro
from rich.console import Console
from rich.table import Table

from robofuse.envs import World
from robofuse.faults import Plan
from robofuse.policies import Policy, load
from robofuse.sensors import PRIVILEGED
from robofuse.tensors import one_torch_thread


@dataclass(frozen=True)
class Config:
    """What to ask.

    Attributes:
        policies: Policy files or run folders of Grasp, with their critics.
        episodes: Scenes; the same for every policy.
        onset: Control step at which the pictures end; 1 leaves the first look.
        steps: Control steps at which the heads are asked.
        seed: Of the scenes.
    """

    policies: tyro.conf.Positional[tuple[str, ...]]
    episodes: int = 300
    onset: int = 1
    steps: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 30)
    seed: int = 1_000_000


@one_torch_thread()
def errors(policy: Policy, config: Config) -> list[tuple[float, float]]:
    """Median error of the block's place [mm], and of cos and sin of four times its yaw, at each of the steps."""
    network = policy.network
    if not network.truth_dim:
        raise SystemExit(f"{policy.name} has no heads, as policies that come along; give the folder of a training")
    with closing(World(num_envs=config.episodes, seed=config.seed, auto_reset=False, privileged=True,
                       **policy.world)) as world:  # fmt: skip
        visible = world.task.visible()
        names = [world.privileged_names[i] for i in visible]
        pairs = ("block_x", "block_y"), ("yaw_cos4", "yaw_sin4")
        place, yaw = ([names.index(name) for name in pair] for pair in pairs)
        pictures = [sensor.key for sensor in world.sensors if sensor.kind in ("rgb", "depth")]
        plan = Plan.parse("+".join(f"{key}:blackout@{config.onset}!" for key in pictures), world.sensors)
        world.reset()
        every = torch.arange(config.episodes)
        observation = world.restart(every, every, [plan] * config.episodes)
        env_ids, found, going = policy.stateful(config.episodes), [], torch.ones(config.episodes, dtype=torch.bool)
        for step in range(max(config.steps) + 1):
            fused = env_ids.fuse(observation)
            truth = network.truth_norm(observation[PRIVILEGED].float())[:, visible]
            with torch.no_grad():
                apart = (network.truth_heads.features(fused.features) - truth) * network.truth_norm.std[visible]
            if step in config.steps:
                apart = apart[going]
                found.append((1000 * float(apart[:, place].norm(dim=1).median()), float(apart[:, yaw].abs().median())))
            result = world.step(network.act_fused(fused))
            going &= ~(result.terminated | result.truncated)
            observation = result.observation
    return found


def main(config: Config) -> None:
    """Prints the table."""
    table = Table("policy", "median error of", *(f"step {step}" for step in config.steps))
    for name in config.policies:
        found = errors(load(name), config)
        table.add_row(name, "place [mm]", *(f"{place:.0f}" for place, _ in found))
        table.add_row("", "cos, sin of 4 yaw", *(f"{yaw:.2f}" for _, yaw in found), end_section=True)
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Config))
