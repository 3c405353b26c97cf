//! The URI of a key in a token (RFC 7512), as far as gridwatch uses it.

use std::{
    fmt::{self, Write as _},
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    str::FromStr,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use zeroize::Zeroizing;

use crate::keys::{KeyError, credential};
use gridwatch_base::file;

/// Longest URI; a path may have 4096 bytes.
const MAX_URI: usize = 8192;
/// Longest PIN. PKCS#11 sets no limit; tokens take 4 to 64 characters.
const MAX_PIN: usize = 255;

/// Where the PIN is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    /// A file.
    File(PathBuf),
    /// A systemd credential, by name.
    Credential(String),
}

impl PinSource {
    /// Reads the PIN, without the line end after it.
    pub(super) fn read(&self) -> Result<Zeroizing<String>, KeyError> {
        let path = match self {
            Self::File(path) => path.clone(),
            Self::Credential(name) => credential(name)?,
        };
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.mode() & 0o007 != 0
        {
            let mode = metadata.mode() & 0o777;
            return Err(KeyError::Unprotected { path, mode });
        }
        let text = file::read_secret(&path, file::MAX_KEY).map_err(|source| KeyError::Io {
            doing: "read",
            path: path.clone(),
            source,
        })?;
        let pin = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        match pin.len() {
            1..=MAX_PIN => Ok(pin),
            _ => Err(KeyError::Malformed {
                path,
                what: format!("expected a PIN of 1 to {MAX_PIN} bytes in one line"),
            }),
        }
    }
}

/// A private key in a token: which token, which key, the module, and where the PIN is. Displayed without the last two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUri {
    /// CKA_LABEL of the token.
    pub(super) token: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    /// CKA_LABEL of the key.
    pub(super) object: Option<String>,
    /// CKA_ID of the key.
    pub(super) id: Option<Vec<u8>>,
    /// Shared library that talks to the token.
    pub(super) module: PathBuf,
    pub(super) pin: PinSource,
}

impl TokenUri {
    /// The module's shared library.
    pub fn module(&self) -> &std::path::Path {
        &self.module
    }

    /// Where the PIN is.
    pub fn pin(&self) -> &PinSource {
        &self.pin
    }
}

const EXAMPLE: &str =
    "pkcs11:token=gridwatch;object=box?module-path=/usr/lib/pkcs11/libtpm2_pkcs11.so&pin-source=credential:signing-pin";

impl FromStr for TokenUri {
    type Err = String;

    /// Errors never show the text: people put PINs into it.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = |what: &str| format!("{what}; expected a PKCS#11 URI (RFC 7512) such as {EXAMPLE}");
        if text.len() > MAX_URI {
            return Err(expected(&format!("longer than {MAX_URI} bytes")));
        }
        let rest = text
            .strip_prefix("pkcs11:")
            .ok_or_else(|| expected("does not begin with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut fields = Fields::default();
        let attributes = path
            .split(';')
            .map(|a| (a, true))
            .chain(query.split('&').map(|a| (a, false)));
        for (attribute, is_path) in attributes.filter(|(a, _)| !a.is_empty()) {
            let (name, value) = attribute
                .split_once('=')
                .ok_or_else(|| expected("an attribute has no value"))?;
            fields.set(name, percent_decode_str(value).collect(), is_path)?;
        }
        let Fields { text, id, module, pin } = fields;
        let [token, manufacturer, model, serial, object] = text;
        if token.is_none() && serial.is_none() {
            return Err(expected("names no token: `token` or `serial` is missing"));
        }
        if object.is_none() && id.is_none() {
            return Err(expected("names no key: `object` or `id` is missing"));
        }
        Ok(Self {
            token,
            manufacturer,
            model,
            serial,
            object,
            id,
            module: module.ok_or_else(|| expected("`module-path` is missing"))?,
            pin: pin.ok_or_else(|| expected("`pin-source` is missing"))?,
        })
    }
}

/// The attributes of text, in the order of [`Fields::text`].
const TEXT: [&str; 5] = ["token", "manufacturer", "model", "serial", "object"];

#[derive(Default)]
struct Fields {
    text: [Option<String>; 5],
    id: Option<Vec<u8>>,
    module: Option<PathBuf>,
    pin: Option<PinSource>,
}

impl Fields {
    fn set(&mut self, name: &str, value: Vec<u8>, is_path: bool) -> Result<(), String> {
        if name == "pin-value" {
            return Err(
                "`pin-value` is not accepted, because configurations are copied and shown; put the PIN into a file or a systemd \
                 credential, and name it in `pin-source`"
                    .into(),
            );
        }
        if value.is_empty() {
            return Err("an attribute is empty".into());
        }
        let is_set = if is_path && name == "id" {
            self.id.replace(value).is_some()
        } else {
            let value = String::from_utf8(value).map_err(|_| "an attribute is not UTF-8")?;
            match (is_path, TEXT.iter().position(|known| *known == name), name) {
                (true, Some(i), _) => self.text[i].replace(value).is_some(),
                (true, None, "type") if value == "private" => false,
                (true, None, "type") => return Err("`type` must be private".into()),
                (false, _, "module-path") => self.module.replace(absolute(&value, "module-path")?).is_some(),
                (false, _, "pin-source") => self.pin.replace(pin_source(&value)?).is_some(),
                _ => {
                    return Err(
                        "has an attribute other than token, manufacturer, model, serial, object, id and type before the question \
                         mark, and module-path and pin-source after it"
                            .into(),
                    );
                }
            }
        };
        match is_set {
            true => Err("an attribute occurs twice".into()),
            false => Ok(()),
        }
    }
}

fn absolute(value: &str, name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(format!("`{name}` must be an absolute path")),
    }
}

