"""What weather does to a print, and things that hang and stand in streets and are no ads. BGRA."""

import math

import cv2
import numpy as np


def cloud(high, wide, patches, rng):
    """Soft patches of 0..1, about `patches` along the longer side."""
    noise = np.random.default_rng(rng.getrandbits(32))
    cell = max(high, wide) / patches
    small = noise.random((max(2, math.ceil(high / cell)), max(2, math.ceil(wide / cell)))).astype(np.float32)
    return np.clip(cv2.resize(small, (wide, high), interpolation=cv2.INTER_CUBIC), 0, 1)


def shaded(bgr, light):
    """`bgr` under `light` (1: as it is), which lies in [H, W]."""
    return np.clip(bgr * light[..., None], 0, 255).astype(np.uint8)


def worn(sheet, rng):
    """Paper after a while: folded, stained, bleached, its corners and edges torn."""
    high, wide = sheet.shape[:2]
    light = np.ones((high, wide), np.float32)
    for _ in range(rng.choice((0, 0, 1, 2))):  # a fold has a bright and a dark flank
        angle, at = rng.choice((0, math.pi / 2, rng.uniform(0, math.pi))), rng.uniform(0.2, 0.8)
        y, x = np.mgrid[0:high, 0:wide].astype(np.float32)
        away = (x - at * wide) * math.cos(angle) + (y - at * high) * math.sin(angle)
        light *= 1 + rng.uniform(0.05, 0.2) * np.sign(away) * np.exp(-np.abs(away) / rng.uniform(2, 20))
    if rng.random() < 0.5:
        light *= 1 - rng.uniform(0.1, 0.4) * cloud(high, wide, rng.randint(2, 8), rng)
    bgr = shaded(sheet[..., :3], light)
    if rng.random() < 0.3:  # the sun
        amount = rng.uniform(0.15, 0.5)
        bgr = cv2.addWeighted(bgr, 1 - amount, np.full_like(bgr, rng.randint(170, 225)), amount, 0)
    alpha = sheet[..., 3].copy()
    if rng.random() < 0.4:
        for _ in range(rng.randint(1, 3)):  # what is torn off
            x, y = rng.choice(((0, rng.uniform(0, high)), (wide, rng.uniform(0, high)), (rng.uniform(0, wide), 0), (rng.uniform(0, wide), high),
                               (0, 0), (wide, 0), (0, high), (wide, high)))
            reach = rng.uniform(0.08, 0.3) * min(wide, high)
            corners = [(x + reach * rng.uniform(0.4, 1.4) * math.cos(a), y + reach * rng.uniform(0.4, 1.4) * math.sin(a))
                       for a in np.linspace(0, 2 * math.pi, 9)[:-1]]
            cv2.fillPoly(alpha, [np.int32(corners)], 0)
    if rng.random() < 0.12:  # half scraped off
        alpha[cloud(high, wide, rng.randint(4, 10), rng) > rng.uniform(0.6, 0.85)] = 0
    return np.dstack([bgr, alpha])


