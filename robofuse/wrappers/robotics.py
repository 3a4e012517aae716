"""Gymnasium-Robotics beside a newer MuJoCo than it knows."""

import numpy as np

from robofuse.errors import StateError


def mend_gymnasium_robotics() -> None:
    """Lets environments of Gymnasium-Robotics 1.4, such as Fetch, work with MuJoCo 3.12 and later; for this process.

    It asks of a joint's type, an integer of NumPy, whether it is one of MuJoCo's enumerators, which MuJoCo has denied
    since 3.12, so that every reset fails. Four of its functions are replaced by what the model says of the joint.
    May be called twice; with an older MuJoCo it changes nothing that shows.

    Raises:
        StateError: Gymnasium-Robotics is not installed.
    """
    try:
        from gymnasium_robotics.utils import mujoco_utils
    except ImportError:
        raise StateError("Gymnasium-Robotics is not installed: pip install 'robofuse[contrib]'") from None

    def get(field: str):  # noqa: ANN202
        return lambda model, data, name: np.array(getattr(data.joint(name), field))

    def put(field: str):  # noqa: ANN202
        return lambda model, data, name, value: setattr(data.joint(name), field, value)

    for field in ("qpos", "qvel"):
        setattr(mujoco_utils, f"get_joint_{field}", get(field))
        setattr(mujoco_utils, f"set_joint_{field}", put(field))
