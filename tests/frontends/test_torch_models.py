"""Inputs, outputs, containers and errors of the torch frontend."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from irkit.errors import InputError, ModelError, UnsupportedModelError
from irkit.frontends.torch import from_torch
from irkit.ir.verify import verify
from tests.frontends.run_graph import evaluate

Pair = namedtuple("Pair", "left right")


class Fn(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, *args, **kwargs):
        return self.fn(*args, **kwargs)


def same(a, b):
    assert type(a).__name__ == type(b).__name__ or isinstance(b, torch.Tensor)
    if isinstance(b, dict):
        assert list(a) == list(b)
        for k in b:
            same(a[k], b[k])
    elif isinstance(b, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(b, torch.Tensor):
        np.testing.assert_array_equal(a, b.numpy())
    else:
        assert a == b


X = torch.arange(6, dtype=torch.float32).reshape(2, 3)

STRUCTURES = {
    "single": lambda x: x + 1,
    "tuple": lambda x: (x + 1, x + 2),
    "tuple_of_one": lambda x: (x + 1,),
    "list": lambda x: [x + 1, x + 2],
    "dict": lambda x: {"z": x + 1, "a": x + 2, 3: x + 3},
    "nested": lambda x: {"a": [x + 1, (x + 2, None)], "b": {"c": x + 3}},
    "namedtuple": lambda x: Pair(x + 1, [x + 2]),
    "constants": lambda x: (x + 1, 3, True, "name", 2.5, None),
    "input_itself": lambda x: x,
    "input_twice": lambda x: (x, x),
    "same_result_twice": lambda x: [x + 1] * 2,
    "constant_tensor": lambda x: (x, torch.ones(2)),
    "view_of_input": lambda x: (x.view(3, 2), x),
    "input_written": lambda x: x.add_(1) * 2,
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_output_structure(name):
    graph = from_torch(Fn(STRUCTURES[name]).eval(), X)
    given = X.numpy().copy()
    same(evaluate(graph, given), STRUCTURES[name](X.clone()))
    np.testing.assert_array_equal(given, X.numpy())


def test_inputs_keep_their_names_and_order():
    class Model(nn.Module):
        def forward(self, image, mask, *, scale):
            return image * mask[0] - scale + mask[1]

    a, b, c, d = (torch.randn(2, 3) for _ in range(4))
    with pytest.raises(InputError, match="needs one example input"):
        from_torch(Model().eval())
    graph = from_torch(Model().eval(), {"image": a, "mask": [b, c], "scale": d})
    assert [v.name for v in graph.inputs] == ["image", "mask_0", "mask_1", "scale"]
    np.testing.assert_allclose(evaluate(graph, *[t.numpy() for t in (a, b, c, d)]), a * b - d + c, rtol=1e-6)


def test_unused_and_integer_inputs_stay():
    graph = from_torch(Fn(lambda x, ids, unused: x[:, 1] + ids).eval(), (X, torch.tensor([5, 7]), torch.zeros(1)))
    assert [v.type.dtype.value for v in graph.inputs] == ["f32", "i64", "f32"]
    result = evaluate(graph, X.numpy(), np.array([5, 7]), np.zeros(1, np.float32))
    np.testing.assert_array_equal(result, [6, 11])


def test_numpy_examples_and_exported_programs():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval()
    program = torch.export.export(model, (X,))
    want = model(X).detach().numpy()
    for graph in (from_torch(model, X.numpy()), from_torch(program)):
        np.testing.assert_allclose(evaluate(graph, X.numpy()), want, rtol=1e-5, atol=1e-6)


def test_every_operation_knows_its_module():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(1, 1, 1) for _ in range(2)])

        def forward(self, x):
            for c in self.convs:
                x = c(x)
            return torch.relu(x)

    graph = from_torch(nn.Sequential(Block(), Block()).eval(), torch.zeros(1, 1, 2, 2))
    places = [(op.name, op.loc) for op in graph if op.name in ("conv2d", "relu")]
    assert places == [
        ("conv2d", "0.convs.0"), ("conv2d", "0.convs.1"), ("relu", "0"),
        ("conv2d", "1.convs.0"), ("conv2d", "1.convs.1"), ("relu", "1"),
    ]  # fmt: skip


def test_shared_weights_are_one_constant():
    layer = nn.Linear(3, 3)
    graph = from_torch(nn.Sequential(layer, nn.ReLU(), layer).eval(), X)
    assert sum(op.name == "const" for op in graph) == 2


def test_what_depends_on_no_input_becomes_constants():
    """Class tokens, layer scales, tables of relative positions, standardized weights, positions counted in a mask."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 1, 8))
            self.scale = nn.Parameter(torch.randn(8))
            self.table = nn.Parameter(torch.randn(169, 3))
            self.register_buffer("where", torch.randint(0, 169, (49, 49)))
            self.weight = nn.Parameter(torch.randn(8, 8, 1))

        def forward(self, x):
            y = torch.cat([self.token.expand(x.shape[0], -1, -1), x * self.scale.view(1, 1, 8)], 1)
            bias = self.table[self.where.view(-1)].view(49, 49, 3).permute(2, 0, 1)
            flat = self.weight.reshape(1, 8, -1)
            w = nn.functional.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
            seen = ~torch.zeros(2, 70, 70, dtype=torch.bool)
            where = seen.cumsum(1, dtype=torch.float32).sin()[:, -1, :8]  # seen is too large to be kept as a constant
            z = nn.functional.conv1d(y.transpose(1, 2), w).transpose(1, 2)
            z = z + self.scale.sigmoid() + self.scale.tanh()  # two constants of one parameter
            return z[:, :3, None, :1] + bias[:, :5, :5].sum() + self.scale.view(1, -1) + where[0], bias.unsqueeze(
                0
            ) + x[0, 0, 0]

    model, x = Model().eval(), torch.randn(2, 4, 8)
    graph = from_torch(model, x)
    verify(graph)
    with torch.no_grad():
        for got, want in zip(evaluate(graph, x.numpy()), model(x), strict=True):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-4)
    assert not {"sin", "cumsum", "batch_norm"} & {op.name for op in graph}


