"""Trackers of experiments beside TensorBoard: W&B, and trackio, which has the same functions.

A training never ends because of its tracker: what one raises is told once, and from then on it is left alone.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from robofuse.errors import StateError


class Tracker:
    """One run of a tracker."""

    def __init__(self, name: str, project: str, folder: Path, options: Mapping[str, Any]) -> None:
        """Starts a run.

        Args:
            name: wandb or trackio.
            project: of the run.
            folder: of the training; its name is that of the run.
            options: of the training, for the record.

        Raises:
            StateError: the tracker is not installed.
        """
        try:
            self._module = importlib.import_module(name)
        except ImportError:
            raise StateError(f"--tracker {name} needs a package: pip install 'robofuse[{name}]'") from None
        self.name, self._run = name, None
        told = {"dir": str(folder)} if name == "wandb" else {}
        self._try(lambda: self._module.init(project=project, name=folder.name, config=dict(options), **told))

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Notes numbers by name; what is no number is left out."""
        numbers = {name: x for name, x in values.items() if isinstance(x, Real) and not isinstance(x, bool)}
        # the step is one of the numbers: trackers take only steps that rise, and a resumed run begins earlier
        self._ask(lambda run: run.log({"step": step, **numbers}))

    def close(self) -> None:
        """Ends the run; may be called twice."""
        self._ask(lambda run: run.finish())
        self._run = None

    def _ask(self, call: Callable[[Any], object]) -> None:
        run = self._run
        if run is not None:
            self._try(lambda: (call(run), run)[1])

    def _try(self, call: Callable[[], Any]) -> None:
        """Keeps the run that a call gives; after an error there is none."""
        try:
            self._run = call()
        except Exception as error:  # of whatever kind: the training is worth more
            self._run = None
            text = " ".join(str(error).split())[:300]
            warnings.warn(f"{self.name} has failed, and gets no more of this training: {text}", stacklevel=2)
