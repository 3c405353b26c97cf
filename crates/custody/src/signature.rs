//! Signatures of case records and model packages, as OpenSSL makes and verifies them: Ed25519 (RFC 8032), and ECDSA on P-256 with
//! SHA-256 (FIPS 186-5) for tokens and TPMs, few of which have Ed25519.
//!
//! The algorithm belongs to the key: the text form of every key but an Ed25519 one begins with its algorithm's name. An unknown name
//! is an error of its own, so that a record of a newer box is not taken for a forgery.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1, ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm},
};
use zeroize::Zeroizing;

/// A signature algorithm, with its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032). What names no algorithm is signed with this one.
    Ed25519,
    /// ECDSA on P-256 with SHA-256; signatures are in DER.
    EcdsaP256Sha256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ed25519, Self::EcdsaP256Sha256];

    /// The name in records and keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
        }
    }

    /// Length of a public key in bytes: that of RFC 8032, or the uncompressed point of SEC 1.
    pub(crate) fn key_length(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::EcdsaP256Sha256 => 65,
        }
    }

    /// SubjectPublicKeyInfo (RFC 8410, RFC 5480) up to the key itself.
    fn spki(self) -> &'static [u8] {
        match self {
            Self::Ed25519 => b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
            Self::EcdsaP256Sha256 => {
                b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
            }
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &ED25519,
            Self::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A signature algorithm that this version cannot verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signature algorithm {0:?}: this version knows ed25519 and ecdsa-p256-sha256; use a newer gridwatch")]
pub struct UnknownAlgorithm(String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let known = Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
        known.ok_or_else(|| UnknownAlgorithm(name.chars().take(40).collect()))
    }
}

/// A public key. Displayed in base64, after `ALGORITHM:` unless it is an Ed25519 key; parsed from that, or from base64 or hexadecimal of
/// an Ed25519 key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.algorithm != Algorithm::Ed25519 {
            write!(f, "{}:", self.algorithm)?;
        }
        f.write_str(&BASE64.encode(&self.bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey {self}")
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (algorithm, key) = match text.trim().split_once(':') {
            Some((name, key)) => (name.parse().map_err(|e: UnknownAlgorithm| e.to_string())?, key),
            None => (Algorithm::Ed25519, text),
        };
        bytes(key)
            .and_then(|bytes| Self::new(algorithm, bytes))
            .ok_or_else(|| match algorithm {
                Algorithm::Ed25519 => {
                    "expected an Ed25519 public key: 32 bytes in base64 or hexadecimal, as `gridwatch keys show` and `gridwatch model keygen` print it".into()
                }
                other => format!("expected the {} bytes of a public key in base64 after {other}:", other.key_length()),
            })
    }
}

impl PublicKey {
    /// A key from its bytes; `None` for another length or form.
    pub fn new(algorithm: Algorithm, bytes: Vec<u8>) -> Option<Self> {
        let is_point = algorithm == Algorithm::Ed25519 || bytes.first() == Some(&4);
        (bytes.len() == algorithm.key_length() && is_point).then_some(Self { algorithm, bytes })
    }

    /// The algorithm of its signatures.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw key: 32 bytes of an Ed25519 key, or the 65 bytes of an uncompressed point.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if `signature`, in base64 or hexadecimal, is a valid signature of `signed` by this key.
    pub fn verifies(&self, signed: &[u8], signature: &str) -> bool {
        // A malformed signature becomes empty and does not verify.
        let signature = bytes(signature).unwrap_or_default();
        UnparsedPublicKey::new(self.algorithm.verification(), &self.bytes)
            .verify(signed, &signature)
            .is_ok()
    }

    /// The key as SubjectPublicKeyInfo in DER.
    pub(crate) fn to_der(&self) -> Vec<u8> {
        [self.algorithm.spki(), &self.bytes].concat()
    }

    /// Parses a key in DER.
    ///
    /// # Errors
    /// A key of an algorithm that is not known, or something else.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, String> {
        let found = Algorithm::ALL.into_iter().find_map(|algorithm| {
            let key = der.strip_prefix(algorithm.spki())?;
            Self::new(algorithm, key.to_vec())
        });
        found.ok_or_else(|| {
            "a public key of an unknown algorithm: this version knows Ed25519 and ECDSA on P-256 (uncompressed); use a newer gridwatch".into()
        })
    }
}

/// Decodes base64 or hexadecimal; white space is ignored.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    // Base64 of 32 and 64 bytes has other lengths.
    if matches!(text.len(), 64 | 128) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
        return (0..text.len()).step_by(2).map(pair).collect();
    }
    BASE64.decode(text).ok()
}

/// An Ed25519 signing key in a file. It is a credential: never logged, and without `Debug`.
pub struct SigningKey(Ed25519KeyPair);

/// PKCS#8 encoding of an Ed25519 key (RFC 8410, section 7), without its 32 bytes.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

