//! An evidence bundle: one case in a folder that anyone can verify, with [`check`] or with `sha256sum` and `openssl`
//! alone (docs/evidence.md).
//!
//! ```text
//! case.json          the case record, byte for byte as signed       case.sig   its signature by the box, 64 bytes
//! public-key.pem     the public key for case.sig
//! pictures/<sha256>.jpg
//! originals/<sha256>.{h264,h265,png}   if they were asked for
//! chain.jsonl        the box's chain of custody, from the first line about the case
//! head.json          the end of the chain at the export             head.sig   its signature by the box
//! head-key.pem       the public key for head.sig, if the signing key was rotated since
//! SHA256SUMS         of all other files
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;

use super::{
    PublicKey, SigningKey,
    chain::{ChainHead, CustodyEvent, Segment},
    keys::{parse_public, public_pem},
    unseal,
    vault::OriginalFormat,
};
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::CaseRecord;

const RECORD: &str = "case.json";
const RECORD_SIGNATURE: &str = "case.sig";
const KEY: &str = "public-key.pem";
const CHAIN: &str = "chain.jsonl";
const HEAD: &str = "head.json";
const HEAD_SIGNATURE: &str = "head.sig";
const HEAD_KEY: &str = "head-key.pem";
const SUMS: &str = "SHA256SUMS";

/// Contents of a bundle.
pub struct BundleContents<'a> {
    /// The newest record, sealed (signed JSON).
    pub record: &'a str,
    /// The public key of the record's signature.
    pub signed_by: &'a PublicKey,
    /// The lines of the chain from the first one about the case to the end.
    pub chain: &'a [String],
    /// The end of the chain.
    pub head: ChainHead,
    /// Other files: path relative to the bundle, and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Writes a bundle to `dir`, which must not exist. The folder appears complete or not at all.
///
/// # Errors
/// The I/O error, or [`io::ErrorKind::InvalidData`] if the record is not signed.
pub fn write(dir: &Path, parts: BundleContents<'_>, key: &SigningKey) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let (record, signature) = unseal(parts.record).ok_or_else(|| invalid("the record has no signature"))?;
    let raw = |text: &str| {
        BASE64
            .decode(text.trim())
            .map_err(|_| invalid("a signature is not valid base64"))
    };
    let head = serde_json::to_string(&parts.head)?;
    let mut files: BTreeMap<String, Vec<u8>> = parts.files.into_iter().collect();
    files.insert(RECORD_SIGNATURE.into(), raw(signature)?);
    files.insert(HEAD_SIGNATURE.into(), raw(&key.sign(head.as_bytes()))?);
    files.insert(RECORD.into(), record.into_bytes());
    files.insert(HEAD.into(), head.into_bytes());
    files.insert(KEY.into(), public_pem(parts.signed_by).into_bytes());
    if key.public() != *parts.signed_by {
        files.insert(HEAD_KEY.into(), public_pem(&key.public()).into_bytes());
    }
    files.insert(CHAIN.into(), (parts.chain.join("\n") + "\n").into_bytes());
    let sums = sums(files.iter().map(|(name, bytes)| (name.as_str(), sha256_hex(bytes))));
    files.insert(SUMS.into(), sums.into_bytes());

    if dir.exists() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the folder exists already",
        ));
    }
    let parent = dir
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let temporary = tempfile::Builder::new().prefix(".export").tempdir_in(parent)?;
    for (name, bytes) in files {
        let path = temporary.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)?;
    }
    fs::rename(temporary.keep(), dir)
}

fn sums<'a>(files: impl Iterator<Item = (&'a str, String)>) -> String {
    // The format of `sha256sum`.
    files.map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}

/// Result of a check.
#[derive(Debug, Serialize)]
pub struct BundleReport {
    /// The case id, if the record can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_id: Option<String>,
    /// The revision of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// The id of the box.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// The public key of the record's signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// True if that key is the one given by the caller, or was rotated into it; false if it was only taken from the
    /// bundle.
    pub key_is_known: bool,
    /// Number of files in the bundle.
    pub files: usize,
    /// Number of lines of the chain.
    pub chain: usize,
    /// What is wrong; empty if the bundle is valid.
    pub faults: Vec<BundleFault>,
}

/// A fault of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BundleFault {
    /// The file, relative to the bundle.
    pub file: String,
    /// The fault.
    pub what: String,
}

