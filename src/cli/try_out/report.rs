//! The report of `gridwatch try`: one HTML page, and the summary on the terminal, in Chinese or English.

use std::collections::BTreeMap;

use gridwatch_base::{language::Language, text::counted};
use gridwatch_engine::{Case, Detection};
use serde::Serialize;

use super::trial::LookTime;

/// What was seen, and what would be filed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The URL or file, without password.
    pub(super) source: String,
    /// Pixels.
    pub(super) width: u32,
    /// Pixels.
    pub(super) height: u32,
    /// Pictures looked at.
    pub(super) looks: usize,
    /// Of these, through a view that cannot be judged: dark, blurred, blocked or frozen.
    pub(super) unclear: usize,
    /// Why it covers less than was asked for: an interruption, or the camera's fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended_early: Option<String>,
    /// Whether it was judged what stays; false for single pictures.
    pub(super) judged: bool,
    pub(super) dwell: String,
    pub(super) models: Vec<ModelRow>,
    pub(super) cases: Vec<CaseRow>,
    /// The rules of what was still a candidate at the end.
    pub(super) candidates: Vec<String>,
    /// Candidates that were not filed, by reason.
    pub(super) not_filed: BTreeMap<String, u32>,
    pub(super) pictures: Vec<PictureRow>,
}

/// What one model found.
#[derive(Debug, Serialize)]
pub(super) struct ModelRow {
    id: String,
    labels: Vec<LabelRow>,
}

impl ModelRow {
    /// `found`: looks with each label, and its best score.
    pub(super) fn new(id: &str, found: &BTreeMap<String, (u32, f32)>) -> Self {
        let row = |(label, (looks, score)): (&String, &(u32, f32))| LabelRow {
            label: label.clone(),
            count: *looks,
            score: *score,
        };
        let mut labels: Vec<LabelRow> = found.iter().map(row).collect();
        labels.sort_by_key(|row| std::cmp::Reverse(row.count));
        Self {
            id: id.to_owned(),
            labels,
        }
    }
}

/// A label, how often it was found with a score of at least 0.3, and its best score.
#[derive(Debug, Serialize)]
pub(super) struct LabelRow {
    label: String,
    /// Looks with it, or boxes in one picture.
    count: u32,
    score: f32,
}

impl LabelRow {
    /// The labels in one picture.
    pub(super) fn of<'a>(detections: impl Iterator<Item = &'a Detection>) -> Vec<Self> {
        let mut labels: BTreeMap<&str, (u32, f32)> = BTreeMap::new();
        for d in detections {
            let (count, score) = labels.entry(d.label.as_str()).or_default();
            (*count, *score) = (*count + 1, score.max(d.score));
        }
        let row = |(label, (count, score)): (&str, (u32, f32))| Self {
            label: label.to_owned(),
            count,
            score,
        };
        labels.into_iter().map(row).collect()
    }
}

/// A case that would be filed.
#[derive(Debug, Serialize)]
pub(super) struct CaseRow {
    rule: String,
    category: String,
    name_zh: String,
    name_en: String,
    /// Presence, seconds.
    dwell_s: f64,
    looks_seen: u32,
    looks: u32,
    confidence: f32,
    /// The look that saw it first, and the one that confirmed it.
    pictures: Vec<PictureRow>,
}

impl CaseRow {
    pub(super) fn new(case: &Case, pictures: Vec<PictureRow>) -> Self {
        Self {
            rule: case.rule.to_string(),
            category: case.category.code.clone(),
            name_zh: case.category.name_zh.clone(),
            name_en: case.category.name_en.clone(),
            dwell_s: case.dwell.as_secs_f64(),
            looks_seen: case.looks_seen,
            looks: case.looks,
            confidence: case.confidence,
            pictures,
        }
    }
}

/// A picture in the report's folder.
#[derive(Debug, Serialize)]
pub(super) struct PictureRow {
    pub(super) file: String,
    pub(super) time: String,
    pub(super) view: &'static str,
    pub(super) labels: Vec<LabelRow>,
}

impl From<LookTime> for String {
    fn from(time: LookTime) -> Self {
        match time {
            LookTime::Clock(at) => at.strftime("%F %T UTC").to_string(),
            LookTime::InClip(seconds) => format!("{seconds:.1} s"),
            LookTime::File(name) => name,
        }
    }
}

