"""Calibration: what healthy sensors read while the policy is at work, and where suspicion has to begin."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.dropout import mask_sensors
from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.memory.stateful import stateful
from robofuse.monitor.features import Measured, filled_after, measure
from robofuse.monitor.health import OWN, Health, Peers
from robofuse.monitor.monitor import CHECKS, FADE, MOST, RARE, Monitor, Tails, Watch
from robofuse.play import Actor, fingerprint, play
from robofuse.sensors import Sensor
from robofuse.tensors import one_torch_thread

SEED = 2_000_000  # neither trained on nor evaluated on
FOLDS = 8  # episodes are dealt out to so many; two of them are kept to check the monitor on
_MARGIN = 0.5  # of the false alarms that are allowed
_THINNEST = 0.02
_FOR_EVER = 1_000_000  # control steps


@dataclass(frozen=True)
class Recording:
    """Healthy readings, episode by episode, as they were measured.

    Attributes:
        measured: per sensor, of n control steps.
        live: bool (n, M), which sensors the policy was given.
        episode: int64 (n,), ascending.
        step: int64 (n,), 0, 1, … within each episode.
    """

    measured: list[Measured]
    live: Tensor
    episode: Tensor
    step: Tensor

    def take(self, rows: Tensor) -> "Recording":
        """Some control steps, in the same order."""
        return Recording(
            [found.take(rows) for found in self.measured], self.live[rows], self.episode[rows], self.step[rows]
        )


def calibrate(
    policy: Actor,
    world: World,
    episodes: int = 768,
    false_alarms: float = 1e-3,
    seed: int = SEED,
    progress: Callable[[int, int], object] | None = None,
) -> Monitor:
    """Plays healthy episodes, and learns from them what is usual.

    In a quarter of the episodes all sensors are there; in the others the policy has to do without one or two of them,
    from the start or from some step on, as it will when the monitor has switched them off.

    Args:
        policy: that the monitor will look after.
        world: such as it will be in, without faults; made with `auto_reset=False`, and reset by this call.
        episodes: to play. In fewer, rare healthy readings do not occur: with 240 of them sensors of the shipped policy
            were switched off wrongly 15 times in 7,847 steps, with 480 never.
        false_alarms: healthy sensors switched off per control step, at most.
        seed: of the scenes.
        progress: called with (episodes done, episodes to do).

    Returns:
        The monitor; its card says how often it was wrong in a quarter of the episodes, which it did not learn from.

    Raises:
        InputError: the world resets by itself, has too many sensors, or the numbers are out of range.
    """
    check(world.sensors, false_alarms)
    recording = record(policy, world, episodes, seed, progress)
    monitor = fit(recording, world.sensors, false_alarms)
    known = {"policy": getattr(policy, "name", ""), "weights": fingerprint(policy), "seed": seed, "episodes": episodes}
    return replace(monitor, card={**known, **monitor.card})


@one_torch_thread()
def record(
    policy: Actor,
    world: World,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], object] | None = None,
) -> Recording:
    """The healthy episodes that `calibrate` learns from, measured.

    `policy`, `world`, `episodes`, `seed` and `progress` are those of `calibrate`.
    """
    whole(episodes, "episodes", FOLDS)
    sensors, num = world.sensors, world.num_envs
    masked_from = draw_masks(episodes, len(sensors), seed, world.max_steps)
    filled = torch.tensor([filled_after(sensor) for sensor in sensors])
    before = [torch.full((num, *sensor.shape), torch.nan) for sensor in sensors]
    parts, done = list[Recording](), 0
    world.reset(seed=seed)
    for now in play(_Masked(policy, world, masked_from), world, ((episode, None) for episode in range(episodes))):
        episode, elapsed = now.episode.cpu(), now.elapsed.cpu()
        measured = []
        for m, sensor in enumerate(sensors):
            before[m][elapsed == 0] = torch.nan
            reading = now.observation[sensor.key].cpu()
            found, before[m] = measure(reading, before[m], sensor, elapsed < filled[m])
            measured.append(found)
        kept = torch.tensor(sorted(now.jobs))
        parts.append(Recording(measured, _live(masked_from, episode, elapsed), episode, elapsed).take(kept))
        done += len(now.ended)
        if progress is not None:
            progress(done, episodes)
    measured = [
        Measured(*map(torch.cat, zip(*found, strict=True)))
        for found in zip(*(part.measured for part in parts), strict=True)
    ]
    rest = (torch.cat([getattr(part, name) for part in parts]) for name in ("live", "episode", "step"))
    every = Recording(measured, *rest)
    return every.take((every.episode * (1 + world.max_steps) + every.step).argsort())


class _Masked:
    """A policy that has to do without some sensors, from some step of each episode on."""

    def __init__(self, policy: Actor, world: World, masked_from: Tensor) -> None:
        self._actor, self._world, self._masked_from = stateful(policy, world.num_envs), world, masked_from

    def start(self, env_ids: Tensor, /) -> None:
        self._actor.start(env_ids)

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        world = self._world
        live = _live(self._masked_from, world.episode.cpu(), world.elapsed.cpu()).to(torch.int8)
        keys = [sensor.key for sensor in world.sensors]
        return self._actor.act(mask_sensors(observation, live.to(world.episode.device), keys))


def _live(masked_from: Tensor, episode: Tensor, elapsed: Tensor) -> Tensor:
    """Which sensors a policy is given, bool (N, M), in these control steps of these episodes."""
    return elapsed[:, None] < masked_from[episode.clamp(max=len(masked_from) - 1)]


def draw_masks(episodes: int, many: int, seed: int, steps: int) -> Tensor:
    """From which of about so many steps on each sensor is masked, int64 (E, M); at least one never is."""
    generator = torch.Generator().manual_seed(seed)
    never = torch.iinfo(torch.int64).max
    masked_from = torch.full((episodes, many), never)
    for episode in range(episodes):
        kind, when = torch.randint(4, (1,), generator=generator), torch.randint(steps // 2, (2,), generator=generator)
        gone = torch.randperm(many, generator=generator)[: min(many - 1, [0, 1, 1, 2][int(kind)])]
        masked_from[episode, gone] = when[: len(gone)] if int(kind) > 1 else 0
    return masked_from


@one_torch_thread()
def fit(recording: Recording, sensors: Sequence[Sensor], false_alarms: float = 1e-3) -> Monitor:
    """A monitor from a recording of healthy readings.

    Scores that decide where suspicion begins are of episodes that the statistics behind them have not seen: each half
    is scored by the other. `sensors` are in the order of `available`; `false_alarms` as in `calibrate`.

    Raises:
        InputError: too many sensors, or a rate out of range.
    """
    check(sensors, false_alarms)
    fold = recording.episode % FOLDS
    first, second = (fold < 3).nonzero()[:, 0], ((fold >= 3) & (fold < 6)).nonzero()[:, 0]
    kept = (fold >= 6).nonzero()[:, 0]
    halves = [recording.take(first), recording.take(second)]
    judges = [_judge(halves[1], sensors), _judge(halves[0], sensors)]
    tails = _tails(judges, halves)
    judges = [replace(judge, tails=tails) for judge in judges]
    worst = torch.cat([_worst(judge, half) for judge, half in zip(judges, halves, strict=True)]).sort(descending=True)
    steps = len(first) + len(second)
    allowed = _MARGIN * false_alarms * steps
    count = min(max(1, math.floor(allowed)), len(worst.values))
    # scores thin out by e per unit: beyond the largest one ever seen, too
    limit = float(worst.values[count - 1]) + max(0.0, math.log(count / allowed)) + 1e-3
    final = _judge(recording.take(torch.cat([first, second]).sort().values), sensors)
    monitor = replace(final, tails=tails, limit=limit)
    held_out = recording.take(kept)
    wrong = alarms(monitor, held_out)
    card = {
        "target": false_alarms,
        "limit": limit,
        "steps": steps,
        "held_out": {
            "steps": len(kept),
            "episodes": len(held_out.episode.unique()),
            "false_alarms": {key: int(x) for key, x in zip(monitor.keys, wrong.tolist(), strict=True)},
        },
        "thresholds": {
            sensor.key: {
                check: math.exp(float(tails.own[0, m, c] + limit * tails.own[1, m, c])) for c, check in enumerate(OWN)
            }
            | {"same_for": int(final.healths[m].longest)}
            for m, sensor in enumerate(sensors)
        },
    }
    return replace(monitor, card=card)


def alarms(monitor: Monitor, recording: Recording) -> Tensor:
    """How often a monitor stops trusting each sensor in healthy episodes, int64 (M,)."""
    count = torch.zeros(len(monitor.sensors), dtype=torch.int64)
    for watch, env_ids, before in _watched(monitor, recording):
        count += (before & ~watch.trusted[env_ids]).sum(0)
    return count


def _watched(monitor: Monitor, recording: Recording) -> Iterator[tuple[Watch, Tensor, Tensor]]:
    """After each step of all episodes: the watch, the environments of the step, and whom it trusted before it."""
    episode = recording.episode.unique(return_inverse=True)[1]  # numbered from 0 on, without gaps
    watch = monitor.stateful(int(episode.max()) + 1)
    for rows in by_step(recording.step):
        env_ids, part = episode[rows], recording.take(rows)
        before = watch.trusted[env_ids]
        watch.judge(part.measured, part.live, env_ids)
        yield watch, env_ids, before


def check(sensors: Sequence[Sensor], false_alarms: float) -> None:
    """InputError if there are too many sensors, or a rate is out of range."""
    if len(sensors) > MOST:
        raise InputError(f"a monitor watches up to {MOST} sensors, got {len(sensors)}")
    if not 0.0 < false_alarms < 1.0:
        raise InputError(f"false_alarms must lie between 0 and 1, per control step, got {false_alarms}")


def _judge(recording: Recording, sensors: Sequence[Sensor]) -> Monitor:
    """A monitor without thresholds."""
    runs = _runs(recording)
    pairs = enumerate(zip(recording.measured, sensors, strict=True))
    healths = tuple(Health.fit(found, runs[:, m], sensor) for m, (found, sensor) in pairs)
    latents = [h.standardise(x) @ h.latent for h, x in zip(healths, recording.measured, strict=True)]
    many = len(sensors)
    tails = Tails(*(torch.zeros(2, many, count) for count in (len(OWN), 1 << many, len(CHECKS))))
    return Monitor(tuple(sensors), healths, Peers.fit(latents), tails, math.inf)


def _tails(judges: Sequence[Monitor], halves: Sequence[Recording]) -> Tails:
    """One scale for all scores, from halves that the judges have not seen."""
    many = len(judges[0].sensors)
    own, others = torch.zeros(2, many, len(OWN)), torch.ones(2, many, 1 << many)
    raw, inputs = [], []
    for judge, half in zip(judges, halves, strict=True):
        z = [h.standardise(x) for h, x in zip(judge.healths, half.measured, strict=True)]
        scores = [h.scores(x, y) for h, x, y in zip(judge.healths, half.measured, z, strict=True)]
        raw.append(torch.stack(scores, dim=1))
        inputs.append(judge.peers.inputs([y @ h.latent for h, y in zip(judge.healths, z, strict=True)]))
    for m in range(many):
        own[:, m] = torch.stack([_tail(torch.cat([part[:, m, c] for part in raw])) for c in range(len(OWN))], dim=1)
        for vouching in range(1, 1 << many):
            if not vouching >> m & 1:
                scores = [judge.peers.score(x, m, vouching) for judge, x in zip(judges, inputs, strict=True)]
                others[:, m, vouching] = _tail(torch.cat(scores))
    tails = Tails(own, others, torch.ones(2, many, len(CHECKS)))
    smooth = []
    for judge, half, x in zip(judges, halves, inputs, strict=True):
        judge = replace(judge, tails=tails)
        live = torch.ones_like(half.live)
        every = torch.cat([judge.own(half.measured)[0], judge.others(x, live, live)[..., None]], dim=2)
        smooth.append(_smoothed(every, half.step))
    lasting = torch.cat(smooth)
    for m in range(many):
        tails.lasting[:, m] = torch.stack([_tail(lasting[:, m, c]) for c in range(len(CHECKS))], dim=1)
    return tails


def _tail(scores: Tensor) -> Tensor:
    """Where the rarest scores begin, and how fast they thin out beyond, (2,)."""
    begin = scores.double().quantile(1.0 - RARE)
    beyond = scores[scores > begin] - begin
    if not len(beyond):
        return torch.stack([begin, begin.new_tensor(_THINNEST)]).float()
    # the largest of n that thin out by e per unit lies at log n + 0.58: a heavier tail is told by its largest
    thin = beyond.mean().maximum(beyond.max() / (math.log(len(beyond)) + 0.58))
    return torch.stack([begin, thin.clamp(min=_THINNEST)]).float()


def _worst(judge: Monitor, recording: Recording) -> Tensor:
    """The largest score of every episode, (E,), while everything is trusted."""
    worst = torch.full((len(recording.episode.unique()),), -torch.inf)
    for watch, env_ids, _ in _watched(judge, recording):
        worst[env_ids] = worst[env_ids].maximum(watch.level[env_ids].amax((1, 2)))
    return worst


def _smoothed(scores: Tensor, step: Tensor) -> Tensor:
    result = torch.full_like(scores, -1.0)
    for rows in by_step(step):
        last = result[rows - 1] if int(step[rows[0]]) else torch.full_like(scores[rows], -1.0)
        result[rows] = last.lerp(scores[rows], FADE)
    return result


def _runs(recording: Recording) -> Tensor:
    """For how many steps each reading has been the same, int64 (n, M)."""
    same = torch.stack([found.same for found in recording.measured], dim=1).long()
    runs = torch.zeros_like(same)
    for rows in by_step(recording.step):
        if int(recording.step[rows[0]]):
            runs[rows] = (runs[rows - 1] + 1) * same[rows]
    # what never changes in the longest episode may stay as it is in a longer one
    longest = recording.step.max()
    return torch.where((recording.step == longest)[:, None] & (runs == longest) & (longest > 0), _FOR_EVER, runs)


def by_step(step: Tensor) -> list[Tensor]:
    """The rows of step 0, of step 1, …; rows of an episode follow each other."""
    return [(step == t).nonzero()[:, 0] for t in range(int(step.max()) + 1)]