/// Checks a bundle. `known` is the public key of the box, obtained independently of the bundle. Without it a bundle
/// that was forged as a whole, with another key, is not detected.
///
/// # Errors
/// The I/O error if the folder cannot be read.
pub fn check(dir: &Path, known: Option<&PublicKey>) -> io::Result<BundleReport> {
    let mut files = BTreeMap::new();
    read_tree(dir, dir, &mut files)?;
    let mut check = BundleCheck {
        files,
        faults: BTreeSet::new(),
    };
    check.sums();
    let key = check.key(KEY);
    let head_key = if check.files.contains_key(HEAD_KEY) {
        check.key(HEAD_KEY)
    } else {
        key.clone()
    };
    let record = check.record(key.as_ref());
    let segment = check.chain();
    check.head(head_key.as_ref(), segment.as_ref());
    if let (Some(key), Some(head_key), Some(segment)) = (&key, &head_key, &segment)
        && !segment.keys(head_key).contains(key)
    {
        check.fault(
            KEY,
            "chain.jsonl has no unbroken sequence of rotations from this key to the one in head-key.pem",
        );
    }
    if let (Some((record, sha256)), Some(segment)) = (&record, &segment) {
        check.check_position(record, sha256, segment);
    }
    if let Some((record, _)) = &record {
        check.pictures(record, segment.as_ref());
    }
    let key_is_known = match (known, &key, &head_key, &segment) {
        (Some(known), Some(key), Some(head_key), segment) => {
            // A caller who has a later key also accepts the keys that were rotated into it.
            let keys = segment.as_ref().map(|s| s.keys(head_key)).unwrap_or_default();
            let is_known = known == key || (known == head_key && keys.contains(key));
            if !is_known {
                check.fault(KEY, "not the given key: the case was signed with another key");
            }
            is_known
        }
        _ => false,
    };
    Ok(BundleReport {
        case_id: record.as_ref().map(|(r, _)| r.case_id.clone()),
        revision: record.as_ref().map(|(r, _)| r.revision),
        node_id: record.as_ref().map(|(r, _)| r.node_id.clone()),
        public_key: key.map(|k| k.to_string()),
        key_is_known,
        files: check.files.len(),
        chain: segment.map_or(0, |s| s.lines.len()),
        faults: check.faults.into_iter().collect(),
    })
}

fn read_tree(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read_tree(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.insert(name, fs::read(&path)?);
        }
    }
    Ok(())
}

struct BundleCheck {
    files: BTreeMap<String, Vec<u8>>,
    faults: BTreeSet<BundleFault>,
}

impl BundleCheck {
    fn fault(&mut self, file: &str, what: impl Into<String>) {
        self.faults.insert(BundleFault {
            file: file.into(),
            what: what.into(),
        });
    }

    /// The file as text; records a fault if it is missing or not UTF-8.
    fn text(&mut self, name: &str) -> Option<String> {
        match self.files.get(name).map(|bytes| String::from_utf8(bytes.clone())) {
            Some(Ok(text)) => Some(text),
            Some(Err(_)) => {
                self.fault(name, "not UTF-8 text");
                None
            }
            None => {
                self.fault(name, "missing");
                None
            }
        }
    }

    /// Compares all files with SHA256SUMS.
    fn sums(&mut self) {
        let Some(text) = self.text(SUMS) else { return };
        let mut listed = BTreeSet::new();
        for line in text.lines() {
            let Some((sum, name)) = line.split_once("  ") else {
                self.fault(SUMS, format!("malformed line {line:?}"));
                continue;
            };
            match self.files.get(name).map(|bytes| sha256_hex(bytes)) {
                Some(found) if found == sum => {}
                Some(_) => self.fault(name, "SHA-256 does not match SHA256SUMS"),
                None => self.fault(name, "missing"),
            }
            listed.insert(name.to_owned());
        }
        let unlisted: Vec<String> = self
            .files
            .keys()
            .filter(|name| *name != SUMS && !listed.contains(*name))
            .cloned()
            .collect();
        for name in unlisted {
            self.fault(
                &name,
                "not listed in SHA256SUMS: the file was added, or its line was removed",
            );
        }
        let written = sums(
            self.files
                .iter()
                .filter(|(name, _)| *name != SUMS)
                .map(|(name, bytes)| (name.as_str(), sha256_hex(bytes))),
        );
        if written != text {
            self.fault(
                SUMS,
                "differs from the file that the export wrote: order or format was changed",
            );
        }
    }

    fn key(&mut self, name: &str) -> Option<PublicKey> {
        let text = self.text(name)?;
        match parse_public(&text) {
            Ok(key) => Some(key),
            Err(what) => {
                self.fault(name, what);
                None
            }
        }
    }

    fn signed(&mut self, key: Option<&PublicKey>, name: &str, signature: &str) -> Option<String> {
        let text = self.text(name)?;
        match (self.files.get(signature), key) {
            (None, _) => self.fault(signature, "missing"),
            (Some(bytes), Some(key)) if !key.verifies(text.as_bytes(), &BASE64.encode(bytes)) => {
                self.fault(
                    name,
                    format!("signature is invalid: {name}, {signature} or the public key was changed"),
                );
            }
            _ => {}
        }
        Some(text)
    }

