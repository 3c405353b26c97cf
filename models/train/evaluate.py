"""Measures a model on the dev pictures: `python evaluate.py MODEL.onnx --data DATA [--sources adverts.toml] [--json FILE]`.

AP is COCO's (pycocotools), over the labels that a source labels, in all and by size (the square root of the box's area, in
pixels of the picture fitted into 416 x 416, so that sizes stay comparable when the input changes). Further: recall by size at a
score of 0.3 and IoU 0.5; in how many pictures of a source something is found where nothing of its label is; and in how many
pictures with a label it is found, in how many without it is. compare.py says whether two models differ by more than chance. What is
rendered is measured on composites: every dev picture with ads in it of fonts, words, motifs and layouts kept back from training.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import random
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import data as pictures
from adverts import Adverts
from compose import overlap

HERE = Path(__file__).parent
NMS_IOU = 0.45
FLOOR = 0.001
SIZES = ((0, 16), (16, 32), (32, 96), (96, 10_000))
AT = 0.3  # score from which a box counts as found, in recall by size


def decode(rows, height, width):
    """Rows [N, 5 + C] of one picture -> corners in pixels of the input [N, 4], scores [N, C]; YOLOX `demo_postprocess`."""
    grids, strides = [], []
    for s in (8, 16, 32):
        y, x = np.mgrid[0 : height // s, 0 : width // s]
        grids.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((grids[-1].shape[0], 1), s))
    grid, stride = np.concatenate(grids), np.concatenate(strides)
    middle, side = (rows[:, :2] + grid) * stride, np.exp(rows[:, 2:4]) * stride
    return np.hstack([middle - side / 2, middle + side / 2]), rows[:, 4:5] * rows[:, 5:]


def suppress(boxes, scores, limit=NMS_IOU):
    """Indices that stay, best first."""
    order, kept = np.argsort(-scores, kind="stable"), []
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        inner = np.minimum(boxes[first, 2:], boxes[rest, 2:]) - np.maximum(boxes[first, :2], boxes[rest, :2])
        inner = inner.clip(0).prod(1)
        order = rest[inner / (area[first] + area[rest] - inner + 1e-9) <= limit]
    return kept


def boxes_of(boxes, scores, floor=FLOOR):
    """[K, 6] of x0, y0, x1, y1, score, label after suppression within each label; the best 100."""
    out = []
    for label in range(scores.shape[1]):
        over = scores[:, label] >= floor
        b, s = boxes[over], scores[over, label]
        best = np.argsort(-s)[:1000]
        b, s = b[best], s[best]
        kept = suppress(b, s)
        out.append(np.hstack([b[kept], s[kept, None], np.full((len(kept), 1), label)]))
    out = np.concatenate(out)
    return out[np.argsort(-out[:, 4])[:100]]


def look(predict, image, height, width):
    """What is found in a picture letterboxed into height x width, in pixels of the picture."""
    canvas, scale = pictures.letterbox(image, height, width)
    rows = predict(canvas.transpose(2, 0, 1)[None].astype(np.float32))[0]
    boxes, scores = decode(rows, height, width)
    boxes = (boxes / scale).clip(0, [image.shape[1], image.shape[0]] * 2)
    return boxes_of(boxes, scores)


def square(predict, image, side=416):
    return look(predict, image, side, side)


def average_precision(truth, found, labels):
    """Per label (AP50, AP50-95, AP50 per size; None where no box is), COCO's. `truth`: pictures; `found`: what `look` gave for each."""
    coco, boxes, results = COCO(), [], []
    for i, (picture, rows) in enumerate(zip(truth, found)):
        scale = 416 / max(picture.image.shape[:2])
        for (x0, y0, x1, y1), label in zip((picture.boxes * scale).tolist(), picture.labels.tolist()):
            boxes.append({"id": len(boxes) + 1, "image_id": i, "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0],
                          "area": (x1 - x0) * (y1 - y0), "iscrowd": 0})
        for row in rows:
            x0, y0, x1, y1 = (row[:4] * scale).tolist()
            if int(row[5]) in labels:
                results.append({"image_id": i, "category_id": int(row[5]), "bbox": [x0, y0, x1 - x0, y1 - y0], "score": float(row[4])})
    coco.dataset = {"images": [{"id": i} for i in range(len(truth))], "annotations": boxes,
                    "categories": [{"id": label} for label in labels]}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(results) if results else COCO(), "bbox")
        run.params.imgIds, run.params.catIds = list(range(len(truth))), list(labels)
        run.params.areaRng = [[0, 1e10], *([low**2, high**2] for low, high in SIZES)]
        run.params.areaRngLbl = ["all", *(f"{low}-{high}" for low, high in SIZES)]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., 2]  # IoU, recall, label, size, 100 boxes
    mean = lambda p: float(p[p > -1].mean()) if (p > -1).any() else None
    return {
        label: (mean(precision[0, :, i, 0]), mean(precision[:, :, i, 0]), [mean(precision[0, :, i, 1 + k]) for k in range(len(SIZES))])
        for i, label in enumerate(labels)
    }


