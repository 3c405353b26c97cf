//! Reads the text on a thing before it is filed, and tells whether it is what the rule needs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use gridwatch_engine::{BBox, Detection, Label, RuleId};

use super::{AdvertKind, Phrasebook, TextLine, TextMemory, WallText, adverts};
#[cfg(feature = "ort")]
use {super::Reader, crate::ModelError, gridwatch_frame::Frame};

/// Margin around the place of a second look, as a fraction of its sides: text that is cut off by the edge is not read.
const PLACE_MARGIN: f32 = 0.2;

/// Looks that must have read the text that a rule needs before the second look says so, and looks after which it says that the text is another:
/// in some, somebody stands before it. The engine pauses after as many requests.
const HITS: u32 = 2;
const MAX_LOOKS: u32 = 4;

/// Places of second looks that are remembered for each view; those looked at least recently are dropped.
const MAX_PLACES: usize = 50;

/// Smallest overlap of the boxes of one place in two looks.
const SAME_PLACE_IOU: f64 = 0.5;

/// Chinese characters that make a text one: fewer are a brand on a box, or a pattern.
const MIN_WRITING: usize = 4;

/// The text that an object must bear in a second look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextNeeded {
    /// Any or none: the text is added to the case and decides nothing.
    Any,
    /// A small ad: a phone number, or a trade and a messenger id.
    SmallAd,
    /// A banner: one long line.
    Banner,
    /// A small ad or a banner.
    Advert,
    /// Any text of four or more Chinese characters, except a public notice.
    Writing,
    /// Any text that is neither a small ad nor a public notice, and names no trade of small ads: a sign or a banner.
    Sign,
}

impl TextNeeded {
    /// Score of what was read, 0..=1; 0 if it is not what is needed.
    pub fn score(self, text: Option<&WallText>) -> f32 {
        let Some(text) = text else { return 0.0 };
        let kind = text.kind;
        match self {
            Self::Any => text.score,
            Self::SmallAd if kind == Some(AdvertKind::SmallAd) => text.score,
            Self::Banner if kind == Some(AdvertKind::Banner) => text.score,
            Self::Advert if matches!(kind, Some(AdvertKind::SmallAd | AdvertKind::Banner)) => text.score,
            Self::Writing if kind != Some(AdvertKind::Notice) && is_writing(text) => text.text.score,
            // A small ad whose number cannot be read still names its trade.
            Self::Sign if matches!(kind, None | Some(AdvertKind::Banner)) && text.trades.is_empty() => text.text.score,
            Self::SmallAd | Self::Banner | Self::Advert | Self::Writing | Self::Sign => 0.0,
        }
    }
}

fn is_writing(text: &WallText) -> bool {
    let han = text.text.text.as_str().chars().filter(|c| adverts::is_han(*c));
    han.count() >= MIN_WRITING
}

/// What was read in one view: its lines, and how often each place of a second look was read.
#[derive(Debug, Default)]
pub struct ViewTexts {
    lines: Mutex<TextMemory>,
    /// Those looked at last at the end.
    places: Mutex<Vec<LookedAt>>,
}

/// A place of second looks for a rule.
#[derive(Debug)]
struct LookedAt {
    rule: RuleId,
    place: BBox,
    /// How many looks have read it, and in how many its text was what the rule needs.
    looks: u32,
    hits: u32,
    /// Capture time of the newest of them.
    last: Timestamp,
    /// The score, if that look decided.
    decided: Option<f32>,
}

impl ViewTexts {
    /// The lines read in a look at `at`, with the characters that the looks so far vote for.
    pub fn vote(&self, at: Timestamp, lines: Vec<TextLine>) -> Vec<TextLine> {
        lock(&self.lines).vote(at, lines)
    }

