//! Reads cases and their pictures from the store, off the async threads and a few at a time.

use std::{collections::BTreeMap, sync::Arc};

use gridwatch_contract::{CaseRecord, EvidenceItem};
use gridwatch_store::{CaseCheck, CaseFile, CaseQuery, CellCount, Review, Store, evidence_file};
use gridwatch_web::{Actor, Rejection};
use tokio::task;

use crate::{access::CameraAccess as _, app::App, error::OrReject as _};

/// Opens the store and reads. Opening takes a fraction of a millisecond, and finds the database that is there now, if it was replaced.
pub(crate) async fn read<T: Send + 'static>(
    app: &Arc<App>,
    read: impl FnOnce(&Store) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let place = Arc::clone(&app.readers).acquire_owned().await;
    let place = place.map_err(|error| Rejection::internal(&error))?;
    let dir = app.state_dir.clone();
    let done = task::spawn_blocking(move || {
        let found = Store::open_read_only(&dir).or_reject().and_then(|store| read(&store));
        drop(place);
        found
    });
    done.await.map_err(|error| Rejection::internal(&error))?
}

/// Restricts a query to the cameras that the user may see.
fn restrict(app: &App, actor: &Actor, query: CaseQuery) -> CaseQuery {
    let Some(seen) = actor.cameras(&app.config()) else {
        return query;
    };
    let cameras = match query.cameras {
        None => seen,
        Some(asked) => asked.into_iter().filter(|camera| seen.contains(camera)).collect(),
    };
    CaseQuery {
        cameras: Some(cameras),
        ..query
    }
}

/// The newest cases that match and that the user may see.
pub(crate) async fn list(app: &Arc<App>, actor: &Actor, query: CaseQuery) -> Result<Vec<CaseRecord>, Rejection> {
    let query = restrict(app, actor, query);
    match read(app, move |store| store.find_cases(&query).or_reject()).await {
        // Before the daemon's first start there is no database.
        Err(Rejection::NotFound) => Ok(Vec::new()),
        found => found,
    }
}

/// How many of the cases that match and that the user may see are in each cell; most first, at most `query.limit` cells.
pub(crate) async fn count_by_cell(
    app: &Arc<App>,
    actor: &Actor,
    query: CaseQuery,
) -> Result<Vec<CellCount>, Rejection> {
    let query = restrict(app, actor, query);
    match read(app, move |store| store.count_by_cell(&query).or_reject()).await {
        Err(Rejection::NotFound) => Ok(Vec::new()),
        found => found,
    }
}

/// Everything about one case.
pub(crate) async fn find(app: &Arc<App>, actor: &Actor, id: &str) -> Result<CaseFile, Rejection> {
    let seen = actor.cameras(&app.config());
    let id = id.to_owned();
    read(app, move |store| {
        let case = store.case(&id).or_reject()?.ok_or(Rejection::NotFound)?;
        let is_seen = seen.is_none_or(|seen| seen.contains(&case.record.camera.local_id));
        // Not "forbidden": whether there is such a case is not for others to know.
        if is_seen { Ok(case) } else { Err(Rejection::NotFound) }
    })
    .await
}

/// The records of those of the cases that are in the store and that the user may see.
pub(crate) async fn records(
    app: &Arc<App>,
    actor: &Actor,
    ids: Vec<String>,
) -> Result<BTreeMap<String, CaseRecord>, Rejection> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let seen = actor.cameras(&app.config());
    let found = read(app, move |store| {
        let mut records = BTreeMap::new();
        for id in ids {
            let Some(case) = store.case(&id).or_reject()? else {
                continue;
            };
            if seen
                .as_ref()
                .is_none_or(|seen| seen.contains(&case.record.camera.local_id))
            {
                records.insert(id, case.record);
            }
        }
        Ok(records)
    });
    match found.await {
        // Before the daemon's first start there is no database.
        Err(Rejection::NotFound) => Ok(BTreeMap::new()),
        found => found,
    }
}

/// The picture that stands for a case in a list: masked, its object large if there is such a one.
pub(crate) fn masked_picture(record: &CaseRecord) -> Option<&EvidenceItem> {
    let mut masked = record.evidence.iter().filter(|item| item.masked);
    let closeup = masked.clone().find(|item| item.role.as_str() == "closeup");
    closeup.or_else(|| masked.next())
}

/// Refuses what is about a case that is not there, or that the user may not see.
pub(crate) async fn expect(app: &Arc<App>, actor: &Actor, id: &str) -> Result<(), Rejection> {
    find(app, actor, id).await.map(drop)
}

/// The reviews of a case that the user was found to see.
pub(crate) async fn reviews_of(app: &Arc<App>, id: &str) -> Result<Vec<Review>, Rejection> {
    let id = id.to_owned();
    read(app, move |store| store.reviews_of(&id).or_reject()).await
}

/// Checks what is stored of a case that the user was found to see. One at a time: it reads the chain, which can have tens of MB.
pub(crate) async fn check(app: &Arc<App>, id: &str) -> Result<CaseCheck, Rejection> {
    let place = app.checks.acquire().await;
    let _place = place.map_err(|error| Rejection::internal(&error))?;
    let id = id.to_owned();
    read(app, move |store| {
        store.check_case(&id).or_reject()?.ok_or(Rejection::NotFound)
    })
    .await
}

/// A picture of a case, if it is still there and as it was recorded.
pub(crate) async fn picture(app: &Arc<App>, sha256: String) -> Result<Vec<u8>, PictureFault> {
    let dir = app.state_dir.clone();
    let done = task::spawn_blocking(move || evidence_file::read(&dir, &sha256)).await;
    match done {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::InvalidData => Err(PictureFault::Changed),
        _ => Err(PictureFault::Gone),
    }
}

/// Why a case's picture cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PictureFault {
    /// Deleted for its age, or missing.
    Gone,
    /// Not what was recorded.
    Changed,
}
