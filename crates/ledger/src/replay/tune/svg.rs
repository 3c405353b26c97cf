//! Precision against recall, a panel a rule, as an SVG that a browser shows. Written by hand: it is a few lines and circles.

use std::fmt::Write;

use super::{CurvePoint, RuleCurve, SweepResult};

/// Pixels of a panel's square, and of what is around it for its words.
const SIDE: f64 = 320.0;
const EDGE: f64 = 56.0;

/// The picture.
pub fn draw(tuned: &SweepResult) -> String {
    let panel = SIDE + 2.0 * EDGE;
    let width = panel * tuned.rules.len().max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{panel}\" viewBox=\"0 0 {width} {panel}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, curve) in tuned.rules.iter().enumerate() {
        let x = i as f64 * panel + EDGE;
        // Writing to a String cannot fail.
        let _ = writeln!(svg, "<g transform=\"translate({x} {EDGE})\">");
        axes(&mut svg, curve, tuned.min_precision);
        points(&mut svg, curve);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, curve: &RuleCurve, min_precision: f64) {
    let (mid, below) = (SIDE / 2.0, SIDE + 34.0);
    let _ = writeln!(
        svg,
        "<text x=\"{mid}\" y=\"-20\" text-anchor=\"middle\" font-size=\"15\">{}, now {:.2}</text>\n\
         <text x=\"{mid}\" y=\"{below}\" text-anchor=\"middle\">recall</text>\n\
         <text x=\"-36\" y=\"{mid}\" text-anchor=\"middle\" transform=\"rotate(-90 -36 {mid})\">precision</text>",
        escaped(&curve.rule),
        curve.now
    );
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (x, y) = (share * SIDE, (1.0 - share) * SIDE);
        let _ = writeln!(
            svg,
            "<path d=\"M{x} 0V{SIDE}M0 {y}H{SIDE}\" stroke=\"#ddd\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{share}</text>\
             <text x=\"-6\" y=\"{}\" text-anchor=\"end\">{share}</text>",
            SIDE + 16.0,
            y + 4.0
        );
    }
    let y = (1.0 - min_precision) * SIDE;
    let _ = writeln!(
        svg,
        "<path d=\"M0 {y}H{SIDE}\" stroke=\"#c60\" stroke-dasharray=\"4 4\"/>"
    );
}

fn points(svg: &mut String, curve: &RuleCurve) {
    let place = |p: &CurvePoint| Some((p.recall()? * SIDE, (1.0 - p.precision()?) * SIDE));
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
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"><title>start_score {:.2}: {} cases, {} right, {} wrong</title></circle>",
            point.score, point.cases, point.right, point.wrong
        );
        // Thresholds that do the same lie on one another: the first of them is named, and the chosen one.
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
