"""Pastes bags and heaps into pictures where they could lie: training pictures only, and said so in the card.

Size comes from a ruler (a door, a bin) in the picture, the ground from its foot; what is nearer is larger. Bags are
cut-outs, recoloured for the most part, because those that could be had are pale and pink and streets show black, white
and green ones too. Heaps are cut with soft edges from labelled boxes of other training pictures.
"""

import math

import cv2
import numpy as np

import clutter

# Bags by colour: share, hue (None: grey), saturation, darkest and lightest value. Black is what most streets show.
COLOURS = (
    (0.26, None, 0, 6, 95),
    (0.14, None, 0, 120, 250),
    (0.08, None, 0, 60, 190),
    (0.07, 65, 110, 30, 190),
    (0.07, 108, 140, 30, 200),
    (0.04, 8, 170, 50, 230),
    (0.04, 26, 150, 70, 240),
)
# What is left (30 %) keeps its own colour.


def recolour(bag, rng):
    pick = rng.random()
    for share, hue, saturation, low, high in COLOURS:
        pick -= share
        if pick < 0:
            break
    else:
        return bag
    grey = cv2.cvtColor(bag[..., :3], cv2.COLOR_BGR2GRAY).astype(np.float32)
    inside = bag[..., 3] > 127
    a, b = np.percentile(grey[inside], (2, 98))
    tone = np.clip((grey - a) / max(b - a, 8.0), 0, 1) ** rng.uniform(0.8, 2.2)
    value = low + tone * (high - low) * rng.uniform(0.7, 1.0)
    hsv = np.zeros((*grey.shape, 3), np.float32)
    hsv[..., 0] = 0 if hue is None else (hue + rng.uniform(-7, 7)) % 180
    hsv[..., 1] = saturation * (1 - 0.5 * tone) * rng.uniform(0.6, 1.2) if hue is not None else rng.uniform(0, 18)
    hsv[..., 2] = value
    out = bag.copy()
    out[..., :3] = cv2.cvtColor(np.clip(hsv, 0, (179, 255, 255)).astype(np.uint8), cv2.COLOR_HSV2BGR)
    return out


def turned(bag, rng):
    """Mirrored, turned, sheared a little: a hundred bags shall be many."""
    if rng.random() < 0.5:
        bag = bag[:, ::-1]
    h, w = bag.shape[:2]
    angle = math.radians(rng.gauss(0, 14) + rng.choice((0, 0, 0, 90)))
    c, s, shear = math.cos(angle), math.sin(angle), rng.uniform(-0.15, 0.15)
    linear = np.array([[c, -s + shear], [s, c]])
    corner = np.array([[0, 0], [w, 0], [0, h], [w, h]]) @ linear.T
    low, high = corner.min(0), corner.max(0)
    matrix = np.hstack([linear, -low[:, None]])
    out = cv2.warpAffine(np.ascontiguousarray(bag), matrix, tuple(int(v) for v in np.ceil(high - low)))
    y, x = np.nonzero(out[..., 3] > 127)
    return out[y.min() : y.max() + 1, x.min() : x.max() + 1] if len(y) else bag


