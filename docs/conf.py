"""Settings of Sphinx: `make docs` builds the pages into site/, without a network."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path

import sphobjinv
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock

import syncbn

DOCS = Path(__file__).parent

# The documentation is built without these libraries. A decorator and a base class have to be real.
with mock(["jax", "keras", "onnx", "torch"]):
    import keras.saving
    import torch.autograd

    keras.saving.register_keras_serializable = lambda _package: lambda cls: cls
    torch.autograd.Function = object
    for bridge in ("jax", "keras", "onnx", "torch"):
        import_module(f"syncbn.{bridge}")
sys.path.insert(0, str(DOCS / "extensions"))

project = "syncbn"
author = "The syncbn developers"
copyright = author  # noqa: A001
version = release = syncbn.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.programoutput",
    "mathml",
    "references",
]
exclude_patterns = ["**.ipynb"]
templates_path = ["templates"]
default_role = "py:obj"
nitpicky = True
nitpick_ignore = [("py:class", "torch.nn.modules.batchnorm._BatchNorm")]
highlight_language = "text"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

autosummary_generate = True
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "inherited-members": "Module, list, str, tuple, BaseException",  # their members have pages of their own
    "show-inheritance": True,
}
autodoc_typehints = "none"  # the sections of docstrings describe the types
numpydoc_show_class_members = False  # autodoc does
numpydoc_xref_param_type = False
numpydoc_validation_checks = {
    "all",  # except:
    "ES01",  # one sentence can be enough
    "EX01",  # methods have theirs on the page of the class; tests/test_doctests.py checks those of the API
    "PR01",  # a method may refer to the function or class that describes its arguments; tests/test_docstrings.py
    "PR04",  # `model : Module` needs no description
    "PR07",
    "PR08",  # a description may begin with a formula or a name
    "RT01",  # the first sentence of a method says what it returns
    "RT03",
    "SA01",  # methods have theirs on the page of the class
    "YD01",
}
numpydoc_validation_exclude = {r"\.__\w+__$", r"\.NAMES$"}  # a constant has no docstring of its own


# The names of other projects that pages refer to: a build needs no network.
intersphinx_mapping = {}
for project_name, address in {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
    "mpi4py": "https://mpi4py.readthedocs.io/en/stable",
    "torch": "https://docs.pytorch.org/docs/stable",
    "jax": "https://docs.jax.dev/en/latest",
    "keras": "https://keras.io",
}.items():
    inventory = DOCS / "generated" / f"{project_name}.inv"
    inventory.parent.mkdir(exist_ok=True)
    sphobjinv.writebytes(inventory, sphobjinv.compress((DOCS / "inventories" / f"{project_name}.txt").read_bytes()))
    intersphinx_mapping[project_name] = (address, str(inventory))

# Programs run with the interpreter and the mpiexec of this environment, and one thread on each rank.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", COLUMNS="80")
programoutput_prompt_template = "$ {command}\n{output}"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "syncbn"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_sidebars = {page: [] for page in ("index", "tutorial", "examples")}  # they have no pages below them
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "syncbn"},
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navigation_with_keys": False,
}


def copy_report(app: Sphinx, error: Exception | None) -> None:
    """Copy the report of the claims, a page of its own, to where claims.md links to it."""
    if error is None:
        shutil.copytree(DOCS / "claims", app.outdir / "claims", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    """Connect `copy_report`."""
    app.connect("build-finished", copy_report)
