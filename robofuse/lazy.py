"""Names of a package that are imported when they are used, so that one of them does not bring the others' libraries."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """What a package binds to `__getattr__`.

    Args:
        package: its `__name__`.
        home: public name → module of the package that has it.
    """

    def find(name: str) -> Any:  # noqa: ANN401
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return find
