"""YOLOX-nano in torch: read out of an ONNX file, trained with BatchNorm, folded again for export.

Architecture: YOLOX (Ge et al. 2021, arXiv:2107.08430), files `yolox/models/{darknet,yolo_pafpn,yolo_head}.py` of the
upstream repository at depth 0.33, width 0.25, depthwise. Modules are called in the order in which upstream's exporter
writes its convolutions; that order is how weights are found in a file whose names are lost.

Focus (four strided slices, then a 3x3 convolution) is here from the start the 6x6 convolution of stride 2 that it equals.
"""

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

STRIDES = (8, 16, 32)


class ConvAct(nn.Module):
    """Convolution, BatchNorm (or a bias where it is folded), SiLU."""

    def __init__(self, cin, cout, kernel, stride=1, groups=1, padding=None, norm=True):
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding, groups=groups, bias=not norm)
        self.bn = nn.BatchNorm2d(cout, eps=1e-3, momentum=0.03) if norm else nn.Identity()

    def forward(self, x):
        return F.silu(self.bn(self.conv(x)))


def separable(cin, cout, stride, norm):
    """3x3 depthwise, then 1x1."""
    return nn.Sequential(ConvAct(cin, cin, 3, stride, cin, norm=norm), ConvAct(cin, cout, 1, norm=norm))


class Bottleneck(nn.Module):
    def __init__(self, channels, add, norm):
        super().__init__()
        self.a = ConvAct(channels, channels, 1, norm=norm)
        self.b = separable(channels, channels, 1, norm)
        self.add = add

    def forward(self, x):
        y = self.b(self.a(x))
        return x + y if self.add else y


class CspLayer(nn.Module):
    def __init__(self, cin, cout, depth, add, norm):
        super().__init__()
        half = cout // 2
        self.a = ConvAct(cin, half, 1, norm=norm)
        self.b = ConvAct(cin, half, 1, norm=norm)
        self.blocks = nn.Sequential(*[Bottleneck(half, add, norm) for _ in range(depth)])
        self.c = ConvAct(2 * half, cout, 1, norm=norm)

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        return self.c(torch.cat([self.blocks(a), b], 1))


class SpatialPyramid(nn.Module):
    """Max pools of 5, 9 and 13; the larger two are repeated pools of 5."""

    def __init__(self, channels, norm):
        super().__init__()
        self.a = ConvAct(channels, channels // 2, 1, norm=norm)
        self.b = ConvAct(channels * 2, channels, 1, norm=norm)

    def forward(self, x):
        pools = [self.a(x)]
        for _ in range(3):
            pools.append(F.max_pool2d(pools[-1], 5, 1, 2))
        return self.b(torch.cat(pools, 1))


class Nano(nn.Module):
    """`images` [B, 3, H, W], BGR 0..255, H and W multiples of 32 -> per stride (boxes, objectness, classes), all raw."""

    def __init__(self, classes, norm=True):
        super().__init__()
        n, self.classes = norm, classes
        self.stem = ConvAct(3, 16, 6, 2, padding=2, norm=n)
        self.dark2 = nn.Sequential(separable(16, 32, 2, n), CspLayer(32, 32, 1, True, n))
        self.dark3 = nn.Sequential(separable(32, 64, 2, n), CspLayer(64, 64, 3, True, n))
        self.dark4 = nn.Sequential(separable(64, 128, 2, n), CspLayer(128, 128, 3, True, n))
        self.dark5 = nn.Sequential(separable(128, 256, 2, n), SpatialPyramid(256, n), CspLayer(256, 256, 1, False, n))
        self.lateral = ConvAct(256, 128, 1, norm=n)
        self.up4 = CspLayer(256, 128, 1, False, n)
        self.reduce = ConvAct(128, 64, 1, norm=n)
        self.up3 = CspLayer(128, 64, 1, False, n)
        self.down3 = separable(64, 64, 2, n)
        self.out4 = CspLayer(128, 128, 1, False, n)
        self.down4 = separable(128, 128, 2, n)
        self.out5 = CspLayer(256, 256, 1, False, n)
        tower = lambda: nn.ModuleList(nn.Sequential(separable(64, 64, 1, n), separable(64, 64, 1, n)) for _ in STRIDES)
        last = lambda channels: nn.ModuleList(nn.Conv2d(64, channels, 1) for _ in STRIDES)
        self.head_stems = nn.ModuleList(ConvAct(c, 64, 1, norm=n) for c in (64, 128, 256))
        self.class_towers, self.box_towers = tower(), tower()
        self.class_out, self.box_out, self.object_out = last(classes), last(4), last(1)

    def levels(self, x):
        up = lambda t: F.interpolate(t, scale_factor=2.0, mode="nearest")
        c3 = self.dark3(self.dark2(self.stem(x)))
        c4 = self.dark4(c3)
        f5 = self.lateral(self.dark5(c4))
        f4 = self.reduce(self.up4(torch.cat([up(f5), c4], 1)))
        p3 = self.up3(torch.cat([up(f4), c3], 1))
        p4 = self.out4(torch.cat([self.down3(p3), f4], 1))
        p5 = self.out5(torch.cat([self.down4(p4), f5], 1))
        for k, feature in enumerate((p3, p4, p5)):
            feature = self.head_stems[k](feature)
            classes = self.class_out[k](self.class_towers[k](feature))
            boxes = self.box_towers[k](feature)
            yield self.box_out[k](boxes), self.object_out[k](boxes), classes

    def forward(self, x):
        """Raw boxes [B, N, 4], objectness logits [B, N], class logits [B, N, classes], in float32."""
        levels = list(self.levels(x))
        boxes, objects, classes = (
            torch.cat([level[i].flatten(2) for level in levels], 2).transpose(1, 2).float() for i in range(3)
        )
        return boxes, objects[..., 0], classes


class Exported(nn.Module):
    """`images` -> `output` [B, N, 5 + classes] as upstream exports it: boxes undecoded, the rest sigmoided."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        rows = [
            torch.cat([boxes, objects.sigmoid(), classes.sigmoid()], 1).flatten(2)
            for boxes, objects, classes in self.net.levels(images)
        ]
        return torch.cat(rows, 2).transpose(1, 2)


def cells(height, width, device="cpu"):
    """Corners of the cells [N, 2] (x, y, in strides) and their strides [N, 1], in the order of the output's rows."""
    grids, strides = [], []
    for s in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // s), torch.arange(width // s), indexing="ij")
        grids.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((grids[-1].shape[0], 1), s))
    return torch.cat(grids).float().to(device), torch.cat(strides).float().to(device)