def recall_by_size(truth, found, at=AT, iou=0.5):
    """{label: [(found, of) per size]}: each box is found once, by the surest box of its label that overlaps it."""
    counts = {}
    for picture, rows in zip(truth, found):
        scale = 416 / max(picture.image.shape[:2])
        rows = rows[rows[:, 4] >= at]
        taken = set()
        for r in rows:
            best, which = iou, None
            for i, (box, label) in enumerate(zip(picture.boxes, picture.labels)):
                if label != r[5] or i in taken:
                    continue
                w, h = min(box[2], r[2]) - max(box[0], r[0]), min(box[3], r[3]) - max(box[1], r[1])
                inner = max(0.0, w) * max(0.0, h)
                over = inner / ((box[2:] - box[:2]).prod() + (r[2] - r[0]) * (r[3] - r[1]) - inner)
                if over >= best:
                    best, which = over, i
            if which is not None:
                taken.add(which)
        for i, (box, label) in enumerate(zip(picture.boxes, picture.labels)):
            size = float(np.sqrt((box[2:] - box[:2]).prod())) * scale
            k = next(k for k, (low, high) in enumerate(SIZES) if low <= size < high)
            row = counts.setdefault(int(label), [[0, 0] for _ in SIZES])
            row[k][0] += i in taken
            row[k][1] += 1
    return counts


def alarms(truth, found, label, at):
    """Per picture three flags [N, 3]: has `label`; shows it with a score of `at` or more where it is; and where it is not."""
    flags = []
    for picture, rows in zip(truth, found):
        own = picture.boxes[picture.labels == label]
        rows = rows[(rows[:, 5] == label) & (rows[:, 4] >= at)]
        right = [any(overlap(r[:4], box) >= 0.3 for box in own) for r in rows]
        flags.append((len(own) > 0, any(right), not all(right)))
    return np.array(flags, bool).reshape(-1, 3)


def false_rate(truth, found, label, at):
    """The share of pictures in which `label` is found with a score of `at` or more where nothing of that label is."""
    return float(alarms(truth, found, label, at)[:, 2].mean())


def counts(truth, found, label, at):
    """Pictures with `label` in which it is found, of how many; pictures without it in which it is found, of how many."""
    has, right, wrong = alarms(truth, found, label, at).T
    return {"found": [int(right[has].sum()), int(has.sum())], "false": [int(wrong[~has].sum()), int((~has).sum())]}


def judged(picture, rows):
    """Without what nobody judged, and what was found there."""
    known, doubt = picture.labels >= 0, picture.boxes[picture.labels < 0]
    rows = rows[[all(overlap(r[:4], box) < 0.5 for box in doubt) for r in rows]] if len(doubt) and len(rows) else rows
    return dataclasses.replace(picture, boxes=picture.boxes[known], labels=picture.labels[known]), rows


def bare(groups):
    """Images without a labelled thing in them, of lists of pictures."""
    return [p.image for group in groups for p in group if not len(p.boxes)]


