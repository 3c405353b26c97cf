#!/usr/bin/env python3
"""Builds the demo's three camera clips from demo/assets. Not needed to build, test or run gridwatch.

    python3 -m pip install -r demo/requirements.txt     # ffmpeg with libx264 and libx265 is needed too
    python3 demo/make_clips.py                          # writes demo/clips/{street-a,street-b,square-c}.mp4

The house fronts, the bags and the people are photographs and footage (see ATTRIBUTION.md), but they were never together in
one scene, and the banner on the gate and the stall on the square are drawn here. Every clip carries the caption "composite".

street-a and street-b are two cameras on one pole. Pictures of two cameras at one point differ by the homography
K_b R K_a^-1 (Hartley and Zisserman, Multiple View Geometry, 2nd ed., 8.4.2), so street-b is that warp of street-a's
composite, and the ground points that `calibration()` computes for both agree: one heap, one site, one case.
"""

import argparse
import pathlib
import subprocess
import sys

import cv2
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ASSETS = HERE / "assets"
WIDTH, HEIGHT = 1280, 720
FPS = 10  # the person clip's own rate
GOP = 2 * FPS

# ---------------------------------------------------------------------------------------------------- scenes

# The heap: (bag, x and y of its foot in street-a, width in pixels, mirrored), back to front.
HEAP = [
    ("bag_0345.png", 843, 615, 127, True),
    ("bag_0200.png", 941, 602, 118, True),
    ("bag_0328.png", 1007, 618, 116, True),
    ("bag_0150.png", 796, 636, 99, True),
    ("bag_0124.png", 885, 639, 133, True),
    ("bag_0090.png", 973, 644, 111, True),
]
HEAP_FROM_S = 3.0  # while the departing man still hides part of the place
# The unapproved banner, tied to the gate between two approved signs (part of the photograph): its place in street-a, and
# how far it sags.
BANNER = dict(left=455, top=170, width=365, height=120, sag=8)
BANNER_LINES = [("ROOMS TO LET", 0.38, 0.50), ("TEL 000-0000-0000", 0.88, 0.20)]  # text, its foot or middle, its height
STREET_S = 44  # whole GOPs, so that the loop has no seam in the stream

# Where the person clip (768 x 432) is placed: its scale, and the position of its bottom right corner.
MAN = dict(scale=1.12, right=1280, bottom=766)
VENDOR = dict(scale=1.0, right=1280, bottom=738)
STALL_LEFT, STALL_TOP = 485, 165
STALL_FROM_S = 14.0  # of the clip, when the woman comes
FLOOR_ROW = 245  # of the person clip: the wall is above it
# Seconds of assets/people.mp4. On the street: the man's last moments at the table, and his leaving.
MAN_FROM_S, MAN_TO_S = 12.2, 17.8
# On the square: he arrives, stays for a few seconds (most of his standing is cut out) and leaves; then a woman stays for 25 s.
SQUARE_PARTS_S = [(4.0, 9.0), (13.0, 50.0)]

# One pole, two pinhole cameras with square pixels. street-a is level (with a shifted lens: the photograph's verticals are
# parallel). Height above the pavement, focal length and horizon follow from a door leaf of 2.1 m, which is 343 pixels high
# at the wall, whose foot is at row 490.
POLE_M = 2.28
FOCAL_PX = 1150.0
HORIZON_ROW = 118.0
# street-b relative to street-a: panned right, tilted down, rolled slightly, with a longer lens.
B_YAW_DEG, B_PITCH_DEG, B_ROLL_DEG, B_FOCAL_PX = 6.5, 14.2, 1.0, 1800.0

# Fictitious: the pole's position and the heading of the lens, clockwise from north.
POLE_LON, POLE_LAT, HEADING_DEG = 121.5002, 31.2301, 20.0


# ---------------------------------------------------------------------------------------------------- pictures


def enlarge(picture):
    """Upscales a photograph to the frame size with Lanczos and a mild unsharp mask, so that it is as sharp as a real camera."""
    big = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_LANCZOS4)
    return cv2.addWeighted(big, 1.35, cv2.GaussianBlur(big, (0, 0), 2.0), -0.35, 0)


