//! The words of adverts: trades with their phrases, and the words before a messenger id. They are data of the city
//! (`configs/adverts/default.toml`); this module matches them.
//!
//! A recogniser misreads single characters, so a phrase of four characters or more matches with one of them wrong, missing or extra,
//! and a phrase of three with one wrong. Shorter ones must match exactly: with one of two characters wrong, anything would.

use std::ops::Range;

use gridwatch_engine::half_width;

use super::ctc::RecognisedChar;

/// The words of adverts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Phrasebook {
    /// The trades, in the order of the file.
    pub trades: Vec<Trade>,
    /// Words before a messenger id, in normal form.
    pub messengers: Vec<Messenger>,
    /// What makes a line a banner.
    pub banner: Banner,
    /// What makes a text a public notice.
    pub notices: Notices,
}

/// Words of public notices, such as 通知 or 请勿.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notices(Vec<Vec<char>>);

/// A trade that is advertised on walls.
#[derive(Debug, Clone, PartialEq)]
pub struct Trade {
    /// Id, as in the file.
    pub id: String,
    /// Chinese name.
    pub name_zh: String,
    /// English name.
    pub name_en: String,
    /// Its phrases, normalised.
    phrases: Vec<Vec<char>>,
}

/// A messenger and the words that announce an id.
#[derive(Debug, Clone, PartialEq)]
pub struct Messenger {
    /// Name, such as `wechat`.
    pub id: String,
    /// The form of its ids.
    pub form: IdForm,
    /// The words, normalised.
    words: Vec<Vec<char>>,
}

/// The form of a messenger's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdForm {
    /// A letter, then 5 to 19 letters, digits, `-` or `_` （微信号）.
    Letters,
    /// 5 to 11 digits, the first of which is not 0 （QQ 号）.
    Digits,
}

/// What makes a line of text a banner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Banner {
    /// Fewest Chinese characters.
    pub min_chars: usize,
    /// Smallest ratio of length to height.
    pub min_aspect: f32,
}

impl Default for Banner {
    /// No line is a banner.
    fn default() -> Self {
        Self {
            min_chars: usize::MAX,
            min_aspect: f32::INFINITY,
        }
    }
}

/// A match in a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Match<'a> {
    /// The trade's id, or the messenger's.
    pub(super) id: &'a str,
    /// Mean score of the matched characters, 0..=1.
    pub(super) score: f32,
}

/// A messenger id in a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MessengerMatch<'a> {
    /// The messenger.
    pub(super) messenger: &'a str,
    /// The id.
    pub(super) value: String,
    /// Lowest score of its characters, 0..=1.
    pub(super) score: f32,
}

/// Shortest phrase that may have a character missing or extra.
const MIN_EDITED: usize = 4;
/// Shortest phrase that may have a wrong character.
const MIN_SUBSTITUTED: usize = 3;
/// Most characters between a messenger's word and its id, as in `微信号：`.
const MAX_BETWEEN: usize = 4;

/// The letters and digits of a phrase, half-width and in lower case; `+` stays, as in `+V`.
pub fn normalised(text: &str) -> Vec<char> {
    text.chars().filter_map(normal).collect()
}

fn normal(c: char) -> Option<char> {
    let c = half_width(c).to_ascii_lowercase();
    (c.is_alphanumeric() || c == '+').then_some(c)
}

impl Trade {
    /// A trade; phrases without letters or digits are dropped.
    pub fn new(id: &str, name_zh: &str, name_en: &str, phrases: &[String]) -> Self {
        let phrases = phrases.iter().map(|p| normalised(p));
        Self {
            id: id.into(),
            name_zh: name_zh.into(),
            name_en: name_en.into(),
            phrases: phrases.filter(|p| !p.is_empty()).collect(),
        }
    }
}

impl Messenger {
    /// A messenger; words without letters or digits are dropped.
    pub fn new(id: &str, form: IdForm, words: &[String]) -> Self {
        let words = words.iter().map(|w| normalised(w));
        Self {
            id: id.into(),
            form,
            words: words.filter(|w| !w.is_empty()).collect(),
        }
    }
}