def composites(table, labels, dev):
    """Each dev picture with ads hung in it, the same ones every time, and the labels of what was hung."""
    adverts = Adverts.of(table["adverts"], "dev", bare(dev), labels)
    out = []
    for group in dev:
        for picture in group:
            image, boxes, own = adverts.add(picture, random.Random(f"dev {picture.name}"))
            out.append(dataclasses.replace(picture, pixels=lambda image=image: image, boxes=boxes, labels=own))
    return out, sorted(adverts.labels.values())


def looked_at(predict, data, table=HERE / "garbage.toml", way=square):
    """Of each source, and of composites where the table has ads: its name, its dev pictures, what was found in each, the labels
    that have an AP, the mask of those that it labels, and milliseconds a picture."""
    labels, sources, table = pictures.read_sources(table)
    dev = [[pictures.load(f, s) for f in pictures.picture_files(data, s.folder, "dev")] for s in sources]
    groups = [(s.folder, truth, None, s.mask) for s, truth in zip(sources, dev)]
    if "adverts" in table:
        groups.append(("composites", *composites(table, labels, dev), (0.0,) * len(labels)))
    for folder, truth, own, mask in groups:
        started = time.perf_counter()
        found = [way(predict, p.image) for p in truth]
        ms = (time.perf_counter() - started) / len(truth) * 1000
        truth, found = zip(*(judged(p, rows) for p, rows in zip(truth, found)))
        # What a source never has (garbage on façades) has no AP, only a rate of false alarms.
        yield folder, truth, found, own or sorted({int(k) for p in truth for k in p.labels}), mask, ms


def measure(predict, data, table=HERE / "garbage.toml", way=square, twins=()):
    """All figures of all sources' dev pictures, and of composites where the table has ads."""
    labels, report = pictures.read_sources(table)[0], {}
    for folder, truth, found, own, mask, ms in looked_at(predict, data, table, way):
        entry = {"pictures": len(truth), "ms": round(ms, 1)}
        for name, kept in (("", range(len(truth))), ("_apart", [i for i, p in enumerate(truth) if p.name not in twins])):
            if name and len(kept) in (0, len(truth)):
                continue
            ap = average_precision([truth[i] for i in kept], [found[i] for i in kept], own)
            entry["pictures" + name] = len(kept)
            entry["ap50" + name] = {labels[k]: v[0] for k, v in ap.items()}
            entry["ap" + name] = {labels[k]: v[1] for k, v in ap.items()}
            if not name:
                entry["ap50_by_size"] = {labels[k]: v[2] for k, v in ap.items()}
        entry["recall_by_size"] = {labels[k]: v for k, v in recall_by_size(truth, found).items() if k in own}
        entry["false"] = {
            label: {str(at): round(false_rate(truth, found, k, at), 4) for at in (0.3, 0.5)} for k, label in enumerate(labels) if mask[k]
        }
        entry["pictures_at"] = {
            label: {str(at): counts(truth, found, k, at) for at in (0.3, 0.5)} for k, label in enumerate(labels) if mask[k]
        }
        report[folder] = entry
    return report


def line(report):
    """A report in one line, for the log."""
    parts = []
    for folder, entry in report.items():
        parts.append(folder + " " + " ".join(f"{k} {v:.3f}" for k, v in entry["ap50"].items() if v is not None))
        for label, rates in entry["false"].items():
            parts[-1] += f" false {label} " + " ".join(f"{v:.3f} at {k}" for k, v in rates.items())
    return "; ".join(parts)


def onnx_predict(path, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def read_twins(path=HERE / "duplicates.json"):
    """Dev pictures that had a near-duplicate in train, and those training pictures; empty where nobody has looked."""
    table = json.loads(Path(path).read_text()) if Path(path).exists() else {"train": [], "dev": []}
    return set(table["train"]), set(table["dev"])


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("model")
    args.add_argument("--data", required=True)
    args.add_argument("--sources", default=HERE / "garbage.toml")
    args.add_argument("--size", type=int, default=416)
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--json")
    args = args.parse_args()
    cv2.setNumThreads(1)
    way = lambda predict, image: square(predict, image, args.size)
    report = measure(onnx_predict(args.model, args.threads), args.data, args.sources, way, read_twins()[1])
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    print(line(report))
    for folder, entry in report.items():
        print(f"{folder}: {json.dumps(entry)}")


if __name__ == "__main__":
    main()
