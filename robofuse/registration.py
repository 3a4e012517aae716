"""Gymnasium ids, and the names of tasks, robots, cameras and renderers; light, as `import robofuse` reads it."""

import gymnasium as gym

NAMESPACE = "robofuse"
TASKS = {
    "robofuse/Reach-v0": "bring the fingertips to a ball and stay there for 0.25 s (small, for tests)",
    "robofuse/Grasp-v0": "lift a random block 10 cm and hold it there for 0.5 s, within 5 s",
    "robofuse/Feel-v0": "pull a plate out of its slot inside a box that hides the hand, within 5 s",
    "robofuse/PegInsert-v0": "push a held peg into a hole 1 mm wider, which a brush hides, gently, within 5 s",
    "robofuse/Sort-v0": "put the red one of two cubes into the red one of two trays, within 5 s",
    "robofuse/Stack-v0": "leave a block on a shelf in the air, whose height only depth tells, within 5 s",
}
ROBOTS = {
    "arm": "seven joints, Franka-class kinematics and limits, two-finger gripper (default)",
    "gripper": "the same hand floating on three slides and a turning joint: fast, for tests and quick studies",
}
CAMERAS = {
    "scene": "fixed, in front of the robot and to its left, looks at the workspace (default)",
    "front": "fixed, opposite the robot",
    "side": "fixed, on the robot's left",
    "top": "fixed, straight above the workspace; the hand hides what is under it",
    "wrist": "on the hand, looks past the fingers",
}
RENDERERS = {
    "warp": "ray tracer of mujoco_warp on the CPU, needs nothing but pip (default)",
    "gl": "MuJoCo's classic renderer through OSMesa or EGL: the fastest on a CPU, needs system libraries",
}
"""Renderers by name, each with a line about it."""


def id_of(task: str) -> str:
    """The Gymnasium id of a task."""
    return f"{NAMESPACE}/{task}-v0"


def register_all() -> None:
    """Register all tasks with Gymnasium; `gym.make(id, **options)` takes the options of `robofuse.envs.World`."""
    for id in TASKS:
        task = id.removeprefix(f"{NAMESPACE}/").removesuffix("-v0")
        if id not in gym.registry:
            gym.register(
                id,
                entry_point="robofuse.envs.gym:SingleEnv",
                vector_entry_point="robofuse.envs.gym:BatchedEnv",
                kwargs={"task": task},
            )
