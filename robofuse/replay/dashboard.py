"""Everything about one moment in one picture."""

from dataclasses import dataclass

import numpy as np

from robofuse.envs import World
from robofuse.envs.world import CONTROL_RATE
from robofuse.faults import Plan
from robofuse.replay.canvas import BACKGROUND, DIM, LINE, PANEL, RED, TEXT, Box, fill, frame, write
from robofuse.replay.moments import Moment
from robofuse.replay.panels import Cameras, Lights, Reward, banner
from robofuse.replay.traces import Plot, choose_curves, stack_plots
from robofuse.sensors import MODALITIES, TRUTH

WIDTH, HEIGHT = 1280, 720
_MARGIN, _GAP, _TOP = 16, 12, 60
_SCENE = Box(_MARGIN, _TOP, 640, 480)  # a pixel for a pixel of `World.picture`
_LOWER = Box(_MARGIN, _SCENE.bottom + _GAP, 640, HEIGHT - _MARGIN - _SCENE.bottom - _GAP)
_RIGHT = Box(_SCENE.right + _MARGIN, _TOP, WIDTH - _SCENE.right - 2 * _MARGIN, HEIGHT - _MARGIN - _TOP)
_ORDER = (*MODALITIES, TRUTH)
_CAMERA_ROWS = 310  # the rest of the right side is for plots


@dataclass(frozen=True)
class Credits:
    """What the first line says.

    Attributes:
        policy: its name.
        about: task, robot and the like.
        seed: of the scenes.
    """

    policy: str
    about: str
    seed: int


class Dashboard:
    """Draws moments of one World: the scene, what each sensor delivers, lights, reward, time and outcome.

    Attributes:
        lights: a light per sensor; its `places` tell where they are.
    """

    def __init__(self, world: World, credits: Credits, disabled: Plan | None = None) -> None:
        """Arranges the parts for this world's sensors.

        Args:
            world: whose moments will come.
            credits: for the first line.
            disabled: blackouts, for the first line.
        """
        self._credits = credits
        self._disabled = ", ".join(s.sensor + (f" from step {s.step}" if s.step else "") for s in disabled or ())
        self._max_steps = world.max_steps
        sensors = sorted(world.sensors, key=lambda sensor: _ORDER.index(sensor.key.partition("_")[0]))
        cameras = [sensor for sensor in sensors if sensor.kind in ("rgb", "depth")]
        curves = choose_curves(sensors, world.robot, world.task.privileged_names)
        self._cameras = Cameras(cameras, _RIGHT, _CAMERA_ROWS if curves else _RIGHT.height)
        below = self._cameras.height + _GAP if cameras else 0
        self._plots: list[Plot] = stack_plots(curves, _RIGHT.inside(0, below, 0, 0), CONTROL_RATE)
        lights = Box(_LOWER.x, _LOWER.y, 268, _LOWER.height)
        reward = Box(lights.right + _GAP, _LOWER.y, _LOWER.right - lights.right - _GAP, _LOWER.height)
        self.lights, self._reward = Lights(sensors, lights), Reward(world.task.weights, reward)
        self._ground = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        self._ground[:] = BACKGROUND
        for box in (lights, reward, *(plot.box for plot in self._plots)):
            fill(self._ground, box, PANEL)
            frame(self._ground, box)
        self._write_credits()

    def draw(self, moment: Moment, scene: np.ndarray) -> np.ndarray:
        """One picture; the moments of an episode must come in order, since the plots remember.

        Args:
            moment: what to show.
            scene: the world as people see it, RGB uint8 (480, 640, 3).

        Returns:
            RGB, uint8 (720, 1280, 3).
        """
        image = self._ground.copy()
        self._clock(image, moment)
        _SCENE.of(image)[:] = scene
        banner(image, _SCENE, moment)
        frame(image, _SCENE)
        self._cameras.draw(image, moment)
        self.lights.draw(image, moment)
        self._reward.draw(image, moment)
        for plot in self._plots:
            if moment.step == 0:
                plot.clear()
            plot.add(moment)
            plot.draw(image, moment)
        return image

    def _write_credits(self) -> None:
        image, credits = self._ground, self._credits
        taken = write(image, credits.policy, _MARGIN, 23, 15.0, bold=True, width=400)
        write(image, credits.about, _MARGIN + taken + 16, 25, 9.5, DIM, width=_SCENE.right - _MARGIN - taken - 16)
        if self._disabled:
            taken = write(image, "disabled: ", _MARGIN, 47, 8.5, RED, bold=True)
            write(image, self._disabled, _MARGIN + taken + 4, 47, 8.5, RED, width=600 - taken)
        else:
            write(image, "no sensor disabled", _MARGIN, 47, 8.5, DIM)

    def _clock(self, image: np.ndarray, moment: Moment) -> None:
        write(image, f"{moment.time:.2f} s", _RIGHT.right, 30, 20.0, bold=True, align="right")
        progress = Box(_RIGHT.x, 44, 440, 4)
        fill(image, progress, LINE)
        share = min(1.0, moment.step / max(1, self._max_steps))
        fill(image, Box(progress.x, progress.y, round(progress.width * share), progress.height), TEXT)
        write(image, f"episode {moment.episode}", _RIGHT.x, 24, 11.0, bold=True)
        steps = f"step {moment.step} of at most {self._max_steps}"
        write(image, steps, progress.right, 24, 9.5, DIM, align="right")
        write(image, f"seed {self._credits.seed}", _RIGHT.x + 130, 25, 9.5, DIM)
