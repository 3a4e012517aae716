"""What the robot thinks with: encoders, fusion and the networks that learn to act when sensors are hidden.

Everything here is torch on batches of observations. It knows sensors
(:mod:`robofuse.sensors`), never simulators: nothing in this package imports
:mod:`robofuse.envs`, so a policy runs on any source of the same observations.
"""
