//! Measures what was read against the true texts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use gridwatch_base::{error::Class, file, text::counted};
use gridwatch_engine::{errors_within, half_width};

/// The true texts of each picture, by file name.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Truth(BTreeMap<String, Vec<TrueText>>);

/// A text that is in a picture. Other fields of the truth file are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct TrueText {
    /// One line of text.
    #[serde(default)]
    text: Option<String>,
    /// A phone number, digits only.
    #[serde(default)]
    number: Option<String>,
    /// Height of the characters in pixels.
    #[serde(default)]
    height: Option<f32>,
}

/// Width of the height ranges that figures are split by, pixels.
const HEIGHT_STEP: u32 = 4;

impl Truth {
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let fault = |message: String| Failure::new(Class::Config, format!("--truth {}: {message}", file.display()));
        let text = file::read_text(file, file::MAX_DATA).map_err(|e| fault(format!("cannot read the file: {e}")))?;
        serde_json::from_str(&text).map_err(|e| {
            fault(format!(
                "{e}; expected the texts of each picture: {{\"wall.jpg\": [{{\"text\": \"开锁\", \"number\": \"13800138000\"}}]}}"
            ))
        })
    }

    /// The texts in the picture at `path`.
    pub(super) fn of(&self, path: &Path) -> &[TrueText] {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.0.get(&*name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What was read of the true texts.
#[derive(Debug, Default, Serialize)]
pub(super) struct Accuracy {
    /// True numbers, each counted once per picture.
    there: usize,
    /// True numbers that were read exactly.
    exact: usize,
    /// Numbers that were read but are not in the picture.
    wrong: usize,
    /// Pictures with at least one wrong number.
    pictures_with_wrong: usize,
    #[serde(flatten)]
    lines: LineAccuracy,
    /// The same by the height of the characters, for texts whose height is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_height: Vec<HeightAccuracy>,
}

/// How well lines were read. Spaces, case and width do not count.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct LineAccuracy {
    /// True lines.
    lines: usize,
    /// Lines that were read without an error.
    lines_exact: usize,
    /// Their characters.
    characters: usize,
    /// Characters missing, wrong or extra; at most all of a line.
    errors: usize,
}

/// Figures of characters of one height.
#[derive(Debug, Clone, Copy, Serialize)]
struct HeightAccuracy {
    /// Smallest height, pixels.
    from: u32,
    /// Largest height, pixels; not included.
    to: u32,
    #[serde(flatten)]
    lines: LineAccuracy,
    numbers: usize,
    numbers_exact: usize,
}

impl Accuracy {
    /// Adds a picture: its true texts, and what was read. If the picture is one line, the whole reading is compared with it; else a
    /// true line is compared with the most similar part of any text.
    pub(super) fn add(&mut self, truth: &[TrueText], texts: &[String], numbers: &BTreeSet<&str>, is_one_line: bool) {
        let texts: Vec<Vec<char>> = texts.iter().map(|text| comparable(text)).collect();
        let mut there = BTreeSet::new();
        for line in truth {
            let is_new = line.number.as_deref().is_some_and(|n| there.insert(n));
            let is_exact = is_new && line.number.as_deref().is_some_and(|n| numbers.contains(n));
            self.there += usize::from(is_new);
            self.exact += usize::from(is_exact);
            let text = line.text.as_deref().map(comparable).filter(|text| !text.is_empty());
            let read = text
                .map(|text| LineAccuracy::of(&text, &texts, is_one_line))
                .unwrap_or_default();
            self.lines.add(read);
            if let Some(height) = line.height {
                let at = self.height(height);
                at.lines.add(read);
                at.numbers += usize::from(is_new);
                at.numbers_exact += usize::from(is_exact);
            }
        }
        let wrong = numbers.difference(&there).count();
        self.wrong += wrong;
        self.pictures_with_wrong += usize::from(wrong > 0);
    }

    fn height(&mut self, height: f32) -> &mut HeightAccuracy {
        // Saturates.
        let from = height as u32 / HEIGHT_STEP * HEIGHT_STEP;
        let at = self.by_height.partition_point(|h| h.from < from);
        if self.by_height.get(at).is_none_or(|h| h.from != from) {
            let new = HeightAccuracy {
                from,
                to: from.saturating_add(HEIGHT_STEP),
                lines: LineAccuracy::default(),
                numbers: 0,
                numbers_exact: 0,
            };
            self.by_height.insert(at, new);
        }
        &mut self.by_height[at]
    }

    pub(super) fn write(&self, pictures: usize, out: &mut impl Write) -> io::Result<()> {
        if self.lines.lines > 0 {
            self.lines.write(out)?;
            writeln!(out, ".")?;
        }
        writeln!(
            out,
            "{} of {} read exactly ({:.1} %); {} in {} ({:.1} %).",
            self.exact,
            counted(self.there, "true number", "true numbers"),
            percent(self.exact, self.there),
            counted(self.wrong, "false number", "false numbers"),
            counted(self.pictures_with_wrong, "picture", "pictures"),
            percent(self.pictures_with_wrong, pictures)
        )?;
        for at in &self.by_height {
            write!(out, "  {:>3} to {:>3} pixels: ", at.from, at.to)?;
            if at.lines.lines > 0 {
                at.lines.write(out)?;
                write!(out, "; ")?;
            }
            let percent = percent(at.numbers_exact, at.numbers);
            writeln!(out, "{} of {} numbers ({percent:.1} %)", at.numbers_exact, at.numbers)?;
        }
        Ok(())
    }
}

impl LineAccuracy {
    fn of(line: &[char], texts: &[Vec<char>], is_one_line: bool) -> Self {
        let errors = texts.iter().map(|text| match is_one_line {
            true => edit_distance(line, text),
            false => errors_within(line, text),
        });
        let errors = errors.min().unwrap_or(line.len()).min(line.len());
        Self {
            lines: 1,
            lines_exact: usize::from(errors == 0),
            characters: line.len(),
            errors,
        }
    }

    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.lines_exact += other.lines_exact;
        self.characters += other.characters;
        self.errors += other.errors;
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write!(
            out,
            "{} of {} read exactly ({:.1} %), {:.1} % of {} right",
            self.lines_exact,
            counted(self.lines, "line", "lines"),
            percent(self.lines_exact, self.lines),
            percent(self.characters - self.errors, self.characters),
            counted(self.characters, "character", "characters"),
        )
    }
}