def folded_stem(weight):
    """[16, 12, 3, 3] behind Focus -> [16, 3, 6, 6]. Focus stacks the offsets (0,0), (1,0), (0,1), (1,1) as (dy, dx)."""
    out = torch.zeros(weight.shape[0], 3, 6, 6)
    for i, (dy, dx) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        out[:, :, dy::2, dx::2] = weight[:, 3 * i : 3 * i + 3]
    return out


@torch.no_grad()
def from_onnx(path, classes, labels=()):
    """The folded net of an ONNX file. Where the file has other classes, the last class layer starts anew; of a file that names
    its labels (export.py), those that are among `labels` as well are kept."""
    file = onnx.load(path)
    graph, known = file.graph, next((p.value.split(",") for p in file.metadata_props if p.key in ("labels", "classes")), list(labels))
    weights = {i.name: torch.from_numpy(np.array(numpy_helper.to_array(i))) for i in graph.initializer}
    stored = [(weights[n.input[1]], weights[n.input[2]]) for n in graph.node if n.op_type == "Conv"]
    net, order = Nano(classes, norm=False).eval(), []
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    hooks = [m.register_forward_hook(lambda module, _in, _out: order.append(module)) for m in convs]
    net(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    if len(stored) != len(order):
        raise ValueError(f"{path}: {len(stored)} convolutions, YOLOX-nano has {len(order)}")
    fresh = {id(m) for m in net.class_out}
    for conv, (weight, bias) in zip(order, stored):
        if weight.shape[1:] == (12, 3, 3):
            weight = folded_stem(weight)
        if id(conv) in fresh and known != list(labels):
            kept = [(labels.index(name), i) for i, name in enumerate(known) if name in labels]
            nn.init.normal_(conv.weight, 0, 0.01)
            nn.init.constant_(conv.bias, -1.0)
            for to, at in kept:
                conv.weight[to], conv.bias[to] = weight[at], bias[at]
        elif weight.shape == conv.weight.shape:
            conv.weight.copy_(weight)
            conv.bias.copy_(bias)
        elif id(conv) in fresh:
            nn.init.normal_(conv.weight, 0, 0.01)
            nn.init.constant_(conv.bias, -1.0)
        else:
            raise ValueError(f"{path}: a convolution of {tuple(weight.shape)} where {tuple(conv.weight.shape)} belongs")
    return net


@torch.no_grad()
def with_norm(folded, batches):
    """The same function with BatchNorm put back: statistics are those of `batches`, scale and shift undo them exactly."""
    sums, hooks = {}, []

    def count(name):
        def hook(_module, _in, out):
            out = out.double()
            total = sums.setdefault(name, [0, 0.0, 0.0])
            total[0] += out.numel() // out.shape[1]
            total[1] = total[1] + out.sum((0, 2, 3))
            total[2] = total[2] + (out * out).sum((0, 2, 3))

        return hook

    for name, module in folded.named_modules():
        if isinstance(module, ConvAct):
            hooks.append(module.conv.register_forward_hook(count(name)))
    for batch in batches:
        folded.eval()(batch)
    for hook in hooks:
        hook.remove()
    net, old = Nano(folded.classes, norm=True), dict(folded.named_modules())
    for name, module in net.named_modules():
        if isinstance(module, ConvAct):
            n, first, second = sums[name]
            mean = first / n
            variance = (second / n - mean * mean).clamp(min=1e-6)
            module.conv.weight.copy_(old[name].conv.weight)
            module.bn.running_mean.copy_(mean - old[name].conv.bias)
            module.bn.running_var.copy_(variance)
            module.bn.weight.copy_((variance + module.bn.eps).sqrt())
            module.bn.bias.copy_(mean)
    copy_last_layers(net, folded)
    return net


@torch.no_grad()
def without_norm(net):
    """The same function with BatchNorm folded into the convolutions."""
    folded, old = Nano(net.classes, norm=False), dict(net.named_modules())
    for name, module in folded.named_modules():
        if isinstance(module, ConvAct):
            conv, bn = old[name].conv, old[name].bn
            scale = bn.weight / (bn.running_var + bn.eps).sqrt()
            module.conv.weight.copy_(conv.weight * scale[:, None, None, None])
            module.conv.bias.copy_(bn.bias - bn.running_mean * scale)
    copy_last_layers(folded, net)
    return folded.eval()


def copy_last_layers(to, of):
    for name in ("class_out", "box_out", "object_out"):
        getattr(to, name).load_state_dict(getattr(of, name).state_dict())
