//! One case in a folder that anybody can check without us: with [`check`], or with `sha256sum` and `openssl` alone
//! (docs/evidence.md).
//!
//! ```text
//! case.json          the record, byte for byte as it was signed      case.sig   the box's signature over it, 64 bytes
//! public-key.pem     what it is checked with
//! pictures/<sha256>.jpg
//! originals/<sha256>.{h264,h265,png}   where they were asked for
//! chain.jsonl        the box's chain from the case's first line on
//! head.json          how long the chain was when this was written    head.sig   the box's signature over it
//! head-key.pem       what that is checked with, where the box signs with another key by now
//! SHA256SUMS         of all the others
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
    chain::{ChainHead, Segment, CustodyEvent},
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

/// What a bundle is made of.
pub struct BundleContents<'a> {
    /// The newest record, sealed.
    pub record: &'a str,
    /// What it was signed with.
    pub signed_by: &'a PublicKey,
    /// The chain from the case's first line on, to its end.
    pub chain: &'a [String],
    /// The chain's end.
    pub head: ChainHead,
    /// Names below the bundle's folder, and what is in them.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Writes a bundle into `dir`, which must not be there; whole, or not at all.
///
/// # Errors
/// What the disk says, or [`io::ErrorKind::InvalidData`] where the record is not sealed.
pub fn write(dir: &Path, parts: BundleContents<'_>, key: &SigningKey) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let (record, signature) = unseal(parts.record).ok_or_else(|| invalid("the record carries no signature"))?;
    let raw = |text: &str| {
        BASE64
            .decode(text.trim())
            .map_err(|_| invalid("a signature is no base64"))
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
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there already"));
    }
    let parent = dir
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let beside = tempfile::Builder::new().prefix(".export").tempdir_in(parent)?;
    for (name, bytes) in files {
        let path = beside.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)?;
    }
    fs::rename(beside.keep(), dir)
}

fn sums<'a>(files: impl Iterator<Item = (&'a str, String)>) -> String {
    // As `sha256sum` writes it.
    files.map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}

/// What a check found.
#[derive(Debug, Serialize)]
pub struct BundleReport {
    /// Which case, where its record can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_id: Option<String>,
    /// The newest revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// The box.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// What the case was signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// True where that is the key that the caller knows; false where it was taken from the bundle itself.
    pub key_is_known: bool,
    /// Files that were checked.
    pub files: usize,
    /// Lines of the chain.
    pub chain: usize,
    /// What is wrong; nothing where the case holds.
    pub faults: Vec<BundleFault>,
}

/// Something wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BundleFault {
    /// Below the bundle's folder.
    pub file: String,
    /// What is wrong.
    pub what: String,
}

/// Checks a bundle. `known` is the box's key as somebody noted it who trusts nobody: without it, whoever forged the whole folder
/// with a key of their own is not caught.
///
/// # Errors
/// Where the folder cannot be read at all.
pub fn check(dir: &Path, known: Option<&PublicKey>) -> io::Result<BundleReport> {
    let mut files = BTreeMap::new();
    gather(dir, dir, &mut files)?;
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
            "the key in head-key.pem was not handed over to by this one, link by link, in chain.jsonl",
        );
    }
    if let (Some((record, sha256)), Some(segment)) = (&record, &segment) {
        check.place(record, sha256, segment);
    }
    if let Some((record, _)) = &record {
        check.pictures(record, segment.as_ref());
    }
    let key_is_known = match (known, &key, &head_key, &segment) {
        (Some(known), Some(key), Some(head_key), segment) => {
            // Whoever noted a later key knows that it was handed over to.
            let keys = segment.as_ref().map(|s| s.keys(head_key)).unwrap_or_default();
            let is_known = known == key || (known == head_key && keys.contains(key));
            if !is_known {
                check.fault(KEY, "it is not the key that you gave: the case was signed by another");
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
        chain: segment.map_or(0, |s| s.entries.len()),
        faults: check.faults.into_iter().collect(),
    })
}

