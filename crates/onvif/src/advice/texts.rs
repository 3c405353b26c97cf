//! Texts of advice: templates with `{value}`, filled from the finding's own fields.

use std::{collections::BTreeMap, sync::LazyLock};

use gridwatch_base::language::Language;
use serde_json::Value;

use super::{Advice, Finding};
use crate::brand::{StreamRole, Text};

static TEXTS: LazyLock<BTreeMap<String, Text>> = LazyLock::new(|| {
    // A test reads the file; it is part of the program.
    toml::from_str(include_str!("texts.toml")).unwrap_or_default()
});

fn fields(finding: &Finding) -> BTreeMap<String, Value> {
    match serde_json::to_value(finding) {
        Ok(Value::Object(map)) => map.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

pub(super) fn key(finding: &Finding) -> String {
    let fields = fields(finding);
    fields
        .get("code")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

pub(super) fn text(advice: &Advice, language: Language) -> String {
    let named = |key: &str| TEXTS.get(key).map(|text| text.of(language)).unwrap_or_default();
    let mut fields = fields(&advice.finding);
    let code = fields.remove("code");
    let mut text = named(code.as_ref().and_then(Value::as_str).unwrap_or_default()).to_owned();
    let menu = advice.menu.as_ref().map(|menu| match language {
        Language::Zh => format!("（菜单：{}）", menu.zh),
        Language::En => format!(" (in its menu: {})", menu.en),
    });
    text = text.replace("{menu}", &menu.unwrap_or_default());
    // Values last, each once: a text of the camera may have braces in it.
    let mut filled = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        filled += before;
        filled += &fields.get(name).map(shown).unwrap_or_default();
        rest = after;
    }
    filled += rest;
    let stream = match advice.stream {
        None => "",
        Some(StreamRole::Main) => named("stream_main"),
        Some(StreamRole::Sub) => named("stream_sub"),
    };
    format!("{stream}{filled}")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64().filter(|_| !number.is_u64() && !number.is_i64()) {
            Some(n) if n.abs() >= 10.0 => format!("{n:.0}"),
            Some(n) => format!("{n:.1}").trim_end_matches(".0").to_owned(),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::{Menu, Severity};

    /// One of each kind.
    fn all() -> Vec<Finding> {
        let text = || "{menu} is text of the camera".to_owned();
        vec![
            Finding::StreamFails { error: text().into() },
            Finding::FormatUnsupported { format: text() },
            Finding::NoKeyframe {
                waited_s: 30.0,
                pictures: 50,
            },
            Finding::KeyframeIntervalLong {
                interval_s: 12.04,
                pictures: 50,
                wanted_s: 2.0,
                smart_codec: text(),
            },
            Finding::SmartCodec {
                shortest_s: 2.0,
                longest_s: 8.04,
                smart_codec: text(),
            },
            Finding::ResolutionLow {
                width: 640,
                height: 360,
                needed: 720,
            },
            Finding::ResolutionHigh {
                width: 3840,
                height: 2160,
            },
            Finding::BitRateHigh {
                mbps: 12.3,
                wanted_mbps: 4.0,
            },
            Finding::PictureCoarse {
                keyframe_kb: 12.5,
                wanted_kb: 39.0,
            },
            Finding::FrameRateLow { frame_rate: 0.5 },
            Finding::MotionJpeg { mbps: 20.0 },
            Finding::PacketLoss {
                percent: 1.2,
                transport: "udp",
            },
            Finding::ClockWrong {
                difference_s: -3_600.0,
                by: "onvif",
            },
            Finding::NoLogin,
            Finding::PasswordInClear,
            Finding::Redirected { to: text() },
            Finding::AddressElsewhere {
                what: "stream",
                host: text(),
            },
            Finding::StreamProblem { what: text() },
            Finding::OnvifLoginMissing,
            Finding::OnvifLoginRefused,
            Finding::OnvifFails { error: text().into() },
            Finding::NoSubStream,
            Finding::SubStreamEnough {
                width: 1280,
                height: 720,
                mbps: 1.0,
                main_mbps: 4.0,
            },
            Finding::SubStreamSmall {
                width: 640,
                height: 360,
                needed: 720,
            },
        ]
    }

    #[test]
    fn every_finding_has_both_texts_and_each_value_is_there() {
        let texts: BTreeMap<String, Text> = toml::from_str(include_str!("texts.toml")).unwrap();
        let findings = all();
        assert_eq!(texts.len(), findings.len() + 2, "and the names of the two streams");
        for finding in findings {
            let key = key(&finding);
            let template = texts.get(&key).unwrap_or_else(|| panic!("{key} has no texts"));
            for language in [Language::Zh, Language::En] {
                let known: Vec<String> = fields(&finding).into_keys().chain(["menu".to_owned()]).collect();
                for part in template.of(language).split('{').skip(1) {
                    let name = part.split_once('}').expect("a closing brace").0;
                    assert!(known.iter().any(|k| k == name), "{key}: {{{name}}} is no value");
                }
            }
        }
    }

    #[test]
    fn values_and_the_menu_are_filled_in_but_not_in_texts_of_the_camera() {
        let advice = |finding, menu: bool| Advice {
            severity: Severity::Warning,
            stream: Some(StreamRole::Main),
            finding,
            menu: menu.then(|| Menu {
                zh: "配置 → 视频".into(),
                en: "Configuration → Video".into(),
            }),
        };
        let long = Finding::KeyframeIntervalLong {
            interval_s: 12.04,
            pictures: 50,
            wanted_s: 2.0,
            smart_codec: "H.264+/H.265+".into(),
        };
        assert_eq!(
            advice(long.clone(), true).text(Language::En),
            "Main stream: keyframe interval 12 s. Set the I-frame interval to 50 pictures (2 s) and turn off the smart codec \
             (H.264+/H.265+) (in its menu: Configuration → Video): a look sees nothing newer than the last keyframe."
        );
        assert_eq!(
            advice(long, true).text(Language::Zh),
            "主码流：I 帧间隔 12 秒。请将 I 帧间隔设为 50 帧（2 秒），并关闭智能编码（H.264+/H.265+）（菜单：配置 → 视频），\
             否则查看到的画面可能陈旧。"
        );
        let hostile = advice(
            Finding::Redirected {
                to: "{menu}{to}".into(),
            },
            true,
        );
        assert!(hostile.text(Language::En).contains("{menu}{to}"));
        assert_eq!(hostile.key(), "redirected");
    }
}