impl Notices {
    /// Notices with one of these words; words without letters or digits are dropped.
    pub fn new(words: &[String]) -> Self {
        let words = words.iter().map(|w| normalised(w));
        Self(words.filter(|w| !w.is_empty()).collect())
    }
}

impl Phrasebook {
    /// True if the text has a word of a public notice.
    pub(super) fn is_notice(&self, text: &[RecognisedChar]) -> bool {
        let chars: Vec<char> = text.iter().filter_map(|c| normal(c.char)).collect();
        self.notices.0.iter().any(|word| find(word, &chars).is_some())
    }

    /// The trades of which a phrase is in the text, in the order of the file.
    pub(super) fn trades_in<'a>(&'a self, text: &[RecognisedChar]) -> Vec<Match<'a>> {
        let (chars, scores): (Vec<char>, Vec<f32>) =
            text.iter().filter_map(|c| Some((normal(c.char)?, c.score))).unzip();
        let trades = self.trades.iter().filter_map(|trade| {
            let at = trade.phrases.iter().find_map(|phrase| find(phrase, &chars))?;
            let score = scores[at.clone()].iter().sum::<f32>() / at.len().max(1) as f32;
            Some(Match { id: &trade.id, score })
        });
        trades.collect()
    }

    /// The first messenger id in the text.
    pub(super) fn messenger_in<'a>(&'a self, text: &[RecognisedChar]) -> Option<MessengerMatch<'a>> {
        let chars: Vec<char> = text.iter().map(|c| half_width(c.char)).collect();
        self.messengers.iter().find_map(|messenger| {
            let mut words = messenger.words.iter().flat_map(|word| ends_of(word, &chars));
            let id = words.find_map(|end| messenger.form.find_after(&chars, end))?;
            Some(MessengerMatch {
                messenger: &messenger.id,
                value: chars[id.clone()].iter().collect(),
                score: text[id].iter().map(|c| c.score).fold(1.0, f32::min),
            })
        })
    }
}

impl IdForm {
    /// The id that follows a word which ends at `end`.
    fn find_after(self, chars: &[char], end: usize) -> Option<Range<usize>> {
        let is_part = |c: char| match self {
            Self::Letters => c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
            Self::Digits => c.is_ascii_digit(),
        };
        let is_start = |c: char| match self {
            Self::Letters => c.is_ascii_alphabetic(),
            Self::Digits => matches!(c, '1'..='9'),
        };
        let start = (end..chars.len().min(end + MAX_BETWEEN + 1)).find(|i| is_part(chars[*i]))?;
        let length = chars[start..].iter().take_while(|c| is_part(**c)).count();
        let range = match self {
            Self::Letters => 6..=20,
            Self::Digits => 5..=11,
        };
        (is_start(chars[start]) && range.contains(&length)).then(|| start..start + length)
    }
}

/// Where `phrase` is in `text`, with the errors that its length allows.
fn find(phrase: &[char], text: &[char]) -> Option<Range<usize>> {
    let exact = text.windows(phrase.len()).position(|w| w == phrase);
    if let Some(start) = exact {
        return Some(start..start + phrase.len());
    }
    if phrase.len() < MIN_SUBSTITUTED {
        return None;
    }
    let wrong = |w: &[char]| w.iter().zip(phrase).filter(|(a, b)| a != b).count();
    if let Some(start) = text.windows(phrase.len()).position(|w| wrong(w) == 1) {
        return Some(start..start + phrase.len());
    }
    if phrase.len() < MIN_EDITED {
        return None;
    }
    [phrase.len() - 1, phrase.len() + 1].into_iter().find_map(|length| {
        let is_match = |w: &[char]| is_one_shorter(w, phrase) || is_one_shorter(phrase, w);
        let start = text.windows(length).position(is_match)?;
        Some(start..start + length)
    })
}

/// True if `short` is `long` without one character.
fn is_one_shorter(short: &[char], long: &[char]) -> bool {
    let same = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    short.len() + 1 == long.len() && short[same..] == long[same + 1..]
}

