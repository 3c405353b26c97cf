//! The console's texts in Chinese and English, and which of them a browser gets.
//!
//! [`texts!`] makes a table of each page's texts: a key without one of the languages does not compile. Templates hold no text of their own
//! (`tests/texts.rs`). Chinese is written as a clerk or operator would, not translated.

mod account;
mod add;
mod cases;
mod common;
mod configuration;
mod ledger;
mod live;
pub(crate) mod messages;
mod names;
mod permits;
mod presets;
pub(crate) mod reasons;
mod review;
mod signs;
mod system;
mod wall;

use std::fmt::{self, Display};

use axum::http::{HeaderMap, header::ACCEPT_LANGUAGE};
use gridwatch_config::Language;

pub(crate) use self::{
    account::AccountTexts, add::AddTexts, cases::CaseTexts, common::CommonTexts, configuration::ConfigurationTexts,
    ledger::LedgerTexts, live::LiveTexts, names::NameTexts, permits::PermitTexts, presets::PresetTexts,
    reasons::ReasonTexts, review::ReviewTexts, signs::SignTexts, system::SystemTexts, wall::WallTexts,
};
use crate::cookies;

/// A text of the console, in one language. Words in braces are replaced by [`Phrase::with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phrase(pub(crate) &'static str);

impl Phrase {
    /// The text with `{name}` replaced.
    pub(crate) fn with(self, name: &str, value: impl Display) -> Filled {
        Filled(self.0.to_owned()).with(name, value)
    }
}

impl Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl askama::FastWritable for Phrase {
    fn write_into(&self, dest: &mut dyn fmt::Write, _: &dyn askama::Values) -> askama::Result<()> {
        Ok(dest.write_str(self.0)?)
    }
}

/// A text with some of its words replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filled(String);

impl Filled {
    /// The text with `{name}` replaced.
    pub(crate) fn with(self, name: &str, value: impl Display) -> Self {
        Self(self.0.replace(&format!("{{{name}}}"), &value.to_string()))
    }
}

impl Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a struct of texts: `key: "Chinese" / "English",`.
macro_rules! texts {
    ($(#[$meta:meta])* $name:ident { $($key:ident: $zh:literal / $en:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $(pub(crate) $key: $crate::i18n::Phrase,)*
        }

        impl $name {
            pub(super) const ZH: Self = Self { $($key: $crate::i18n::Phrase($zh),)* };
            pub(super) const EN: Self = Self { $($key: $crate::i18n::Phrase($en),)* };
            /// Key, Chinese and English of each.
            #[cfg(test)]
            pub(super) const ALL: &[(&str, &str, &str)] = &[$((stringify!($key), $zh, $en),)*];
        }
    };
}
use texts;

/// All texts in one language.
#[derive(Debug)]
pub(crate) struct Texts {
    /// Theirs.
    pub(crate) language: Language,
    pub(crate) common: CommonTexts,
    pub(crate) names: NameTexts,
    pub(crate) wall: WallTexts,
    pub(crate) cases: CaseTexts,
    pub(crate) review: ReviewTexts,
    pub(crate) account: AccountTexts,
    pub(crate) live: LiveTexts,
    pub(crate) add: AddTexts,
    pub(crate) configuration: ConfigurationTexts,
    pub(crate) system: SystemTexts,
    pub(crate) ledger: LedgerTexts,
    pub(crate) reasons: ReasonTexts,
    pub(crate) permits: PermitTexts,
    pub(crate) signs: SignTexts,
    pub(crate) presets: PresetTexts,
}

static ZH: Texts = Texts {
    language: Language::Zh,
    common: CommonTexts::ZH,
    names: NameTexts::ZH,
    wall: WallTexts::ZH,
    cases: CaseTexts::ZH,
    review: ReviewTexts::ZH,
    account: AccountTexts::ZH,
    live: LiveTexts::ZH,
    add: AddTexts::ZH,
    configuration: ConfigurationTexts::ZH,
    system: SystemTexts::ZH,
    ledger: LedgerTexts::ZH,
    reasons: ReasonTexts::ZH,
    permits: PermitTexts::ZH,
    signs: SignTexts::ZH,
    presets: PresetTexts::ZH,
};

