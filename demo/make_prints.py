#!/usr/bin/env python3
"""Renders the prints that `gridwatch-lab streets` hangs on walls and stands on pavements: demo/assets/prints.

    python3 make_prints.py

banner_*: one line on cloth. small_ad_*: a trade and a telephone number on paper. board_*: a price board on legs. notice_*: lawful public
notices without an advert's words. blank_*: things without writing, such as a picture or a cloth. The same fonts give the same pictures; they
were made with the Debian packages fonts-noto-cjk, fonts-wqy-microhei and fonts-wqy-zenhei (OFL, GPL with font exception) and pillow. The telephone numbers are made up.
"""

import argparse
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

OUT = Path(__file__).parent / "assets/prints"
FONTS = [
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc", 2),
    ("/usr/share/fonts/opentype/noto/NotoSerifCJK-Bold.ttc", 2),
    ("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc", 0),
    ("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc", 0),
]
# Ink and cloth or paper.
CLOTHS = [((250, 230, 60), (190, 25, 30)), ((250, 250, 250), (190, 25, 30)), ((200, 20, 25), (250, 220, 50)), ((250, 250, 250), (20, 70, 160)),
          ((200, 25, 30), (240, 240, 238)), ((255, 255, 255), (30, 120, 60))]
PAPERS = [((20, 20, 20), (245, 245, 240)), ((190, 15, 15), (250, 245, 225)), ((180, 10, 10), (250, 225, 60)), ((20, 40, 150), (245, 245, 250)),
          ((250, 250, 250), (190, 20, 30)), ((30, 30, 30), (205, 235, 210))]
BANNERS = ["热烈庆祝本店隆重开业", "全场商品一律五折起售", "最后三天清仓大甩卖", "新楼盘盛大开盘火热认筹", "开业大酬宾进店有好礼", "厂家直销欢迎新老顾客选购",
           "名烟名酒高价回收诚信经营", "暑期少儿英语招生火热进行中", "家电下乡补贴最高百分之二十", "首付十万即可入住学区房", "年终大促全场买一送一", "健身游泳年卡限时特惠"]
SMALL_ADS = [("开锁换锁", "24小时上门"), ("疏通下水道", "随叫随到"), ("办证刻章", "诚信为本"), ("无抵押贷款", "当天放款"), ("专业搬家", "价格优惠"), ("房屋出租", "拎包入住"),
             ("防水补漏", "质量三包"), ("高价回收", "烟酒礼品"), ("招聘小时工", "日结工资"), ("空调移机", "加氟清洗"), ("家教辅导", "一对一"), ("代开发票", "正规可查")]
BOARDS = [("今日特价", "牛肉面 15元", "酸辣粉 10元"), ("新品上市", "珍珠奶茶", "第二杯半价"), ("美甲美睫", "办卡优惠", "充500送200"), ("手机贴膜", "专业维修", "屏幕快修"),
          ("清仓处理", "全场10元", "最后一天"), ("午市套餐", "三菜一汤", "25元一位")]
NOTICES = [("停水通知", "因管道检修", "周三停水一天", "敬请谅解"), ("温馨提示", "请保持卫生", "爱护公共设施"), ("施工公告", "前方道路施工", "请绕行"),
           ("防火须知", "严禁烟火", "注意安全"), ("垃圾分类", "人人有责", "请勿乱扔"), ("小心台阶", "注意脚下安全")]


def font(rng, size):
    path, index = rng.choice(FONTS)
    return ImageFont.truetype(path, size, index=index)


def width_of(text, f):
    left, _, right, _ = f.getbbox(text)
    return right - left


def centred(draw, text, f, width, y, ink):
    draw.text(((width - width_of(text, f)) / 2, y), text, ink, f)


def banner(rng, text):
    ink, cloth = rng.choice(CLOTHS)
    f = font(rng, 64)
    width = width_of(text, f) + rng.randint(50, 110)
    sheet = Image.new("RGB", (width, 104), cloth)
    centred(ImageDraw.Draw(sheet), text, f, width, 12, ink)
    return sheet


def paper(rng, lines, sizes, width, inks):
    ink, ground = rng.choice(inks)
    pad, gap = 26, 14
    height = sum(sizes) + gap * (len(sizes) - 1) + 2 * pad + 10
    sheet = Image.new("RGB", (width, height), ground)
    draw, y = ImageDraw.Draw(sheet), pad - 6
    for text, size in zip(lines, sizes):
        f = font(rng, size)
        while width_of(text, f) > width - 30:
            size -= 2
            f = f.font_variant(size=size)
        centred(draw, text, f, width, y, ink)
        y += size + gap
    return sheet


def small_ad(rng, title, line):
    number = f"1380000{rng.randrange(10_000):04}"
    number = f"{number[:3]} {number[3:7]} {number[7:]}" if rng.random() < 0.5 else number
    return paper(rng, (title, line, number), (72, 44, 58), rng.randint(360, 430), PAPERS)


def board(rng, lines):
    face = paper(rng, lines, (64, 52, 52), 300, PAPERS)
    width, height = face.width + 28, face.height + 90
    sheet = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    frame = rng.choice([(60, 40, 25), (90, 90, 95), (30, 30, 32)])
    draw.rectangle((0, 0, width - 1, face.height + 27), fill=frame)
    for x in (6, width - 26):
        draw.polygon([(x, face.height), (x + 18, face.height), (x + 12, height), (x, height)], fill=frame)
    sheet.paste(face, (14, 14))
    return sheet


def notice(rng, lines):
    return paper(rng, lines, (56,) + (38,) * (len(lines) - 1), rng.randint(320, 380), [((20, 20, 20), (245, 245, 242)), ((20, 50, 120), (236, 242, 250))])


def blank(rng):
    """A framed picture without writing: bands of colour."""
    sheet = Image.new("RGB", (rng.randint(240, 420), rng.randint(200, 320)), (90, 60, 40))
    draw = ImageDraw.Draw(sheet)
    top = 14
    while top < sheet.height - 14:
        tall = rng.randint(20, 70)
        colour = tuple(rng.randint(30, 230) for _ in range(3))
        draw.rectangle((14, top, sheet.width - 15, min(top + tall, sheet.height - 15)), fill=colour)
        top += tall
    return sheet


def prints():
    rng = random.Random(5)
    for i, text in enumerate(BANNERS):
        yield f"banner_{i:02}", banner(rng, text)
    for i, (title, line) in enumerate(SMALL_ADS):
        yield f"small_ad_{i:02}", small_ad(rng, title, line)
    for i, lines in enumerate(BOARDS):
        yield f"board_{i:02}", board(rng, lines)
    for i, lines in enumerate(NOTICES):
        yield f"notice_{i:02}", notice(rng, lines)
    for i in range(4):
        yield f"blank_{i:02}", blank(rng)


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    OUT.mkdir(exist_ok=True)
    for name, picture in prints():
        if picture.mode == "RGB":
            picture = picture.quantize(24)
        else:
            picture = picture.quantize(24, method=Image.Quantize.FASTOCTREE)
        picture.save(OUT / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
