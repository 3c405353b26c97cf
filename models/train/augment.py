"""From pictures in memory to canvases that are trained on: where a picture lies, and how it looks.

Every draw comes from the `random.Random` that is handed in, so a step can be made again after a resume.
"""

import dataclasses
import math

import cv2
import numpy as np

LEAST = 4.0  # pixels: what is smaller on the canvas is nobody's fault, it is neither learnt nor punished
LEFT = 0.3  # of a box's area must be on the canvas; likewise


class Canvas:
    """What is drawn so far: `boxes` with `labels`, and `regions` (corners) with `masks`, a later over an earlier."""

    def __init__(self, height, width, labels):
        self.image = np.full((height, width, 3), 114, np.uint8)
        self.boxes, self.labels, self.regions, self.masks = [], [], [], []
        self.classes = labels

    def place(self, image, boxes, labels, mask, area, scale, aspect, flip, at):
        """Draws `image`, scaled by `scale` times `aspect` across and over it down, into `area`; `at` (0..1, 0..1) says
        which part of it is seen where it is larger, and where it lies where it is smaller."""
        x0, y0, x1, y1 = area
        across, down = scale * aspect, scale / aspect
        if min(across, down) < 0.6:  # bilinear sampling alone would alias
            size = max(1, round(image.shape[1] * across)), max(1, round(image.shape[0] * down))
            boxes = boxes * np.float32([size[0] / image.shape[1], size[1] / image.shape[0]] * 2)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            across = down = 1.0
        h, w = image.shape[:2]
        shift_x, shift_y = (x1 - x0 - w * across) * at[0], (y1 - y0 - h * down) * at[1]
        matrix = np.float32([[-across if flip else across, 0, shift_x + (w * across if flip else 0)], [0, down, shift_y]])
        self.image[y0:y1, x0:x1] = cv2.warpAffine(
            image, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderValue=(114, 114, 114)
        )
        self.regions.append([x0, y0, x1, y1])
        self.masks.append(mask)
        if not len(boxes):
            return
        if flip:
            boxes = np.stack([w - boxes[:, 2], boxes[:, 1], w - boxes[:, 0], boxes[:, 3]], 1)
        whole = boxes * [across, down, across, down] + [shift_x, shift_y, shift_x, shift_y]
        seen = np.clip(whole, 0, [x1 - x0, y1 - y0, x1 - x0, y1 - y0])
        sides = seen[:, 2:] - seen[:, :2]
        kept = (sides.prod(1) > LEFT * (whole[:, 2:] - whole[:, :2]).prod(1)) & (sides > LEAST).all(1)
        for box, label, keep in zip(seen + [x0, y0, x0, y0], labels, kept):
            if keep and label >= 0:
                self.boxes.append(box)
                self.labels.append(label)
            else:
                self.regions.append(list(box))
                self.masks.append((0.0,) * self.classes)


def one(canvas, picture, image, boxes, labels, rng):
    """A single picture: whole as the product sees it, cropped into, or from afar."""
    h, w = canvas.image.shape[:2]
    fit = min(h / image.shape[0], w / image.shape[1])
    cover = max(h / image.shape[0], w / image.shape[1])
    aspect = math.exp(rng.uniform(-0.22, 0.22))
    pick = rng.random()
    if picture.source.zoom and rng.random() < picture.source.zoom:
        scale, at = cover * rng.uniform(1.6, 3.0), (rng.random(), rng.random())
    elif pick < 0.35:
        scale, at = fit * rng.uniform(0.95, 1.0), (0.0, 0.0)
    elif pick < 0.6:
        scale, at = fit * rng.uniform(0.45, 0.95), (rng.random(), rng.random())
    else:
        scale, at = cover * rng.uniform(1.0, 1.6), (rng.random(), rng.random())
    canvas.place(image, boxes, labels, picture.source.mask, (0, 0, w, h), scale, aspect, rng.random() < 0.5, at)


def tiles(width, height, columns, rows, rng):
    """Areas of a grid whose lines are moved by up to 15 % of a column or row."""
    lines = lambda length, n: [0, *(round(length * (i + rng.uniform(-0.15, 0.15)) / n) for i in range(1, n)), length]
    xs, ys = lines(width, columns), lines(height, rows)
    return [(xs[c], ys[r], xs[c + 1], ys[r + 1]) for r in range(rows) for c in range(columns)]


def many(canvas, drawn, columns, rows, rng):
    """A mosaic of `drawn` (picture, image, boxes, labels): how small things far away come into training."""
    h, w = canvas.image.shape[:2]
    for (picture, image, boxes, labels), area in zip(drawn, tiles(w, h, columns, rows, rng)):
        cover = max((area[2] - area[0]) / image.shape[1], (area[3] - area[1]) / image.shape[0])
        scale, aspect = cover * rng.uniform(0.85, 1.25), math.exp(rng.uniform(-0.22, 0.22))
        at = rng.random(), rng.random()
        canvas.place(image, boxes, labels, picture.source.mask, area, scale, aspect, rng.random() < 0.5, at)


def coloured(image, rng):
    """Hue, saturation and brightness by tables."""
    level = np.arange(256, dtype=np.float32)
    hue = ((level + rng.uniform(-8, 8)) % 180).astype(np.uint8)
    saturation = np.clip(level * rng.uniform(0.35, 1.5), 0, 255).astype(np.uint8)
    contrast, shift = rng.uniform(0.6, 1.35), rng.uniform(-28, 28)
    value = np.clip((level - 114) * contrast + 114 + shift, 0, 255).astype(np.uint8)
    h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    return cv2.cvtColor(cv2.merge([cv2.LUT(h, hue), cv2.LUT(s, saturation), cv2.LUT(v, value)]), cv2.COLOR_HSV2BGR)