def sized(cut, height):
    scale = height / cut.shape[0]
    size = max(2, round(cut.shape[1] * scale)), max(2, round(height))
    return cv2.resize(cut, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def matched(cut, under, rng):
    """Brightness and cast drawn towards what it lies on, the light from above."""
    bgr = cut[..., :3].astype(np.float32)
    ground = under.reshape(-1, 3).mean(0) if under.size else np.full(3, 114.0)
    bgr *= np.clip((ground.mean() / 120.0) ** 0.6, 0.35, 1.4) * rng.uniform(0.8, 1.2)
    bgr *= (ground / max(ground.mean(), 1.0)) ** 0.5
    bgr *= np.linspace(1.1, 0.75, bgr.shape[0])[:, None, None]
    out = cut.copy()
    out[..., :3] = np.clip(bgr, 0, 255)
    return out


def paste(image, cut, x, foot, rng, lies=False):
    """Lays BGRA `cut` with its lower left corner at (x, foot), blended, over a contact shadow unless it `lies` flat. Returns the box."""
    h, w = cut.shape[:2]
    y = foot - h
    x0, y0, x1, y1 = max(0, x), max(0, y), min(image.shape[1], x + w), min(image.shape[0], foot)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    if not lies:
        shadow(image, x, foot, w, h, rng)
    part = cut[y0 - y : y1 - y, x0 - x : x1 - x]
    under = image[y0:y1, x0:x1]
    alpha = cv2.GaussianBlur(part[..., 3], (0, 0), max(0.6, 0.012 * h))[..., None].astype(np.float32) / 255
    part = matched(part, under, rng)
    if rng.random() < 0.5:
        part = cv2.GaussianBlur(part, (0, 0), rng.uniform(0.3, 1.0))
    image[y0:y1, x0:x1] = part[..., :3] * alpha + under * (1 - alpha)
    return [x0, y0, x1, y1]


def shadow(image, x, foot, w, h, rng):
    """Darker ground under and beside: a flat blurred ellipse, thrown to one side."""
    reach = max(4, round(0.35 * h))
    x0, x1 = max(0, x - reach), min(image.shape[1], x + w + reach)
    y0, y1 = max(0, foot - reach), min(image.shape[0], foot + reach)
    if x1 - x0 < 3 or y1 - y0 < 3:
        return
    dark = np.zeros((y1 - y0, x1 - x0), np.float32)
    middle = round(x + w / 2 + rng.uniform(-0.2, 0.2) * w - x0), round(foot - 0.06 * h - y0)
    cv2.ellipse(dark, middle, (max(1, round(0.52 * w)), max(1, round(0.13 * h))), 0, 0, 360, 1.0, -1)
    dark = cv2.GaussianBlur(dark, (0, 0), max(1.0, 0.05 * h)) * rng.uniform(0.3, 0.7)
    image[y0:y1, x0:x1] = image[y0:y1, x0:x1] * (1 - dark[..., None])


def soft(image, box, rng):
    """A labelled heap as BGRA: an ellipse-like window whose edge fades, uneven as heaps are."""
    x0, y0, x1, y1 = (int(v) for v in box)
    part = image[y0:y1, x0:x1]
    h, w = part.shape[:2]
    yy, xx = np.mgrid[0:h, 0:w]
    wave = 1 + 0.06 * np.sin(np.arctan2(yy - h / 2, xx - w / 2) * rng.randint(3, 7) + rng.uniform(0, 6))
    reach = (np.abs((xx - w / 2) / (w / 2)) ** 2.6 + np.abs((yy - h / 2) / (h / 2)) ** 2.6) ** (1 / 2.6) * wave
    alpha = np.clip((1.0 - reach) / 0.14, 0, 1) * 255
    return np.dstack([part, alpha.astype(np.uint8)])


class Litter:
    """What can be pasted: bag cut-outs, and heaps as (picture, box); all of them with the label `garbage`."""

    def __init__(self, bags, heaps, garbage):
        self.bags, self.heaps, self.garbage = bags, heaps, garbage

    @classmethod
    def of(cls, bags, pictures, garbage):
        """Heaps: labelled boxes of 70 to 330 px that no other box cuts, wider than high."""
        heaps = []
        for picture in pictures:
            for i, (box, label) in enumerate(zip(picture.boxes, picture.labels)):
                w, h = box[2] - box[0], box[3] - box[1]
                others = np.delete(picture.boxes, i, 0)
                cut = any(min(o[2], box[2]) > max(o[0], box[0]) and min(o[3], box[3]) > max(o[1], box[1]) for o in others)
                if label == garbage and min(w, h) >= 70 and max(w, h) < 330 and 1.0 < w / h < 4 and not cut:
                    heaps.append((picture, box))
        return cls(bags, heaps, garbage)

    def bag(self, rng):
        return recolour(turned(rng.choice(self.bags), rng), rng)

    def add(self, picture, rng):
        """A copy of the picture's image, with its boxes and labels and those of what was laid into it."""
        image = picture.image.copy()
        metre, ground = scale_of(picture, rng)
        metre *= rng.choice((1.0, 1.0, 1.0, 0.6, 0.4, 1.7))  # a street camera stands farther off than a photographer
        added = []
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
            boxes = self.group(image, *spot(image, metre, ground, rng), rng)
            for box in boxes:
                if not any(overlap(box, other) > 0.2 for other in [*added, *picture.boxes]) or len(boxes) == 1:
                    added.append(box)
        labels = np.concatenate([picture.labels, np.full(len(added), self.garbage)])
        return image, np.concatenate([picture.boxes, np.array(added, np.float32).reshape(-1, 4)]), labels

    def cluttered(self, picture, rng):
        """A copy of the image with lawful things in it, where they hide nothing that is labelled: ground first, then what stands."""
        image = picture.image.copy()
        metre, ground = scale_of(picture, rng)
        free = lambda x, foot, w, h: not any(overlap((x, foot - h, x + w, foot), box) > 0.05 for box in picture.boxes)
        for _ in range(rng.randint(0, 2)):
            x, foot, here = spot(image, metre, ground, rng)
            if free(x, foot, 3.5 * here, 0.9 * here):
                clutter.wetted(image, x, foot, here, rng)
        for kinds in (clutter.FLAT, clutter.STANDING):
            for _ in range(rng.randint(0, 2)):
                x, foot, here = spot(image, metre, ground, rng)
                cut = clutter.chosen(kinds, here, rng)
                if free(x, foot, cut.shape[1], cut.shape[0]):
                    paste(image, cut, x, foot, rng, lies=kinds is clutter.FLAT)
        return image

    def group(self, image, x, foot, metre, rng):
        """One bag; bags in a row, each with its box; a pile under one box; or a heap."""
        kind = rng.random()
        if kind < 0.5:
            box = paste(image, sized(self.bag(rng), metre * rng.uniform(0.35, 0.85)), x, foot, rng)
            return [box] if box else []
        if kind < 0.65:
            boxes = []
            for _ in range(rng.randint(2, 4)):
                cut = sized(self.bag(rng), metre * rng.uniform(0.4, 0.8))
                box = paste(image, cut, x, foot + round(rng.uniform(-0.06, 0.06) * metre), rng)
                boxes += [box] if box else []
                x += round(cut.shape[1] * rng.uniform(0.95, 1.6))
            return boxes
        if kind < 0.82 or not self.heaps:
            boxes = []
            wide = metre * rng.uniform(0.8, 2.2)
            for i in range(rng.randint(4, 9)):
                cut = sized(self.bag(rng), metre * rng.uniform(0.35, 0.7))
                lift = rng.uniform(0, 0.45) * metre if i < 3 else rng.uniform(0, 0.1) * metre
                box = paste(image, cut, round(x + rng.uniform(0, wide) - cut.shape[1] / 2), round(foot - lift), rng)
                boxes += [box] if box else []
            if not boxes:
                return []
            boxes = np.array(boxes)
            return [[*boxes[:, :2].min(0), *boxes[:, 2:].max(0)]]
        picture, box = rng.choice(self.heaps)
        cut = soft(picture.image, box, rng)
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        box = paste(image, sized(np.ascontiguousarray(cut), metre * rng.uniform(0.4, 1.2)), x, foot, rng)
        return [box] if box else []


def scale_of(picture, rng):
    """Pixels of a metre where the ground begins, and the row where it does: from rulers, else guessed."""
    height = picture.image.shape[0]
    if picture.rulers:
        tall = float(np.median([r[3] - r[1] for r in picture.rulers]))
        metre = tall / picture.source.ruler_metres
        ground = float(np.median([r[3] for r in picture.rulers]))
    else:
        metre, ground = height / rng.uniform(4.0, 9.0), height * (picture.source.ground + rng.uniform(-0.05, 0.12))
    return float(np.clip(metre, height * 0.06, height * 0.45)), min(ground, height * 0.97)


def spot(image, metre, ground, rng):
    """Where something may stand: its left side, its foot, and pixels of a metre there."""
    near = rng.random()
    foot = round(ground + near * (image.shape[0] - ground) * 0.95)
    return round(rng.uniform(-0.02, 0.95) * image.shape[1]), foot, metre * (1 + 0.6 * near)


def overlap(a, b):
    """Intersection over the smaller of two boxes."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    area = lambda c: max(1.0, (c[2] - c[0]) * (c[3] - c[1]))
    return w * h / min(area(a), area(b)) if w > 0 and h > 0 else 0.0
