"""torch layers and functions -> Graph -> interpreter, against PyTorch."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as f

from irkit.frontends.torch import from_torch
from tests.frontends.run_graph import assert_as_good, evaluate


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, *args):
        return self.fn(*args)


def widen(x):
    return x.double() if x.is_floating_point() else x


def randomize(module):
    """Batch norm statistics and affine parameters away from 0 and 1."""
    gen = torch.Generator().manual_seed(7)
    for m in module.modules():
        for name, t in [*m.named_parameters(recurse=False), *m.named_buffers(recurse=False)]:
            if t.is_floating_point() and t.dim() == 1:
                noise = torch.rand(t.shape, generator=gen)
                t.data.copy_(noise + 0.5 if "var" in name or name == "weight" else noise - 0.5)


def check(module, *shapes_or_inputs):
    torch.manual_seed(0)
    module = module.eval()
    randomize(module)
    args = tuple(torch.randn(s) if isinstance(s, tuple) else s for s in shapes_or_inputs)
    graph = from_torch(module, args)
    with torch.no_grad():
        want = module(*args)
        exact = copy.deepcopy(module).double()(*map(widen, args))
    assert_as_good(evaluate(graph, *[a.numpy() for a in args]), want, exact)
    return graph


IMG, SEQ = (2, 4, 9, 11), (2, 4, 13)

LAYERS = {
    "conv2d": (nn.Conv2d(4, 6, 3), IMG),
    "conv2d_stride_pad": (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2)), IMG),
    "conv2d_dilation": (nn.Conv2d(4, 6, 3, dilation=(2, 3), bias=False), IMG),
    "conv2d_groups": (nn.Conv2d(4, 6, 3, groups=2), IMG),
    "conv2d_depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding=1), IMG),
    "conv2d_same_even": (nn.Conv2d(4, 6, (4, 2), padding="same"), IMG),
    "conv2d_same_dilated": (nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(3, 1)), IMG),
    "conv2d_valid": (nn.Conv2d(4, 6, 3, padding="valid"), IMG),
    "conv2d_reflect": (nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"), IMG),
    "conv2d_replicate": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="replicate"), IMG),
    "conv2d_circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), IMG),
    "conv2d_unbatched": (nn.Conv2d(4, 6, 3), (4, 9, 9)),
    "conv1d": (nn.Conv1d(4, 6, 3), SEQ),
    "conv1d_settings": (nn.Conv1d(4, 6, 3, stride=2, padding=3, dilation=2, groups=2), SEQ),
    "conv1d_same": (nn.Conv1d(4, 6, 4, padding="same"), SEQ),
    "conv1d_unbatched": (nn.Conv1d(4, 6, 3), (4, 13)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), IMG),
    "conv_transpose2d_groups": (nn.ConvTranspose2d(4, 6, (2, 3), stride=(3, 2), groups=2, dilation=(1, 2)), IMG),
    "conv_transpose1d": (nn.ConvTranspose1d(4, 6, 5, stride=3, padding=2, output_padding=1, bias=False), SEQ),
    "linear": (nn.Linear(11, 5), IMG),
    "linear_no_bias": (nn.Linear(13, 5, bias=False), SEQ),
    "linear_vector": (nn.Linear(7, 5), (7,)),
    "bilinear_less": (nn.Sequential(nn.Flatten(), nn.Linear(52, 3), nn.ReLU(), nn.Linear(3, 2)), SEQ),
    "unflatten": (nn.Unflatten(1, (2, 2)), SEQ),
    "batch_norm1d": (nn.BatchNorm1d(4), (5, 4)),
    "batch_norm1d_seq": (nn.BatchNorm1d(4, eps=1e-3), SEQ),
    "batch_norm2d": (nn.BatchNorm2d(4), IMG),
    "batch_norm2d_plain": (nn.BatchNorm2d(4, affine=False), IMG),
    "layer_norm": (nn.LayerNorm(11), IMG),
    "layer_norm_two_axes": (nn.LayerNorm((9, 11)), IMG),
    "layer_norm_plain": (nn.LayerNorm(13, elementwise_affine=False, eps=1e-2), SEQ),
    "group_norm": (nn.GroupNorm(2, 4), IMG),
    "instance_norm": (nn.InstanceNorm2d(4, affine=True), IMG),
    "instance_norm_stats": (nn.InstanceNorm1d(4, track_running_stats=True), SEQ),
    "rms_norm": (nn.RMSNorm(13), SEQ),
    "prelu": (nn.PReLU(4), IMG),
    "prelu_one": (nn.PReLU(), IMG),
    "dropout": (nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.2)), IMG),
    "max_pool2d": (nn.MaxPool2d(2), IMG),
    "max_pool2d_pad": (nn.MaxPool2d((3, 2), stride=(1, 2), padding=(1, 0)), IMG),
    "max_pool2d_ceil": (nn.MaxPool2d(3, stride=2, ceil_mode=True), (1, 3, 10, 12)),
    "max_pool2d_ceil_pad": (nn.MaxPool2d(2, stride=3, padding=1, ceil_mode=True), (1, 3, 10, 12)),
    "max_pool2d_ceil_dropped": (nn.MaxPool2d(2, stride=2, padding=1, ceil_mode=True), (1, 3, 5, 6)),
    "max_pool2d_ceil_gap": (nn.MaxPool2d(1, stride=3, ceil_mode=True), (1, 3, 8, 9)),
    "max_pool2d_dilation": (nn.MaxPool2d(2, stride=1, dilation=(2, 3)), IMG),
    "max_pool1d": (nn.MaxPool1d(3, stride=2, padding=1), SEQ),
    "avg_pool2d": (nn.AvgPool2d(2), IMG),
    "avg_pool2d_pad": (nn.AvgPool2d(3, stride=2, padding=1), IMG),
    "avg_pool2d_exclude": (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), IMG),
    "avg_pool2d_ceil": (nn.AvgPool2d(3, stride=2, ceil_mode=True), (1, 3, 10, 12)),
    "avg_pool2d_ceil_pad": (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (1, 3, 10, 12)),
    "avg_pool2d_ceil_exclude": (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), (1, 3, 10, 12)),
    "avg_pool2d_divisor": (nn.AvgPool2d((2, 3), divisor_override=5), IMG),
    "avg_pool1d": (nn.AvgPool1d(3, stride=2, padding=1), SEQ),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d((4, 3)), IMG),
    "adaptive_avg_pool2d_one": (nn.AdaptiveAvgPool2d(1), IMG),
    "adaptive_avg_pool2d_even": (nn.AdaptiveAvgPool2d((3, None)), IMG),
    "adaptive_avg_pool1d": (nn.AdaptiveAvgPool1d(5), SEQ),
    "adaptive_max_pool2d": (nn.AdaptiveMaxPool2d((4, 3)), IMG),
    "adaptive_max_pool1d": (nn.AdaptiveMaxPool1d(1), SEQ),
    "upsample_nearest": (nn.Upsample(scale_factor=2), IMG),
    "upsample_nearest_size": (nn.Upsample(size=(13, 7)), IMG),
    "upsample_nearest_scale": (nn.Upsample(scale_factor=(2.3, 1.7)), IMG),
    "upsample_nearest_exact": (nn.Upsample(size=(13, 7), mode="nearest-exact"), IMG),
    "upsample_bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), IMG),
    "upsample_bilinear_corners": (nn.Upsample(size=(13, 20), mode="bilinear", align_corners=True), IMG),
    "upsample_bilinear_scale": (nn.Upsample(scale_factor=1.6, mode="bilinear"), IMG),
    "upsample_linear": (nn.Upsample(scale_factor=3, mode="linear"), SEQ),
    "upsample_nearest1d": (nn.Upsample(size=20), SEQ),
    "pixel_shuffle": (nn.PixelShuffle(2), (2, 8, 3, 5)),
    "pixel_unshuffle": (nn.PixelUnshuffle(3), (2, 2, 6, 9)),
    "channel_shuffle": (nn.ChannelShuffle(2), IMG),
    "zero_pad": (nn.ZeroPad2d((1, 2, 3, 0)), IMG),
    "constant_pad": (nn.ConstantPad2d((1, -2, -3, 1), 1.5), IMG),
    "reflection_pad": (nn.ReflectionPad2d((3, 1, 2, 0)), IMG),
    "replication_pad": (nn.ReplicationPad1d((4, 1)), SEQ),
    "circular_pad": (nn.CircularPad2d((1, 2, 3, 0)), IMG),
    "attention": (nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8), (2, 5, 8), (2, 5, 8)),
    "encoder_layer": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu"), (2, 5, 8)),
    "weight_norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), IMG),
    "cosine": (nn.CosineSimilarity(dim=1), IMG, IMG),
    "softmax2d": (nn.Softmax2d(), IMG),
}

ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.CELU(1.3), nn.GELU(), nn.GELU("tanh"),
    nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.Tanh(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-0.5, 0.75),
    nn.Softplus(), nn.Softplus(beta=2), nn.Softsign(), nn.Tanhshrink(), nn.Softshrink(0.3), nn.LogSigmoid(),
    nn.Softmax(dim=1), nn.Softmax(dim=-1), nn.LogSoftmax(dim=2), nn.GLU(1), nn.ReLU(inplace=True), nn.Softmin(1),
]  # fmt: skip

FUNCTIONS = {
    "add": (lambda x, y: x + y, IMG, IMG),
    "add_broadcast": (lambda x, y: x + y, IMG, (4, 1, 11)),
    "add_alpha": (lambda x, y: torch.add(x, y, alpha=0.3), IMG, IMG),
    "sub_alpha": (lambda x, y: torch.sub(x, y, alpha=2), IMG, (11,)),
    "scalars": (lambda x: 2 - (x * 3 + 0.5) / 7, IMG),
    "rsub": (lambda x: torch.rsub(x, 1.5, alpha=2), IMG),
    "int_scalar": (lambda x: x + 1, torch.arange(6)),
    "int_float": (lambda x, y: x + y, torch.arange(11), IMG),
    "int_true_div": (lambda x: x / 4, torch.arange(6)),
    "int_times_float": (lambda x: x * 0.5, torch.arange(6, dtype=torch.int32)),
    "floor_div": (lambda x: torch.div(x, 0.3, rounding_mode="floor"), IMG),
    "reciprocal": (lambda x: 1 / x, IMG),
    "pow": (lambda x: x**2 + x**3 + x.abs() ** 0.5, IMG),
    "pow_tensor": (lambda x, y: x.abs() ** y, IMG, (11,)),
    "pow_base": (lambda x: 2**x, IMG),
    "math": (lambda x: (x.exp(), x.abs().log(), x.abs().sqrt(), x.abs().rsqrt(), x.erf(), x.neg(), x.sign()), IMG),
    "rounding": (lambda x: (x * 4).floor() + (x * 3).ceil(), IMG),
    "minmax": (lambda x, y: torch.maximum(x, y) * torch.minimum(x, y), IMG, (11,)),
    "clamp": (lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0.1), x.clamp(max=0.1), x.clamp_min(0.3)), IMG),
    "clamp_tensor": (lambda x, y: x.clamp(min=y), IMG, (11,)),
    "clamp_int": (lambda x: x.clamp(2, 4), torch.arange(6)),
    "mean": (lambda x: (x.mean(), x.mean(1), x.mean((2, 3), keepdim=True), x.mean(-1)), IMG),
    "sum": (lambda x: (x.sum(), x.sum(1), x.sum((-1, 0), keepdim=True)), IMG),
    "sum_int": (lambda x: x.sum(), torch.arange(6, dtype=torch.int32)),
    "amax": (lambda x: (x.amax((1, 2)), x.amin(-1, keepdim=True), x.max(), x.min()), IMG),
    "max_values": (lambda x: (x.max(1).values, x.min(2, keepdim=True)[0]), IMG),
    "var_std": (lambda x: (x.var(1), x.std((2, 3), keepdim=True), x.var(-1, unbiased=False)), IMG),
    "norm": (lambda x: (x.norm(dim=1), f.normalize(x, dim=1), torch.linalg.vector_norm(x, 1)), IMG),
    "logsumexp": (lambda x: torch.logsumexp(x * 30, 1), IMG),
    "matmul": (lambda x, y: x @ y, (2, 3, 4, 5), (2, 3, 5, 6)),
    "matmul_broadcast": (lambda x, y: x @ y, (2, 3, 4, 5), (5, 6)),
    "matmul_vectors": (lambda x, y: (x @ y, y @ x.mT, y @ y), (2, 3, 5), (5,)),
    "bmm": (torch.bmm, (2, 4, 5), (2, 5, 3)),
    "addmm": (lambda c, x, y: torch.addmm(c, x, y, beta=0.5, alpha=2), (4, 3), (4, 5), (5, 3)),
    "einsum": (lambda x, y: torch.einsum("bhqd,bhkd->bhqk", x, y), (2, 3, 4, 5), (2, 3, 6, 5)),
    "attention": (f.scaled_dot_product_attention, (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5)),
    "attention_causal": (
        lambda q, k, v: f.scaled_dot_product_attention(q, k, v, is_causal=True), (2, 4, 5), (2, 4, 5), (2, 4, 5)
    ),
    "cat": (lambda x, y: torch.cat([x, y, x], 1), IMG, (2, 3, 9, 11)),
    "cat_types": (lambda x, y: torch.cat([x, y]), torch.arange(3), (4,)),
    "stack": (lambda x, y: (torch.stack([x, y], 1), torch.stack([x, y], -1)), SEQ, SEQ),
    "split": (lambda x: (x.split(5, 2), x.split([1, 3], 1), x.chunk(3, -1), x.unbind(1), x.tensor_split(3, 2)), SEQ),
    "split_one_used": (lambda x: x.split(5, 2)[1], SEQ),
    "slice": (lambda x: (x[:, 1:3], x[..., ::2], x[:, :, -4:-1, 3:100:4], x[0], x[:, -1], x[:, None]), IMG),
    "select": (lambda x: x.select(1, -2).narrow(1, 2, 3), IMG),
    "fancy_index": (lambda x: (x[:, [0, 2, 3]], x.index_select(2, torch.tensor([4, 0, 0, 2]))), IMG),
    "view": (lambda x: (x.view(2, -1), x.reshape(4, 18, 11), x.flatten(1, 2), x.unflatten(2, (3, 3))), IMG),
    "permute": (lambda x: (x.permute(0, 2, 3, 1), x.transpose(1, -1), x[0, 0].t(), x.mT, x.movedim(1, 2)), IMG),
    "squeeze": (lambda x: (x.squeeze(), x.squeeze(1), x.squeeze((0, 3)), x.squeeze(2)), (1, 1, 3, 1)),
    "unsqueeze": (lambda x: (x.unsqueeze(0), x.unsqueeze(-1), x.unsqueeze(2)), SEQ),
    "expand": (lambda x: (x.expand(2, 3, 4), x.expand(5, -1, -1, 4), x.expand_as(x)), (2, 3, 1)),
    "repeat": (lambda x: (x.repeat(2, 1, 3), x.repeat(2, 1, 1, 2), x.tile(3)), (2, 3, 2)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), SEQ),
    "flip_roll": (lambda x: (x.flip(2), x.roll(2, 1), x.roll((1, -3), (1, 2)), x.roll(5)), SEQ),
    "casts": (lambda x: (x.to(torch.int32), x.to(torch.float64).float(), x.long() + 1, x.to(torch.bool)), IMG),
    "pad_modes": (lambda x: (f.pad(x, (1, 2)), f.pad(x, (1, 2, 0, 1), value=3.0), f.pad(x, (2, 2), "reflect")), SEQ),
    "circular_pad_of_nothing": (lambda x: f.pad(x, (0, 1), "circular"), (0, 2, 3)),
    "inplace_write": (lambda x: _write(x), IMG),
    "inplace_slice": (lambda x: _write_slice(x), IMG),
    "mask_constant": (lambda x: x + torch.full((13, 13), float("-inf")).triu(1)[2], SEQ),
    "arange": (lambda x: x * torch.arange(13, dtype=torch.float32) + torch.ones(4, 1) - torch.zeros_like(x), SEQ),
    "linspace_grid": (lambda x: x + torch.linspace(-1, 1, 13).cos(), SEQ),
    "interpolate_like": (lambda x, y: f.interpolate(x, size=y.shape[-2:], mode="bilinear"), IMG, (1, 1, 5, 7)),
}  # fmt: skip


def _write(x):
    y = x.clone()
    y[:, 1] = 2.0
    y.add_(1).mul_(x)
    return y


def _write_slice(x):
    y = torch.zeros(2, 4, 9, 12)
    y[..., 1:] = x
    y[:, :, 2:5] += 1
    return y


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    check(*LAYERS[name])


@pytest.mark.parametrize("module", ACTIVATIONS, ids=repr)
def test_activation(module):
    check(module, (2, 4, 6, 5))
    check(module, 4 * torch.linspace(-3, 3, 96).reshape(1, 2, 48, 1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    fn, *inputs = FUNCTIONS[name]
    check(Fn(fn), *inputs)
