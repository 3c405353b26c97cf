//! The console's texts in Chinese and English.
//!
//! `gridwatch_web::texts!` makes a table of each page's texts: a key without one of the languages does not compile. Templates hold no text of their own
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

use gridwatch_config::Language;
use gridwatch_web::i18n::RoleTexts;

pub(crate) use self::{
    account::AccountTexts, add::AddTexts, cases::CaseTexts, common::CommonTexts, configuration::ConfigurationTexts,
    ledger::LedgerTexts, live::LiveTexts, names::NameTexts, permits::PermitTexts, presets::PresetTexts,
    reasons::ReasonTexts, review::ReviewTexts, signs::SignTexts, system::SystemTexts, wall::WallTexts,
};

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
    pub(crate) roles: RoleTexts,
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
    roles: RoleTexts::ZH,
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
    roles: RoleTexts::EN,
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
}
