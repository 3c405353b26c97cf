//! The support bundle: one `.tar.gz` of what helps to find a fault, without secrets and pictures, with a manifest that says what is in it
//! and what was left out.

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use gridwatch_base::clock;
use gridwatch_config::{Config, diff};
use gridwatch_model::registry::{RegistryState, version_name};
use gridwatch_store::{Filter, Store, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Scrubber, crashes, disk, keys, versions};

/// Largest part in bytes; what is beyond it is cut off, of the log the oldest lines.
const MAX_PART: usize = 8 << 20;
/// Cases in the index, at most, the newest.
const MAX_CASES: u32 = 5000;
/// Messages of the outbox, at most, the oldest.
const MAX_MESSAGES: u32 = 2000;

/// What the running daemon knows; an error says why something is not known, for the manifest.
#[derive(Debug, Clone)]
pub struct DaemonState {
    /// Whether problems would be filed now.
    pub readiness: Result<ReadinessState, String>,
    /// The link to the broker.
    pub link: Result<LinkState, String>,
    /// Metrics in Prometheus' text format.
    pub metrics: Result<String, String>,
    /// The newest lines of the log, oldest first.
    pub log: Result<Vec<String>, String>,
    /// The faults of a newer configuration file that was refused.
    pub refused: Vec<String>,
    /// Version of ONNX Runtime.
    pub onnxruntime: Option<String>,
    /// When the daemon was started.
    pub started_at: Option<Timestamp>,
}

/// Whether problems would be filed.
#[derive(Debug, Clone, Serialize)]
pub struct ReadinessState {
    /// True if they would.
    pub ready: bool,
    /// What stands against it.
    pub blockers: Vec<String>,
}

/// The link to the broker.
#[derive(Debug, Clone, Serialize)]
pub struct LinkState {
    /// True while connected and subscribed.
    pub connected: bool,
    /// When the last connection ended.
    pub down_since: Option<Timestamp>,
    /// Why.
    pub error: Option<String>,
}

/// A bundle to be written.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// What the daemon knows.
    pub daemon: &'a DaemonState,
    /// Also coordinates, addresses and cells.
    pub with_places: bool,
    /// Now.
    pub at: Timestamp,
}

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The files, in order.
    pub files: Vec<ManifestEntry>,
    /// What is missing, and why.
    pub left_out: Vec<String>,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestEntry {
    /// Its name in the bundle's folder.
    pub name: &'static str,
    /// What it holds.
    pub what: &'static str,
    /// Its size in bytes.
    pub bytes: usize,
}

/// Name of a bundle's file, without path: `gridwatch-support-NODE-20260501T083000Z.tar.gz`.
pub fn file_name(config: &Config, at: Timestamp) -> String {
    format!("{}.tar.gz", folder(config, at))
}

fn folder(config: &Config, at: Timestamp) -> String {
    format!("gridwatch-support-{}-{}", config.node, at.strftime("%Y%m%dT%H%M%SZ"))
}

/// A part before it is scrubbed.
struct Part {
    name: &'static str,
    what: &'static str,
    content: Result<String, String>,
    /// The end matters more than the beginning.
    keeps_end: bool,
}

