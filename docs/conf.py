"""Builds the documentation site from these pages and the docstrings: `python -m sphinx -W docs build/docs`."""

import importlib.metadata

project = "robofuse"
author = "the robofuse developers"
release = version = importlib.metadata.version("robofuse")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"robofuse {release}"
exclude_patterns = ["build"]

# Headings are link targets, as on code hosting sites, so the same links work in both places.
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
# The README is a page of the repository, not of the site; links to source files lead there too.
suppress_warnings = ["myst.xref_missing"]

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "both"  # in the signature too, as a sentence may tell of an argument
autodoc_typehints_description_target = "documented"
autodoc_mock_imports: list[str] = []
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_include_init_with_doc = True
napoleon_use_ivar = True  # a field is described once, where its class is
