//! The System pages: each part has its own URL and its own lowest role.

mod audit;
mod log;
mod metrics;
mod models;
mod outbox;
mod support;

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use gridwatch_support::keys::KeyLocation;
use gridwatch_web::{Access, Actor, Rejection, Role, i18n::Phrase};
use jiff::Timestamp;

use crate::{
    access::CameraAccess as _,
    app::{App, Routes},
    page::Page,
    system::overview::{self, BudgetAnswer, ClockState, Overview},
};

pub(super) fn routes(routes: Routes) -> Routes {
    let routes = routes.get("/system", Access::Role(Role::Viewer), show);
    let routes = outbox::routes(routes);
    let routes = models::routes(routes);
    let routes = metrics::routes(routes);
    let routes = log::routes(routes);
    let routes = audit::routes(routes);
    support::routes(routes)
}

/// A link to a part.
struct PartLink {
    path: &'static str,
    name: Phrase,
    is_current: bool,
}

/// The parts that the user may see.
fn parts(app: &App, page: &Page) -> Vec<PartLink> {
    let t = &page.t.system;
    let sees_all = page
        .actor
        .as_ref()
        .is_some_and(|actor| actor.cameras(&app.config()).is_none());
    let current = page.path.split('?').next().unwrap_or_default();
    let all = [
        ("/system", t.overview, Role::Viewer),
        ("/system/outbox", t.outbox, Role::Operator),
        ("/system/models", t.models, Role::Operator),
        ("/system/metrics", t.metrics, Role::Operator),
        ("/system/log", t.log, Role::Admin),
        ("/system/audit", t.audit, Role::Admin),
        ("/system/support", t.support, Role::Admin),
    ];
    all.into_iter()
        .filter(|(path, _, role)| page.may(*role) && (sees_all || *path == "/system"))
        .map(|(path, name, _)| PartLink {
            path,
            name,
            is_current: path == current,
        })
        .collect()
}

/// A size for people: `1.5 GB`.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            let decimals = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// How long ago something was, in one unit.
fn ago(page: &Page, then: Timestamp) -> String {
    let minutes = Timestamp::now().duration_since(then).as_mins().max(0);
    let t = &page.t.system;
    let filled = match minutes {
        0..120 => t.minutes.with("n", minutes),
        120..2880 => t.hours.with("n", minutes / 60),
        _ => t.days.with("n", minutes / 1440),
    };
    filled.to_string()
}

struct DiskRow {
    name: String,
    size: String,
    files: u64,
}

struct CrashRow {
    at: String,
    camera: String,
    codec: String,
    size: String,
    cause: String,
}

#[derive(Template)]
#[template(path = "system.html")]
struct OverviewTemplate<'a> {
    page: &'a Page,
    parts: Vec<PartLink>,
    found: &'a Overview,
    configuration_since: String,
    started: String,
    clock: String,
    is_clock_good: bool,
    link: String,
    free: String,
    disk: Vec<DiskRow>,
    pictures: String,
    originals: String,
    signing_key: Phrase,
    originals_key: Phrase,
    rotations: Vec<Phrase>,
    crashes: Vec<CrashRow>,
}

fn place(page: &Page, place: KeyLocation) -> Phrase {
    let t = &page.t.system;
    match place {
        KeyLocation::StateDirectory => t.key_state_directory,
        KeyLocation::Token => t.key_token,
        KeyLocation::File => t.key_file,
        KeyLocation::Credential => t.key_credential,
    }
}

fn kept(page: &Page, budget: &BudgetAnswer, with_days: Phrase) -> String {
    match budget.days {
        Some(days) => with_days.with("days", days).with("size", size(budget.bytes)),
        None => page.t.system.keep_space.with("size", size(budget.bytes)),
    }
    .to_string()
}

async fn show(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    let found = overview::read(&app, &actor).await?;
    let t = &page.t.system;
    let clock = match found.clock {
        ClockState::Synchronised { offset_ms, error_ms } => t
            .clock_good
            .with("error", error_ms)
            .with("offset", offset_ms)
            .to_string(),
        ClockState::Unsynchronised => t.clock_bad.to_string(),
        ClockState::Unknown => t.clock_unknown.to_string(),
    };
    let link = match (found.link.connected, found.link.down_since) {
        (true, _) => t.connected.to_string(),
        (false, Some(at)) => t.disconnected.with("time", page.time(at)).to_string(),
        (false, None) => t.never_connected.to_string(),
    };
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| t.unknown.to_string(), size);
    let rotations = [
        (found.keys.is_signing_rotation_pending, t.rotation_signing),
        (found.keys.is_originals_rotation_pending, t.rotation_originals),
    ];
    let template = OverviewTemplate {
        parts: parts(&app, &page),
        configuration_since: page.time(found.configuration_since),
        started: found.started_at.map_or_else(
            || t.unknown.to_string(),
            |at| {
                let filled = t.running_for.with("time", page.time(at));
                filled.with("duration", ago(&page, at)).to_string()
            },
        ),
        clock,
        is_clock_good: matches!(found.clock, ClockState::Synchronised { .. }),
        link,
        free: t
            .free_of
            .with("free", bytes(found.disk.free_bytes))
            .with("total", bytes(found.disk.total_bytes))
            .to_string(),
        disk: found
            .disk
            .parts
            .iter()
            .map(|part| DiskRow {
                name: part.name.clone(),
                size: size(part.bytes),
                files: part.files,
            })
            .collect(),
        pictures: kept(&page, &found.retention.pictures, t.keep_days),
        originals: match &found.retention.originals {
            Some(budget) => kept(&page, budget, t.keep_originals),
            None => t.keep_none.to_string(),
        },
        signing_key: place(&page, found.keys.signing_key),
        originals_key: found.keys.originals_key.map_or(t.keep_none, |of| place(&page, of)),
        rotations: rotations
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, name)| name)
            .collect(),
        crashes: found
            .crashes
            .iter()
            .map(|crash| CrashRow {
                at: page.time(crash.at),
                camera: crash.camera.clone(),
                codec: crash.codec.clone(),
                size: size(crash.bytes as u64),
                cause: crash.cause.clone(),
            })
            .collect(),
        found: &found,
        page: &page,
    };
    page.show(&template)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_three_figures_at_most() {
        assert_eq!(
            [0, 999, 1500, 250_000, 12_345_678, 5_000_000_000_000].map(size),
            ["0 B", "999 B", "1.5 kB", "250 kB", "12.3 MB", "5.0 TB"]
        );
    }
}
