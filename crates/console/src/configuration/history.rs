//! Versions of the configuration's files: what differs between them, and going back to one; and the files as texts.

use std::{path::Path, sync::Arc};

use gridwatch_base::message;
use gridwatch_config::{
    Fault,
    diff::Change,
    edit::{EditError, SaveRequest, Saved, TextEditor, Version, Versions},
    files::ConfigFiles,
};
use gridwatch_web::{Actor, Rejection};

use super::{Conflict, EditOutcome, blocking, finish, name_of};
use crate::{app::App, error::IntoRejection as _, error::OrReject as _};

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A kept version.
    Version(u64),
    /// The files as they are.
    Present,
}

impl Side {
    /// `current`, or the number of a version.
    pub(crate) fn parse(text: &str) -> Result<Self, Rejection> {
        match text.trim() {
            "current" => Ok(Self::Present),
            number => number
                .parse()
                .map(Self::Version)
                .map_err(|_| Rejection::BadRequest(message!("a version is a number, or current"))),
        }
    }
}

/// What differs between two versions.
pub(crate) async fn changes(app: &Arc<App>, from: Side, to: Side) -> Result<Vec<Change>, Rejection> {
    let state_dir = app.state_dir.clone();
    let found = blocking(app, move |main| -> Result<Vec<Change>, EditError> {
        let versions = Versions::in_state(main, &state_dir);
        match (from, to) {
            (Side::Version(from), Side::Version(to)) => Ok(versions.get(from)?.changes_to(&versions.get(to)?)),
            (Side::Version(from), Side::Present) => Ok(versions.get(from)?.changes_to_files(&ConfigFiles::read(main))),
            (Side::Present, Side::Version(to)) => {
                let changes = versions.get(to)?.changes_to_files(&ConfigFiles::read(main));
                Ok(changes.into_iter().map(reversed).collect())
            }
            (Side::Present, Side::Present) => Ok(Vec::new()),
        }
    });
    found.await?.or_reject()
}

/// The change the other way round.
fn reversed(change: Change) -> Change {
    use gridwatch_config::diff::ChangeKind::{Added, Removed};
    Change {
        kind: match change.kind {
            Added => Removed,
            Removed => Added,
            other => other,
        },
        old: change.new,
        new: change.old,
        ..change
    }
}

/// A version, and what it changed.
pub(crate) struct VersionChanges {
    pub(crate) version: Version,
    pub(crate) changes: Vec<Change>,
}

/// What a version changed, by default the newest; `None` if it is not kept, or is the oldest.
pub(crate) async fn version_changes(app: &Arc<App>, id: Option<u64>) -> Result<Option<VersionChanges>, Rejection> {
    let state_dir = app.state_dir.clone();
    let found = blocking(app, move |main| -> Result<Option<VersionChanges>, EditError> {
        let versions = Versions::in_state(main, &state_dir);
        let mut list = versions.list()?.into_iter();
        let Some(version) = list.find(|version| id.is_none_or(|id| id == version.id)) else {
            return Ok(None);
        };
        let Some(before) = list.next() else { return Ok(None) };
        let changes = versions.get(before.id)?.changes_to(&versions.get(version.id)?);
        Ok(Some(VersionChanges { version, changes }))
    });
    found.await?.or_reject()
}

/// Makes the files what they were in a version.
pub(crate) async fn restore(
    app: &Arc<App>,
    actor: &Actor,
    id: u64,
    revision: String,
    why: String,
) -> Result<EditOutcome, Rejection> {
    let (who, state_dir) = (name_of(actor), app.state_dir.clone());
    let done = blocking(app, move |main| {
        let request = SaveRequest {
            expected_revision: &revision,
            who: &who,
            why: &why,
        };
        let saved = Versions::in_state(main, &state_dir).restore(id, &request);
        with_conflict(main, &state_dir, saved)
    });
    finish(app, done.await?).await
}

fn with_conflict(
    main: &Path,
    state_dir: &Path,
    saved: Result<Saved, EditError>,
) -> Result<Saved, Result<Conflict, EditError>> {
    saved.map_err(|error| match error {
        EditError::Conflict { found, changes, .. } => Ok(Conflict::new(main, state_dir, &found, changes)),
        other => Err(other),
    })
}

