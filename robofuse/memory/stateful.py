"""Policies at work in N environments, whether they remember or not."""

from typing import Any, Protocol

from torch import Tensor


class StatefulPolicy(Protocol):
    """A policy at work in N environments."""

    def start(self, rows: Tensor, /) -> None:
        """New episodes begin in environments int64 (n,)."""
        ...

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (N, A) of all of them; called once per control step."""
        ...


class _Forgetful:
    """A policy that remembers nothing."""

    def __init__(self, policy: Any) -> None:  # noqa: ANN401
        self.act = policy.act

    def start(self, rows: Tensor, /) -> None: ...


def stateful(policy: Any, num_envs: int) -> StatefulPolicy:  # noqa: ANN401
    """Anything that acts, at work: its `lanes(num)`; or itself, if it has `start`; or else a policy without memory."""
    if hasattr(policy, "stateful"):
        return policy.stateful(num_envs)
    return policy if hasattr(policy, "start") else _Forgetful(policy)
