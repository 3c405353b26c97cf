//! Ed25519 signatures (RFC 8032) of case records and model packages, compatible with OpenSSL.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};

/// A public key, 32 bytes. Displayed in base64; parsed from base64 or hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
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
        let expected =
            "expected an Ed25519 public key: 32 bytes in base64 or hexadecimal, as `gridwatch model keygen` prints it";
        let bytes = bytes(text).ok_or(expected)?;
        Ok(Self(bytes.try_into().map_err(|_| expected)?))
    }
}

impl PublicKey {
    /// The raw key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// True if `signature`, in base64 or hexadecimal, is a valid signature of `signed` by this key.
    pub fn verifies(&self, signed: &[u8], signature: &str) -> bool {
        // A malformed signature becomes empty and does not verify.
        let signature = bytes(signature).unwrap_or_default();
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(signed, &signature)
            .is_ok()
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

/// A signing key. It is a credential: never logged, and without `Debug`.
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
    pub fn generate() -> Result<(String, Self), String> {
        let mut seed = [0; 32];
        let failed = || "no random numbers from the operating system".to_owned();
        SystemRandom::new().fill(&mut seed).map_err(|_| failed())?;
        let pem = format!("{BEGIN}\n{}\n{END}\n", BASE64.encode([&PKCS8[..], &seed].concat()));
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| failed())?;
        Ok((pem, Self(key)))
    }

    /// Parses a key in PEM, written by this program or by `openssl genpkey -algorithm ed25519`.
    ///
    /// # Errors
    /// A description of the expected format, without the input.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let expected = "expected an Ed25519 key in PEM (PKCS#8), as `gridwatch model keygen` or `openssl genpkey -algorithm ed25519` writes it";
        let body = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let body: String = body.ok_or(expected)?.0.split_ascii_whitespace().collect();
        let der = BASE64.decode(body).map_err(|_| expected)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map(Self)
            .map_err(|_| expected.into())
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs `signed`; returns the signature in base64 with a newline.
    pub fn sign(&self, signed: &[u8]) -> String {
        BASE64.encode(self.0.sign(signed).as_ref()) + "\n"
    }
}

const SIGNATURE_MEMBER: &str = ",\"signature\":\"";

impl SigningKey {
    /// Appends a signature over the bytes of a JSON object to that object, as its last member.
    pub fn seal(&self, object: &str) -> String {
        let open = object.strip_suffix('}').unwrap_or(object);
        format!("{open}{SIGNATURE_MEMBER}{}\"}}", self.sign(object.as_bytes()).trim())
    }
}

/// Splits the result of [`SigningKey::seal`] into the signed object and the signature; `None` if it has no signature.
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
        let sealed = key.seal(object);
        let value: serde_json::Value = serde_json::from_str(&sealed).unwrap();
        let (body, signature) = unseal(&sealed).unwrap();
        assert_eq!((body.as_str(), value["signature"].as_str()), (object, Some(signature)));
        assert!(key.public().verifies(body.as_bytes(), signature));
        assert!(unseal(object).is_none());
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