fn gather(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(root, &path, files)?;
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

    /// The file as text; a missing one is told.
    fn text(&mut self, name: &str) -> Option<String> {
        match self.files.get(name).map(|bytes| String::from_utf8(bytes.clone())) {
            Some(Ok(text)) => Some(text),
            Some(Err(_)) => {
                self.fault(name, "it is not text");
                None
            }
            None => {
                self.fault(name, "it is missing");
                None
            }
        }
    }

    /// Every file is there as SHA256SUMS has it, and no other.
    fn sums(&mut self) {
        let Some(text) = self.text(SUMS) else { return };
        let mut listed = BTreeSet::new();
        for line in text.lines() {
            let Some((sum, name)) = line.split_once("  ") else {
                self.fault(SUMS, format!("{line:?} is no line of it"));
                continue;
            };
            match self.files.get(name).map(|bytes| sha256_hex(bytes)) {
                Some(found) if found == sum => {}
                Some(_) => self.fault(name, "it is not what SHA256SUMS says: one of the two was changed"),
                None => self.fault(name, "it is missing"),
            }
            listed.insert(name.to_owned());
        }
        let strangers: Vec<String> = self
            .files
            .keys()
            .filter(|name| *name != SUMS && !listed.contains(*name))
            .cloned()
            .collect();
        for name in strangers {
            self.fault(
                &name,
                "SHA256SUMS does not have it: it was added, or its line was removed",
            );
        }
        let written = sums(
            self.files
                .iter()
                .filter(|(name, _)| *name != SUMS)
                .map(|(name, bytes)| (name.as_str(), sha256_hex(bytes))),
        );
        if written != text {
            self.fault(SUMS, "it is not as it was written for these files");
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

    fn signed(&mut self, key: Option<&PublicKey>, (name, signature): (&str, &str)) -> Option<String> {
        let text = self.text(name)?;
        match (self.files.get(signature), key) {
            (None, _) => self.fault(signature, "it is missing"),
            (Some(bytes), Some(key)) if !key.verifies(text.as_bytes(), &BASE64.encode(bytes)) => {
                self.fault(
                    name,
                    format!("it is not what was signed: {name}, {signature} or the key was changed"),
                );
            }
            _ => {}
        }
        Some(text)
    }

    fn record(&mut self, key: Option<&PublicKey>) -> Option<(CaseRecord, String)> {
        let text = self.signed(key, (RECORD, RECORD_SIGNATURE))?;
        match serde_json::from_str(&text) {
            Ok(record) => Some((record, sha256_hex(text.as_bytes()))),
            Err(e) => {
                self.fault(RECORD, format!("it is no case record: {e}"));
                None
            }
        }
    }

    fn chain(&mut self) -> Option<Segment> {
        let text = self.text(CHAIN)?;
        match Segment::read(&text) {
            Ok(segment) => Some(segment),
            Err(broken) => {
                for b in broken {
                    self.fault(CHAIN, format!("line {}: {}", b.line, b.what));
                }
                None
            }
        }
    }

    /// Nothing was cut off the chain's end.
    fn head(&mut self, key: Option<&PublicKey>, segment: Option<&Segment>) {
        let Some(text) = self.signed(key, (HEAD, HEAD_SIGNATURE)) else {
            return;
        };
        let head: ChainHead = match serde_json::from_str(&text) {
            Ok(head) => head,
            Err(e) => return self.fault(HEAD, format!("it says nothing of a chain: {e}")),
        };
        if let Some((last, hash)) = segment.and_then(|s| s.entries.last())
            && (last.seq, hash) != (head.seq, &head.hash)
        {
            self.fault(
                CHAIN,
                format!(
                    "its last line is not entry {} that head.json names: lines were cut off, or that one changed",
                    head.seq
                ),
            );
        }
        if key.is_some_and(|k| k.to_string() != head.public_key) {
            self.fault(HEAD, "it names another key than the one that signed it");
        }
    }

    /// The record is the newest that the chain has of the case, and stands where it says it does.
    fn place(&mut self, record: &CaseRecord, sha256: &str, segment: &Segment) {
        let of_case = segment.entries.iter().rev().find_map(|(entry, _)| match &entry.what {
            CustodyEvent::Case {
                case_id,
                revision,
                sha256,
            } if *case_id == record.case_id => Some((entry, *revision, sha256)),
            _ => None,
        });
        let Some((entry, revision, newest)) = of_case else {
            return self.fault(CHAIN, format!("it has no line of case {}", record.case_id));
        };
        if newest != sha256 || revision != record.revision {
            self.fault(
                RECORD,
                format!(
                    "it is not the newest record of the case: entry {} of the chain has revision {revision}",
                    entry.seq
                ),
            );
        } else if record.prev_hash.as_ref() != Some(&entry.prev) {
            self.fault(
                RECORD,
                format!("its prev_hash is not that of entry {} of the chain", entry.seq),
            );
        }
    }

    fn pictures(&mut self, record: &CaseRecord, segment: Option<&Segment>) {
        for item in &record.evidence {
            let name = picture(&item.sha256);
            match self.files.get(&name).map(|bytes| sha256_hex(bytes)) {
                None if segment.is_some_and(|s| s.has_deleted(&record.case_id, &item.sha256)) => {}
                None => self.fault(&name, format!("it is missing: {} of the case", item.id)),
                Some(found) if found != item.sha256 => {
                    self.fault(
                        &name,
                        format!("it is not the picture that the case names as {}", item.id),
                    );
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
                self.fault(&name, "no picture of the case was made from it");
            }
        }
        let named: BTreeSet<String> = record.evidence.iter().map(|i| picture(&i.sha256)).collect();
        let strangers: Vec<String> = self
            .files
            .keys()
            .filter(|name| name.starts_with("pictures/") && !named.contains(*name))
            .cloned()
            .collect();
        for name in strangers {
            self.fault(&name, "the case does not name it");
        }
    }
}

/// Where an original lies in a bundle.
pub fn original(sha256: &str, format: OriginalFormat) -> String {
    format!("originals/{sha256}.{}", format.extension())
}

/// Where a picture lies in a bundle.
pub fn picture(sha256: &str) -> String {
    format!("pictures/{sha256}.jpg")
}
