//! Chain of custody: keeps the evidence of a case verifiable years later, by people who trust neither the box nor its
//! maker.
//!
//! ```text
//! keys       the signing key and the key that encrypts originals, generated at the first start
//! signature  Ed25519 and ECDSA on P-256, compatible with OpenSSL
//! signer     what signs for the box: a key in a file or in a token
//! token      signing keys in PKCS#11 tokens and TPMs
//! chain      one line per event in the life of the evidence, each with the hash of the previous line
//! vault      originals: the bytes that the camera sent, encrypted at rest
//! reencrypt  everything encrypted anew after that key was replaced
//! bundle     one case as a folder that anyone can verify, and the verification
//! ```
//!
//! This crate knows no database, camera or broker. `store` keeps the chain in its database.

pub mod bundle;
pub mod chain;
pub mod keys;
pub mod reencrypt;
pub mod token;
pub mod vault;

mod signature;
mod signer;

pub use self::{
    signature::{Algorithm, PublicKey, SigningKey, UnknownAlgorithm, unseal},
    signer::{Signer, seal},
};
