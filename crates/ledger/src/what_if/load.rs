//! Loads the recorded inputs, judges them under the current configuration, and finds out which cases were really filed.

use std::{
    collections::BTreeSet,
    sync::{Arc, RwLock},
    thread,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    Task, WhatIf, WhatIfError, WhatIfRequest,
    clusters::Clusters,
    interference,
    judge::cores,
    run::RunRequest,
    score,
    table::{self, TableBuilder},
};
use crate::{
    LedgerError, Reader,
    replay::{Replay, ReplayedCase, Window},
};
use gridwatch_engine::{CaseId, Effect, LonLat};

/// Time that is read before what is reported, so that what was there already is known. A day covers the longest dwells.
const LEAD: SignedDuration = SignedDuration::from_hours(24);

impl WhatIf {
    /// Reads the ledger and judges it under the current configuration. Takes about as long as a replay; progress is reported. A second
    /// thread finds out which cases were really filed.
    ///
    /// # Errors
    /// [`WhatIfError`]; damage of the ledger is not an error, see [`WhatIf::damage`].
    pub fn load(request: &WhatIfRequest<'_>, task: Task<'_>) -> Result<Self, WhatIfError> {
        thread::scope(|scope| {
            let filed = scope.spawn(|| really_filed(request, task));
            let loaded = Self::load_table(request, task);
            let filed = filed.join().unwrap_or(Err(WhatIfError::Cancelled));
            let mut this = loaded?;
            let filed = filed?;
            let in_window = |at: Timestamp| request.window.contains(at);
            let opened = this
                .table
                .opened
                .iter()
                .filter(|(look, _)| in_window(this.table.looks[*look as usize].time()));
            let known: BTreeSet<&CaseId> = filed.iter().map(|(case, _)| &case.case_id).collect();
            this.filed_unknown = opened.filter(|(_, id)| !known.contains(id)).count();
            for (case, place) in filed {
                this.places.insert(case.case_id.clone(), place);
                if in_window(case.confirmed_at) {
                    this.filed.push(case);
                }
            }
            Ok(this)
        })
    }

    fn load_table(request: &WhatIfRequest<'_>, task: Task<'_>) -> Result<Self, WhatIfError> {
        let WhatIfRequest { plan, window, .. } = request;
        let mut reader = open(request)?;
        let mut builder = TableBuilder::new(plan, request.max_bytes);
        let mut count = 0_u32;
        while let Some(entry) = reader.next_entry()? {
            count = count.wrapping_add(1);
            if count.is_multiple_of(4096) {
                task.check()?;
            }
            if is_after(&entry.event, *window) {
                break;
            }
            builder.push(entry)?;
        }
        let table = builder.finish();
        let is_reported = |at: &Timestamp| window.contains(*at);
        let times = || table.looks.iter().map(table::LookRow::time).filter(is_reported);
        let (Some(first), Some(last)) = (times().next(), times().next_back()) else {
            return Err(WhatIfError::Empty);
        };
        let days = last.duration_since(first).as_secs_f64() / 86400.0;
        let all: BTreeSet<usize> = (0..plan.rules.len()).collect();
        let request = RunRequest {
            table: &table,
            plan,
            rules: &all,
            others: &[],
            finds_ready: true,
        };
        let clusters = Clusters::new(&table, plan);
        let progress = |share: f64| (task.progress)(0.5 + share / 2.0);
        let run = |is_whole| clusters.run(&request, is_whole, cores(), &task, &progress);
        let mut current = run(false)?;
        let are_caps_met = !interference::is_within_caps(plan, &current, &current, &all);
        if are_caps_met {
            current = run(true)?;
        }
        Ok(Self {
            plan: Arc::clone(plan),
            window: *window,
            places: current.places.clone(),
            platform: score::replies(table.others.iter().map(|record| &record.entry.event)),
            current,
            are_caps_met,
            clusters,
            filed: Vec::new(),
            filed_unknown: 0,
            people: RwLock::default(),
            damage: reader.damage().to_vec(),
            days: days.max(1.0 / 24.0),
            table,
        })
    }
}

fn open(request: &WhatIfRequest<'_>) -> Result<Reader, LedgerError> {
    let lead = |from: Timestamp| from.checked_sub(LEAD).unwrap_or(Timestamp::MIN);
    match request.window.from {
        Some(from) => Reader::open_near(request.ledger, lead(from)),
        None => Reader::open(request.ledger, None),
    }
}

fn is_after(event: &crate::RecordedEvent, window: Window) -> bool {
    let at = match event {
        crate::RecordedEvent::Observed(look) => Some(look.at),
        crate::RecordedEvent::Tick(at) => Some(*at),
        _ => None,
    };
    window.to.zip(at).is_some_and(|(to, at)| at >= to)
}

/// The cases that the live engine opened, as the configuration that held describes them.
fn really_filed(request: &WhatIfRequest<'_>, task: Task<'_>) -> Result<Vec<(ReplayedCase, LonLat)>, WhatIfError> {
    let mut reader = open(request)?;
    let mut replay = Replay::recorded(request.ledger, Window::default());
    let mut filed = Vec::new();
    let mut count = 0_u32;
    while let Some(entry) = reader.next_entry()? {
        count = count.wrapping_add(1);
        if count.is_multiple_of(4096) {
            task.check()?;
        }
        if is_after(&entry.event, request.window) {
            break;
        }
        let opened = entry.opened.clone();
        for effect in replay.apply(entry) {
            if let Effect::Open(case) = effect
                && opened.contains(&case.id)
            {
                filed.push((ReplayedCase::from(&*case), case.located.at));
            }
        }
    }
    Ok(filed)
}
