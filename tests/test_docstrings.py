"""Public names have docstrings that describe their parameters and state whether a call is collective."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import syncbn
from syncbn.comm import Communicator, SerialComm

COLLECTIVE = re.compile(r"\b(Collective|Not collective)\b")

BRIDGES = {"jax": ["jax"], "keras": ["keras", os.environ["KERAS_BACKEND"]], "torch": ["torch"]}
"""Packages inside syncbn that are imported if these libraries are installed."""


def public_modules() -> list[ModuleType]:
    """Import and return the package and its modules except those with a leading underscore."""
    modules = [syncbn]
    for info in pkgutil.walk_packages(syncbn.__path__, "syncbn."):
        parts = info.name.split(".")
        missing = any(importlib.util.find_spec(library) is None for library in BRIDGES.get(parts[1], []))
        if not missing and not any(part.startswith("_") for part in parts):
            modules.append(importlib.import_module(info.name))
    return modules


def public_objects(modules: list[ModuleType]) -> dict[str, Any]:
    """Return the public functions and classes of the modules by the full name of their definition.

    Public names of a module are those in ``__all__``; without it, those that it defines without an underscore.
    """
    found = {}
    for module in modules:
        exported = getattr(module, "__all__", None)
        for name, value in vars(module).items():
            if not isinstance(value, (type, FunctionType)) or value.__module__.partition(".")[0] != "syncbn":
                continue
            here = value.__module__ == module.__name__ and not name.startswith("_")
            if name in exported if exported is not None else here:
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the public methods and properties that the class itself defines."""
    for name, value in vars(cls).items():
        if not name.startswith("_") and isinstance(value, (FunctionType, classmethod, staticmethod, property)):
            yield name, getattr(cls, name)


def parameter_names(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters of a function, or of the constructor of a class."""
    if getattr(function, "_is_protocol", False):
        return []
    signature = inspect.signature(function.__init__ if isinstance(function, type) else function)
    return [name for name in signature.parameters if name != "self"]


def documented_parameters(doc: str) -> set[str]:
    """Return the names in the "Parameters" section of a NumPy-style docstring."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", inspect.cleandoc(doc), re.M | re.S)
    heads = re.findall(r"^(\S[^:\n]*?)\s*(?::|$)", section[1], re.M) if section else []
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def without_docstring(objects: dict[str, Any]) -> list[str]:
    """Return the names of functions, classes and methods without a docstring; methods may inherit theirs."""
    found = [name for name, value in objects.items() if not (value.__doc__ or "").strip()]
    for name, value in objects.items():
        if isinstance(value, type):
            found += [f"{name}.{method}" for method, function in methods(value) if not inspect.getdoc(function)]
    return found


def without_parameters(objects: dict[str, Any]) -> list[str]:
    """Return "name: parameters" for every object whose docstring leaves parameters undescribed."""
    found = []
    for name, value in objects.items():
        sources = value.__mro__ if isinstance(value, type) else [value]  # bases too
        documented = set().union(*(documented_parameters(source.__doc__ or "") for source in sources))
        missing = [parameter for parameter in parameter_names(value) if parameter not in documented]
        if missing:
            found.append(f"{name}: {', '.join(missing)}")
    return found


def multi_rank(objects: dict[str, Any]) -> dict[str, Any]:
    """Return the functions that take a communicator and the methods of communicators and trainers."""
    found = {}
    for name, value in objects.items():
        if "comm" in parameter_names(value):
            found[name] = value
        if isinstance(value, type):
            whole = (issubclass(value, Communicator) and value is not SerialComm) or value.__name__ == "Trainer"
            for method, function in methods(value):
                if not isinstance(function, property) and (whole or "comm" in parameter_names(function)):
                    found[f"{name}.{method}"] = function
    return found


def without_collective(objects: dict[str, Any]) -> list[str]:
    """Return the names of ``objects`` whose docstring has neither "Collective" nor "Not collective"."""
    return [name for name, value in objects.items() if not COLLECTIVE.search(inspect.getdoc(value) or "")]


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    return public_objects(public_modules())


def exported_by(package: str, kind: type) -> dict[str, Any]:
    """Return the functions (or classes) in the package's ``__all__``."""
    module = importlib.import_module(f"syncbn.{package}")
    values = {f"syncbn.{package}.{name}": getattr(module, name) for name in module.__all__}
    return {name: value for name, value in values.items() if isinstance(value, kind)}


def test_everything_public_has_a_docstring(objects):
    assert len(objects) > 50
    found = without_docstring(objects) + [m.__name__ for m in public_modules() if not m.__doc__]
    assert not found, "without docstring:\n" + "\n".join(found)


def test_parameters_are_described():
    described = exported_by("functional", FunctionType) | exported_by("layers", type) | exported_by("nn", type)
    assert len(described) > 25
    found = without_parameters(described)
    assert not found, "parameters that the docstring does not describe:\n" + "\n".join(found)


def test_docstrings_state_which_calls_are_collective(objects):
    found = multi_rank(objects)
    names = {name.rpartition(".")[2] for name in found}
    assert {"batch_norm", "SyncBatchNorm", "Trainer", "fit", "allreduce", "split"} <= names
    missing = without_collective(found)
    assert not missing, "neither Collective. nor Not collective.:\n" + "\n".join(missing)


class Incomplete:
    """A class.

    Parameters
    ----------
    first, *rest : int
        Some numbers.
    second : str
        A word: described.

    Raises
    ------
    third : never
    """

    def __init__(self, first, second, third, *rest):
        pass

    def bare(self, comm):
        pass


def test_missing_descriptions_are_found():
    objects = {"Incomplete": Incomplete}
    assert without_docstring(objects) == ["Incomplete.bare"]
    assert without_parameters(objects) == ["Incomplete: third"]
    assert without_collective(multi_rank(objects)) == ["Incomplete.bare"]


COMM_INTERNALS = {"SERIAL", "CollectiveSignature", "CommLike"}
"""Names of `syncbn.comm` that are not part of the public API."""


@pytest.mark.parametrize("package", ["functional", "layers", "comm", "nn", "train", "monitor", "data", "torch"])
def test_the_api_page_lists_the_names_of_each_package(package):
    if package in BRIDGES:
        pytest.importorskip(package)
    page = (Path(__file__).parents[1] / "docs" / "api.rst").read_text(encoding="utf-8")
    entries = {entry.rpartition(".")[::2] for entry in re.findall(r"^   (\w+(?:\.\w+)?)$", page, re.M)}
    exported = set(importlib.import_module(f"syncbn.{package}").__all__) - COMM_INTERNALS
    top = exported & set(syncbn.__all__) if package in {"layers", "comm"} else set()  # listed as syncbn.NAME
    assert {name for prefix, name in entries if prefix == package} == exported - top
    assert top <= {name for prefix, name in entries if not prefix}
