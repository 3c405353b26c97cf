//! The topic names of the contract, version 1.

use gridwatch_engine::{CaseId, CellCode, Claim, NodeId};

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

/// The topics of claims: `PREFIX/v1/site/CELL/CATEGORY/NODE/CASE`. The box stands in them, so that a broker can let each write its
/// own alone, and the case, so that no claim takes another's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteTopic {
    prefix: String,
}

impl SiteTopic {
    /// Those below `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}/v1/site/"),
        }
    }

    /// Where a claim is said.
    pub fn of(&self, claim: &Claim) -> String {
        let Claim {
            case,
            node,
            category,
            located,
            ..
        } = claim;
        format!("{}{}/{category}/{node}/{case}", self.prefix, located.cell)
    }

    /// All claims in `cell`.
    pub fn filter(&self, cell: &CellCode) -> String {
        format!("{}{cell}/#", self.prefix)
    }

    /// True of a topic below these.
    pub fn holds(&self, topic: &str) -> bool {
        topic.starts_with(&self.prefix)
    }

    /// Box and case of a claim's topic.
    pub fn parse<'a>(&self, topic: &'a str) -> Option<(&'a str, CaseId)> {
        let mut levels = topic.strip_prefix(&self.prefix)?.split('/');
        let (_cell, _category, node, case) = (levels.next()?, levels.next()?, levels.next()?, levels.next()?);
        (levels.next().is_none() && !case.is_empty()).then(|| (node, case.into()))
    }
}