    fn record(&mut self, key: Option<&PublicKey>) -> Option<(CaseRecord, String)> {
        let text = self.signed(key, RECORD, RECORD_SIGNATURE)?;
        match serde_json::from_str(&text) {
            Ok(record) => Some((record, sha256_hex(text.as_bytes()))),
            Err(e) => {
                self.fault(RECORD, format!("not a case record: {e}"));
                None
            }
        }
    }

    fn chain(&mut self) -> Option<Segment> {
        let text = self.text(CHAIN)?;
        match Segment::read(&text) {
            Ok(segment) => Some(segment),
            Err(faults) => {
                for fault in faults {
                    self.fault(CHAIN, format!("line {}: {}", fault.line, fault.reason));
                }
                None
            }
        }
    }

    /// Checks that the chain ends where head.json says, so that no lines were cut off.
    fn head(&mut self, key: Option<&PublicKey>, segment: Option<&Segment>) {
        let Some(text) = self.signed(key, HEAD, HEAD_SIGNATURE) else {
            return;
        };
        let head: ChainHead = match serde_json::from_str(&text) {
            Ok(head) => head,
            Err(e) => return self.fault(HEAD, format!("not the end of a chain: {e}")),
        };
        if let Some(last) = segment.and_then(|s| s.lines.last())
            && (last.entry.seq, &last.hash) != (head.seq, &head.hash)
        {
            self.fault(
                CHAIN,
                format!(
                    "the last line is not entry {} as head.json requires: lines were cut off, or the last one was changed",
                    head.seq
                ),
            );
        }
        if key.is_some_and(|k| k.to_string() != head.public_key) {
            self.fault(HEAD, "public_key is not the key that signed this file");
        }
    }

    /// Checks that the record is the newest one of the case in the chain, and at the place that its `prev_hash` says.
    fn check_position(&mut self, record: &CaseRecord, sha256: &str, segment: &Segment) {
        let of_case = segment.lines.iter().rev().find_map(|line| match &line.entry.event {
            CustodyEvent::Case {
                case_id,
                revision,
                sha256,
            } if *case_id == record.case_id => Some((&line.entry, *revision, sha256)),
            _ => None,
        });
        let Some((entry, revision, newest)) = of_case else {
            return self.fault(CHAIN, format!("no line about case {}", record.case_id));
        };
        if newest != sha256 || revision != record.revision {
            self.fault(
                RECORD,
                format!(
                    "not the newest record of the case: entry {} of the chain has revision {revision}",
                    entry.seq
                ),
            );
        } else if record.prev_hash.as_ref() != Some(&entry.prev) {
            self.fault(
                RECORD,
                format!("prev_hash does not match entry {} of the chain", entry.seq),
            );
        }
    }

    fn pictures(&mut self, record: &CaseRecord, segment: Option<&Segment>) {
        for item in &record.evidence {
            let name = picture(&item.sha256);
            match self.files.get(&name).map(|bytes| sha256_hex(bytes)) {
                None if segment.is_some_and(|s| s.has_deleted(&record.case_id, &item.sha256)) => {}
                None => self.fault(&name, format!("missing (evidence item {})", item.id)),
                Some(found) if found != item.sha256 => {
                    self.fault(&name, format!("content is not that of evidence item {}", item.id));
                }
                Some(_) => {}
            }
        }
        let originals: Vec<(String, String)> = self
            .files
            .iter()
            .filter(|(name, _)| name.starts_with("originals/"))
            .map(|(name, bytes)| (name.clone(), sha256_hex(bytes)))
            .collect();
        for (name, sha256) in originals {
            if !record.evidence.iter().any(|i| i.derived_from.as_ref() == Some(&sha256)) {
                self.fault(&name, "no picture of the case was derived from it");
            }
        }
        let named: BTreeSet<String> = record.evidence.iter().map(|i| picture(&i.sha256)).collect();
        let unlisted: Vec<String> = self
            .files
            .keys()
            .filter(|name| name.starts_with("pictures/") && !named.contains(*name))
            .cloned()
            .collect();
        for name in unlisted {
            self.fault(&name, "not listed in the case record");
        }
    }
}

/// Path of an original in a bundle.
pub fn original(sha256: &str, format: OriginalFormat) -> String {
    format!("originals/{sha256}.{}", format.extension())
}

/// Path of a picture in a bundle.
pub fn picture(sha256: &str) -> String {
    format!("pictures/{sha256}.jpg")
}
