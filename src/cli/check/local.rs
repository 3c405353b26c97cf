//! Checks that need no network: ONNX Runtime, models, decoders, state directory, database, keys, clock.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

use super::{CheckRow, CheckState};
use crate::open_files::{self, OpenFiles};
use gridwatch_base::clock::trust::{ClockReading, ClockTrust};
use gridwatch_config::Draft;
use gridwatch_custody::{
    keys::{KeyRing, OriginalsKey, SigningKeyPlace},
    token::PinSource,
};
use gridwatch_store::{Store, StoreError};

/// Below this many bytes the outbox may fill the disk within a day of a broker outage: a case with its pictures is about 1 MB.
const MIN_FREE: u64 = 256 << 20;
/// Below this many bytes the check warns: logs and evidence share the disk.
const LOW_FREE: u64 = 2 << 30;

/// How long a program at the endpoint's port may take to answer, and how much of the answer is read.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER: u64 = 16 << 10;

pub(super) fn rows(draft: &Draft) -> Vec<CheckRow> {
    // First, because the decoders below need files as well.
    let mut rows = vec![open_files(draft)];
    rows.extend(models(draft));
    rows.extend(decoders(draft));
    let own = draft.state_dir.as_deref();
    rows.extend(draft.listen().map(|address| endpoint(address, own)));
    rows.extend(draft.state_dir.as_deref().map(state_dir));
    let ring = |dir: &Path| KeyRing::with_signing(dir, draft.signing_key());
    rows.extend(own.into_iter().flat_map(|dir| database(dir, &ring(dir))));
    rows.extend(draft.state_dir.as_deref().into_iter().flat_map(|dir| keys(draft, dir)));
    rows.push(clock(draft));
    rows
}

/// The port of the metrics and health endpoint, which is either free or served by the daemon of this state directory.
pub(super) fn endpoint(address: SocketAddr, state_dir: Option<&Path>) -> CheckRow {
    const WHAT: &str = "telemetry";
    match TcpListener::bind(address) {
        Ok(_) => CheckRow::ok(WHAT, format!("{address} is free")),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && is_gridwatch(address) => {
            if state_dir.is_some_and(gridwatch_store::is_in_use) {
                return CheckRow::ok(
                    WHAT,
                    format!("{address} is served by the daemon that runs with this state directory"),
                );
            }
            CheckRow::wrong(
                WHAT,
                format!(
                    "telemetry.listen: {address} is served by another gridwatch, which has another state directory"
                ),
                "end that one, or choose another port; the daemon refuses to start without it",
            )
        }
        Err(e) => CheckRow::new(
            WHAT,
            CheckState::Wrong,
            format!("telemetry.listen: cannot bind {address}: {e}"),
        )
        .remedy("end the program that has this port, or choose another one; the daemon refuses to start without it"),
    }
}

/// Whether a gridwatch daemon answers at `address`.
fn is_gridwatch(address: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ENDPOINT_TIMEOUT)?;
        stream.set_read_timeout(Some(ENDPOINT_TIMEOUT))?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        Ok(answer.contains("\"ready\":"))
    };
    ask().unwrap_or(false)
}

/// Whether this user may open as many files as the cameras need.
fn open_files(draft: &Draft) -> CheckRow {
    const WHAT: &str = "open files";
    let files = OpenFiles::raise(&draft.cameras, draft.workers());
    match files.shortage() {
        None => CheckRow::ok(WHAT, files.summary()),
        Some(_) => CheckRow::wrong(WHAT, files.summary(), open_files::REMEDY),
    }
}

