"""Trains the model that --sources describes; README.md has the commands. Interrupted, the same command goes on where it stopped.

Exactly so: every canvas is drawn from (seed, step, place in the batch), and a checkpoint holds weights, their average,
the optimiser and the step. The learning rate warms up, stays, and falls as a cosine over the last `--cooldown` steps;
so `--steps` may be raised on the way, as long as the fall has not begun.
"""

import argparse
import copy
import json
import math
import os
import random
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import data as pictures
import evaluate
from adverts import Adverts
from augment import Maker
from compose import Litter
from loss import loss
from net import Exported, from_onnx, with_norm

# (height, width) with how often: the square that the product began with, the shapes of the same area that fit a
# picture's own aspect, and a larger one.
SHAPES = (
    ((416, 416), 3),
    ((352, 480), 2),
    ((320, 544), 2),
    ((480, 352), 1),
    ((544, 320), 1),
    ((512, 512), 1),
)
# The same at two thirds of the time, for `--small`.
SMALL_SHAPES = (
    ((416, 416), 2),
    ((320, 320), 2),
    ((288, 384), 2),
    ((256, 448), 2),
    ((320, 544), 1),
    ((352, 480), 1),
    ((384, 288), 1),
)
LAST_LR = 0.02  # of the highest
AVERAGE = 0.998


class Batches(Dataset):
    """Item `step` is the whole batch of that step: from each source its share, each source in an order of its own that
    is drawn anew when it has been through."""

    def __init__(self, maker, shapes, seed, steps):
        self.maker, self.shapes, self.seed, self.steps = maker, shapes, seed, steps

    def __len__(self):
        return self.steps

    def picture(self, source, position):
        own = self.maker.pictures[source]
        turn, index = divmod(position, len(own))
        order = list(range(len(own)))
        random.Random(f"{self.seed} order {source} {turn}").shuffle(order)
        return own[order[index]]

    def __getitem__(self, step):
        shapes, weights = zip(*self.shapes)
        height, width = random.Random(f"{self.seed} shape {step}").choices(shapes, weights)[0]
        canvases = []
        for source, share in enumerate(self.maker.shares):
            for i in range(share):
                rng = random.Random(f"{self.seed} canvas {step} {source} {i}")
                canvases.append(self.maker.make(self.picture(source, step * share + i), height, width, rng))
        return collate(canvases)


def collate(canvases):
    """Images [B, 3, H, W] uint8; truth [B, M, 4], labels [B, M], real [B, M]; regions [B, R, 4], masks [B, R, C]."""
    n = len(canvases)
    most = max(1, max(len(c.boxes) for c in canvases))
    parts = max(len(c.regions) for c in canvases)
    truth, labels = np.zeros((n, most, 4), np.float32), np.zeros((n, most), np.int64)
    real = np.zeros((n, most), bool)
    # A region of no area covers nothing.
    regions, masks = np.zeros((n, parts, 4), np.float32), np.zeros((n, parts, canvases[0].classes), np.float32)
    for i, canvas in enumerate(canvases):
        if canvas.boxes:
            count = len(canvas.boxes)
            truth[i, :count], labels[i, :count], real[i, :count] = canvas.boxes, canvas.labels, True
        regions[i, : len(canvas.regions)], masks[i, : len(canvas.masks)] = canvas.regions, canvas.masks
    images = np.stack([c.image.transpose(2, 0, 1) for c in canvases])
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in (images, truth, labels, real, regions, masks)]


def learning_rate(step, args):
    into = (step - (args.steps - args.cooldown)) / args.cooldown
    fall = LAST_LR + (1 - LAST_LR) * 0.5 * (1 + math.cos(math.pi * min(max(into, 0.0), 1.0)))
    return args.lr * min(1.0, (step + 1) / args.warm_up) * fall


