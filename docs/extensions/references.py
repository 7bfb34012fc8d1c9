"""References of docstrings to objects of syncbn by short names, and base classes that are documented."""

from __future__ import annotations

import sys
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def find_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> Any:
    """Return a reference to the object whose full name ends with the target, in the outermost package if several do."""
    objects = env.domains.python_domain.objects
    names = [name for name in objects if name.endswith(f".{node['reftarget']}") and not objects[name].aliased]
    if node.get("refdomain") != "py" or not names:
        return None
    name = min(names, key=lambda name: (name.count("."), name))
    return make_refnode(app.builder, node["refdoc"], objects[name].docname, objects[name].node_id, content, name)


def replace_private_bases(_app: Sphinx, _name: str, _class: type, _options: object, bases: list[type]) -> None:
    """Replace base classes that are not exported by the nearest ones that are."""
    bases[:] = {next(filter(_is_exported, getattr(base, "__mro__", [base])), object): None for base in bases}


def _is_exported(cls: type) -> bool:
    package = ".".join(cls.__module__.split(".")[:2])
    return package != "abc" and (not package.startswith("syncbn.") or cls.__name__ in sys.modules[package].__all__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    app.connect("missing-reference", find_short_name)
    app.connect("autodoc-process-bases", replace_private_bases)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
