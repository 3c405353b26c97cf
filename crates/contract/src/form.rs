//! The form in which a case leaves the box.

use std::borrow::Cow;

use gridwatch_engine::NodeId;

use crate::{Template, Topics};

/// How a case goes out: where to, and in whose words.
#[derive(Debug, Clone)]
pub struct Form {
    /// Where to.
    pub topics: Topics,
    /// The city's words for it; `None`: the contract's own.
    pub template: Option<Template>,
    /// This box, where it tells others of its cases and waits for their word before it sends one.
    pub shares_sites: Option<NodeId>,
}

impl Form {
    /// What is sent of a sealed record.
    pub fn words<'a>(&self, sealed: &'a str) -> Cow<'a, str> {
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
