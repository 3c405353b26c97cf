//! The pictures of looks that may become evidence: in memory, and once a candidate has stood for a while on the disk too, so
//! that a restart does not take a long dwell's first picture away.
//!
//! Only compressed pictures are written; a source that gives decoded ones has its candidates take another after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use metrics::gauge;
use serde::{Deserialize, Serialize};

use super::record::KnownModel;
use gridwatch_base::metric;
use gridwatch_camera::{Codec, Keyframe, Picture};
use gridwatch_engine::{CameraId, Detection};

/// A look that may become evidence.
#[derive(Debug, Clone)]
pub(super) struct Pinned {
    pub(super) picture: Picture,
    pub(super) detections: Arc<[Detection]>,
    /// The models that found them.
    pub(super) seen_by: Arc<[KnownModel]>,
}

/// Which look.
pub(super) type FrameKey = (CameraId, Timestamp);

/// A candidate this old is written: most are gone before, and flash wears.
const WRITTEN_AFTER: Duration = Duration::from_mins(5);

/// What holds the pinned looks.
pub(super) struct PinnedFrames {
    dir: PathBuf,
    /// The failure was told: memory must do until it works again.
    is_failing: bool,
    held: BTreeMap<FrameKey, Held>,
    /// How many there are, for whoever shows it.
    count: Arc<AtomicU64>,
}

struct Held {
    pinned: Pinned,
    by: u32,
    is_written: bool,
}

/// The first line of a written look; the picture's bytes follow.
#[derive(Serialize, Deserialize)]
struct Head {
    camera: CameraId,
    at: Timestamp,
    seq: u64,
    codec: WrittenCodec,
    detections: Vec<Detection>,
    seen_by: Vec<KnownModel>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenCodec {
    H264,
    H265,
}

impl PinnedFrames {
    /// No look is held yet. Looks are written below the state directory.
    pub(super) fn new(state_dir: &Path, count: Arc<AtomicU64>) -> Self {
        Self {
            dir: state_dir.join("pinned"),
            is_failing: false,
            held: BTreeMap::new(),
            count,
        }
    }

