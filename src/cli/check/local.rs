//! What can be checked without a network: libraries, models, decoders, disk, clock.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{Row, State};
use gridwatch_config::Draft;
use gridwatch_custody::keys::{KeyRing, OriginalsKey};

/// Below this the store may run out within a day of a broker's outage: a case with its pictures is about a megabyte.
const LEAST_FREE: u64 = 256 << 20;
/// Below this, look at it: logs and evidence share the disk.
const SCARCE_FREE: u64 = 2 << 30;

pub(super) fn rows(draft: &Draft) -> Vec<Row> {
    let mut rows = models(draft);
    rows.extend(decoders(draft));
    rows.extend(draft.state_dir.as_deref().map(state_dir));
    rows.extend(draft.state_dir.as_deref().into_iter().flat_map(|dir| keys(draft, dir)));
    rows.push(clock(draft));
    rows
}

/// What cases are signed with, and what originals are encrypted with.
fn keys(draft: &Draft, state_dir: &Path) -> Vec<Row> {
    const WHAT: &str = "keys";
    let ring = KeyRing::of(state_dir);
    let place = draft.originals_key();
    let elsewhere = match place {
        Some(OriginalsKey::File(path)) => Some(path.as_path()),
        _ => None,
    };
    let mut rows: Vec<Row> = ring
        .weak(elsewhere)
        .into_iter()
        .map(|weak| Row::new(WHAT, State::Wrong, weak.to_string()))
        .collect();
    // systemd hands credentials to the service alone.
    if let Some(place @ OriginalsKey::File(_)) = place
        && let Err(e) = ring.originals(place)
    {
        rows.push(Row::new(WHAT, State::Wrong, e.to_string()));
    }
    rows.push(match ring.existing() {
        _ if !ring.signing_file().exists() => Row::ok(WHAT, "none yet: the daemon makes them at its first start"),
        Ok(key) => Row::ok(WHAT, format!("cases are signed with {}", key.public())),
        Err(e) => Row::new(WHAT, State::Wrong, e.to_string()),
    });
    rows
}

/// The library, then each model: against its checksum, and in a session of its own.
#[cfg(feature = "ort")]
fn models(draft: &Draft) -> Vec<Row> {
    const WHAT: &str = "onnxruntime";
    let runtime = gridwatch_model::runtime::init(draft.onnxruntime.as_deref()).map(|r| r.with(draft.inference.clone()));
    let mut rows = vec![match &runtime {
        Ok(runtime) => Row::ok(WHAT, runtime.library().display().to_string()),
        Err(e) => Row::new(WHAT, State::Wrong, e.to_string()),
    }];
    for model in &draft.models {
        let what = format!("model {}", model.id);
        let loaded = gridwatch_model::Model::load(&model.dir);
        rows.push(match (loaded, &runtime) {
            (Err(e), _) => Row::new(what, State::Wrong, e.to_string()),
            (Ok(loaded), Err(_)) => {
                let manifest = loaded.manifest();
                Row::new(
                    what,
                    State::Skipped,
                    format!(
                        "version {}, checksum right; not tried without onnxruntime",
                        manifest.version
                    ),
                )
            }
            (Ok(loaded), Ok(runtime)) => tried(what, runtime, &loaded),
        });
        if let Ok(runtime) = &runtime {
            rows.extend(live(draft, &model.id, runtime));
        }
    }
    rows
}

/// The registry's versions that look in place of the configuration's folder.
#[cfg(feature = "ort")]
fn live(draft: &Draft, id: &str, runtime: &gridwatch_model::Runtime) -> Vec<Row> {
    // Before the first daemon ran there is none.
    let Some(registry) = draft.registry().filter(|r| r.journal().path().exists()) else {
        return Vec::new();
    };
    let known = match registry.state() {
        Ok(state) => state.known(id),
        Err(e) => {
            return vec![Row::new(
                format!("model {id} in the registry"),
                State::Wrong,
                e.to_string(),
            )];
        }
    };
    let everywhere = known.live(None).map(|version| (version, None));
    let own = known.cameras.keys().filter(|camera| known.has_own(camera));
    let own = own.filter_map(|camera| known.live(Some(camera)).map(|version| (version, Some(camera))));
    everywhere
        .into_iter()
        .chain(own)
        .map(|(version, camera)| {
            let at = camera.map_or_else(String::new, |camera| format!(" at {camera}"));
            let what = format!("model {id}, live{at}");
            match registry.load(id, &version) {
                Ok(loaded) => tried(what, runtime, &loaded),
                Err(e) => Row::new(what, State::Wrong, e.to_string())
                    .remedy("the daemon goes back to the version before at its start; install it again, or gridwatch model rollback"),
            }
        })
        .collect()
}

/// What the daemon asks before a model may look.
#[cfg(feature = "ort")]
fn tried(what: String, runtime: &gridwatch_model::Runtime, model: &gridwatch_model::Model) -> Row {
    use gridwatch_model::selftest::{self, Verdict};

    let report = selftest::check(runtime, model);
    let version = &model.manifest().version;
    if let Some(refusal) = report.refusal() {
        return Row::new(what, State::Wrong, refusal);
    }
    let on = report.provider.map_or(String::new(), |p| format!(", on {p}"));
    let ms = report.ms.map_or(String::new(), |ms| format!(", {ms:.0} ms a look"));
    match report.findings.iter().find(|f| f.verdict == Verdict::Doubtful) {
        Some(doubt) => Row::new(
            what,
            State::Warning,
            format!("version {version}{on}{ms}; {}", doubt.said),
        ),
        None => Row::ok(what, format!("version {version}, passed its self-test{on}{ms}")),
    }
}

