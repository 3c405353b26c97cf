//! The texts of the browser modules (`web/i18n`), for the pages that use them.

use std::{collections::BTreeMap, sync::LazyLock};

use gridwatch_config::Language;

static ZH: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| read(include_str!("../web/i18n/zh.json")));
static EN: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| read(include_str!("../web/i18n/en.json")));

fn read(text: &str) -> BTreeMap<String, String> {
    // Embedded and tested; without texts, modules show their keys.
    serde_json::from_str(text).unwrap_or_default()
}

/// The texts whose keys begin with one of `prefixes`, as JSON for a `script` element of type `application/json`.
pub(crate) fn json(language: Language, prefixes: &[&str]) -> String {
    let all = match language {
        Language::Zh => &*ZH,
        Language::En => &*EN,
    };
    let is_asked = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
    let texts: BTreeMap<_, _> = all.iter().filter(|(key, _)| is_asked(key)).collect();
    // An end tag in a text would end the element.
    serde_json::to_string(&texts)
        .unwrap_or_default()
        .replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_have_the_texts_of_a_module() {
        let (zh, en) = (json(Language::Zh, &["compare."]), json(Language::En, &["compare."]));
        assert!(zh.contains("处置前") && en.contains("compare.before"), "{zh} {en}");
        assert!(!zh.contains("zone."), "{zh}");
    }
}
