"""Description of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncbn.experiments import machine

MASKED = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx\n"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (MASKED, "AMD EPYC, family 25, model 17"),
        ("model name\t: Some Processor\n", "Some Processor"),
    ],
)
def test_the_name_of_a_processor_includes_family_and_model_if_known(
    cpuinfo: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", path)
    assert machine.cpu_model() == expected
