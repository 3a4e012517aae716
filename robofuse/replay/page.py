"""A live replay in the browser: the scene in 3D, what the policy reads, and switches to break its sensors.

The page is one of viser (Yi et al. 2025); the readings are drawn as in the films.
"""

import html
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from io import StringIO
from types import TracebackType
from typing import Any, Self

import numpy as np

from robofuse.envs.cameras import OVERVIEW
from robofuse.envs.world import CONTROL_RATE
from robofuse.errors import InputError, StateError
from robofuse.faults import find_fault
from robofuse.replay.canvas import BACKGROUND, PANEL, Box, fill, frame
from robofuse.replay.dashboard import Cameras, Plot, Stage
from robofuse.replay.live import SPEEDS, Live, Moment, Switch, fitting_faults
from robofuse.sensors import Sensor

_LEFT, _RIGHT = 430, 330  # widths of the panels [pixels]
_DRAWN = 404  # width of the picture of the readings, as wide as it is shown
_TALLEST, _PLOT, _GAP = 250, 150, 8
_NEAR = 1.0  # of the distance of the films' camera
_PLANNED, _HEALTHY = "as planned", "none"
_PAUSE, _GO_ON = "pause", "go on"
_LIGHTS = {"good": "#34c76e", "broken": "#f0b232", "off": "#f03e3e"}