impl SigningKey {
    /// Generates a key. Returns it in PEM, as OpenSSL reads it, and parsed.
    ///
    /// # Errors
    /// If the operating system provides no random numbers.
    pub fn generate() -> Result<(Zeroizing<String>, Self), String> {
        let mut seed = Zeroizing::new([0; 32]);
        let failed = || "no random numbers from the operating system".to_owned();
        SystemRandom::new().fill(&mut *seed).map_err(|_| failed())?;
        let der = Zeroizing::new([&PKCS8[..], &*seed].concat());
        let body = Zeroizing::new(BASE64.encode(&*der));
        let pem = Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", *body));
        let key = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| failed())?;
        Ok((pem, Self(key)))
    }

    /// Parses a key in PEM, written by this program or by `openssl genpkey -algorithm ed25519`.
    ///
    /// # Errors
    /// A description of the expected format, without the input.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let expected = "expected an Ed25519 key in PEM (PKCS#8), as `gridwatch model keygen` or `openssl genpkey -algorithm ed25519` writes it";
        let body = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let lines = body.ok_or(expected)?.0;
        // Reserved at once: a buffer that grows leaves copies behind.
        let mut body = Zeroizing::new(String::with_capacity(lines.len()));
        body.extend(lines.split_ascii_whitespace());
        let mut der = Zeroizing::new(vec![0; body.len()]);
        let length = BASE64.decode_slice(&*body, &mut der).map_err(|_| expected)?;
        der.truncate(length);
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map(Self)
            .map_err(|_| expected.into())
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey {
            algorithm: Algorithm::Ed25519,
            bytes: self.0.public_key().as_ref().to_vec(),
        }
    }

    /// Signs `signed`; returns the signature in base64 with a newline.
    pub fn sign(&self, signed: &[u8]) -> String {
        BASE64.encode(self.0.sign(signed).as_ref()) + "\n"
    }
}

pub(crate) const SIGNATURE_MEMBER: &str = ",\"signature\":\"";

/// Splits the result of [`seal`](crate::seal) into the signed object and the signature; `None` if it has no signature.
pub fn unseal(sealed: &str) -> Option<(String, &str)> {
    let (open, rest) = sealed.rsplit_once(SIGNATURE_MEMBER)?;
    let signature = rest.strip_suffix("\"}")?;
    Some((format!("{open}}}"), signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    #[test]
    fn matches_the_test_vector_of_rfc_8032() {
        let public: PublicKey = PUBLIC.parse().unwrap();
        assert!(public.verifies(&[0x72], SIGNATURE));
        assert!(!public.verifies(&[0x73], SIGNATURE));
        let der = [&PKCS8[..], &bytes(SEED).unwrap()].concat();
        let key = SigningKey::parse(&format!("{BEGIN}\n{}\n{END}", BASE64.encode(der))).unwrap();
        assert_eq!(key.public(), public);
        assert_eq!(bytes(&key.sign(&[0x72])), bytes(SIGNATURE));
    }

    #[test]
    fn a_generated_key_parses_and_signs() {
        let (pem, key) = SigningKey::generate().unwrap();
        let again = SigningKey::parse(&pem).unwrap();
        assert_eq!(again.public(), key.public());
        let public: PublicKey = key.public().to_string().parse().unwrap();
        assert!(public.verifies(b"id = 1", &again.sign(b"id = 1")));
        assert!(!public.verifies(b"id = 1", "no signature"));
        assert!(!public.verifies(b"id = 1", ""));
        let (_, other) = SigningKey::generate().unwrap();
        assert!(!other.public().verifies(b"id = 1", &key.sign(b"id = 1")));
    }

    #[test]
    fn sealing_appends_the_signature_and_unsealing_restores_the_object() {
        let (_, key) = SigningKey::generate().unwrap();
        let object = r#"{"a":1,"b":"\"signature\""}"#;
        let sealed = crate::seal(&key, object).unwrap();
        let value: serde_json::Value = serde_json::from_str(&sealed).unwrap();
        let (body, signature) = unseal(&sealed).unwrap();
        assert_eq!((body.as_str(), value["signature"].as_str()), (object, Some(signature)));
        assert!(key.public().verifies(body.as_bytes(), signature));
        assert!(unseal(object).is_none());
    }

    #[test]
    fn a_key_of_another_algorithm_names_it_and_an_unknown_one_is_no_wrong_signature() {
        // RFC 6979, appendix A.2.5: P-256 and SHA-256, message "sample"; the signature in DER.
        const POINT: &str = "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
        const DER: &str = "3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716022100f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
        let unhex = |text: &str| -> Vec<u8> {
            let pair = |i: usize| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(pair).collect()
        };
        let key = PublicKey::new(Algorithm::EcdsaP256Sha256, unhex(POINT)).unwrap();
        let text = key.to_string();
        assert!(text.starts_with("ecdsa-p256-sha256:BGD+1L"), "{text}");
        assert_eq!(text.parse::<PublicKey>().unwrap(), key);
        assert_eq!(PublicKey::from_der(&key.to_der()).unwrap(), key);
        let signature = BASE64.encode(unhex(DER));
        assert!(key.verifies(b"sample", &signature));
        assert!(!key.verifies(b"simple", &signature));
        assert!("ecdsa-p256-sha256:AAAA".parse::<PublicKey>().is_err());

        let message = format!("sm2-sm3:{}", &text[18..]).parse::<PublicKey>().unwrap_err();
        assert!(message.contains("unknown signature algorithm \"sm2-sm3\""), "{message}");
        let mut x25519 = SigningKey::generate().unwrap().1.public().to_der();
        x25519[8] = 0x6e;
        let message = PublicKey::from_der(&x25519).unwrap_err();
        assert!(message.contains("unknown algorithm"), "{message}");
    }

    #[test]
    fn errors_do_not_show_the_input() {
        for text in ["", "c2hvcnQ=", "hunter2", &PUBLIC[..62]] {
            let message = text.parse::<PublicKey>().unwrap_err();
            assert!(text.is_empty() || !message.contains(text), "{message}");
            assert!(SigningKey::parse(text).is_err());
        }
    }
}
