"""Compares ways to look with one model: `python ways.py MODEL.onnx --data DATA`.

For every way: recall by size at a score of 0.3 (as evaluate.py has it), AP50, and milliseconds in the network on one
thread, as a multiple of one look at 416 x 416. The ways: the picture letterboxed into a square; into the shape of the
same area that fits its aspect; a larger square; two halves that overlap, each letterboxed; and the whole picture followed
by one second look at the crop in which the most uncertain boxes of the first lie.

The garbage sets' pictures are square, of 448 pixels: what more pixels or another shape are worth for a street camera's
picture they cannot tell. The facades are 720 pixels long, and wider than high.
"""

import argparse
import json
import time

import cv2
import numpy as np

import data as pictures
import evaluate
from evaluate import look, suppress

# (width, height) of about 416 x 416 pixels, multiples of 32; the one that scales the picture least is taken.
SHAPES = ((416, 416), (480, 352), (544, 320), (352, 480), (320, 544))
OVERLAP = 0.2


def by_aspect(predict, image):
    h, w = image.shape[:2]
    width, height = max(SHAPES, key=lambda s: (min(s[0] / w, s[1] / h), -s[0] * s[1]))
    return look(predict, image, height, width)


def merged(parts):
    """Boxes of several looks, suppressed within each label."""
    rows = np.concatenate(parts)
    out = []
    for label in np.unique(rows[:, 5]):
        own = rows[rows[:, 5] == label]
        out.append(own[suppress(own[:, :4], own[:, 4])])
    out = np.concatenate(out) if out else rows
    return out[np.argsort(-out[:, 4])[:100]]


def crop(predict, image, x0, y0, x1, y1):
    rows = evaluate.square(predict, np.ascontiguousarray(image[y0:y1, x0:x1]))
    return rows + [x0, y0, x0, y0, 0, 0]


def halves(predict, image):
    h, w = image.shape[:2]
    if w >= h:
        cut = round(w * (0.5 + OVERLAP / 2))
        return merged([crop(predict, image, 0, 0, cut, h), crop(predict, image, w - cut, 0, w, h)])
    cut = round(h * (0.5 + OVERLAP / 2))
    return merged([crop(predict, image, 0, 0, w, cut), crop(predict, image, 0, h - cut, w, h)])


def whole_and_crop(predict, image, part=0.5):
    """Of the windows of half the width and height, the one with the most doubt: boxes small and not sure."""
    first = evaluate.square(predict, image)
    h, w = image.shape[:2]
    side = np.sqrt((first[:, 2:4] - first[:, :2]).prod(1).clip(1)) * 416 / max(h, w)
    doubt = first[:, 4] * (first[:, 4] < 0.6) * (side < 64)
    if doubt.sum() < 0.02:
        return first
    best = max(range(len(first)), key=lambda i: doubt[i])
    x, y = (first[best, :2] + first[best, 2:4]) / 2
    x0, y0 = int(np.clip(x - w * part / 2, 0, w - w * part)), int(np.clip(y - h * part / 2, 0, h - h * part))
    return merged([first, crop(predict, image, x0, y0, x0 + int(w * part), y0 + int(h * part))])


WAYS = {
    "square 416": evaluate.square,
    "same area by aspect": by_aspect,
    "square 512": lambda p, i: evaluate.square(p, i, 512),
    "two halves": halves,
    "whole and one crop": whole_and_crop,
}


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("model")
    args.add_argument("--data", required=True)
    args.add_argument("--json")
    args = args.parse_args()
    cv2.setNumThreads(1)
    predict = evaluate.onnx_predict(args.model, 1)
    spent = [0.0]

    def timed(x):
        # The time of the thread, not of the clock: others may use the machine.
        started = time.thread_time()
        out = predict(x)
        spent[0] += time.thread_time() - started
        return out

    labels, sources, _ = pictures.read_sources()
    report, base = {}, {}
    for name, way in WAYS.items():
        for source in sources:
            truth = [pictures.load(f, source) for f in pictures.picture_files(args.data, source.folder, "dev")]
            spent[0] = 0.0
            found = [way(timed, p.image) for p in truth]
            cost = spent[0] / len(truth) * 1000
            base.setdefault(source.folder, cost)
            ap = evaluate.average_precision(truth, found, sorted({int(k) for p in truth for k in p.labels}))
            report[f"{name} / {source.folder}"] = {
                "ms": round(cost, 1),
                "cost": round(cost / base[source.folder], 2),
                "ap50": {labels[k]: round(v[0], 3) for k, v in ap.items()},
                "recall_by_size": {labels[k]: v for k, v in evaluate.recall_by_size(truth, found).items()},
            }
            print(f"{name} / {source.folder}: {json.dumps(report[f'{name} / {source.folder}'])}", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
