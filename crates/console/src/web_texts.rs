//! Texts of the browser's modules, for the pages that use them: `web/i18n`, which the modules' own tests keep complete.

use std::{collections::BTreeMap, sync::LazyLock};

use gridwatch_config::Language;

type Dictionary = BTreeMap<String, String>;

static ZH: LazyLock<Dictionary> = LazyLock::new(|| parse(include_str!("../web/i18n/zh.json")));
static EN: LazyLock<Dictionary> = LazyLock::new(|| parse(include_str!("../web/i18n/en.json")));

fn parse(text: &str) -> Dictionary {
    // A test holds that both files can be read; without its texts a module shows their keys.
    serde_json::from_str(text).unwrap_or_default()
}

/// The texts whose keys begin with one of `prefixes`, as JSON to be put into a page.
pub(crate) fn of(language: Language, prefixes: &[&str]) -> String {
    with(language, prefixes, &[])
}

/// The same with other words for some of the keys.
pub(crate) fn with(language: Language, prefixes: &[&str], others: &[(&str, &str)]) -> String {
    let all = match language {
        Language::Zh => &*ZH,
        Language::En => &*EN,
    };
    let wanted = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
    let texts = all.iter().filter(|(key, _)| wanted(key));
    let texts = texts.map(|(key, text)| (key.as_str(), text.as_str()));
    let texts: BTreeMap<&str, &str> = texts.chain(others.iter().copied()).collect();
    in_page(&texts)
}

/// A value as JSON for a `script` element of type `application/json`: nothing in it ends the element.
pub(crate) fn in_page(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_there_in_both_languages_and_end_no_element() {
        for language in [Language::Zh, Language::En] {
            let texts: Dictionary = serde_json::from_str(&of(language, &["edit.", "hours."])).unwrap();
            assert!(
                texts.len() > 20
                    && texts
                        .keys()
                        .all(|key| key.starts_with("edit.") || key.starts_with("hours."))
            );
        }
        assert_eq!(ZH.keys().collect::<Vec<_>>(), EN.keys().collect::<Vec<_>>());
        assert_eq!(in_page(&"</script><!--"), "\"\\u003c/script>\\u003c!--\"");
    }
}
