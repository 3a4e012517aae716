"""What tests of replays share: a small world, an actor that writes down what it was given, a reader of films."""

import cv2
import numpy as np

from robofuse.envs import World

SCENE = np.zeros((480, 640, 3), np.uint8)


def small_world():
    return World("Reach", robot="gripper", image_size=20, auto_reset=False, seed=7)


class Witness:
    """The expert, who writes down what a policy would have been given."""

    def __init__(self, world):
        self.world, self.seen = world, []

    def act(self, observation):
        self.seen.append(observation)
        return self.world.expert()


def pictures_of(path):
    film = cv2.VideoCapture(str(path))
    pictures = []
    while True:
        there, image = film.read()
        if not there:
            return pictures
        pictures.append(image[..., ::-1])
