#!/usr/bin/env python3
"""How far apart are the appearances of one thing, and of two? The figures of docs/judging.md, section 2.

    python3 models/measure_appearance.py DIR...

Each DIR holds pictures and, beside them or in `labels` for `images`, YOLO labels (class cx cy w h, fractions). Needs numpy and
Pillow. The distance is that of `Appearance` in crates/engine/src/types/appearance.rs. Light is simulated: gain 0.5 to 1.6, white
balance 12 %, gamma 0.8 to 1.25, a shadow over part of two pictures in five, sensor noise. The seed is fixed.
"""
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image

LEAST_SIDE = 32
BOXES = 500


def appearance(picture, box):
    height, width, _ = picture.shape
    x1, y1, x2, y2 = (int(round(v)) for v in box)
    x1, y1 = max(0, x1), max(0, y1)
    cut = picture[y1 : min(height, max(y2, y1 + 4)), x1 : min(width, max(x2, x1 + 4))]
    red, green, blue = cut[..., 0], cut[..., 1], cut[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [luma, (blue - luma) * 0.564, (red - luma) * 0.713]
    h, w = luma.shape
    return np.array(
        [
            [p[i * h // 2 : (i + 1) * h // 2, j * w // 2 : (j + 1) * w // 2].mean() for p in planes]
            for i in range(2)
            for j in range(2)
        ]
    )


def distance(a, b):
    luma = np.abs(a[:, 0] / max(a[:, 0].mean(), 8) - b[:, 0] / max(b[:, 0].mean(), 8)).mean() * 32
    return luma + np.abs(a[:, 1:] - b[:, 1:]).mean()


def relit(picture, rng):
    lit = picture * rng.uniform(0.5, 1.6) * rng.uniform(0.88, 1.12, 3)
    lit = 255 * (np.clip(lit, 0, 255) / 255) ** rng.uniform(0.8, 1.25)
    if rng.random() < 0.4:
        lit[:, : int(picture.shape[1] * rng.uniform(0.2, 0.8))] *= rng.uniform(0.5, 0.9)
    return np.clip(lit + rng.normal(0, 4, lit.shape), 0, 255)


def jittered(box, rng):
    w, h = box[2] - box[0], box[3] - box[1]
    return [v + d * s for v, d, s in zip(box, rng.uniform(-0.1, 0.1, 4), [w, h, w, h])]


def labelled(folder):
    for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"}):
        labels = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
        if not labels.exists():
            continue
        picture = np.asarray(Image.open(path).convert("RGB")).astype(np.float32)
        height, width, _ = picture.shape
        for line in filter(str.strip, labels.read_text().splitlines()):
            _, cx, cy, w, h = map(float, line.split()[:5])
            if min(w * width, h * height) >= LEAST_SIDE:
                yield path, picture, [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height]


def main(folders):
    boxes = [b for folder in folders for b in labelled(folder)]
    if not boxes:
        sys.exit("no labelled pictures: name folders of pictures with YOLO labels")
    random.Random(7).shuffle(boxes)
    boxes, rng = boxes[:BOXES], np.random.default_rng(7)
    looks = [appearance(picture, box) for _, picture, box in boxes]
    found = {"itself, 10 % off": [], "itself in other light": [], "another of the same picture": [], "one of another picture": []}
    for i, (path, picture, box) in enumerate(boxes):
        found["itself, 10 % off"].append(distance(looks[i], appearance(picture, jittered(box, rng))))
        found["itself in other light"].append(distance(looks[i], appearance(relit(picture, rng), jittered(box, rng))))
        other = int(rng.integers(len(boxes)))
        if boxes[other][0] != path:
            found["one of another picture"].append(distance(looks[i], looks[other]))
        found["another of the same picture"] += [distance(looks[i], looks[j]) for j in range(i + 1, len(boxes)) if boxes[j][0] == path]
    print(f"{'':28} {'pairs':>6} {'5 %':>6} {'median':>6} {'95 %':>6} {'99 %':>6} {'beyond 20':>9}")
    for what, distances in found.items():
        q = np.percentile(distances, [5, 50, 95, 99])
        print(f"{what:28} {len(distances):6} {q[0]:6.1f} {q[1]:6.1f} {q[2]:6.1f} {q[3]:6.1f} {np.mean(np.array(distances) > 20):9.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