fn pin_source(value: &str) -> Result<PinSource, String> {
    if let Some(name) = value.strip_prefix("credential:") {
        // A name, not a path out of the folder of credentials.
        return match !name.is_empty() && !name.contains('/') && name != ".." {
            true => Ok(PinSource::Credential(name.into())),
            false => Err("`pin-source` must name a systemd credential after credential:".into()),
        };
    }
    let path = value.strip_prefix("file:").unwrap_or(value);
    absolute(path.strip_prefix("//").unwrap_or(path), "pin-source")
        .map(PinSource::File)
        .map_err(|_| "`pin-source` must be file:/PATH or credential:NAME".into())
}

/// Not escaped when shown.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b' ');

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = [&self.token, &self.manufacturer, &self.model, &self.serial, &self.object];
        let text = TEXT
            .iter()
            .zip(text)
            .filter_map(|(name, value)| Some((*name, value.as_ref()?.as_bytes())));
        f.write_str("pkcs11:")?;
        for (i, (name, value)) in text.chain(self.id.as_deref().map(|id| ("id", id))).enumerate() {
            if i > 0 {
                f.write_char(';')?;
            }
            write!(f, "{name}={}", percent_encode(value, PLAIN))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_token_key_module_and_pin() {
        let uri: TokenUri = EXAMPLE.parse().unwrap();
        assert_eq!(uri.token.as_deref(), Some("gridwatch"));
        assert_eq!(uri.pin, PinSource::Credential("signing-pin".into()));
        assert_eq!(
            uri.to_string(),
            "pkcs11:token=gridwatch;object=box",
            "without module and PIN"
        );
        let uri: TokenUri = "pkcs11:serial=1%3B2;id=%01%FF;type=private?pin-source=file:///etc/pin&module-path=/m.so"
            .parse()
            .unwrap();
        assert_eq!(uri.serial.as_deref(), Some("1;2"));
        assert_eq!(uri.id.as_deref(), Some(&[1, 255][..]));
        assert_eq!(uri.pin, PinSource::File("/etc/pin".into()));
        assert_eq!(uri.to_string(), "pkcs11:serial=1%3B2;id=%01%FF");
    }

    #[test]
    fn a_faulty_uri_is_refused_without_being_shown() {
        let good = "?module-path=/m.so&pin-source=/p";
        for (text, part) in [
            ("http://hunter2", "does not begin with pkcs11:"),
            (&format!("pkcs11:object=hunter2{good}"), "names no token"),
            (&format!("pkcs11:token=hunter2{good}"), "names no key"),
            (&format!("pkcs11:token=hunter2;token=b{good}"), "occurs twice"),
            (&format!("pkcs11:token=hunter2;object={good}"), "empty"),
            (&format!("pkcs11:hunter2{good}"), "has no value"),
            (
                &format!("pkcs11:token=a;object=b;slot=hunter2{good}"),
                "an attribute other than",
            ),
            (
                "pkcs11:token=a;object=b?module-path=/m.so&pin-value=hunter2",
                "`pin-value` is not accepted",
            ),
            (
                "pkcs11:token=a;object=b?module-path=hunter2&pin-source=/p",
                "`module-path` must be an absolute path",
            ),
            (
                "pkcs11:token=a;object=b?module-path=/m.so&pin-source=hunter2",
                "file:/PATH or credential:NAME",
            ),
            (
                "pkcs11:token=a;object=b?module-path=/m.so&pin-source=credential:../hunter2",
                "must name a systemd credential",
            ),
            ("pkcs11:token=a;object=b?module-path=/m.so", "`pin-source` is missing"),
        ] {
            let message = text.parse::<TokenUri>().unwrap_err();
            assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
        }
    }
}
