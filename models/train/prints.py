"""Renders ads flat: flyers, banners, boards and signboards, BGRA of some hundred pixels. wear.py ages them, adverts.py hangs
them into pictures.

What is drawn comes from the `random.Random` that is handed in. Words, fonts and layouts kept back for dev: adverts.toml.
"""

import functools

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wear import cloud, flowing, worn

# The commonest characters: what an ad says is no cue, so most of it is said at random.
HAN = ("的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当"
       "没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手"
       "应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平")
PAPERS = ((238, 240, 240), (238, 240, 240), (225, 232, 236), (190, 190, 245), (150, 225, 250), (120, 230, 250), (200, 235, 200),
          (235, 215, 190), (210, 200, 250), (170, 190, 200), (40, 40, 200), (30, 190, 245), (160, 90, 30), (60, 130, 50))
INKS = ((20, 20, 20), (20, 20, 20), (30, 25, 190), (20, 15, 150), (150, 40, 20), (60, 90, 20), (70, 20, 110))
LIGHT_INKS = ((245, 245, 245), (60, 235, 250), (120, 220, 250), (240, 240, 200))
# Cloth with its letters, B G R; how often.
CLOTHS = (
    (6, (35, 25, 190), ((70, 225, 250), (245, 245, 245), (90, 240, 255))),
    (2, (150, 70, 20), ((245, 245, 245), (80, 230, 250))),
    (2, (40, 205, 245), ((30, 25, 190), (20, 20, 20))),
    (1, (60, 120, 20), ((245, 245, 245), (80, 230, 250))),
    (1, (235, 235, 235), ((30, 25, 190), (150, 60, 20), (20, 20, 20))),
    (1, (110, 40, 110), ((245, 245, 245), (80, 230, 250))),
    (1, (30, 110, 235), ((245, 245, 245), (20, 20, 20))),
)


@functools.lru_cache(512)
def font(path, size):
    return ImageFont.truetype(path, size)


def shade(colour, rng, spread=18):
    return tuple(int(min(255, max(0, c + rng.uniform(-spread, spread)))) for c in colour)


def dark(colour):
    return 0.11 * colour[0] + 0.59 * colour[1] + 0.3 * colour[2] < 130


