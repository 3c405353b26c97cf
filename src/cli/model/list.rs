//! `gridwatch model list`: what is there, what looks where, and what became of the rest.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{json, registry};
use crate::cli::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_config::Config;
use gridwatch_model::{
    Model,
    registry::{Known, Outcome, State, Verdict, Wanted, name},
    trial::Report,
};

/// Say which versions there are, which looks where and since when, and what was refused and why.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Say which versions there are, which looks where and since when, and what was refused and why.\n\n\
    Of versions that were tried or ran in the shadow it says where they differ from the one that looked."
)]
pub(super) struct Args {
    /// Print one JSON object a model.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    /// The configuration's.
    shipped: Shipped,
    /// What looks wherever no camera has a version of its own.
    live_version: String,
    /// A daemon runs on this state directory: what is wished is done now.
    daemon: bool,
    #[serde(flatten)]
    known: Known,
}

#[derive(Serialize)]
struct Shipped {
    /// `None` where its folder cannot be read.
    version: Option<String>,
    dir: PathBuf,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let registry = registry(config);
    let journal = registry.journal();
    let told = journal
        .read()
        .map_err(|e| Failure::new(Class::Transient, format!("{}: {e}", journal.path().display())))?;
    if !told.unreadable.is_empty() {
        let lines: Vec<String> = told.unreadable.iter().map(ToString::to_string).collect();
        eprintln!(
            "{}: lines that are none, or of a newer gridwatch, are passed over: {}",
            journal.path().display(),
            lines.join(", ")
        );
    }
    let state = State::of(&told.entries);
    let daemon = registry.is_watched();
    let mut text = String::new();
    for model in &config.models {
        let known = state.known(&model.id);
        let version = Model::load(&model.dir).map(|m| m.manifest().version.clone());
        let line = Line {
            id: &model.id,
            live_version: known
                .live(None)
                .or_else(|| version.as_ref().ok().cloned())
                .unwrap_or_default(),
            shipped: Shipped {
                version: version.ok(),
                dir: model.dir.clone(),
            },
            daemon,
            known,
        };
        if args.json {
            text += &json(&line)?;
        } else {
            table(&mut text, &line, &config.timezone);
        }
    }
    if !args.json && !daemon {
        text += "No daemon runs on this state directory: what is wished is done at its next start.\n";
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(text: &mut String, line: &Line<'_>, zone: &TimeZone) {
    let Line { id, shipped, known, .. } = line;
    let time = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{id}");
    let own = known
        .cameras
        .iter()
        .filter_map(|(camera, stack)| Some((camera, stack.last()?)));
    let looks = |version: Option<&str>| {
        let mut places: Vec<String> = Vec::new();
        if known.live(None).as_deref() == version {
            places.push(match known.live.last() {
                Some(live) => format!("looks since {}", time(live.since)),
                None => "looks".into(),
            });
        }
        let here = own.clone().filter(|(_, live)| live.version.as_deref() == version);
        places.extend(here.map(|(camera, live)| format!("looks at {camera} since {}", time(live.since))));
        places.join("; ")
    };
    let version = shipped.version.as_deref().unwrap_or("?");
    let _ = writeln!(text, "  {version:<12} {}  (the configuration's)", looks(None));
    for (version, installed) in &known.installed {
        let _ = write!(text, "  {version:<12} {}", looks(Some(version)));
        let _ = writeln!(text, "  installed {}", time(installed.at));
        outcome(text, known.outcomes.get(version), &time);
    }
    outcome(text, known.outcomes.get(name(&None)), &time);
    for wish in &known.wishes {
        let what = match &wish.what {
            Wanted::Use { version, .. } => format!("use {}", name(version)),
            Wanted::Rollback => "rollback".into(),
        };
        let since = match wish.trial_since {
            Some(at) => format!("on trial since {}", time(at)),
            None => "waits".into(),
        };
        let place = wish.camera.as_ref().map(|c| format!(" at {c}")).unwrap_or_default();
        let _ = writeln!(text, "  asked {}: {what}{place}; {since}", time(wish.at));
    }
    if let Some(shadow) = &known.shadow {
        let _ = writeln!(
            text,
            "  asked {}: {} in the shadow for {} looks",
            time(shadow.at),
            name(&shadow.version),
            shadow.looks
        );
    }
}

fn outcome(text: &mut String, outcome: Option<&Outcome>, time: &impl Fn(Timestamp) -> String) {
    let Some(outcome) = outcome else { return };
    let what = match outcome.verdict {
        Verdict::WentLive => "passed its trial",
        Verdict::Refused => "refused",
        Verdict::RolledBack => "taken back",
        Verdict::Shadowed => "ran in the shadow",
    };
    let colon = if outcome.reason.is_empty() { "" } else { ": " };
    let _ = writeln!(
        text,
        "               {} {what}{colon}{}",
        time(outcome.at),
        outcome.reason
    );
    if let Some(report) = &outcome.report {
        for line in differences(report) {
            let _ = writeln!(text, "               {line}");
        }
    }
}

/// A report in a few lines.
pub(super) fn differences(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{} looks, {} failed; median {:.1} ms, the running model {:.1} ms",
        report.looks, report.errors, report.new_ms.median, report.old_ms.median
    )];
    for (label, of) in &report.differences.labels {
        lines.push(format!(
            "{label}: both {}, only the running one {}, only the new one {}, score {:+.2}",
            of.both, of.only_old, of.only_new, of.mean_score_difference
        ));
    }
    lines
}
