"""Reads garbage.toml or adverts.toml, pictures and labels, and keeps the pictures in memory as small as training needs them."""

import functools
import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
ORIENTATION = 0x0112  # EXIF; cv2 turns pictures by it
CUTOUT = 192  # pixels of a bag's longer side: larger ones are rare, and recolouring costs by the pixel


@dataclass(frozen=True)
class Source:
    folder: str
    share: int
    classes: dict  # class number in the files -> label number of the model
    mask: tuple  # per label: 1.0 where this source labels it
    paste: float
    look: str
    longest: int
    skip_empty: bool = False
    ruler_class: int = -1
    ruler_metres: float = 1.0
    clutter: float = 0.0  # share of the pictures into which lawful things are drawn that look like garbage
    zoom: float = 0.0  # share of the pictures shown at 1.6 to 3 times the usual scale
    ground: float = 0.8  # where ground begins, as a fraction of the height, in pictures without a ruler
    seen: dict = field(default_factory=dict)  # file -> [label, x0, y0, x1, y1 as fractions], labelled by hand besides


UNJUDGED = -1  # a label: what this is nobody says, it is neither learnt nor punished


@dataclass
class Picture:
    """`boxes` [M, 4] are corners in pixels of `image`; `rulers` are boxes of a class of known height, in metres.

    `pixels` gives the image. A training picture is decoded when it is first shown, so that a run starts and resumes at once."""

    name: str
    pixels: Callable[[], np.ndarray]
    boxes: np.ndarray
    labels: np.ndarray
    source: Source
    rulers: list = field(default_factory=list)

    @property
    def image(self):
        return self.pixels()


def read_sources(path=HERE / "garbage.toml"):
    """The model's labels, the sources, and the whole table, which says what is pasted."""
    table = tomllib.loads(Path(path).read_text())
    labels, sources = table["labels"], []
    seen = json.loads((Path(path).parent / table["seen"]).read_text()) if "seen" in table else {}
    for entry in table["source"]:
        ruler = entry.get("ruler", {})
        sources.append(
            Source(
                folder=entry["folder"],
                share=entry["share"],
                classes={int(k): labels.index(v) for k, v in entry["classes"].items()},
                mask=tuple(float(label in entry["labelled"]) for label in labels),
                paste=entry["paste"],
                look=entry["look"],
                longest=entry["longest"],
                skip_empty=entry.get("skip_empty", False),
                ruler_class=ruler.get("class", -1),
                ruler_metres=ruler.get("metres", 1.0),
                clutter=entry.get("clutter", 0.0),
                zoom=entry.get("zoom", 0.0),
                ground=entry.get("ground", 0.8),
                seen={
                    name.split("/")[1]: [(UNJUDGED if b[0] == "?" else labels.index(b[0]), *b[1:]) for b in boxes]
                    for name, boxes in seen.items()
                    if name.split("/")[0] == entry["folder"]
                },
            )
        )
    return labels, sources, table


def picture_files(data, folder, split):
    """Those that splits.json names, else those in DATA/folder/split."""
    named = json.loads((HERE / "splits.json").read_text()).get(folder)
    if named:
        return [Path(data) / folder / name for name in named[split]]
    directory = Path(data) / folder / split
    files = sorted(p for p in directory.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise FileNotFoundError(f"{directory}: no pictures")
    return files


def read_boxes(picture):
    """Class numbers [M] and corners [M, 4] as fractions of the picture, of the text file beside it."""
    numbers, corners = [], []
    text = Path(picture).with_suffix(".txt")
    for line in text.read_text().splitlines() if text.exists() else []:
        values = [float(v) for v in line.split()]
        if len(values) < 5:
            continue
        if len(values) > 5:
            x, y = values[1::2], values[2::2]
            box = min(x), min(y), max(x), max(y)
        else:
            x, y, w, h = values[1:]
            box = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        numbers.append(int(values[0]))
        corners.append([min(1.0, max(0.0, v)) for v in box])
    return np.array(numbers, int), np.array(corners, np.float32).reshape(-1, 4)


def read_pixels(path, width, height):
    """Decoded, and shrunk to a size where it is larger."""
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"{path}: cannot be read as a picture")
    if image.shape[1::-1] != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image


def load(path, source, longest=None):
    """A picture with the model's labels; no longer than `longest`, or None to leave it as it is."""
    with Image.open(path) as file:
        width, height = ImageOps.exif_transpose(file).size if file.getexif().get(ORIENTATION, 1) != 1 else file.size
    scale = min(1.0, longest / max(width, height)) if longest else 1.0
    if scale < 1:
        width, height = round(width * scale), round(height * scale)
    pixels = functools.cache(lambda: read_pixels(path, width, height))
    numbers, corners = read_boxes(path)
    seen = source.seen.get(path.name, [])
    kept = [i for i, n in enumerate(numbers) if n in source.classes]
    labels = [source.classes[numbers[i]] for i in kept] + [b[0] for b in seen]
    whole = np.float32([width, height, width, height])
    corners = corners * whole
    return Picture(
        name=f"{source.folder}/{path.name}",
        pixels=pixels,
        boxes=np.concatenate([corners[kept], np.float32([b[1:] for b in seen]).reshape(-1, 4) * whole]),
        labels=np.array(labels, np.int64),
        source=source,
        rulers=[corners[i] for i, n in enumerate(numbers) if n == source.ruler_class],
    )


def load_train(data, sources, dropped):
    """Per source its training pictures, without those named in `dropped` (near-duplicates of dev pictures)."""
    out = []
    for source in sources:
        pictures = [
            load(path, source, source.longest)
            for path in picture_files(data, source.folder, "train")
            if f"{source.folder}/{path.name}" not in dropped
        ]
        out.append([p for p in pictures if len(p.boxes) or not source.skip_empty])
    return out


def load_cutouts(data, table):
    """Bags of [cutouts] as BGRA, cut to what is opaque, as small as they will be pasted."""
    out = []
    for path in sorted((Path(data) / table["folder"]).glob("*.png")):
        if path.stem in table["rejected"]:
            continue
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        y, x = np.nonzero(image[..., 3] > 127)
        image = image[y.min() : y.max() + 1, x.min() : x.max() + 1]
        scale = min(1.0, CUTOUT / max(image.shape[:2]))
        out.append(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    return out


def letterbox(image, height, width, pad=114):
    """As the product does: top left, area interpolation when shrinking. Returns the canvas and the scale."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    canvas = np.full((height, width, 3), pad, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return canvas, scale
