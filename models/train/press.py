"""What any printed ad is made of: words in fonts, numbers, pieces of photographs, colours. prints.py lays ads out of it.

What is drawn comes from the `random.Random` that is handed in.
"""

import functools

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

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


class Press:
    """`fonts` are paths, `words` titles and slogans, `motifs` photographs."""

    def __init__(self, fonts, words, motifs):
        self.fonts, self.words, self.motifs = fonts, words, motifs

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

    def sheet(self, rng, wide, high):
        paper = shade(rng.choice(PAPERS), rng)
        image = Image.new("RGB", (wide, high), paper)
        return paper, image, ImageDraw.Draw(image)

    def cloth(self, rng, wide, high):
        _, ground, inks = rng.choices(CLOTHS, [c[0] for c in CLOTHS])[0]
        ground = shade(ground, rng)
        image = Image.new("RGB", (wide, high), ground)
        return ground, rng.choice(inks), image, ImageDraw.Draw(image)
