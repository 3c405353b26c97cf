//! The fuzz target on its corpus and on a fixed set of alterations of it. `make fuzz` runs it for as long as wanted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use gridwatch_fmp4::fuzzing;

/// Alterations of each file.
const ALTERATIONS: usize = 500;

#[test]
fn access_units() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/fmp4");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    // Xorshift64.
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit.max(1) as u64) as usize
    };
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let data = fs::read(entry.unwrap().path()).unwrap();
        files += 1;
        fuzzing::mux(&data);
        for _ in 0..ALTERATIONS {
            let mut altered = data.clone();
            for _ in 0..=below(8) {
                let at = below(altered.len() - 1);
                match below(5) {
                    0 => altered.insert(at, below(256) as u8),
                    1 => drop(altered.remove(at)),
                    2 => altered[at] ^= 1 << below(8),
                    3 => {
                        let end = (at + below(40)).min(altered.len());
                        let copied = altered[at..end].to_vec();
                        altered.splice(at..at, copied);
                    }
                    _ => drop(altered.splice(at..at, [0, 0, 1, 0x67, 0xff])),
                }
            }
            fuzzing::mux(&altered);
        }
    }
    assert_eq!(files, 2);
}
