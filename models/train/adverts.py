"""Hangs rendered ads into pictures, with their labels, and among them things that are no ads, without: flat prints (prints.py)
are seen from the side as the wall is, take the scene's black, white, shadows and texture, and may be half hidden.

What is no ad is hung by the same hands, so that an edge, a blur or a tone of pasting tells nothing. All that is made
here are composites.
"""

import math
import random
from pathlib import Path

import cv2
import numpy as np

from compose import overlap, shadow
from prints import Printer
from wear import cloud, other, standing

SHOWN = 0.35  # of a print must be left by what stands before it
CONTRAST = 12.0  # of 255, mean: fainter is not hung, nobody would see it
LEAST = 5.0  # pixels of the longer side: smaller is not hung
DECOYS = 400  # of either sort are made
LABELS = {"flyer": "flyer", "banner": "banner", "board": "a_board", "signboard": "sign"}  # kind of print -> label
# What is hung in a picture, in groups: how often one more of each. Ads of one kind come together as they do in streets.
GROUPS = (("flyer", 0.34), ("banner", 0.24), ("board", 0.26), ("signboard", 0.07), (None, 0.09))


class Scene:
    """A picture's own tones, the turn of its walls, where its ground is and how long a metre."""

    def __init__(self, image, picture, rng):
        self.image, self.height, self.width = image, *image.shape[:2]
        small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).reshape(-1, 3)
        self.black, self.white = np.percentile(small, 4, 0), np.percentile(small, 97, 0)
        if picture.rulers:
            metre = float(np.median([r[3] - r[1] for r in picture.rulers])) / picture.source.ruler_metres
            ground = float(np.median([r[3] for r in picture.rulers]))
        else:
            metre, ground = self.height / rng.uniform(4.0, 9.0), self.height * rng.uniform(0.7, 0.92)
        self.metre = float(np.clip(metre, self.height * 0.05, self.height * 0.4))
        self.ground = min(ground, self.height * 0.97)
        self.yaw, self.blur = rng.gauss(0, 0.35), rng.choice((0.0, rng.uniform(0.3, 1.1)))
        self.dim = rng.uniform(0.75, 1.05)  # of paper in this light
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
        self.rough = cv2.GaussianBlur(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2.0)), (0, 0), 2.0)

    def plain(self, rng):
        """A place (x, y) for something on a wall: of a few the least rough, and seldom any."""
        places = [(rng.uniform(0.04, 0.96), rng.uniform(0.06, 0.92)) for _ in range(rng.choice((1, 4, 4)))]
        rough = lambda p: self.rough[int(p[1] * 48), int(p[0] * 48)]
        x, y = min(places, key=lambda p: rough(p) if rough(p) > 0.7 else 99.0)  # all but without grain: a margin, the sky
        return x * self.width, y * self.height


def quad(wide, high, yaw, roll, rng):
    """Corners [4, 2] around 0, 0 of a print of that size on a wall turned by `yaw` from the camera, rolled by `roll`."""
    w, h = wide / 2 * max(0.3, math.cos(yaw)), high / 2
    lean = math.sin(yaw) * min(0.35, 0.12 * wide / max(high, 1)) * rng.uniform(0.6, 1.2)
    slope = math.sin(yaw) * rng.uniform(0.0, 0.25) * w  # lines of a wall above or below the eye run to its vanishing point
    corners = np.array([[-w, -h * (1 + lean) + slope], [w, -h * (1 - lean) - slope], [w, h * (1 - lean) - slope], [-w, h * (1 + lean) + slope]])
    c, s = math.cos(roll), math.sin(roll)
    return corners @ np.array([[c, s], [-s, c]])


def hidden(high, wide, rng):
    """[H, W] of 0..1: what stands before it. A pole, a crown of leaves, a head or a roof from below, another's corner."""
    mask, pick = np.zeros((high, wide), np.float32), rng.random()
    if pick < 0.35:
        x, thick, lean = rng.uniform(0, 1) * wide, rng.uniform(0.03, 0.18) * wide, rng.uniform(-0.1, 0.1) * wide
        cv2.line(mask, (int(x - lean), 0), (int(x + lean), high), 1.0, max(1, int(thick)))
    elif pick < 0.6:
        mask[cloud(high, wide, rng.randint(8, 30), rng) > rng.uniform(0.55, 0.75)] = 1.0
    elif pick < 0.85:
        cv2.ellipse(mask, (int(rng.uniform(0, 1) * wide), high), (max(1, int(rng.uniform(0.1, 0.5) * wide)), max(1, int(rng.uniform(0.1, 0.6) * high))),
                    0, 0, 360, 1.0, -1)
    else:
        x0, y0 = rng.uniform(-0.5, 0.8) * wide, rng.uniform(0.2, 0.8) * high
        cv2.rectangle(mask, (int(x0), int(y0)), (int(x0 + 0.6 * wide), high), 1.0, -1)
    return cv2.GaussianBlur(mask, (0, 0), 0.7)


