"""Run an exported policy on a robot: NumPy and onnxruntime, without torch, MuJoCo or Stable-Baselines3.

`robofuse export` writes the file. Nothing here imports what a robot need not have.
"""

from robofuse.deploy.policy import Policy
from robofuse.deploy.watchdog import Blind, OutOfOrder, Status

__all__ = ["Blind", "OutOfOrder", "Policy", "Status"]
