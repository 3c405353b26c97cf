//! Texts in Chinese and English, and which of them a browser gets.
//!
//! [`texts!`](crate::texts!) makes a table of texts: a key without one of the languages does not compile. Each program has tables of its own; those
//! here are of what this crate says. Chinese is written as a clerk or operator would, not translated.

mod account;
mod errors;

use std::fmt::{self, Display};

use axum::http::{HeaderMap, header::ACCEPT_LANGUAGE};
use gridwatch_base::{language::Language, message::Message};

pub use self::{
    account::{AccountTexts, RoleTexts},
    errors::ErrorTexts,
};
use crate::cookies;

/// A text in one language. Words in braces are replaced by [`Phrase::with`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phrase(pub &'static str);

impl Phrase {
    /// The text with `{name}` replaced.
    pub fn with(self, name: &str, value: impl Display) -> Filled {
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
pub struct Filled(String);

impl Filled {
    /// The text with `{name}` replaced.
    #[must_use]
    pub fn with(self, name: &str, value: impl Display) -> Self {
        Self(self.0.replace(&format!("{{{name}}}"), &value.to_string()))
    }
}

impl Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a struct of texts: `pub struct Name { key: "Chinese" / "English", }`, with the values `Name::ZH` and `Name::EN`, and `Name::ALL` for
/// tests: key, Chinese and English of each.
#[macro_export]
macro_rules! texts {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($key:ident: $zh:literal / $en:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug)]
        $vis struct $name {
            $(#[doc = $en] $vis $key: $crate::i18n::Phrase,)*
        }

        impl $name {
            /// In Chinese.
            $vis const ZH: Self = Self { $($key: $crate::i18n::Phrase($zh),)* };
            /// In English.
            $vis const EN: Self = Self { $($key: $crate::i18n::Phrase($en),)* };
            /// Key, Chinese and English of each.
            #[cfg(test)]
            $vis const ALL: &[(&str, &str, &str)] = &[$((stringify!($key), $zh, $en),)*];
        }
    };
}

/// The texts of this crate in one language.
#[derive(Debug)]
pub struct Texts {
    /// Why something was not done.
    pub errors: ErrorTexts,
    /// Names of roles.
    pub roles: RoleTexts,
    /// Login, account, users and tokens.
    pub account: AccountTexts,
}

static ZH: Texts = Texts {
    errors: ErrorTexts::ZH,
    roles: RoleTexts::ZH,
    account: AccountTexts::ZH,
};

static EN: Texts = Texts {
    errors: ErrorTexts::EN,
    roles: RoleTexts::EN,
    account: AccountTexts::EN,
};

impl Texts {
    /// The texts in a language.
    pub fn of(language: Language) -> &'static Self {
        match language {
            Language::Zh => &ZH,
            Language::En => &EN,
        }
    }
}

/// The Chinese template for an English one ([`Message`]); `None` if there is none.
pub type ChineseOf = fn(&'static str) -> Option<&'static str>;

/// Chinese for the sentences that this crate makes.
const CHINESE: [(&str, &str); 3] = [
    (
        "another process is changing the users; try again",
        "另一个程序正在修改用户；请再试一次",
    ),
    ("too many logins wait", "等待登录的人过多"),
    ("too many open pages", "打开的页面过多"),
];

/// The [`ChineseOf`] for the sentences of this crate.
pub fn chinese(template: &'static str) -> Option<&'static str> {
    let found = CHINESE.iter().find(|(english, _)| *english == template);
    found.map(|(_, chinese)| *chinese)
}

/// A sentence in a language; in English if there is no Chinese for it.
pub fn message(message: &Message, language: Language, chinese: ChineseOf) -> String {
    match language {
        Language::Zh => message.in_language(&chinese),
        Language::En => message.to_string(),
    }
}

/// The language that the browser's user chose here, or else the first known one that the browser asks for, or else `default`.
pub fn language(headers: &HeaderMap, default: Language) -> Language {
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
pub fn parse(tag: &str) -> Option<Language> {
    match tag.split('-').next()?.to_ascii_lowercase().as_str() {
        "zh" => Some(Language::Zh),
        "en" => Some(Language::En),
        _ => None,
    }
}

/// The tag for `lang` attributes.
pub fn tag(language: Language) -> &'static str {
    match language {
        Language::Zh => "zh-CN",
        Language::En => "en",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let all = [ErrorTexts::ALL, RoleTexts::ALL, AccountTexts::ALL];
        for (key, zh, en) in all.into_iter().flatten() {
            assert!(!zh.trim().is_empty() && !en.trim().is_empty(), "{key}");
            assert_eq!(placeholders(zh), placeholders(en), "{key}");
            let has_han = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
            assert!(!has_han(en) || *en == "中文", "{key}: Chinese in the English text");
            assert!(has_han(zh) || zh == en || *zh == "English", "{key}: not translated");
            count += 1;
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn every_sentence_of_this_crate_has_chinese() {
        let mut sentences = 0;
        for file in ["error.rs", "events.rs", "form.rs", "login.rs", "routes.rs", "state.rs"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
            let source = std::fs::read_to_string(path).unwrap();
            for part in source.split("message!(\"").skip(1) {
                let english = part.split('"').next().unwrap_or_default();
                assert!(CHINESE.iter().any(|(known, _)| *known == english), "{file}: {english}");
                sentences += 1;
            }
        }
        assert_eq!(sentences, CHINESE.len());
    }

    #[test]
    fn the_browser_and_then_the_default_decide_the_language() {
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
