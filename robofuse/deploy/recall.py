"""What an exported policy remembers from action to action; as `robofuse.memory.Stack`, without torch."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from robofuse.sensors import AVAILABLE, FADES, FRESHNESS, Sensor, channels_last

STATE, NEXT = "robofuse:memory", "robofuse:memory_next"  # input and output of the graph


class Recall:
    """Makes the inputs of the graph from what is live, action by action.

    Attributes:
        frames: readings of each sensor that the policy reads at once; 0 for the present one alone.
        size: numbers that the policy itself remembers, 0 for none.
    """

    def __init__(self, sensors: Sequence[Sensor], frames: int = 0, size: int = 0) -> None:
        """Nothing is remembered yet; `sensors` in the order of `available`, of one reading each."""
        self.frames, self.size = frames, size
        self._sensors = tuple(sensors)
        keys = [sensor.key for sensor in sensors]
        self._order = sorted([*keys, FRESHNESS]) if frames else keys
        # stands for what is hidden: the graph does not read it, but onnxruntime wants every input
        self._blank = {sensor.key: np.zeros((1, *sensor.shape), sensor.dtype) for sensor in sensors}
        self._held: dict[str, list[tuple[np.ndarray, int]]] = {key: [] for key in keys}
        self._state = np.zeros((1, size), np.float32)

    def fresh(self) -> "Recall":
        """One that remembers nothing yet, of the same sensors."""
        return Recall(self._sensors, self.frames, self.size)

    def inputs(self, live: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs of the graph for an action from the live readings, key → (1, …)."""
        found = {**self._blank, **live}
        shown = [key in live for key in self._order]
        if self.frames:
            for key, held in self._held.items():
                aged = [(reading, age + 1) for reading, age in held]
                # a copy: drivers write the next frame into the same buffer
                self._held[key] = [*aged, (live[key].copy(), 0)][-self.frames :] if key in live else aged
            found = {sensor.key: self._stacked(sensor) for sensor in self._sensors}
            found[FRESHNESS] = np.array([[x for sensor in self._sensors for x in self._fresh(sensor.key)]], np.float32)
            shown = [key == FRESHNESS or bool(self._held[key]) for key in self._order]
        if self.size:
            found[STATE] = self._state
        return found | {AVAILABLE: np.array([shown], np.int8)}

    def remember(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Outputs of the graph to the action (1, …); what comes with it is the state for the next one."""
        if self.size:
            self._state = outputs[1]
        return outputs[0]

    def _stacked(self, sensor: Sensor) -> np.ndarray:
        readings = [reading for reading, _ in self._held[sensor.key]]
        missing = [self._blank[sensor.key]] * (self.frames - len(readings))
        first = len(sensor.shape) == 3 and not channels_last(sensor.shape)
        return np.concatenate([*missing, *readings], axis=1 if first else -1)

    def _fresh(self, key: str) -> list[float]:
        ages = [age for _, age in self._held[key]]
        return [0.0] * (self.frames - len(ages)) + [math.exp(-age / FADES) for age in ages]