class Page:
    """The page of one session; `with` makes sure that the server ends.

    Attributes:
        url: where it is.
        kill: sensor → its switch on the page.
        fault: sensor → its choice of faults.
        severity: sensor → its slider.
    """

    def __init__(self, host: str, port: int, title: str) -> None:
        """Start the server; the page is empty until `open`.

        Args:
            host: address to listen at; 0.0.0.0 for all of this machine's.
            port: likewise.
            title: for the first line.

        Raises:
            InputError: the port is in use, or there is no such address.
            StateError: viser is not installed.
        """
        _check_port(host, port)
        viser = _import_viser()
        with _quiet():
            self._server = viser.ViserServer(host, port, label=title, verbose=False)
        self._title, self._live, self._solids = title, None, list[Any]()
        self._episode, self._clock = -1, (0, time.monotonic(), 0.0)
        self.url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{self._server.get_port()}"
        self.kill: dict[str, Any] = {}
        self.fault: dict[str, Any] = {}
        self.severity: dict[str, Any] = {}
        self._lights: dict[str, tuple[Any, str]] = {}

    def open(self, live: Live) -> None:
        """Lay out the page of this session."""
        self._live, stage = live, Stage.of(live.world)
        self._look()
        self._readings = Readings(stage)
        gui = self._server.gui
        panel = gui.add_panel()
        with panel.add_tab("What the policy reads"):
            self._picture = gui.add_image(self._readings.ground, format="jpeg", jpeg_quality=85)
        panel.dock_left()
        panel.set_width(_LEFT)
        gui.main_panel.dock_right()
        gui.main_panel.set_width(_RIGHT)
        self._status = gui.add_html("")
        self._add_buttons()
        for sensor in stage.sensors:
            self._add_switch(sensor)

    def show(self, moment: Moment) -> None:
        """Show a moment; frames of an episode must come in order."""
        assert self._live is not None
        shown, world = moment.frame, self._live.world
        with self._server.atomic():
            if shown.step == 0 or shown.episode != self._episode:
                self._episode = shown.episode
                self._clock = self._live.steps, time.monotonic(), self._clock[2]  # breaks do not count
                self._build()
            for solid, position, quaternion in zip(self._solids, *world.poses(), strict=True):
                solid.position, solid.wxyz = position, quaternion
        self._picture.image = self._readings.draw(moment)
        self._status.content = self._told(moment)
        for key in self._lights:
            self._light(key, moment)

    def close(self) -> None:
        """End the server; may be called twice."""
        with _quiet():
            self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> None:
        """The camera where the films have theirs, and light."""
        assert self._live is not None
        server, middle = self._server, self._live.world.robot.model.workspace()
        server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        server.gui.set_panel_label("robofuse")
        server.scene.set_up_direction("+z")
        server.scene.world_axes.visible = False
        server.initial_camera.position = tuple(middle + np.multiply(OVERVIEW.position, _NEAR))
        server.initial_camera.look_at = tuple(middle + OVERVIEW.target)

    def _add_buttons(self) -> None:
        gui, live = self._server.gui, self._live
        assert live is not None
        scene = gui.add_button("new scene", hint="Leave this episode, which does not count, and begin the next one")
        pause = gui.add_button(_PAUSE)
        speed = gui.add_dropdown("speed", list(SPEEDS), initial_value="real time")
        scene.on_click(lambda _: live.new_scene())
        speed.on_update(lambda _: live.set_speed(SPEEDS[speed.value]))

        @pause.on_click
        def _(_: object) -> None:
            paused = pause.label == _PAUSE
            pause.label = _GO_ON if paused else _PAUSE
            live.pause(paused)

    def _add_switch(self, sensor: Sensor) -> None:
        gui, key, live = self._server.gui, sensor.key, self._live
        assert live is not None
        choices = [*([_PLANNED] if key in live.planned else []), _HEALTHY, *fitting_faults(sensor)]
        off = (live.switch(key) or Switch()).off
        with gui.add_folder(key):
            self._lights[key] = gui.add_html(""), ""
            self.kill[key] = gui.add_checkbox("switch off", off, hint="An announced blackout: the policy knows")
            self.fault[key] = gui.add_dropdown("fault", choices, hint="What else breaks it; the policy is not told")
            self.severity[key] = gui.add_slider("severity", 0.0, 1.0, 0.05, 0.5)
        throw = self._thrower(sensor)
        for handle in (self.kill[key], self.fault[key], self.severity[key]):
            handle.on_update(throw)

    def _thrower(self, sensor: Sensor) -> Callable[[object], None]:
        """What a sensor's switches do, on a thread of the server."""
        kill, fault, severity = self.kill[sensor.key], self.fault[sensor.key], self.severity[sensor.key]

        def throw(_: object) -> None:
            assert self._live is not None
            name = fault.value
            ungraded = name not in (_PLANNED, _HEALTHY) and not find_fault(name, sensor.kind).graded(sensor.kind)
            severity.disabled = ungraded
            if name == _PLANNED and not kill.value:
                self._live.set(sensor.key, None)
            else:
                name = "" if name in (_PLANNED, _HEALTHY) else name
                self._live.set(sensor.key, Switch(kill.value, name, 1.0 if ungraded else float(severity.value)))

        return throw

    def _build(self) -> None:
        """The shapes of this episode."""
        assert self._live is not None
        for solid in self._solids:
            solid.remove()
        self._solids = [
            self._server.scene.add_mesh_simple(
                f"/world/{number}_{shape.name.replace('/', '_')}",
                shape.vertices,
                shape.faces,
                color=tuple((255 * shape.rgba[:3]).round().astype(int).tolist()),
                flat_shading=shape.flat,
                opacity=float(shape.rgba[3]) if shape.rgba[3] < 1.0 else None,
                visible=bool(shape.rgba[3] > 0.0),
            )
            for number, shape in enumerate(self._live.world.shapes())
        ]

    def _told(self, moment: Moment) -> str:
        assert self._live is not None
        shown, world = moment.frame, self._live.world
        steps, since, pace = self._clock
        if (now := time.monotonic()) - since >= 1.0:
            pace = (self._live.steps - steps) / (now - since)
            self._clock = self._live.steps, now, pace
        outcome, colour = "", _LIGHTS["off"]
        if shown.outcome:
            colour = _LIGHTS["good"] if shown.success else colour
            outcome = "success" if shown.success else f"failed: {shown.outcome}"
        rows = [
            ("succeeded", f"<b>{moment.succeeded} of {moment.finished}</b> episodes"),
            ("episode", f"{shown.episode}, seed {world.seed}"),
            ("step", f"{shown.step} of at most {world.max_steps}, {shown.time:.2f} s"),
            ("reward", f"{sum(shown.terms.values()):+.3f}, return {shown.total:.2f}"),
            ("pace", f"{pace:.1f} steps/s ({CONTROL_RATE} is real time)"),
        ]
        table = "".join(f"<tr><td style='opacity:.65;padding-right:.8em'>{a}</td><td>{b}</td></tr>" for a, b in rows)
        banner = f"<b style='color:{colour}'>{html.escape(outcome) or '&nbsp;'}</b>"
        title = f"<b>{html.escape(self._title)}</b>"
        return f"<div style='font-size:.85em;padding:0 .8em'>{title}<table>{table}</table>{banner}</div>"

    def _light(self, key: str, moment: Moment) -> None:
        handle, before = self._lights[key]
        text = light_of(key, moment)
        if text != before:
            handle.content, self._lights[key] = text, (handle, text)


