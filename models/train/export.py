"""Writes a checkpoint as ONNX: `python export.py RUN/last.pt MODEL.onnx`.

Of several checkpoints the mean of their weights is written (Wortsman et al. 2022, arXiv:2203.05482): of one run, that is often
better on streets that none of them has seen.

`images` [batch, 3, height, width] float32 BGR 0..255, height and width multiples of 32; `output` [batch, rows, 5 + labels],
rows = height * width * (1/64 + 1/256 + 1/1024): boxes undecoded, objectness and classes sigmoided, as upstream YOLOX.
The file is compared with torch at several shapes and not left behind where they differ.
"""

import argparse
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from net import Exported, Nano, without_norm

SHAPES = ((1, 416, 416), (2, 320, 544), (1, 544, 320), (1, 512, 512))
TOLERANCE = 1e-3


def write(exported, path):
    """The graph with batch, height and width free."""
    torch.onnx.export(
        exported,
        torch.zeros(1, 3, 416, 416),
        path,
        input_names=["images"],
        output_names=["output"],
        opset_version=17,
        dynamo=False,
        dynamic_axes={"images": {0: "batch", 2: "height", 3: "width"}, "output": {0: "batch", 1: "rows"}},
    )


def mean(weights):
    """Of each tensor; counters are the last one's."""
    return {
        name: torch.stack([w[name] for w in weights]).mean(0) if last.dtype.is_floating_point else last
        for name, last in weights[-1].items()
    }


def export(checkpoints, out):
    """Writes the mean of `checkpoints` to `out` and returns (step, bytes, sha256). Raises SystemExit where the file and torch differ."""
    states = [torch.load(path, map_location="cpu") for path in checkpoints]
    state = states[-1]
    net = Nano(len(state["labels"]))
    net.load_state_dict(mean([s["average"] for s in states]))
    exported = Exported(without_norm(net)).eval()
    draft = f"{out}.new"
    write(exported, draft)
    model = onnx.load(draft)
    steps = " and ".join(str(s["step"]) for s in states)
    notes = {"labels": ",".join(state["labels"]), "input": "BGR 0..255, top left, pad 114", "step": steps}
    for key, value in notes.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, draft)
    session = onnxruntime.InferenceSession(draft, providers=["CPUExecutionProvider"])
    for batch, height, width in SHAPES:
        images = np.random.default_rng(7).uniform(0, 255, (batch, 3, height, width)).astype(np.float32)
        with torch.no_grad():
            expected = exported(torch.from_numpy(images)).numpy()
        difference = np.abs(session.run(None, {"images": images})[0] - expected).max()
        if not difference < TOLERANCE:
            os.remove(draft)
            raise SystemExit(f"{checkpoints[-1]}: at {height}x{width} the file and torch differ by {difference:.1e}")
    os.replace(draft, out)
    data = Path(out).read_bytes()
    return steps, len(data), hashlib.sha256(data).hexdigest()


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("checkpoint", nargs="+")
    args.add_argument("out")
    args = args.parse_args()
    steps, size, sha256 = export(args.checkpoint, args.out)
    print(f"{args.out}: step {steps}, {size} bytes, sha256 {sha256}")


if __name__ == "__main__":
    main()
