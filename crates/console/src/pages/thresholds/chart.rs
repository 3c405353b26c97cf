//! A threshold's curve as SVG: precision and recall with their confidence limits above, cases a day below, and the same numbers as a table.

use std::fmt::Write as _;

use gridwatch_ledger::what_if::{Estimate, WhatIfCurve, WhatIfPoint};
use gridwatch_web::i18n::Phrase;

use super::{estimate_text, value_text};
use crate::page::Page;

/// Left and right edge of the drawing, in its units.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 624.0;
/// Top and bottom of the drawing of shares.
const SHARES: (f64, f64) = (44.0, 184.0);
/// Top and bottom of the drawing of cases.
const CASES: (f64, f64) = (208.0, 288.0);

/// A number on an axis.
pub(super) struct Tick {
    pub(super) at: String,
    pub(super) label: String,
}

/// A marked value.
pub(super) struct Mark {
    pub(super) class: &'static str,
    pub(super) name: Phrase,
    pub(super) x: String,
    /// Of its name, so that names do not cover each other.
    pub(super) y: u32,
}

/// A share over the threshold.
pub(super) struct Share {
    pub(super) class: &'static str,
    /// `x,y` of its points.
    pub(super) line: String,
    /// `x,y` of the corners of the area between its limits.
    pub(super) limits: String,
}

pub(super) struct CurveRow {
    pub(super) value: String,
    pub(super) mark: String,
    pub(super) precision: String,
    pub(super) recall: String,
    pub(super) per_day: String,
    pub(super) cases: usize,
}

pub(super) struct Chart {
    pub(super) values: Vec<Tick>,
    pub(super) percents: Vec<Tick>,
    pub(super) cases: Vec<Tick>,
    pub(super) shares: Vec<Share>,
    pub(super) per_day: String,
    pub(super) marks: Vec<Mark>,
    pub(super) rows: Vec<CurveRow>,
}

fn scale(value: f64, of: (f64, f64), to: (f64, f64)) -> f64 {
    let span = of.1 - of.0;
    match span > 0.0 {
        true => to.0 + (value - of.0) / span * (to.1 - to.0),
        false => f64::midpoint(to.0, to.1),
    }
}

fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

impl Chart {
    /// The curve, with the value that is tried.
    pub(super) fn new(page: &Page, curve: &WhatIfCurve, tried: f64) -> Self {
        let t = &page.t.ledger;
        let points = &curve.points;
        let of = (
            points.first().map_or(0.0, |point| point.value),
            points.last().map_or(1.0, |point| point.value),
        );
        let x = |value: f64| scale(value, of, (LEFT, RIGHT));
        let most = points.iter().map(|point| point.score.per_day).fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let share_y = |share: f64| scale(share, (0.0, 1.0), (SHARES.1, SHARES.0));
        let cases_y = |per_day: f64| scale(per_day, (0.0, most), (CASES.1, CASES.0));
        let share = |class, of: fn(&WhatIfPoint) -> Option<Estimate>| {
            let known: Vec<(f64, Estimate)> = points.iter().filter_map(|p| Some((x(p.value), of(p)?))).collect();
            let low = known.iter().map(|(x, e)| (*x, share_y(e.low)));
            let high = known.iter().rev().map(|(x, e)| (*x, share_y(e.high)));
            (!known.is_empty()).then(|| Share {
                class,
                line: path(known.iter().map(|(x, e)| (*x, share_y(e.share)))),
                limits: path(low.chain(high)),
            })
        };
        let shares = [
            share("precision", |point| point.score.precision),
            share("recall", |point| point.score.recall),
        ];
        let chosen = curve
            .chosen
            .and_then(|index| points.get(index))
            .map(|point| point.value);
        let marked = [
            ("now", t.mark_now, Some(curve.current)),
            (
                "tried",
                t.mark_tried,
                Some(tried).filter(|tried| *tried != curve.current),
            ),
            ("chosen", t.mark_chosen, chosen),
        ];
        let heights = if shares.iter().flatten().next().is_some() {
            [12, 24, 36]
        } else {
            [192, 200, 208]
        };
        let marks = marked.iter().zip(heights).filter_map(|((class, name, value), y)| {
            Some(Mark {
                class,
                name: *name,
                x: coordinate(x((*value)?)),
                y,
            })
        });
        let names_of = |value: f64| {
            let names = marked.iter().filter(|(_, _, marked)| *marked == Some(value));
            names.map(|(_, name, _)| name.0).collect::<Vec<_>>().join(", ")
        };
        let every = points.len().div_ceil(9).max(1);
        let values = points.iter().step_by(every).map(|point| Tick {
            at: coordinate(x(point.value)),
            label: value_text(page, curve.threshold, point.value),
        });
        let percents = [0.0, 0.5, 1.0].map(|share| Tick {
            at: coordinate(share_y(share)),
            label: format!("{:.0} %", share * 100.0),
        });
        let cases = [0.0, most].map(|per_day| Tick {
            at: coordinate(cases_y(per_day)),
            label: number(per_day),
        });
        Self {
            values: values.collect(),
            percents: percents.into(),
            cases: cases.into(),
            shares: shares.into_iter().flatten().collect(),
            per_day: path(
                points
                    .iter()
                    .map(|point| (x(point.value), cases_y(point.score.per_day))),
            ),
            marks: marks.collect(),
            rows: points
                .iter()
                .map(|point| CurveRow {
                    value: value_text(page, curve.threshold, point.value),
                    mark: names_of(point.value),
                    precision: estimate_text(page, point.score.precision),
                    recall: estimate_text(page, point.score.recall),
                    per_day: number(point.score.per_day),
                    cases: point.score.cases,
                })
                .collect(),
        }
    }
}

/// Cases a day: one digit is enough for a clerk's day, two for a quiet street.
pub(super) fn number(value: f64) -> String {
    match value {
        v if v >= 10.0 => format!("{v:.0}"),
        v if v >= 1.0 => format!("{v:.1}"),
        0.0 => "0".to_owned(),
        v => format!("{v:.2}"),
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut text = String::new();
    for (x, y) in points {
        let _ = write!(text, "{x:.1},{y:.1} ");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_alone_is_in_the_middle() {
        assert_eq!(scale(0.5, (0.5, 0.5), (0.0, 10.0)), 5.0);
        assert_eq!(scale(1.0, (0.0, 2.0), (10.0, 0.0)), 5.0);
        assert_eq!(path([(1.0, 2.0), (3.0, 4.0)].into_iter()), "1.0,2.0 3.0,4.0");
        assert_eq!([0.0, 0.123, 1.26, 12.6].map(number), ["0", "0.12", "1.3", "13"]);
    }
}
