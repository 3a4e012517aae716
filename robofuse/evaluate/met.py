"""Which faults a policy met in its training, so that an evaluation can tell what was learned from what is new."""

from collections.abc import Mapping, Sequence
from typing import Any

from robofuse.faults import Mix
from robofuse.sensors import Sensor


def trained_on(card: Mapping[str, Any], sensors: Sequence[Sensor]) -> list[str] | None:
    """Faults of the training's mix.

    Args:
        card: of the policy.
        sensors: of the policy.

    Returns:
        Such as `rgb:freeze`, sorted; none where nothing but blackouts of its dropout struck. None where the card does
        not say, or names a file of plans that is not there.
    """
    try:
        texts = card["options"]["hiding"].get("faults", ())
        return list(Mix.parse(texts, 1.0, sensors).kinds) if texts else []
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