def test_usual_in_place_writes_are_taken_as_they_are(monkeypatch):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = nn.functional.silu(self.bn(self.conv(x)), inplace=True)
            z = self.conv(y)  # reads y before it is written again
            y += x
            return nn.functional.relu(y, inplace=True) * z

    model, x = Block().eval(), torch.randn(1, 3, 6, 6)
    want = model(x.clone()).detach().numpy()

    def refuse(*_):
        raise AssertionError("decomposed")

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", refuse)
    np.testing.assert_allclose(evaluate(from_torch(model, x), x.numpy()), want, rtol=1e-4, atol=1e-5)


def _of_an_input(x):
    y = x.relu_()
    return x + y


def _read_later(x):
    y = x + 1
    z = y.relu_()
    return y * 2 + z


def _through_a_view(x):
    y = x + 1
    v = y[0]
    y.relu_()
    return v - 1


def _of_a_view(x):
    y = x * 2
    y.view(-1).relu_()
    return y


def _of_another_dtype(x):
    y = x + 1
    y *= torch.full((3,), 2, dtype=torch.int64)
    return y


def _twice(x):
    y = x + 1
    z = y.relu_()
    z += 1
    return y + z


@pytest.mark.parametrize("fn", [_of_an_input, _read_later, _through_a_view, _of_a_view, _of_another_dtype, _twice])
def test_writes_that_others_see(fn):
    x = torch.linspace(-3, 3, 6).reshape(2, 3)
    graph = from_torch(Fn(fn).eval(), x.clone())
    np.testing.assert_allclose(evaluate(graph, x.numpy()), fn(x.clone()).numpy(), rtol=1e-6)


def test_all_unsupported_operations_in_one_report():
    class Bad(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.MaxPool2d(2, return_indices=True)

        def forward(self, x):
            y, where = self.pool(x)
            return y.cumsum(1).cumsum(1), where, torch.fft.fft(x)

    with pytest.raises(UnsupportedModelError) as e:
        from_torch(nn.Sequential(nn.Conv2d(1, 1, 1), Bad()).eval(), torch.zeros(1, 1, 4, 4))
    report = {(i.what, i.where): i for i in e.value.items}
    assert report["aten.cumsum.default", "1"].count == 2
    assert any("fft" in what for what, _ in report)
    assert "indices of a max pool" in report["output", ""].hint
    assert "aten.cumsum.default (x2) in 1" in str(e.value)


def test_training_mode_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    with pytest.raises(ModelError, match=r"Sequential is in training mode \(the model itself, 1\); call model.eval"):
        from_torch(model, torch.zeros(1, 1, 2, 2))
    model.eval()[1].train()
    with pytest.raises(ModelError, match=r"training mode \(1\)"):
        from_torch(model, torch.zeros(1, 1, 2, 2))
    model.training = False
    model[0].training, model[1].training = True, False  # a convolution does the same in both modes
    from_torch(model, torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_weights_are_named(value):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        model[1].weight[0, 1] = value
    with pytest.raises(ModelError, match=r"parameter 1\.weight holds 1 NaN or infinite value\(s\) of 4"):
        from_torch(model, X)


def test_infinite_mask_buffers_are_fine():
    model = Fn(lambda x: x).eval()
    model.register_buffer("mask", torch.full((2, 3), float("-inf")))
    model.fn = lambda x: torch.softmax(x + model.mask.triu(1), -1)
    graph = from_torch(model, X)
    np.testing.assert_allclose(evaluate(graph, X.numpy())[0], [1, 0, 0])


def test_what_cannot_be_compiled_says_why():
    linear = nn.Linear(3, 2).eval()
    with pytest.raises(ModelError, match=r"expected a torch\.nn.Module or an ExportedProgram, got function"):
        from_torch(lambda x: x, X)
    with pytest.raises(InputError, match="expected float32, as the model's parameters, got float64"):
        from_torch(linear, np.zeros((2, 3)))
    with pytest.raises(ModelError, match=r"torch\.export can't capture Linear"):
        from_torch(linear, torch.zeros(2, 4))
    with pytest.raises(ModelError, match=r"torch\.export can't capture Fn"):
        from_torch(Fn(lambda x: x if x.sum() > 0 else -x).eval(), X)
    with pytest.raises((ModelError, UnsupportedModelError), match=r"float16|half"):
        from_torch(nn.Linear(3, 2).half().eval(), X.half())
    with pytest.raises(ModelError, match="meta device"):
        from_torch(nn.Linear(3, 2, device="meta").eval(), X)
    dynamic = torch.export.export(linear, (X,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=8)},))
    with pytest.raises(ModelError, match="dynamic shape"):
        from_torch(dynamic)


def test_state_written_in_forward_is_refused():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            return x * self.seen

    with pytest.raises(UnsupportedModelError, match="write to buffer seen"):
        from_torch(Counter().eval(), X)
