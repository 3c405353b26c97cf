//! Judges the text on a wall: which lines belong together, and whether they are a small ad, a banner or neither.
//!
//! Pure. A **small ad** （小广告） bears a phone number, or a phrase of a trade and a messenger id. A **banner** （横幅标语） is one long
//! line on its own. What is lawful, such as a shop's name, only the baseline of approved signs tells; the engine knows it.

use gridwatch_engine::{AdvertText, BBox, Detection, Label, PhoneNumber, TextReading};

use super::{
    blocks::{self, Row},
    ctc::RecognisedChar,
    line::{TextLine, bounding_box},
    numbers,
    phrases::Phrasebook,
    privacy,
};

/// What a text on a wall is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvertKind {
    /// A phone number, or a trade with a messenger id.
    SmallAd,
    /// One long line.
    Banner,
    /// Lawful: the words of a public notice, and no number.
    Notice,
}

/// The text of one thing on a wall, such as a flyer, and what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct WallText {
    /// What it is; `None`: no advert, as far as the text tells.
    pub kind: Option<AdvertKind>,
    /// Score of what makes it that, 0..=1: the least certain digit of the phone number, or the less certain of trade and messenger
    /// id, or the mean of a banner's characters. 0 for no advert.
    pub score: f32,
    /// The phone number on it. A thing with two numbers is reported once for each.
    pub number: Option<PhoneNumber>,
    /// The messenger id on it, with the messenger's name: `wechat kaisuo88`.
    pub messenger: Option<String>,
    /// Ids of the trades whose phrases are on it.
    pub trades: Vec<String>,
    /// Its lines in reading order, with the mean score of their characters.
    pub text: TextReading,
    /// Corners as fractions of the picture, in reading order from the top left: of the line with the number, or else of the whole.
    pub corners: [[f32; 2]; 4],
}

/// Chinese characters of a line beside a banner that show that it is not a single line.
const MIN_LINE: usize = 4;
impl WallText {
    /// Axis-aligned bounding box as fractions of the picture, clamped to its edges.
    pub fn bbox(&self) -> BBox {
        bounding_box(&self.corners)
    }

    /// The advert as a detection for the engine; `None` if it is not an advert.
    pub fn detection(self) -> Option<Detection> {
        let label = match self.kind? {
            AdvertKind::SmallAd => Label::small_ad(),
            AdvertKind::Banner => Label::text_banner(),
            AdvertKind::Notice => return None,
        };
        Some(Detection {
            number: self.number.clone(),
            text: Some(self.text.clone()).filter(|t| t.text.is_distinctive()),
            ..Detection::new(label, self.score, self.bbox())
        })
    }
}

/// The adverts among the lines of a picture, highest score first. Digits of a phone number must have at least the score `floor`.
pub fn find(lines: &[TextLine], book: &Phrasebook, floor: f32) -> Vec<WallText> {
    let blocks = blocks::find(lines).into_iter();
    let mut found: Vec<WallText> = blocks.flat_map(|block| judge(&block, book, floor)).collect();
    found.retain(|text| !matches!(text.kind, None | Some(AdvertKind::Notice)));
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

/// The text on the thing at `place` (fractions of the picture): all lines whose centres lie on it, with the first of
/// several numbers. `None` if there are none.
pub fn at_place(lines: &[TextLine], place: &BBox, book: &Phrasebook, floor: f32) -> Option<WallText> {
    let on_it = lines.iter().filter(|line| place.contains(line.bbox().centre()));
    // The same one in every look.
    judge(&blocks::rows(on_it.collect()), book, floor).into_iter().next()
}

/// The texts of the things on a wall, whether adverts or not: the lines of each in reading order.
pub fn texts(lines: &[TextLine]) -> Vec<String> {
    let text = |block: &Vec<Row<'_>>| {
        block
            .concat()
            .iter()
            .map(|line| line.text())
            .collect::<Vec<_>>()
            .join(" ")
    };
    blocks::find(lines).iter().map(text).collect()
}

