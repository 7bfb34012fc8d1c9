from __future__ import annotations

import io
import pickle
import re

import numpy as np
import pytest

from syncbn.layers import BatchNorm
from syncbn.layers.module import Module
from syncbn.nn import Conv2d, Dense, Flatten, GlobalAvgPool2d, ReLU, ResidualBlock, Sequential, summary


def cells(text):
    """Return the cells of the rows of layers, without headings and totals."""
    _, _, body, _ = re.split(r"^[_=]+$", text, maxsplit=3, flags=re.MULTILINE)
    return [re.split(r"  +", line.strip()) for line in body.strip().splitlines()]


@pytest.fixture
def tutorial_network(rng):
    return Sequential(Dense(784, 64, rng=rng), ReLU(), BatchNorm(64), Dense(64, 10, rng=rng))


def test_tutorial_network(tutorial_network):
    text = summary(tutorial_network, (784,))
    assert cells(text) == [
        ["0 (Dense)", "(None, 64)", "50,240"],
        ["1 (ReLU)", "(None, 64)", "0"],
        ["2 (BatchNorm)", "(None, 64)", "256"],
        ["3 (Dense)", "(None, 10)", "650"],
    ]
    assert text.splitlines()[-4:-1] == ["Total params: 51,146", "Trainable params: 51,018", "Non-trainable params: 128"]


def test_modes_and_statistics_are_unchanged(tutorial_network):
    tutorial_network[0].eval()
    modes = [module.training for _, module in tutorial_network.named_modules()]
    state = tutorial_network.state_dict()
    summary(tutorial_network, (784,))
    assert [module.training for _, module in tutorial_network.named_modules()] == modes
    assert True in modes
    for name, value in tutorial_network.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_modes_are_restored_after_an_error(tutorial_network):
    with pytest.raises(ValueError, match=r"Dense .*\(N, 784\).*\(2, 28, 28\)"):
        summary(tutorial_network, (28, 28))
    assert all(module.training for _, module in tutorial_network.named_modules())


def test_nested_modules_have_one_row_each(rng):
    model = Sequential(
        Conv2d(1, 8, 3, padding=1, rng=rng),
        ResidualBlock(8, 16, 2, BatchNorm, rng=rng),
        Sequential(GlobalAvgPool2d(), Flatten(), Dense(16, 10, rng=rng)),
    )
    text = summary(model, (1, 14, 14))
    block = 16 * 8 * 9 + 16 * 16 * 9 + 16 * 8 + 3 * 4 * 16
    assert cells(text) == [
        ["0 (Conv2d)", "(None, 8, 14, 14)", "80"],
        ["1 (ResidualBlock)", "(None, 16, 7, 7)", f"{block:,}"],
        ["2 (Sequential)", "(None, 10)", "170"],
    ]
    assert f"Total params: {80 + block + 170:,}" in text
    assert "Non-trainable params: 96" in text


def test_a_module_of_another_class_has_one_row():
    class Twice(Module):
        def __init__(self):
            super().__init__()
            self.layer = Dense(3, 3)

        def forward(self, x):
            y, first = self.layer(x)
            y, second = self.layer(y)
            return y, lambda dy: first(second(dy))

    assert cells(summary(Twice(), (3,))) == [["Twice", "(None, 3)", "12"]]


def test_parameters_of_a_shared_layer_count_once():
    layer = Dense(3, 3)
    text = summary(Sequential(layer, layer), (3,))
    assert [row[-1] for row in cells(text)] == ["12", "12"]
    assert "Total params: 12\n" in text


def test_works_without_running_statistics_and_in_float64():
    model = Sequential(Dense(4, 3, dtype=np.float64), BatchNorm(3, track_running_stats=False, dtype=np.float64))
    assert "Non-trainable params: 0" in summary(model, (4,))


def test_is_also_written_to_a_file(tutorial_network):
    file = io.StringIO()
    assert summary(tutorial_network, (784,), file) + "\n" == file.getvalue()


def test_long_names_widen_the_column():
    class ALayerWithANameThatIsLongerThanTheColumn(ReLU):
        pass

    text = summary(Sequential(ALayerWithANameThatIsLongerThanTheColumn()), (3,))
    assert cells(text) == [["0 (ALayerWithANameThatIsLongerThanTheColumn)", "(None, 3)", "0"]]


def test_bad_input_shape():
    with pytest.raises(ValueError, match=r"input_shape must be .*, got \(0,\): a size must be at least 1, got 0"):
        summary(ReLU(), (0,))


def test_notebooks_show_a_table(tutorial_network):
    html = summary(tutorial_network, (784,))._repr_html_()
    assert re.findall(r"<th>(.*?)</th>", html) == ["Layer (type)", "Output Shape", "Param #"]
    assert re.findall(r"<td>(.*?)</td>", html)[-3:] == ["3 (Dense)", "(None, 10)", "650"]
    assert "<caption>Model: Sequential</caption>" in html
    assert "Non-trainable params: 128" in html


def test_names_are_escaped_in_html():
    layer = type("A<B>", (ReLU,), {})()
    assert "0 (A&lt;B&gt;)" in summary(Sequential(layer), (3,))._repr_html_()


def test_the_console_shows_lines(tutorial_network):
    text = summary(tutorial_network, (784,))
    assert repr(text) == text
    assert "\n" in repr(text)
    assert isinstance(text, str)
    assert pickle.loads(pickle.dumps(text)) == text
