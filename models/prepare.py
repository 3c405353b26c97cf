"""Prepares an exported ONNX graph for fast inference on a CPU: `python prepare.py IN.onnx OUT.onnx`.

The outputs stay what they were, up to the rounding of float32; the script compares them and refuses to write anything
else. Needs the Python packages `onnx`, `numpy` and `onnxruntime`; gridwatch itself does not.

Two things are changed, where they are found:

- Weights leave the graph's list of inputs. Exporters of IR version 3 listed every initialiser there, so that a caller
  might replace it; ONNX Runtime must then treat weights as variables, folds no constants and fuses no convolution with
  what follows. Initialisers that no node reads go too, because ONNX Runtime warns of each.
- YOLOX's Focus (four strided slices of the picture, concatenated, then a 3x3 convolution) becomes the one 6x6 convolution
  of stride 2 that it is. Strided slices are slow: Focus takes an eighth of YOLOX-nano's time for a hundredth of its
  multiplications.
"""

import sys

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper


def strip_inputs(graph):
    weights = {i.name for i in graph.initializer}
    inputs = [i for i in graph.input if i.name not in weights]
    print(f"{len(graph.input)} inputs, {len(inputs)} of them real")
    del graph.input[:]
    graph.input.extend(inputs)


def drop_unread(graph):
    """Drops what nothing reads any more: nodes from the end of the graph to its start, then initialisers."""
    read = {o.name for o in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read.update(node.input)
    used = [i for i in graph.initializer if i.name in read]
    print(f"{len(graph.initializer)} initialisers, {len(used)} of them read")
    del graph.initializer[:]
    graph.initializer.extend(used)


def fold_focus(graph):
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    constants |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    picture = graph.input[0].name

    def attributes(node):
        return {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def offset(name):
        """(dy, dx) where `name` is picture[:, :, dy::2, dx::2]; None where it is anything else."""
        found = {}
        while name != picture:
            node = made_by.get(name)
            if node is None or node.op_type != "Slice" or len(node.input) != 5:
                return None
            starts, _, axes, steps = (constants.get(i) for i in node.input[1:])
            if any(v is None or len(v) != 1 for v in (starts, axes, steps)) or steps[0] != 2:
                return None
            found[int(axes[0])] = int(starts[0])
            name = node.input[0]
        return (found[2], found[3]) if found.keys() == {2, 3} else None

    for at, node in enumerate(graph.node):
        if node.op_type != "Conv":
            continue
        concat = made_by.get(node.input[0])
        if concat is None or concat.op_type != "Concat":
            continue
        offsets = [offset(name) for name in concat.input]
        weights = constants.get(node.input[1])
        shape = attributes(node)
        plain = (
            shape.get("kernel_shape") == [3, 3]
            and shape.get("strides", [1, 1]) == [1, 1]
            and shape.get("pads") == [1, 1, 1, 1]
            and shape.get("group", 1) == 1
            and shape.get("dilations", [1, 1]) == [1, 1]
        )
        if weights is None or not plain or sorted(offsets, key=str) != [(0, 0), (0, 1), (1, 0), (1, 1)]:
            continue
        channels = weights.shape[1] // 4
        folded = np.zeros((weights.shape[0], channels, 6, 6), np.float32)
        for i, (dy, dx) in enumerate(offsets):
            folded[:, :, dy::2, dx::2] = weights[:, i * channels : (i + 1) * channels]
        name = f"{node.input[1]}.focus"
        graph.initializer.append(numpy_helper.from_array(folded, name))
        conv = helper.make_node(
            "Conv",
            [picture, name, *node.input[2:]],
            node.output,
            name=node.name,
            kernel_shape=[6, 6],
            strides=[2, 2],
            pads=[2, 2, 2, 2],
        )
        graph.node.remove(node)
        graph.node.insert(at, conv)
        print(f"Focus of {len(offsets)} slices before {node.name or node.output[0]} folded into it")
        return


def compare(before, after):
    """The largest difference of any output, over the largest value of that output."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    old, new = (onnxruntime.InferenceSession(m.SerializeToString(), options) for m in (before, after))
    entry = new.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in entry.shape]
    picture = np.random.default_rng(7).uniform(0, 255, shape).astype(np.float32)
    pairs = zip(old.run(None, {entry.name: picture}), new.run(None, {entry.name: picture}))
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs)


def main():
    source, target = sys.argv[1:]
    before = onnx.load(source)
    model = onnx.load(source)
    strip_inputs(model.graph)
    fold_focus(model.graph)
    drop_unread(model.graph)
    # IR version 4 is the first in which an initialiser need not be an input.
    model.ir_version = max(model.ir_version, 4)
    onnx.checker.check_model(model)
    difference = compare(before, model)
    print(f"largest relative difference of an output: {difference:.1e}")
    if difference > 1e-4:
        sys.exit(f"{source}: the prepared graph gives other outputs; nothing was written")
    onnx.save(model, target)


if __name__ == "__main__":
    main()
