"""What is told of a machine."""

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
def test_a_processor_s_name_is_told_with_family_and_model_where_they_are_known(
    cpuinfo: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", path)
    assert machine.cpu_model() == expected
