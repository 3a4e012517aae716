"""Policies that act in N environments step after step, whether they remember anything or not."""

from typing import Any, Protocol

from torch import Tensor


class StatefulPolicy(Protocol):
    """Acts in N environments, and may remember what it saw in each."""

    def start(self, env_ids: Tensor, /) -> None:
        """New episodes begin in environments int64 (n,): what was remembered there is forgotten."""
        ...

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (N, A) of all environments; to be called once per control step."""
        ...


class _Memoryless:
    def __init__(self, policy: Any) -> None:  # noqa: ANN401
        self.act = policy.act

    def start(self, env_ids: Tensor, /) -> None: ...


def stateful(policy: Any, num_envs: int) -> StatefulPolicy:  # noqa: ANN401
    """Makes anything that acts a `StatefulPolicy` for N environments.

    A `policy` with `stateful(num_envs)` is asked for it; one with `start` is taken as it is; any other one with `act`
    remembers nothing.
    """
    if hasattr(policy, "stateful"):
        return policy.stateful(num_envs)
    return policy if hasattr(policy, "start") else _Memoryless(policy)
