//! Checks the keyframes of Annex B files: `check h265 FILE…`. All pictures of a file must be keyframes.

use std::{env, fs, time::Instant};

use gridwatch_bitstream::{Codec, SliceCheck};

fn main() -> std::io::Result<()> {
    let mut arguments = env::args().skip(1);
    let codec = match arguments.next().as_deref() {
        Some("h264") => Codec::H264,
        _ => Codec::H265,
    };
    let mut check = SliceCheck::default();
    for file in arguments {
        let data = fs::read(&file)?;
        let started = Instant::now();
        let finding = check.check(codec, &data);
        let spent = started.elapsed();
        println!("{file}: {finding:?}, {} bytes, {spent:?}", data.len());
    }
    Ok(())
}
