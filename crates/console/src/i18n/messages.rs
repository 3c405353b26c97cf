//! Chinese for sentences with an English template: faults of the configuration that can be caused from the console's forms, what stands against
//! readiness, and why the console did not do what was asked. The key is the English template ([`Message`]); a test finds those without Chinese.

use std::{collections::BTreeMap, sync::LazyLock};

use gridwatch_base::message::Message;
use gridwatch_config::{Fault, Language};
use gridwatch_onvif::advice::{Advice, Finding};

mod blockers;
mod connections;
mod faults;
mod places;
mod refusals;

static CHINESE: LazyLock<BTreeMap<&'static str, &'static str>> =
    LazyLock::new(|| TABLES.into_iter().flatten().copied().collect());

const TABLES: [&[(&str, &str)]; 5] = [
    faults::CHINESE,
    places::CHINESE,
    blockers::CHINESE,
    connections::CHINESE,
    refusals::CHINESE,
];

/// The Chinese template for an English one, of the console or of `gridwatch_web`.
pub(crate) fn chinese(template: &'static str) -> Option<&'static str> {
    let own = CHINESE.get(template).copied();
    own.or_else(|| gridwatch_web::i18n::chinese(template))
}

/// The sentence in a language; in English if the table does not have it.
pub(crate) fn message(message: &Message, language: Language) -> String {
    gridwatch_web::i18n::message(message, language, chinese)
}

/// Advice about a camera, with the errors in it in that language.
pub(crate) fn advice(advice: &Advice, language: Language) -> String {
    let mut advice = advice.clone();
    if let Finding::StreamFails { error } | Finding::OnvifFails { error } = &mut advice.finding {
        *error = message(error, language).into();
    }
    advice.text(language)
}

/// What is wrong and how to mend it. A sentence that the table does not have follows in English.
pub(crate) fn fault(fault: &Fault, language: Language) -> String {
    let Fault {
        message: what, remedy, ..
    } = fault;
    match language {
        Language::En if remedy.is_empty() => what.to_string(),
        Language::En => format!("{what}; {remedy}"),
        Language::Zh if !what.is_in(&chinese) && remedy.is_empty() => {
            format!("配置检查未通过（英文说明：{what}）")
        }
        Language::Zh if !what.is_in(&chinese) => format!("配置检查未通过（英文说明：{what}; {remedy}）"),
        Language::Zh if remedy.is_empty() => message(what, language),
        Language::Zh if remedy.is_in(&chinese) => {
            format!("{}；{}", message(what, language), message(remedy, language))
        }
        Language::Zh => format!("{}（英文说明：{remedy}）", message(what, language)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use gridwatch_base::message;

    use super::*;

    /// Sources of other crates whose sentences a form can cause, or that stand on every page; the console's own are all read. `true`: every text with a space in it is one.
    const SOURCES: [(&str, bool); 26] = [
        ("crates/base/src/document/fault.rs", false),
        ("crates/base/src/document/schema.rs", true),
        ("crates/base/src/clock/trust.rs", false),
        ("crates/config/src/diff.rs", false),
        ("crates/config/src/diff/shown.rs", false),
        ("crates/config/src/edit.rs", false),
        ("crates/config/src/edit/save.rs", false),
        ("crates/config/src/edit/signs.rs", false),
        ("crates/config/src/edit/texts.rs", false),
        ("crates/config/src/schema.rs", true),
        ("crates/config/src/check/calendar.rs", true),
        ("crates/config/src/check/cameras.rs", true),
        ("crates/config/src/check/grid_gaps.rs", false),
        ("crates/config/src/check/grid_messages.rs", false),
        ("crates/config/src/check/place.rs", true),
        ("crates/config/src/check/rules.rs", true),
        ("crates/config/src/check/signs.rs", true),
        ("crates/config/src/check/survey.rs", true),
        ("src/daemon/disk_probe.rs", false),
        ("crates/camera/src/receive.rs", false),
        ("crates/camera/src/slot.rs", false),
        ("crates/onvif/src/device/error.rs", false),
        ("crates/onvif/src/probe.rs", false),
        ("crates/rtsp/src/error.rs", false),
        ("src/daemon/readiness.rs", false),
        ("src/telemetry.rs", false),
    ];

    /// Texts that are no sentences, or stand within one whose whole is translated.
    const NO_SENTENCES: [&str; 2] = [", ", " "];

    /// The text literals of a source without comments and tests, each with what stands before it.
    fn literals(source: &str) -> Vec<(String, String)> {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code.lines().filter(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && !line.starts_with("#[")
        });
        let code = lines.collect::<Vec<_>>().join("\n");
        let (mut found, mut rest) = (Vec::new(), code.as_str());
        while let Some(start) = rest.find('"') {
            let mut text = String::new();
            let mut chars = rest[start + 1..].char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = start + 1 + at + 1;
                        break;
                    }
                    '\\' => match chars.next() {
                        Some((_, '\n')) => {
                            // The text goes on at the next line's first character.
                            let after = &rest[start + 1..];
                            let here = chars.clone().next().map_or(after.len(), |(at, _)| at);
                            let blank = after[here..].len() - after[here..].trim_start().len();
                            for _ in 0..after[here..here + blank].chars().count() {
                                chars.next();
                            }
                        }
                        Some((_, escaped)) => text.push(escaped),
                        None => break,
                    },
                    c => text.push(c),
                }
            }
            let before = rest[..start].trim_end();
            let tail: String = before
                .chars()
                .rev()
                .take(12)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect();
            found.push((tail, text));
            rest = &rest[end.min(rest.len())..];
        }
        found
    }

    /// The Rust files under a folder.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| match path.is_dir() {
                true => sources(&path),
                false => vec![path],
            })
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect()
    }

    #[test]
    fn every_sentence_of_the_forms_and_of_readiness_has_chinese() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (mut missing, mut sentences) = (Vec::new(), 0);
        let other = SOURCES.map(|(path, has_only_sentences)| (root.join(path), has_only_sentences));
        let own = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let own = own
            .into_iter()
            .map(|path| (path, false))
            .filter(|(path, _)| !path.ends_with("i18n/messages.rs"));
        for (path, has_only_sentences) in other.into_iter().chain(own) {
            let source = fs::read_to_string(&path).unwrap();
            for (before, text) in literals(&source) {
                let is_template = before.ends_with("message!(");
                let is_other =
                    before.ends_with("format!(") || before.ends_with("expect(") || before.ends_with("concat!(");
                let is_sentence = is_template || (has_only_sentences && text.contains(' ') && !is_other);
                if !is_sentence || NO_SENTENCES.contains(&text.as_str()) {
                    continue;
                }
                sentences += 1;
                if !CHINESE.contains_key(text.as_str()) {
                    missing.push(format!("{}: {text}", path.display()));
                }
            }
        }
        assert!(missing.is_empty(), "without Chinese:\n{}", missing.join("\n"));
        assert!(sentences > 150, "{sentences}: the sources are not read");
    }

    #[test]
    fn chinese_has_the_values_of_the_english_and_no_key_twice() {
        let names = |text: &str| {
            let mut names: Vec<String> = text
                .split('{')
                .skip(1)
                .filter_map(|part| part.split_once('}').map(|(name, _)| name.to_owned()))
                .filter(|name| {
                    name.chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                })
                .collect();
            names.sort();
            names
        };
        let all = TABLES.into_iter().flatten();
        for (english, chinese) in all {
            assert_eq!(names(english), names(chinese), "{english}");
        }
        assert_eq!(CHINESE.len(), TABLES.iter().map(|table| table.len()).sum::<usize>());
    }

    #[test]
    fn a_fault_reads_in_chinese_and_what_has_none_says_so() {
        let file = Path::new("edge.toml");
        let known = Fault::whole(
            file,
            message!("unknown rule {id}", id = "\"rubbish\""),
            "remove the line",
        );
        assert_eq!(super::fault(&known, Language::Zh), "没有规则 \"rubbish\"；删除此行");
        assert_eq!(
            super::fault(&known, Language::En),
            "unknown rule \"rubbish\"; remove the line"
        );
        let other = Fault::whole(file, String::from("invalid log filter: x"), "");
        assert_eq!(
            super::fault(&other, Language::Zh),
            "配置检查未通过（英文说明：invalid log filter: x）"
        );
    }
}
