"""Draws what is lawfully on a street and looks a little like garbage: training pictures only, and unlabelled on purpose.

Wet and stained paving, manholes, kerbs, painted cabinets, planters, leaves, snow, bollards and benches. They are simple shapes with the
light, the shadow and the soft edges of the pasted bags (compose.py), so that having been pasted tells nothing about being garbage.
Every kind returns BGRA of the given height; what lies flat (FLAT) is blended into the ground instead of standing on it.
"""

import math

import cv2
import numpy as np


def blob(height, width, rng, rough=0.3):
    """A mask [H, W] 0..1 of one irregular closed outline that fills the frame."""
    count = rng.randint(9, 16)
    turns = [2 * math.pi * i / count for i in range(count)]
    reach = [1 - rough * rng.random() for _ in turns]
    points = [[width / 2 * (1 + r * math.cos(t)), height / 2 * (1 + r * math.sin(t))] for t, r in zip(turns, reach)]
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [np.int32(points)], 1.0)
    return cv2.GaussianBlur(mask, (0, 0), max(0.6, 0.04 * min(height, width)))


def grain(height, width, rng, coarse):
    """Noise [H, W] about 0 with a spread of 1 and a grain of `coarse` pixels."""
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 1, (max(2, round(height / coarse)), max(2, round(width / coarse))))
    noise = cv2.resize(noise.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return noise / max(float(noise.std()), 1e-3)


def colour(rng, saturation=(0, 160), value=(30, 220)):
    hsv = np.uint8([[[rng.randrange(180), rng.randint(*saturation), rng.randint(*value)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


def shaded(base, mask, rng, texture=6.0):
    """BGRA of one colour, lighter on one side, with a little texture."""
    h, w = mask.shape
    side = np.linspace(rng.uniform(0.75, 1.2), rng.uniform(0.75, 1.2), w)[None, :, None]
    image = base * side + texture * grain(h, w, rng, rng.uniform(1.5, 6))[..., None]
    return np.dstack([np.clip(image, 0, 255), 255 * mask]).astype(np.uint8)


def cabinet(height, rng):
    """A utility cabinet: doors, vents, often painted or sprayed on."""
    width = max(6, round(height * rng.uniform(0.45, 1.6)))
    saturation = (0, 40) if rng.random() < 0.5 else (40, 190)
    box = shaded(colour(rng, saturation, (50, 210)), np.ones((height, width), np.float32), rng)
    image = np.ascontiguousarray(box[..., :3])
    dark = [float(v) * 0.6 for v in image.reshape(-1, 3).mean(0)]
    if rng.random() < 0.45:
        for _ in range(rng.randint(2, 9)):
            middle = rng.randrange(width), rng.randrange(height)
            radius = max(1, round(rng.uniform(0.05, 0.3) * height))
            cv2.ellipse(image, middle, (radius, max(1, radius // rng.randint(1, 3))), rng.randrange(180), 0, rng.randint(120, 360),
                        colour(rng, (60, 220), (60, 250)).tolist(), rng.choice((-1, max(1, height // 30))))
    for i in range(1, rng.randint(1, 3)):
        x = width * i // 2
        cv2.line(image, (x, 0), (x, height), dark, max(1, height // 60))
    for y in range(round(0.1 * height), round(0.1 * height) + rng.choice((0, 0, max(2, height // 6))), max(2, height // 30)):
        cv2.line(image, (width // 6, y), (width // 3, y), dark, 1)
    cv2.rectangle(image, (0, 0), (width - 1, max(1, height // 25)), dark, -1)
    box[..., :3] = image
    return box


def planter(height, rng):
    """A tub or trough, with a shrub, flowers or bare earth over its rim."""
    width = max(6, round(height * rng.uniform(0.5, 2.2)))
    rim, taper = round(height * rng.uniform(0.3, 0.65)), rng.uniform(0, 0.18) * width
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [np.int32([[0, rim], [width, rim], [width - taper, height], [taper, height]])], 1.0)
    tub = shaded(colour(rng, (0, 110), (40, 210)), mask, rng)
    green = cv2.resize(blob(max(4, rim + 4), width, rng, 0.45), (width, max(4, rim + 4)))
    leaf = np.float32([rng.uniform(20, 60), rng.uniform(70, 140), rng.uniform(40, 110)])
    plant = np.clip(leaf * (1 + 0.4 * grain(*green.shape, rng, max(1.5, height / 25))[..., None]), 0, 255)
    if rng.random() < 0.4:
        bloom = grain(*green.shape, rng, max(1.5, height / 30)) > 1.6
        plant[bloom] = colour(rng, (80, 220), (150, 255))
    top = tub[: green.shape[0]]
    alpha = green[..., None]
    top[..., :3] = plant * alpha + top[..., :3] * (1 - alpha)
    top[..., 3] = np.maximum(top[..., 3], 255 * green)
    return tub


def bollard(height, rng):
    width = max(3, round(height * rng.uniform(0.14, 0.4)))
    mask = np.ones((height, width), np.float32)
    cut = shaded(colour(rng, (0, 60) if rng.random() < 0.7 else (120, 220), (40, 220)), mask, rng, 3.0)
    for _ in range(rng.randint(0, 3)):
        y = rng.randrange(height)
        cut[y : y + max(1, height // 8), :, :3] = rng.choice(((235, 235, 235), (40, 40, 190), (30, 30, 30)))
    return cut


def bench(height, rng):
    """Slats on legs; what is between them stays visible."""
    width = max(8, round(height * rng.uniform(1.2, 2.6)))
    mask, thick = np.zeros((height, width), np.float32), max(1, height // 9)
    for y in np.linspace(0, 0.6 * height, rng.randint(3, 5)):
        mask[round(y) : round(y) + thick] = 1.0
    for x in (0.08, 0.85):
        mask[:, round(x * width) : round(x * width) + thick] = 1.0
    return shaded(colour(rng, (20, 130), (50, 190)), mask, rng)


def leaves(height, rng):
    """A heap or a scatter of leaves: many small ellipses of autumn colours, denser in the middle."""
    width = max(8, round(height * rng.uniform(1.5, 4)))
    image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    side, loose = max(1, round(height * rng.uniform(0.03, 0.08))), rng.uniform(0.25, 0.5)
    for _ in range(rng.randint(150, 500)):
        x, y = rng.gauss(width / 2, width * loose / 2), height - abs(rng.gauss(0, height * 0.45))
        hsv = np.uint8([[[rng.randint(6, 32), rng.randint(60, 200), rng.randint(40, 200)]]])
        tone = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].tolist()
        place = (round(x), round(y)), (side, max(1, side // 2)), rng.randrange(180), 0, 360
        cv2.ellipse(image, *place, tone, -1)
        cv2.ellipse(mask, *place, 255, -1)
    return np.dstack([image, mask])


def snow(height, rng):
    """A heap of shovelled snow, clean or grey, with lumps and a blue shade below."""
    width = max(8, round(height * rng.uniform(1.3, 4)))
    mask = blob(2 * height, width, rng, 0.35)[:height]
    lump = 1 + 0.07 * grain(height, width, rng, max(2.0, height / rng.uniform(4, 12)))
    fall = np.linspace(1.05, rng.uniform(0.6, 0.85), height)[:, None]
    white = np.float32([rng.uniform(215, 250), rng.uniform(210, 240), rng.uniform(200, 240)]) * rng.uniform(0.7, 1.0)
    return np.dstack([np.clip(white * (lump * fall)[..., None], 0, 255), 255 * mask]).astype(np.uint8)


def manhole(height, rng):
    """A cover in the ground: a flat ellipse or a rectangle, ribbed."""
    flat = max(4, round(height * rng.uniform(0.2, 0.45)))
    width = max(8, round(flat * rng.uniform(1.6, 3.2)))
    mask, image = np.zeros((flat, width), np.float32), np.zeros((flat, width, 3), np.float32)
    if rng.random() < 0.7:
        cv2.ellipse(mask, (width // 2, flat // 2), (width // 2 - 1, flat // 2 - 1), 0, 0, 360, 1.0, -1)
    else:
        lean = round(width * rng.uniform(-0.2, 0.2))
        points = [[max(lean, 0), 0], [width + min(lean, 0), 0], [width - max(lean, 0), flat], [-min(lean, 0), flat]]
        cv2.fillPoly(mask, [np.int32(points)], 1.0)
    image[:] = colour(rng, (0, 60), (30, 130))
    for x in range(0, width, max(2, width // rng.randint(5, 12))):
        cv2.line(image, (x, 0), (x, flat), (image[0, 0] * 0.6).tolist(), 1)
    return np.dstack([np.clip(image, 0, 255), 255 * mask * rng.uniform(0.6, 1)]).astype(np.uint8)


def kerb(height, rng):
    """A pale or dark strip of stones that runs across, or a painted line."""
    flat, width = max(3, round(height * rng.uniform(0.06, 0.16))), round(height * rng.uniform(3, 9))
    mask = np.ones((flat, width), np.float32)
    strip = shaded(colour(rng, (0, 30) if rng.random() < 0.8 else (100, 200), (60, 235)), mask, rng, 10.0)
    for x in range(0, width, max(4, round(height * rng.uniform(0.4, 1.2)))):
        strip[:, x : x + 1, :3] //= 2
    turn = cv2.getRotationMatrix2D((width / 2, flat / 2), rng.uniform(-12, 12), 1.0)
    tall = flat + round(0.22 * width)
    turn[1, 2] += (tall - flat) / 2
    return cv2.warpAffine(strip, turn, (width, tall))


STANDING = ((0.3, cabinet, 0.7, 1.6), (0.25, planter, 0.4, 1.1), (0.13, bollard, 0.5, 1.1), (0.1, bench, 0.5, 0.9), (0.12, leaves, 0.1, 0.4),
            (0.1, snow, 0.2, 0.7))
FLAT = ((0.55, manhole, 0.5, 1.6), (0.45, kerb, 0.8, 1.6))


def chosen(kinds, metre, rng):
    _, make, low, high = rng.choices(kinds, [k[0] for k in kinds])[0]
    return make(max(6, round(metre * rng.uniform(low, high))), rng)


def wetted(image, x, foot, metre, rng):
    """Wet or stained ground in place: darker, smoother, or paler, and for some with a blurred reflection of what is above."""
    h, w = max(4, round(metre * rng.uniform(0.15, 0.9))), max(8, round(metre * rng.uniform(0.5, 3.5)))
    x0, y0, x1, y1 = max(0, x), max(0, foot - h), min(image.shape[1], x + w), min(image.shape[0], foot)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return
    under = image[y0:y1, x0:x1].astype(np.float32)
    mask = blob(y1 - y0, x1 - x0, rng, 0.5)[..., None] * rng.uniform(0.5, 1.0)
    new = cv2.GaussianBlur(under, (0, 0), max(0.5, 0.03 * metre)) * rng.uniform(0.4, 0.75)
    kind = rng.random()
    if kind < 0.45 and y0 > y1 - y0:
        sky = cv2.GaussianBlur(image[2 * y0 - y1 : y0, x0:x1][::-1], (0, 0), max(1.0, 0.06 * metre)).astype(np.float32)
        new = new * 0.7 + sky * rng.uniform(0.2, 0.6)
    elif kind < 0.65:
        new = under * rng.uniform(1.15, 1.6) + rng.uniform(0, 25)  # spilt paint, lime, salt
    elif kind < 0.8:
        new = new * np.float32([0.8, 0.95, 1.05]) + 12 * grain(*under.shape[:2], rng, max(2.0, metre / 8))[..., None]
    image[y0:y1, x0:x1] = np.clip(new * mask + under * (1 - mask), 0, 255)
