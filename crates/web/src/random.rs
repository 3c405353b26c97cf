//! Random values and keyed hashes, all from the operating system's generator.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use gridwatch_base::secret::Zeroizing;
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// Random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("getrandom(2) works on every supported kernel, and does not fail once the pool is ready");
    bytes
}

/// 256 random bits in base64url: a token that cannot be guessed.
pub fn token() -> Zeroizing<String> {
    Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(Zeroizing::new(bytes::<32>())))
}

/// 64 random bits in hex: an id that is not a secret.
pub fn id() -> String {
    bytes::<8>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key for values that are given to browsers and recognised again.
pub struct MacKey(hmac::Key);

impl MacKey {
    /// The key with these bytes, 32 for full strength.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// A code over a value for a purpose; the same value for another purpose has another code.
    pub fn sign(&self, purpose: &str, value: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &Self::message(purpose, value)))
    }

    /// Whether `code` is that of the value, compared in constant time.
    pub fn verify(&self, purpose: &str, value: &str, code: &str) -> bool {
        let code = BASE64_URL_SAFE_NO_PAD.decode(code);
        code.is_ok_and(|code| hmac::verify(&self.0, &Self::message(purpose, value), &code).is_ok())
    }

    fn message(purpose: &str, value: &str) -> Vec<u8> {
        [purpose.as_bytes(), b"\0", value.as_bytes()].concat()
    }
}
