//! Verifies a bundle. Its sender may want to hang, exhaust or deceive the person who checks it: only listed regular files are
//! opened, none is read further than its kind or the record allows, and what no signature covers is named.

mod custody;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;

use self::custody::Comparison;
use super::{
    CHAIN, EVENTS, EarlierHead, HEAD, HEAD_KEY, HEAD_SIGNATURE, KEY, RECORD, RECORD_SIGNATURE, SUMS, original, picture,
    sums,
};
use crate::{
    Algorithm, PublicKey,
    chain::Segment,
    keys::{parse_public, public_pem},
    vault::OriginalFormat,
};
use gridwatch_base::{
    digest::{sha256_hex, sha256_of},
    file,
};
use gridwatch_contract::CaseRecord;

/// The files besides pictures and originals, with their maximum size in bytes. A line of the chain has 300 bytes, so its limit is
/// that of years on a busy box; a record with thousands of replies has 500 kB.
const FILES: [(&str, u64); 9] = [
    (RECORD, 16 << 20),
    (RECORD_SIGNATURE, 1 << 10),
    (KEY, 4 << 10),
    (CHAIN, 128 << 20),
    (EVENTS, 128 << 20),
    (HEAD, 64 << 10),
    (HEAD_SIGNATURE, 1 << 10),
    (HEAD_KEY, 4 << 10),
    (SUMS, 1 << 20),
];

/// Maximum number of files and folders in a bundle: a case has tens.
const MAX_ENTRIES: usize = 10_000;
/// Maximum size of all pictures and originals in bytes: a case has some 10 MB, and this many are hashed in seconds.
const MAX_BYTES: u64 = 4 << 30;
/// Maximum number of reported faults.
const MAX_FAULTS: usize = 200;
/// Stands for the earlier end of the chain in faults.
const SINCE: &str = "--since";

/// Result of a check.
#[derive(Debug, Serialize)]
pub struct BundleReport {
    /// Whether the case is what the box filed.
    pub verdict: Verdict,
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
    /// Number of files that signatures cover, and of SHA256SUMS.
    pub files: usize,
    /// Number of lines of the chain.
    pub chain: usize,
    /// Lines of the first format, of which only the hash is in the bundle. The lines before the last of them are tied to the end of the
    /// chain by their numbers only, except for those of the case, which head.json states.
    #[serde(skip_serializing_if = "is_zero")]
    pub withheld: usize,
    /// The revision of the case with which the chain in the bundle begins, if it is not the first: what was recorded of the case before is not
    /// in the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begins_with_revision: Option<u32>,
    /// Number of the line that the chain had to contain, if one was given and it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<u64>,
    /// Why it cannot be told whether the chain contains the line that it had to; `None` if none was given, or it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// Files that no signature covers, and empty folders, which end in `/`. They were not opened. Each is a fault, too, unless the caller allowed them.
    pub extra: Vec<String>,
    /// What is wrong; empty if the bundle is valid. At most 200 are listed.
    pub faults: Vec<BundleFault>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What the person who checks a bundle knows or accepts.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions<'a> {
    /// The public key of the box, obtained independently of the bundle. Without it a bundle that was forged as a whole, with another key,
    /// is not detected.
    pub key: Option<&'a PublicKey>,
    /// Files that no signature covers are no fault.
    pub allow_extra: bool,
    /// An earlier end of the chain, which the chain in the bundle must contain.
    pub since: Option<&'a EarlierHead>,
}

/// Whether a case is what the box filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is: signed with the given key, and nothing was changed.
    Authentic,
    /// Nothing was changed since it was signed with the key in the bundle, which may be anyone's.
    AuthenticForOwnKey,
    /// Something was changed.
    NotAuthentic,
}

/// A fault of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BundleFault {
    /// The file, relative to the bundle.
    pub file: String,
    /// The fault.
    pub what: String,
}

