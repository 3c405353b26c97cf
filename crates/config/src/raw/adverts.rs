//! The format of the file of advert words (`reading.adverts`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ID_PATTERN;

/// The words by which the text of small ads and banners is recognised.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "gridwatch adverts file")]
pub struct Adverts {
    /// Trades that are advertised on walls. A phrase of one of them together with a messenger id is a small ad.
    #[serde(default)]
    #[schemars(length(max = 200))]
    pub trades: Vec<TradeWords>,
    /// Messengers, and the words that announce an id.
    #[serde(default)]
    #[schemars(length(max = 50))]
    pub messengers: Vec<MessengerWords>,
    /// What makes a line a banner. Unset: no line is one.
    #[serde(default)]
    pub banner: Option<BannerShape>,
    /// Words of public notices, such as 通知 or 请勿: what bears one of them and no advert is lawful. Read like the phrases of trades.
    #[serde(default)]
    #[schemars(length(max = 200), inner(length(min = 2, max = 20)))]
    pub notices: Vec<String>,
}

/// A trade.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TradeWords {
    /// Id: letters, digits, `-` and `_`, unique in the file.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Chinese name.
    #[schemars(length(min = 1, max = 40))]
    pub zh: String,
    /// English name.
    #[schemars(length(min = 1, max = 80))]
    pub en: String,
    /// Phrases, each of two characters or more. Spaces, punctuation, case and width do not count. A phrase of three characters may be read with one of them wrong, a longer one also with one missing or extra.
    #[schemars(length(min = 1, max = 200), inner(length(min = 2, max = 20)))]
    pub phrases: Vec<String>,
}

/// A messenger.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessengerWords {
    /// Id: letters, digits, `-` and `_`, unique in the file.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// The form of its ids.
    pub form: MessengerForm,
    /// Words before an id, such as 微信 or 加V. They must be read exactly.
    #[schemars(length(min = 1, max = 50), inner(length(min = 2, max = 20)))]
    pub words: Vec<String>,
}

/// The form of a messenger's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessengerForm {
    /// A letter, then 5 to 19 letters, digits, `-` or `_` （微信号）.
    Letters,
    /// 5 to 11 digits, the first of which is not 0 （QQ 号）.
    Digits,
}

/// The shape of a banner's line.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BannerShape {
    /// Minimum number of Chinese characters.
    #[schemars(range(min = 4, max = 100))]
    pub min_chars: u32,
    /// Minimum ratio of length to height.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub min_aspect: f32,
}
