//! Ed25519 signatures (RFC 8032): of case records, and of model packages. OpenSSL makes and checks the same ones.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};

/// The key that signatures are checked with: 32 bytes, written in base64 or hexadecimal.
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
        let wanted =
            "an ed25519 public key is 32 bytes in base64 or hexadecimal, as `gridwatch model keygen` prints it";
        let bytes = bytes(text).ok_or(wanted)?;
        Ok(Self(bytes.try_into().map_err(|_| wanted)?))
    }
}

impl PublicKey {
    /// The key itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// True where `signature`, in base64 or hexadecimal, is this key's over `signed`.
    pub fn verifies(&self, signed: &[u8], signature: &str) -> bool {
        // What is no signature's form verifies nothing.
        let signature = bytes(signature).unwrap_or_default();
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(signed, &signature)
            .is_ok()
    }
}

/// Base64 or hexadecimal, whichever it is; white space at the ends and line ends within are passed over.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    // 32 and 64 bytes have no base64 of these lengths.
    if matches!(text.len(), 64 | 128) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
        return (0..text.len()).step_by(2).map(pair).collect();
    }
    BASE64.decode(text).ok()
}

/// What signs. Its text is a credential: it is never logged and has no `Debug`.
pub struct SigningKey(Ed25519KeyPair);

/// An ed25519 key in PKCS#8 (RFC 8410, section 7) but for its 32 bytes.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

impl SigningKey {
    /// A new key: its text in PEM, as OpenSSL reads it, and itself.
    ///
    /// # Errors
    /// Where the system gives no chance.
    pub fn generate() -> Result<(String, Self), String> {
        let mut seed = [0; 32];
        let failed = || "the system gives no random numbers".to_owned();
        SystemRandom::new().fill(&mut seed).map_err(|_| failed())?;
        let pem = format!("{BEGIN}\n{}\n{END}\n", BASE64.encode([&PKCS8[..], &seed].concat()));
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| failed())?;
        Ok((pem, Self(key)))
    }

    /// Reads a key in PEM, ours or OpenSSL's (`openssl genpkey -algorithm ed25519`).
    ///
    /// # Errors
    /// What is wrong with it; never any of it.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let wanted = "no ed25519 key in PEM (PKCS#8), as `gridwatch model keygen` or `openssl genpkey -algorithm ed25519` writes it";
        let body = pem.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let body: String = body.ok_or(wanted)?.0.split_ascii_whitespace().collect();
        let der = BASE64.decode(body).map_err(|_| wanted)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map(Self)
            .map_err(|_| wanted.into())
    }

    /// What signatures of this key are checked with.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The signature over `signed`, in base64 with a line's end.
    pub fn sign(&self, signed: &[u8]) -> String {
        BASE64.encode(self.0.sign(signed).as_ref()) + "\n"
    }
}

const MEMBER: &str = ",\"signature\":\"";

impl SigningKey {
    /// Puts the key's signature over a JSON object, byte for byte, into it as its last member.
    pub fn seal(&self, object: &str) -> String {
        let open = object.strip_suffix('}').unwrap_or(object);
        format!("{open}{MEMBER}{}\"}}", self.sign(object.as_bytes()).trim())
    }
}

/// Takes the signature out of what [`SigningKey::seal`] made: the object that was signed, and the signature. `None` where none is in it.
pub fn unseal(sealed: &str) -> Option<(String, &str)> {
    let (open, rest) = sealed.rsplit_once(MEMBER)?;
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
    fn it_is_the_standards_example() {
        let public: PublicKey = PUBLIC.parse().unwrap();
        assert!(public.verifies(&[0x72], SIGNATURE));
        assert!(!public.verifies(&[0x73], SIGNATURE));
        let der = [&PKCS8[..], &bytes(SEED).unwrap()].concat();
        let key = SigningKey::parse(&format!("{BEGIN}\n{}\n{END}", BASE64.encode(der))).unwrap();
        assert_eq!(key.public(), public);
        assert_eq!(bytes(&key.sign(&[0x72])), bytes(SIGNATURE));
    }

    #[test]
    fn a_key_reads_back_and_signs() {
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
    fn an_object_carries_its_signature_last_and_comes_out_as_it_was() {
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
    fn what_is_no_key_is_told_without_showing_it() {
        for text in ["", "c2hvcnQ=", "hunter2", &PUBLIC[..62]] {
            let told = text.parse::<PublicKey>().unwrap_err();
            assert!(text.is_empty() || !told.contains(text), "{told}");
            assert!(SigningKey::parse(text).is_err());
        }
    }
}