def optimiser(net, lr):
    """AdamW; norms and biases do not decay."""
    learnt = [p for p in net.parameters() if p.requires_grad]
    decay = [p for p in learnt if p.ndim > 1]
    plain = [p for p in learnt if p.ndim <= 1]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}], lr)


@torch.no_grad()
def follow(average, net, step):
    rate = min(AVERAGE, (1 + step) / (20 + step))
    for a, b in zip(average.state_dict().values(), net.state_dict().values()):
        if a.dtype.is_floating_point:
            a.lerp_(b, 1 - rate)
        else:
            a.copy_(b)


def write(state, path):
    """Whole or not at all."""
    torch.save(state, f"{path}.new")
    os.replace(f"{path}.new", path)


def begin(args, labels, shown):
    """A net at its start: BatchNorm is put back with the statistics of pictures as they will be shown."""
    folded = from_onnx(args.start, len(labels), labels)
    return with_norm(folded, [batch[0].float() for batch in shown])


def torch_predict(net, device):
    exported = Exported(net).eval()

    @torch.no_grad()
    def predict(batch):
        x = torch.from_numpy(batch).to(device).contiguous(memory_format=torch.channels_last)
        return exported(x).cpu().numpy()

    return predict


def what_is_pasted(table, data, train, labels):
    """Bags and heaps, or ads: as the table says."""
    if "adverts" in table:
        return Adverts.of(table["adverts"], "train", evaluate.bare(train), labels)
    return Litter.of(pictures.load_cutouts(data, table["cutouts"]), train[0], labels.index("garbage"))


def arguments():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--data", required=True, help="the folder that the sources' folders lie in")
    args.add_argument("--sources", default=pictures.HERE / "garbage.toml", help="or adverts.toml")
    args.add_argument("--start", required=True, help="ONNX file to start from: COCO's, or an earlier model of this recipe")
    args.add_argument("--out", required=True, help="checkpoints and the log go here")
    args.add_argument("--steps", type=int, default=2400, help="of 16 pictures")
    args.add_argument("--cooldown", type=int, default=700, help="steps over which the learning rate falls at the end")
    args.add_argument("--warm-up", type=int, default=50, help="steps over which the learning rate rises at the start")
    args.add_argument("--lr", type=float, default=1e-3)
    args.add_argument("--seed", type=int, default=7)
    args.add_argument("--freeze", nargs="*", default=[], help="parts of Nano that stay as they are: stem dark2")
    args.add_argument("--still-norms", action="store_true",
                      help="BatchNorm keeps its statistics: for a short fine-tuning, which ends before new ones have settled")
    args.add_argument("--small", action="store_true", help="smaller canvases, where time is short")
    args.add_argument("--workers", type=int, default=1)
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--save-every", type=int, default=50)
    args.add_argument("--measure-every", type=int, default=300)
    args.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return args.parse_args()


def resumed(args, labels, batches):
    """Net, its average, the step to continue at, and the optimiser's state (None at the start): from OUT/last.pt where it exists."""
    checkpoint = Path(args.out) / "last.pt"
    if not checkpoint.exists():
        net = begin(args, labels, [batches[i] for i in range(min(3, len(batches)))])
        return net, copy.deepcopy(net), 0, None
    state = torch.load(checkpoint, map_location="cpu")
    net = begin(args, labels, [batches[0]])
    net.load_state_dict(state["net"])
    average = copy.deepcopy(net)
    average.load_state_dict(state["average"])
    return net, average, state["step"], state["optimiser"]


def thaw(net, average, frozen, still_norms=False):
    """Trains all of `net` but the parts named in `frozen`, and none of `average`. With `still_norms`, BatchNorm normalises with the
    statistics that `begin` gave it, so that training starts from exactly the function of the start."""
    net.train()
    for module in net.modules():
        if still_norms and isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    for p in net.parameters():
        p.requires_grad_(True)
    for name in frozen:
        part = getattr(net, name).eval()
        for p in part.parameters():
            p.requires_grad_(False)
    for p in average.parameters():
        p.requires_grad_(False)