def plate(name, pavement_row, extra_rows, left=0, right=None):
    """A house front with more pavement in the foreground than the photograph has.

    Rows below `pavement_row` are stretched by `extra_rows`, nearer rows more, as perspective does; the top is cropped by
    as many rows.
    """
    photo = cv2.imread(str(ASSETS / name))[:, left:right]
    height, width = photo.shape[:2]
    rows = np.arange(pavement_row, height + extra_rows, dtype=np.float32)
    t = (rows - pavement_row) / (len(rows) - 1)
    ground = height - 1 - pavement_row
    slope = min((len(rows) - 1) / ground, 1.7)  # no stretch at the seam, where it would show; above 2 the rows would reverse
    source = pavement_row + ground * (slope * t + (1 - slope) * t * t)
    source = np.concatenate([np.arange(pavement_row, dtype=np.float32), np.clip(source, 0, height - 1)])
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), source.astype(np.float32))
    tall = cv2.remap(photo, xs, ys, cv2.INTER_CUBIC)
    wanted = round(width * HEIGHT / WIDTH)
    return enlarge(tall[len(tall) - wanted:])


def paste(picture, patch, alpha, left, top):
    """Composites `patch` over `picture` in place, clipped to the frame."""
    h, w = alpha.shape
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, WIDTH), min(top + h, HEIGHT)
    if x1 >= x2 or y1 >= y2:
        return
    inner = np.s_[y1 - top:y2 - top, x1 - left:x2 - left]
    a = alpha[inner][..., None]
    picture[y1:y2, x1:x2] = (picture[y1:y2, x1:x2] * (1 - a) + patch[inner] * a).astype(np.uint8)


def shadow(picture, x, y, half_width, half_height, depth):
    """Draws a soft contact shadow on the ground around (x, y)."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(mask, (int(x), int(y)), (int(half_width), int(half_height)), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), max(half_height * 0.7, 2))
    picture[:] = (picture * (1 - depth * mask[..., None])).astype(np.uint8)


def bag(name, width, mirrored, scene_luma):
    """A cut-out bag at its size in the scene, desaturated and matched to the scene's brightness."""
    rgba = cv2.imread(str(ASSETS / name), cv2.IMREAD_UNCHANGED)
    if mirrored:
        rgba = rgba[:, ::-1]
    height = round(rgba.shape[0] * width / rgba.shape[1])
    rgba = cv2.resize(rgba, (width, height), interpolation=cv2.INTER_AREA if width < rgba.shape[1] else cv2.INTER_CUBIC)
    alpha = cv2.erode(rgba[..., 3], np.ones((3, 3), np.uint8)).astype(np.float32) / 255
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.9)
    bgr = rgba[..., :3].astype(np.float32)
    grey = bgr.mean(axis=2, keepdims=True)
    bgr = grey + (bgr - grey) * 0.72
    inside = alpha > 0.5
    gain = np.clip(0.35 + 0.65 * scene_luma / max(grey[inside].mean(), 1), 0.75, 1.35)
    # The underside of a bag is darker than its top.
    falloff = np.linspace(1.06, 0.72, height, dtype=np.float32)[:, None, None]
    return np.clip(bgr * gain * falloff, 0, 255), alpha


def with_heap(picture, heap):
    """The scene with the heap of bags."""
    scene = picture.copy()
    for name, x, y, width, mirrored in heap:
        luma = float(picture[y - 20:y + 20, x - 60:x + 60].mean())
        bgr, alpha = bag(name, width, mirrored, luma)
        h, w = alpha.shape
        shadow(scene, x + 4, y - 3, w * 0.56, max(h * 0.10, 6), 0.55)
        paste(scene, bgr, alpha, int(x - w / 2), int(y - h))
    return scene


