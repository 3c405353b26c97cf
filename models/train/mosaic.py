"""Lays labelled pictures side by side: `python mosaic.py DATA/garbage/dev OUT --columns 2 --rows 2`.

A street camera shows more pixels than a network sees, and the public sets do not. Four pictures of 448 pixels in one of 896 are
a composite, and no street; but their things are as small for the network as a street camera's, with more pixels to be had
by whoever looks closer. OUT is a set that `gridwatch eval` reads.
"""

import argparse
import random
from pathlib import Path

import cv2
import numpy as np

import data as pictures

SIDE = 448


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("data", type=Path)
    args.add_argument("out", type=Path)
    args.add_argument("--columns", type=int, default=2)
    args.add_argument("--rows", type=int, default=2)
    args.add_argument("--seed", type=int, default=5)
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(args.seed)
    files = sorted(f for f in args.data.iterdir() if f.suffix.lower() in (".jpg", ".jpeg", ".png"))
    each = args.columns * args.rows
    while len(files) % each:
        files.append(rng.choice(files))
    rng.shuffle(files)
    for n, start in enumerate(range(0, len(files), each)):
        canvas = np.zeros((SIDE * args.rows, SIDE * args.columns, 3), np.uint8)
        lines = []
        for i, file in enumerate(files[start : start + each]):
            row, column = divmod(i, args.columns)
            part = cv2.resize(cv2.imread(str(file)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            canvas[row * SIDE :, column * SIDE :][:SIDE, :SIDE] = part
            for number, (x0, y0, x1, y1) in zip(*pictures.read_boxes(file)):
                x, y = (column + (x0 + x1) / 2) / args.columns, (row + (y0 + y1) / 2) / args.rows
                lines.append(f"{number} {x:.6f} {y:.6f} {(x1 - x0) / args.columns:.6f} {(y1 - y0) / args.rows:.6f}\n")
        cv2.imwrite(str(args.out / f"{n:04}.jpg"), canvas, [cv2.IMWRITE_JPEG_QUALITY, 92])
        (args.out / f"{n:04}.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
