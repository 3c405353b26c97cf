//! Text read on an object, and when two readings are the same text.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::PhoneNumber;

/// Text on an object, such as `专业开锁 13800138000`, as read by the box: names and identity numbers are already masked.
///
/// Two readings of one text differ in a few characters, so texts have no order and no hash; compare them with
/// [`Self::is_same_as`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct AdvertText(Arc<str>);

/// A text with its score, as read in one look or voted over several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextReading {
    /// The text.
    pub text: AdvertText,
    /// Mean probability of its characters, 0..=1.
    pub score: f32,
}

/// What tells one advert from another: its phone number or, where one of the two has none, its text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AdvertIdentity<'a> {
    pub(crate) number: Option<&'a PhoneNumber>,
    pub(crate) text: Option<&'a AdvertText>,
}

impl AdvertIdentity<'_> {
    /// True if the two are known to be different adverts; false if they are the same, or one of them was not read.
    pub(crate) fn differs_from(&self, other: &Self) -> bool {
        match (self.number, other.number, self.text, other.text) {
            (Some(a), Some(b), ..) => a != b,
            (.., Some(a), Some(b)) => a.is_distinctive() && b.is_distinctive() && !a.is_same_as(b),
            _ => false,
        }
    }
}

/// Fewest letters and digits by which a text can be told from others.
const MIN_CHARS: usize = 4;
/// Largest share of the shorter text that may be misread.
const MAX_MISREAD: f64 = 0.25;
/// Smallest length of the shorter text, as a share of the longer: a part of the lines may be read in one look and all in
/// the next, but a word that two adverts have in common does not make them the same.
const MIN_SHARE: f64 = 0.5;
/// Characters of [`AdvertText::key`].
const KEY_CHARS: usize = 48;

impl AdvertText {
    /// Maximum length in characters; the rest of a longer text is dropped. A flyer has some forty.
    pub const MAX_CHARS: usize = 160;

    /// The text as read, with a space between lines.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if both are readings of one text: the shorter one is found in the longer one with at most a quarter of its
    /// letters and digits different, and is at least half as long. Spaces, punctuation, case and width do not count. A
    /// text of fewer than four letters and digits is not the same as any other.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let (a, b) = (letters(&self.0), letters(&other.0));
        let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        let is_long_enough = short.len() >= MIN_CHARS && short.len() as f64 >= MIN_SHARE * long.len() as f64;
        is_long_enough && errors_within(&short, &long) as f64 <= MAX_MISREAD * short.len() as f64
    }

    /// True if it is long enough to tell it from other texts.
    pub fn is_distinctive(&self) -> bool {
        letters(&self.0).len() >= MIN_CHARS
    }

    /// The text in a [deduplication key](super::Case::dedup_key): letters and digits only, so that no character is special
    /// in MQTT topics.
    pub(crate) fn key(&self) -> String {
        letters(&self.0).into_iter().take(KEY_CHARS).collect()
    }
}

impl From<&str> for AdvertText {
    fn from(text: &str) -> Self {
        let end = text.char_indices().nth(Self::MAX_CHARS).map_or(text.len(), |(i, _)| i);
        // A line break would split a log line or a file entry in two.
        let is_clean = !text[..end].chars().any(char::is_control);
        Self(if is_clean {
            text[..end].into()
        } else {
            text[..end]
                .chars()
                .filter(|c| !c.is_control())
                .collect::<String>()
                .into()
        })
    }
}

impl From<String> for AdvertText {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<AdvertText> for String {
    fn from(text: AdvertText) -> Self {
        text.as_str().to_owned()
    }
}

impl fmt::Display for AdvertText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AdvertText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The full-width form of an ASCII character (`Ａ`, `８`, `：`) as ASCII, other characters unchanged.
pub fn half_width(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        c => c,
    }
}

/// The letters and digits of `text`, half-width and in lower case.
fn letters(text: &str) -> Vec<char> {
    let half = text.chars().map(half_width).filter(|c| c.is_alphanumeric());
    half.map(|c| c.to_ascii_lowercase()).collect()
}

/// Fewest insertions, deletions and substitutions that turn `part` into some substring of `whole` (Sellers, 1980).
pub fn errors_within(part: &[char], whole: &[char]) -> usize {
    // Row i: errors of the first i characters of `part` against the best substring that ends at each place of `whole`.
    let mut above = vec![0; whole.len() + 1];
    for (i, a) in part.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut above[0], i + 1);
        for (j, b) in whole.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = above[j + 1];
            above[j + 1] = substituted.min(above[j] + 1).min(diagonal + 1);
        }
    }
    above.into_iter().min().unwrap_or(part.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_same(a: &str, b: &str) -> bool {
        let (a, b) = (AdvertText::from(a), AdvertText::from(b));
        assert_eq!(a.is_same_as(&b), b.is_same_as(&a), "{a} {b}");
        a.is_same_as(&b)
    }

    #[test]
    fn misread_characters_spacing_width_and_missing_lines_do_not_change_a_text() {
        assert!(is_same("专业开锁换锁", "专业开锁换锁"));
        assert!(is_same("专业开锁换锁", "专业 开锁，换锁！"));
        assert!(is_same("专业开锁换锁", "专业开锁换领"));
        assert!(is_same("加ＶＸ：ＡＢＣ１２３４", "加vx:abc1234"));
        assert!(is_same("专业开锁换锁", "专业开锁换锁 随叫随到"), "a second line");
    }

    #[test]
    fn other_texts_and_short_ones_are_not_the_same() {
        assert!(!is_same("专业开锁换锁", "高价回收家电"));
        assert!(!is_same("专业开锁换锁", "专业疏通下水"), "two characters of six");
        assert!(!is_same("开锁", "开锁"), "too short to tell");
        assert!(
            !is_same("办证刻章", "本店正在装修 办证刻章请到三楼"),
            "a part of another text"
        );
        assert!(!is_same("", ""));
    }

    #[test]
    fn a_text_is_bounded_and_free_of_control_characters() {
        let long: String = std::iter::repeat_n('长', 1000).collect();
        assert_eq!(AdvertText::from(long).as_str().chars().count(), AdvertText::MAX_CHARS);
        assert_eq!(AdvertText::from("开锁\n\u{1b}[2J换锁").as_str(), "开锁[2J换锁");
        let read: AdvertText = serde_json::from_str("\"a\\u0000b\"").unwrap();
        assert_eq!(read.as_str(), "ab");
    }

    #[test]
    fn a_key_has_no_character_that_is_special_in_topics() {
        assert_eq!(AdvertText::from("办证/刻章 +#：Ａ1").key(), "办证刻章a1");
    }

    #[test]
    fn errors_are_counted_against_the_best_substring() {
        let errors = |a: &str, b: &str| errors_within(&letters(a), &letters(b));
        assert_eq!(errors("开锁换锁", "专业开锁换锁电话"), 0);
        assert_eq!(errors("开锁换锁", "专业开锁换领电话"), 1);
        assert_eq!(errors("开锁换锁", "专业开锁锁电话"), 1);
        assert_eq!(errors("开锁换锁", ""), 4);
        assert_eq!(errors("", "开锁"), 0);
    }
}