class Printer:
    """`fonts` are paths, `words` titles and slogans, `layouts` the names of what may be drawn, `motifs` photographs."""

    def __init__(self, fonts, words, layouts, motifs):
        self.fonts, self.words, self.layouts, self.motifs = fonts, words, layouts, motifs

    def render(self, kind, rng):
        """A print of this kind, in one of its layouts."""
        layout = rng.choice([name for name in self.layouts if name.startswith(kind)])
        return getattr(self, layout)(rng)

    # Words and where they stand.

    def say(self, rng, low, high):
        """Words, or as many characters at random."""
        if rng.random() < 0.4:
            text = rng.choice(self.words)
            return text[:high] if len(text) >= low else text + "".join(rng.choices(HAN, k=low - len(text)))
        return "".join(rng.choices(HAN, k=rng.randint(low, high)))

    def number(self, rng):
        digits = "".join(str(rng.randrange(10)) for _ in range(10))
        shown = "1" + digits, f"1{digits[:2]} {digits[2:6]} {digits[6:]}", f"0{digits[:3]}-{digits[3:10]}", f"400-{digits[:3]}-{digits[3:7]}"
        return rng.choice(shown)

    def letter(self, draw, text, path, box, ink, **how):
        """`text` in one line, as large as `box` lets it be."""
        x0, y0, x1, y1 = box
        left, top, right, bottom = font(path, 64).getbbox(text)
        size = int(64 * min((x1 - x0) / max(1, right - left), (y1 - y0) / max(1, bottom - top)))
        if size >= 4:
            draw.text(((x0 + x1) / 2, (y0 + y1) / 2), text, font=font(path, size), fill=ink, anchor="mm", **how)

    def row(self, draw, text, path, box, ink, **how):
        """`text` with its characters spread evenly along the longer side of `box`."""
        x0, y0, x1, y1 = box
        across = x1 - x0 > y1 - y0
        pitch = max(x1 - x0, y1 - y0) / len(text)
        size = int(min(pitch * 1.02, min(x1 - x0, y1 - y0)))
        for i, character in enumerate(text if size >= 4 else ""):
            at = (i + 0.5) * pitch
            place = (x0 + at, (y0 + y1) / 2) if across else ((x0 + x1) / 2, y0 + at)
            draw.text(place, character, font=font(path, size), fill=ink, anchor="mm", **how)

    def motif(self, image, box, rng):
        """A piece of a photograph, as posters have one; brighter and more colourful than a street."""
        x0, y0, x1, y1 = (int(v) for v in box)
        if x1 - x0 < 6 or y1 - y0 < 6:
            return
        photo = rng.choice(self.motifs)
        h, w = photo.shape[:2]
        part = rng.uniform(0.15, 0.5)
        x, y = int(rng.uniform(0, 1 - part) * w), int(rng.uniform(0, 1 - part) * h)
        piece = cv2.resize(photo[y : y + int(h * part), x : x + int(w * part)], (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        hsv = cv2.cvtColor(piece, cv2.COLOR_BGR2HSV).astype(np.float32)
        hsv *= (1.0, rng.uniform(1.0, 2.0), rng.uniform(0.9, 1.5))
        hsv[..., 0] = (hsv[..., 0] + rng.choice((0, rng.uniform(0, 180)))) % 180
        piece = cv2.cvtColor(np.clip(hsv, 0, (179, 255, 255)).astype(np.uint8), cv2.COLOR_HSV2BGR)
        image.paste(Image.fromarray(piece), (x0, y0))

    def fill(self, image, draw, box, rng, paper, sparse=False):
        """Titles, lines, numbers and pictures down a box: what any ad is made of."""
        x0, y0, x1, y1 = box
        wide, high = x1 - x0, y1 - y0
        inks = LIGHT_INKS if dark(paper) else INKS
        title, body = rng.choice(self.fonts), rng.choice(self.fonts)
        ink, y = rng.choice(inks), y0 + high * rng.uniform(0.02, 0.08)
        while y < y1 - 0.05 * high:
            pick, margin = rng.random(), wide * rng.uniform(0.03, 0.1)
            if pick < 0.28:
                tall = min(y1 - y, high * rng.uniform(0.14, 0.3))
                if rng.random() < 0.25:
                    draw.rectangle([x0, y, x1, y + tall], fill=rng.choice(inks))
                    self.letter(draw, self.say(rng, 2, 5), title, (x0 + margin, y, x1 - margin, y + tall), paper)
                else:
                    self.letter(draw, self.say(rng, 2, 5), title, (x0 + margin, y, x1 - margin, y + tall), rng.choice((ink, rng.choice(inks))))
            elif pick < 0.5:
                tall = min(y1 - y, high * rng.uniform(0.08, 0.16))
                self.letter(draw, self.number(rng), rng.choice(self.fonts), (x0 + margin, y, x1 - margin, y + tall), rng.choice((ink, rng.choice(inks))))
            elif pick < (0.6 if sparse else 0.85):
                line = high * rng.uniform(0.035, 0.07)
                tall = line * rng.randint(2, 6)
                for k in range(int(tall / line)):
                    if y + (k + 1) * line < y1:
                        end = x1 - margin - rng.choice((0, 0, rng.uniform(0, 0.4))) * wide
                        self.letter(draw, self.say(rng, 6, 14), body, (x0 + margin, y + k * line, end, y + (k + 0.85) * line), ink)
            else:
                tall = min(y1 - y, high * rng.uniform(0.2, 0.5))
                self.motif(image, (x0 + margin, y, x1 - margin, y + tall), rng)
            y += tall + high * rng.uniform(0.01, 0.08)

    # Flyers.

    def sheet(self, rng, wide, high):
        paper = shade(rng.choice(PAPERS), rng)
        image = Image.new("RGB", (wide, high), paper)
        return paper, image, ImageDraw.Draw(image)

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
        return worn(np.dstack([np.asarray(image), np.full((high, wide), 255, np.uint8)]), rng)

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
        return worn(np.dstack([np.asarray(image), np.full((high, wide), 255, np.uint8)]), rng)

    # Cloth.

    def cloth(self, rng, wide, high):
        _, ground, inks = rng.choices(CLOTHS, [c[0] for c in CLOTHS])[0]
        ground = shade(ground, rng)
        image = Image.new("RGB", (wide, high), ground)
        return ground, rng.choice(inks), image, ImageDraw.Draw(image)

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
        out[:h, :w] = np.dstack([face, np.full((h, w), 255, np.uint8)])
        return out if rng.random() < 0.5 else np.ascontiguousarray(np.hstack([out[:, w:][:, ::-1], out[:, :w]]))

    def board_roll_up(self, rng):
        """A stand of a screen's height over a foot, or an X behind it."""
        wide = rng.randint(70, 100)
        high = int(wide * rng.uniform(1.7, 2.7))
        face, foot = self.panel(rng, wide, high, sparse=True), rng.randint(3, 9)
        out = np.zeros((high + foot, wide + 8, 4), np.uint8)
        metal = shade((150, 150, 155), rng, 60)
        out[:high, 4:-4] = np.dstack([face, np.full((high, wide), 255, np.uint8)])
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
        return np.dstack([whole, np.full(whole.shape[:2], 255, np.uint8)])

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
        out[: face.shape[0]] = np.dstack([face, np.full(face.shape[:2], 255, np.uint8)])
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
        return np.dstack([face, np.full(face.shape[:2], 255, np.uint8)])
