//! The texts of the browser modules, from the dictionaries that they are built with, for the page that uses them.

use std::{collections::BTreeMap, sync::LazyLock};

use gridwatch_config::Language;

type Dictionary = BTreeMap<String, String>;

static ZH: LazyLock<Dictionary> = LazyLock::new(|| read(include_str!("../../web/i18n/zh.json")));
static EN: LazyLock<Dictionary> = LazyLock::new(|| read(include_str!("../../web/i18n/en.json")));

fn read(text: &str) -> Dictionary {
    // Part of the program; a test reads both.
    serde_json::from_str(text).unwrap_or_default()
}

/// The texts whose keys begin with one of `prefixes`, as JSON that may stand in a `script` element.
pub(crate) fn module_texts(language: Language, prefixes: &[&str]) -> String {
    let dictionary = match language {
        Language::Zh => &*ZH,
        Language::En => &*EN,
    };
    let wanted = dictionary
        .iter()
        .filter(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix)));
    let wanted: BTreeMap<&String, &String> = wanted.collect();
    serde_json::to_string(&wanted)
        .unwrap_or_default()
        .replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dictionaries_are_read_and_cannot_end_the_script() {
        assert_eq!(ZH.keys().collect::<Vec<_>>(), EN.keys().collect::<Vec<_>>());
        let live = module_texts(Language::Zh, &["live."]);
        assert!(live.contains("\"live.start\"") && !live.contains("zone."), "{live}");
        assert!(!module_texts(Language::En, &[""]).contains('<'));
    }
}