/// The key that signs cases and the key that encrypts originals.
pub(super) fn keys(draft: &Draft, state_dir: &Path) -> Vec<CheckRow> {
    const WHAT: &str = "keys";
    let ring = KeyRing::with_signing(state_dir, draft.signing_key());
    let place = draft.originals_key();
    let mut elsewhere = Vec::new();
    if let Some(OriginalsKey::File(path)) = place {
        elsewhere.push(path.as_path());
    }
    let mut is_credential = false;
    if let SigningKeyPlace::Token(uri) = ring.signing_place() {
        match uri.pin() {
            PinSource::File(path) => elsewhere.push(path),
            PinSource::Credential(_) => is_credential = std::env::var_os("CREDENTIALS_DIRECTORY").is_none(),
        }
    }
    let mut rows: Vec<CheckRow> = ring
        .unprotected(elsewhere)
        .into_iter()
        .map(|weak| CheckRow::new(WHAT, CheckState::Wrong, weak.to_string()))
        .collect();
    // A systemd credential is only available to the service itself, so it cannot be checked here. Without originals, the key in the
    // state directory encrypts the pictures of views.
    let place = place.unwrap_or(&OriginalsKey::Own);
    match ring.existing_originals(place) {
        _ if matches!(place, OriginalsKey::Credential(_)) => {}
        Err(e) => rows.push(CheckRow::new(WHAT, CheckState::Wrong, e.to_string())),
        Ok(None) if fs::read_dir(state_dir.join("originals")).is_ok_and(|mut dir| dir.next().is_some()) => {
            rows.push(
                CheckRow::new(
                    WHAT,
                    CheckState::Warning,
                    "originals.key is missing, but there are originals; the daemon creates a new key, which does not decrypt them",
                )
                .remedy("put the key back from a backup of keys/, before the daemon starts"),
            );
        }
        Ok(_) => {}
    }
    if is_credential {
        let message = "the signing key is in a token whose PIN is a systemd credential, which only the service has; its log says whether it works";
        rows.push(CheckRow::new(WHAT, CheckState::Skipped, message));
        return rows;
    }
    let is_missing = *ring.signing_place() == SigningKeyPlace::Own && !ring.signing_file().exists();
    rows.push(match ring.existing() {
        _ if is_missing => match gridwatch_store::inspect(state_dir, &ring).doubts {
            Err(e @ StoreError::KeyLost { .. }) => CheckRow::new(WHAT, CheckState::Wrong, e.to_string()),
            _ => CheckRow::ok(WHAT, "no keys yet; the daemon creates them at its first start"),
        },
        Ok(key) => CheckRow::ok(WHAT, format!("cases are signed with {}", key.public())),
        Err(e) => CheckRow::new(WHAT, CheckState::Wrong, e.to_string()),
    });
    rows
}

/// ONNX Runtime, then the checksum and self-test of each model.
#[cfg(feature = "ort")]
fn models(draft: &Draft) -> Vec<CheckRow> {
    const WHAT: &str = "onnxruntime";
    if !draft.faults_in("runtime").is_empty() {
        // Another library or provider than the one meant would be tested.
        let message = "not tested, nor are the models: [runtime] is faulty, see above";
        return vec![CheckRow::new(WHAT, CheckState::Skipped, message)];
    }
    let runtime = gridwatch_model::runtime::init(draft.onnxruntime.as_deref()).map(|r| r.with(draft.inference.clone()));
    let mut rows = vec![match &runtime {
        Ok(runtime) => CheckRow::ok(WHAT, runtime.library().display().to_string()),
        Err(e) => CheckRow::new(WHAT, CheckState::Wrong, e.to_string()),
    }];
    for model in &draft.models {
        let what = format!("model {}", model.id);
        let loaded = gridwatch_model::Model::load(&model.dir);
        rows.push(match (loaded, &runtime) {
            (Err(e), _) => CheckRow::new(what, CheckState::Wrong, e.to_string()),
            (Ok(loaded), Err(_)) => {
                let manifest = loaded.manifest();
                CheckRow::new(
                    what,
                    CheckState::Skipped,
                    format!(
                        "version {}, checksum matches; self-test skipped, ONNX Runtime is unavailable",
                        manifest.version
                    ),
                )
            }
            (Ok(loaded), Ok(runtime)) => self_test(what, runtime, &loaded),
        });
        if let Ok(runtime) = &runtime {
            rows.extend(live_versions(draft, &model.id, runtime));
        }
    }
    rows
}

/// The registry's live versions of model `id`, which replace the one in the configuration, on all cameras or on one.
#[cfg(feature = "ort")]
fn live_versions(draft: &Draft, id: &str, runtime: &gridwatch_model::Runtime) -> Vec<CheckRow> {
    // The registry is created at the daemon's first start.
    let Some(registry) = draft.registry().filter(|r| r.journal().path().exists()) else {
        return Vec::new();
    };
    let known = match registry.state() {
        Ok(state) => state.model(id),
        Err(e) => {
            return vec![CheckRow::new(
                format!("model {id} in the registry"),
                CheckState::Wrong,
                e.to_string(),
            )];
        }
    };
    let everywhere = known.live(None).map(|version| (version, None));
    let own = known.cameras.keys().filter(|camera| known.has_own_version(camera));
    let own = own.filter_map(|camera| known.live(Some(camera)).map(|version| (version, Some(camera))));
    everywhere
        .into_iter()
        .chain(own)
        .map(|(version, camera)| {
            let at = camera.map_or_else(String::new, |camera| format!(" at {camera}"));
            let what = format!("model {id}, live{at}");
            match registry.load(id, &version) {
                Ok(loaded) => self_test(what, runtime, &loaded),
                Err(e) => CheckRow::new(what, CheckState::Wrong, e.to_string())
                    .remedy("install it again, or run `gridwatch model rollback`; until then the daemon starts with the previous version"),
            }
        })
        .collect()
}

