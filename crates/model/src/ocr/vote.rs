//! Votes on what a line of text says over several looks.
//!
//! Source: Fiscus, A post-processing system to yield reduced word error rates: Recognizer Output Voting Error Reduction (ROVER), ASRU
//! 1997, with characters for words: the readings are aligned one after the other into columns, and in each column the character with
//! the highest sum of scores wins. Pure.

use std::collections::VecDeque;

use jiff::Timestamp;

use gridwatch_engine::{BBox, errors_within};

use super::{ctc::RecognisedChar, line::TextLine};

/// Readings of a line that vote; older ones are dropped.
const MAX_READINGS: usize = 5;
/// Lines that are remembered of a view; those not read for longest are dropped.
const MAX_LINES: usize = 200;
/// Smallest overlap of the boxes of one line in two looks.
const SAME_LINE_IOU: f64 = 0.4;
/// Largest share of its characters by which a reading may differ from those before. More, and another text hangs there.
const MAX_MISREAD: f64 = 0.25;
/// Score of a reading that has no character in a column. Between the scores of right characters and of most wrong ones, so that a
/// character that one of two readings is sure of stays.
const ABSENT_SCORE: f32 = 0.7;

/// What was read in one view, line by line, in its newest looks.
#[derive(Debug, Default)]
pub struct TextMemory {
    lines: Vec<RememberedLine>,
}

#[derive(Debug)]
struct RememberedLine {
    bbox: BBox,
    readings: VecDeque<Vec<RecognisedChar>>,
    last_read: Timestamp,
}

impl TextMemory {
    /// Adds the lines read in a look at `at` and returns them with the characters that the looks so far vote for. The score of a
    /// character is its mean over the readings, 0 where they say otherwise.
    pub fn vote(&mut self, at: Timestamp, lines: Vec<TextLine>) -> Vec<TextLine> {
        let voted = lines.into_iter().map(|line| self.vote_line(at, line)).collect();
        if self.lines.len() > MAX_LINES {
            self.lines.sort_by_key(|line| std::cmp::Reverse(line.last_read));
            self.lines.truncate(MAX_LINES);
        }
        voted
    }

    fn vote_line(&mut self, at: Timestamp, mut line: TextLine) -> TextLine {
        let bbox = line.bbox();
        let nearest = self
            .lines
            .iter_mut()
            .map(|known| (known.bbox.iou(&bbox), known))
            .filter(|(iou, known)| *iou >= SAME_LINE_IOU && known.readings.iter().any(|r| is_same(r, &line.chars)))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, known)) = nearest else {
            self.lines.push(RememberedLine {
                bbox,
                readings: [line.chars.clone()].into(),
                last_read: at,
            });
            return line;
        };
        // Read twice in one look, for two rules: one vote.
        if known.last_read != at {
            known.bbox = bbox;
            known.last_read = at;
            known.readings.push_back(std::mem::take(&mut line.chars));
            if known.readings.len() > MAX_READINGS {
                known.readings.pop_front();
            }
        }
        line.chars = voted(known.readings.iter().map(Vec::as_slice));
        line.looks = known.readings.len();
        line
    }
}

fn is_same(a: &[RecognisedChar], b: &[RecognisedChar]) -> bool {
    let chars = |text: &[RecognisedChar]| text.iter().map(|c| c.char).collect::<Vec<_>>();
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let errors = errors_within(&chars(short), &chars(long));
    // Of a text of two or three characters, one may be misread.
    let allowed = (MAX_MISREAD * short.len() as f64).max(1.0);
    2 * short.len() >= long.len() && errors < short.len() && errors as f64 <= allowed
}

/// A column of the alignment: each character, or its absence, with the sum of its scores.
type Column = Vec<(Option<char>, f32)>;

/// The text that the readings vote for.
fn voted<'a>(readings: impl Iterator<Item = &'a [RecognisedChar]>) -> Vec<RecognisedChar> {
    let (mut columns, mut count): (Vec<Column>, usize) = (Vec::new(), 0);
    for reading in readings {
        columns = merged(columns, reading, count);
        count += 1;
    }
    let winner = |column: &Column| {
        let (char, sum) = column.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a })?;
        Some(RecognisedChar {
            char: char?,
            score: sum / count as f32,
        })
    };
    columns.iter().filter_map(winner).collect()
}

/// Adds a reading to the columns of `count` earlier ones, aligned by edit distance.
fn merged(mut columns: Vec<Column>, reading: &[RecognisedChar], count: usize) -> Vec<Column> {
    let (rows, width) = (columns.len() + 1, reading.len() + 1);
    // Fewest edits of the first i columns and the first j characters, at i * width + j.
    let mut edits = vec![0_usize; rows * width];
    let differs = |i: usize, j: usize| usize::from(!has(&columns[i], reading[j].char));
    for i in 0..rows {
        for j in 0..width {
            edits[i * width + j] = match (i, j) {
                (0, j) => j,
                (i, 0) => i,
                (i, j) => (edits[(i - 1) * width + j - 1] + differs(i - 1, j - 1))
                    .min(edits[(i - 1) * width + j] + 1)
                    .min(edits[i * width + j - 1] + 1),
            };
        }
    }
    let mut merged = Vec::with_capacity(rows.max(width));
    let (mut i, mut j) = (rows - 1, width - 1);
    while i > 0 || j > 0 {
        let here = edits[i * width + j];
        if i > 0
            && j > 0
            && here == edits[(i - 1) * width + j - 1] + usize::from(!has(&columns[i - 1], reading[j - 1].char))
        {
            let mut column = std::mem::take(&mut columns[i - 1]);
            add(&mut column, Some(reading[j - 1].char), reading[j - 1].score);
            merged.push(column);
            (i, j) = (i - 1, j - 1);
        } else if i > 0 && here == edits[(i - 1) * width + j] + 1 {
            let mut column = std::mem::take(&mut columns[i - 1]);
            add(&mut column, None, ABSENT_SCORE);
            merged.push(column);
            i -= 1;
        } else {
            let mut column = Column::new();
            if count > 0 {
                add(&mut column, None, ABSENT_SCORE * count as f32);
            }
            add(&mut column, Some(reading[j - 1].char), reading[j - 1].score);
            merged.push(column);
            j -= 1;
        }
    }
    merged.reverse();
    merged
}