/// The words of one language.
pub(super) struct Texts {
    is_zh: bool,
    title: &'static str,
    seen: &'static str,
    nothing: &'static str,
    filed: &'static str,
    pictures: &'static str,
    masked: &'static str,
    next: &'static str,
    first: &'static str,
    confirmed: &'static str,
    pub(super) page: &'static str,
}

const EN: Texts = Texts {
    is_zh: false,
    title: "What gridwatch sees",
    seen: "What each model found",
    nothing: "nothing",
    filed: "What would be filed",
    pictures: "Pictures",
    masked: "Faces, heads and plates are masked as far as the models find them: look before you pass a picture on. Boxes have their score beside them; scores below 0.3 are left out.",
    next: "The dwell was shortened for this trial. `gridwatch init` writes a configuration, in which zones, dwell and scores are set for each camera.",
    first: "first seen",
    confirmed: "confirmed",
    page: "Report",
};

const ZH: Texts = Texts {
    is_zh: true,
    title: "gridwatch 试看结果",
    seen: "各模型的检出",
    nothing: "无",
    filed: "可立案的问题",
    pictures: "画面",
    masked: "人脸、头部和车牌已按模型检出的范围遮挡：转发前请先查看。方框旁为置信度，低于 0.3 的不显示。",
    next: "本次试看缩短了停留时间。用 `gridwatch init` 生成配置后，可为每个摄像机设置区域、停留时间和阈值。",
    first: "首次发现",
    confirmed: "确认",
    page: "报告",
};

impl Texts {
    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::Zh => &ZH,
            Language::En => &EN,
        }
    }

    /// The lines on the terminal.
    pub(super) fn summary(&self, report: &Report) -> Vec<String> {
        let mut lines = vec![self.head(report)];
        lines.extend(self.ended_early(report));
        for model in &report.models {
            lines.push(format!("  {:<22} {}", model.id, self.labels(&model.labels, "次")));
        }
        if report.judged {
            lines.push(self.verdict(report));
            for case in &report.cases {
                lines.push(format!("  {}", self.case(case)));
            }
            lines.extend(self.others(report));
        }
        lines
    }

    /// That the report covers less than was asked for.
    fn ended_early(&self, report: &Report) -> Option<String> {
        let reason = report.ended_early.as_ref()?;
        Some(match self.is_zh {
            true => format!("提前结束，仅含此前的画面：{reason}"),
            false => format!("Ended early, so this covers only what was seen until then: {reason}"),
        })
    }

    fn head(&self, report: &Report) -> String {
        let Report {
            source,
            width,
            height,
            looks,
            unclear,
            ..
        } = report;
        let mut line = match self.is_zh {
            true => format!("{source}（{width}×{height}）：查看 {looks} 次"),
            false => format!("{source} ({width}×{height}): {}", counted(*looks, "look", "looks")),
        };
        if *unclear > 0 {
            line += &match self.is_zh {
                true => format!("，其中 {unclear} 次画面过暗、模糊、被遮挡或冻结"),
                false => format!(", {unclear} of them through a dark, blurred, blocked or frozen view"),
            };
        }
        line
    }

    /// `unit_zh` is the Chinese measure word: 次 for looks, 处 for places in a picture.
    fn labels(&self, labels: &[LabelRow], unit_zh: &str) -> String {
        if labels.is_empty() {
            return self.nothing.to_owned();
        }
        let row = |row: &LabelRow| match self.is_zh {
            true => format!("{} {} {unit_zh}（最高 {:.2}）", row.label, row.count, row.score),
            false => format!("{} {}× (best {:.2})", row.label, row.count, row.score),
        };
        labels
            .iter()
            .map(row)
            .collect::<Vec<_>>()
            .join(if self.is_zh { "、" } else { ", " })
    }

    fn verdict(&self, report: &Report) -> String {
        let (cases, dwell) = (report.cases.len(), &report.dwell);
        match self.is_zh {
            true => format!("停留时间取 {dwell}（默认规则为 5 至 30 分钟），可立案 {cases} 件。"),
            false => format!(
                "With a dwell of {dwell} (5 to 30 minutes in service), {} would be filed.",
                counted(cases, "case", "cases")
            ),
        }
    }

    fn case(&self, case: &CaseRow) -> String {
        let CaseRow {
            category,
            rule,
            dwell_s,
            looks_seen,
            looks,
            confidence,
            ..
        } = case;
        match self.is_zh {
            true => format!(
                "{category} {}：规则 {rule}，停留 {dwell_s:.0} 秒，{looks} 次查看中检出 {looks_seen} 次，置信度 {confidence:.2}",
                case.name_zh
            ),
            false => format!(
                "{category} {}: rule {rule}, stayed {dwell_s:.0} s, seen in {looks_seen} of {looks} looks, score {confidence:.2}",
                case.name_en
            ),
        }
    }

    /// What else was a candidate.
    fn others(&self, report: &Report) -> Vec<String> {
        let mut lines = Vec::new();
        if !report.candidates.is_empty() {
            let rules = report.candidates.join(", ");
            lines.push(match self.is_zh {
                true => format!("结束时仍在观察：{rules}"),
                false => format!("Still watched at the end: {rules}"),
            });
        }
        // These have no place in a trial: every detection below the start score counts as one.
        let reasons = report
            .not_filed
            .iter()
            .filter(|(reason, _)| reason.as_str() != "score_too_low");
        let reasons: Vec<String> = reasons.map(|(reason, n)| format!("{reason} {n}")).collect();
        if !reasons.is_empty() {
            lines.push(match self.is_zh {
                true => format!("未立案（原因 次数）：{}", reasons.join("、")),
                false => format!("Not filed, by reason: {}", reasons.join(", ")),
            });
        }
        lines
    }
}

