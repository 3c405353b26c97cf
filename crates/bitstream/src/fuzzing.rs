//! The entry point for fuzzing: arbitrary bytes must neither panic nor be read for longer than a picture takes. Not part of the crate's
//! interface.

use crate::{Codec, Finding, SliceCheck, format, sei};

/// A keyframe.
pub fn keyframe(codec: Codec, data: &[u8]) {
    let mut check = SliceCheck::default();
    let finding = check.check(codec, data);
    assert_eq!(
        check.check(codec, data),
        finding,
        "what was checked before must not matter"
    );
    if let Finding::Damaged(damage) = finding {
        assert!(!damage.to_string().is_empty());
    }
    let _ = format::deeper_than_8_bits(codec, data);
    let _ = sei::recovery_point(codec, data);
}
