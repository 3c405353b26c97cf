//! Commits: what the engine decided, written to the store in the order of the decisions.

use std::sync::Arc;

use jiff::Timestamp;
use metrics::{counter, histogram};

use super::{
    super::record::{ModelDescriptor, RecordBuilder},
    Core, STORAGE,
};
use gridwatch_base::{error::Class, message, metric};
use gridwatch_console::daemon::Change;
use gridwatch_engine::{Case, CaseId, Input, Verified};
use gridwatch_evidence::EvidencePicture;
use gridwatch_link::IncomingReply;
use gridwatch_store::{Revision, StoreError};

/// A decision of the engine to be stored.
pub(in crate::daemon) enum Commit {
    /// A new case with its pictures.
    Case(
        Box<Case>,
        Vec<EvidencePicture>,
        Arc<[ModelDescriptor]>,
        Arc<RecordBuilder>,
    ),
    /// A change of state that this box decided.
    Revision(Revision),
    /// A case of this box that another box filed first.
    Yielded(Revision),
    /// A verification result with its pictures.
    Verified(Box<Verified>, Vec<EvidencePicture>),
    /// A reply and the revision that follows from it; acknowledged to the broker only once committed.
    Reply(Box<IncomingReply>, Option<Revision>),
}

impl Core {
    pub(super) fn retry_commits(&mut self) {
        for commit in std::mem::take(&mut self.uncommitted) {
            self.commit(commit);
        }
        if self.uncommitted.is_empty() {
            self.storage_works();
            tracing::info!("Committed what was waiting");
        }
    }

    pub(super) fn commit(&mut self, commit: Commit) {
        // The order of commits is the history: nothing may overtake a waiting commit.
        if !self.gate.is_open() || !self.uncommitted.is_empty() {
            self.uncommitted.push(commit);
            return;
        }
        match self.try_commit(&commit) {
            Ok(()) => {
                // The disk accepts writes; a fault of the evidence worker that persists is reported again.
                self.storage_works();
                self.board.tell(Change::Case(commit.case().to_string()));
                commit.acknowledge();
            }
            Err(error) if error.class() == Class::Transient => {
                tracing::error!(commit = %commit.describe(), %error, "Commit failed; retrying");
                if matches!(error, StoreError::DiskFull { .. }) {
                    self.delete_originals();
                }
                self.health.block(
                    STORAGE,
                    message!(
                        "{what} is waiting to be committed: {error}",
                        what = commit.describe().to_string(),
                        error = error.to_string()
                    ),
                );
                self.uncommitted.push(commit);
            }
            Err(error) => {
                tracing::error!(commit = %commit.describe(), %error, "Commit failed permanently; dropped");
                if let Commit::Case(case, ..) = &commit {
                    self.apply(Input::EvidenceFailed { case: case.id.clone() }, None);
                }
                // Acknowledged, or the broker would redeliver a reply that can never be stored.
                commit.acknowledge();
            }
        }
    }

    fn try_commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let form = &self.records.form;
        match commit {
            Commit::Revision(revision) => self.store.revise(revision, form).map(drop),
            Commit::Yielded(revision) => self.store.yield_case(revision, form).map(drop),
            Commit::Reply(incoming, revision) => self
                .store
                .apply_reply(&incoming.message, incoming.reply.at, revision.as_ref(), form)
                .map(drop),
            Commit::Verified(answer, pictures) => {
                let pictures = self.records.verification_evidence(pictures);
                self.store
                    .record_verification(answer, pictures, &self.config.timezone, form)?;
                counter!(metric::VERIFIED, "finding" => answer.finding.as_str()).increment(1);
                tracing::info!(case = %answer.case, finding = answer.finding.as_str(), looks = answer.looks, "Case verified");
                Ok(())
            }
            Commit::Case(case, pictures, detected_by, records) => {
                let Some(record) = records.case_record(case, pictures, detected_by) else {
                    return Err(StoreError::InvalidEvidence {
                        case: case.id.clone(),
                        what: "none of the models that searched the look detects its labels".into(),
                    });
                };
                self.store.commit_case(&record, case, form)?;
                let waited = Timestamp::now().duration_since(case.confirmed_at).as_secs_f64();
                histogram!(metric::COMMIT).record(waited);
                counter!(metric::CASES, "rule" => case.rule.to_string()).increment(1);
                tracing::info!(case = %case.id, camera = %case.camera, category = %case.category.code, cell = %case.located.cell, "Case filed");
                Ok(())
            }
        }
    }
}

impl Commit {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Case(case, ..) => format!("case {}", case.id),
            Self::Revision(revision) | Self::Yielded(revision) => {
                format!("revision of case {} to {}", revision.case, revision.state.as_str())
            }
            Self::Verified(answer, _) => format!("verification of case {}", answer.case),
            Self::Reply(incoming, _) => format!("reply about case {}", incoming.reply.case),
        }
    }

    /// The case that it is about.
    fn case(&self) -> &CaseId {
        match self {
            Self::Case(case, ..) => &case.id,
            Self::Revision(revision) | Self::Yielded(revision) => &revision.case,
            Self::Verified(answer, _) => &answer.case,
            Self::Reply(incoming, _) => &incoming.reply.case,
        }
    }

    fn acknowledge(self) {
        if let Self::Reply(incoming, _) = self {
            // The link may be gone; then the broker redelivers the reply, which changes nothing.
            let _ = incoming.committed.send(());
        }
    }
}
