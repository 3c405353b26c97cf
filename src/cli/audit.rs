//! `gridwatch audit`: shows what persons did on the box, from its chain of custody, and checks the chain while it reads.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{
    Failure,
    options::{Point, StateArgs, point},
    terminal, written_to_stdout,
};
use gridwatch_base::text::{counted, printable};
use gridwatch_contract::When;
use gridwatch_custody::chain::{ActResult, AuditedLine, CustodyEvent, Details};
use gridwatch_store::{Store, StoreError};

/// Show what persons did on the box.
///
/// Lists the acts in the box's chain of custody, oldest first: opened originals, exports, keys, models, views, settings, and the
/// recovery of the database; who did what and when, and the result, also if it was refused or failed. Checks every link of the chain on
/// the way, so that a line that was changed, removed or moved is named. Works while the daemon runs. Times are in the city's
/// time zone, or in UTC as JSON. docs/audit.md says what is recorded, and what is not.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch audit --since 2026-05-01 --until 2026-06-01
  gridwatch audit --case 01JW… --json
  gridwatch audit --who wang

Exit codes: 0 the chain is intact; 1 it is not: the lines are named.")]
pub struct AuditArgs {
    /// Only what was done from this day or time on: 2026-05-01, in the city's time zone, or 2026-05-01T08:30:00+08:00.
    #[arg(long, value_name = "TIME", value_parser = point)]
    since: Option<Point>,
    /// Only what was done before this day or time.
    #[arg(long, value_name = "TIME", value_parser = point)]
    until: Option<Point>,
    /// Only what was done with this case; its id, or its first characters.
    #[arg(long = "case", value_name = "CASE_ID")]
    case: Option<String>,
    /// Only what this user did: a name or a user id, of the process, the login or the caller of sudo.
    #[arg(long, value_name = "USER")]
    who: Option<String>,
    /// Print JSON Lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

/// An act, as printed with `--json`.
#[derive(Serialize)]
struct Listed<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ActResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    case_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    originals: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<&'a str>,
    /// The user of a line of the first format.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(flatten)]
    details: Option<&'a Details>,
    /// The reason of a line of the first format.
    #[serde(rename = "reason", skip_serializing_if = "Option::is_none")]
    old_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    faults: &'a [String],
}

impl<'a> Listed<'a> {
    /// The act in a line; `None` if the line is sound and about no act of a person.
    fn of(line: &'a AuditedLine) -> Option<Self> {
        let mut listed = Self {
            seq: line.seq,
            at: line.at,
            hash: &line.hash,
            act: None,
            result: None,
            case_id: line.event.as_ref().and_then(CustodyEvent::case_id),
            originals: &[],
            public_key: None,
            by: None,
            details: line.details.as_ref(),
            old_reason: None,
            faults: &line.faults,
        };
        match &line.event {
            Some(CustodyEvent::Act { act, result, .. }) => {
                listed.act = Some(act);
                listed.result = Some(*result);
            }
            Some(CustodyEvent::Opened { sha256, by, reason, .. }) => {
                listed.act = Some("originals opened");
                listed.originals = sha256;
                listed.by = by.as_deref();
                listed.old_reason = reason.as_deref();
            }
            // Not always a person's act, but what a person has to see: the key that signs from here on.
            Some(CustodyEvent::Begun { public_key, .. }) => {
                listed.act = Some("chain begun with key");
                listed.public_key = Some(public_key);
            }
            Some(CustodyEvent::Key { public_key, .. }) => {
                listed.act = Some("key rotated to");
                listed.public_key = Some(public_key);
            }
            Some(CustodyEvent::Case { .. } | CustodyEvent::Deleted { .. }) | None if line.faults.is_empty() => {
                return None;
            }
            Some(CustodyEvent::Case { .. } | CustodyEvent::Deleted { .. }) | None => {}
        }
        Some(listed)
    }

    fn who(&self) -> String {
        match (self.details, self.by) {
            (Some(details), _) => details.who.describe(),
            (None, Some(by)) => by.to_owned(),
            (None, None) => "-".into(),
        }
    }

    fn is_by(&self, who: &str) -> bool {
        let is_named = self.details.is_some_and(|details| details.who.is(who));
        is_named
            || self
                .by
                .is_some_and(|by| by == who || by.strip_prefix("uid ") == Some(who))
    }

