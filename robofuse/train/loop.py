"""The training loop: rollout, update, and between two updates whatever is due."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from robofuse.errors import StateError
from robofuse.faults import seen_faults
from robofuse.policies import FusionPPO
from robofuse.policies.files import save
from robofuse.train.best import BEST, FINAL, forget_before, keep_before, recover_best
from robofuse.train.build import find_demos, make_env, make_model, teacher_cost, world_options
from robofuse.train.changes import check_origin
from robofuse.train.checkpoint import Place, find_checkpoint, restore, write_checkpoint
from robofuse.train.curve import draw_curve
from robofuse.train.options import Train
from robofuse.train.tables import VALIDATION, Progress, Table
from robofuse.train.updates import log_update, not_finite, recent_success
from robofuse.train.validation import Interrupted, Validator, doubt, score

LATEST = "latest.safetensors"


class News(NamedTuple):
    """What the loop tells whoever shows it.

    Attributes:
        step: control steps done.
        success: of the last episodes, NaN before any has ended.
        speed: control steps per second of training since this process began, without validation.
        validation: success by condition, if there was a validation just now.
        best: whether it is the best now: no earlier one was better beyond chance.
        note: what goes on before the first step, else empty.
    """

    step: int
    success: float
    speed: float
    validation: dict[str, float] | None = None
    best: bool = False
    note: str = ""


class Training:
    """One training in its folder; from the newest checkpoint if there is one.

    Attributes:
        place: where it is.
        notes: what people should know of the start.
        env: the worlds.
        model: the learner.
    """

    def __init__(self, config: Train, folder: Path, record: dict[str, Any]) -> None:
        """Makes worlds and learner.

        Args:
            config: settled, see `settle`.
            folder: of the run; exists.
            record: versions and hardware, for policy files.
        """
        self.config, self.folder, self._record = config, folder, record
        self._world, self.notes, self._teacher = world_options(config), list[str](), teacher_cost(config, folder)
        found = find_checkpoint(folder)
        if found:
            check_origin(found[1], config, self._world)
        self.place = Place()
        self.env = make_env(config)
        try:
            self.model: FusionPPO = make_model(config, self.env, folder)
            self._shown = (found[1].get("card") or {}).get("demonstrations") if found else None
            self._demos = None if found else find_demos(config, self.env.world)
            self.notes += [self._demos.note] if self._demos and self._demos.note else []
            until = found[1]["training"]["step"] if found else 0
            folder.mkdir(parents=True, exist_ok=True)
            progress = Progress(folder, until)
            self.model.set_logger(Logger(str(folder), [progress]))
            self._progress, self._validations = progress, Table(folder / VALIDATION, until)
            self._best, self._kept = recover_best(folder, until), until  # steps of the best policy and of a checkpoint
            self.validator = Validator(config, [sensor.key for sensor in self.env.world.sensors])
            if found:
                self.env.set_progress(min(until / config.steps, 1.0))
                self.env.set_options({"episode": int(found[1]["training"]["episode"])})
            _, self._callback = self.model._setup_learn(config.steps, _Nothing())  # resets the worlds
            if found:
                self.notes += [f"{problem}; an older checkpoint serves" for problem in found[2]]
                self.place = restore(self.model, found[0], found[1])
        except BaseException:
            self.env.close()
            raise
        self._began, self._from = self.place.seconds, self.place.step
        self._parts = dict(self.model.seconds)

    def run(self, tell: Callable[[News], None], stop: Callable[[], bool]) -> bool:
        """Train to the end, or until `stop` has become true and a checkpoint is written.

        Args:
            tell: called after every update and validation.
            stop: asked after every update.

        Returns:
            Whether it came to the end.

        Raises:
            RuntimeError: the loss became NaN or Inf.
        """
        steps, records = self.config.steps, self.config.records
        if self._demos is not None:
            self._shown = self._demos.run(self.model.policy, lambda note: tell(self._news()._replace(note=note)), stop)
            if self._shown is None:
                return False  # it begins again
            self._demos = None  # and its pictures
        while self.place.step < steps:
            before = self.place.step
            self._update()
            tell(self._news())
            ends, asked = self.place.step >= steps, stop()
            if records.validate_every and self._validation_due() and not (ends or asked):
                self._validate(tell, stop)
            asked = stop()
            if ends or asked or _crossed(before, self.place.step, records.checkpoint_every):
                self._checkpoint()
            if asked and not ends:
                return False
        if records.validate_every and self._validated() < self.place.step:
            self._validate(tell, stop)
            if self._validated() < self.place.step:
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
            raise StateError(not_finite(str(error), self.config, self.place, self.folder)) from None
        self.env.set_progress(min(model.num_timesteps / steps, 1.0))
        seconds = time.perf_counter() - began
        taken = model.num_timesteps - self.place.step
        self.place = self.place._replace(
            step=model.num_timesteps, updates=self.place.updates + 1, seconds=self.place.seconds + seconds
        )
        log_update(model, self.place, taken / seconds, self._parts)
        self._parts = dict(model.seconds)

    def _validation_due(self) -> bool:
        # since the last one, not since the update before: an interrupted validation is made up for
        return _crossed(self._validated(), self.place.step, self.config.records.validate_every)

    def _validated(self) -> int:
        return int(self._validations.rows[-1]["step"]) if self._validations.rows else 0

    def _validate(self, tell: Callable[[News], None], stop: Callable[[], bool]) -> None:
        conditions = self.validator.conditions
        try:
            success = self.validator.run(self.model.policy, stop)
        except Interrupted:
            return
        finally:
            spent = self.place.validation_seconds + self.validator.seconds
            self.place = self.place._replace(validation_seconds=spent)
        total = score(conditions, success)
        highest = max((float(row["score"]) for row in self._validations.rows), default=0.0)
        best = self._best_row() is None or total >= highest - doubt(conditions, success, self.validator.episodes)
        if best:  # first: what the table tells has been done
            if self._best is not None and self._best <= self._kept < self.place.step:
                keep_before(self.folder)
            self._save(BEST, success)
            self._best = self.place.step
        self._validations.add({"step": self.place.step, "score": total, **success})
        self._progress.scalars({f"validation/{name}": value for name, value in success.items()}, self.place.step)
        draw_curve(self.folder, conditions)
        tell(self._news()._replace(validation=success, best=best))

    def _checkpoint(self) -> None:
        """Worlds start anew, so that nothing of the simulation needs to be kept."""
        worlds = self.env.num_envs
        episode = (int(self.env.world.episode.max()) // worlds + 1) * worlds
        self.place = self.place._replace(episode=episode)
        write_checkpoint(self.folder, self.model, self.place, {"world": self._world, "card": self._card()})
        forget_before(self.folder)
        self._kept = self.place.step
        self._save(LATEST)
        self.env.set_options({"episode": episode})
        self.model._last_obs = self.env.reset()  # pyright: ignore[reportAttributeAccessIssue]
        self.model._last_episode_starts = np.ones(worlds, dtype=bool)

    def _save(self, name: str, validation: dict[str, float] | None = None) -> None:
        save(self.model.policy, self.folder / name, self._world, self._card(validation))

    def _card(self, validation: dict[str, float] | None = None) -> dict[str, Any]:
        """`validation` is that of the present policy, if it is not in the table yet."""
        return {
            **self._record,
            "steps": self.place.step,
            "updates": self.place.updates,
            "seconds": round(self.place.seconds, 1),
            "validation_seconds": round(self.place.validation_seconds, 1),
            "validation": validation or self.last_validation(),
            "validation_step": self.place.step if validation else self._validated() or None,
            "validation_episodes": self.config.records.validation_episodes,
            "teacher": self._teacher,
            "demonstrations": self._shown,
            "seen_faults": seen_faults(self.env.world.faults),
            "options": self.config.to_dict(),
        }

    def _news(self) -> News:
        trained = self.place.seconds - self._began
        speed = (self.place.step - self._from) / trained if trained else 0.0
        success = recent_success(self.model)
        return News(self.place.step, float("nan") if success is None else success, speed)

    def _best_row(self) -> dict[str, Any] | None:
        return next((row for row in self._validations.rows if int(row["step"]) == self._best), None)

    def _success(self, row: dict[str, Any]) -> dict[str, float]:
        return {condition.name: float(row[condition.name]) for condition in self.validator.conditions}


class _Nothing(BaseCallback):
    """SB3 wants a callback."""

    def _on_step(self) -> bool:
        return True


def _crossed(before: int, now: int, every: int) -> bool:
    return now // every > before // every


@contextmanager
def closing(training: Training) -> Iterator[Training]:
    """Closes a training, whatever happens."""
    try:
        yield training
    finally:
        training.close()