/// Checks a bundle.
///
/// # Errors
/// The I/O error if the folder cannot be listed, or [`io::ErrorKind::InvalidData`] if it has more entries than any export.
pub fn check(dir: &Path, options: &CheckOptions<'_>) -> io::Result<BundleReport> {
    let mut check = BundleCheck {
        dir,
        present: list(dir)?,
        contents: BTreeMap::new(),
        digests: BTreeMap::new(),
        covered: FILES.iter().map(|(name, _)| (*name).to_owned()).collect(),
        bytes_left: MAX_BYTES,
        faults: BTreeSet::new(),
    };
    check.read_files();
    let key = check.key(KEY);
    let head_key = if check.present.contains(HEAD_KEY) {
        check.key(HEAD_KEY)
    } else {
        key.clone()
    };
    let record = check.record(key.as_ref());
    let segment = check.chain();
    let head = check.head(head_key.as_ref(), segment.as_ref());
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
        check.check_completeness(&record.case_id, head.as_ref(), segment);
    }
    let compared = match (options.since, &head, &segment) {
        (Some(since), Some(head), Some(segment)) => {
            let mut keys = head_key.as_ref().map(|last| segment.keys(last)).unwrap_or_default();
            keys.extend(options.key.cloned());
            check.check_since(since, head, segment, &keys)
        }
        (Some(_), ..) => Comparison::Unknown("the chain or its end cannot be read".into()),
        (None, ..) => Comparison::Differs(String::new()),
    };
    let (contains, not_compared) = match compared {
        Comparison::Contains(seq) => (Some(seq), None),
        Comparison::Differs(_) => (None, None),
        Comparison::Unknown(why) => (None, Some(why)),
    };
    let mut extra = BTreeSet::new();
    if let Some((record, _)) = &record {
        check.pictures(record, segment.as_ref());
        check.originals(record);
        extra = check.present.difference(&check.covered).cloned().collect();
    }
    check.sums(&extra);
    if !options.allow_extra {
        for name in &extra {
            let what = match name.ends_with('/') {
                true => "empty folder: it is not part of the exported case",
                false => "no signature covers this file: it is not part of the exported case",
            };
            check.fault(name, what);
        }
    }
    let key_is_known = check.is_known(options.key, key.as_ref(), head_key.as_ref(), segment.as_ref());
    Ok(BundleReport {
        verdict: match (check.faults.is_empty(), key_is_known) {
            (true, true) => Verdict::Authentic,
            (true, false) => Verdict::AuthenticForOwnKey,
            (false, _) => Verdict::NotAuthentic,
        },
        case_id: record.as_ref().map(|(r, _)| r.case_id.clone()),
        revision: record.as_ref().map(|(r, _)| r.revision),
        node_id: record.as_ref().map(|(r, _)| r.node_id.clone()),
        public_key: key.map(|k| k.to_string()),
        key_is_known,
        files: check.present.len() - extra.len(),
        withheld: segment
            .as_ref()
            .map_or(0, |s| s.lines.iter().filter(|line| line.is_withheld()).count()),
        begins_with_revision: match (&record, &segment) {
            (Some((record, _)), Some(segment)) => custody::first_revision(&record.case_id, segment).filter(|r| *r > 1),
            _ => None,
        },
        contains,
        not_compared,
        chain: segment.map_or(0, |s| s.lines.len()),
        extra: extra.into_iter().collect(),
        faults: check.faults.into_iter().collect(),
    })
}

/// The paths of all files and, with `/` at the end, of all empty folders, relative to `root`. Links are files, not followed. A name
/// that is not UTF-8 is escaped; no such file is part of a case.
fn list(root: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root.to_path_buf()];
    let mut entries = 0;
    let name = |path: &Path| {
        let name = path.strip_prefix(root).unwrap_or(path).as_os_str();
        name.to_str()
            .map_or_else(|| name.as_encoded_bytes().escape_ascii().to_string(), str::to_owned)
    };
    while let Some(folder) = folders.pop() {
        let mut is_empty = true;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            is_empty = false;
            entries += 1;
            if entries > MAX_ENTRIES {
                let message = format!("not an exported case: more than {MAX_ENTRIES} files and folders");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                names.insert(name(&path));
            }
        }
        if is_empty && folder != root {
            names.insert(name(&folder) + "/");
        }
    }
    Ok(names)
}

