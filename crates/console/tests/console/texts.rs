//! Both languages on every page, no text in templates, and colours that can be read.

use std::{collections::BTreeMap, fs, path::Path};

use crate::street::Served;

fn has_han(text: &str) -> bool {
    text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
}

#[test]
fn every_page_is_in_the_language_of_the_browser() {
    let served = Served::start();
    let id = served.file_case(1, "street-a", true);
    let pages = [
        "/",
        "/cases",
        "/cases?view=timeline",
        "/cases/map",
        "/review",
        "/users",
        "/account",
        "/cameras/street-a",
        "/cameras/street-a/remove",
        "/cameras/add",
        "/cameras/street-a/zones",
        "/cameras/street-a/calibration",
        "/cameras/street-a/aim",
        "/cameras/street-a/signs",
        "/cameras/street-a/presets",
        "/permits",
        "/permits/new",
        "/permits/proposals?days=14",
        "/hours",
        "/configuration",
        "/configuration/file",
        "/cameras/street-a/looks",
        "/candidates",
        "/thresholds",
        "/nowhere",
        "/system",
        "/system/outbox",
        "/system/models",
        "/system/metrics",
        "/system/log",
        "/system/audit",
        "/system/support",
        &format!("/cases/{id}"),
    ];
    for path in pages {
        let english = served.browser().with("Accept-Language", "en-GB,en;q=0.9").get(path);
        assert!(english.contains("<html lang=\"en\""), "{path}");
        let text = english.text().replace("中文", "");
        // What the city's data say stays as it is.
        let of_city = ["暴露垃圾", "世纪大道", "演示路", "演示广场"];
        let left: Vec<&str> = text
            .lines()
            .filter(|line| has_han(line) && path != format!("/cases/{id}"))
            .collect();
        let left: Vec<&&str> = left
            .iter()
            .filter(|line| !of_city.iter().any(|word| line.contains(word)))
            .collect();
        assert!(left.is_empty(), "{path}: {left:?}");
        let chinese = served.browser().with("Accept-Language", "zh-CN,zh;q=0.9").get(path);
        assert!(chinese.contains("<html lang=\"zh-CN\""), "{path}");
    }
}

#[test]
fn the_switches_of_language_and_theme_are_remembered() {
    let served = Served::start();
    let mut browser = served.browser().with("Accept-Language", "zh");
    let fields = [("language", "en"), ("theme", "dark"), ("next", "/cases")];
    let answer = served.post(&mut browser, "/", "/preferences", &fields);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/cases")));
    let page = browser.get("/cases");
    assert!(
        page.contains("<html lang=\"en\" data-theme=\"dark\">"),
        "{}",
        page.text()
    );
    assert!(served.street.acts().is_empty(), "not an act");
}

#[test]
fn templates_hold_no_text_and_nothing_inline() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        let mut plain = source.clone();
        for (open, close) in [("{#", "#}"), ("{%", "%}"), ("{{", "}}")] {
            while let Some(start) = plain.find(open) {
                let end = start + plain[start..].find(close).unwrap() + 2;
                plain.replace_range(start..end, "");
            }
        }
        for attribute in ["aria-label=\"", "alt=\"", "title=\"", "placeholder=\""] {
            for value in plain.split(attribute).skip(1) {
                let value = value.split('"').next().unwrap();
                assert!(
                    !value.contains(char::is_alphabetic),
                    "{}: {attribute}{value}",
                    path.display()
                );
            }
        }
        for forbidden in [
            "style=",
            "onclick",
            "onload",
            "javascript:",
            "hx-on",
            "hx-vals=\"js",
            "<style",
        ] {
            assert!(!source.contains(forbidden), "{}: {forbidden}", path.display());
        }
        assert!(!plain.contains("<script>"), "{}", path.display());
        while let Some(start) = plain.find('<') {
            let end = start + plain[start..].find('>').unwrap() + 1;
            plain.replace_range(start..end, " ");
        }
        let words: Vec<&str> = plain
            .split_whitespace()
            .filter(|word| word.contains(char::is_alphabetic))
            .collect();
        assert!(
            words.iter().all(|word| *word == "gridwatch"),
            "{}: {words:?}",
            path.display()
        );
        checked += 1;
    }
    assert!(checked > 10);
}

/// Relative luminance of `#rrggbb` (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let part = |i: usize| {
        let value = f64::from(u8::from_str_radix(&colour[i..i + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

fn contrast(one: &str, other: &str) -> f64 {
    let (a, b) = (luminance(one), luminance(other));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_text_can_be_read_on_its_ground_in_both_themes() {
    let css = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/css/console.css")).unwrap();
    let blocks: Vec<BTreeMap<&str, &str>> = css
        .split('{')
        .filter(|block| block.trim_start().starts_with("color-scheme"))
        .map(|block| {
            let lines = block.split('}').next().unwrap().lines();
            lines
                .filter_map(|line| line.trim().strip_prefix("--")?.trim_end_matches(';').split_once(": "))
                .collect()
        })
        .collect();
    assert_eq!(blocks.len(), 3, "light, dark by the system, dark by choice");
    assert_eq!(blocks[1], blocks[2], "dark is the same, however it was chosen");
    let on = |texts: &'static [&'static str], ground: &'static str| texts.iter().map(move |text| (*text, ground));
    for colours in &blocks {
        let pairs = on(&["text", "dim", "link", "good", "warn", "bad"], "ground")
            .chain(on(&["text", "dim", "link", "good", "warn", "bad"], "panel"))
            .chain([
                ("good", "good-ground"),
                ("warn", "warn-ground"),
                ("bad", "bad-ground"),
                ("on-button", "button"),
            ]);
        for (text, ground) in pairs {
            let found = contrast(colours[text], colours[ground]);
            assert!(found >= 4.5, "{text} on {ground}: {found:.2}");
        }
        // Borders of controls and the focus ring: WCAG 1.4.11.
        for (edge, ground) in on(&["edge", "focus"], "ground").chain(on(&["edge", "focus"], "panel")) {
            let found = contrast(colours[edge], colours[ground]);
            assert!(found >= 3.0, "{edge} on {ground}: {found:.2}");
        }
    }
}
