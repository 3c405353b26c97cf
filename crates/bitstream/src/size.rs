//! The size of a picture.

/// A size in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// The size without the cropped parts. `crop` is left, right, top, bottom in units of `unit`. `None` if nothing is left.
pub(crate) fn cropped(size: Size, crop: [u32; 4], unit: (u32, u32)) -> Option<Size> {
    let less = |size: u32, a: u32, b: u32, unit: u32| {
        let cut = u64::from(a).checked_add(u64::from(b))?.checked_mul(u64::from(unit))?;
        let rest = u64::from(size).checked_sub(cut).filter(|rest| *rest > 0)?;
        u32::try_from(rest).ok()
    };
    Some(Size {
        width: less(size.width, crop[0], crop[1], unit.0)?,
        height: less(size.height, crop[2], crop[3], unit.1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_is_cropped_away_is_refused() {
        let size = Size { width: 16, height: 16 };
        assert_eq!(cropped(size, [8, 8, 0, 0], (1, 1)), None);
        assert_eq!(cropped(size, [u32::MAX, u32::MAX, 0, 0], (2, 2)), None);
        let half = cropped(size, [0, 4, 0, 0], (2, 2));
        assert_eq!(half, Some(Size { width: 8, height: 16 }));
    }
}