/// The page, without scripts or anything from elsewhere.
pub(super) fn page(report: &Report, language: Language) -> String {
    let texts = Texts::of(language);
    let mut html = String::new();
    let lang = if texts.is_zh { "zh-CN" } else { "en" };
    html += &format!(
        "<!DOCTYPE html>\n<html lang=\"{lang}\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n"
    );
    html += &format!(
        "<title>{}</title>\n<style>{STYLE}</style>\n<h1>{}</h1>\n<p>{}</p>\n",
        texts.title,
        texts.title,
        escaped(&texts.head(report))
    );
    if let Some(line) = texts.ended_early(report) {
        html += &format!("<p>{}</p>\n", escaped(&line));
    }
    html += &format!("<h2>{}</h2>\n<table>\n", texts.seen);
    for model in &report.models {
        html += &format!(
            "<tr><th>{}</th><td>{}</td></tr>\n",
            escaped(&model.id),
            escaped(&texts.labels(&model.labels, "次"))
        );
    }
    html += "</table>\n";
    if report.judged {
        html += &format!("<h2>{}</h2>\n<p>{}</p>\n", texts.filed, escaped(&texts.verdict(report)));
        for case in &report.cases {
            html += &format!("<h3>{}</h3>\n<div>\n", escaped(&texts.case(case)));
            for (picture, what) in case.pictures.iter().zip([texts.first, texts.confirmed]) {
                html += &figure(picture, &format!("{what}, {}", picture.time));
            }
            html += "</div>\n";
        }
        for line in texts.others(report) {
            html += &format!("<p>{}</p>\n", escaped(&line));
        }
    }
    html += &format!("<h2>{}</h2>\n<p>{}</p>\n<div>\n", texts.pictures, texts.masked);
    for picture in &report.pictures {
        let found = match picture.view {
            "clear" => texts.labels(&picture.labels, "处"),
            unclear => unclear.to_owned(),
        };
        html += &figure(picture, &format!("{}: {found}", picture.time));
    }
    html += &format!("</div>\n<p>{}</p>\n</html>\n", escaped(texts.next));
    html
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}\
table{border-collapse:collapse}th,td{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}h3{font-size:1rem}\
div{display:grid;grid-template-columns:repeat(auto-fill,minmax(22rem,1fr));gap:1rem}figure{margin:0}img{width:100%}\
figcaption{font-size:.85rem;color:#555}";

fn figure(picture: &PictureRow, caption: &str) -> String {
    let (file, caption) = (escaped(&picture.file), escaped(caption));
    format!(
        "<figure><a href=\"{file}\"><img src=\"{file}\" alt=\"{caption}\"></a><figcaption>{caption}</figcaption></figure>\n"
    )
}

/// Text for an HTML element or a quoted attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