def flowing(cloth, rng):
    """Cloth that hangs: it sags, waves and folds; ropes at its corners; sometimes slits for the wind."""
    high, wide = cloth.shape[:2]
    along, across = max(high, wide), min(high, wide)
    flat = wide >= high
    room = int(0.35 * across) + 4
    grown = cv2.copyMakeBorder(np.dstack([cloth, np.full((high, wide), 255, np.uint8)]), room, room, room, room, cv2.BORDER_CONSTANT)
    if rng.random() < 0.2:
        for at in np.linspace(0.12, 0.88, rng.randint(3, 6)):
            middle = (room + int(at * wide), room + high // 2) if flat else (room + wide // 2, room + int(at * high))
            cv2.ellipse(grown, middle, (max(2, across // 9),) * 2, 0, 0, 180, (0, 0, 0, 0), -1)
    y, x = np.mgrid[0 : grown.shape[0], 0 : grown.shape[1]].astype(np.float32)
    u, v = ((x - room) / along, (y - room) / across) if flat else ((y - room) / along, (x - room) / across)
    calm = rng.random() < 0.35
    sag = 0.0 if calm else rng.uniform(-0.03, 0.3) * (1 - (2 * u - 1) ** 2)
    shift, light = sag, np.ones_like(u)
    for _ in range(0 if calm else rng.randint(1, 3)):
        waves, phase = rng.uniform(0.7, 7.0), rng.uniform(0, 6.28)
        shift = shift + rng.uniform(0.0, 0.16) / waves**0.7 * np.sin(6.28 * waves * u + phase + v * rng.uniform(-1, 1))
    for _ in range(rng.randint(1, 4)):  # folds stand across, and lean
        waves, phase, lean = rng.uniform(2, 22), rng.uniform(0, 6.28), rng.uniform(-3, 3)
        light += rng.uniform(0.02, 0.16) * np.sin(6.28 * waves * u + phase + lean * v) * (0.4 + 0.6 * cloud(*u.shape, 6, rng))
    if rng.random() < 0.4:  # drawn together towards its corners
        pull = rng.uniform(3, 9)
        light += 0.2 * np.sin(25 * (u + rng.choice((-1, 1)) * 0.25 * v)) * (np.exp(-pull * 3 * np.abs(u)) + np.exp(-pull * 3 * np.abs(1 - u)))
    moved = np.float32(shift) * across
    out = cv2.remap(grown, x if flat else x + moved, y - moved if flat else y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    out[..., :3] = shaded(out[..., :3], light)
    return trimmed(out)


def trimmed(print_):
    """Cut to what is not transparent."""
    rows, columns = np.nonzero(print_[..., 3].max(1) > 40)[0], np.nonzero(print_[..., 3].max(0) > 40)[0]
    return np.ascontiguousarray(print_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def opaque(bgr):
    return np.dstack([bgr, np.full(bgr.shape[:2], 255, np.uint8)])


COLOURS = ((240, 240, 240), (200, 205, 205), (120, 125, 130), (60, 60, 60), (35, 25, 170), (150, 70, 20), (60, 110, 30), (40, 190, 240),
           (140, 170, 190), (60, 80, 120), (190, 160, 120))


def other(photos, rng):
    """Something flat that is no ad: whoever learns pasted edges, plain colours or rectangles learns wrongly from it."""
    colour = np.float32(rng.choice(COLOURS)) + rng.uniform(-15, 15)
    high, wide = rng.randint(40, 160), rng.randint(40, 160)
    kind = rng.random()
    if kind < 0.4:  # a piece of another street
        photo = rng.choice(photos)
        h, w = photo.shape[:2]
        high, wide = min(high, h - 1), min(wide, w - 1)
        x, y = rng.randrange(w - wide), rng.randrange(h - high)
        return opaque(photo[y : y + high, x : x + wide].copy())
    face = np.full((high, wide, 3), np.clip(colour, 0, 255), np.uint8)
    if kind < 0.55:  # paper without a word, a plate, a patch of paint
        return worn(opaque(face), rng)
    if kind < 0.68:  # washing, an awning, a tarpaulin
        for at in np.arange(0, wide, rng.uniform(6, 30)) if rng.random() < 0.4 else ():
            cv2.line(face, (int(at), 0), (int(at), high), rng.choice(COLOURS), rng.randint(2, 8))
        return flowing(cv2.resize(face, None, fx=rng.uniform(1, 4), fy=1), rng)
    if kind < 0.84:  # panes, shutters, vents, tiles
        columns, rows = rng.choice(((1, 12), (12, 1), (2, 2), (2, 3), (3, 4), (6, 8), (1, 1)))
        line, thick = tuple(int(c) for c in np.clip(colour * rng.choice((0.5, 1.5)), 0, 255)), rng.randint(1, 5)
        for k in range(columns + 1):
            cv2.line(face, (k * (wide - 1) // columns, 0), (k * (wide - 1) // columns, high), line, thick)
        for k in range(rows + 1):
            cv2.line(face, (0, k * (high - 1) // rows), (wide, k * (high - 1) // rows), line, thick)
        return opaque(shaded(face, 0.7 + 0.6 * cloud(high, wide, rng.randint(1, 5), rng)))
    out = np.zeros((high, high, 4), np.uint8)  # a traffic sign, a lamp, a dish
    cv2.circle(out, (high // 2, high // 2), high // 2 - 1, (*np.clip(colour, 0, 255).tolist(), 255), -1)
    cv2.circle(out, (high // 2, high // 2), high // 2 - high // 12 - 1, (*rng.choice(COLOURS), 255), max(1, high // rng.randint(6, 14)))
    if rng.random() < 0.5:
        cv2.line(out, (high // 4, high // 2), (3 * high // 4, high // 2), (*rng.choice(COLOURS), 255), max(1, high // 8))
    return out


def standing(photos, rng):
    """Something that stands on the ground and is no board: a cabinet, a planter, a bin, a bollard, a person cut out roughly."""
    high, wide = rng.randint(90, 180), rng.randint(40, 110)
    if rng.random() < 0.5:
        photo = rng.choice(photos)
        h, w = photo.shape[:2]
        high, wide = min(high, h - 1), min(wide, w - 1)
        x, y = rng.randrange(w - wide), rng.randrange(h - high)
        face = photo[y : y + high, x : x + wide].copy()
        return opaque(face) if rng.random() < 0.5 else rounded(face)
    face = np.full((high, wide, 3), rng.choice(COLOURS), np.uint8)
    for k in range(rng.choice((0, 0, 3, 8))):
        cv2.line(face, (wide // 6, high // 6 + 6 * k), (wide - wide // 6, high // 6 + 6 * k), tuple(int(c) // 2 for c in face[0, 0]), 2)
    if rng.random() < 0.4:
        cv2.rectangle(face, (wide // 8, high // 10), (wide - wide // 8, high // 2), tuple(int(c) * 2 // 3 for c in face[0, 0]), rng.choice((2, 3, -1)))
    side = np.full((high, rng.randint(3, 40), 3), [int(c) // 2 for c in face[0, 0]], np.uint8)
    whole = np.hstack([face, side] if rng.random() < 0.5 else [side, face])
    whole = shaded(whole, 0.75 + 0.5 * cloud(*whole.shape[:2], rng.randint(1, 5), rng))
    return opaque(whole) if rng.random() < 0.7 else rounded(whole)


def rounded(face):
    h, w = face.shape[:2]
    alpha = np.zeros((h, w), np.uint8)
    cv2.rectangle(alpha, (w // 8, h // 8), (w - w // 8, h), 255, -1)
    cv2.ellipse(alpha, (w // 2, h // 8 + 2), (max(1, 3 * w // 8), max(1, h // 8)), 0, 0, 360, 255, -1)
    return np.dstack([face, cv2.GaussianBlur(alpha, (0, 0), 1.5)])
