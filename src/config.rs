//! What the operator typed becomes what the daemon works to, or every fault in it.
//!
//! [`raw`] holds the file's form (serde and JSON Schema); loading checks it against the schema, then against itself, and
//! collects every fault with its path and line; [`Config`] is what remains: checked and immutable.

pub mod raw;
