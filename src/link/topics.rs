//! The topic names of the contract, version 1.

use crate::engine::NodeId;

/// The topics of one box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// Those of `node` below `prefix`. The configuration has checked that neither holds a character with a meaning in topics.
    pub fn new(prefix: &str, node: &NodeId) -> Self {
        Self {
            prefix: format!("{prefix}/v1/{node}"),
        }
    }

    /// Box → platform: JPEG bytes, content-addressed.
    pub fn evidence(&self, sha256: &str) -> String {
        format!("{}/evidence/{sha256}", self.prefix)
    }

    /// Box → platform: case JSON.
    pub fn case(&self) -> String {
        format!("{}/case", self.prefix)
    }

    /// Platform → box: replies.
    pub fn reply(&self) -> String {
        format!("{}/reply", self.prefix)
    }

    /// Box → platform, retained: whether the box is there.
    pub fn status(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// Box → platform: how the cameras are.
    pub fn health(&self) -> String {
        format!("{}/health", self.prefix)
    }
}