    fn write(&self, out: &mut impl Write, zone: &TimeZone) -> io::Result<()> {
        let at = self.at.map_or_else(|| "?".into(), |at| When::new(at, zone).to_string());
        writeln!(
            out,
            "{:>8}  {at:29}  {:20}  {:20}  {:8}  {}",
            self.seq,
            printable(&self.who()),
            printable(self.act.unwrap_or("?")),
            self.result.map_or("", ActResult::as_str),
            self.subject()
        )?;
        for fault in self.faults {
            writeln!(out, "{:>8}  WRONG: {}", "", printable(fault))?;
        }
        Ok(())
    }

    /// What was done to what, why, and why not.
    fn subject(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.case_id.map(|case| format!("case {}", printable(case))));
        parts.extend(self.public_key.map(printable));
        if !self.originals.is_empty() {
            parts.push(counted(self.originals.len(), "original", "originals"));
        }
        let reason = self
            .details
            .and_then(|details| details.reason.as_deref())
            .or(self.old_reason);
        if let Some(details) = self.details {
            let what = details.what.iter();
            parts.extend(what.map(|(name, value)| format!("{}={}", printable(name), printable(value))));
        }
        parts.extend(reason.map(|reason| format!("reason: {}", printable(reason))));
        let error = self.details.and_then(|details| details.error.as_deref());
        parts.extend(error.map(|error| format!("error: {}", printable(error))));
        parts.join("; ")
    }
}

/// The command ends because the chain or standard output fails.
enum AuditError {
    Store(StoreError),
    Print(io::Error),
}

impl From<StoreError> for AuditError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for AuditError {
    fn from(error: io::Error) -> Self {
        Self::Print(error)
    }
}

/// Runs the command.
///
/// # Errors
/// No state directory, or a database that cannot be read.
pub fn run(args: &AuditArgs) -> Result<ExitCode, Failure> {
    let located = args.state.locate()?;
    let store = Store::open_read_only(&located.dir)?;
    let zone = located.zone(&store)?;
    let since = args.since.map(|point| point.timestamp(&zone)).transpose()?;
    let until = args.until.map(|point| point.timestamp(&zone)).transpose()?;
    let mut out = BufWriter::new(terminal::stdout());
    let (mut broken, mut lines) = (0_usize, 0_usize);
    let read = store.read_chain(|line| {
        if lines == 0 && !args.json {
            writeln!(
                out,
                "{:>8}  {:29}  {:20}  {:20}  {:8}  WHAT",
                "LINE", "TIME", "WHO", "ACT", "RESULT"
            )?;
        }
        lines += 1;
        broken += usize::from(!line.faults.is_empty());
        let Some(listed) = Listed::of(&line) else {
            return Ok(());
        };
        // A broken line is named whatever was asked for.
        let is_asked_for = listed.act.is_some()
            && since.is_none_or(|since| listed.at.is_some_and(|at| at >= since))
            && until.is_none_or(|until| listed.at.is_some_and(|at| at < until))
            && args.who.as_deref().is_none_or(|who| listed.is_by(who))
            && args
                .case
                .as_deref()
                .is_none_or(|case| listed.case_id.is_some_and(|id| id.starts_with(case)));
        if !is_asked_for && listed.faults.is_empty() {
            return Ok(());
        }
        match args.json {
            true => writeln!(out, "{}", serde_json::to_string(&listed).map_err(io::Error::from)?)?,
            false => listed.write(&mut out, &zone)?,
        }
        Ok::<_, AuditError>(())
    });
    match read {
        Ok(()) => written_to_stdout(out.flush())?,
        Err(AuditError::Store(error)) => return Err(error.into()),
        Err(AuditError::Print(error)) => {
            written_to_stdout(Err(error))?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    if broken > 0 {
        let broken = counted(broken, "line is", "lines are");
        terminal::note(format_args!(
            "error: the chain of custody is broken: {broken} wrong. Compare it with the heads that the platform received (docs/audit.md)"
        ));
        return Ok(ExitCode::from(1));
    }
    if !args.json {
        terminal::note(format_args!(
            "{} of the chain read; all links hold.",
            counted(lines, "line", "lines")
        ));
    }
    Ok(ExitCode::SUCCESS)
}
