"""A monitor that notices faults that are not announced, and masks these sensors for the policy.

Start at `monitor.py`, which judges; `calibrate.py` learns what is usual, and `foreign.py` does
so in environments of others. What is measured of a reading is in
`features.py`, and what healthy sensors look like, by themselves and beside the others, in `health.py`.
"""

from robofuse.monitor.calibrate import Recording, calibrate, fit, record
from robofuse.monitor.foreign import calibrate_env
from robofuse.monitor.monitor import CHECKS, Monitor, MonitoredPolicy, Watch

__all__ = ["CHECKS", "Monitor", "MonitoredPolicy", "Recording", "Watch", "calibrate", "calibrate_env", "fit", "record"]