#[cfg(not(feature = "ort"))]
fn models(draft: &Draft) -> Vec<Row> {
    let mut rows = vec![Row::new(
        "onnxruntime",
        State::Skipped,
        "this gridwatch was built without the feature `ort`",
    )];
    for model in &draft.models {
        let what = format!("model {}", model.id);
        rows.push(match gridwatch_model::Model::load(&model.dir) {
            Ok(loaded) => Row::ok(what, format!("version {}, checksum right", loaded.manifest().version)),
            Err(e) => Row::new(what, State::Wrong, e.to_string()),
        });
    }
    rows
}

/// One keyframe of each codec through the decoder that the daemon would use: being in GStreamer's registry proves little.
#[cfg(feature = "gst")]
fn decoders(draft: &Draft) -> Vec<Row> {
    use bytes::Bytes;
    use gridwatch_camera::{
        Codec, Keyframe,
        decode::{DecodeError, Decoder},
    };

    // 320×240 of ffmpeg's `testsrc`, made with x264 (Main profile) and x265.
    let samples: [(Codec, &'static [u8]); 2] = [
        (Codec::H264, include_bytes!("keyframe.h264")),
        (Codec::H265, include_bytes!("keyframe.h265")),
    ];
    let Some(backend) = draft.decoders else {
        return Vec::new();
    };
    let row = |(codec, data)| {
        let what = format!("decoder {codec:?}");
        let keyframe = Keyframe {
            camera: gridwatch_engine::CameraId::from("check"),
            seq: 0,
            captured_at: Timestamp::now(),
            codec,
            data: Bytes::from_static(data),
        };
        let decoded = Decoder::new("check", backend).and_then(|mut d| {
            let frame = d.decode(&keyframe)?;
            Ok::<_, DecodeError>((frame, d.element(codec).unwrap_or_default().to_owned()))
        });
        match decoded {
            Ok((frame, element)) => Row::ok(
                what,
                format!("{element} decodes a keyframe ({}×{})", frame.width, frame.height),
            ),
            Err(e) => Row::wrong(
                what,
                e.to_string(),
                "run edge-deploy/setup.sh, or set decode.backend to auto or software",
            ),
        }
    };
    samples.into_iter().map(row).collect()
}

#[cfg(not(feature = "gst"))]
fn decoders(_: &Draft) -> Vec<Row> {
    vec![Row::new(
        "decoders",
        State::Skipped,
        "this gridwatch was built without the feature `gst`",
    )]
}

/// Writable, or can be made; and room in it.
fn state_dir(dir: &Path) -> Row {
    const WHAT: &str = "state directory";
    // It is the daemon that makes it; until then its nearest parent tells.
    let there: PathBuf = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/")).into();
    let name = dir.display();
    let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if let Err(e) = rustix::fs::access(&there, needed) {
        return Row::wrong(
            WHAT,
            format!("{name}: {} cannot be written to: {e}", there.display()),
            format!("mkdir -p {name} and give it to the user that runs gridwatch, or name another as node.state_dir"),
        );
    }
    let free = match rustix::fs::statvfs(&there) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(e) => {
            return Row::wrong(
                WHAT,
                format!("{name}: the free space cannot be told: {e}"),
                "check the disk",
            );
        }
    };
    let made = if there == dir { "" } else { ", will be made" };
    let mib = free >> 20;
    let room = format!("{name}: {mib} MiB free{made}");
    match free {
        f if f < LEAST_FREE => Row::wrong(
            WHAT,
            room,
            "free some: without room no case can be kept while the broker is away",
        ),
        f if f < SCARCE_FREE => {
            Row::new(WHAT, State::Warning, room).remedy("free some, or move node.state_dir to a larger disk")
        }
        _ => Row::ok(WHAT, room),
    }
}

/// Evidence states its time, so somebody must keep the clock.
fn clock(draft: &Draft) -> Row {
    const WHAT: &str = "clock";
    let now = Timestamp::now();
    let shown = match &draft.timezone {
        Some(zone) => now.to_zoned(zone.clone()).strftime("%F %T %:z").to_string(),
        None => now.to_string(),
    };
    let synchronised = "let chrony or systemd-timesyncd keep the clock: evidence may be 1 s off at most (GA/T 832)";
    // A box without a battery wakes up in 1970, or on the day its image was built.
    if now < Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::MIN) {
        return Row::wrong(WHAT, format!("{shown} lies in the past"), synchronised);
    }
    let kept = [
        "/run/systemd/timesync/synchronized",
        "/run/chrony/chronyd.pid",
        "/run/ntpd.pid",
    ];
    match kept.iter().find(|p| fs::exists(p).unwrap_or(false)) {
        Some(_) => Row::ok(WHAT, shown),
        None => Row::new(
            WHAT,
            State::Warning,
            format!("{shown}, and nothing that keeps it right was found"),
        )
        .remedy(synchronised),
    }
}
