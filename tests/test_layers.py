import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "robofuse"
FILES = sorted(PACKAGE.rglob("*.py"))

# Lowest first. A module may import from its own layer and from those below it.
LAYERS = [
    {
        "arrays",
        "checks",
        "deploy",
        "errors",
        "files",
        "interrupts",
        "plugins",
        "ranks",
        "registration",
        "rng",
        "room",
        "sensors",
        "stats",
        "tensors",
    },
    {"dropout", "faults", "memory"},
    {"wrappers"},
    {"envs", "policies"},
    {"export", "machine", "play"},
    {
        "train",
        "evaluate",
        "monitor",
        "demos",
        "replay",
        "rl_zoo",
    },  # fmt: skip
    {"study"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
COMMANDS = LAYERS[-4] | LAYERS[-3] | LAYERS[-2] | LAYERS[-1]

SIMULATORS = {"mujoco", "mujoco_warp", "warp", "OpenGL", "glfw"}
# all that a robot needs to have, the last two for a camera alone; Gymnasium is left out by sensors.py
ON_ROBOTS = {*sys.stdlib_module_names, "numpy", "onnxruntime", "cv2", "yaml"}
ON_ROBOTS_OURS = {"checks", "deploy", "errors", "sensors"}
SB3_FILES = {
    "policies.extractor",
    "policies.actor_critic",
    "policies.agent_files",
    "policies.agents",
    "policies.cloning",
    "policies.distillation",
    "policies.ppo",
    "policies.rollouts",
    "policies.stepping",
    "wrappers.sb3",
}


def parts_of(path):
    """The module's dotted name below robofuse, as a list: envs/world.py is ['envs', 'world']."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(path):
    """Absolute dotted names of everything that the file imports, at its top or inside a function."""
    here = ["robofuse", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            # `from robofuse import envs` imports a module, so the name counts as part of the path.
            yield from (".".join([*base, alias.name]) for alias in node.names)


def violations(parts, imported):
    """Every rule of the design that this import breaks, in words."""
    top, *rest = imported.split(".")
    own = parts[0] if parts else "robofuse"
    if top in ("envs", "policies"):
        yield "imports through the links; say robofuse.envs, robofuse.policies"
    if top in SIMULATORS and own != "envs":
        yield "a simulator is imported only under robofuse/envs"
    if top == "stable_baselines3":
        adapter = own == "envs" and len(parts) > 1 and parts[1] == "sb3"
        in_allowed_file = any(".".join(parts[:n]) in SB3_FILES for n in (1, 2))
        if not (adapter or in_allowed_file or own in COMMANDS):
            yield "stable_baselines3 is imported only by adapters, wrappers and commands"
    if own == "deploy" and top not in ON_ROBOTS and (top != "robofuse" or rest[0] not in ON_ROBOTS_OURS):
        others = sorted(ON_ROBOTS - set(sys.stdlib_module_names))
        yield f"deploy imports {', '.join([*others, *sorted(ON_ROBOTS_OURS)])} and the standard library"
    if top == "robofuse" and rest and rest[0] in RANK:
        target = rest[0]
        if not parts:
            # The package registers its environments and that is all: it must stay quick to import.
            if rest[0] != "registration":
                yield "robofuse/__init__.py imports only registration"
        elif {own, target} == {"envs", "policies"}:
            yield "envs and policies never import each other"
        elif RANK[target] > RANK[own]:
            yield f"{own} is below {target}, and imports point down"


def test_imports_point_down():
    assert len(FILES) > 50
    broken = [
        f"{path.relative_to(ROOT)} imports {name}: {rule}"
        for path in FILES
        for name in imports_of(path)
        for rule in violations(parts_of(path), name)
    ]
    assert not broken, "\n".join(broken)


def test_every_module_has_a_layer():
    names = {parts[0] for path in FILES if (parts := parts_of(path))}
    assert names <= set(RANK), f"give {sorted(names - set(RANK))} a layer in this file"


FORBIDDEN = [
    ("envs.world", "robofuse.policies.fusion"),
    ("policies.fusion", "robofuse.envs"),
    ("policies.fusion", "policies.encoders"),
    ("policies.fusion", "mujoco"),
    ("policies.fusion", "stable_baselines3.common"),
    ("envs.world", "stable_baselines3"),
    ("sensors", "robofuse.envs.scene"),
    ("sensors", "robofuse.dropout"),
    ("dropout.masker", "robofuse.wrappers"),
    ("wrappers.gym", "robofuse.envs"),
    ("wrappers.gym", "stable_baselines3"),
    ("envs.world", "robofuse.train"),
    ("replay", "mujoco_warp"),
    ("deploy.policy", "torch"),
    ("deploy.policy", "gymnasium"),
    ("deploy.policy", "robofuse.tensors"),
    ("deploy.policy", "robofuse.policies"),
]
ALLOWED = [
    ("envs.world", "robofuse.sensors"),
    ("envs.sb3", "stable_baselines3"),
    ("wrappers.sb3", "stable_baselines3"),
    ("policies.ppo", "stable_baselines3"),
    ("monitor", "robofuse.evaluate"),
    ("cli", "robofuse.__version__"),
    ("deploy.model", "onnxruntime"),
    ("deploy.camera", "cv2"),
    ("deploy.model", "robofuse.sensors.Sensor"),
    ("export.graph", "onnx"),
]


def test_the_rules_catch_what_is_forbidden_and_nothing_else():
    caught = [pair for pair in FORBIDDEN + ALLOWED if list(violations(pair[0].split("."), pair[1]))]
    assert caught == FORBIDDEN


def test_import_robofuse_loads_nothing_heavy():
    heavy = ["torch", "mujoco", "mujoco_warp", "OpenGL", "warp", "stable_baselines3", "cv2"]
    code = f"import sys, robofuse; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ["envs", "policies"])
def test_links_point_at_the_rooms(room):
    link = ROOT / room
    assert link.is_symlink()
    assert link.resolve() == PACKAGE / room
