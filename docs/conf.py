"""Sphinx: the pages of docs/ and the reference from the docstrings.

Build with ``sphinx-build -W -b html docs docs/_build/html`` where microinfer is installed.
"""

import microinfer

project = "microinfer"
copyright = "2026, the microinfer developers"
version = release = microinfer.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"microinfer {release}"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Names in single backticks of a docstring become links where they are documented.
default_role = "py:obj"
add_module_names = False
autodoc_typehints = "none"  # numpydoc's sections say the types
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
