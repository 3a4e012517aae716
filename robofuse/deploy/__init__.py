"""Run an exported policy on a robot: NumPy and onnxruntime, without torch, MuJoCo or Stable-Baselines3.

`robofuse export` writes the file. This package imports nothing else, but for a `Camera` OpenCV, and PyYAML if its
calibration is in YAML.
"""

from robofuse.deploy.camera import Camera
from robofuse.deploy.policy import Policy
from robofuse.deploy.watchdog import Blind, OutOfOrder, Status

__all__ = ["Blind", "Camera", "OutOfOrder", "Policy", "Status"]
