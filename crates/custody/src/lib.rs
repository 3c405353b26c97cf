//! Chain of custody: keeps the evidence of a case verifiable years later, by people who trust neither the box nor its
//! maker.
//!
//! ```text
//! keys       the signing key and the key that encrypts originals, generated at the first start
//! signature  Ed25519 (RFC 8032), compatible with OpenSSL
//! chain      one line per event in the life of the evidence, each with the hash of the previous line
//! vault      originals: the bytes that the camera sent, encrypted at rest
//! bundle     one case as a folder that anyone can verify, and the verification
//! ```
//!
//! This crate knows no database, camera or broker. `store` keeps the chain in its database.

pub mod bundle;
pub mod chain;
pub mod keys;
pub mod vault;

mod signature;

pub use self::signature::{PublicKey, SigningKey, unseal};
