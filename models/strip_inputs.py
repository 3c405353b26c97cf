"""Takes weights out of an ONNX graph's list of inputs: `python strip_inputs.py IN.onnx OUT.onnx`.

Exporters of IR version 3 listed every initialiser as an input, so that a caller might replace it. ONNX Runtime must then
treat weights as variables: it folds no constants and fuses no convolution with what follows. Initialisers that no node
reads go too, because ONNX Runtime warns of each. Nothing else is changed: the nodes and their weights are the original's. Needs the Python package `onnx`; gridwatch itself does not.
"""

import sys

import onnx

source, target = sys.argv[1:]
model = onnx.load(source)
weights = {i.name for i in model.graph.initializer}
inputs = [i for i in model.graph.input if i.name not in weights]
print(f"{source}: {len(model.graph.input)} inputs, {len(inputs)} of them real")
del model.graph.input[:]
model.graph.input.extend(inputs)
read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
used = [i for i in model.graph.initializer if i.name in read]
print(f"{len(model.graph.initializer)} initialisers, {len(used)} of them read")
del model.graph.initializer[:]
model.graph.initializer.extend(used)
# IR version 4 is the first in which an initialiser need not be an input.
model.ir_version = max(model.ir_version, 4)
onnx.checker.check_model(model)
onnx.save(model, target)