/// The ends of all occurrences of a normalised word in a text, as indices into the text.
fn ends_of(word: &[char], text: &[char]) -> Vec<usize> {
    let normalised: Vec<(usize, char)> = text
        .iter()
        .enumerate()
        .filter_map(|(i, c)| Some((i, normal(*c)?)))
        .collect();
    let windows = normalised.windows(word.len());
    let found = windows.filter(|w| w.iter().map(|(_, c)| c).eq(word));
    found.filter_map(|w| w.last().map(|(i, _)| i + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chars(text: &str) -> Vec<RecognisedChar> {
        let char = |char| RecognisedChar { char, score: 0.9 };
        text.chars().map(char).collect()
    }

    fn book() -> Phrasebook {
        let strings = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        Phrasebook {
            trades: vec![
                Trade::new("locks", "开锁", "locksmith", &strings(&["开锁"])),
                Trade::new("drains", "疏通", "drains", &strings(&["通下水", "疏通管道"])),
            ],
            messengers: vec![
                Messenger::new("wechat", IdForm::Letters, &strings(&["微信", "加V", "VX", "+V"])),
                Messenger::new("qq", IdForm::Digits, &strings(&["QQ"])),
            ],
            banner: Banner::default(),
            notices: Notices::new(&strings(&["通知", "注意安全"])),
        }
    }

    fn trades(text: &str) -> Vec<String> {
        let book = book();
        book.trades_in(&chars(text))
            .into_iter()
            .map(|m| m.id.to_owned())
            .collect()
    }

    fn messenger(text: &str) -> Option<String> {
        let book = book();
        let found = book.messenger_in(&chars(text))?;
        Some(format!("{} {}", found.messenger, found.value))
    }

    #[test]
    fn a_phrase_matches_with_the_errors_its_length_allows() {
        for text in ["开锁", "专业 开 锁 换锁", "开·锁"] {
            assert_eq!(trades(text), ["locks"], "{text}");
        }
        for text in [
            "通下水",
            "通下氷",
            "疏通管道",
            "疏逋管道",
            "疏通管",
            "疏通下管道",
            "疏管道",
        ] {
            assert_eq!(trades(text), ["drains"], "{text}");
        }
        for text in ["开领", "开", "下水", "管道", "通过下面", "疏管", "欢迎光临", ""] {
            assert!(trades(text).is_empty(), "{text}");
        }
        assert_eq!(trades("开锁 通下水"), ["locks", "drains"]);
    }

    #[test]
    fn a_notice_has_one_of_its_words() {
        let book = book();
        for text in ["停水通知 周三停水一天", "注意女全"] {
            assert!(book.is_notice(&chars(text)), "{text}");
        }
        for text in ["注意", "开锁", ""] {
            assert!(!book.is_notice(&chars(text)), "{text}");
        }
    }

    #[test]
    fn messenger_ids_are_found_after_their_words() {
        let found = |text: &str| messenger(text).unwrap_or_default();
        assert_eq!(found("加微信abc_12345"), "wechat abc_12345");
        assert_eq!(found("微信号：Kai-Suo88"), "wechat Kai-Suo88");
        assert_eq!(found("ＶＸ：ｋａｉｓｕｏ８８"), "wechat kaisuo88");
        assert_eq!(found("+V kaisuo88"), "wechat kaisuo88");
        assert_eq!(found("Q Q:123456789"), "qq 123456789");
        for text in [
            "微信支付",
            "微信abc",
            "QQ1234",
            "QQ 012345",
            "QQ123456789012",
            "abc_12345",
            "微信扫一扫就能看abc_12345",
        ] {
            assert_eq!(messenger(text), None, "{text}");
        }
    }

    #[test]
    fn a_match_has_the_score_of_its_characters() {
        let mut text = chars("专业开锁");
        text[2].score = 0.5;
        let book = book();
        assert!((book.trades_in(&text)[0].score - 0.7).abs() < 1e-6);
    }
}
