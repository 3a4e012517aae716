"""How FusionPPO steps environments: tensors of our worlds, by number and by mask, and arrays of any `VecEnv`."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnvWrapper
from stand_ins import MaskedBackend, MetaBackend, NothingIsSent, TorchBackend

from robofuse.envs import SB3VecEnv
from robofuse.envs.tasks.reach import Reach
from robofuse.errors import StateError
from robofuse.policies import FusionPPO

WAYS = ("tensors", "mask", "arrays")


class Brief(Reach):
    """Runs out of time soon."""

    horizon = 1.0


class Watching(SB3VecEnv):
    """Keeps every step."""

    def step_tensors(self, action):
        self.seen = [*getattr(self, "seen", []), (super().step_tensors(action), self.finished)]
        return self.seen[-1][0]


class Plain(VecEnvWrapper):
    """What it wraps gives tensors, but it does not."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()


def make_env(way, monkeypatch, **options):
    kind = MaskedBackend if way in ("mask", "later") else TorchBackend
    monkeypatch.setattr("robofuse.envs.world.make_backend", lambda _, device, *args: kind(*args))
    options = {"sensors": ("proprio", "force"), "robot": "gripper", "privileged": True, "dropout": 0.3} | options
    env = Watching(Brief, 6, seed=3, **options)
    return env, Plain(env) if way == "arrays" else env


def lazy(model):
    """A policy that hardly moves, so that episodes run out of time."""
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.zero_()
        model.policy.log_std.fill_(-6.0)


WITH_MEMORY = [pytest.param(way, 4, marks=[] if way == "mask" else pytest.mark.slow) for way in WAYS]


@pytest.mark.parametrize(("way", "memory"), [*((way, 0) for way in WAYS), *WITH_MEMORY])
def test_episodes_that_ran_out_of_time_are_worth_what_would_have_followed(way, memory, monkeypatch):
    """As SB3 does it, though all of a rollout are looked up at once: r + γ V(last observation)."""
    worlds, env = make_env(way, monkeypatch)
    model = FusionPPO(env=env, n_steps=45, batch_size=270, device="cpu", seed=0, policy_kwargs={"memory": memory})
    lazy(model)
    _, callback = model._setup_learn(270)
    value, asked = model.policy.predict_values, []
    model.policy.predict_values = lambda rows: asked.append(rows) or value(rows)
    model.collect_rollouts(env, callback, model.rollout_buffer, 45)
    late = 0
    for number, (step, _) in enumerate(worlds.seen):
        expected = step.reward.clone()
        over = step.truncated.nonzero()[:, 0]
        if len(over):
            late += len(over)
            rows = {key: x[over] for key, x in step.final_observation.items()}
            if memory:
                rows["_memory"] = memories(asked, rows["privileged"])
            with torch.no_grad():
                expected[over] += model.gamma * value(rows).flatten()
        assert torch.allclose(model.rollout_buffer.reward[number], expected, atol=1e-5), number
    assert late >= 2 * env.num_envs
    env.close()


def memories(asked, truths):
    """What the policy remembered of the observations with these truths, among all that it was asked for a value of."""
    rows = {key: torch.cat([one[key] for one in asked]) for key in ("privileged", "_memory")}
    found = [(rows["privileged"] == one).all(1).nonzero()[0, 0] for one in truths]
    return rows["_memory"][torch.stack(found)]


def test_all_ways_collect_the_same(monkeypatch):
    found = []
    for way in (*WAYS, "later"):
        _, env = make_env(way, monkeypatch)
        if way == "later":  # how episodes ended is read after the update, as on a GPU
            monkeypatch.setattr("robofuse.policies.ppo.on_cpu", lambda _: False)
        model = FusionPPO(env=env, n_steps=15, batch_size=90, n_epochs=1, device="cpu", seed=0)
        model.learn(180)
        buffer = model.rollout_buffer
        found.append({**buffer.stored, "scalars": buffer.scalars, "actions": buffer.action_store})
        found[-1] |= {name: x for name, x in model.policy.state_dict().items()}
        found[-1]["episodes"] = torch.tensor([[one["r"], one["l"]] for one in model.ep_info_buffer])
        found[-1]["success"] = torch.tensor(list(model.ep_success_buffer))
        env.close()
    assert len(found[0]["episodes"]) >= 6
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for key, x in other.items():
            assert torch.allclose(x.double(), found[0][key].double(), atol=1e-5), key