def light_of(key: str, moment: Moment) -> str:
    """A sensor's light and what it means, as HTML: green delivers, amber delivers what is broken, red delivers nothing.

    What is broken without being announced is seen by who watches alone; the policy is not told.
    """
    shown, opinion = moment.frame, moment.opinions.get(key)
    broken = ", ".join(event.fault.name for event in moment.plan if event.sensor == key)
    if not shown.on[key]:
        light, why = "off", f"off since {shown.off_since[key] * shown.dt:.2f} s"
    elif moment.affected[key]:
        light, why = "broken", f"broken: {broken}"
    else:
        light, why = "good", "delivers"
    if opinion is not None and (shown.on[key] or not opinion.trusted):  # what delivers nothing is not judged
        why += f"<br>monitor: {'trusted' if opinion.trusted else 'not trusted'}"
        why += f" ({', '.join(opinion.why)})" if opinion.why else ""
    dot = f"<span style='color:{_LIGHTS[light]};font-size:1.3em'>&#9679;</span>"
    return f"<div class='light-{key}-{light}' style='font-size:.85em;padding:0 .8em'>{dot} {why}</div>"


class Readings:
    """Draws what the policy reads: tiles of cameras, then plots, as in the films.

    Attributes:
        ground: uint8 (H, W, 3), before anything is drawn.
    """

    def __init__(self, stage: Stage) -> None:
        """Arrange them for these sensors."""
        cameras = [sensor for sensor in stage.sensors if sensor.kind in ("rgb", "depth")]
        self._cameras = Cameras(cameras, Box(0, 0, _DRAWN, _TALLEST), _TALLEST)
        y, self._plots = self._cameras.height + (_GAP if cameras else 0), list[Plot]()
        for index, curves in enumerate(stage.curves):
            last = index == len(stage.curves) - 1
            box = Box(0, y, _DRAWN, _PLOT + 12 * last)
            self._plots.append(Plot(curves, box, last))
            y = box.bottom + _GAP
        height = max(1, y - _GAP if stage.curves else y)
        self.ground = np.full((height, _DRAWN, 3), BACKGROUND, np.uint8)
        for plot in self._plots:
            fill(self.ground, plot.box, PANEL)
            frame(self.ground, plot.box)

    def draw(self, moment: Moment) -> np.ndarray:
        """A picture, RGB uint8 (H, W, 3); plots remember the moments of an episode."""
        image = self.ground.copy()
        self._cameras.draw(image, moment.frame)
        for plot in self._plots:
            if moment.frame.step == 0:
                plot.clear()
            plot.add(moment.frame)
            plot.draw(image, moment.frame)
        return image


def _quiet() -> AbstractContextManager[object]:
    """What viser prints of its own accord is left out: the command says it better."""
    return redirect_stdout(StringIO())


def _import_viser() -> Any:  # noqa: ANN401
    try:
        import viser
    except ImportError:
        raise StateError("a live replay needs viser: pip install 'robofuse[live]'") from None
    return viser


def _check_port(host: str, port: int) -> None:
    """The server itself would take the next free port without a word."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise InputError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; --port takes another port, from 1024 to "
            "65535 (0 for any that is free), --host another address of this machine"
        ) from None