/// Judges the lines of one thing: one text, or one for each phone number. Lines whose mean score is below `floor` are taken for
/// patterns, not text.
fn judge(block: &[Row<'_>], book: &Phrasebook, floor: f32) -> Vec<WallText> {
    let rows: Vec<Row<'_>> = block
        .iter()
        .map(|row| legible(row, floor))
        .filter(|row| !row.is_empty())
        .collect();
    let lines: Row<'_> = rows.concat();
    let Some(bbox) = bounds(&lines) else {
        return Vec::new();
    };
    let texts: Vec<Vec<RecognisedChar>> = rows
        .iter()
        .map(|row| joined(row.iter().map(|line| line.chars.as_slice())))
        .collect();
    let chars = joined(texts.iter().map(Vec::as_slice));
    let score: f32 = lines.iter().map(|line| line.score() * line.chars.len() as f32).sum();
    let count: usize = lines.iter().map(|line| line.chars.len()).sum();
    let trades = book.trades_in(&chars);
    let messenger = book.messenger_in(&chars);
    let plain = WallText {
        kind: None,
        score: 0.0,
        number: None,
        messenger: messenger.as_ref().map(|m| format!("{} {}", m.messenger, m.value)),
        trades: trades.iter().map(|t| t.id.to_owned()).collect(),
        text: TextReading {
            text: AdvertText::from(chars.iter().map(|c| c.char).collect::<String>()),
            score: score / count.max(1) as f32,
        },
        corners: corners_of(&bbox),
    };
    let texts = rows.iter().zip(&texts);
    let numbers: Vec<WallText> = texts
        .flat_map(|(row, text)| numbers_in(row, text, floor, &plain))
        .collect();
    if !numbers.is_empty() {
        return numbers;
    }
    let surest = trades.iter().map(|t| t.score).reduce(f32::max);
    if let (Some(trade), Some(messenger)) = (surest, messenger) {
        return vec![WallText {
            kind: Some(AdvertKind::SmallAd),
            score: trade.min(messenger.score),
            ..plain
        }];
    }
    if book.is_notice(&chars) {
        return vec![WallText {
            kind: Some(AdvertKind::Notice),
            ..plain
        }];
    }
    let long: Vec<&&TextLine> = lines.iter().filter(|line| han(line) >= MIN_LINE).collect();
    if let [line] = long[..]
        && is_banner(line, book)
    {
        return vec![WallText {
            kind: Some(AdvertKind::Banner),
            score: line.score(),
            corners: line.corners(),
            ..plain
        }];
    }
    vec![plain]
}

/// The lines of a row that are not mere patterns.
fn legible<'a>(row: &[&'a TextLine], floor: f32) -> Row<'a> {
    row.iter().copied().filter(|line| line.score() >= floor).collect()
}

/// Parts of a text with a space between them. Personal data that is split over several is masked.
fn joined<'a>(parts: impl Iterator<Item = &'a [RecognisedChar]>) -> Vec<RecognisedChar> {
    let mut chars: Vec<RecognisedChar> = Vec::new();
    for part in parts {
        if !chars.is_empty() {
            chars.push(RecognisedChar { char: ' ', score: 1.0 });
        }
        chars.extend(part);
    }
    privacy::mask(&mut chars);
    chars
}

/// The numbers in a row whose text is `chars`.
fn numbers_in(row: &[&TextLine], chars: &[RecognisedChar], floor: f32, plain: &WallText) -> Vec<WallText> {
    let text: String = chars.iter().map(|c| c.char).collect();
    let numbers = numbers::find(&text).into_iter().map(|found| {
        let is_in = |line: &&TextLine| numbers::find(&line.text()).iter().any(|n| n.number == found.number);
        let corners = match row.iter().copied().find(is_in) {
            Some(line) => line.corners(),
            // It is split over several lines.
            None => bounds(row).map_or(plain.corners, |bbox| corners_of(&bbox)),
        };
        let digits = chars[found.at].iter().filter(|c| c.char.is_ascii_digit());
        WallText {
            kind: Some(AdvertKind::SmallAd),
            score: digits.map(|c| c.score).fold(1.0, f32::min),
            number: Some(found.number),
            corners,
            ..plain.clone()
        }
    });
    numbers.filter(|text| text.score >= floor).collect()
}

