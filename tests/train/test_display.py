"""Displays of fit on a terminal, in a notebook and elsewhere; records as a table and as curves."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stderr

import pytest

from syncbn.train import EpochRecord, History


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The variables that rich reads."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)


def lines_of(stream):
    """Return the lines that a terminal shows at the end, without the bar, which is erased."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


EPOCH = (
    r"epoch {}/2: loss \d\.\d{{4}}, accuracy \d+\.\d %, "
    r"validation loss \d\.\d{{4}}, validation accuracy \d+\.\d %, \d+\.\d s"
)


def test_lines_for_each_epoch(build, data, capsys):
    trainer = build()
    history = trainer.fit(*data, 2, validation_data=data, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [bool(re.fullmatch(EPOCH.format(epoch), line)) for epoch, line in enumerate(lines, 1)] == [True, True], lines
    assert f"loss {history[1].train_loss:.4f}, accuracy {100 * history[1].train_accuracy:.1f} %" in lines[1]
    assert f"accuracy {100 * (1 - history[1].test_error):.1f} %, " in lines[1]


@pytest.mark.parametrize("progress", [None, False])
def test_nothing_where_stderr_is_not_a_terminal(build, data, capsys, progress):
    build().fit(*data, 1, progress=progress)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(build, data):
    with redirect_stderr(Terminal()) as terminal:
        build().fit(*data, 2, validation_data=data)
    lines = lines_of(terminal)
    assert any(re.match(r"epoch 1/2 .*━.* \d/5 loss \d\.\d{4}, accuracy \d+\.\d %", line) for line in lines), lines
    assert sum(bool(re.fullmatch(EPOCH.format(r"\d"), line)) for line in lines) == 2, lines
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")  # the cursor is back


def test_the_bar_ends_with_an_exception(build, data):
    def interrupt(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    with redirect_stderr(Terminal()) as terminal, pytest.raises(KeyboardInterrupt):
        build().fit(*data, 2, on_step=interrupt)
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_lines_on_a_terminal_without_rich(build, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with redirect_stderr(Terminal()) as terminal:
        build().fit(*data, 2, validation_data=data)
    assert re.fullmatch(EPOCH.format(2), lines_of(terminal)[1])


def test_another_call_says_that_it_does_nothing(build, data, capsys, tmp_path):
    trainer = build()
    trainer.fit(*data, 2, checkpoint=tmp_path / "c")
    assert capsys.readouterr().err == ""
    trainer.fit(*data, 2)
    text = capsys.readouterr().err
    assert text == "fit does nothing: 2 epochs are completed, and epochs=2 counts them; epochs=4 trains 2 more\n"
    trainer.fit(*data, 2, progress=False)
    assert capsys.readouterr().err == ""
    resumed = build()
    resumed.resume(tmp_path / "c")
    resumed.fit(*data, 1)
    assert "2 epochs are completed, and epochs=1 counts them; epochs=3 trains 1 more" in capsys.readouterr().err
    assert len(resumed.fit(*data, 3)) == 3
    build().fit(*data, 0)
    assert capsys.readouterr().err == ""


def test_training_accuracy_is_that_of_the_steps(build, data):
    trainer = build("none")
    steps = []
    trainer.fit(*data, 1, on_step=steps.append)
    assert trainer.history[0].train_error == sum(step.wrong for step in steps) / 55
    trainer.optimizer.lr = 0
    trainer.fit(*data, 2)
    assert trainer.history[1].train_error == trainer.evaluate(*data).error  # nothing changes, so both are equal


def record(epoch, **changes):
    values = {"train_loss": 0.5, "test_loss": None, "test_error": None, "train_error": 0.25, **changes}
    return EpochRecord(epoch=epoch, steps=5, seconds=1.5, bytes_sent=0, lr=0.1, **values)


def test_the_table():
    history = History([record(1), record(2, test_loss=1 / 3, test_error=0.125)])
    assert (
        repr(history)
        == """\
epoch    loss  accuracy  validation loss  validation accuracy  seconds
    1  0.5000    75.0 %                                            1.5
    2  0.5000    75.0 %           0.3333               87.5 %      1.5"""
    )
    html = history._repr_html_()
    assert "<th>validation accuracy</th>" in html
    assert "<td>87.5 %</td>" in html
    assert repr(History()) == "epoch  loss  accuracy  validation loss  validation accuracy  seconds"


def test_the_curves(build, data):
    from matplotlib.figure import Figure

    trainer = build()
    history = trainer.fit(*data, 3, validation_data=data)
    loss, accuracy = history.plot(Figure().subplots(1, 2))
    curves = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert curves["training"] == [[r.epoch, r.train_loss] for r in history]
    assert curves["validation"] == [[r.epoch, r.test_loss] for r in history]
    curves = {line.get_label(): line.get_xydata().tolist() for line in accuracy.lines}
    assert curves["training"] == [[r.epoch, r.train_accuracy] for r in history]
    assert curves["validation"] == [[r.epoch, r.test_accuracy] for r in history]
    assert [axes.get_ylabel() for axes in (loss, accuracy)] == ["loss", "accuracy"]


def test_curves_without_validation_data_or_epochs():
    from matplotlib.figure import Figure

    loss, _ = History([record(1)]).plot(Figure().subplots(1, 2))
    assert [line.get_label() for line in loss.lines] == ["training"]
    assert not History().plot(Figure().subplots(1, 2))[0].lines


def test_a_figure_of_its_own():
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    axes = History([record(1)]).plot()
    assert len(axes) == 2
    pyplot.close(axes[0].figure)


def test_records_of_older_checkpoints_have_no_training_accuracy():
    history = History([record(1, train_error=None)])
    assert history[0].train_accuracy is None
    assert repr(history).splitlines()[1].split() == ["1", "0.5000", "1.5"]


def test_a_file_to_plot_to():
    with pytest.raises(TypeError, match=r"call history\.plot\(\)\[0\]\.figure\.savefig\('curves\.png'\)"):
        History().plot("curves.png")
