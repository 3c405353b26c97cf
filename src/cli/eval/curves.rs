//! Draws precision-recall curves at IoU 0.5, one per label, as SVG.

use std::fmt::Write;

use gridwatch_model::eval::Evaluation;

/// Side of the plot, and the margin around it, pixels.
const SIDE: f64 = 420.0;
const MARGIN: f64 = 56.0;
/// A palette for colour-blind readers (Okabe, Ito, "Color Universal Design", 2008).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

/// Returns the SVG; the dot on each curve is its best threshold.
pub(super) fn draw(labels: &[String], evaluation: &Evaluation) -> String {
    let (width, height) = (SIDE + 2.0 * MARGIN + 200.0, SIDE + 2.0 * MARGIN);
    let (middle, below) = (SIDE / 2.0, SIDE + 36.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <g transform=\"translate({MARGIN} {MARGIN})\">\n\
         <text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">recall</text>\n\
         <text x=\"-40\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 -40 {middle})\">precision</text>\n"
    );
    // Writing to a String cannot fail.
    for fifth in 0..=5 {
        let share = f64::from(fifth) / 5.0;
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
    let measured = labels.iter().zip(&evaluation.classes);
    let measured = measured.filter(|(_, class)| class.all().truths > 0);
    for (i, (label, class)) in measured.enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let position = |precision: f64, recall: f64| (recall * SIDE, (1.0 - precision) * SIDE);
        let line: Vec<String> = class
            .curve
            .iter()
            .map(|p| position(p.precision, p.recall))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        if let Some(best) = class.best() {
            let (x, y) = position(best.precision, best.recall);
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"><title>{:.2}</title></circle>",
                best.score
            );
        }
        let ap50 = class.all().ap50.unwrap_or_default();
        let best = class
            .best()
            .map_or_else(String::new, |b| format!(", best at {:.2}", b.score));
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}: AP50 {ap50:.3}{best}</text>",
            SIDE + 16.0,
            16.0 + 20.0 * i as f64,
            escaped(label)
        );
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
