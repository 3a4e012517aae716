"""A policy that does not look at sensors that its monitor does not trust."""

from typing import Protocol

import torch
from torch import Tensor

from robofuse.dropout import mask_sensors
from robofuse.errors import InputError
from robofuse.memory.stateful import StatefulPolicy, stateful
from robofuse.monitor.monitor import Monitor
from robofuse.monitor.watch import Watch


class Actor(Protocol):
    """Anything that acts."""

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (N, A), a function of the observation alone."""
        ...


class MonitoredPolicy:
    """Hides what the monitor does not trust, then acts. It remembers: call `act` once for every control step.

    Attributes:
        watch: whom it trusts; None before the first `act`.
        available: int8 (N, M), what the policy was shown at the last step; None before the first.
    """

    def __init__(self, policy: Actor, monitor: Monitor) -> None:
        """Wraps a policy; the environments are the rows of its first observation."""
        self.policy, self.monitor = policy, monitor
        self.watch: Watch | None = None
        self._stateful: StatefulPolicy | None = None
        self.available: Tensor | None = None

    def start(self, rows: Tensor) -> None:
        """New episodes begin in environments `rows`, int64 (n,): with their next observation nothing is remembered."""
        if self.watch is not None and self._stateful is not None:
            self.watch.start(rows)
            self._stateful.start(rows)

    def act(self, observation: dict[str, Tensor]) -> Tensor:
        """Actions (N, A) for the next control step of all environments.

        Raises:
            ValueError: another number of rows than before, or a sensor is missing.
        """
        n = len(observation[self.monitor.keys[0]])
        if self.watch is None or self._stateful is None:
            self.watch, self._stateful = self.monitor.stateful(n), stateful(self.policy, n)
        if n != len(self.watch.trusted):
            raise InputError(f"this policy watches {len(self.watch.trusted)} environments, got {n} observations")
        self.available = self.watch.step(observation)
        device = observation[self.monitor.keys[0]].device
        with torch.no_grad():
            return self._stateful.act(mask_sensors(observation, self.available.to(device), self.monitor.keys))
