//! The chain of custody: what makes a case's evidence hold years later, before somebody who trusts nobody.
//!
//! ```text
//! keys       what the box signs with, what its originals are encrypted with: made at the first start, never shown
//! signature  ed25519 (RFC 8032), as OpenSSL makes and checks it
//! chain      one line for everything that was done with evidence, each with the hash of the line before
//! vault      originals: the very bytes that a camera sent, encrypted at rest
//! bundle     one case in a folder that anyone can check, and the check
//! ```
//!
//! Nothing here knows the database, a camera or a broker: `store` keeps the chain in the transaction of what it tells.

pub mod bundle;
pub mod chain;
pub mod keys;
pub mod vault;

mod signature;

pub use self::signature::{PublicKey, SigningKey, unseal};