/// Runs the self-test that the daemon runs before it uses a model.
#[cfg(feature = "ort")]
fn self_test(what: String, runtime: &gridwatch_model::Runtime, model: &gridwatch_model::Model) -> CheckRow {
    use gridwatch_model::selftest::{self, StepResult};

    let report = selftest::check(runtime, model);
    let version = &model.manifest().version;
    if let Some(refusal) = report.refusal() {
        return CheckRow::new(what, CheckState::Wrong, refusal);
    }
    let on = report.provider.map_or(String::new(), |p| format!(", on {p}"));
    let ms = report.ms.map_or(String::new(), |ms| format!(", {ms:.0} ms a look"));
    match report.findings.iter().find(|f| f.result == StepResult::Unproven) {
        Some(doubt) => CheckRow::new(
            what,
            CheckState::Warning,
            format!("version {version}{on}{ms}; {}", doubt.message),
        ),
        None => CheckRow::ok(what, format!("version {version}, passed its self-test{on}{ms}")),
    }
}

#[cfg(not(feature = "ort"))]
fn models(draft: &Draft) -> Vec<CheckRow> {
    let mut rows = vec![CheckRow::new(
        "onnxruntime",
        CheckState::Skipped,
        "this build of gridwatch lacks the feature `ort`",
    )];
    for model in &draft.models {
        let what = format!("model {}", model.id);
        rows.push(match gridwatch_model::Model::load(&model.dir) {
            Ok(loaded) => CheckRow::ok(what, format!("version {}, checksum matches", loaded.manifest().version)),
            Err(e) => CheckRow::new(what, CheckState::Wrong, e.to_string()),
        });
    }
    rows
}

/// Decodes one keyframe of each codec with the decoder that the daemon would use.
#[cfg(feature = "gst")]
fn decoders(draft: &Draft) -> Vec<CheckRow> {
    let Some(backend) = draft.decoders else {
        return Vec::new();
    };
    let mode = crate::decoders::mode(Default::default());
    let results = crate::decoders::test(backend, &mode).into_iter();
    let rows = results.map(|(codec, decoded)| {
        let what = format!("decoder {codec:?}");
        match decoded {
            Ok(decoder) => CheckRow::ok(
                what,
                format!(
                    "{} decoded a test keyframe ({}×{})",
                    decoder.element, decoder.size.0, decoder.size.1
                ),
            ),
            Err(e) => CheckRow::wrong(
                what,
                e.to_string(),
                "run edge-deploy/setup.sh, or set decode.backend to auto or software",
            ),
        }
    });
    rows.collect()
}

#[cfg(not(feature = "gst"))]
fn decoders(_: &Draft) -> Vec<CheckRow> {
    vec![CheckRow::new(
        "decoders",
        CheckState::Skipped,
        "this build of gridwatch lacks the feature `gst`",
    )]
}

/// An entry of the state directory that is a folder where the daemon needs a file, or the other way round, and what it should be.
fn misplaced(dir: &Path) -> Option<(PathBuf, &'static str)> {
    const FILES: [&str; 4] = ["gridwatch.db", "gridwatch.lock", "installation", "online-since"];
    const FOLDERS: [&str; 8] = [
        "decode-crashes",
        "evidence",
        "keys",
        "ledger",
        "models",
        "originals",
        "pinned",
        "views",
    ];
    let files = FILES.map(|name| (dir.join(name), "a regular file"));
    let folders = FOLDERS.map(|name| (dir.join(name), "a folder"));
    files.into_iter().chain(folders).find(|(path, expected)| {
        // Missing ones are created.
        fs::metadata(path).is_ok_and(|entry| match *expected {
            "a folder" => !entry.is_dir(),
            _ => !entry.is_file(),
        })
    })
}

