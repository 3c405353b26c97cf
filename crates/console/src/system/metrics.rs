//! Metrics sketched: a handful of series, sampled while somebody watches, and the newest values of all.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gridwatch_base::metric;
use gridwatch_web::i18n::Phrase;

use crate::{app::App, i18n::Texts};

/// Time between two samples, at least.
const PACE: Duration = Duration::from_secs(4);
/// Samples that are kept: a quarter of an hour.
const MAX_SAMPLES: usize = 180;
/// A pause in watching after which the series begin anew: a line over the gap would say what nobody knows.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Metrics in the table, at most.
const MAX_ROWS: usize = 2000;
/// Longest metrics text that is read, in bytes.
const MAX_TEXT: usize = 4 << 20;

/// Width and height of a sketch in units of its drawing.
const SKETCH: (f64, f64) = (240.0, 40.0);

/// How a series follows from metrics.
#[derive(Debug, Clone, Copy)]
enum Series {
    /// Increase of a counter per minute.
    PerMinute(&'static str),
    /// A gauge.
    Gauge(&'static str),
    /// Mean of a histogram or summary of seconds, in milliseconds.
    MeanMs(&'static str),
}

const SERIES: [Series; 6] = [
    Series::PerMinute(metric::LOOKS),
    Series::PerMinute(metric::LOOKS_FAILED),
    Series::MeanMs(metric::DETECT),
    Series::MeanMs(metric::DECODE),
    Series::Gauge(metric::STRETCH),
    Series::Gauge(metric::OUTBOX_DEPTH),
];

/// Names of [`SERIES`].
fn names(t: &Texts) -> [Phrase; 6] {
    let t = &t.system;
    [
        t.looks_rate,
        t.failed_rate,
        t.detect_time,
        t.decode_time,
        t.stretch,
        t.outbox_depth,
    ]
}

/// A metric with its labels and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    pub(crate) name: String,
    /// As in the text, without braces.
    pub(crate) labels: String,
    pub(crate) value: f64,
}

/// Reads Prometheus' text format; lines that are not in it are left out.
pub(crate) fn parse(text: &str) -> Vec<Metric> {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let metrics = lines.filter_map(|line| {
        let (name, labels, rest) = match line.split_once('{') {
            Some((name, rest)) => {
                // Braces may stand in a label's value, but not after the last one.
                let (labels, value) = rest.rsplit_once('}')?;
                (name, labels, value)
            }
            None => {
                let (name, value) = line.split_once(' ')?;
                (name, "", value)
            }
        };
        Some(Metric {
            name: name.trim().to_owned(),
            labels: labels.to_owned(),
            value: rest.split_whitespace().next()?.parse().ok()?,
        })
    });
    metrics.take(MAX_ROWS).collect()
}

/// Sums of a series at one moment: what it counts, and how often.
type Sums = [(f64, f64); SERIES.len()];

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    sums: Sums,
}

fn sums(metrics: &[Metric]) -> Sums {
    let sum = |name: &str, suffix: &str| -> f64 {
        let of = metrics.iter().filter(|m| m.name.strip_suffix(suffix) == Some(name));
        of.map(|m| m.value).filter(|value| value.is_finite()).sum()
    };
    SERIES.map(|series| match series {
        Series::PerMinute(name) | Series::Gauge(name) => (sum(name, ""), 0.0),
        Series::MeanMs(name) => (sum(name, "_sum"), sum(name, "_count")),
    })
}

/// Samples that were taken while a page with metrics was open.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<VecDeque<Sample>>);

impl Samples {
    /// Adds a sample, unless the newest one is fresh.
    fn add(&self, now: Instant, metrics: &[Metric]) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match samples.back().map(|newest| now.duration_since(newest.at)) {
            Some(age) if age < PACE => return,
            Some(age) if age > MAX_PAUSE => samples.clear(),
            _ => {}
        }
        if samples.len() == MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(Sample {
            at: now,
            sums: sums(metrics),
        });
    }

    /// The values of each series, oldest first.
    fn values(&self) -> Vec<Vec<f64>> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = || samples.iter().zip(samples.iter().skip(1));
        let series = SERIES.iter().enumerate().map(|(i, series)| match series {
            Series::Gauge(_) => samples.iter().map(|sample| sample.sums[i].0).collect(),
            Series::PerMinute(_) => pairs()
                .map(|(one, next)| {
                    let minutes = next.at.duration_since(one.at).as_secs_f64() / 60.0;
                    // A counter that went back was started anew.
                    (next.sums[i].0 - one.sums[i].0).max(0.0) / minutes
                })
                .collect(),
            Series::MeanMs(_) => pairs()
                .map(|(one, next)| {
                    let count = next.sums[i].1 - one.sums[i].1;
                    match count > 0.0 {
                        true => (next.sums[i].0 - one.sums[i].0).max(0.0) / count * 1000.0,
                        false => 0.0,
                    }
                })
                .collect(),
        });
        series.collect()
    }
}

