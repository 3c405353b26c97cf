//! The newest acts in the audit log, read from the chain of custody and checked on the way.

use std::{collections::VecDeque, sync::Arc};

use gridwatch_base::text::printable;
use gridwatch_custody::chain::{ActResult, AuditedLine, CustodyEvent};
use gridwatch_store::{Store, StoreError};
use gridwatch_web::Rejection;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{app::App, error::OrReject as _};

/// Acts on a page.
const PAGE: usize = 50;

/// Which page of the audit log.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    /// Only acts before this line of the chain.
    #[serde(default)]
    pub(crate) before: Option<u64>,
}

/// A page of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditAnswer {
    /// The newest first.
    pub(crate) acts: Vec<ActAnswer>,
    /// `before` of the next page; absent if there is none.
    pub(crate) next: Option<u64>,
    /// The first damage of the chain, if it is not intact.
    pub(crate) fault: Option<ChainFaultAnswer>,
}

/// An act of a person.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ActAnswer {
    /// Line of the chain.
    pub(crate) line: u64,
    /// RFC 3339.
    #[schemars(with = "Option<String>")]
    pub(crate) at: Option<Timestamp>,
    /// What was done, such as `keys rotate`.
    pub(crate) act: String,
    /// `done`, `refused` or `failed`.
    pub(crate) result: &'static str,
    /// The person.
    pub(crate) who: String,
    /// The case that it is about.
    pub(crate) case_id: Option<String>,
    /// What exactly was done: names and values. Control characters are escaped.
    pub(crate) details: Vec<(String, String)>,
}

/// A damage of the chain.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChainFaultAnswer {
    /// Line of the chain.
    pub(crate) line: u64,
    /// What is wrong.
    pub(crate) what: String,
}

impl ActAnswer {
    /// `None` for lines about no act of a person.
    fn of(line: &AuditedLine) -> Option<Self> {
        let (act, result, case_id) = match line.event.as_ref()? {
            CustodyEvent::Act {
                act, result, case_id, ..
            } => (printable(act), *result, case_id.clone()),
            CustodyEvent::Opened { case_id, .. } => {
                ("originals opened".to_owned(), ActResult::Done, Some(case_id.clone()))
            }
            _ => return None,
        };
        let mut details = Vec::new();
        if let Some(found) = &line.details {
            let what = found.what.iter();
            details.extend(what.map(|(name, value)| (printable(name), printable(value))));
            let texts = [("reason", &found.reason), ("error", &found.error)].into_iter();
            details.extend(texts.filter_map(|(name, text)| Some((name.to_owned(), printable(text.as_ref()?)))));
        }
        Some(Self {
            line: line.seq,
            at: line.at,
            act,
            result: result.as_str(),
            who: line
                .details
                .as_ref()
                .map(|details| printable(&details.who.describe()))
                .unwrap_or_default(),
            case_id,
            details,
        })
    }
}

/// A page of the audit log. Reads the whole chain: a hundred thousand lines take about a second.
pub(crate) async fn read(app: &Arc<App>, query: AuditQuery) -> Result<AuditAnswer, Rejection> {
    let dir = app.state_dir.clone();
    super::scan(app, move || {
        let mut newest: VecDeque<ActAnswer> = VecDeque::with_capacity(PAGE + 1);
        let mut fault = None;
        let store = match Store::open_read_only(&dir) {
            Err(StoreError::Missing { .. }) => None,
            store => Some(store.or_reject()?),
        };
        if let Some(store) = store {
            store
                .read_chain(|line| {
                    if let (None, Some(what)) = (&fault, line.faults.first()) {
                        fault = Some(ChainFaultAnswer {
                            line: line.seq,
                            what: what.to_string(),
                        });
                    }
                    let is_before = query.before.is_none_or(|before| line.seq < before);
                    if let Some(act) = ActAnswer::of(&line).filter(|_| is_before) {
                        if newest.len() > PAGE {
                            newest.pop_front();
                        }
                        newest.push_back(act);
                    }
                    Ok::<_, StoreError>(())
                })
                .or_reject()?;
        }
        let has_more = newest.len() > PAGE;
        if has_more {
            newest.pop_front();
        }
        Ok(AuditAnswer {
            next: newest.front().filter(|_| has_more).map(|act| act.line),
            acts: newest.into_iter().rev().collect(),
            fault,
        })
    })
    .await
}