def half_precision(device):
    """Whether bfloat16 is faster than float32. On a CPU without AVX-512 it is computed by reference code, a hundred times slower."""
    return device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def fit(args, labels, batches, say, measure=None):
    """Trains on `batches` up to `args.steps`, from OUT/last.pt where an earlier run was interrupted, and leaves OUT/last.pt.

    Every `args.measure_every` steps and at the end, `measure(predict)`, a report of evaluate.py, is logged and written with the
    weights of that step."""
    out = Path(args.out)
    net, average, step, state = resumed(args, labels, batches)
    form = {"device": args.device, "memory_format": torch.channels_last}
    net, average = net.to(**form), average.to(**form).eval()
    thaw(net, average, args.freeze, args.still_norms)
    steps = optimiser(net, args.lr)
    if state:
        steps.load_state_dict(state)
        say(f"goes on from step {step}")

    def save(name):
        write({"net": net.state_dict(), "average": average.state_dict(), "optimiser": steps.state_dict(), "step": step,
               "labels": labels}, out / name)

    loader = DataLoader(torch.utils.data.Subset(batches, range(step, args.steps)), batch_size=None, shuffle=False,
                        num_workers=args.workers, prefetch_factor=4 if args.workers else None)
    recent, started, is_half = [], time.time(), half_precision(args.device)
    for batch in loader:
        rate = learning_rate(step, args)
        for group in steps.param_groups:
            group["lr"] = rate
        images, *truth = (t.to(args.device) for t in batch)
        images = images.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(args.device, torch.bfloat16, enabled=is_half):
            outputs = net(images)
        scores, boxes = loss(outputs, images.shape[2:], *truth)
        steps.zero_grad(set_to_none=True)
        (scores + boxes).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        steps.step()
        follow(average, net, step)
        step += 1
        recent.append((scores.item(), boxes.item()))
        if step % 25 == 0:
            s, b = np.mean(recent, 0)
            speed = len(recent) * len(images) / (time.time() - started)
            say(f"step {step} lr {rate:.1e} scores {s:.3f} boxes {b:.3f} {speed:.1f} pictures/s")
            recent, started = [], time.time()
        if step % args.save_every == 0 or step == args.steps:
            save("last.pt")
        if measure and (step % args.measure_every == 0 or step == args.steps):
            report = measure(torch_predict(average, args.device))
            write({"average": average.state_dict(), "step": step, "labels": labels}, out / f"step{step:06}.pt")
            (out / f"step{step:06}.json").write_text(json.dumps(report, indent=1))
            say(f"== step {step}: {evaluate.line(report)}")
            started = time.time()


def logger(out):
    """A function that appends a line to OUT/log.txt and prints it."""
    Path(out).mkdir(parents=True, exist_ok=True)

    def say(text):
        with (Path(out) / "log.txt").open("a") as log:
            log.write(text + "\n")
        print(text, flush=True)

    return say


def set_up(args):
    """Threads and seed, before anything is drawn."""
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)
    torch.manual_seed(args.seed)


def main():
    args = arguments()
    set_up(args)
    say = logger(args.out)
    labels, sources, table = pictures.read_sources(args.sources)
    dropped, twins = evaluate.read_twins()
    train = pictures.load_train(args.data, sources, dropped)
    pasted = what_is_pasted(table, args.data, train, labels)
    say(f"{', '.join(f'{len(p)} of {s.folder}' for p, s in zip(train, sources))}; {len(dropped)} left out as near-duplicates "
        "of dev")
    batches = Batches(Maker(train, pasted, len(labels)), SMALL_SHAPES if args.small else SHAPES, args.seed, args.steps)
    fit(args, labels, batches, say, lambda predict: evaluate.measure(predict, args.data, args.sources, twins=twins))


if __name__ == "__main__":
    main()
