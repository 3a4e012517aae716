"""`robofuse replay`: a policy at work, filmed, with sensors disabled.

`command.py` runs it, `moments.py` plays an episode, `dashboard.py` draws a moment.
"""
