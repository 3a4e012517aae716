"""A policy that needs no training, for tests of what evaluates policies."""

from helpers import BLIND

from robofuse.sensors import Sensor

WORLD = {"task": "Reach", "robot": "gripper", "sensors": list(BLIND), "renderer": "warp", "force_window": 4}
KEYS = ("force", "proprio")


class Fake:
    """The scripted expert, but without proprioception it stays where it is, and without force it dawdles.

    It looks at the world's truth; give it the world first. It remembers what it was shown.
    """

    keys = KEYS

    def __init__(self, world=None, **options):
        self.world, self.card = WORLD | options, {"algorithm": "script"}
        self.place, self.calls, self.on_call = world, 0, {}
        self.trace = []

    def act(self, observation):
        self.calls += 1
        if self.calls in self.on_call:
            self.on_call[self.calls]()
        place = self.place
        self.trace.append((place.episode, place.elapsed, place.backend.field("mocap_pos")[:, 0].clone(), observation))
        force, proprio = observation["available"].double().unbind(1)
        action = place.expert() * proprio[:, None]
        return (action * (0.4 + 0.6 * force[:, None])).float()

    @property
    def sensors(self):
        kinds = {"force": ("window", (4, 8))}
        return [Sensor(key, *kinds.get(key, ("vector", (1,))), "float32", "", 1.0, 20.0) for key in self.keys]

    def check(self, sensors, renderer=None):
        if tuple(sensor.key for sensor in sensors) != self.keys:
            raise ValueError("other sensors")

    def break_down(self, call):
        """Raise KeyboardInterrupt at that call of `act`."""

        def interrupt():
            raise KeyboardInterrupt

        self.on_call = {call: interrupt}