fn bounds(lines: &[&TextLine]) -> Option<BBox> {
    lines.iter().map(|line| line.bbox()).reduce(|a, b| a.union(&b))
}

fn corners_of(bbox: &BBox) -> [[f32; 2]; 4] {
    [
        [bbox.x1, bbox.y1],
        [bbox.x2, bbox.y1],
        [bbox.x2, bbox.y2],
        [bbox.x1, bbox.y2],
    ]
}

fn is_banner(line: &TextLine, book: &Phrasebook) -> bool {
    han(line) >= book.banner.min_chars && line.line.width >= book.banner.min_aspect * line.line.height
}

/// Number of Chinese characters.
fn han(line: &TextLine) -> usize {
    line.chars.iter().filter(|c| is_han(c.char)).count()
}

/// A Chinese character of the common block.
pub(super) fn is_han(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocr::{
        lines::LineBox,
        phrases::{Banner, IdForm, Messenger, Notices, Trade},
    };

    fn book() -> Phrasebook {
        let strings = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        Phrasebook {
            trades: vec![Trade::new("locks", "开锁", "locksmith", &strings(&["开锁"]))],
            messengers: vec![Messenger::new("wechat", IdForm::Letters, &strings(&["微信"]))],
            banner: Banner {
                min_chars: 8,
                min_aspect: 5.0,
            },
            notices: Notices::new(&strings(&["严禁烟火"])),
        }
    }

    /// A line of letters 20 pixels high in a picture of 1000 × 500 pixels.
    fn line(text: &str, x: f32, y: f32) -> TextLine {
        let chars: Vec<_> = text.chars().map(|char| RecognisedChar { char, score: 0.9 }).collect();
        let line = LineBox {
            centre: [x, y],
            width: 20.0 * chars.len() as f32,
            height: 20.0,
            angle: 0.0,
            score: 0.9,
        };
        TextLine::new(line, [1000.0, 500.0], chars)
    }

    fn kinds(lines: &[TextLine]) -> Vec<(Option<AdvertKind>, String)> {
        let found = find(lines, &book(), 0.5);
        found.into_iter().map(|t| (t.kind, t.text.text.to_string())).collect()
    }

    #[test]
    fn lines_near_each_other_are_one_flyer_in_reading_order() {
        let lines = [
            line("13800138000", 300.0, 160.0),
            line("随叫随到", 300.0, 130.0),
            line("换锁", 325.0, 100.0),
            line("开锁", 270.0, 103.0),
            line("茶", 800.0, 100.0),
        ];
        assert_eq!(
            kinds(&lines),
            [(Some(AdvertKind::SmallAd), "开锁 换锁 随叫随到 13800138000".into())]
        );
        let found = &find(&lines, &book(), 0.5)[0];
        assert_eq!(found.number.as_ref().unwrap().as_str(), "13800138000");
        assert_eq!(found.trades, ["locks"]);
        assert!(
            (found.bbox().y1 - 0.3).abs() < 1e-6,
            "the line with the number: {:?}",
            found.bbox()
        );
    }

    #[test]
    fn flyers_that_hang_apart_or_stand_in_other_sizes_are_not_mixed() {
        let mut board = line("老王面馆", 300.0, 240.0);
        (board.line.height, board.line.width) = (100.0, 400.0);
        let lines = [
            board,
            line("13800138000", 300.0, 160.0),
            line("4001234567", 700.0, 160.0),
        ];
        let texts: Vec<String> = kinds(&lines).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["13800138000", "4001234567"]);
    }

    #[test]
    fn two_numbers_are_two_adverts_with_one_text() {
        let lines = [line("13800138000", 300.0, 100.0), line("4001234567", 300.0, 130.0)];
        let found = find(&lines, &book(), 0.5);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].text, found[1].text);
        assert_ne!(found[0].number, found[1].number);
    }

    #[test]
    fn a_number_or_an_identity_number_that_is_split_over_a_row_is_one() {
        let row = [line("微信同号1964 382", 300.0, 100.0), line("9306", 455.0, 101.0)];
        assert_eq!(
            find(&row, &book(), 0.5)[0].number.as_ref().unwrap().as_str(),
            "19643829306"
        );
        let id = [
            line("110105 1949", 300.0, 100.0),
            line("1231002X 13800138000", 600.0, 101.0),
        ];
        let found = find(&id, &book(), 0.5);
        assert!(
            found.iter().all(|text| !text.text.text.as_str().contains("1949")),
            "{found:?}"
        );
    }

    #[test]
    fn a_public_notice_is_no_banner_unless_a_number_is_on_it() {
        let place = BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        };
        let kind = |text: &str| {
            let lines = [line(text, 400.0, 100.0)];
            at_place(&lines, &place, &book(), 0.5).map(|text| (text.kind, find(&lines, &book(), 0.5).len()))
        };
        assert_eq!(kind("林区防火重点严禁烟火"), Some((Some(AdvertKind::Notice), 0)));
        assert_eq!(kind("全场商品一律五折起售"), Some((Some(AdvertKind::Banner), 1)));
        assert_eq!(kind("严禁烟火13800138000"), Some((Some(AdvertKind::SmallAd), 1)));
    }

    #[test]
    fn without_a_number_it_takes_a_trade_and_a_messenger_id() {
        let text = [line("开锁微信kaisuo88", 300.0, 100.0)];
        assert_eq!(kinds(&text)[0].0, Some(AdvertKind::SmallAd));
        assert_eq!(
            find(&text, &book(), 0.5)[0].messenger.as_deref(),
            Some("wechat kaisuo88")
        );
        assert!(kinds(&[line("开锁", 300.0, 100.0)]).is_empty(), "no way to call");
        assert!(kinds(&[line("微信kaisuo88", 300.0, 100.0)]).is_empty(), "no trade");
    }

    #[test]
    fn a_number_with_an_uncertain_digit_is_none() {
        let mut text = [line("13800138000", 300.0, 100.0)];
        text[0].chars[4].score = 0.4;
        assert!(kinds(&text).is_empty());
        text[0].chars[4].score = 0.6;
        assert_eq!(find(&text, &book(), 0.5)[0].score, 0.6);
    }

    #[test]
    fn one_long_line_is_a_banner_and_two_are_not() {
        let banner = line("热烈庆祝本店隆重开业", 500.0, 100.0);
        assert_eq!(kinds(std::slice::from_ref(&banner))[0].0, Some(AdvertKind::Banner));
        assert!(kinds(&[banner, line("全场五折欢迎光临选购", 500.0, 130.0)]).is_empty());
        assert!(kinds(&[line("老王面馆", 500.0, 100.0)]).is_empty(), "short");
        assert!(
            kinds(&[line("Grand Opening Today", 500.0, 100.0)]).is_empty(),
            "not Chinese"
        );
    }

    #[test]
    fn the_text_at_a_place_is_what_is_written_on_it() {
        let lines = [line("开锁微信kaisuo88", 300.0, 100.0), line("4001234567", 300.0, 130.0)];
        let place = BBox {
            x1: 0.1,
            y1: 0.1,
            x2: 0.6,
            y2: 0.23,
        };
        let found = at_place(&lines, &place, &book(), 0.5).unwrap();
        assert_eq!((found.number, found.kind), (None, Some(AdvertKind::SmallAd)));
        assert!(at_place(&[], &place, &book(), 0.5).is_none());
        let lawful = at_place(&[line("茶馆", 300.0, 100.0)], &place, &book(), 0.5).unwrap();
        assert_eq!((lawful.kind, lawful.score), (None, 0.0));
        assert!(lawful.detection().is_none());
    }

    #[test]
    fn names_and_identity_numbers_never_reach_the_text() {
        let found = find(&[line("联系人王小明13800138000", 300.0, 100.0)], &book(), 0.5);
        assert_eq!(found[0].text.text.as_str(), "联系人***13800138000");
    }
}