/// The files as texts.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    /// Revision of the files.
    pub(crate) revision: String,
    /// Their names, the main file first.
    pub(crate) names: Vec<String>,
    /// The text of the file that was asked for; `None` if there is none of this name.
    pub(crate) text: Option<String>,
}

/// Reads the files, and the text of one of them; `Err` holds faults of files that cannot be read.
pub(crate) async fn read_text(app: &Arc<App>, name: String) -> Result<Result<Texts, Vec<Fault>>, Rejection> {
    let read = move |main: &Path| {
        TextEditor::open(main).map(|editor| Texts {
            revision: editor.revision().to_owned(),
            names: editor.file_names(),
            text: editor.text(&name).map(str::to_owned),
        })
    };
    match blocking(app, read).await? {
        Ok(texts) => Ok(Ok(texts)),
        Err(EditError::Faults(faults)) => Ok(Err(faults.0)),
        Err(error) => Err(error.into_rejection()),
    }
}

/// A file's text to be checked or saved; without a text, the file is removed.
#[derive(Debug, Clone)]
pub(crate) struct TextEdit {
    pub(crate) file: String,
    pub(crate) text: Option<String>,
    /// The revision of the page.
    pub(crate) revision: String,
    pub(crate) why: String,
}

impl TextEdit {
    fn apply(&self, editor: &mut TextEditor) -> Result<(), EditError> {
        match &self.text {
            Some(text) => editor.set_text(&self.file, text),
            None => editor.remove(&self.file),
        }
    }

    /// Whether the file is what it was at the page's revision, so that others have changed only other files.
    fn is_untouched(&self, main: &Path, versions: &Versions) -> bool {
        let version = versions.list().unwrap_or_default().into_iter();
        let base = version.into_iter().find(|version| version.revision == self.revision);
        let now = ConfigFiles::read(main).get(&self.file).and_then(|file| file.sha256());
        base.is_some_and(|base| {
            base.files
                .iter()
                .find(|file| file.name == self.file)
                .map(|file| &file.sha256)
                == now.as_ref()
        })
    }
}

/// What a text would do.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Fault>,
    pub(crate) changes: Vec<Change>,
}

/// Checks a text with all that it names, and writes nothing.
pub(crate) async fn check_text(app: &Arc<App>, edit: TextEdit) -> Result<Checked, Rejection> {
    let checked = blocking(app, move |main| -> Result<Checked, EditError> {
        let mut editor = TextEditor::open(main)?;
        edit.apply(&mut editor)?;
        let draft = editor.check();
        Ok(Checked {
            faults: draft.faults,
            warnings: draft.warnings,
            changes: editor.changes(),
        })
    });
    match checked.await? {
        Err(EditError::Faults(faults)) => Ok(Checked {
            faults: faults.0,
            warnings: Vec::new(),
            changes: Vec::new(),
        }),
        other => other.or_reject(),
    }
}

/// Saves a text. Somebody else's change of another file is no conflict.
pub(crate) async fn save_text(app: &Arc<App>, actor: &Actor, edit: TextEdit) -> Result<EditOutcome, Rejection> {
    let (who, state_dir) = (name_of(actor), app.state_dir.clone());
    let done = blocking(app, move |main| {
        let attempt = |revision: &str| {
            let mut editor = TextEditor::open(main)?;
            edit.apply(&mut editor)?;
            editor.save(&SaveRequest {
                expected_revision: revision,
                who: &who,
                why: &edit.why,
            })
        };
        let saved = match attempt(&edit.revision) {
            Err(EditError::Conflict { found, .. })
                if edit.is_untouched(main, &Versions::in_state(main, &state_dir)) =>
            {
                attempt(&found)
            }
            other => other,
        };
        with_conflict(main, &state_dir, saved)
    });
    finish(app, done.await?).await
}

/// Refuses a name that no file of a configuration may have.
pub(crate) async fn expect_name(app: &Arc<App>, edit: TextEdit) -> Result<(), Rejection> {
    let done = blocking(app, move |main| edit.apply(&mut TextEditor::open(main)?));
    done.await?.or_reject()
}
