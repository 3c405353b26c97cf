//! MQTT topic names of the contract, version 1.

use gridwatch_engine::{CaseId, CellCode, Claim, NodeId};

/// The topics of one box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

/// Node ids that would be taken for something else in topics: the claims of all boxes, and what the platform says to all.
pub const RESERVED_NODE_IDS: [&str; 2] = ["site", "platform"];

impl Topics {
    /// Topics of the box `node` below `prefix`. Neither may contain wildcards (`+`, `#`); the configuration checks that.
    pub fn new(prefix: &str, node: &NodeId) -> Self {
        Self {
            prefix: format!("{prefix}/v1/{node}"),
        }
    }

    /// Box → platform: a JPEG picture, addressed by its SHA-256.
    pub fn evidence(&self, sha256: &str) -> String {
        format!("{}/evidence/{sha256}", self.prefix)
    }

    /// Box → platform: case records.
    pub fn case(&self) -> String {
        format!("{}/case", self.prefix)
    }

    /// Platform → box: replies.
    pub fn reply(&self) -> String {
        format!("{}/reply", self.prefix)
    }

    /// Platform → box: receipts.
    pub fn receipt(&self) -> String {
        format!("{}/receipt", self.prefix)
    }

    /// Box → platform, retained: the box's status.
    pub fn status(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// Box → platform: health of the box and its cameras.
    pub fn health(&self) -> String {
        format!("{}/health", self.prefix)
    }
}

/// Platform → all boxes, retained: what the platform announces.
pub fn platform_topic(prefix: &str) -> String {
    format!("{prefix}/v1/platform")
}

/// A message of a box to the platform, by its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxMessage<'a> {
    /// A case record.
    Case,
    /// A picture with this SHA-256, 64 lower-case hex digits.
    Evidence(&'a str),
    /// The status of the box.
    Status,
    /// The health of the box and its cameras.
    Health,
}

/// Filters of everything that boxes below `prefix` send to the platform.
pub fn platform_filters(prefix: &str) -> [String; 4] {
    ["case", "evidence/+", "status", "health"].map(|rest| format!("{prefix}/v1/+/{rest}"))
}

/// Box and message of a topic that matches one of [`platform_filters`]; `None` for any other topic, and for a node id that no box can have: it has 1 to
/// 64 letters, digits, `_` and `-`.
pub fn parse_box_topic<'a>(prefix: &str, topic: &'a str) -> Option<(&'a str, BoxMessage<'a>)> {
    let rest = topic.strip_prefix(prefix)?.strip_prefix("/v1/")?;
    let (node, rest) = rest.split_once('/')?;
    let is_id = (1..=64).contains(&node.len())
        && node
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if !is_id || RESERVED_NODE_IDS.contains(&node) {
        return None;
    }
    let message = match rest.split_once('/') {
        None if rest == "case" => BoxMessage::Case,
        None if rest == "status" => BoxMessage::Status,
        None if rest == "health" => BoxMessage::Health,
        Some(("evidence", sha256)) => {
            let is_hash = sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            BoxMessage::Evidence(is_hash.then_some(sha256)?)
        }
        _ => return None,
    };
    Some((node, message))
}

/// Topics of claims: `PREFIX/v1/site/CELL/CATEGORY/NODE/CASE`. The node level lets a broker's ACL restrict each box to its own
/// claims; the case level keeps each retained claim separate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteTopics {
    prefix: String,
}

impl SiteTopics {
    /// Site topics below `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}/v1/site/"),
        }
    }

    /// Topic on which `claim` is published.
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

    /// Topic filter for all claims in `cell`.
    pub fn filter(&self, cell: &CellCode) -> String {
        format!("{}{cell}/#", self.prefix)
    }

    /// The filter of [`SiteTopics::filter`] that matches `topic`; `None` if it is not a site topic.
    pub fn filter_of(&self, topic: &str) -> Option<String> {
        let (cell, _) = topic.strip_prefix(&self.prefix)?.split_once('/')?;
        (!cell.is_empty()).then(|| format!("{}{cell}/#", self.prefix))
    }

    /// Whether `topic` is a site topic.
    pub fn contains(&self, topic: &str) -> bool {
        topic.starts_with(&self.prefix)
    }

    /// Node and case of a site topic; `None` if it has other levels.
    pub fn parse<'a>(&self, topic: &'a str) -> Option<(&'a str, CaseId)> {
        let mut levels = topic.strip_prefix(&self.prefix)?.split('/');
        let (_cell, _category, node, case) = (levels.next()?, levels.next()?, levels.next()?, levels.next()?);
        (levels.next().is_none() && !case.is_empty()).then(|| (node, case.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_a_box_are_told_from_others() {
        let topics = Topics::new("city/gridwatch", &"box-7".into());
        let hash = "5c523328c10527edf03517bb89b0d0d08b652ac7978cb436d0bd642546679322";
        let of = |topic: &'static str| parse_box_topic("city/gridwatch", topic);
        for (topic, message) in [
            (topics.case(), BoxMessage::Case),
            (topics.status(), BoxMessage::Status),
            (topics.health(), BoxMessage::Health),
            (topics.evidence(hash), BoxMessage::Evidence(hash)),
        ] {
            assert_eq!(parse_box_topic("city/gridwatch", &topic), Some(("box-7", message)));
        }
        for other in [
            topics.reply(),
            topics.receipt(),
            topics.evidence(&hash.to_uppercase()),
            topics.evidence("../x"),
        ] {
            assert_eq!(parse_box_topic("city/gridwatch", &other), None);
        }
        for other in [
            "city/gridwatch/v1//case",
            "city/gridwatch/v1/box 7/case",
            "city/gridwatch/v1/b0123456789012345678901234567890123456789012345678901234567890123/case/",
            "city/gridwatch/v1/b01234567890123456789012345678901234567890123456789012345678901234/case",
            "city/gridwatch/v1/site/case",
            "city/gridwatch/v1/platform",
            "city/gridwatchv1/box-7/case",
            "gridwatch/v1/box-7/case",
            "city/gridwatch/v1/box-7/case/more",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
