//! Validates zone polygons: corners within the image, a minimum area, no crossing edges.

/// Smallest area as a fraction of the image: 0.0001 is 14×14 pixels at 1080p, less than the uncertainty of any foot point.
const MIN_AREA: f64 = 1e-4;

/// All faults of a polygon, as messages that refer to the corners by index.
pub(super) fn faults(corners: &[[f64; 2]]) -> Vec<String> {
    let mut found: Vec<String> = corners
        .iter()
        .enumerate()
        .filter(|(_, [x, y])| !(0.0..=1.0).contains(x) || !(0.0..=1.0).contains(y))
        .map(|(i, [x, y])| format!("point {i} [{x}, {y}] is outside the image"))
        .collect();
    let n = corners.len();
    if n < 3 || !found.is_empty() {
        return found; // The schema reports too few points; further checks mean little with wrong points.
    }
    found.extend(
        (0..n)
            .filter(|i| corners[*i] == corners[(i + 1) % n])
            .map(|i| format!("points {i} and {} are identical", (i + 1) % n)),
    );
    if !found.is_empty() {
        return found;
    }
    for i in 0..n {
        for j in i + 1..n {
            // Neighbouring edges share a corner. They overlap only if one folds back, which leaves no area or crosses another edge.
            let neighbours = j == i + 1 || (i == 0 && j == n - 1);
            if !neighbours && cross(corners[i], corners[(i + 1) % n], corners[j], corners[(j + 1) % n]) {
                found.push(format!("edges {i}-{} and {j}-{} cross", (i + 1) % n, (j + 1) % n));
            }
        }
    }
    let area = area(corners);
    if found.is_empty() && area < MIN_AREA {
        found.push(format!(
            "area is {:.4} % of the image, too small to contain anything",
            area * 100.0
        ));
    }
    found
}

/// Area by the shoelace formula.
fn area(corners: &[[f64; 2]]) -> f64 {
    let next = corners.iter().cycle().skip(1);
    let twice: f64 = corners.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum();
    twice.abs() / 2.0
}

/// True if the closed segments `ab` and `cd` share a point.
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
    fn a_valid_polygon_has_no_fault() {
        assert_eq!(faults(&[[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]), [""; 0]);
        // Concave, clockwise or not.
        assert_eq!(faults(&[[0.0, 0.0], [0.5, 0.4], [1.0, 0.0], [0.5, 1.0]]), [""; 0]);
    }

    #[test]
    fn each_fault_names_its_points() {
        assert_eq!(
            faults(&[[0.1, 0.1], [1.2, 0.1], [0.5, -0.1]]),
            [
                "point 1 [1.2, 0.1] is outside the image",
                "point 2 [0.5, -0.1] is outside the image"
            ]
        );
        assert_eq!(
            faults(&[[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]),
            ["edges 0-1 and 2-3 cross"]
        );
        assert_eq!(
            faults(&[[0.1, 0.1], [0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]),
            ["points 0 and 1 are identical"]
        );
        assert_eq!(
            faults(&[[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]),
            ["area is 0.0000 % of the image, too small to contain anything"]
        );
    }

    #[test]
    fn repeating_the_first_point_is_a_fault() {
        assert_eq!(
            faults(&[[0.1, 0.1], [0.9, 0.1], [0.5, 0.9], [0.1, 0.1]]),
            ["points 3 and 0 are identical"]
        );
    }
}
