//! What ended decode workers: the pictures, which are never decoded again, and the cameras that sent them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::DecodeError;
use crate::Keyframe;
use gridwatch_base::digest::sha256_hex;
use gridwatch_engine::CameraId;

/// Pictures remembered.
const MAX_PICTURES: usize = 1024;
/// A camera that ends this many workers within [`WINDOW`] is set aside for as long.
const MAX_CRASHES: usize = 3;
const WINDOW: Duration = Duration::from_secs(3600);

/// A picture that ended a decode worker.
#[derive(Debug)]
pub struct CrashReport<'a> {
    /// The picture as the camera sent it.
    pub keyframe: &'a Keyframe,
    /// SHA-256 of its data.
    pub sha256: &'a str,
    /// How the worker ended.
    pub cause: &'a str,
}

/// Keeps a picture that ended a worker, for a report.
pub type KeepCrash = Box<dyn Fn(&CrashReport<'_>) + Send + Sync>;

/// The pictures and cameras that ended decode workers, shared by all decoders of a process.
#[derive(Default)]
pub struct CrashLog {
    inner: Mutex<Inner>,
    keep: Option<KeepCrash>,
}

#[derive(Default)]
struct Inner {
    /// Length and SHA-256, oldest first. The length spares hashing nearly every picture.
    pictures: VecDeque<(usize, String)>,
    cameras: BTreeMap<CameraId, CameraCrashes>,
}

impl Inner {
    /// Counts a worker that `camera` ended, and sets it aside if it was one too many.
    fn count(&mut self, camera: &CameraId, now: Instant) -> Option<Timestamp> {
        let camera = self.cameras.entry(camera.clone()).or_default();
        camera.at.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        camera.at.push(now);
        if camera.at.len() < MAX_CRASHES {
            return None;
        }
        let until = Timestamp::now().checked_add(WINDOW).unwrap_or(Timestamp::MAX);
        camera.set_aside = Some(SetAside {
            ends: now + WINDOW,
            until,
        });
        Some(until)
    }
}

#[derive(Default)]
struct CameraCrashes {
    at: Vec<Instant>,
    set_aside: Option<SetAside>,
}

#[derive(Clone, Copy)]
struct SetAside {
    ends: Instant,
    until: Timestamp,
}

impl fmt::Debug for CrashLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrashLog of {} pictures", self.inner().pictures.len())
    }
}

impl CrashLog {
    /// A log that knows the pictures of earlier runs, by length and SHA-256, oldest first, and hands new ones to `keep`.
    pub fn new(known: impl IntoIterator<Item = (usize, String)>, keep: KeepCrash) -> Self {
        let mut pictures: VecDeque<_> = known.into_iter().collect();
        pictures.drain(..pictures.len().saturating_sub(MAX_PICTURES));
        Self {
            inner: Mutex::new(Inner {
                pictures,
                cameras: BTreeMap::new(),
            }),
            keep: Some(keep),
        }
    }

    /// Why this keyframe is not decoded, if it is not.
    pub(super) fn refusal(&self, keyframe: &Keyframe) -> Option<DecodeError> {
        self.refusal_at(keyframe, Instant::now())
    }

    fn refusal_at(&self, keyframe: &Keyframe, now: Instant) -> Option<DecodeError> {
        let mut inner = self.inner();
        if let Some(camera) = inner.cameras.get_mut(&keyframe.camera)
            && let Some(SetAside { ends, until }) = camera.set_aside
        {
            if now < ends {
                return Some(DecodeError::SetAside {
                    camera: keyframe.camera.clone(),
                    until,
                });
            }
            *camera = CameraCrashes::default();
        }
        let len = keyframe.data.len();
        if !inner.pictures.iter().any(|(known, _)| *known == len) {
            return None;
        }
        let sha256 = sha256_hex(&keyframe.data);
        inner
            .pictures
            .iter()
            .any(|(_, known)| *known == sha256)
            .then(|| DecodeError::Known {
                camera: keyframe.camera.clone(),
                sha256,
            })
    }

    /// Records that what `camera` sent ended a worker, though not which picture. Returns until when it is set aside, if it is.
    pub(super) fn record_camera(&self, camera: &CameraId) -> Option<Timestamp> {
        self.inner().count(camera, Instant::now())
    }

    /// Records that `keyframe` ended a worker. Returns until when its camera is set aside, if it is.
    pub(super) fn record(&self, keyframe: &Keyframe, cause: &str) -> Option<Timestamp> {
        let sha256 = sha256_hex(&keyframe.data);
        let set_aside = self.note(keyframe, &sha256, Instant::now());
        // Without the lock: it writes to a disk.
        if let Some(keep) = &self.keep {
            keep(&CrashReport {
                keyframe,
                sha256: &sha256,
                cause,
            });
        }
        set_aside
    }

    fn note(&self, keyframe: &Keyframe, sha256: &str, now: Instant) -> Option<Timestamp> {
        let mut inner = self.inner();
        if inner.pictures.len() == MAX_PICTURES {
            inner.pictures.pop_front();
        }
        inner.pictures.push_back((keyframe.data.len(), sha256.to_owned()));
        inner.count(&keyframe.camera, now)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;

    fn keyframe(camera: &str, data: &'static [u8]) -> Keyframe {
        Keyframe {
            camera: camera.into(),
            seq: 1,
            captured_at: Timestamp::UNIX_EPOCH,
            codec: Codec::H264,
            data: data.into(),
        }
    }

    #[test]
    fn a_picture_that_ended_a_worker_is_refused_from_any_camera_and_another_is_not() {
        let log = CrashLog::default();
        assert!(log.record(&keyframe("a", b"bad"), "SIGSEGV").is_none());
        assert!(matches!(
            log.refusal(&keyframe("b", b"bad")),
            Some(DecodeError::Known { .. })
        ));
        assert!(log.refusal(&keyframe("a", b"good")).is_none());
        assert!(log.refusal(&keyframe("a", b"gut")).is_none(), "the same length");
    }

    #[test]
    fn pictures_of_an_earlier_run_are_refused() {
        let log = CrashLog::new([(3, sha256_hex(b"bad"))], Box::new(|_| ()));
        assert!(log.refusal(&keyframe("a", b"bad")).is_some());
    }

    #[test]
    fn three_crashes_within_an_hour_set_a_camera_aside_for_an_hour() {
        let log = CrashLog::default();
        let start = Instant::now();
        let after = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let good = keyframe("a", b"good");
        assert!(log.note(&keyframe("a", b"1"), "1", after(0)).is_none());
        assert!(log.note(&keyframe("a", b"2"), "2", after(50)).is_none());
        assert!(
            log.note(&keyframe("a", b"3"), "3", after(70)).is_none(),
            "the first is too old"
        );
        assert!(log.note(&keyframe("a", b"4"), "4", after(80)).is_some());
        assert!(matches!(
            log.refusal_at(&good, after(139)),
            Some(DecodeError::SetAside { .. })
        ));
        assert!(log.refusal_at(&keyframe("b", b"good"), after(81)).is_none());
        assert!(log.refusal_at(&good, after(140)).is_none());
        assert!(
            log.note(&keyframe("a", b"5"), "5", after(141)).is_none(),
            "counted anew"
        );
    }

    #[test]
    fn the_number_of_known_pictures_is_bounded() {
        let log = CrashLog::new((0..2000).map(|i| (i, String::new())), Box::new(|_| ()));
        log.note(&keyframe("a", b"x"), "x", Instant::now());
        assert_eq!(log.inner().pictures.len(), MAX_PICTURES);
        assert_eq!(log.inner().pictures.back().unwrap().1, "x");
    }
}