def banner(width, height):
    """A cloth with red letters, drawn large and scaled down for antialiasing, with slight folds, darker at the bottom."""
    k = 3
    cloth = np.full((height * k, width * k, 3), (235, 240, 240), np.uint8)
    red, font = (40, 30, 185), cv2.FONT_HERSHEY_DUPLEX
    for text, middle, share in BANNER_LINES:
        (w, h), _ = cv2.getTextSize(text, font, 1, 1)
        scale = min(width * k * 0.9 / w, height * k * share / h)
        stroke = max(1, int(scale * 2.6))
        (w, h), _ = cv2.getTextSize(text, font, scale, stroke)
        foot = int(height * k * middle + (h / 2 if middle < 0.5 else 0))
        cv2.putText(cloth, text, ((width * k - w) // 2, foot), font, scale, red, stroke, cv2.LINE_AA)
    cv2.rectangle(cloth, (6, 6), (width * k - 7, height * k - 7), red, 4)
    cloth = cv2.resize(cloth, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    folds = 1 + 0.07 * np.sin(np.linspace(0, 6 * np.pi, width))
    return np.clip(cloth * folds[None, :, None] * np.linspace(1.05, 0.85, height)[:, None, None], 0, 255)


def with_banner(picture, left, top, width, height, sag):
    """The scene with the banner hanging from its two upper corners."""
    scene = picture.copy()
    cloth = banner(width, height)
    patch, alpha = np.zeros((height + sag, width, 3), np.float32), np.zeros((height + sag, width), np.float32)
    down = (sag * (1 - (2 * np.linspace(0, 1, width) - 1) ** 2)).round().astype(int)
    for x, y in enumerate(down):
        patch[y:y + height, x] = cloth[:, x]
        alpha[y:y + height, x] = 1
    shadow(scene, left + width / 2 + 6, top + height + sag, width * 0.5, 10, 0.35)
    paste(scene, patch, cv2.GaussianBlur(alpha, (0, 0), 0.8), left, top)
    return scene


class Drawing:
    """Shapes in pixels of the finished picture, drawn three times as large and scaled down for antialiasing."""

    TIMES = 3

    def __init__(self, width, height):
        self.size = (width, height)
        self.bgr = np.zeros((height * self.TIMES, width * self.TIMES, 3), np.float32)
        self.alpha = np.zeros(self.bgr.shape[:2], np.float32)

    def polygon(self, points, colour, light=None):
        """Fills a polygon; `light` is a gain for each pixel of the drawing."""
        inside = np.zeros(self.alpha.shape, np.uint8)
        cv2.fillPoly(inside, [np.round(np.array(points) * self.TIMES).astype(np.int32)], 1)
        inside = inside > 0
        gain = np.ones(self.alpha.shape, np.float32) if light is None else light
        self.bgr[inside] = np.array(colour, np.float32) * gain[inside][:, None]
        self.alpha[inside] = 1

    def ball(self, x, y, radius, colour):
        """A matt ball, lit from the upper left."""
        inside = np.zeros(self.alpha.shape, np.uint8)
        cv2.circle(inside, (int(x * self.TIMES), int(y * self.TIMES)), int(radius * self.TIMES), 1, -1)
        ys, xs = np.nonzero(inside)
        aside, below = (xs / self.TIMES - x) / radius + 0.35, (ys / self.TIMES - y) / radius + 0.4
        light = np.clip(1.12 - 0.42 * (aside**2 + below**2), 0.45, 1.12)
        self.bgr[ys, xs] = np.array(colour, np.float32) * light[:, None]
        self.alpha[ys, xs] = 1

    def finish(self):
        """Colour and alpha at their final size, no sharper than the photograph around them."""
        bgr = cv2.resize(self.bgr, self.size, interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(bgr, (0, 0), 0.8), cv2.resize(self.alpha, self.size, interpolation=cv2.INTER_AREA)


def parasol(drawing, left, right, top, rim):
    """Eight panels between the tip and the rim, lit from the left."""
    tip = ((left + right) / 2, top)
    drawing.polygon([(tip[0] - 4, 60), (tip[0] + 4, 60), (tip[0] + 5, 330), (tip[0] - 5, 330)], (170, 172, 175))

    def edge(x, y):
        t = np.linspace(0, 1, 12)
        return list(zip(tip[0] + (x - tip[0]) * t, tip[1] + (y - tip[1]) * (0.55 * t**1.5 + 0.45 * t)))

    panels = np.linspace(0, 1, 9)
    xs = left + (right - left) * (0.5 - 0.5 * np.cos(np.pi * panels))
    ys = rim + 16 * np.sin(np.pi * panels)
    for i in range(8):
        (x0, y0), (x1, y1) = (xs[i], ys[i]), (xs[i + 1], ys[i + 1])
        middle = ((x0 + x1) / 2, (y0 + y1) / 2 - 7)
        colour = np.array([(52, 46, 190), (70, 66, 215)][i % 2], np.float32) * (1.08 - 0.5 * (panels[i] + panels[i + 1]) / 2)
        drawing.polygon(edge(x0, y0) + [middle] + edge(x1, y1)[::-1], colour)
        drawing.polygon([(x0, y0), middle, (x1, y1), (x1, y1 + 5), (middle[0], middle[1] + 7), (x0, y0 + 5)], colour * 0.65)
    drawing.polygon([(tip[0] - 3, 4), (tip[0] + 3, 4), (tip[0] + 4, 18), (tip[0] - 4, 18)], (60, 60, 62))


def stall():
    """A table under a cloth with crates of fruit on it, and a parasol behind: colour and alpha."""
    rng = np.random.default_rng(3)
    drawing = Drawing(420, 520)
    parasol(drawing, 10, 408, 14, 128)
    left, right, top = 30, 392, 336
    drawing.polygon([(left + 24, top - 40), (right - 24, top - 40), (right, top), (left, top)], (150, 158, 150))
    xs, ys = (np.arange(n * Drawing.TIMES, dtype=np.float32) / Drawing.TIMES for n in drawing.size)
    folds = 1 + 0.08 * np.sin(0.22 * xs) + 0.05 * np.sin(0.09 * xs + 1)
    light = folds[None, :] * np.clip(1 - (ys - top) / 520, 0.6, 1)[:, None]
    hem = [(x, top + 150 + 3 * np.sin(0.2 * x)) for x in range(right, left - 1, -4)]
    drawing.polygon([(left, top), (right, top)] + hem, (128, 92, 58), light)
    for x in (44, 372):
        drawing.polygon([(x, top + 148), (x + 8, top + 148), (x + 8, top + 182), (x, top + 182)], (60, 62, 66))
    for x, colour in ((44, (20, 120, 238)), (162, (36, 44, 190)), (280, (60, 170, 90))):
        for row in range(2):
            for k in range(6):
                at = (x + 10 + 17 * k + 8 * row + rng.uniform(-1.5, 1.5), top - 44 - 13 * row + rng.uniform(-1.5, 1.5))
                drawing.ball(*at, 10.5, np.array(colour) * rng.uniform(0.85, 1.1))
        drawing.polygon([(x, top - 40), (x + 106, top - 40), (x + 106, top - 4), (x, top - 4)], (96, 140, 178))
        for y in (top - 31, top - 19, top - 7):
            drawing.polygon([(x, y - 2), (x + 106, y - 2), (x + 106, y + 1), (x, y + 1)], (48, 76, 104))
    return drawing.finish()


def with_stall(picture):
    """The scene with the stall."""
    scene = picture.copy()
    bgr, alpha = stall()
    shadow(scene, STALL_LEFT + 210, STALL_TOP + 512, 200, 16, 0.5)
    paste(scene, bgr * 0.86, alpha, STALL_LEFT, STALL_TOP)
    return scene


# ---------------------------------------------------------------------------------------------------- people


class People:
    """The person clip, with moving people segmented against the empty room."""

    def __init__(self):
        self.frames = []
        capture = cv2.VideoCapture(str(ASSETS / "people.mp4"))
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            self.frames.append(frame)
        # The first four seconds show only the room and the table.
        self.empty = np.median(np.stack(self.frames[:4 * FPS:2]), axis=0).astype(np.uint8)

    def matte(self, index):
        """Frame `index` and its alpha, 0..1: what differs from the empty room, without shadows."""
        frame = self.frames[min(index, len(self.frames) - 1)]
        a = cv2.GaussianBlur(frame, (0, 0), 1.0).astype(np.float32) + 1
        b = cv2.GaussianBlur(self.empty, (0, 0), 1.0).astype(np.float32) + 1
        ratio = a / b
        differs = np.abs(a - b).max(axis=2) > 30
        # A shadow darkens all channels equally and only slightly.
        even = (ratio.max(axis=2) - ratio.min(axis=2)) < 0.16
        shade = even & (ratio.mean(axis=2) > 0.6) & (ratio.mean(axis=2) < 1.0)
        shade[:FLOOR_ROW] = False  # shadows on the white wall are too faint to differ, but a grey coat would match
        wood = a[..., 2] - a[..., 0] > 40  # brown below the hip is wood, not clothes
        wood[:FLOOR_ROW] = False
        mask = (differs & ~shade & ~wood).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
        if count < 2:
            return frame, np.zeros(mask.shape, np.float32)
        keep = (labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])).astype(np.uint8)  # one person at a time
        keep = cv2.erode(keep, np.ones((3, 3), np.uint8))
        return frame, cv2.GaussianBlur(keep.astype(np.float32), (0, 0), 1.1)

    @staticmethod
    def place(picture, cutout, at, gain=0.92):
        """Composites a cut-out of the clip into the scene."""
        frame, alpha = cutout
        w, h = round(frame.shape[1] * at["scale"]), round(frame.shape[0] * at["scale"])
        frame = cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(alpha, (w, h), interpolation=cv2.INTER_AREA)
        left, top = at["right"] - w, at["bottom"] - h
        ys, xs = np.nonzero(alpha > 0.5)
        if len(ys) == 0:
            return
        foot = ys.max()
        if foot < h - 6:  # not cut off by the clip's lower edge
            low = xs[ys > foot - 14]
            shadow(picture, left + low.mean(), top + foot - 4, (low.max() - low.min()) / 2 + 14, 9, 0.5)
        paste(picture, frame.astype(np.float32) * gain, alpha, left, top)


# ---------------------------------------------------------------------------------------------------- geometry


def intrinsics(focal, row):
    return np.array([[focal, 0, WIDTH / 2], [0, focal, row], [0, 0, 1]], np.float64)


def rotation_a_to_b():
    """The rotation from street-a's camera frame (x right, y down, z forward) to street-b's."""
    y, p, r = np.deg2rad([B_YAW_DEG, B_PITCH_DEG, B_ROLL_DEG])
    yaw = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    pitch = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    roll = np.array([[np.cos(r), np.sin(r), 0], [-np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return roll @ pitch @ yaw


def a_to_b():
    """The homography from street-a's pixels to street-b's."""
    return intrinsics(B_FOCAL_PX, HEIGHT / 2) @ rotation_a_to_b() @ np.linalg.inv(intrinsics(FOCAL_PX, HORIZON_ROW))


def ground(x, y):
    """`(lon, lat)` of a ground point from its street-a pixel."""
    ahead = FOCAL_PX * POLE_M / (y - HORIZON_ROW)
    aside = (x - WIDTH / 2) / FOCAL_PX * ahead
    h = np.deg2rad(HEADING_DEG)
    east, north = ahead * np.sin(h) + aside * np.cos(h), ahead * np.cos(h) - aside * np.sin(h)
    return (POLE_LON + east / (111_320 * np.cos(np.deg2rad(POLE_LAT))), POLE_LAT + north / 110_870)


def calibration():
    """Prints the point pairs for configs/demo.toml in its own format."""
    to_b = a_to_b()
    to_a = np.linalg.inv(to_b)
    grid = [(0.06, 0.72), (0.94, 0.72), (0.06, 0.97), (0.94, 0.97), (0.50, 0.82), (0.62, 0.91)]
    for camera, back in (("street-a", np.eye(3)), ("street-b", to_a)):
        print(f"# {camera}")
        for fx, fy in grid:
            p = back @ np.array([fx * WIDTH, fy * HEIGHT, 1])
            lon, lat = ground(p[0] / p[2], p[1] / p[2])
            print(f"    {{ picture = [{fx:.2f}, {fy:.2f}], ground = [{lon:.8f}, {lat:.8f}] }},")


# ---------------------------------------------------------------------------------------------------- clips


def caption(picture):
    """Adds the caption "composite"."""
    cv2.putText(picture, "composite", (WIDTH - 118, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (40, 40, 40), 3, cv2.LINE_AA)
    cv2.putText(picture, "composite", (WIDTH - 118, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (235, 235, 235), 1, cv2.LINE_AA)
    return picture


def live(picture, index, rng, tint=(1.0, 1.0, 1.0)):
    """Adds a slow drift of brightness, noise for each frame, and the camera's white balance."""
    gain = 1.0 + 0.015 * np.sin(2 * np.pi * index / (20 * FPS))
    noise = rng.normal(0, 1.6, (HEIGHT // 2, WIDTH // 2, 1)).astype(np.float32)
    noise = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)[..., None]
    out = picture.astype(np.float32) * (np.array(tint, np.float32) * gain) + noise
    return np.clip(out, 0, 255).astype(np.uint8)


def street_scene():
    """The street with the banner, before the bags are left there."""
    return with_banner(plate("facade_488.jpg", 352, 66), **BANNER)


def square_scene():
    """The empty square."""
    return plate("facade_516.jpg", 366, 66, left=14, right=668)


def street(people):
    """Frames of the street: a man stands at the wall and walks off to the right; the heap lies where he stood."""
    bare = street_scene()
    heaped = with_heap(bare, HEAP)
    for i in range(STREET_S * FPS):
        t = i / FPS
        frame = (heaped if t >= HEAP_FROM_S else bare).copy()
        if MAN_FROM_S + t < MAN_TO_S:
            people.place(frame, people.matte(round((MAN_FROM_S + t) * FPS)), MAN)
        yield frame


def square(people):
    """Frames of the square: a man stops briefly; then a woman sets up a stall and stays beside it."""
    bare = square_scene()
    trading = with_stall(bare)
    index = 0
    for start, end in SQUARE_PARTS_S:
        for i in range(round(start * FPS), round(end * FPS)):
            frame = (trading if index >= STALL_FROM_S * FPS else bare).copy()
            people.place(frame, people.matte(i), VENDOR)
            index += 1
            yield frame


class Encoder:
    """ffmpeg, fed with raw frames. No scene-cut keyframes and a closed GOP of two seconds, like a camera's stream."""

    def __init__(self, path, codec, kbps):
        parameters = f"keyint={GOP}:min-keyint={GOP}:scenecut=0:open-gop=0"
        options = {
            "libx264": ["-profile:v", "high", "-x264-params", parameters],
            "libx265": ["-tag:v", "hvc1", "-x265-params", parameters + ":log-level=error"],
        }[codec]
        self.process = subprocess.Popen(
            ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{WIDTH}x{HEIGHT}",
             "-r", str(FPS), "-i", "-", "-an", "-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p",
             "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv",
             "-c:v", codec, "-preset", "slow", "-b:v", f"{kbps}k", "-maxrate", f"{2 * kbps}k", "-bufsize", f"{4 * kbps}k",
             *options, "-movflags", "+faststart", "-fflags", "+bitexact", "-flags:v", "+bitexact", str(path)],
            stdin=subprocess.PIPE)

    def write(self, frame):
        self.process.stdin.write(frame.tobytes())

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit("ffmpeg failed: is it built with libx264 and libx265?")


def make_streets(out, people):
    a = Encoder(out / "street-a.mp4", "libx264", 400)
    b = Encoder(out / "street-b.mp4", "libx265", 300)
    warp = a_to_b()
    rng = np.random.default_rng(7)
    for i, frame in enumerate(street(people)):
        other = cv2.warpPerspective(frame, warp, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        a.write(caption(live(frame, i, rng)))
        b.write(caption(live(other, i, rng, (0.93, 0.97, 1.0))))
    a.close()
    b.close()


def make_square(out, people):
    c = Encoder(out / "square-c.mp4", "libx264", 400)
    rng = np.random.default_rng(7)
    for i, frame in enumerate(square(people)):
        c.write(caption(live(frame, i, rng)))
    c.close()


# Frames of the person clip in which a person is whole.
CUTOUTS = {
    "man-stands": 105, "man-walks-1": 150, "man-walks-2": 154, "man-walks-3": 158,
    "woman-stands": 350, "woman-walks": 480,
}


def make_cutouts(out, people):
    """The people and the stall as PNG with alpha, for scenes that are composed elsewhere."""
    out.mkdir(parents=True, exist_ok=True)
    cutouts = {name: people.matte(frame) for name, frame in CUTOUTS.items()} | {"stall": stall()}
    for name, (bgr, alpha) in cutouts.items():
        ys, xs = np.nonzero(alpha > 0.05)
        box = np.s_[ys.min():ys.max() + 1, xs.min():xs.max() + 1]
        rgba = np.dstack([np.clip(bgr[box], 0, 255), 255 * alpha[box]]).astype(np.uint8)
        rgba[rgba[..., 3] == 0] = 0  # what is not seen compresses away
        cv2.imwrite(str(out / f"{name}.png"), rgba)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "clips")
    parser.add_argument("--only", choices=["streets", "square"], help="build only these clips")
    parser.add_argument("--cutouts", type=pathlib.Path, metavar="DIR", help="write the people and the stall as PNG, and exit")
    parser.add_argument("--calibration", action="store_true", help="print the point pairs for configs/demo.toml and exit")
    arguments = parser.parse_args()
    if arguments.calibration:
        calibration()
        return
    people = People()
    if arguments.cutouts:
        make_cutouts(arguments.cutouts, people)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only != "square":
        make_streets(arguments.out, people)
    if arguments.only != "streets":
        make_square(arguments.out, people)


if __name__ == "__main__":
    main()
