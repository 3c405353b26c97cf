"""Writes a checkpoint as ONNX: `python export.py RUN/last.pt MODEL.onnx`.

Of several checkpoints the mean of their weights is written (Wortsman et al. 2022, arXiv:2203.05482): of one run, that is often
better on streets that none of them has seen. An ONNX file may be among them, such as the model that the run started from: the mean of
both forgets less (arXiv:2109.01903).

`images` [batch, 3, height, width] float32 BGR 0..255, height and width multiples of 32; `output` [batch, rows, 5 + labels],
rows = height * width * (1/64 + 1/256 + 1/1024): boxes undecoded, objectness and classes sigmoided, as upstream YOLOX.
The file is compared with torch at several shapes and not left behind where they differ.
"""

import argparse
import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from net import Exported, Nano, from_onnx, without_norm

SHAPES = ((1, 416, 416), (2, 320, 544), (1, 544, 320), (1, 512, 512))
TOLERANCE = 1e-3


def write(exported, path):
    """The graph with batch, height and width free."""
    with warnings.catch_warnings():
        # torch recommends its new exporter, which writes another graph; the tracing one gives the nodes that the product was measured with.
        warnings.simplefilter("ignore", DeprecationWarning)
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


def read(checkpoints):
    """(folded net, labels, steps) of the mean of `checkpoints`; the last one is a checkpoint of train.py, others may be ONNX files.

    The mean is taken before BatchNorm is folded; with an ONNX file, which holds no BatchNorm, after."""
    states = [torch.load(path, map_location="cpu") for path in checkpoints if not str(path).endswith(".onnx")]
    labels, steps = states[-1]["labels"], " and ".join(str(s["step"]) for s in states)

    def unfolded(weights):
        net = Nano(len(labels))
        net.load_state_dict(weights)
        return without_norm(net)

    if len(states) == len(checkpoints):
        return unfolded(mean([s["average"] for s in states])), labels, steps
    of_file = [from_onnx(path, len(labels), labels) for path in checkpoints if str(path).endswith(".onnx")]
    net = Nano(len(labels), norm=False)
    net.load_state_dict(mean([n.state_dict() for n in [*of_file, *(unfolded(s["average"]) for s in states)]]))
    return net, labels, f"the start and {steps}"


def export(checkpoints, out):
    """Writes the mean of `checkpoints` to `out` and returns (step, bytes, sha256). Raises SystemExit where the file and torch differ."""
    net, labels, steps = read(checkpoints)
    exported = Exported(net).eval()
    draft = f"{out}.new"
    write(exported, draft)
    model = onnx.load(draft)
    notes = {"labels": ",".join(labels), "input": "BGR 0..255, top left, pad 114", "step": steps}
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
