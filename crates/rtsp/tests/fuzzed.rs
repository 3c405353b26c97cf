//! The fuzz targets on their corpora and on a fixed set of alterations of them. `make fuzz` runs them for as long as wanted.

use std::path::Path;

use gridwatch_rtsp::{VideoCodec, fuzzing};

/// Alterations of each file.
const ALTERATIONS: u64 = 300;

struct Random(u64);

impl Random {
    /// Xorshift64.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn alter(data: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(6) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 => data.insert(at, random.below(256) as u8),
            1 if at < data.len() => drop(data.remove(at)),
            2 if at < data.len() => data[at] ^= 1 << random.below(8),
            3 => data.truncate(at),
            4 => {
                let copied = data[at..(at + random.below(40)).min(data.len())].to_vec();
                let to = random.below(data.len() + 1);
                data.splice(to..to, copied);
            }
            _ => data.extend([0xff, 0, 0, 1, b'$', 0, 0xff, 0xff]),
        }
    }
}

fn run(name: &str, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for file in files {
        let data = std::fs::read(&file).expect("a readable file");
        target(&data);
        for _ in 0..ALTERATIONS {
            let mut altered = data.clone();
            alter(&mut altered, &mut random);
            target(&altered);
        }
    }
}

#[test]
fn messages() {
    run("message", fuzzing::message);
}

#[test]
fn session_descriptions() {
    run("session_description", fuzzing::session_description);
}

#[test]
fn challenges() {
    run("challenge", fuzzing::challenge);
}

#[test]
fn h264_packets() {
    run("h264", |data| fuzzing::video(VideoCodec::H264, data));
}

#[test]
fn h265_packets() {
    run("h265", |data| fuzzing::video(VideoCodec::H265, data));
}

#[test]
fn jpeg_packets() {
    run("jpeg", |data| fuzzing::video(VideoCodec::Jpeg, data));
}

#[test]
fn conversations() {
    run("client", fuzzing::client);
}
