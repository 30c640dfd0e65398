"""Sphinx builds the documentation from here: ``make docs``, warnings are errors."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "benchmarks"), str(HERE.parent)]

import torch

import probmetrics

torch.set_num_threads(2)

project = "probmetrics"
author = "The probmetrics developers"
copyright = author
version = release = probmetrics.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "reference",  # one entry per public name, and docstrings made fit for reStructuredText
    "generated",  # pictures and benchmark pages
    "links",  # every relative link of the built pages leads somewhere
]
exclude_patterns = ["_build", "examples", "auto_gallery/*.ipynb", "gallery"]
nitpicky = True
# Other libraries' names and types that only results carry have no page here.
nitpick_ignore_regex = [
    ("py:exc", r"\w*(Error|Warning)"),
    ("py:class", r"(torch|numpy|collections|pathlib|probmetrics\.\w+)\..*"),
]
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Warns", "returns_style")]
autodoc_typehints = "none"  # shapes are said in the text; aliases would hide them
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # an overriding method is explained where it is declared
autodoc_preserve_defaults = True
add_module_names = False
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "backreferences_dir": None,
    "reset_modules": ("matplotlib",),
    "min_reported_time": 1,
    "plot_gallery": True,
    "show_signature": False,
}

html_theme = "furo"
html_title = f"probmetrics {version}"
html_static_path = []
html_show_sphinx = False