impl Bundle<'_> {
    /// Writes the bundle to `out`. A part that cannot be read is left out, and the manifest says why. Blocks for up to some 10 s on a slow disk.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn write<W: Write>(&self, out: W) -> io::Result<(Manifest, W)> {
        let scrubber = Scrubber::of(self.config, self.with_places);
        let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::default()));
        let folder = folder(self.config, self.at);
        let mut append = |name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(self.at.as_second().unsigned_abs());
            archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())
        };
        let mut manifest = Manifest {
            files: Vec::new(),
            left_out: self.never_included(),
        };
        for part in self.parts() {
            match part.content {
                Ok(text) => {
                    let scrubbed = scrubber.scrub(&text);
                    let cut = bounded(&scrubbed, part.keeps_end);
                    if cut.len() < scrubbed.len() {
                        manifest.left_out.push(format!(
                            "{}: {} of {} bytes, as it is too large",
                            part.name,
                            scrubbed.len() - cut.len(),
                            scrubbed.len()
                        ));
                    }
                    append(part.name, cut)?;
                    manifest.files.push(ManifestEntry {
                        name: part.name,
                        what: part.what,
                        bytes: cut.len(),
                    });
                }
                Err(why) => manifest
                    .left_out
                    .push(format!("{} ({}): {}", part.name, part.what, scrubber.scrub(&why))),
            }
        }
        append("MANIFEST.txt", &self.manifest_text(&manifest))?;
        Ok((manifest, archive.into_inner()?.finish()?))
    }

    fn never_included(&self) -> Vec<String> {
        let mut left_out = vec![
            "passwords, keys, tokens, sessions, password hashes, environment variables; names of what holds credentials".to_owned(),
            "pictures and videos: evidence, originals, views, and what ended decoders".to_owned(),
            "contents of case messages, and the audit log".to_owned(),
        ];
        if !self.with_places {
            left_out.push("coordinates, calibrations, addresses and cells (--with-places includes them)".to_owned());
        }
        left_out
    }

    fn manifest_text(&self, manifest: &Manifest) -> String {
        let mut text = format!(
            "Support bundle of the box {}, made at {} by gridwatch {}.\n\nIn this bundle:\n",
            self.config.node,
            self.at,
            env!("CARGO_PKG_VERSION")
        );
        for ManifestEntry { name, what, bytes } in &manifest.files {
            text += &format!("  {name:<20} {bytes:>9} bytes  {what}\n");
        }
        text += "\nLeft out:\n";
        for what in &manifest.left_out {
            text += &format!("  {what}\n");
        }
        text
    }

    fn parts(&self) -> Vec<Part> {
        let part = |name, what, content| Part {
            name,
            what,
            content,
            keeps_end: false,
        };
        let DaemonState {
            readiness,
            link,
            metrics,
            log,
            onnxruntime,
            started_at,
            ..
        } = self.daemon;
        let versions = versions::collect(&self.config.config_sha256, onnxruntime.clone());
        let mut versions = serde_json::to_value(versions).unwrap_or_default();
        versions["started_at"] = json!(started_at);
        vec![
            part(
                "versions.json",
                "versions of program, kernel and packages",
                pretty(&versions),
            ),
            part(
                "configuration.json",
                "the configuration with defaults, without secrets",
                self.configuration(),
            ),
            part(
                "faults.txt",
                "warnings and faults of the configuration",
                Ok(self.faults()),
            ),
            part(
                "readiness.json",
                "whether problems would be filed, and what stands against it",
                known(readiness),
            ),
            part("link.json", "the link to the broker", known(link)),
            part(
                "outbox.json",
                "messages that wait or are in quarantine, without contents",
                self.outbox(),
            ),
            part("cases.jsonl", "index of the newest cases", self.cases()),
            part(
                "models.json",
                "configured models, installed versions, requests and outcomes",
                self.models(),
            ),
            part("clock.json", "how well the clock is kept", self.clock()),
            part(
                "disk.json",
                "free space, and the state directory part by part",
                pretty(&disk::usage(&self.config.state_dir)),
            ),
            part(
                "keys.json",
                "the public key, and where the private ones are",
                self.keys(),
            ),
            part(
                "crashes.jsonl",
                "pictures that ended decoders, without the pictures",
                lines(&crashes::records(&self.config.state_dir)),
            ),
            part("metrics.txt", "metrics in Prometheus' text format", metrics.clone()),
            Part {
                keeps_end: true,
                ..part(
                    "log.txt",
                    "the newest lines of the log",
                    log.as_ref().map(|log| log.join("\n") + "\n").map_err(Clone::clone),
                )
            },
        ]
    }

    fn configuration(&self) -> Result<String, String> {
        let mut document = diff::redacted(self.config.document.value());
        if !self.with_places {
            let cameras = document
                .get_mut("cameras")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten();
            for camera in cameras {
                let presets = camera
                    .get_mut("presets")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten();
                presets.for_each(without_place);
                without_place(camera);
            }
        }
        pretty(&document)
    }

    fn faults(&self) -> String {
        let warnings = self
            .config
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}\n"));
        let refused = self.daemon.refused.iter().map(|fault| format!("refused: {fault}\n"));
        let text: String = warnings.chain(refused).collect();
        if text.is_empty() { "none\n".into() } else { text }
    }

    fn store<T>(&self, read: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, String> {
        let store = Store::open_read_only(&self.config.state_dir).map_err(|e| e.to_string())?;
        read(&store).map_err(|e| e.to_string())
    }

    fn outbox(&self) -> Result<String, String> {
        let (depth, entries) =
            self.store(|store| Ok((store.outbox_depth()?, store.outbox_entries(false, MAX_MESSAGES)?)))?;
        pretty(&json!({"waiting": depth.waiting, "quarantined": depth.quarantined, "messages": entries}))
    }

    fn cases(&self) -> Result<String, String> {
        let cases = self.store(|store| {
            store.cases(Filter {
                state: None,
                limit: MAX_CASES,
            })
        })?;
        let mut rows = Vec::with_capacity(cases.len());
        for case in &cases {
            let mut row = serde_json::to_value(case).map_err(|e| e.to_string())?;
            if let (false, Some(row)) = (self.with_places, row.as_object_mut()) {
                row.remove("cell_code");
            }
            rows.push(row);
        }
        lines(&rows)
    }

    fn models(&self) -> Result<String, String> {
        let registry = self.config.model_registry();
        let contents = registry.journal().read().map_err(|e| e.to_string())?;
        let state = RegistryState::of(&contents.entries);
        let models = self.config.model_versions(&state).into_iter().map(|model| {
            json!({
                "id": model.id,
                "configured": model.shipped,
                "live": version_name(&model.live()),
                "registry": model.known,
            })
        });
        pretty(&models.collect::<Vec<_>>())
    }

    fn clock(&self) -> Result<String, String> {
        let sync = clock::read().map_err(|e| e.to_string())?;
        pretty(&json!({
            "now": self.at,
            "time_zone": self.config.timezone.iana_name(),
            "is_synchronised": sync.is_some(),
            "offset_ms": sync.map(|sync| sync.offset_ms),
            "error_ms": sync.map(|sync| sync.error_ms),
        }))
    }

    fn keys(&self) -> Result<String, String> {
        pretty(&keys::status(self.config).map_err(|e| e.to_string())?)
    }
}

