"""Everything public has a docstring, names its parameters, and says whether all ranks must call it."""

from __future__ import annotations

import importlib
import inspect
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
OPTIONAL = {"torch"}
"""Libraries without which a module of the package can't be imported."""


def public_modules() -> list[ModuleType]:
    """Import and return the package and its modules, but those with a leading underscore."""
    modules = [syncbn]
    for info in pkgutil.walk_packages(syncbn.__path__, "syncbn."):
        if any(part.startswith("_") for part in info.name.split(".")):
            continue
        try:
            modules.append(importlib.import_module(info.name))
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise
    return modules


def public_objects(modules: list[ModuleType]) -> dict[str, Any]:
    """Return the functions and classes of the modules by the full name under which they were defined.

    A module offers what its ``__all__`` names; without one, what it defines under a public name.
    """
    found = {}
    for module in modules:
        offered = getattr(module, "__all__", None)
        for name, value in vars(module).items():
            if not isinstance(value, (type, FunctionType)) or value.__module__.partition(".")[0] != "syncbn":
                continue
            here = value.__module__ == module.__name__ and not name.startswith("_")
            if name in offered if offered is not None else here:
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield (name, function or property) of what the class itself defines for its users."""
    for name, value in vars(cls).items():
        if not name.startswith("_") and isinstance(value, (FunctionType, classmethod, staticmethod, property)):
            yield name, getattr(cls, name)


def parameter_names(function: Callable[..., Any]) -> list[str]:
    """Return the names in the signature; of a class, those of its constructor."""
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
    """Return the names of public functions, classes and methods without a docstring (a method may inherit one)."""
    found = [name for name, value in objects.items() if not (value.__doc__ or "").strip()]
    for name, value in objects.items():
        if isinstance(value, type):
            found += [f"{name}.{method}" for method, function in methods(value) if not inspect.getdoc(function)]
    return found


def without_parameters(objects: dict[str, Any]) -> list[str]:
    """Return "name: parameters" where the signature has parameters that the docstring does not describe."""
    found = []
    for name, value in objects.items():
        sources = value.__mro__ if isinstance(value, type) else [value]  # a base may describe what it takes
        documented = set().union(*(documented_parameters(source.__doc__ or "") for source in sources))
        missing = [parameter for parameter in parameter_names(value) if parameter not in documented]
        if missing:
            found.append(f"{name}: {', '.join(missing)}")
    return found


def concerns_ranks(objects: dict[str, Any]) -> dict[str, Any]:
    """Return what takes a communicator, and what communicators and trainers offer."""
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
    """Return the names of ``objects`` that say neither "Collective" nor "Not collective"."""
    return [name for name, value in objects.items() if not COLLECTIVE.search(inspect.getdoc(value) or "")]


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    return public_objects(public_modules())


def exported(room: str, kind: type) -> dict[str, Any]:
    """Return the functions (or classes) that a room of the package offers to users."""
    module = importlib.import_module(f"syncbn.{room}")
    offered = {f"syncbn.{room}.{name}": getattr(module, name) for name in module.__all__}
    return {name: value for name, value in offered.items() if isinstance(value, kind)}


def test_everything_public_has_a_docstring(objects):
    assert len(objects) > 50
    found = without_docstring(objects) + [m.__name__ for m in public_modules() if not m.__doc__]
    assert not found, "without docstring:\n" + "\n".join(found)


def test_parameters_are_described():
    described = exported("functional", FunctionType) | exported("layers", type) | exported("nn", type)
    assert len(described) > 25
    found = without_parameters(described)
    assert not found, "parameters that the docstring does not describe:\n" + "\n".join(found)


def test_docstrings_say_what_all_ranks_must_call(objects):
    concerned = concerns_ranks(objects)
    names = {name.rpartition(".")[2] for name in concerned}
    assert {"batch_norm", "SyncBatchNorm", "Trainer", "fit", "allreduce", "split"} <= names
    found = without_collective(concerned)
    assert not found, "neither Collective. nor Not collective.:\n" + "\n".join(found)


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


def test_what_is_missing_is_found():
    made_up = {"Incomplete": Incomplete}
    assert without_docstring(made_up) == ["Incomplete.bare"]
    assert without_parameters(made_up) == ["Incomplete: third"]
    assert without_collective(concerns_ranks(made_up)) == ["Incomplete.bare"]


OF_COMMUNICATORS = {"SERIAL", "CollectiveSignature", "CommLike"}
"""What the inside of `syncbn.comm` is made of."""


@pytest.mark.parametrize("room", ["functional", "layers", "comm", "nn", "train", "data"])
def test_the_api_page_names_what_a_room_offers(room):
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    shown = set(re.findall(rf"^::: syncbn\.{room}\.(?:\w+\.)*(\w+)$", page, re.M))
    offered = set(importlib.import_module(f"syncbn.{room}").__all__)
    assert shown == offered - OF_COMMUNICATORS
