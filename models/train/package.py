"""The model folder around a network: reads the manifest of the model that is fine-tuned, and writes the folder of the new one.

Only manifests of this recipe are taken (adapter `yolox`, BGR 0..255, top left). `Deployed` looks at a picture as the daemon does with
such a manifest: input shape, floors, renames, suppression.
"""

import hashlib
import os
import re
import shutil
import tomllib
from pathlib import Path

import cv2
import numpy as np

import evaluate
from captures import Fault, read_text

STEP = 32  # sides of an input in the shape of the picture are multiples of this
SLACK = 1.01  # as the daemon: such an input may exceed the manifest's pixel count by 1 %
NMS_IOU = 0.5  # the daemon's, where a manifest has none
MAX_MANIFEST = 1 << 20


def fitted(width, height, across, down):
    """(width, height) of an input of about `across` x `down` pixels in which a picture is drawn largest; `canvas` of preprocess.rs."""
    budget, best, out = across * down * SLACK, 0.0, (across, down)
    lower = lambda side: max(STEP, int(side // STEP) * STEP)
    upper = lambda side: max(STEP, -int(-side // STEP) * STEP)
    for w in range(STEP, 4097, STEP):
        ideal = w * height / width
        for h in (lower(ideal), upper(ideal), lower(budget / w)):
            scale = min(w / width, h / height)
            if w * h <= budget and scale > best:
                best, out = scale, (w, h)
    return out


class Manifest:
    """model.toml of `folder`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        path = self.folder / "model.toml"
        if not self.folder.is_dir():
            raise Fault(f"{folder}: not a folder; name a model folder with model.toml and model.onnx")
        self.text = read_text(path, MAX_MANIFEST) if path.exists() else ""
        if not self.text:
            raise Fault(f"{path}: missing; name a model folder with model.toml and model.onnx")
        try:
            self.table = tomllib.loads(self.text)
            self.id, self.version, self.classes = self.table["id"], self.table["version"], list(self.table["labels"])
            self.input, self.network = self.table["input"], self.folder / "model.onnx"
            self.floor = float(self.table.get("score_floor", 0.0))
        except tomllib.TOMLDecodeError as e:
            raise Fault(f"{path}: {e}") from None
        except KeyError as e:
            raise Fault(f"{path}: field {e} is missing") from None
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(self.id)):
            raise Fault(f"{path}: id {self.id!r} is not usable as a name; use 1 to 64 letters, digits, `-` and `_`")
        wanted = (self.table.get("adapter"), self.input.get("colour"), self.input.get("fit"), float(self.input.get("scale", 1.0)))
        if wanted != ("yolox", "bgr", "top_left", 1.0):
            raise Fault(f"{path}: only YOLOX-nano of this recipe can be fine-tuned (adapter yolox, BGR, top_left, scale 1)")
        rename = self.table.get("rename", {})
        self.labels = [rename.get(name, name) for name in self.classes]
        if len(set(self.labels)) < len(self.labels):
            raise Fault(f"{path}: several classes share one label in [rename]; a capture does not say which of them it shows")
        if not self.network.is_file():
            raise Fault(f"{self.network}: missing")
        self.sha256 = hashlib.sha256(self.network.read_bytes()).hexdigest()
        if self.sha256 != self.table.get("sha256"):
            raise Fault(f"{self.network}: its checksum is {self.sha256}, {path} has {self.table.get('sha256')}")

    def shape(self, width, height):
        """(width, height) of the input for a picture."""
        own = int(self.input["width"]), int(self.input["height"])
        return fitted(width, height, *own) if self.input.get("shape") == "picture" else own


class Deployed:
    """Looks as the daemon does. Rows as evaluate.look: x0, y0, x1, y1 in pixels, score, class; scores from `floor` on."""

    def __init__(self, manifest, network=None, threads=1):
        self.manifest = manifest
        self.predict = evaluate.onnx_predict(network or manifest.network, threads)

    def look(self, image):
        width, height = self.manifest.shape(image.shape[1], image.shape[0])
        return evaluate.look(self.predict, image, height, width)

    def detections(self, image):
        """[(label, score, corners as fractions)] that the daemon reports."""
        table, size = self.manifest.table, [image.shape[1], image.shape[0]] * 2
        floors, ignored = table.get("label_floors", {}), table.get("ignore", [])
        rows, out = self.look(image), []
        for k, (name, label) in enumerate(zip(self.manifest.classes, self.manifest.labels)):
            own = rows[(rows[:, 5] == k) & (rows[:, 4] >= max(self.manifest.floor, floors.get(label, 0.0)))]
            for i in evaluate.suppress(own[:, :4], own[:, 4], table.get("nms_iou", NMS_IOU)) if name not in ignored else []:
                out.append((label, float(own[i, 4]), [float(v) for v in own[i, :4] / size]))
        return sorted(out, key=lambda d: -d[1])


def raised(version):
    """The next version, marked as one's own, so that it is never taken for a released one: 1.2.0 -> 1.2.1+own -> 1.2.2+own."""
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})", version)
    if not numbers:
        return f"{version[:54]}+own1" if not version.endswith("+own1") else f"{version[:-1]}2"
    return f"{numbers[1]}.{numbers[2]}.{int(numbers[3]) + 1}+own"


def self_tests(deployed, source):
    """The text of the self-tests of the folder `source`, with what the new network detects in their pictures."""
    out = []
    for test in deployed.manifest.table.get("self_test", []):
        image = cv2.imread(str(source / test["picture"]))
        if image is None:
            raise Fault(f"{source / test['picture']}: self-test picture cannot be read")
        found = [d for d in deployed.detections(image) if d[1] >= test["above"]]
        if not found:
            continue  # the daemon refuses a self-test that expects nothing
        lines = [
            f'    {{ label = "{label}", score = {score:.3f}, box = [{", ".join(f"{v:.4f}" for v in box)}] }},\n' for label, score, box in found
        ]
        out.append(f'[[self_test]]\npicture = "{test["picture"]}"\nabove = {test["above"]}\nexpect = [\n{"".join(lines)}]\n')
    return out


def manifest_text(manifest, version, sha256, tests):
    """The manifest of the new model: as the old one but for version, checksum, source and self-tests. Comments stay."""
    values = {"version": version, "sha256": sha256, "source": f"{manifest.id} {manifest.version} fine-tuned on captures of its operator, see CARD.md"}
    head, *tables = re.split(r"(?m)^(?=\[)", manifest.text)
    for key, value in values.items():
        head, count = re.subn(rf'(?m)^{key}\s*=\s*"[^"\n]*"', lambda _: f'{key} = "{value}"', head)
        if count != 1:
            raise Fault(f"{manifest.folder}/model.toml: `{key}` stands in {count} lines of the form {key} = \"…\"; 1 is expected")
    kept = [t for t in tables if not t.startswith("[[self_test]]")]
    text = "".join([head, *kept]).rstrip() + "\n\n" + "\n".join(tests)
    same = lambda table: {k: v for k, v in table.items() if k not in (*values, "self_test")}
    if same(tomllib.loads(text)) != same(manifest.table):
        raise Fault(f"{manifest.folder}/model.toml: cannot be rewritten with a new version; write its fields one a line")
    return text.rstrip() + "\n"


def write_folder(manifest, network, version, card, out):
    """Writes the model folder `out` anew, whole or not at all, and returns the number of its self-tests."""
    draft = Path(f"{out}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    shutil.copyfile(network, draft / "model.onnx")
    if (manifest.folder / "selftest").is_dir():
        shutil.copytree(manifest.folder / "selftest", draft / "selftest")
    tests = self_tests(Deployed(manifest, network), manifest.folder)
    sha256 = hashlib.sha256((draft / "model.onnx").read_bytes()).hexdigest()
    (draft / "model.toml").write_text(manifest_text(manifest, version, sha256, tests), encoding="utf-8")
    (draft / "CARD.md").write_text(card, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(draft, out)
    return len(tests)