fn has(column: &Column, char: char) -> bool {
    column.iter().any(|(c, _)| *c == Some(char))
}

fn add(column: &mut Column, char: Option<char>, score: f32) {
    match column.iter_mut().find(|(c, _)| *c == char) {
        Some((_, sum)) => *sum += score,
        None => column.push((char, score)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ocr::lines::LineBox;

    fn chars(text: &str, score: f32) -> Vec<RecognisedChar> {
        text.chars().map(|char| RecognisedChar { char, score }).collect()
    }

    fn vote(readings: &[(&str, f32)]) -> (String, Vec<f32>) {
        let readings: Vec<_> = readings.iter().map(|(text, score)| chars(text, *score)).collect();
        let voted = voted(readings.iter().map(Vec::as_slice));
        (
            voted.iter().map(|c| c.char).collect(),
            voted.iter().map(|c| c.score).collect(),
        )
    }

    fn line(text: &str, x: f32) -> TextLine {
        TextLine {
            line: LineBox {
                centre: [x, 50.0],
                width: 100.0,
                height: 20.0,
                angle: 0.0,
                score: 0.9,
            },
            frame: [400.0, 100.0],
            chars: chars(text, 0.9),
            looks: 1,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_750_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_character_misread_in_one_look_is_outvoted() {
        assert_eq!(
            vote(&[("开锁换锁", 0.9), ("开领换锁", 0.95), ("开锁换锁", 0.9)]).0,
            "开锁换锁"
        );
        assert_eq!(
            vote(&[("开锁锁", 0.9), ("开锁换锁", 0.9), ("开锁换锁", 0.9)]).0,
            "开锁换锁",
            "missing"
        );
        assert_eq!(
            vote(&[("开锁换锁", 0.9), ("开锁换换锁", 0.9), ("开锁换锁", 0.9)]).0,
            "开锁换锁",
            "doubled"
        );
        assert_eq!(
            vote(&[("13800138000", 0.9), ("13800138008", 0.5), ("13800138000", 0.8)]).0,
            "13800138000"
        );
    }

    #[test]
    fn of_two_looks_the_surer_one_wins() {
        assert_eq!(vote(&[("开领", 0.6), ("开锁", 0.9)]).0, "开锁");
        assert_eq!(vote(&[("开锁", 0.9), ("开", 0.9)]).0, "开锁");
        assert_eq!(vote(&[("开锁", 0.5), ("开", 0.9)]).0, "开");
    }

    #[test]
    fn disagreement_lowers_the_score() {
        let (text, scores) = vote(&[("开锁", 0.9), ("开锁", 0.9), ("开领", 0.9)]);
        assert_eq!(text, "开锁");
        assert!(
            (scores[0] - 0.9).abs() < 1e-6 && (scores[1] - 0.6).abs() < 1e-6,
            "{scores:?}"
        );
        assert_eq!(vote(&[("开锁", 0.8)]), ("开锁".into(), vec![0.8, 0.8]));
        assert_eq!(vote(&[]).0, "");
    }

    #[test]
    fn lines_are_voted_on_by_place() {
        let mut memory = TextMemory::default();
        let mut read = |second: i64, left: &str, right: &str| {
            let voted = memory.vote(at(second), vec![line(left, 100.0), line(right, 300.0)]);
            voted.iter().map(TextLine::text).collect::<Vec<_>>()
        };
        read(0, "专业开锁换锁", "高价回收家电");
        assert_eq!(
            read(10, "专业开锁换锁", "高价回收家电"),
            ["专业开锁换锁", "高价回收家电"]
        );
        assert_eq!(
            read(20, "专业开领换锁", "高价回收家电"),
            ["专业开锁换锁", "高价回收家电"]
        );
        // Another flyer over the old one.
        assert_eq!(read(30, "疏通下水管道", "高价回收家电")[0], "疏通下水管道");
        // A phone number of which more than a quarter differs is another one.
        read(40, "13800138000", "x");
        assert_eq!(read(50, "13987658000", "x")[0], "13987658000");
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut memory = TextMemory::default();
        for n in 0..1000_i32 {
            memory.vote(at(n.into()), vec![line("专业开锁换锁", n as f32 * 500.0)]);
            assert!(memory.lines.len() <= MAX_LINES);
        }
        for n in 0..20 {
            let voted = memory.vote(at(2000 + n), vec![line("专业开锁换锁", 0.0)]);
            assert!(voted[0].looks <= MAX_READINGS);
        }
    }

    proptest! {
        #[test]
        fn a_unanimous_vote_is_the_text(text in "[开锁换a-c0-9]{0,30}", looks in 1..6_usize) {
            let readings = vec![(text.as_str(), 0.9); looks];
            prop_assert_eq!(vote(&readings).0, text);
        }

        #[test]
        fn any_readings_can_be_voted_on(readings in proptest::collection::vec("[开锁换a-c]{0,12}", 0..6)) {
            let longest = readings.iter().map(|r| r.chars().count()).sum::<usize>();
            let readings: Vec<(&str, f32)> = readings.iter().map(|r| (r.as_str(), 0.8)).collect();
            prop_assert!(vote(&readings).0.chars().count() <= longest);
        }
    }
}
