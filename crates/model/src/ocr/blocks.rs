//! Groups lines of text into the things on a wall that they are written on, such as flyers, and orders them for reading. Pure.

use super::line::TextLine;

/// Lines beside each other, from left to right: the detector splits a row at wide spaces.
pub(super) type Row<'a> = Vec<&'a TextLine>;

/// Largest gap between two lines of one flyer, in heights of the higher one. The detector's boxes stand out from the letters.
const MAX_GAP: f32 = 0.6;
/// Largest ratio of the heights of two lines of one flyer.
const MAX_HEIGHT_RATIO: f32 = 3.0;
/// Largest angle between two lines of one flyer, radians.
const MAX_ANGLE: f32 = 0.2;
/// Lines whose centres are closer than this across the text, in heights of the lower one, are in one row.
const SAME_ROW: f32 = 0.5;

/// Groups lines into the things they are written on; of each, the rows from top to bottom.
pub(super) fn find(lines: &[TextLine]) -> Vec<Vec<Row<'_>>> {
    let mut blocks: Vec<Vec<&TextLine>> = Vec::new();
    for line in lines {
        let mut block = vec![line];
        // A line may join blocks that were apart.
        blocks.retain_mut(|other| {
            let belongs = other.iter().any(|known| are_neighbours(known, line));
            if belongs {
                block.append(other);
            }
            !belongs
        });
        blocks.push(block);
    }
    blocks.into_iter().map(rows).collect()
}

fn are_neighbours(a: &TextLine, b: &TextLine) -> bool {
    let (high, low) = (a.line.height.max(b.line.height), a.line.height.min(b.line.height));
    let [along, across] = offset(a, b, (a.line.angle + b.line.angle) / 2.0);
    let gap_across = across.abs() - (a.line.height + b.line.height) / 2.0;
    let gap_along = along.abs() - (a.line.width + b.line.width) / 2.0;
    high <= MAX_HEIGHT_RATIO * low
        && (a.line.angle - b.line.angle).abs() <= MAX_ANGLE
        && gap_across.max(gap_along) <= MAX_GAP * high
}

/// From the centre of `a` to that of `b`, along the text and across it, in pixels.
fn offset(a: &TextLine, b: &TextLine, angle: f32) -> [f32; 2] {
    let (sin, cos) = angle.sin_cos();
    let [dx, dy] = [0, 1].map(|i| b.line.centre[i] - a.line.centre[i]);
    [dx * cos + dy * sin, dy * cos - dx * sin]
}

/// The rows of one thing from top to bottom, each from left to right.
pub(super) fn rows(mut block: Vec<&TextLine>) -> Vec<Row<'_>> {
    let Some(first) = block.first().copied() else {
        return Vec::new();
    };
    let angle = block.iter().map(|line| line.line.angle).sum::<f32>() / block.len() as f32;
    let across = |line: &TextLine| offset(first, line, angle)[1];
    block.sort_by(|a, b| across(a).total_cmp(&across(b)));
    let mut rows: Vec<Row<'_>> = Vec::new();
    for line in block {
        match rows.last_mut() {
            Some(row)
                if row
                    .iter()
                    .all(|r| across(line) - across(r) < SAME_ROW * r.line.height.min(line.line.height)) =>
            {
                row.push(line);
            }
            _ => rows.push(vec![line]),
        }
    }
    for row in &mut rows {
        row.sort_by(|a, b| offset(first, a, angle)[0].total_cmp(&offset(first, b, angle)[0]));
    }
    rows
}