fn percent(n: usize, of: usize) -> f64 {
    100.0 * n as f64 / of.max(1) as f64
}

/// A text without spaces, in half width and lower case.
fn comparable(text: &str) -> Vec<char> {
    let half = text.chars().map(half_width).filter(|c| !c.is_whitespace());
    half.map(|c| c.to_ascii_lowercase()).collect()
}

/// Fewest insertions, deletions and substitutions that turn `a` into `b` (Levenshtein, 1966).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accuracy(truth: &str, texts: &[&str], numbers: &[&str], is_one_line: bool) -> Accuracy {
        let truth: Vec<TrueText> = serde_json::from_str(truth).unwrap();
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let mut accuracy = Accuracy::default();
        accuracy.add(&truth, &texts, &numbers.iter().copied().collect(), is_one_line);
        accuracy
    }

    #[test]
    fn errors_are_counted_against_the_most_similar_text() {
        let truth = r#"[{"text": "专业开锁 换锁", "height": 17}, {"text": "13800138000", "number": "13800138000"}]"#;
        let read = accuracy(truth, &["专业开领换锁 13800138000", "茶"], &["13800138000"], false);
        let LineAccuracy {
            lines,
            lines_exact,
            characters,
            errors,
        } = read.lines;
        assert_eq!((lines, lines_exact, characters, errors), (2, 1, 17, 1));
        assert_eq!((read.there, read.exact, read.wrong), (1, 1, 0));
        assert_eq!((read.by_height[0].from, read.by_height[0].lines.errors), (16, 1));
    }

    #[test]
    fn what_was_not_read_is_wrong_and_what_a_crop_has_beyond_the_truth_too() {
        let unread = accuracy(r#"[{"text": "开锁"}]"#, &[], &[], false);
        assert_eq!((unread.lines.errors, unread.lines.characters), (2, 2));
        let crop = accuracy(r#"[{"text": "开锁换锁"}]"#, &["专开锁换锁"], &[], true);
        assert_eq!(crop.lines.errors, 1);
        let misread = accuracy(r#"[{"number": "13800138000"}]"#, &[], &["13800138008"], true);
        assert_eq!((misread.exact, misread.wrong, misread.pictures_with_wrong), (0, 1, 1));
    }
}
