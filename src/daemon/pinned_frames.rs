//! The pictures of looks that may become evidence: in memory, and on disk once they have been pinned for some minutes, so that a
//! restart does not cost a long dwell its first picture.
//!
//! Only compressed keyframes are written, encrypted as the originals are, because nothing in them is masked; a candidate at a source of decoded frames takes a new picture after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
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

use super::record::ModelDescriptor;
use gridwatch_base::metric;
use gridwatch_camera::{Codec, Keyframe, Picture};
use gridwatch_custody::vault::VaultKey;
use gridwatch_engine::{CameraId, Detection};

/// The picture of a look, with its detections.
#[derive(Debug, Clone)]
pub(super) struct PinnedFrame {
    pub(super) picture: Picture,
    pub(super) detections: Arc<[Detection]>,
    /// The models that searched it.
    pub(super) detected_by: Arc<[ModelDescriptor]>,
}

/// A look: its view and its capture time.
pub(super) type FrameKey = (CameraId, Timestamp);

/// Age at which a pinned frame is written: most are released earlier, and flash wears.
const WRITE_AFTER: Duration = Duration::from_mins(5);

/// The pinned frames, with a count of the candidates that hold each.
pub(super) struct PinnedFrames {
    dir: PathBuf,
    key: Arc<VaultKey>,
    /// The failure to write was logged already.
    failure_logged: bool,
    held: BTreeMap<FrameKey, Held>,
    /// Number of pinned frames, shared with the status.
    count: Arc<AtomicU64>,
}

struct Held {
    pinned: PinnedFrame,
    candidates: u32,
    is_written: bool,
}

/// The header line of a pinned frame's file; the picture's bytes follow it.
#[derive(Serialize, Deserialize)]
struct FileHeader {
    camera: CameraId,
    at: Timestamp,
    seq: u64,
    codec: FileCodec,
    detections: Vec<Detection>,
    #[serde(rename = "seen_by")]
    detected_by: Vec<ModelDescriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FileCodec {
    H264,
    H265,
}

impl PinnedFrames {
    /// An empty set; files are written to `pinned/` in the state directory.
    pub(super) fn new(state_dir: &Path, key: Arc<VaultKey>, count: Arc<AtomicU64>) -> Self {
        Self {
            dir: state_dir.join("pinned"),
            key,
            failure_logged: false,
            held: BTreeMap::new(),
            count,
        }
    }

