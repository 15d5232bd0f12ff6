"""The documentation site: ``make docs`` builds it, with every warning (a broken link among them) as an error.

The source folder is the whole checkout, so that pages link to dataset cards and benchmarks as they lie; what belongs to the
site is named by ``include_patterns``. The reference is written from ``__all__`` before each build, see ``docs/reference.py``.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import reference  # noqa: E402

import spheregeo  # noqa: E402

project = "spheregeo"
author = "The spheregeo developers"
copyright = author
release = version = spheregeo.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
root_doc = "docs/index"
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
include_patterns = [
    "docs/**",
    "datasets/README.md",
    "datasets/*/README.md",
    "meshes/README.md",
    "meshes/*/README.md",
    "benchmarks/README.md",
    "examples/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = ["docs/_static/**"]

html_theme = "furo"
html_title = f"spheregeo {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_static/root"]
html_show_sphinx = False

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
suppress_warnings = ["myst.header"]


_trees: dict[int, Any] = {}


def share_tree(app: object, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Give sources of modules, which no table of contents lists, one tree of links for each depth of their folders."""
    if page.startswith("_modules/"):
        context["toctree"] = _trees.setdefault(page.count("/"), cache(context["toctree"]))


def setup(app: Any) -> None:
    """Write the reference, hook our docstrings in, and save the theme half of its work."""
    reference.write(DOCS / "reference")
    app.connect("autodoc-process-docstring", reference.sections, priority=100)
    app.connect("html-page-context", share_tree, priority=100)
