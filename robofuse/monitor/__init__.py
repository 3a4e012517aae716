"""A monitor that notices broken sensors which do not say so, and hides them from the policy.

Start at `watch.py`, which judges; `calibrate.py` learns what is usual. What is measured of a reading is in
`features.py`, what a healthy sensor looks like by itself in `health.py`, and beside the others in `peers.py`.
"""

from robofuse.monitor.calibrate import calibrate, fit
from robofuse.monitor.monitor import CHECKS, Monitor
from robofuse.monitor.policy import MonitoredPolicy
from robofuse.monitor.recording import Recording, record
from robofuse.monitor.watch import Watch

__all__ = ["CHECKS", "Monitor", "MonitoredPolicy", "Recording", "Watch", "calibrate", "fit", "record"]