    /// Reads back the frames that the last run's candidates hold, and deletes all other files. Returns the frames that were
    /// read; the engine pins them again.
    pub(super) fn restore(&mut self, held: impl Iterator<Item = FrameKey>) -> BTreeSet<FrameKey> {
        let wanted: BTreeMap<PathBuf, FrameKey> = held.map(|look| (self.path(&look), look)).collect();
        let written = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.filter_map(|e| Some(e.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        for path in written {
            let result = wanted.get(&path).map(|look| (look, read(&path, &self.key)));
            match result {
                Some((look, Ok(pinned))) if pinned.picture.captured_at() == look.1 => {
                    let held = Held {
                        pinned,
                        candidates: 0,
                        is_written: true,
                    };
                    self.held.insert(look.clone(), held);
                }
                Some((look, result)) => {
                    let error = result.map_or_else(|e| e.to_string(), |_| "the file holds another look".into());
                    tracing::warn!(camera = %look.0, path = %path.display(), error, "Cannot read back a candidate's first picture; another is taken at its next look");
                    remove(&path);
                }
                None => remove(&path),
            }
        }
        self.publish_count();
        self.held.keys().cloned().collect()
    }

    /// Adds a candidate to the frame's count; `newest` is the look being handled now.
    pub(super) fn pin(&mut self, look: FrameKey, newest: Option<&(FrameKey, PinnedFrame)>) {
        if let Some(held) = self.held.get_mut(&look) {
            held.candidates += 1;
        } else if let Some((_, pinned)) = newest.filter(|(at, _)| *at == look) {
            let held = Held {
                pinned: pinned.clone(),
                candidates: 1,
                is_written: false,
            };
            self.held.insert(look, held);
        }
        self.publish_count();
    }

    /// Removes a candidate from the frame's count and returns the frame; the last one releases it.
    pub(super) fn unpin(&mut self, look: FrameKey) -> Option<PinnedFrame> {
        let held = self.held.get_mut(&look)?;
        held.candidates = held.candidates.saturating_sub(1);
        let pinned = held.pinned.clone();
        if held.candidates == 0 {
            if held.is_written {
                remove(&self.path(&look));
            }
            self.held.remove(&look);
        }
        self.publish_count();
        Some(pinned)
    }

    /// Writes the frames that were pinned long enough.
    pub(super) fn write_aged(&mut self, now: Timestamp) {
        let mut failure = None;
        for (look, held) in self.held.iter_mut().filter(|(_, h)| !h.is_written) {
            let Picture::Keyframe(keyframe) = &held.pinned.picture else {
                continue;
            };
            let age = Duration::try_from(now.duration_since(look.1)).unwrap_or_default();
            if age < WRITE_AFTER {
                continue;
            }
            match write(&path(&self.dir, look), &self.key, keyframe, &held.pinned) {
                Ok(()) => held.is_written = true,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        match failure {
            Some(error) if !self.failure_logged => {
                tracing::warn!(dir = %self.dir.display(), %error, "Cannot write the candidates' first pictures; a restart would lose them");
                self.failure_logged = true;
            }
            Some(_) => {}
            None => self.failure_logged = false,
        }
    }

    fn path(&self, look: &FrameKey) -> PathBuf {
        path(&self.dir, look)
    }

    fn publish_count(&self) {
        self.count.store(self.held.len() as u64, Ordering::Relaxed);
        gauge!(metric::PINNED).set(self.held.len() as f64);
    }
}

fn path(dir: &Path, (camera, at): &FrameKey) -> PathBuf {
    dir.join(format!("{camera}@{}", at.as_nanosecond()))
}

fn remove(path: &Path) {
    // The next start deletes leftovers.
    let _ = fs::remove_file(path);
}

/// The name under which a file is encrypted: that of the file, so that one cannot be put in the place of another.
fn sealed_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn write(path: &Path, key: &VaultKey, keyframe: &Keyframe, pinned: &PinnedFrame) -> io::Result<()> {
    let header = FileHeader {
        camera: keyframe.camera.clone(),
        at: keyframe.captured_at,
        seq: keyframe.seq,
        codec: match keyframe.codec {
            Codec::H264 => FileCodec::H264,
            Codec::H265 => FileCodec::H265,
        },
        detections: pinned.detections.to_vec(),
        detected_by: pinned.detected_by.to_vec(),
    };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&keyframe.data);
    let no_random = || io::Error::other("the operating system provides no random numbers");
    let sealed = key.seal_file(&sealed_name(path), &bytes).ok_or_else(no_random)?;
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // Not synced: after a power cut the candidate's next look takes its place.
    let temporary = path.with_extension("tmp");
    let mut private = File::options();
    private.write(true).create(true).truncate(true).mode(0o600);
    private.open(&temporary)?.write_all(&sealed)?;
    fs::rename(&temporary, path)
}

fn read(path: &Path, key: &VaultKey) -> io::Result<PinnedFrame> {
    let opened = key.open_file(&sealed_name(path), &fs::read(path)?);
    let other_key = || io::Error::other("damaged, or encrypted with another key");
    let bytes = bytes::Bytes::from(opened.ok_or_else(other_key)?);
    let end = memchr::memchr(b'\n', &bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
    let header: FileHeader = serde_json::from_slice(&bytes[..end])?;
    let keyframe = Keyframe {
        camera: header.camera,
        seq: header.seq,
        captured_at: header.at,
        codec: match header.codec {
            FileCodec::H264 => Codec::H264,
            FileCodec::H265 => Codec::H265,
        },
        data: bytes.slice(end + 1..),
    };
    Ok(PinnedFrame {
        picture: Picture::Keyframe(Arc::new(keyframe)),
        detections: header.detections.into(),
        detected_by: header.detected_by.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use gridwatch_contract::ModelInfo;
    use gridwatch_engine::BBox;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_750_000_000 + s).unwrap()
    }

    fn look(s: i64) -> (FrameKey, PinnedFrame) {
        let keyframe = Keyframe {
            camera: "gate".into(),
            seq: 7,
            captured_at: at(s),
            codec: Codec::H265,
            data: bytes::Bytes::from_static(b"\n\0\0\0\x01 whatever\n"),
        };
        let detection = Detection::new(
            "garbage",
            0.75,
            BBox {
                x1: 0.4,
                y1: 0.5,
                x2: 0.5,
                y2: 0.6,
            },
        );
        let model = ModelDescriptor {
            info: ModelInfo {
                id: "garbage".into(),
                version: "1.0.1".into(),
                sha256: "0".repeat(64),
                runtime: "onnxruntime".into(),
            },
            labels: vec!["garbage".into()],
        };
        let pinned = PinnedFrame {
            picture: Picture::Keyframe(Arc::new(keyframe)),
            detections: [detection].into(),
            detected_by: [model].into(),
        };
        (("gate".into(), at(s)), pinned)
    }

    fn pinned_frames(dir: &Path) -> PinnedFrames {
        PinnedFrames::new(dir, Arc::new(VaultKey::new(&[7; 32]).unwrap()), Arc::default())
    }

    fn written(dir: &Path) -> usize {
        fs::read_dir(dir.join("pinned")).map_or(0, Iterator::count)
    }

    #[test]
    fn a_frame_pinned_for_long_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (mut before, newest) = (pinned_frames(dir.path()), look(0));
        before.pin(newest.0.clone(), Some(&newest));
        before.pin(newest.0.clone(), Some(&newest));
        before.write_aged(at(299));
        assert_eq!(written(dir.path()), 0, "most are released within minutes");
        before.write_aged(at(300));
        let pinned = dir.path().join("pinned");
        let file = fs::read_dir(&pinned).unwrap().next().unwrap().unwrap().path();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&pinned), mode(&file)), (0o700, 0o600), "nothing in it is masked");
        let on_disk = fs::read(&file).unwrap();
        assert!(
            memchr::memmem::find(&on_disk, b"whatever").is_none(),
            "the picture is encrypted"
        );
        drop(before);

        let mut after = pinned_frames(dir.path());
        assert_eq!(after.restore([newest.0.clone()].into_iter()), [newest.0.clone()].into());
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
            (&back.detections, &back.detected_by),
            (&newest.1.detections, &newest.1.detected_by)
        );
        assert_eq!(written(dir.path()), 0, "no candidate holds it");
        assert!(after.unpin(newest.0).is_none());
    }

    #[test]
    fn unclaimed_and_unreadable_files_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let mut before = pinned_frames(dir.path());
        for newest in [look(0), look(10)] {
            before.pin(newest.0.clone(), Some(&newest));
        }
        before.write_aged(at(1000));
        drop(before);
        let spoiled = path(&dir.path().join("pinned"), &look(0).0);
        fs::write(&spoiled, "not a frame").unwrap();
        let mut after = pinned_frames(dir.path());
        assert!(after.restore([look(0).0].into_iter()).is_empty());
        assert_eq!(written(dir.path()), 0);
    }

    #[test]
    fn a_failing_disk_leaves_the_frames_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pinned"), "in the way").unwrap();
        let (mut frames, newest) = (pinned_frames(dir.path()), look(0));
        frames.pin(newest.0.clone(), Some(&newest));
        frames.write_aged(at(1000));
        frames.write_aged(at(1001));
        assert!(frames.failure_logged);
        assert!(frames.unpin(newest.0).is_some());
    }
}
