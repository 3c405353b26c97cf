//! Draws precision against recall as SVG, one panel per rule and threshold.

use std::fmt::Write;

use super::{CurvePoint, RuleCurve, Setting, SweepResult};
use gridwatch_base::text::counted;

/// Side of a panel's plot, and margin around it, in pixels.
const PLOT_SIDE: f64 = 320.0;
const MARGIN: f64 = 56.0;

/// Draws the result of a sweep.
pub fn draw(result: &SweepResult) -> String {
    let panel = PLOT_SIDE + 2.0 * MARGIN;
    let curves: Vec<&RuleCurve> = result.rules.iter().flat_map(|r| &r.curves).collect();
    let width = panel * curves.len().max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{panel}\" viewBox=\"0 0 {width} {panel}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, curve) in curves.into_iter().enumerate() {
        let x = i as f64 * panel + MARGIN;
        // Writing to a String cannot fail.
        let _ = writeln!(svg, "<g transform=\"translate({x} {MARGIN})\">");
        axes(&mut svg, curve, result.min_precision);
        points(&mut svg, curve);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, curve: &RuleCurve, min_precision: f64) {
    let (mid, below) = (PLOT_SIDE / 2.0, PLOT_SIDE + 34.0);
    let setting = match curve.setting {
        Setting::Start => String::new(),
        other => format!(" {}", other.name()),
    };
    let _ = writeln!(
        svg,
        "<text x=\"{mid}\" y=\"-20\" text-anchor=\"middle\" font-size=\"15\">{}{setting}, now {:.2}</text>\n\
         <text x=\"{mid}\" y=\"{below}\" text-anchor=\"middle\">recall</text>\n\
         <text x=\"-36\" y=\"{mid}\" text-anchor=\"middle\" transform=\"rotate(-90 -36 {mid})\">precision</text>",
        escaped(&curve.rule),
        curve.configured
    );
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (x, y) = (share * PLOT_SIDE, (1.0 - share) * PLOT_SIDE);
        let _ = writeln!(
            svg,
            "<path d=\"M{x} 0V{PLOT_SIDE}M0 {y}H{PLOT_SIDE}\" stroke=\"#ddd\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{share}</text>\
             <text x=\"-6\" y=\"{}\" text-anchor=\"end\">{share}</text>",
            PLOT_SIDE + 16.0,
            y + 4.0
        );
    }
    let y = (1.0 - min_precision) * PLOT_SIDE;
    let _ = writeln!(
        svg,
        "<path d=\"M0 {y}H{PLOT_SIDE}\" stroke=\"#c60\" stroke-dasharray=\"4 4\"/>"
    );
}

fn points(svg: &mut String, curve: &RuleCurve) {
    let place = |p: &CurvePoint| Some((p.recall()? * PLOT_SIDE, (1.0 - p.precision()?) * PLOT_SIDE));
    let placed: Vec<(usize, &CurvePoint, (f64, f64))> = curve
        .points
        .iter()
        .enumerate()
        .filter_map(|(i, p)| Some((i, p, place(p)?)))
        .collect();
    let line: Vec<String> = placed.iter().map(|(_, _, (x, y))| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#468\"/>",
        line.join(" ")
    );
    let mut last = None;
    for (i, point, (x, y)) in placed {
        let is_chosen = curve.chosen.as_ref().is_some_and(|c| c.index == i);
        let (radius, colour) = if is_chosen { (6, "#c60") } else { (3, "#468") };
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"><title>{} {:.2}: {}, {} right, {} wrong</title></circle>",
            curve.setting.name(),
            point.score,
            counted(point.cases, "case", "cases"),
            point.right,
            point.wrong
        );
        // Thresholds with the same result coincide; only the first of them and the chosen one are labelled.
        if is_chosen || last != Some((x, y)) {
            let (dy, anchor) = if is_chosen { (-10.0, "end") } else { (16.0, "end") };
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{:.2}</text>",
                x - 6.0,
                y + dy,
                point.score
            );
        }
        last = Some((x, y));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
