"""`robofuse report`: evaluations as one page that needs nothing else.

Start at `command.py`; `read.py` reads the folders, `findings.py` and its neighbours compute, `page.py` writes HTML.
"""

from robofuse.report.command import Report, run_report

__all__ = ["Report", "run_report"]
