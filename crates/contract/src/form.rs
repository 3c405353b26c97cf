//! How case messages are written to the outbox.

use std::borrow::Cow;

use gridwatch_engine::NodeId;

use crate::{Template, Topics};

/// How case messages are published: topics, JSON format, and whether they wait for claims.
#[derive(Debug, Clone)]
pub struct Form {
    /// Topics to publish to.
    pub topics: Topics,
    /// The platform's own JSON format; `None` publishes the contract's case record.
    pub template: Option<Template>,
    /// This box's id if it shares sites with other boxes: a new case then waits in the outbox for its claim.
    pub shares_sites: Option<NodeId>,
}

impl Form {
    /// The payload to publish for `sealed`, the signed record as JSON.
    pub fn payload<'a>(&self, sealed: &'a str) -> Cow<'a, str> {
        match &self.template {
            Some(template) => template.fill(sealed).into(),
            None => sealed.into(),
        }
    }
}

impl From<Topics> for Form {
    fn from(topics: Topics) -> Self {
        Self {
            topics,
            template: None,
            shares_sites: None,
        }
    }
}
