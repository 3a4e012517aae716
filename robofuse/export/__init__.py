"""Policies as ONNX files, for robots without torch: `robofuse export`; `robofuse.deploy` runs them."""

from robofuse.export.make import Export, export, run_export

__all__ = ["Export", "export", "run_export"]
