"""Standard streams that raise no errors, results that are shown after the files are written, and signals."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from syncbn.cli.errors import CommandError
from syncbn.cli.forward import forwarded
from syncbn.cli.output import show
from syncbn.cli.signals import TerminatedError, signals_as_exceptions
from syncbn.cli.streams import Output, standard_streams


def test_the_output_of_ranks_in_a_stream_without_a_buffer(monkeypatch) -> None:
    """As in a notebook, and under contextlib.redirect_stdout."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    code = "print('±' * 100_000)"
    process = subprocess.Popen([sys.executable, "-X", "utf8", "-c", code], stdout=subprocess.PIPE)
    with forwarded(process):
        assert process.wait(30) == 0
    process.stdout.close()
    assert stream.getvalue() == "±" * 100_000 + "\n"


def test_the_first_error_is_kept_and_the_rest_is_dropped() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        output = Output(full.fileno())
        assert output.error is None
        assert output.write(b"lost") == 4
        assert output.error is not None
        assert output.error.errno == errno.ENOSPC
        first = output.error
        assert output.write(b"more") == 4
        assert output.error is first


def test_a_full_pipe_that_does_not_block_is_waited_for() -> None:
    """Another process that has the same terminal or pipe may have made it non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    content, found = os.urandom(1 << 20), bytearray()

    def read() -> None:
        while chunk := os.read(reader, 1 << 16):
            found.extend(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    stream = io.BufferedWriter(Output(writer))
    stream.write(content)
    stream.flush()
    assert stream.raw.error is None
    os.close(writer)
    thread.join()
    os.close(reader)
    assert bytes(found) == content


def test_streams_of_a_notebook_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    own = io.StringIO()
    monkeypatch.setattr(sys, "stdout", own)
    with standard_streams() as output:
        assert sys.stdout is own
        assert output.error is None


def test_all_that_can_be_written_and_shown_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError(f"no font for {path.name}")

    files = {tmp_path / "a.png": fail, tmp_path / "b.txt": lambda path: path.write_text("b")}
    json = tmp_path / "absent" / "c.json"
    with pytest.raises(CommandError) as error:
        show("the text", {"x": 1}, str(json), files)
    problems = f"{tmp_path / 'a.png'}: RuntimeError: no font for a.png", f"{json}: No such file or directory"
    assert str(error.value) == "; ".join(f"can't write {problem}" for problem in problems)
    assert capsys.readouterr().out == f"the text\n\nwritten: {tmp_path / 'b.txt'}\n"
    assert (tmp_path / "b.txt").read_text() == "b"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_exception_unless_it_is_ignored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    try:
        signal.signal(number, signal.SIG_DFL)
        with pytest.raises(TerminatedError) as error, signals_as_exceptions():
            signal.raise_signal(number)
        assert error.value.code == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # as nohup does
        with signals_as_exceptions():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
