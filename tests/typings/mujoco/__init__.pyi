"""MuJoCo's compiled bindings come without types; every name in them counts as Any."""

from _typeshed import Incomplete

def __getattr__(name: str) -> Incomplete: ...