static EN: Texts = Texts {
    language: Language::En,
    common: CommonTexts::EN,
    names: NameTexts::EN,
    wall: WallTexts::EN,
    cases: CaseTexts::EN,
    review: ReviewTexts::EN,
    account: AccountTexts::EN,
    live: LiveTexts::EN,
    add: AddTexts::EN,
    configuration: ConfigurationTexts::EN,
    system: SystemTexts::EN,
    ledger: LedgerTexts::EN,
    reasons: ReasonTexts::EN,
    permits: PermitTexts::EN,
    signs: SignTexts::EN,
    presets: PresetTexts::EN,
};

impl Texts {
    /// The texts in a language.
    pub(crate) fn of(language: Language) -> &'static Self {
        match language {
            Language::Zh => &ZH,
            Language::En => &EN,
        }
    }
}

/// The language that the browser's user chose here, or else the first known one that the browser asks for, or else `default`.
pub(crate) fn language(headers: &HeaderMap, default: Language) -> Language {
    if let Some(chosen) = cookies::get(headers, cookies::LANGUAGE).and_then(|tag| parse(&tag)) {
        return chosen;
    }
    let values = headers.get_all(ACCEPT_LANGUAGE).iter();
    let ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let weighted = ranges.filter_map(|range| {
        let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
        let weight = parameters
            .trim()
            .strip_prefix("q=")
            .map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
        Some((parse(tag.trim())?, weight)).filter(|(_, weight)| *weight > 0.0)
    });
    // Of equal weights the first is preferred.
    let best = weighted.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(default, |(language, _)| language)
}

/// The language of a tag such as `zh-Hans-CN`.
pub(crate) fn parse(tag: &str) -> Option<Language> {
    match tag.split('-').next()?.to_ascii_lowercase().as_str() {
        "zh" => Some(Language::Zh),
        "en" => Some(Language::En),
        _ => None,
    }
}

/// The tag for `lang` attributes.
pub(crate) fn tag(language: Language) -> &'static str {
    match language {
        Language::Zh => "zh-CN",
        Language::En => "en",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
        [
            CommonTexts::ALL,
            NameTexts::ALL,
            WallTexts::ALL,
            CaseTexts::ALL,
            ReviewTexts::ALL,
            AccountTexts::ALL,
            LiveTexts::ALL,
            AddTexts::ALL,
            ConfigurationTexts::ALL,
            SystemTexts::ALL,
            LedgerTexts::ALL,
            ReasonTexts::ALL,
            PermitTexts::ALL,
            SignTexts::ALL,
            PresetTexts::ALL,
        ]
        .into_iter()
        .flatten()
    }

    /// The words in braces, in order of the alphabet.
    fn placeholders(text: &str) -> Vec<&str> {
        let mut found: Vec<&str> = text
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn both_languages_have_all_texts_with_the_same_placeholders() {
        let mut count = 0;
        for (key, zh, en) in all() {
            assert!(!zh.trim().is_empty() && !en.trim().is_empty(), "{key}");
            assert_eq!(placeholders(zh), placeholders(en), "{key}");
            let has_han = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
            assert!(!has_han(en) || *en == "中文", "{key}: Chinese in the English text");
            assert!(has_han(zh) || zh == en || *zh == "English", "{key}: not translated");
            count += 1;
        }
        assert!(count > 100, "{count}");
    }

    #[test]
    fn the_browser_and_then_the_box_decide_the_language() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, accept.parse().unwrap());
            language(&headers, Language::Zh)
        };
        assert_eq!(of("en-US,en;q=0.9,zh;q=0.8"), Language::En);
        assert_eq!(of("fr,zh-TW;q=0.5,en;q=0.7"), Language::En);
        assert_eq!(of("zh-Hans-CN, en"), Language::Zh);
        assert_eq!(of("en;q=0, fr"), Language::Zh);
        assert_eq!(of(";;q=,,"), Language::Zh);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, "zh".parse().unwrap());
        headers.insert("cookie", "a=b; gridwatch_lang=en".parse().unwrap());
        assert_eq!(language(&headers, Language::Zh), Language::En);
    }
}
