"""One training: rollout, update, and what is due between two updates; from the newest checkpoint in its folder."""

import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from robofuse.errors import StateError
from robofuse.faults import seen_faults
from robofuse.policies import FusionPPO
from robofuse.policies.saving import save
from robofuse.policies.u2a.lora import count_weights
from robofuse.ranks import Ranks
from robofuse.train.build import find_teacher, make_env, make_model, spell_out_faults, world_options
from robofuse.train.checkpoint import (
    BEST,
    FINAL,
    LATEST,
    TrainState,
    check_origin,
    drop_previous_best,
    find_checkpoint,
    keep_previous_best,
    recover_best,
    restore,
    write_checkpoint,
)
from robofuse.train.config import CONFIG, Train
from robofuse.train.display import (
    SPENT,
    VALIDATION,
    CsvTable,
    ProgressLog,
    Status,
    draw_curve,
    log_update,
    recent_success,
)
from robofuse.train.imitation import BehaviourCloning
from robofuse.train.trackers import Tracker
from robofuse.train.validate import Interrupted, Validator, score, score_error


class Training:
    """One training in its folder; from the newest checkpoint if there is one.

    Attributes:
        config: its options, with the plans of `--faults` spelled out.
        state: how far it has come.
        notes: for the user, about the start.
        env: the worlds.
        model: the learner.
    """

    def __init__(
        self, config: Train, folder: Path, record: dict[str, Any], ranks: Ranks | None = None, own: Path | None = None
    ) -> None:
        """Makes worlds and learner.

        Args:
            config: options without `auto`, see `resolve`.
            folder: of the run, read.
            record: versions and hardware, for policy files.
            ranks: the processes that train together.
            own: folder that this one writes to; by default the run's.

        Raises:
            InputError: options that do not fit together, or files in the folder that cannot be gone on with.
        """
        self._shared, self._record, self._world = folder, record, world_options(config)
        self.ranks, self.folder = ranks or Ranks(), folder if own is None else own
        self.notes, self.state, self._teacher = list[str](), TrainState(), None
        self.env = make_env(config)
        try:
            self.config = config = spell_out_faults(config, self.env.world.sensors)
            found = self.ranks.first_then_others(lambda: find_checkpoint(folder))
            if found:
                check_origin(found[1], config, self._world)
            # of a run that goes on, the checkpoint has all weights
            self.model: FusionPPO = make_model(config.replace(pretrained="none") if found else config, self.env)
            self.model.ranks = self.ranks
            self._shown = (found[1].get("card") or {}).get("demonstrations") if found else None
            self._demos = None
            if not found and config.imitation.demos != "none" and self.ranks.first:
                self._demos = BehaviourCloning(config, self.env.world)
                self.notes += [self._demos.note] if self._demos.note else []
            self.validator = Validator(config, [sensor.key for sensor in self.env.world.sensors])
            until = int(found[1]["training"]["step"]) if found else 0
            self.folder.mkdir(parents=True, exist_ok=True)
            records, tracker = config.records, None
            if records.tracker != "none" and self.ranks.first:
                tracker = Tracker(records.tracker, records.project, self.folder, dict(config.items()))
            self._progress = ProgressLog(self.folder, until, tracker)
            self.model.set_logger(Logger(str(self.folder), [self._progress]))
            self._validations = CsvTable(self.folder / VALIDATION, until)
            # steps of the best policy and of a checkpoint
            self._best, self._kept = recover_best(self.folder, until), until
            if found:
                self.env.set_progress(min(until / config.steps, 1.0))
            episode = int(found[1]["training"]["episode"]) if found else 0
            self.env.set_options({"episode": self.ranks.first_episode + episode})
            _, self._callback = self.model._setup_learn(config.steps, _NoCallback())  # resets the worlds
            if found:
                self.notes += [f"{problem}; an older checkpoint serves" for problem in found[2]]
                self.state = restore(self.model, found[0], found[1])
            self._own_random_numbers()
        except BaseException:
            self.env.close()
            raise
        self._began, self._from = self.state.seconds, self.state.step
        self._parts = dict(self.model.seconds)

    def ask_teacher(self) -> None:
        """Gives the learner its teacher, if the options name one; to be called before `run`."""
        with kept_random_state():
            teacher, self._teacher = find_teacher(self.config, self._shared, self.env.world) or (None, None)
        self.model.set_teacher(teacher)

    def run(self, show: Callable[[Status], None], stop: Callable[[], bool]) -> bool:
        """Trains to the end, or until `stop` has become true and a checkpoint is written.

        Args:
            show: called after every update and validation.
            stop: asked after every update.

        Returns:
            Whether it came to the end.

        Raises:
            StateError: the loss became NaN or Inf.
        """
        steps, records = self.config.steps, self.config.records
        if self._demos is not None:
            self._shown = self._demos.run(
                self.model.policy, lambda note: show(self._status()._replace(note=note)), stop
            )
            if self._shown is None:
                return False  # it begins again
            self._demos = None  # and its pictures
        self.ranks.same(self.model.policy)
        validate_every = records.validate_every if self.ranks.first else 0
        while self.state.step < steps:
            before = self.state.step
            self._update()
            show(self._status())
            ends = self.state.step >= steps
            if validate_every and self._validation_due() and not (ends or stop()):
                self._validate(show, stop)
            asked = self.ranks.any(stop())
            if ends or asked or _crossed(before, self.state.step, records.checkpoint_every):
                self._checkpoint()
            if asked and not ends:
                return False
        if validate_every and self._validated() < self.state.step:
            self._validate(show, stop)
            if self._validated() < self.state.step:
                return False  # interrupted; the checkpoint is there
        self._save(FINAL)
        draw_curve(self.folder, self.validator.conditions)
        return True

    def close(self) -> None:
        """Free worlds and files; may be called twice."""
        self.env.close()
        self.validator.close()
        self.model.logger.close()

    def last_validation(self) -> dict[str, float]:
        """Success by condition; empty if there was no validation."""
        return self._success(self._validations.rows[-1]) if self._validations.rows else {}

    def best_validation(self) -> tuple[int, dict[str, float]]:
        """Step and success by condition of the best policy."""
        row = self._best_row()
        return (int(row["step"]), self._success(row)) if row else (0, {})

    def _update(self) -> None:
        began, model, steps = time.perf_counter(), self.model, self.config.steps
        try:
            model.collect_rollouts(self.env, self._callback, model.rollout_buffer, model.n_steps)
            model._update_current_progress_remaining(min(model.num_timesteps, steps), steps)
            model.train()
        except RuntimeError as error:
            if "NaN or Inf" not in str(error):
                raise
            raise StateError(_not_finite(str(error), self.config, self.state, self.folder)) from None
        self.env.set_progress(min(model.num_timesteps / steps, 1.0))
        seconds = time.perf_counter() - began
        taken = model.num_timesteps - self.state.step
        self.state = self.state._replace(
            step=model.num_timesteps, updates=self.state.updates + 1, seconds=self.state.seconds + seconds
        )
        log_update(model, self.state, taken / seconds, self._parts)
        self._parts = dict(model.seconds)

    def _validation_due(self) -> bool:
        # since the last one, not since the update before: an interrupted validation is made up for
        return _crossed(self._validated(), self.state.step, self.config.records.validate_every)

    def _validated(self) -> int:
        return int(self._validations.rows[-1]["step"]) if self._validations.rows else 0

    def _validate(self, show: Callable[[Status], None], stop: Callable[[], bool]) -> None:
        conditions = self.validator.conditions
        try:
            success = self.validator.run(self.model.policy, stop)
        except Interrupted:
            return
        finally:
            spent = self.state.validation_seconds + self.validator.seconds
            self.state = self.state._replace(validation_seconds=spent)
        total = score(conditions, success)
        highest = max((float(row["score"]) for row in self._validations.rows), default=0.0)
        best = self._best_row() is None or total >= highest - score_error(conditions, success, self.validator.episodes)
        if best:  # first: what the table tells has been done
            if self._best is not None and self._best <= self._kept < self.state.step:
                keep_previous_best(self.folder)
            self._save(BEST, success)
            self._best = self.state.step
        spent = {name: round(getattr(self.state, name), 3) for name in SPENT}
        self._validations.add({"step": self.state.step, "score": total, **success, **spent})
        self._progress.scalars({f"validation/{name}": value for name, value in success.items()}, self.state.step)
        draw_curve(self.folder, conditions)
        show(self._status()._replace(validation=success, best=best))

    def _checkpoint(self) -> None:
        """Worlds start anew, so that nothing of the simulation needs to be kept."""
        worlds, first = self.env.num_envs, self.ranks.first_episode
        episode = self.ranks.largest(((int(self.env.world.episode.max()) - first) // worlds + 1) * worlds)
        self.state = self.state._replace(episode=episode)
        write_checkpoint(self.folder, self.model, self.state, {"world": self._world, "card": self._card()})
        drop_previous_best(self.folder)
        self._kept = self.state.step
        self._save(LATEST)
        if self.model.replay is not None:
            self.model.replay.clear()  # nor is it kept, so a resumed training goes on as this one does
        self._own_random_numbers()
        self.env.set_options({"episode": first + episode})
        self.model._last_obs = self.env.reset()  # pyright: ignore[reportAttributeAccessIssue]
        self.model._last_episode_starts = np.ones(worlds, dtype=bool)

    def _own_random_numbers(self) -> None:
        """Ranks draw different ones; of the first they go on, and are in its checkpoints."""
        if not self.ranks.first:
            parts = [self.config.seed, self.ranks.rank, self.state.step]
            torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1)[0]))

    def _save(self, name: str, validation: dict[str, float] | None = None) -> None:
        save(self.model.policy, self.folder / name, self._world, self._card(validation))

    def _card(self, validation: dict[str, float] | None = None) -> dict[str, Any]:
        """`validation` is that of the present policy, if it is not in the table yet."""
        return {
            **self._record,
            "steps": self.state.step,
            "updates": self.state.updates,
            "seconds": round(self.state.seconds, 1),
            "validation_seconds": round(self.state.validation_seconds, 1),
            "validation": validation or self.last_validation(),
            "validation_step": self.state.step if validation else self._validated() or None,
            "validation_episodes": self.config.records.validation_episodes,
            "teacher": self._teacher,
            "demonstrations": self._shown,
            "weights": count_weights(self.model.policy)._asdict(),
            "seen_faults": seen_faults(self.env.world.faults),
            "options": self.config.to_dict(),
        }

    def _status(self) -> Status:
        trained = self.state.seconds - self._began
        speed = (self.state.step - self._from) / trained if trained else 0.0
        success = recent_success(self.model)
        return Status(self.state.step, float("nan") if success is None else success, speed)

    def _best_row(self) -> dict[str, Any] | None:
        return next((row for row in self._validations.rows if int(row["step"]) == self._best), None)

    def _success(self, row: dict[str, Any]) -> dict[str, float]:
        return {condition.name: float(row[condition.name]) for condition in self.validator.conditions}


class _NoCallback(BaseCallback):
    """SB3 wants a callback."""

    def _on_step(self) -> bool:
        return True


def _crossed(before: int, now: int, every: int) -> bool:
    return now // every > before // every


def _not_finite(problem: str, config: Train, state: TrainState, folder: Path) -> str:
    """Says what went wrong in an update, and how to go on."""
    found = sorted(folder.glob("checkpoint-*.safetensors"))
    where = f"stopped in the update after step {state.step:,}: {problem}."
    if not found:
        return f"{where} There is no checkpoint yet; start again with such a change"
    after = ""
    if (folder.parent / CONFIG).exists():  # it is the teacher of that run
        after = f", and then robofuse train --resume {shlex.quote(str(folder.parent))}"
    step, lr = int(found[-1].stem.partition("-")[2]), config.learning.lr / 2
    return (
        f"{where} The last checkpoint is of step {step:,}; unchanged, it would end here again. More carefully: "
        f"robofuse train --resume {shlex.quote(str(folder))} --lr {lr:g} --target-kl 0.02{after}"
    )


def kept_random_state() -> AbstractContextManager[None]:
    """Whatever draws random numbers within, torch's are as before in the end."""
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))
