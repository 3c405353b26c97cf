"""Renders ads flat: flyers, banners, boards and signboards, BGRA of some hundred pixels. wear.py ages them, adverts.py hangs
them into pictures. Words, fonts and layouts kept back for dev: adverts.toml.
"""

import cv2
import numpy as np
from PIL import Image, ImageDraw

from press import INKS, LIGHT_INKS, PAPERS, Press, dark, shade
from wear import cloud, flowing, opaque, worn


class Printer(Press):
    """Each layout is a method, named after its kind; `layouts` are those that may be drawn."""

    def __init__(self, fonts, words, layouts, motifs):
        super().__init__(fonts, words, motifs)
        self.layouts = layouts

    def render(self, kind, rng):
        """A print of this kind, in one of its layouts."""
        return getattr(self, rng.choice([name for name in self.layouts if name.startswith(kind)]))(rng)

    # Flyers.

    def flyer_sheet(self, rng):
        wide = rng.randint(90, 150)
        high = int(wide * rng.choice((1.41, 1.41, 1.0, 0.71, 1.8)) * rng.uniform(0.9, 1.1))
        paper, image, draw = self.sheet(rng, wide, high)
        if rng.random() < 0.2:
            self.motif(image, (0, 0, wide, high), rng)
        foot = high * (0.8 if rng.random() < 0.12 else 1.0)
        self.fill(image, draw, (0, 0, wide, foot), rng, paper)
        if rng.random() < 0.2:
            draw.rectangle([2, 2, wide - 3, high - 3], outline=rng.choice(INKS), width=rng.randint(1, 4))
        alpha = np.full((high, wide), 255, np.uint8)
        if foot < high:  # strips to tear off, some gone
            strip = wide / rng.randint(6, 10)
            for k in range(int(wide / strip)):
                draw.line([k * strip, foot, k * strip, high], fill=(90, 90, 90))
                if rng.random() < 0.4:
                    alpha[int(foot) :, int(k * strip) : int((k + 1) * strip)] = 0
        return worn(np.dstack([np.asarray(image), alpha]), rng)

    def flyer_sticker(self, rng):
        wide = rng.randint(110, 170)
        high = int(wide / rng.uniform(1.6, 4.0))
        paper, image, draw = self.sheet(rng, wide, high)
        inks, cut = LIGHT_INKS if dark(paper) else INKS, rng.uniform(0.35, 0.65)
        path = rng.choice(self.fonts)
        if rng.random() < 0.8:
            self.letter(draw, self.say(rng, 2, 6), path, (4, 2, wide - 4, cut * high), rng.choice(inks))
            self.letter(draw, self.number(rng), rng.choice(self.fonts), (4, cut * high, wide - 4, high - 3), rng.choice(inks))
        else:
            self.letter(draw, self.number(rng), path, (4, 2, wide - 4, high - 2), rng.choice(inks))
        return worn(opaque(np.asarray(image)), rng)

    def flyer_sprayed(self, rng):
        """Letters alone, stencilled or by a stamp, uneven."""
        wide = rng.randint(120, 190)
        high = int(wide / rng.uniform(1.4, 4.0))
        mask = Image.new("L", (wide, high), 0)
        draw, path, cut = ImageDraw.Draw(mask), rng.choice(self.fonts), rng.uniform(0.35, 0.6)
        bold = {"stroke_width": rng.choice((0, 1, 2)), "stroke_fill": 255}
        if rng.random() < 0.75:
            self.letter(draw, self.say(rng, 2, 4), path, (4, 2, wide - 4, cut * high), 255, **bold)
            self.letter(draw, self.number(rng), rng.choice(self.fonts), (4, cut * high, wide - 4, high - 2), 255, **bold)
        else:
            self.letter(draw, self.number(rng), path, (4, 2, wide - 4, high - 2), 255, **bold)
        alpha = cv2.GaussianBlur(np.asarray(mask), (0, 0), rng.uniform(0.4, 1.4)) * (0.55 + 0.45 * cloud(high, wide, 12, rng))
        ink = rng.choice(((25, 25, 25), (25, 25, 25), (30, 25, 170), (150, 50, 25), (235, 235, 235)))
        return np.dstack([np.full((high, wide, 3), ink, np.uint8), alpha.astype(np.uint8)])

    def flyer_columns(self, rng):
        """Written downwards, a heading on the right."""
        wide, high = rng.randint(90, 140), rng.randint(120, 180)
        paper, image, draw = self.sheet(rng, wide, high)
        inks, path, columns = LIGHT_INKS if dark(paper) else INKS, rng.choice(self.fonts), rng.randint(2, 5)
        for k in range(columns):
            x1 = wide * (1 - k / columns) - 2
            self.row(draw, self.say(rng, 4, 9), path, (x1 - wide / columns + 4, 6, x1, high - 6), rng.choice(inks))
        return worn(opaque(np.asarray(image)), rng)

    # Cloth.

    def banner_across(self, rng):
        high = rng.randint(44, 80)
        wide = int(high * rng.uniform(3.2, 11.0))
        ground, ink, image, draw = self.cloth(rng, wide, high)
        low = high * (0.68 if rng.random() < 0.25 else 0.94)
        left, right = wide * rng.uniform(0.02, 0.08), wide * rng.uniform(0.92, 0.98)
        if rng.random() < 0.12:
            self.motif(image, (left, high * 0.08, left + high, high * 0.92), rng)
            left += high * 1.2
        text = self.say(rng, max(3, int(0.75 * (right - left) / high)), max(4, int(1.3 * (right - left) / high)))
        self.row(draw, text, rng.choice(self.fonts), (left, high * 0.08, right, low), ink)
        if low < 0.9 * high:
            self.letter(draw, self.say(rng, 8, 16), rng.choice(self.fonts), (left, low, right, high * 0.95), ink)
        return flowing(np.asarray(image), rng)

    def banner_down(self, rng):
        wide = rng.randint(44, 80)
        high = int(wide * rng.uniform(2.5, 6.0))
        ground, ink, image, draw = self.cloth(rng, wide, high)
        text = self.say(rng, max(3, int(0.8 * high / wide)), max(4, int(1.3 * high / wide)))
        self.row(draw, text, rng.choice(self.fonts), (wide * 0.08, high * 0.04, wide * 0.92, high * 0.96), ink)
        return flowing(np.asarray(image), rng)

    def banner_two_lines(self, rng):
        high = rng.randint(60, 100)
        wide = int(high * rng.uniform(2.5, 6.0))
        ground, ink, image, draw = self.cloth(rng, wide, high)
        path, middle = rng.choice(self.fonts), high * rng.uniform(0.42, 0.58)
        for top, foot in ((high * 0.07, middle - 2), (middle + 2, high * 0.93)):
            letters = max(3, int(0.75 * wide / (foot - top)))
            self.row(draw, self.say(rng, letters, letters + 2), path, (wide * 0.03, top, wide * 0.97, foot), ink)
        return flowing(np.asarray(image), rng)

    # Boards. They stand, so their feet are the lower edge.

    def panel(self, rng, wide, high, sparse=False):
        paper = shade(rng.choice((*PAPERS, (30, 30, 30), (40, 60, 40))), rng)
        image = Image.new("RGB", (wide, high), paper)
        if rng.random() < 0.4:
            top = rng.choice((0.0, 0.0, rng.uniform(0.1, 0.5)))
            self.motif(image, (0, high * top, wide, high * rng.uniform(max(0.5, top + 0.2), 1.0)), rng)
        self.fill(image, ImageDraw.Draw(image), (0, 0, wide, high), rng, paper, sparse)
        return np.asarray(image)

    def board_a_frame(self, rng):
        """Two panels leant together: the front in a frame, a leg of the rear seen to one side."""
        wide, high = rng.randint(90, 130), rng.randint(140, 200)
        face, frame = self.panel(rng, wide, high), shade(rng.choice(((30, 30, 30), (225, 225, 225), (60, 90, 130), (40, 70, 110), (170, 170, 175))), rng)
        edge, legs, side = rng.randint(3, 9), int(high * rng.uniform(0.03, 0.16)), int(wide * rng.uniform(0.0, 0.3))
        face = cv2.copyMakeBorder(face, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=frame)
        h, w = face.shape[:2]
        out = np.zeros((h + legs, w + side, 4), np.uint8)
        rear = tuple(0.45 * c for c in frame)
        slope = np.int32([[w - edge, 2], [w, 2], [w + side, h + legs - 1 - legs // 2], [w + side - edge, h + legs - 1 - legs // 2]])
        cv2.fillConvexPoly(out, slope, (*rear, 255))
        if rng.random() < 0.5 and side > 4:  # a closed side
            cv2.fillConvexPoly(out, np.int32([[w, 2], [w + side, h], [w, h]]), (*rear, 255))
        for x in (0, w - edge):
            out[h:, x : x + edge] = (*frame, 255)
        out[:h, :w] = opaque(face)
        return out if rng.random() < 0.5 else np.ascontiguousarray(np.hstack([out[:, w:][:, ::-1], out[:, :w]]))

    def board_roll_up(self, rng):
        """A stand of a screen's height over a foot, or an X behind it."""
        wide = rng.randint(70, 100)
        high = int(wide * rng.uniform(1.7, 2.7))
        face, foot = self.panel(rng, wide, high, sparse=True), rng.randint(3, 9)
        out = np.zeros((high + foot, wide + 8, 4), np.uint8)
        metal = shade((150, 150, 155), rng, 60)
        out[:high, 4:-4] = opaque(face)
        if rng.random() < 0.6:
            out[high:, :] = (*metal, 255)
        else:
            for x in (4, wide // 2, wide - 2):
                out[high:, x : x + 3] = (*metal, 255)
        return out

    def board_light_box(self, rng):
        """A box that stands, its side in the shade."""
        wide, high = rng.randint(80, 120), rng.randint(150, 230)
        face, deep, edge = self.panel(rng, wide, high), rng.randint(6, 34), rng.randint(3, 10)
        face = cv2.convertScaleAbs(face, alpha=rng.uniform(1.0, 1.25))
        frame = shade(rng.choice(((40, 40, 40), (190, 190, 195), (120, 125, 130), (40, 40, 170))), rng)
        face = cv2.copyMakeBorder(face, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=frame)
        plinth = rng.choice((0, int(high * rng.uniform(0.04, 0.2))))
        face = cv2.copyMakeBorder(face, 0, plinth, 0, 0, cv2.BORDER_CONSTANT, value=tuple(0.7 * c for c in frame))
        side = np.full((face.shape[0], deep, 3), [0.5 * c for c in frame], np.uint8)
        whole = np.hstack([face, side] if rng.random() < 0.5 else [side, face])
        return opaque(whole)

    def board_easel(self, rng):
        """A blackboard on an easel, chalked."""
        wide, high = rng.randint(90, 130), rng.randint(110, 150)
        wood = shade(rng.choice(((60, 95, 140), (40, 60, 90), (110, 150, 190))), rng)
        image = Image.new("RGB", (wide, high), shade((38, 38, 36), rng, 14))
        self.fill(image, ImageDraw.Draw(image), (0, 0, wide, high), rng, (30, 30, 30))
        face = cv2.copyMakeBorder(np.asarray(image), 6, 6, 6, 6, cv2.BORDER_CONSTANT, value=wood)
        legs = int(high * rng.uniform(0.3, 0.6))
        out = np.zeros((face.shape[0] + legs, face.shape[1], 4), np.uint8)
        for near, far in ((0.2, 0.02), (0.8, 0.98)):
            cv2.line(out, (int(near * wide) + 6, 2), (int(far * wide) + 6, out.shape[0] - 1), (*wood, 255), 6)
        out[: face.shape[0]] = opaque(face)
        return out

    # A rigid sign over a shop, as there are none in the labelled pictures: what a banner is not.

    def signboard_panel(self, rng):
        high = rng.randint(44, 70)
        wide = int(high * rng.uniform(2.2, 8.0))
        ground, ink, image, draw = self.cloth(rng, wide, high)
        if rng.random() < 0.4:
            ground, ink = shade((45, 45, 45), rng, 30), rng.choice(LIGHT_INKS)
            image.paste(ground, (0, 0, wide, high))
        text = self.say(rng, 3, max(4, int(0.8 * wide / high)))
        part, path = rng.uniform(0.5, 0.75), rng.choice(self.fonts)
        box = (wide * rng.uniform(0.04, 0.25), high * (0.5 - part / 2), wide * rng.uniform(0.75, 0.96), high * (0.5 + part / 2))
        low = [box[0] + 2, box[1] + 2, box[2] + 2, box[3] + 2]
        self.row(draw, text, path, low, tuple(c // 3 for c in ground))  # letters that stand out throw shadows
        self.row(draw, text, path, box, ink)
        if rng.random() < 0.3:
            self.letter(draw, self.number(rng), path, (wide * 0.3, high * 0.82, wide * 0.7, high * 0.98), ink)
        face = np.asarray(image) * np.linspace(1.1, 0.85, high)[:, None, None]
        face = np.clip(face, 0, 255).astype(np.uint8)
        edge = rng.randint(0, 4)
        face = cv2.copyMakeBorder(face, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=shade((150, 150, 150), rng, 80))
        return opaque(face)