/// Removes where a view is.
fn without_place(view: &mut Value) {
    if let Some(view) = view.as_object_mut() {
        for key in ["place", "calibration", "address"] {
            view.remove(key);
        }
    }
}

fn known(value: &Result<impl Serialize, String>) -> Result<String, String> {
    value.as_ref().map_err(Clone::clone).and_then(pretty)
}

fn pretty(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|e| e.to_string())
}

fn lines(values: &[impl Serialize]) -> Result<String, String> {
    let mut text = String::new();
    for value in values {
        text += &serde_json::to_string(value).map_err(|e| e.to_string())?;
        text.push('\n');
    }
    Ok(text)
}

/// At most [`MAX_PART`] bytes of a text, at its beginning or its end.
fn bounded(text: &str, keeps_end: bool) -> &str {
    if text.len() <= MAX_PART {
        return text;
    }
    match keeps_end {
        false => &text[..text.floor_char_boundary(MAX_PART)],
        true => &text[text.ceil_char_boundary(text.len() - MAX_PART)..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_too_large_is_cut_between_characters() {
        let text = "é".repeat(MAX_PART);
        assert!(bounded(&text, false).len() <= MAX_PART && bounded(&text, false).starts_with('é'));
        assert!(bounded(&text, true).len() <= MAX_PART && bounded(&text, true).ends_with('é'));
    }
}
