//! English that commands, logs and errors print.

use std::fmt::Display;

/// A count with its noun in singular or plural: `1 camera`, `2 cameras`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let noun = if count == N::from(1) { one } else { many };
    format!("{count} {noun}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn only_one_is_singular() {
        let cameras = |n: usize| counted(n, "camera", "cameras");
        assert_eq!([0, 1, 2].map(cameras), ["0 cameras", "1 camera", "2 cameras"]);
    }
}