/// Whether the state directory is writable (or can be created), and its free space.
pub(super) fn state_dir(dir: &Path) -> CheckRow {
    const WHAT: &str = "state directory";
    // The daemon creates it; before that, check its nearest existing ancestor.
    let existing: PathBuf = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/")).into();
    let name = dir.display();
    let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if let Err(e) = rustix::fs::access(&existing, needed) {
        return CheckRow::wrong(
            WHAT,
            format!("{name}: {} is not writable: {e}", existing.display()),
            format!(
                "run `mkdir -p {name}` and make the user that runs gridwatch its owner, or set another node.state_dir"
            ),
        );
    }
    if let Some((entry, expected)) = misplaced(dir) {
        return CheckRow::wrong(
            WHAT,
            format!("{}: it is not {expected}, so the daemon cannot start", entry.display()),
            "move it away; the daemon creates it anew",
        );
    }
    let free = match rustix::fs::statvfs(&existing) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(e) => {
            return CheckRow::wrong(
                WHAT,
                format!("{name}: cannot read the free space: {e}"),
                "check the disk and its mount",
            );
        }
    };
    let created = if existing == dir { "" } else { ", will be created" };
    let mib = free >> 20;
    let message = format!("{name}: {mib} MiB free{created}");
    match free {
        f if f < MIN_FREE => CheckRow::wrong(
            WHAT,
            message,
            "free disk space: cases cannot be queued during a broker outage without it",
        ),
        f if f < LOW_FREE => CheckRow::new(WHAT, CheckState::Warning, message)
            .remedy("free disk space, or move node.state_dir to a larger disk"),
        _ => CheckRow::ok(WHAT, message),
    }
}

/// Whether the daemon can go on with the database, and databases that were moved aside.
pub(super) fn database(dir: &Path, keys: &KeyRing) -> Vec<CheckRow> {
    const WHAT: &str = "database";
    let found = gridwatch_store::inspect(dir, keys);
    let mut rows = vec![match found.version {
        Ok(None) => CheckRow::ok(WHAT, "none yet; the daemon creates it at its first start"),
        Ok(Some(version)) => CheckRow::ok(WHAT, format!("schema version {version}, no damage found")),
        Err(e) => CheckRow::new(WHAT, CheckState::Wrong, e.to_string()),
    }];
    if let Ok(Some(doubt)) = found.doubts {
        rows.push(CheckRow::new(WHAT, CheckState::Warning, doubt));
    }
    if !found.aside.is_empty() {
        let names = found.aside.iter().map(|path| path.display().to_string());
        let names: Vec<String> = names.collect();
        let message = format!("moved aside, because it was damaged or replaced: {}", names.join(", "));
        rows.push(CheckRow::new(WHAT, CheckState::Warning, message).remedy(
            "stop the daemon and run `gridwatch store rebuild` to take over the cases that only it holds; then move it to another disk",
        ));
    }
    rows
}

/// Whether the daemon would believe the system clock, and whether it is synchronised: evidence is timestamped with it.
fn clock(draft: &Draft) -> CheckRow {
    const WHAT: &str = "clock";
    let now = Timestamp::now();
    let shown = match &draft.timezone {
        Some(zone) => now.to_zoned(zone.clone()).strftime("%F %T %:z").to_string(),
        None => now.to_string(),
    };
    let remedy = "synchronise it with chrony or systemd-timesyncd: evidence may be off by 1 s at most (GA/T 832)";
    let newest = draft.state_dir.as_deref().and_then(|dir| {
        let store = Store::open_read_only(dir).ok()?;
        store.newest_trusted_time().ok()?
    });
    if let Err(doubt) = ClockTrust::new(newest).assess(ClockReading::now()).filing {
        return CheckRow::wrong(WHAT, format!("{shown}: cases would be held, because {doubt}"), remedy);
    }
    let synchronisers = [
        "/run/systemd/timesync/synchronized",
        "/run/chrony/chronyd.pid",
        "/run/ntpd.pid",
    ];
    match synchronisers.iter().find(|p| fs::exists(p).unwrap_or(false)) {
        Some(_) => CheckRow::ok(WHAT, shown),
        None => CheckRow::new(
            WHAT,
            CheckState::Warning,
            format!("{shown}, no time synchronisation found"),
        )
        .remedy(remedy),
    }
}
