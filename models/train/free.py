"""Writes a YOLOX-nano that takes one shape as one that takes any: `python free.py IN.onnx OUT.onnx`.

The weights stay; only the graph is written anew, with height and width free (multiples of 32). Both files are compared on the
shape that the first takes, and nothing is left behind where they differ.
"""

import argparse
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from export import TOLERANCE, write
from net import Exported, from_onnx


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("model")
    args.add_argument("out")
    args = args.parse_args()
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    entry, exit = session.get_inputs()[0], session.get_outputs()[0]
    shape = [side if isinstance(side, int) else 1 for side in entry.shape]
    exported = Exported(from_onnx(args.model, exit.shape[-1] - 5)).eval()
    draft = f"{args.out}.new"
    write(exported, draft)
    images = np.random.default_rng(7).uniform(0, 255, shape).astype(np.float32)
    before = session.run(None, {entry.name: images})[0]
    after = onnxruntime.InferenceSession(draft, providers=["CPUExecutionProvider"]).run(None, {"images": images})[0]
    difference = np.abs(after - before).max()
    if not difference < TOLERANCE:
        os.remove(draft)
        raise SystemExit(f"{args.model}: the files differ by {difference:.1e}")
    onnx.checker.check_model(onnx.load(draft))
    os.replace(draft, args.out)
    data = Path(args.out).read_bytes()
    print(f"{args.out}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}, differs by {difference:.1e}")


if __name__ == "__main__":
    main()
