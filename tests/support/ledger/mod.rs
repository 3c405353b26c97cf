//! Records into a directory and reads it back.
#![allow(dead_code, unreachable_pub, reason = "each test file takes its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod folder;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gridwatch_engine::{Detection, Effect, Input, Light, Observation, OpenCase, Plan, View};
use gridwatch_ledger::{
    Damage, Entry, Reader, RecordedEngine, RecordedEvent, Recorder, RunInfo, Settings,
    replay::{Replay, Window},
};
use jiff::Timestamp;

use crate::engine_support::at;

pub fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_path_buf(),
        file_bytes: 1 << 20,
        keep_bytes: 1 << 30,
        keep_for: Duration::from_hours(24 * 30),
    }
}

pub fn recorder(settings: Settings, started_at: Timestamp) -> Recorder {
    let run = RunInfo {
        started_at,
        boot: "boot-1".into(),
        config_sha256: "ab".repeat(32),
    };
    Recorder::spawn(settings, run).expect("a thread")
}

/// A clear look by day.
pub fn look(camera: &str, seconds: f64, detections: Vec<Detection>) -> Observation {
    Observation {
        camera: camera.into(),
        at: at(seconds),
        view: View::Clear,
        light: Light::Day,
        detections,
        not_searched: Vec::new(),
    }
}

/// A new recorded engine.
pub fn start(settings: Settings, started_at: Timestamp, plan: &Arc<Plan>, restored: Vec<OpenCase>) -> RecordedEngine {
    RecordedEngine::start(Arc::clone(plan), restored, Some(recorder(settings, started_at)))
}

/// Applies all inputs and waits until the last file is written.
pub fn record(mut live: RecordedEngine, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
    inputs.into_iter().flat_map(|i| live.apply(i)).collect()
}

pub fn read(dir: &Path) -> (Vec<Entry>, Vec<Damage>) {
    let mut reader = Reader::open(dir, None).expect("a ledger");
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().expect("a readable ledger") {
        entries.push(entry);
    }
    (entries, reader.damage().to_vec())
}

/// The recorded inputs, without the heads of files and the cases that follow them.
pub fn events(dir: &Path) -> Vec<RecordedEvent> {
    read(dir)
        .0
        .into_iter()
        .map(|e| e.event)
        .filter(|w| !matches!(w, RecordedEvent::Head(_) | RecordedEvent::KnownCase(_)))
        .collect()
}

/// Replays the ledger; returns the effects within the window.
pub fn replay(dir: &Path, plan: &Arc<Plan>, window: Window) -> (Vec<Effect>, Replay) {
    let mut reader = Reader::open(dir, window.from).expect("a ledger");
    let mut replay = Replay::new(Arc::clone(plan), window);
    let mut effects = Vec::new();
    while let Some(entry) = reader.next_entry().expect("a readable ledger") {
        effects.extend(replay.apply(entry));
    }
    (effects, replay)
}

/// The files of the ledger, oldest first.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.to_string_lossy().contains(".gwl"))
        .collect();
    files.sort();
    files
}