    /// Adds the score of a look at `at` that read `place` for `rule`, 0 if its text is not what the rule needs; two second looks in one look are one.
    /// Returns the score once the looks so far decide; after that, later looks start anew.
    fn decide(&self, rule: &RuleId, place: &BBox, at: Timestamp, score: f32) -> Option<f32> {
        let mut places = lock(&self.places);
        let is_it = |known: &LookedAt| known.rule == *rule && known.place.iou(place) >= SAME_PLACE_IOU;
        let before = places.iter().position(is_it).map(|i| places.remove(i));
        let known = match before {
            Some(same_look) if same_look.last == at => same_look,
            before => {
                let before = before.filter(|b| b.decided.is_none());
                let (looks, hits) = before.map_or((0, 0), |b| (b.looks, b.hits));
                let (looks, hits) = (looks + 1, hits + u32::from(score > 0.0));
                let decided = match (hits >= HITS, looks >= MAX_LOOKS) {
                    (true, _) if score > 0.0 => Some(score),
                    (false, true) => Some(0.0),
                    _ => None,
                };
                LookedAt {
                    rule: rule.clone(),
                    place: *place,
                    looks,
                    hits,
                    last: at,
                    decided,
                }
            }
        };
        let decided = known.decided;
        places.push(known);
        let excess = places.len().saturating_sub(MAX_PLACES);
        places.drain(..excess);
        decided
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a second look reads: where, on what, and for what.
#[derive(Debug, Clone, Copy)]
pub struct TextLook<'a> {
    /// Capture time of the look.
    pub at: Timestamp,
    /// The object's box.
    pub place: &'a BBox,
    /// The rule that asks.
    pub rule: &'a RuleId,
    /// The rule's labels.
    pub labels: &'a [Label],
    /// The text that the rule needs.
    pub needed: TextNeeded,
}

impl TextLook<'_> {
    /// Reads the text at the place and sets the text and the second-look score of the detections in `found` at that place. False, and nothing is read,
    /// if there are none.
    ///
    /// The score is 0 if the text is not what the rule needs, and else that of a model's second look or, if there was none, of the text. Until
    /// enough looks have read it, the score is left out, and the engine asks again.
    ///
    /// # Errors
    /// A model fails.
    #[cfg(feature = "ort")]
    pub fn read(
        &self,
        reader: &mut Reader,
        book: &Phrasebook,
        texts: &ViewTexts,
        frame: &Frame,
        found: &mut [Detection],
    ) -> Result<bool, ModelError> {
        if !found.iter().any(|d| self.is_there(d)) {
            return Ok(false);
        }
        let region = with_margin(self.place);
        let lines = texts.vote(self.at, reader.lines(frame, &[region])?);
        self.judge(&lines, &region, book, reader.floor(), texts, found);
        Ok(true)
    }

    /// Sets what the voted lines say of the detections at the place.
    fn judge(
        &self,
        lines: &[TextLine],
        region: &BBox,
        book: &Phrasebook,
        floor: f32,
        texts: &ViewTexts,
        found: &mut [Detection],
    ) {
        let text = adverts::at_place(lines, region, book, floor);
        let score = self.needed.score(text.as_ref());
        let decided = texts.decide(self.rule, self.place, self.at, score);
        // Before that, half a text that somebody left visible would be taken for another advert.
        let is_told = self.needed == TextNeeded::Any || decided.is_some_and(|score| score > 0.0);
        for detection in found.iter_mut().filter(|d| self.is_there(d)) {
            if let Some(text) = text.as_ref().filter(|_| is_told) {
                detection.number = detection.number.take().or_else(|| text.number.clone());
                detection.text = Some(text.text.clone()).filter(|t| t.text.is_distinctive());
            }
            if self.needed != TextNeeded::Any {
                let seen = detection.second_look_for(self.rule);
                detection.second_looks.retain(|s| s.rule.as_ref() != Some(self.rule));
                if let Some(score) = decided {
                    detection.set_second_look(self.rule, seen.filter(|_| score > 0.0).unwrap_or(score));
                }
            }
        }
    }

    fn is_there(&self, detection: &Detection) -> bool {
        self.labels.contains(&detection.label) && detection.bbox.is_part_of(self.place)
    }
}