    /// Reads back the looks that the candidates of the last run hold, and removes what is written of others. Gives those that
    /// are there; the engine pins them again.
    pub(super) fn take_back(&mut self, firsts: impl Iterator<Item = FrameKey>) -> BTreeSet<FrameKey> {
        let wanted: BTreeMap<PathBuf, FrameKey> = firsts.map(|look| (self.path(&look), look)).collect();
        let written = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.filter_map(|e| Some(e.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        for path in written {
            let read = wanted.get(&path).map(|look| (look, read(&path)));
            match read {
                Some((look, Ok(pinned))) if pinned.picture.captured_at() == look.1 => {
                    let held = Held {
                        pinned,
                        by: 0,
                        is_written: true,
                    };
                    self.held.insert(look.clone(), held);
                }
                Some((look, read)) => {
                    let error = read.map_or_else(|e| e.to_string(), |_| "it is of another look".into());
                    tracing::warn!(camera = %look.0, path = %path.display(), error, "A candidate's first picture cannot be read back; another is taken when it is next seen.");
                    remove(&path);
                }
                None => remove(&path),
            }
        }
        self.show();
        self.held.keys().cloned().collect()
    }

    /// One candidate more holds a look: `newest` is the look that is judged now.
    pub(super) fn pin(&mut self, look: FrameKey, newest: Option<&(FrameKey, Pinned)>) {
        if let Some(held) = self.held.get_mut(&look) {
            held.by += 1;
        } else if let Some((_, pinned)) = newest.filter(|(at, _)| *at == look) {
            let held = Held {
                pinned: pinned.clone(),
                by: 1,
                is_written: false,
            };
            self.held.insert(look, held);
        }
        self.show();
    }

    /// One candidate less holds a look; gives it back.
    pub(super) fn unpin(&mut self, look: FrameKey) -> Option<Pinned> {
        let held = self.held.get_mut(&look)?;
        held.by = held.by.saturating_sub(1);
        let pinned = held.pinned.clone();
        if held.by == 0 {
            if held.is_written {
                remove(&self.path(&look));
            }
            self.held.remove(&look);
        }
        self.show();
        Some(pinned)
    }

    /// Writes the looks that have been held for a while.
    pub(super) fn write(&mut self, now: Timestamp) {
        let mut failure = None;
        for (look, held) in self.held.iter_mut().filter(|(_, h)| !h.is_written) {
            let Picture::Keyframe(keyframe) = &held.pinned.picture else {
                continue;
            };
            let age = Duration::try_from(now.duration_since(look.1)).unwrap_or_default();
            if age < WRITTEN_AFTER {
                continue;
            }
            match write(&path(&self.dir, look), keyframe, &held.pinned) {
                Ok(()) => held.is_written = true,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        match failure {
            Some(error) if !self.is_failing => {
                tracing::warn!(dir = %self.dir.display(), %error, "The first pictures of candidates cannot be written; a restart would take them away.");
                self.is_failing = true;
            }
            Some(_) => {}
            None => self.is_failing = false,
        }
    }

    fn path(&self, look: &FrameKey) -> PathBuf {
        path(&self.dir, look)
    }

    fn show(&self) {
        self.count.store(self.held.len() as u64, Ordering::Relaxed);
        gauge!(metric::PINNED).set(self.held.len() as f64);
    }
}

fn path(dir: &Path, (camera, at): &FrameKey) -> PathBuf {
    dir.join(format!("{camera}@{}", at.as_nanosecond()))
}

fn remove(path: &Path) {
    // What is left over is removed at the next start.
    let _ = fs::remove_file(path);
}

fn write(path: &Path, keyframe: &Keyframe, pinned: &Pinned) -> io::Result<()> {
    let head = Head {
        camera: keyframe.camera.clone(),
        at: keyframe.captured_at,
        seq: keyframe.seq,
        codec: match keyframe.codec {
            Codec::H264 => WrittenCodec::H264,
            Codec::H265 => WrittenCodec::H265,
        },
        detections: pinned.detections.to_vec(),
        seen_by: pinned.seen_by.to_vec(),
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&keyframe.data);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // Not flushed: what a power cut takes is taken again when the thing is next seen.
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

fn read(path: &Path) -> io::Result<Pinned> {
    let bytes = bytes::Bytes::from(fs::read(path)?);
    let end = memchr::memchr(b'\n', &bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
    let head: Head = serde_json::from_slice(&bytes[..end])?;
    let keyframe = Keyframe {
        camera: head.camera,
        seq: head.seq,
        captured_at: head.at,
        codec: match head.codec {
            WrittenCodec::H264 => Codec::H264,
            WrittenCodec::H265 => Codec::H265,
        },
        data: bytes.slice(end + 1..),
    };
    Ok(Pinned {
        picture: Picture::Keyframe(Arc::new(keyframe)),
        detections: head.detections.into(),
        seen_by: head.seen_by.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridwatch_contract::ModelInfo;
    use gridwatch_engine::BBox;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_750_000_000 + s).unwrap()
    }

    fn look(s: i64) -> (FrameKey, Pinned) {
        let keyframe = Keyframe {
            camera: "gate".into(),
            seq: 7,
            captured_at: at(s),
            codec: Codec::H265,
            data: bytes::Bytes::from_static(b"\n\0\0\0\x01 whatever\n"),
        };
        let detection = Detection {
            label: "garbage".into(),
            score: 0.75,
            bbox: BBox {
                x1: 0.4,
                y1: 0.5,
                x2: 0.5,
                y2: 0.6,
            },
            appearance: None,
            number: None,
            closer: None,
        };
        let model = KnownModel {
            info: ModelInfo {
                id: "garbage".into(),
                version: "1.0.1".into(),
                sha256: "0".repeat(64),
                runtime: "onnxruntime".into(),
            },
            labels: vec!["garbage".into()],
        };
        let pinned = Pinned {
            picture: Picture::Keyframe(Arc::new(keyframe)),
            detections: [detection].into(),
            seen_by: [model].into(),
        };
        (("gate".into(), at(s)), pinned)
    }

    fn pins(dir: &Path) -> PinnedFrames {
        PinnedFrames::new(dir, Arc::default())
    }

    fn written(dir: &Path) -> usize {
        fs::read_dir(dir.join("pinned")).map_or(0, Iterator::count)
    }

    #[test]
    fn a_look_that_was_held_for_long_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (mut before, newest) = (pins(dir.path()), look(0));
        before.pin(newest.0.clone(), Some(&newest));
        before.pin(newest.0.clone(), Some(&newest));
        before.write(at(299));
        assert_eq!(written(dir.path()), 0, "most are gone within minutes");
        before.write(at(300));
        drop(before);

        let mut after = pins(dir.path());
        assert_eq!(
            after.take_back([newest.0.clone()].into_iter()),
            [newest.0.clone()].into()
        );
        after.pin(newest.0.clone(), None);
        let back = after.unpin(newest.0.clone()).unwrap();
        let (Picture::Keyframe(wanted), Picture::Keyframe(found)) = (&newest.1.picture, &back.picture) else {
            panic!("{back:?}")
        };
        assert_eq!(
            (&found.data, found.codec, found.captured_at),
            (&wanted.data, wanted.codec, wanted.captured_at)
        );
        assert_eq!(
            (&back.detections, &back.seen_by),
            (&newest.1.detections, &newest.1.seen_by)
        );
        assert_eq!(written(dir.path()), 0, "nobody holds it");
        assert!(after.unpin(newest.0).is_none());
    }

    #[test]
    fn what_nobody_asks_for_or_cannot_be_read_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut before = pins(dir.path());
        for newest in [look(0), look(10)] {
            before.pin(newest.0.clone(), Some(&newest));
        }
        before.write(at(1000));
        drop(before);
        let spoiled = path(&dir.path().join("pinned"), &look(0).0);
        fs::write(&spoiled, "no look").unwrap();
        let mut after = pins(dir.path());
        assert!(after.take_back([look(0).0].into_iter()).is_empty());
        assert_eq!(written(dir.path()), 0);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_borne() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pinned"), "in the way").unwrap();
        let (mut pins, newest) = (pins(dir.path()), look(0));
        pins.pin(newest.0.clone(), Some(&newest));
        pins.write(at(1000));
        pins.write(at(1001));
        assert!(pins.is_failing);
        assert!(pins.unpin(newest.0).is_some());
    }
}