def hard(image, rng):
    """Harsh local contrast, as some cameras and publishers make it: CLAHE on luminance, then sharpened, more colour."""
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)
    clahe = cv2.createCLAHE(rng.uniform(3, 9), (rng.randint(5, 10),) * 2)
    lab[..., 0] = clahe.apply(lab[..., 0])
    image = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)
    wide = cv2.GaussianBlur(image, (0, 0), rng.uniform(2, 5))
    amount = rng.uniform(0.4, 1.3)
    return cv2.addWeighted(image, 1 + amount, wide, -amount, 0)


def softened(image, rng):
    """The way back from harsh contrast: blur, flatter, paler."""
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 1.6))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    image = cv2.addWeighted(image, 1.0, grey, 0.0, 0) if rng.random() < 0.3 else cv2.addWeighted(image, 0.6, grey, 0.4, 0)
    gain = rng.uniform(0.55, 0.85)
    return cv2.convertScaleAbs(image, alpha=gain, beta=114 * (1 - gain))


def night(image, rng, noise):
    """Dark, often with the light of one lamp or flash, with a lamp's cast or without colour (infrared), and a sensor's noise."""
    if rng.random() < 0.5:
        h, w = image.shape[:2]
        yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
        reach = rng.uniform(0.2, 0.6) * max(h, w)
        far = ((xx - rng.uniform(0.1, 0.9) * w) ** 2 + (yy - rng.uniform(0.3, 0.9) * h) ** 2) / reach**2
        light = rng.uniform(0.2, 0.6) + rng.uniform(0.8, 1.6) * np.exp(-far)
        image = np.clip(image * light[..., None], 0, 255).astype(np.uint8)
    dark = np.clip(255 * (np.arange(256) / 255) ** rng.uniform(1.4, 2.6) * rng.uniform(0.5, 1.0), 0, 255)
    image = cv2.LUT(image, dark.astype(np.uint8))
    if rng.random() < 0.5:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    elif rng.random() < 0.6:
        image = np.clip(image * np.float32([0.6, 0.9, 1.15]), 0, 255).astype(np.uint8)
    return np.clip(image + noise.normal(0, rng.uniform(2, 11), image.shape), 0, 255).astype(np.uint8)


def rain(image, rng, noise):
    """Haze, and for half of them streaks."""
    veil = rng.uniform(0.12, 0.4)
    image = cv2.convertScaleAbs(image, alpha=1 - veil, beta=veil * rng.uniform(140, 220))
    if rng.random() < 0.5:
        return image
    drops = (noise.random(image.shape[:2]) > 0.996).astype(np.float32) * 255
    length, lean = rng.randint(7, 17), rng.uniform(-0.4, 0.4)
    streak = np.zeros((length, length), np.float32)
    cv2.line(streak, (round(length / 2 - lean * length / 2), 0), (round(length / 2 + lean * length / 2), length - 1), 1.0, 1)
    drops = cv2.filter2D(drops, -1, streak / streak.sum() * 3)
    return np.clip(image + 0.6 * drops[..., None], 0, 255).astype(np.uint8)


def blurred(image, rng):
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6))
    length = rng.choice((3, 5, 7))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length  # a camera pans across
    return cv2.filter2D(image, -1, kernel)


def compressed(image, rng):
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(22, 80)])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def looks(image, rng, harsh, soft):
    """How a canvas looks: first the street's light, then the camera's faults. `harsh`, `soft`: chances of those two."""
    noise = np.random.default_rng(rng.getrandbits(32))
    pick = rng.random()
    if pick < harsh:
        image = hard(image, rng)
    elif pick < harsh + soft:
        image = softened(image, rng)
    if rng.random() < 0.8:
        image = coloured(image, rng)
    pick = rng.random()
    if pick < 0.11:
        image = night(image, rng, noise)
    elif pick < 0.16:
        image = rain(image, rng, noise)
    elif pick < 0.20:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.15:
        image = blurred(image, rng)
    if rng.random() < 0.25:
        image = compressed(image, rng)
    return image


class Maker:
    """Makes canvases. `pictures`: per source its pictures; `pasted`: what is pasted, with `add` (Litter, Adverts)."""

    MOSAICS = ((0.30, 2, 2), (0.10, 3, 3), (0.08, 2, 1), (0.04, 3, 2))

    def __init__(self, pictures, pasted, labels):
        self.pictures, self.pasted, self.labels = pictures, pasted, labels
        self.shares = [p[0].source.share for p in pictures]

    def drawn(self, picture, rng):
        if picture.source.clutter and rng.random() < picture.source.clutter:
            image = self.pasted.cluttered(picture, rng)
            picture = dataclasses.replace(picture, pixels=lambda: image)
        if rng.random() >= picture.source.paste:
            return picture, picture.image, picture.boxes, picture.labels
        return picture, *self.pasted.add(picture, rng)

    def make(self, picture, height, width, rng):
        """The canvas whose first (or only) picture is `picture`."""
        canvas = Canvas(height, width, self.labels)
        pick = rng.random()
        for share, columns, rows in self.MOSAICS:
            pick -= share
            if pick < 0:
                others = [rng.choice(rng.choices(self.pictures, self.shares)[0]) for _ in range(columns * rows - 1)]
                drawn = [self.drawn(p, rng) for p in [picture, *others]]
                rng.shuffle(drawn)
                many(canvas, drawn, columns, rows, rng)
                break
        else:
            one(canvas, *self.drawn(picture, rng), rng)
        harsh, soft = (0.0, 0.4) if picture.source.look == "soft" else (0.2, 0.05)
        canvas.image = looks(canvas.image, rng, harsh, soft)
        return canvas
