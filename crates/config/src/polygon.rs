//! What a drawn polygon must be: corners inside the picture, an area, no edge across another.

/// Smallest area, as a share of the picture: a tenth of a per mille is 14×14 pixels of 1080p, less than any foot point's
/// own uncertainty.
const MIN_AREA: f64 = 1e-4;

/// Everything wrong with `corners`, each a clause that names the corners by index.
pub(super) fn faults(corners: &[[f64; 2]]) -> Vec<String> {
    let mut found: Vec<String> = corners
        .iter()
        .enumerate()
        .filter(|(_, [x, y])| !(0.0..=1.0).contains(x) || !(0.0..=1.0).contains(y))
        .map(|(i, [x, y])| format!("point {i} [{x}, {y}] lies outside the picture"))
        .collect();
    let n = corners.len();
    if n < 3 || !found.is_empty() {
        return found; // Too few points is the schema's to say; the rest means little for points that are wrong.
    }
    found.extend(
        (0..n)
            .filter(|i| corners[*i] == corners[(i + 1) % n])
            .map(|i| format!("points {i} and {} are the same", (i + 1) % n)),
    );
    if !found.is_empty() {
        return found;
    }
    for i in 0..n {
        for j in i + 1..n {
            // Neighbours share a corner; they clash only by folding back, which leaves no area or crosses another edge.
            let neighbours = j == i + 1 || (i == 0 && j == n - 1);
            if !neighbours && cross(corners[i], corners[(i + 1) % n], corners[j], corners[(j + 1) % n]) {
                found.push(format!("its edges {i}-{} and {j}-{} cross", (i + 1) % n, (j + 1) % n));
            }
        }
    }
    let area = area(corners);
    if found.is_empty() && area < MIN_AREA {
        found.push(format!(
            "its area is {:.4} % of the picture, which holds nothing",
            area * 100.0
        ));
    }
    found
}

/// The shoelace formula.
fn area(corners: &[[f64; 2]]) -> f64 {
    let next = corners.iter().cycle().skip(1);
    let twice: f64 = corners.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum();
    twice.abs() / 2.0
}

/// True where the closed segments `ab` and `cd` share a point.
fn cross(a: [f64; 2], b: [f64; 2], c: [f64; 2], d: [f64; 2]) -> bool {
    let side = |p: [f64; 2], q: [f64; 2], r: [f64; 2]| (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]);
    let within = |p: [f64; 2], q: [f64; 2], r: [f64; 2]| {
        (p[0].min(q[0])..=p[0].max(q[0])).contains(&r[0]) && (p[1].min(q[1])..=p[1].max(q[1])).contains(&r[1])
    };
    let (c_ab, d_ab, a_cd, b_cd) = (side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b));
    (c_ab * d_ab < 0.0 && a_cd * b_cd < 0.0)
        || (c_ab == 0.0 && within(a, b, c))
        || (d_ab == 0.0 && within(a, b, d))
        || (a_cd == 0.0 && within(c, d, a))
        || (b_cd == 0.0 && within(c, d, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_polygon_has_no_fault() {
        assert_eq!(faults(&[[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]), [""; 0]);
        // Concave, clockwise or not.
        assert_eq!(faults(&[[0.0, 0.0], [0.5, 0.4], [1.0, 0.0], [0.5, 1.0]]), [""; 0]);
    }

    #[test]
    fn each_fault_names_its_points() {
        assert_eq!(
            faults(&[[0.1, 0.1], [1.2, 0.1], [0.5, -0.1]]),
            [
                "point 1 [1.2, 0.1] lies outside the picture",
                "point 2 [0.5, -0.1] lies outside the picture"
            ]
        );
        assert_eq!(
            faults(&[[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]),
            ["its edges 0-1 and 2-3 cross"]
        );
        assert_eq!(
            faults(&[[0.1, 0.1], [0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]),
            ["points 0 and 1 are the same"]
        );
        assert_eq!(
            faults(&[[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]),
            ["its area is 0.0000 % of the picture, which holds nothing"]
        );
    }

    #[test]
    fn closing_the_ring_is_told() {
        assert_eq!(
            faults(&[[0.1, 0.1], [0.9, 0.1], [0.5, 0.9], [0.1, 0.1]]),
            ["points 3 and 0 are the same"]
        );
    }
}