class Looking(BaseCallback):
    """Reads what SB3's callbacks read."""

    def _on_step(self):
        infos = self.locals["infos"]
        assert len(infos) == 6 and all("is_success" in info for info in infos) and len(infos[1:3]) == 2
        self.ends = getattr(self, "ends", 0) + sum("episode" in info for info in infos)
        assert sum("terminal_observation" in info for info in infos) == int(np.sum(np.asarray(self.locals["dones"])))
        return True


@pytest.mark.parametrize("way", WAYS)
def test_callbacks_find_infos(way, monkeypatch):
    _, env = make_env(way, monkeypatch)
    model, callback = FusionPPO(env=env, n_steps=24, batch_size=144, n_epochs=1, device="cpu"), Looking()
    model.learn(144, callback=callback)
    assert callback.ends == len(model.ep_info_buffer) >= 6
    env.close()


def test_actions_that_are_not_finite_move_nothing(monkeypatch):
    worlds, env = make_env("tensors", monkeypatch)
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0)
    model.learn(48)
    model._last_obs["proprio"][0] = np.nan
    model._last_obs["available"][:] = 1
    worlds.seen = []
    with pytest.raises(RuntimeError, match="'proprio'.*NaN or Inf"):
        model.learn(48, reset_num_timesteps=False)
    assert not worlds.seen
    env.close()


@pytest.mark.parametrize("memory", [0, 4])
def test_a_rollout_and_an_update_look_at_nothing_until_the_end(memory, monkeypatch):
    """Acting, stepping, storing, the values of what ran out of time, advantages, and the passes over all that."""
    monkeypatch.setattr("robofuse.envs.world.make_backend", lambda _, device, *args: TorchBackend(*args))
    options = {"image_size": 16, "dropout": 0.3, "privileged": True, "sensors": ("rgb", "depth", "force")}
    env = SB3VecEnv("Grasp", 4, **options)
    extra = {} if memory else {"replay_rows": 32, "remask": 1, "replay_passes": 1.0}
    model = FusionPPO(
        env=env, n_steps=2, batch_size=8, n_epochs=2, device="cpu", policy_kwargs={"memory": memory}, **extra
    )
    monkeypatch.setattr("robofuse.envs.world.make_backend", lambda _, device, *args: MetaBackend(*args))
    there = SB3VecEnv("Grasp", 4, **options)
    model.policy.to("meta")
    model.device = model.rollout_buffer.device = torch.device("meta")
    del model.rollout_buffer.stored
    model.rollout_buffer.reset()
    if memory:
        model.rollout_buffer.add_column("_memory", memory)
    model._memory = model._memory.to("meta")
    model.set_teacher(lambda _: there.world.expert())
    model._last_obs = there.world.reset()
    model._last_episode_starts = torch.ones(4, dtype=torch.bool, device="meta")
    from robofuse.policies.stepping import Stepper

    stepper, buffer = Stepper(there, 2), model.rollout_buffer

    def step():
        observed = model._with_memory({**model._last_obs})
        observed |= model._advice(observed)
        actions, executed, values, log_probs = model._act(observed)
        moved = stepper.step(executed, model._memory)
        buffer.add(observed, actions, moved.reward, model._last_episode_starts, values, log_probs)
        model._last_obs, model._last_episode_starts = moved.observation, moved.ended

    step()  # constants are sent once
    with NothingIsSent():
        step()
        buffer.compute_returns_and_advantage(model._last_values(stepper), model._last_episode_starts)
    model.update(0.2)  # as above
    with NothingIsSent():
        means, epochs = model.update(0.2)
    assert epochs == 2 and all(x.is_meta for x in means.tensors().values())
    env.close(), there.close()


def test_a_rollout_with_broken_actions_is_told_at_its_end(monkeypatch):
    """Where nobody looks at a step, as on a GPU."""
    _, env = make_env("mask", monkeypatch, dropout=None)
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0)
    model.learn(48)
    model._last_obs["proprio"][0] = np.nan
    for module in ("ppo", "actor_critic", "extractor"):
        monkeypatch.setattr(f"robofuse.policies.{module}.on_cpu", lambda _: False)
    monkeypatch.setattr("robofuse.envs.control.on_cpu", lambda _: False)
    with pytest.raises(StateError, match="'proprio' holds NaN"):
        model.learn(48, reset_num_timesteps=False)
    env.close()
