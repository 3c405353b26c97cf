"""The training loss.

- Assignment: task-aligned (TOOD, Feng et al. 2021, arXiv:2108.07755): of the cells inside a box, the `TOP` with the
  highest score^0.5 * IoU^6 learn it; a cell that two boxes want takes the one it overlaps more.
- Boxes: GIoU (Rezatofighi et al. 2019, arXiv:1902.09630), weighted by alignment.
- Scores: binary cross entropy on the *product* of objectness and class, since the product is the score that the adapter
  reads. Objectness alone is never supervised (implicit objectness, AutoAssign, Zhu et al. 2020, arXiv:2007.03496).
- What a source does not label is not punished: cells of its part of the canvas carry no loss for those classes.
"""

import torch
import torch.nn.functional as F

from net import cells

TOP = 10
# Cells within this many strides of a box's middle may learn it though they lie outside: a box of 6 px has often no
# cell's middle inside.
REACH = 0.75
BOX_WEIGHT = 2.5


def corners(raw, grid, stride):
    middle = (raw[..., :2] + grid) * stride
    side = raw[..., 2:].clamp(max=7).exp() * stride
    return torch.cat([middle - side / 2, middle + side / 2], -1)


def iou(a, b, generalised=False):
    """IoU of boxes [..., 4] as corners; GIoU where asked."""
    inner = (torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inner + 1e-6
    if not generalised:
        return inner / union
    hull = (torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])).prod(-1) + 1e-6
    return inner / union - (hull - union) / hull


def product_logit(objects, classes):
    """The logit of sigmoid(o) * sigmoid(c): o + c - log(1 + e^o + e^c)."""
    objects = objects[..., None].expand_as(classes)
    return objects + classes - torch.logsumexp(torch.stack([torch.zeros_like(classes), objects, classes]), 0)


def visible(points, regions, masks):
    """[B, N, C]: 1 where class C carries loss at cell N. Regions [B, R, 4] lie in order, a later one over an earlier."""
    out = torch.zeros(regions.shape[0], points.shape[0], masks.shape[-1], device=points.device)
    for r in range(regions.shape[1]):
        box = regions[:, r, None]
        inside = ((points >= box[..., :2]) & (points < box[..., 2:])).all(-1)
        out = torch.where(inside[..., None], masks[:, r, None], out)
    return out


@torch.no_grad()
def assign(scores, boxes, points, strides, truth, labels, real):
    """For every cell: does it learn a box, which one, and how well it is aligned (0..1, [B, N])."""
    score = scores.gather(2, labels[:, None].expand(-1, scores.shape[1], -1))
    overlap = iou(boxes[:, :, None], truth[:, None])
    middle = (truth[:, None, :, :2] + truth[:, None, :, 2:]) / 2
    p = points[None, :, None]
    inside = ((p > truth[:, None, :, :2]) & (p < truth[:, None, :, 2:])).all(-1)
    near = ((p - middle).abs() < REACH * strides[None, :, None]).all(-1)
    inside = (inside | near) & real[:, None]
    aligned = score.clamp(min=1e-4).sqrt() * overlap**6 * inside
    value, index = aligned.topk(min(TOP, aligned.shape[1]), 1)
    chosen = torch.zeros_like(inside).scatter_(1, index, value > 1e-9) & inside
    which = torch.where(chosen, overlap, -1.0).argmax(2)
    learns = chosen.any(2)
    own = F.one_hot(which, truth.shape[1]).bool() & learns[..., None]
    mine = aligned * own
    best = mine.amax(1, keepdim=True).clamp(min=1e-12)
    target = (mine / best * (overlap * own).amax(1, keepdim=True)).amax(2)
    return learns, which, target


def loss(outputs, size, truth, labels, real, regions, masks):
    """`outputs` of Nano for pictures of `size` (height, width); truth [B, M, 4] corners in pixels, real [B, M] says which
    are boxes. Returns the score part and the box part, each divided by the batch's sum of alignment."""
    raw, objects, classes = outputs
    grid, strides = cells(*size, raw.device)
    points = (grid + 0.5) * strides
    boxes = corners(raw, grid, strides)
    logits = product_logit(objects, classes)
    seen = visible(points, regions, masks)
    target, total, box_loss = torch.zeros_like(logits), logits.new_tensor(1.0), raw.sum() * 0
    if real.any():
        learns, which, aligned = assign(logits.sigmoid(), boxes, points, strides, truth, labels, real)
        b, n = learns.nonzero(as_tuple=True)
        m, weight = which[b, n], aligned[b, n]
        target[b, n, labels[b, m]] = weight
        seen[b, n] = 1.0  # a labelled box is surely none of the other classes
        total = weight.sum().clamp(min=1.0)
        box_loss = ((1 - iou(boxes[b, n], truth[b, m], True)) * weight).sum() / total
    score_loss = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * seen).sum() / total
    return score_loss, BOX_WEIGHT * box_loss