struct BundleCheck<'a> {
    dir: &'a Path,
    /// What the folder holds, whatever it is.
    present: BTreeSet<String>,
    /// The contents of [`FILES`].
    contents: BTreeMap<&'static str, Vec<u8>>,
    /// SHA-256 of every file that was read.
    digests: BTreeMap<String, String>,
    /// Files that signatures cover, and SHA256SUMS.
    covered: BTreeSet<String>,
    /// How many bytes of pictures and originals may still be read.
    bytes_left: u64,
    faults: BTreeSet<BundleFault>,
}

impl BundleCheck<'_> {
    fn fault(&mut self, file: &str, what: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.insert(BundleFault {
                file: file.into(),
                what: what.into(),
            });
        }
    }

    /// Reads each of [`FILES`] that is there.
    fn read_files(&mut self) {
        for (name, limit) in FILES {
            if !self.present.contains(name) {
                continue;
            }
            let read =
                file::open_unlinked(&self.dir.join(name), limit).and_then(|opened| file::read_all(opened, limit));
            match read {
                Ok(bytes) => {
                    self.digests.insert(name.into(), sha256_hex(&bytes));
                    self.contents.insert(name, bytes);
                }
                Err(e) => self.fault(name, e.to_string()),
            }
        }
    }

    /// Hashes a picture or an original of at most `limit` bytes, if it is there. Returns its SHA-256 and size.
    fn hash(&mut self, name: &str, limit: u64) -> Option<(String, u64)> {
        // The record may name a file several times.
        if !self.covered.insert(name.to_owned()) || !self.present.contains(name) {
            return None;
        }
        let limit = limit.min(self.bytes_left);
        let hashed = file::open_unlinked(&self.dir.join(name), limit)
            .and_then(|opened| sha256_of(opened.take(limit.saturating_add(1))));
        match hashed {
            Ok((sha256, size)) => {
                self.bytes_left = self.bytes_left.saturating_sub(size);
                self.digests.insert(name.into(), sha256.clone());
                Some((sha256, size))
            }
            Err(e) => {
                self.fault(name, e.to_string());
                None
            }
        }
    }

    /// The file as text, once; records a fault if it is missing or not UTF-8.
    fn text(&mut self, name: &str) -> Option<String> {
        // Taken, because the chain may have 128 MB.
        match self.contents.remove(name).map(String::from_utf8) {
            Some(Ok(text)) => Some(text),
            Some(Err(_)) => {
                self.fault(name, "not UTF-8 text");
                None
            }
            None => {
                if !self.present.contains(name) {
                    self.fault(name, "missing");
                }
                None
            }
        }
    }

    /// Compares all files but `extra` with SHA256SUMS.
    fn sums(&mut self, extra: &BTreeSet<String>) {
        let Some(text) = self.text(SUMS) else { return };
        let mut listed = BTreeSet::new();
        // SHA256SUMS without the lines of extra files.
        let mut of_case = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let Some((sum, name)) = line.trim_end_matches('\n').split_once("  ") else {
                self.fault(SUMS, format!("malformed line {line:?}"));
                continue;
            };
            if extra.contains(name) {
                continue;
            }
            of_case += line;
            listed.insert(name);
            match self.digests.get(name) {
                Some(found) if found == sum => {}
                Some(_) => self.fault(name, "SHA-256 does not match SHA256SUMS"),
                None if self.present.contains(name) => {}
                None => self.fault(name, "missing"),
            }
        }
        self.digests.remove(SUMS);
        let unlisted: Vec<String> = self
            .digests
            .keys()
            .filter(|name| !listed.contains(name.as_str()))
            .cloned()
            .collect();
        for name in unlisted {
            self.fault(
                &name,
                "not listed in SHA256SUMS: the file was added, or its line was removed",
            );
        }
        let written = sums(self.digests.iter().map(|(name, sum)| (name.as_str(), sum.clone())));
        // A file that could not be read has a fault of its own.
        let all_read = self.digests.len() + extra.len() + 1 == self.present.len();
        if all_read && written != of_case {
            self.fault(
                SUMS,
                "differs from the file that the export wrote: order or format was changed",
            );
        }
    }

    fn key(&mut self, name: &str) -> Option<PublicKey> {
        let text = self.text(name)?;
        match parse_public(&text) {
            // Any other text in the file would be covered by no signature.
            Ok(key) if public_pem(&key) == text => Some(key),
            Ok(_) => {
                self.fault(name, "differs from the file that the export wrote");
                None
            }
            Err(what) => {
                self.fault(name, what);
                None
            }
        }
    }

    fn is_known(
        &mut self,
        known: Option<&PublicKey>,
        key: Option<&PublicKey>,
        head_key: Option<&PublicKey>,
        segment: Option<&Segment>,
    ) -> bool {
        let (Some(known), Some(key), Some(head_key)) = (known, key, head_key) else {
            return false;
        };
        // A caller who has a later key also accepts the keys that were rotated into it.
        let keys = segment.map(|s| s.keys(head_key)).unwrap_or_default();
        let is_known = known == key || (known == head_key && keys.contains(key));
        if !is_known {
            self.fault(KEY, "not the given key: the case was signed with another key");
        }
        is_known
    }

    fn signed(&mut self, key: Option<&PublicKey>, name: &str, signature: &str) -> Option<String> {
        let text = self.text(name)?;
        match (self.contents.get(signature), key) {
            (None, _) if self.present.contains(signature) => {}
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
        match serde_json::from_str::<CaseRecord>(&text) {
            Ok(record) => {
                self.algorithm(&record, key);
                Some((record, sha256_hex(text.as_bytes())))
            }
            Err(e) => {
                self.fault(RECORD, format!("not a case record: {e}"));
                None
            }
        }
    }

    /// Checks that the record names the algorithm of the key.
    fn algorithm(&mut self, record: &CaseRecord, key: Option<&PublicKey>) {
        let named = record.signature_algorithm.as_deref();
        match named.map_or(Ok(Algorithm::Ed25519), str::parse) {
            Err(unknown) => self.fault(RECORD, format!("signature_algorithm: {unknown}")),
            Ok(named) => {
                if let Some(key) = key.filter(|key| key.algorithm() != named) {
                    let key = key.algorithm();
                    self.fault(
                        RECORD,
                        format!("signature_algorithm is {named}, but {KEY} is a key for {key}"),
                    );
                }
            }
        }
    }

    /// Checks every picture that the record names.
    fn pictures(&mut self, record: &CaseRecord, segment: Option<&Segment>) {
        let deleted = segment.map(|s| s.deleted(&record.case_id)).unwrap_or_default();
        for item in &record.evidence {
            let name = picture(&item.sha256);
            if !self.present.contains(&name) && !deleted.contains(item.sha256.as_str()) {
                self.fault(&name, format!("missing (evidence item {})", item.id));
            }
            if let Some((found, size)) = self.hash(&name, item.bytes)
                && (found != item.sha256 || size != item.bytes)
            {
                self.fault(&name, format!("content is not that of evidence item {}", item.id));
            }
        }
    }

    /// Checks every original of the record that is there. None has to be.
    fn originals(&mut self, record: &CaseRecord) {
        let hashes: BTreeSet<&String> = record.evidence.iter().filter_map(|i| i.derived_from.as_ref()).collect();
        for sha256 in hashes {
            for name in OriginalFormat::ALL.map(|format| original(sha256, format)) {
                if let Some((found, _)) = self.hash(&name, file::MAX_PICTURE)
                    && found != *sha256
                {
                    self.fault(&name, "content does not match the SHA-256 in the file name");
                }
            }
        }
    }
}