/// A series as it is drawn.
pub(crate) struct Sketch {
    pub(crate) name: Phrase,
    /// The newest value; empty before the first.
    pub(crate) value: String,
    /// `points` of an SVG polyline.
    pub(crate) points: String,
}

/// Takes a sample, and draws the series.
pub(crate) fn sketches(app: &App, t: &Texts, metrics: &[Metric]) -> Vec<Sketch> {
    let samples = &app.system.samples;
    samples.add(Instant::now(), metrics);
    let drawn = names(t).into_iter().zip(samples.values());
    drawn
        .map(|(name, values)| Sketch {
            name,
            value: values.last().map(|value| number(*value)).unwrap_or_default(),
            points: points(&values),
        })
        .collect()
}

/// A value with as many decimals as it needs, three at most.
pub(crate) fn number(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 { 1 } else { 3 };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The line from left to right, with 0 at the bottom.
fn points(values: &[f64]) -> String {
    let (width, height) = SKETCH;
    let top = values.iter().copied().fold(0.0, f64::max);
    let top = if top > 0.0 { top } else { 1.0 };
    let step = width / (values.len().saturating_sub(1).max(1)) as f64;
    let points = values.iter().enumerate().map(|(i, value)| {
        let y = height - 1.0 - value.max(0.0) / top * (height - 2.0);
        format!("{:.1},{y:.1}", i as f64 * step)
    });
    points.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_is_read_and_anything_else_left_out() {
        let text = "# HELP x y\nup 1\nlooks{camera=\"a}b\",view=\"x\"} 12.5 1780000000\nbad\n{\nnan NaN\n";
        let found = parse(text);
        let rows: Vec<(&str, &str)> = found.iter().map(|m| (m.name.as_str(), m.labels.as_str())).collect();
        assert_eq!(rows, [("up", ""), ("looks", "camera=\"a}b\",view=\"x\""), ("nan", "")]);
        assert_eq!(found[1].value, 12.5);
    }

    #[test]
    fn rates_and_means_are_of_the_time_between_two_samples() {
        let samples = Samples::default();
        let start = Instant::now();
        let of = |looks: f64, sum: f64, count: f64| {
            let metric = |name: &str, value| Metric {
                name: name.to_owned(),
                labels: String::new(),
                value,
            };
            vec![
                metric(metric::LOOKS, looks),
                metric(&format!("{}_sum", metric::DETECT), sum),
                metric(&format!("{}_count", metric::DETECT), count),
                metric(metric::STRETCH, 1.5),
            ]
        };
        samples.add(start, &of(10.0, 1.0, 10.0));
        samples.add(start + Duration::from_secs(1), &of(99.0, 9.0, 99.0));
        samples.add(start + Duration::from_secs(6), &of(12.0, 1.4, 12.0));
        let values = samples.values();
        assert_eq!(values[0], [20.0], "2 looks in 6 s; the sample before was too fresh");
        assert!((values[2][0] - 200.0).abs() < 1e-6, "{values:?}");
        assert_eq!(values[4], [1.5, 1.5]);
        // Started anew.
        samples.add(start + Duration::from_secs(12), &of(0.0, 0.0, 0.0));
        assert_eq!((samples.values()[0][1], samples.values()[2][1]), (0.0, 0.0));
        // Not watched for a while.
        samples.add(start + Duration::from_secs(200), &of(1.0, 0.0, 0.0));
        assert!(samples.values()[0].is_empty());
    }

    #[test]
    fn numbers_have_the_decimals_that_they_need() {
        let shown = [0.0, 30.0, 1.25, 0.0004, 1234.56, -7.5].map(number);
        assert_eq!(shown, ["0", "30", "1.25", "0", "1234.6", "-7.5"]);
    }

    #[test]
    fn a_sketch_stays_in_its_frame() {
        assert_eq!(points(&[]), "");
        assert_eq!(points(&[0.0, 2.0]), "0.0,39.0 240.0,1.0");
        assert!(!points(&[-1.0, 0.0]).contains("NaN"));
    }
}
