//! An evidence bundle: one case in a folder that anyone can verify, with [`check()`] or with `sha256sum` and `openssl`
//! alone (docs/evidence.md).
//!
//! ```text
//! case.json          the case record, byte for byte as signed       case.sig   its signature by the box
//! public-key.pem     the public key for case.sig
//! pictures/<sha256>.jpg
//! originals/<sha256>.{h264,h265,png}   if they were asked for
//! chain.jsonl        the box's chain of custody, from the first line about the case to the end: headers, which tell of no other case
//! events.jsonl       the events of this case, and those of the signing key
//! head.json          the end of the chain at the export             head.sig   its signature by the box
//! head-key.pem       the public key for head.sig, if the signing key was rotated since
//! SHA256SUMS         of all other files
//! ```

mod check;
mod since;

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

pub use self::{
    check::{BundleFault, BundleReport, CheckOptions, Verdict, check},
    since::EarlierHead,
};
use super::{PublicKey, Signer, chain::ChainHead, keys::public_pem, unseal, vault::OriginalFormat};
use gridwatch_base::{digest::sha256_hex, disk::write_private};

const RECORD: &str = "case.json";
const RECORD_SIGNATURE: &str = "case.sig";
const KEY: &str = "public-key.pem";
const CHAIN: &str = "chain.jsonl";
const EVENTS: &str = "events.jsonl";
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
    /// The lines of the chain from the first one about the case, or an earlier one, to the end.
    pub chain: &'a [String],
    /// The events of the lines that the bundle gives away; those of the first format are in the lines.
    pub events: &'a [String],
    /// The end of the chain.
    pub head: ChainHead,
    /// Other files: path relative to the bundle, and content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Writes a bundle to `dir`, which must not exist. The folder appears complete or not at all, and only its owner can read it: it
/// may hold unmasked originals.
///
/// # Errors
/// The I/O error, or [`io::ErrorKind::InvalidData`] if the record is not signed.
pub fn write(dir: &Path, parts: BundleContents<'_>, key: &dyn Signer) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let (record, signature) = unseal(parts.record).ok_or_else(|| invalid("the record has no signature"))?;
    let raw = |text: &str| {
        BASE64
            .decode(text.trim())
            .map_err(|_| invalid("a signature is not valid base64"))
    };
    let head = serde_json::to_string(&parts.head)?;
    let head_signature = key.sign(head.as_bytes()).map_err(io::Error::other)?;
    let mut files: BTreeMap<String, Vec<u8>> = parts.files.into_iter().collect();
    files.insert(RECORD_SIGNATURE.into(), raw(signature)?);
    files.insert(HEAD_SIGNATURE.into(), raw(&head_signature)?);
    files.insert(RECORD.into(), record.into_bytes());
    files.insert(HEAD.into(), head.into_bytes());
    files.insert(KEY.into(), public_pem(parts.signed_by).into_bytes());
    if key.public() != *parts.signed_by {
        files.insert(HEAD_KEY.into(), public_pem(&key.public()).into_bytes());
    }
    files.insert(CHAIN.into(), (parts.chain.join("\n") + "\n").into_bytes());
    if !parts.events.is_empty() {
        files.insert(EVENTS.into(), (parts.events.join("\n") + "\n").into_bytes());
    }
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
    let temporary = tempfile::Builder::new()
        .prefix(".export")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)?;
    for (name, bytes) in files {
        write_private(&temporary.path().join(name), &bytes)?;
    }
    fs::rename(temporary.path(), dir)?;
    let _ = temporary.keep();
    File::open(parent)?.sync_all()
}

fn sums<'a>(files: impl Iterator<Item = (&'a str, String)>) -> String {
    // The format of `sha256sum`.
    files.map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}

/// Path of an original in a bundle.
pub fn original(sha256: &str, format: OriginalFormat) -> String {
    format!("originals/{sha256}.{}", format.extension())
}

/// Path of a picture in a bundle.
pub fn picture(sha256: &str) -> String {
    format!("pictures/{sha256}.jpg")
}
