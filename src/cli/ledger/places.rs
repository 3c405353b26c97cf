//! `gridwatch ledger places`: finds where goods and tables stand on most days at similar hours, and proposes permitted zones.

mod proposal;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use self::proposal::{CaseHere, Proposals};
use crate::cli::{Failure, json_line, print, replay::quarantine};
use gridwatch_base::error::Class;
use gridwatch_config::{self as config, Config};
use gridwatch_engine::{CameraId, Rule, RuleId};
use gridwatch_ledger::{
    Reader,
    places::{MAX_DAYS, PlaceFinder, RegularPlace, Regularity, is_about_goods},
};
use gridwatch_store::{Filter, Store};

/// Propose permitted zones where things stand on most days.
///
/// A café that sets out its tables every morning looks like a vendor. This command reads the ledger and finds, for each view, the
/// places where the objects of a rule stood at similar hours on at least 5 days and on 60 % of the workdays or rest days. For each
/// it prints a schedule and a `permitted` zone to paste into the configuration, with the days and the cases that speak for it.
///
/// It looks at rules that need an attendant (`attended`) and at those of the categories 0501 and 0504. Ground that the rule does
/// not watch, or that is permitted at that time already, is left out. A place where the platform accepted a case in that time is
/// named, but no zone is proposed. Whether the tables are lawful cannot be seen: check each proposal before you paste it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch ledger places --config /etc/gridwatch/edge.toml > places.toml
  gridwatch ledger places --config /etc/gridwatch/edge.toml --camera gate-east --days 28

It runs while the daemon runs and changes nothing. It needs the ledger and the cases of this box (state_dir).

Exit codes: 0 searched (even if there is nothing to propose); 3 the configuration is faulty, or has no ledger or such rules; 5 the
store cannot be read.")]
pub(super) struct LedgerPlacesArgs {
    /// Configuration that the daemon runs with.
    #[arg(long, short, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    config: PathBuf,
    /// Only this camera, with all its presets.
    #[arg(long, value_name = "ID")]
    camera: Option<String>,
    /// Length of the period in days, back from the newest look; limited by ledger.keep_days.
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(5..=i64::from(MAX_DAYS)))]
    days: u32,
    /// Print JSON Lines, one for each place.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &LedgerPlacesArgs) -> Result<ExitCode, Failure> {
    let config = config::load_offline(&args.config)?;
    let Some(ledger) = &config.ledger else {
        let message = "the configuration has no ledger, which holds what stood where; set ledger.enabled";
        return Err(Failure::new(Class::Config, message));
    };
    let views = views(&config, args.camera.as_deref())?;
    let rules = rules(&config)?;
    // Before the long search, so that a missing store is told at once.
    let store = Store::open_read_only(&config.state_dir)?;
    let places = find(&config, &ledger.dir, rules, views, args.days)?;
    let mut proposals = Proposals::new(&config);
    let mut text = String::new();
    for place in &places {
        let cases = cases_at(&store, &config, place)?;
        let proposal = proposals.propose(place, &cases);
        text += &match args.json {
            true => json_line(&proposal)?,
            false => proposal.to_string(),
        };
    }
    if places.is_empty() && !args.json {
        text = format!(
            "# No place where things stood regularly in the last {} days of the ledger.\n",
            args.days
        );
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn views(config: &Config, camera: Option<&str>) -> Result<BTreeSet<CameraId>, Failure> {
    let is_wanted = |c: &&config::Camera| camera.is_none_or(|id| c.id.as_str() == id);
    let cameras = config.cameras.iter().filter(is_wanted);
    let views: BTreeSet<CameraId> = cameras.flat_map(|c| &c.presets).map(|p| p.view.clone()).collect();
    if views.is_empty() {
        let ids: Vec<&str> = config.cameras.iter().map(|c| c.id.as_str()).collect();
        let message = format!(
            "--camera: no camera has the id {:?}; the configuration has {}",
            camera.unwrap_or_default(),
            ids.join(", ")
        );
        return Err(Failure::new(Class::Config, message));
    }
    Ok(views)
}

fn rules(config: &Config) -> Result<Vec<Rule>, Failure> {
    let rules: Vec<Rule> = config
        .plan
        .rules
        .iter()
        .filter(|rule| is_about_goods(rule))
        .cloned()
        .collect();
    if rules.is_empty() {
        let message = "rules: none is about goods or tables (`attended`, or category 0501 or 0504), so there is nothing to permit";
        return Err(Failure::new(Class::Config, message));
    }
    Ok(rules)
}

/// Streams the ledger through the search.
fn find(
    config: &Config,
    ledger: &Path,
    rules: Vec<Rule>,
    views: BTreeSet<CameraId>,
    days: u32,
) -> Result<Vec<RegularPlace>, Failure> {
    let wanted = Regularity {
        days,
        ..Regularity::default()
    };
    let mut finder = PlaceFinder::new(&config.plan, rules, views, wanted);
    let mut reader = Reader::open(ledger, None)?;
    while let Some(entry) = reader.next_entry()? {
        finder.add(&entry.event);
    }
    reader.damage().iter().for_each(quarantine);
    Ok(finder.finish())
}

/// The cases that were filed at a place in its period, under whatever rule.
fn cases_at(store: &Store, config: &Config, place: &RegularPlace) -> Result<Vec<CaseHere>, Failure> {
    let all = Filter {
        state: None,
        limit: u32::MAX,
    };
    let date = |at: jiff::Timestamp| at.to_zoned(config.timezone.clone()).date();
    let (first, last) = place.period;
    let mut cases = Vec::new();
    for case in store.cases(all)? {
        let day = date(case.confirmed_at.timestamp());
        // An evening that ends after midnight belongs to the day before.
        if day < first || last.tomorrow().is_ok_and(|end| day > end) {
            continue;
        }
        let Some(record) = store.case(&case.case_id)?.map(|f| f.record) else {
            continue;
        };
        if record.bbox().is_some_and(|bbox| place.has(&record.view(), &bbox)) {
            cases.push(CaseHere {
                rule: RuleId::from(record.rule.id.as_str()),
                day,
                states: record.states().collect(),
                case_id: case.case_id,
            });
        }
    }
    Ok(cases)
}