fn with_margin(place: &BBox) -> BBox {
    let (x, y) = (
        (place.x2 - place.x1) * PLACE_MARGIN,
        (place.y2 - place.y1) * PLACE_MARGIN,
    );
    BBox {
        x1: (place.x1 - x).max(0.0),
        y1: (place.y1 - y).max(0.0),
        x2: (place.x2 + x).min(1.0),
        y2: (place.y2 + y).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_750_000_000 + second).unwrap()
    }

    fn place(n: f32) -> BBox {
        BBox {
            x1: n / 1000.0,
            x2: n / 1000.0 + 0.0005,
            y1: 0.4,
            y2: 0.5,
        }
    }

    #[test]
    fn the_places_of_second_looks_are_bounded() {
        let texts = ViewTexts::default();
        let read = |n: f32, second| texts.decide(&"wall".into(), &place(n), at(second), 0.8);
        for n in 0..500_u16 {
            read(n.into(), n.into());
            assert!(lock(&texts.places).len() <= MAX_PLACES);
        }
        assert_eq!(read(499.0, 600), Some(0.8));
        assert_eq!(read(0.0, 601), None, "forgotten");
    }

    #[test]
    fn two_looks_that_read_it_decide_for_it_and_four_against_it() {
        let decide = |scores: &[f32]| -> Vec<Option<f32>> {
            let texts = ViewTexts::default();
            let looks = scores.iter().zip(0..);
            looks
                .map(|(s, t)| texts.decide(&"wall".into(), &place(1.0), at(t), *s))
                .collect()
        };
        assert_eq!(decide(&[0.8, 0.9]), [None, Some(0.9)]);
        assert_eq!(
            decide(&[0.0, 0.8, 0.0, 0.7]),
            [None, None, None, Some(0.7)],
            "hidden in two"
        );
        assert_eq!(decide(&[0.0, 0.8, 0.0, 0.0]), [None, None, None, Some(0.0)]);
        assert_eq!(
            decide(&[0.0, 0.0, 0.0, 0.0, 0.8]),
            [None, None, None, Some(0.0), None],
            "anew"
        );
        let texts = ViewTexts::default();
        let read = |rule: &str| texts.decide(&rule.into(), &place(1.0), at(0), 0.8);
        assert_eq!(
            [read("wall"), read("wall"), read("door")],
            [None; 3],
            "one look, two rules"
        );
    }

    #[test]
    fn each_rule_needs_a_text_of_its_own() {
        let text = |kind, score, text: &str| WallText {
            kind,
            score,
            number: None,
            messenger: None,
            trades: Vec::new(),
            text: gridwatch_engine::TextReading {
                text: gridwatch_engine::AdvertText::from(text.to_owned()),
                score: 0.9,
            },
            corners: [[0.0; 2]; 4],
        };
        let small_ad = text(Some(AdvertKind::SmallAd), 0.8, "开锁 13800000000");
        let banner = text(Some(AdvertKind::Banner), 0.7, "全场商品一律五折");
        let menu = text(None, 0.0, "今日特价 牛肉面 15元");
        let brand = text(None, 0.0, "XO 7");
        let notice = text(Some(AdvertKind::Notice), 0.0, "停水通知 周三停水一天");
        for (needed, expected) in [
            (TextNeeded::SmallAd, [0.8, 0.0, 0.0, 0.0, 0.0, 0.0]),
            (TextNeeded::Banner, [0.0, 0.7, 0.0, 0.0, 0.0, 0.0]),
            (TextNeeded::Advert, [0.8, 0.7, 0.0, 0.0, 0.0, 0.0]),
            (TextNeeded::Writing, [0.0, 0.9, 0.9, 0.0, 0.0, 0.0]),
            (TextNeeded::Sign, [0.0, 0.9, 0.9, 0.9, 0.0, 0.0]),
        ] {
            let texts = [
                Some(&small_ad),
                Some(&banner),
                Some(&menu),
                Some(&brand),
                Some(&notice),
                None,
            ];
            let scores = texts.map(|text| needed.score(text));
            assert_eq!(scores, expected, "{needed:?}");
        }
    }
}