def hang(scene, flat, corners, rng, lit=False, cover=0.18):
    """Blends BGRA `flat` into the scene at `corners` (pixels; from the upper left clockwise). Returns its box, or None where
    hardly anything of it would be seen; then nothing is drawn."""
    x0, y0 = np.maximum(0, np.floor(corners.min(0)).astype(int) - 2)
    x1, y1 = np.minimum((scene.width, scene.height), np.ceil(corners.max(0)).astype(int) + 3)
    whole = corners.max(0) - corners.min(0)
    if x1 - x0 < 3 or y1 - y0 < 3 or whole.max() < LEAST:
        return None
    shrink = max(np.linalg.norm(corners[1] - corners[0]) / flat.shape[1], np.linalg.norm(corners[3] - corners[0]) / flat.shape[0])
    if shrink < 1:
        flat = cv2.resize(flat, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if min(flat.shape[:2]) * shrink >= 1 else flat
    h, w = flat.shape[:2]
    matrix = cv2.getPerspectiveTransform(np.float32([[0, 0], [w, 0], [w, h], [0, h]]), np.float32(corners - [x0, y0]))
    share = cv2.cvtColor(flat[..., 3], cv2.COLOR_GRAY2BGR)
    bare = np.dstack([cv2.multiply(flat[..., :3], share, scale=1 / 255), flat[..., 3]])  # premultiplied, or a dark seam shows
    seen = cv2.warpPerspective(bare, matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR).astype(np.float32)
    if scene.blur * rng.uniform(0.5, 1.3) > 0.25:
        seen = cv2.GaussianBlur(seen, (0, 0), scene.blur)
    alpha = seen[..., 3] / 255
    area = alpha.sum()
    if rng.random() < cover:
        free = 1 - hidden(*alpha.shape, rng)
        seen, alpha = seen * free[..., None], alpha * free
    inside = (corners >= 0).all() and (corners <= [scene.width, scene.height]).all()
    if area < 4 or alpha.sum() < SHOWN * area or (not inside and (x1 - x0) * (y1 - y0) < SHOWN * whole.prod()):
        return None
    under = scene.image[y0:y1, x0:x1].astype(np.float32)
    paint = toned(scene, seen[..., :3] / np.maximum(seen[..., 3:] / 255, 1e-3), under, rng, lit)
    drawn = np.clip(paint * alpha[..., None] + under * (1 - alpha[..., None]), 0, 255)
    y, x = np.nonzero(alpha > 0.3)
    if len(x) < 4 or np.abs(drawn - under)[y, x].mean() < CONTRAST:
        return None
    scene.image[y0:y1, x0:x1] = drawn
    return [float(x0 + x.min()), float(y0 + y.min()), float(x0 + x.max() + 1), float(y0 + y.max() + 1)]


def toned(scene, paint, under, rng, lit):
    """A print's colours in the scene's light: its own black and white, the wall's shadows over it, the wall's grain in it."""
    if lit:
        return paint * rng.uniform(0.9, 1.15) + 10
    grey = cv2.cvtColor(under, cv2.COLOR_BGR2GRAY)
    few = max(1, min(under.shape[:2]) // 8)  # a wide blur, by way of a small picture
    luma = cv2.resize(grey, (max(1, grey.shape[1] // few), max(1, grey.shape[0] // few)), interpolation=cv2.INTER_AREA)
    luma = cv2.resize(cv2.GaussianBlur(luma, (0, 0), 1.0), grey.shape[::-1])
    near = np.clip(grey.mean() / max(1.0, (scene.black.mean() + scene.white.mean()) / 2), 0.55, 1.15) ** rng.uniform(0.2, 0.9)
    black = scene.black * rng.uniform(0.4, 1.0)
    paint = black + (scene.white * scene.dim * near - black) * paint / 255
    shade = np.clip(luma / max(float(luma.mean()), 1.0), 0.4, 1.5) ** rng.choice((0.0, rng.uniform(0, 0.8)))
    grain = (grey - luma)[..., None] * rng.choice((0.0, rng.uniform(0.0, 0.45)))
    return paint * shade[..., None] + grain


def clock(image, rng, fonts_size=0.045):
    """What a camera or a publisher writes into a picture: letters that hang nowhere."""
    h, w = image.shape[:2]
    text = f"{rng.randint(2012, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} {rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
    text = rng.choice((text, f"IPCamera {rng.randint(1, 64):02}", "www.news.cn", text))
    size = h * fonts_size / 22 * rng.uniform(0.5, 1.3)
    at = int(w * rng.choice((0.02, rng.uniform(0.3, 0.6)))), int(h * rng.choice((0.06, 0.97)))
    if rng.random() < 0.7:
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, rng.choice(((255, 255, 255), (0, 255, 255))), 1, cv2.LINE_AA)


class Adverts:
    """Prints by kind, each BGRA: ads, whose label's number is in `labels`, and what is none: `other` and `standing`."""

    def __init__(self, prints, labels):
        self.prints, self.labels = prints, labels

    @classmethod
    def of(cls, table, split, photos, labels, seed=7):
        """As [adverts] says, with the fonts, words and layouts of `split`. Pieces of `photos` (BGR) are printed in ads, and hung as
        what is no ad."""
        own, rng = table[split], random.Random(f"{seed} prints {split}")
        fonts = [str(Path(table["fonts"]) / f) for f in own["fonts"]]
        printer = Printer(fonts, own["words"], own["layouts"], photos)
        kinds = {kind: count for kind, count in table["prints"].items() if any(l.startswith(kind + "_") for l in own["layouts"])}
        prints = {kind: [printer.render(kind + "_", rng) for _ in range(count)] for kind, count in kinds.items()}
        prints |= {make.__name__: [make(photos, rng) for _ in range(DECOYS)] for make in (other, standing)}
        return cls(prints, {kind: labels.index(LABELS[kind]) for kind in kinds})

    def add(self, picture, rng):
        """A copy of the picture's image, with its boxes and labels and those of what was hung."""
        scene = Scene(picture.image.copy(), picture, rng)
        scene.image = dusk(scene.image, rng) if rng.random() < 0.06 else scene.image
        boxes, labels = [], []
        kinds, weights = zip(*GROUPS)
        for kind in rng.choices(kinds, weights, k=rng.choice((1, 1, 2, 2, 3))):
            for _ in range(rng.choice((0, 1, 1, 2))):
                self.decoy(scene, [*picture.boxes, *boxes], rng)
            if kind not in self.labels:
                continue
            for box in getattr(self, kind)(scene, [*picture.boxes, *boxes], rng):
                boxes.append(box)
                labels.append(self.labels[kind])
        if rng.random() < 0.12:
            clock(scene.image, rng)
        if rng.random() < 0.35:
            _, data = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(45, 92)])
            scene.image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return scene.image, np.concatenate([picture.boxes, boxes]), np.concatenate([picture.labels, np.array(labels, np.int64)])

    def put(self, scene, flat, corners, taken, rng, limit=0.15, **how):
        """`hang`, where it covers no more than `limit` of anything labelled."""
        box = [*corners.min(0), *corners.max(0)]
        if any(overlap(box, other) > limit for other in taken):
            return None
        return hang(scene, flat, corners, rng, **how)

    def flyer(self, scene, taken, rng):
        """One, or several beside each other: often the same one again, askew, over each other's edge."""
        tall = scene.metre * rng.uniform(0.2, 0.5) if rng.random() < 0.3 else scene.height * math.exp(rng.uniform(math.log(0.022), math.log(0.3)))
        tall, count = max(tall, 9), rng.choice((1, 1, 1, 2, 3, 4, 6, 9))
        if count > 3:
            tall = min(tall, scene.height * 0.12)
        flats = rng.choices(self.prints["flyer"], k=rng.randint(1, count))
        x, y = scene.plain(rng)
        spread, out = tall * math.sqrt(count) * rng.uniform(0.6, 1.4), []
        for _ in range(count):
            flat = rng.choice(flats)
            high = tall * rng.uniform(0.8, 1.25) * min(1.0, 1.8 * flat.shape[0] / flat.shape[1])
            at = (x, y) if count == 1 else (x + rng.gauss(0, 0.8) * spread, y + rng.gauss(0, 0.6) * spread)
            roll = rng.gauss(0, 0.05) if rng.random() < 0.7 else rng.gauss(0, 0.2)
            corners = quad(high * flat.shape[1] / flat.shape[0], high, scene.yaw, roll, rng) + at
            box = self.put(scene, flat, corners, [*taken, *out], rng)
            out += [box] if box else []
        return out

    def banner(self, scene, taken, rng):
        flat = rng.choice(self.prints["banner"])
        aspect = flat.shape[1] / flat.shape[0]
        if aspect > 1:
            wide = scene.width * math.exp(rng.uniform(math.log(0.1), math.log(0.95)))
            high = wide / aspect
        else:
            high = scene.height * math.exp(rng.uniform(math.log(0.12), math.log(0.85)))
            wide = high * aspect
        if min(wide, high) < 6:
            return []
        at = scene.plain(rng)
        corners = quad(wide, high, scene.yaw * 0.8, rng.gauss(0, 0.04), rng) + at
        if rng.random() < 0.4:
            self.ropes(scene, corners, rng)
        box = self.put(scene, flat, corners, taken, rng, cover=0.3)
        return [box] if box else []

    def ropes(self, scene, corners, rng):
        colour, reach = rng.choice(((40, 40, 40), (220, 220, 220), (60, 60, 150))), rng.uniform(0.3, 1.5)
        middle = corners.mean(0)
        for corner in corners:
            far = corner + (corner - middle) * [reach * rng.uniform(0.1, 0.5), rng.uniform(-1, 1)]
            cv2.line(scene.image, tuple(int(v) for v in corner), tuple(int(v) for v in far), colour, 1, cv2.LINE_AA)

    def foot(self, scene, rng):
        """Height in pixels of a metre and where its foot is, for something that stands in the street."""
        near = rng.random()
        return scene.metre * (1 + 0.7 * near), scene.ground + near * (scene.height - scene.ground) * 0.95

    def board(self, scene, taken, rng):
        out, (metre, foot) = [], self.foot(scene, rng)
        if rng.random() < 0.5:
            tall = metre * rng.uniform(0.8, 2.1)
        else:
            tall = scene.height * math.exp(rng.uniform(math.log(0.06), math.log(0.6)))
            foot = max(foot, scene.height * rng.uniform(0.5, 1.0))
        x = rng.uniform(0.03, 0.97) * scene.width
        lit = scene.white.mean() < 110 and rng.random() < 0.5
        for _ in range(rng.choice((1, 1, 1, 2))):
            box = self.stand(scene, rng.choice(self.prints["board"]), tall, x, foot, [*taken, *out], rng, lit)
            out += [box] if box else []
            x += tall * rng.uniform(0.6, 1.2)
        return out

    def stand(self, scene, flat, tall, x, foot, taken, rng, lit=False):
        wide = tall * flat.shape[1] / flat.shape[0]
        corners = quad(wide, tall, rng.gauss(scene.yaw, 0.4), rng.gauss(0, 0.02), rng)
        corners += [x, foot - corners[:, 1].max()]
        box = [*corners.min(0), *corners.max(0)]
        if any(overlap(box, other) > 0.15 for other in taken):
            return None
        shadow(scene.image, int(box[0]), int(foot), max(2, int(box[2] - box[0])), max(2, int(0.5 * tall)), rng)
        return hang(scene, flat, corners, rng, lit, cover=0.25)

    def signboard(self, scene, taken, rng):
        flat = rng.choice(self.prints["signboard"])
        wide = scene.width * math.exp(rng.uniform(math.log(0.12), math.log(0.7)))
        at = rng.uniform(0.1, 0.9) * scene.width, rng.uniform(0.1, 0.7) * scene.height
        box = self.put(scene, flat, quad(wide, wide * flat.shape[0] / flat.shape[1], scene.yaw, 0, rng) + at, taken, rng)
        return [box] if box else []

    def decoy(self, scene, taken, rng):
        if rng.random() < 0.35:
            metre, foot = self.foot(scene, rng)
            self.stand(scene, rng.choice(self.prints["standing"]), metre * rng.uniform(0.4, 2.0), rng.uniform(0, 1) * scene.width, foot, taken, rng)
            return
        flat = rng.choice(self.prints["other"])
        high = scene.height * math.exp(rng.uniform(math.log(0.025), math.log(0.35)))
        at = rng.uniform(0.03, 0.97) * scene.width, rng.uniform(0.05, 0.95) * scene.height
        corners = quad(high * flat.shape[1] / flat.shape[0], high, scene.yaw, rng.gauss(0, 0.06), rng) + at
        self.put(scene, flat, corners, taken, rng, limit=0.05)


def dusk(image, rng):
    """A dark street, before anything is hung: what is lit in it stays so."""
    level = 255 * (np.arange(256) / 255) ** rng.uniform(1.4, 2.2) * rng.uniform(0.35, 0.7)
    return cv2.LUT(image, np.clip(level, 0, 255).astype(np.uint8))
