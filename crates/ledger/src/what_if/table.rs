//! The recorded inputs of some days in a compact form. What no rule can use is left out: detections under labels that no rule names,
//! and persons and other things beside objects in looks without an object.

use std::{collections::BTreeMap, mem::size_of};

use jiff::{SignedDuration, Timestamp};

use super::WhatIfError;
use crate::{Entry, FileHead, RecordedEvent};
use gridwatch_engine::{
    AdvertText, Appearance, BBox, CameraId, CaseId, Detection, Label, Light, Newness, Observation, PhoneNumber, Plan,
    Rule, SecondLookScore, TextReading, View,
};

/// Stands for "none" in the index of a column.
const NONE: u32 = u32::MAX;

/// One look.
#[derive(Debug, Clone, Copy)]
pub(super) struct LookRow {
    /// Nanoseconds since 1970.
    at: i64,
    /// The labels of rules' objects in it, one bit each; from the 64th label on, all bits.
    pub(super) labels: u64,
    /// Index of its first detection; they end where those of the next look begin.
    first: u32,
    pub(super) camera: u16,
    /// Index of the labels that it did not search for.
    pub(super) not_searched: u16,
    pub(super) view: View,
    pub(super) light: Light,
}

#[derive(Debug, Clone, Copy)]
struct DetectionRow {
    score: f32,
    bbox: BBox,
    /// New and still share of the box. When it appeared is not kept: the engine does not ask.
    newness: Option<f32>,
    /// Index into `rare`, or [`NONE`].
    rare: u32,
    label: u16,
    has_appearance: bool,
    appearance: [u8; 12],
}

/// What few detections have.
#[derive(Debug, Clone, Default)]
struct RareFields {
    number: Option<PhoneNumber>,
    text: Option<(AdvertText, f32)>,
    second_looks: Vec<SecondLookScore>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct LookTable {
    pub(super) cameras: Vec<CameraId>,
    labels: Vec<Label>,
    pub(super) not_searched: Vec<Vec<Label>>,
    pub(super) looks: Vec<LookRow>,
    detections: Vec<DetectionRow>,
    rare: Vec<RareFields>,
    /// Records that are not looks, in order.
    pub(super) others: Vec<OtherRecord>,
    /// Cases that the live engine opened, at the look with this index.
    pub(super) opened: Vec<(u32, CaseId)>,
    other_bytes: usize,
}

/// A record that is not a look.
#[derive(Debug)]
pub(super) struct OtherRecord {
    /// Index of the look before which it was recorded.
    pub(super) look: u32,
    /// The time of the engine before it: that of the newest record that has one, of whatever camera.
    pub(super) now: Option<Timestamp>,
    pub(super) entry: Entry,
}

/// Looks that are older than their camera's newest by less are late, and do not set the engine's time.
const CLOCK_SET_BACK: SignedDuration = SignedDuration::from_mins(1);

/// Fills a [`LookTable`].
#[derive(Debug)]
pub(super) struct TableBuilder<'a> {
    plan: &'a Plan,
    now: Option<Timestamp>,
    run: Option<(Timestamp, String)>,
    newest: BTreeMap<CameraId, Timestamp>,
    table: LookTable,
    cameras: BTreeMap<CameraId, u16>,
    labels: BTreeMap<Label, u16>,
    sets: BTreeMap<Vec<Label>, u16>,
    /// Labels of a rule's objects, and those that matter beside them.
    rules: Vec<(Vec<Label>, Vec<Label>)>,
    limit: usize,
}

/// The labels that matter to a rule beside its objects.
pub(super) fn labels_beside(rule: &Rule) -> Vec<Label> {
    let attendants = rule.attended.iter().flat_map(|by| &by.labels);
    let except = rule.except_labels.iter().flat_map(|except| &except.labels);
    attendants.chain(except).cloned().collect()
}

impl<'a> TableBuilder<'a> {
    /// A table for the rules of a plan of at most about `limit` bytes.
    pub(super) fn new(plan: &'a Plan, limit: usize) -> Self {
        let rules = &plan.rules;
        Self {
            plan,
            now: None,
            run: None,
            newest: BTreeMap::new(),
            table: LookTable {
                not_searched: vec![Vec::new()],
                ..LookTable::default()
            },
            cameras: BTreeMap::new(),
            labels: BTreeMap::new(),
            sets: BTreeMap::from([(Vec::new(), 0)]),
            rules: rules.iter().map(|r| (r.labels.clone(), labels_beside(r))).collect(),
            limit,
        }
    }

    /// Adds a record.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), WhatIfError> {
        let index = u32::try_from(self.table.looks.len()).map_err(|_| WhatIfError::TooLarge { limit: self.limit })?;
        match entry.event {
            RecordedEvent::Observed(look) => {
                self.table.opened.extend(entry.opened.into_iter().map(|id| (index, id)));
                self.date(&look);
                self.look(look)?;
            }
            event => {
                // A snapshot has about 600 bytes for each object; a case has about 400.
                self.table.other_bytes += match &event {
                    RecordedEvent::Resumed(resumed) => 1000 + 1000 * resumed.pictures.len(),
                    RecordedEvent::Tick(_) => 0,
                    _ => 400,
                } + size_of::<OtherRecord>();
                let (now, opened) = (self.now, entry.opened);
                self.now = match &event {
                    // A new engine; what follows sets its time.
                    RecordedEvent::Head(head) if !self.is_same_run(head) => None,
                    RecordedEvent::Head(_) => now,
                    event => crate::replay::time_of(event).or(now),
                };
                let entry = Entry { event, opened };
                self.table.others.push(OtherRecord {
                    look: index,
                    now,
                    entry,
                });
            }
        }
        match self.table.bytes() > self.limit {
            true => Err(WhatIfError::TooLarge { limit: self.limit }),
            false => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> LookTable {
        self.table.looks.shrink_to_fit();
        self.table.detections.shrink_to_fit();
        self.table
    }

    fn is_same_run(&mut self, head: &FileHead) -> bool {
        let run = (head.started_at, head.boot.clone());
        self.run.replace(run.clone()) == Some(run)
    }

    /// Follows the engine's time.
    fn date(&mut self, look: &Observation) {
        if !self.plan.cameras.contains_key(&look.camera) {
            return;
        }
        match self.newest.get_mut(&look.camera) {
            Some(newest) if look.at <= *newest && newest.duration_since(look.at) < CLOCK_SET_BACK => {}
            Some(newest) => (*newest, self.now) = (look.at, Some(look.at)),
            None => {
                self.newest.insert(look.camera.clone(), look.at);
                self.now = Some(look.at);
            }
        }
    }

    fn look(&mut self, look: Observation) -> Result<(), WhatIfError> {
        let too_large = WhatIfError::TooLarge { limit: self.limit };
        let Ok(at) = i64::try_from(look.at.as_nanosecond()) else {
            // Outside 1677 to 2262; no clock that the filing gate lets through shows it.
            return Ok(());
        };
        let names = u16::MAX.into();
        if self.cameras.len() >= names || self.labels.len() >= names || self.sets.len() >= names {
            return Err(too_large);
        }
        let camera = intern(&mut self.cameras, &mut self.table.cameras, &look.camera);
        let not_searched = intern(&mut self.sets, &mut self.table.not_searched, &look.not_searched);
        let first = u32::try_from(self.table.detections.len()).map_err(|_| too_large)?;
        let is_used = |detection: &Detection| {
            self.rules.iter().any(|(objects, beside)| {
                objects.contains(&detection.label)
                    || (beside.contains(&detection.label) && look.detections.iter().any(|d| objects.contains(&d.label)))
            })
        };
        let used: Vec<bool> = look.detections.iter().map(is_used).collect();
        let mut labels = 0;
        for (detection, _) in look.detections.into_iter().zip(used).filter(|(_, used)| *used) {
            let is_object = self.rules.iter().any(|(objects, _)| objects.contains(&detection.label));
            let label = intern(&mut self.labels, &mut self.table.labels, &detection.label);
            if is_object {
                labels |= bit(label);
            }
            self.detection(label, detection);
        }
        self.table.looks.push(LookRow {
            at,
            labels,
            first,
            camera,
            not_searched,
            view: look.view,
            light: look.light,
        });
        Ok(())
    }

    fn detection(&mut self, label: u16, detection: Detection) {
        let Detection {
            score,
            bbox,
            appearance,
            number,
            text,
            second_looks,
            newness,
            ..
        } = detection;
        let table = &mut self.table;
        let is_rare = number.is_some() || text.is_some() || !second_looks.is_empty();
        let rare = if is_rare {
            table.rare.push(RareFields {
                number,
                text: text.map(|t| (t.text, t.score)),
                second_looks,
            });
            table.rare.len() as u32 - 1
        } else {
            NONE
        };
        table.detections.push(DetectionRow {
            score,
            bbox,
            newness: newness.map(|n| n.share),
            rare,
            label,
            has_appearance: appearance.is_some(),
            appearance: appearance.map_or([0; 12], |a| a.0),
        });
    }
}

fn bit(label: u16) -> u64 {
    match label {
        0..64 => 1 << label,
        _ => u64::MAX,
    }
}

fn intern<T: Ord + Clone>(numbers: &mut BTreeMap<T, u16>, all: &mut Vec<T>, value: &T) -> u16 {
    if let Some(number) = numbers.get(value) {
        return *number;
    }
    let number = all.len() as u16;
    all.push(value.clone());
    numbers.insert(value.clone(), number);
    number
}

impl LookRow {
    pub(super) fn time(&self) -> Timestamp {
        // It was a timestamp.
        Timestamp::from_nanosecond(self.at.into()).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn nanosecond(&self) -> i64 {
        self.at
    }
}

impl LookTable {
    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.looks.len() * size_of::<LookRow>()
            + self.detections.len() * size_of::<DetectionRow>()
            + self.rare.len() * (size_of::<RareFields>() + 100)
            + self.other_bytes
    }

    /// The bits of the labels that are among `labels`.
    pub(super) fn bits<'a>(&self, labels: impl IntoIterator<Item = &'a Label>) -> u64 {
        let number = |label: &Label| self.labels.iter().position(|known| known == label);
        let numbers = labels.into_iter().filter_map(number);
        numbers.fold(0, |bits, number| bits | bit(number as u16))
    }

    /// The detections of the look with this index that are used, with labels of `labels` in the place of the table's.
    pub(super) fn detections(
        &self,
        index: usize,
        is_used: &[bool],
        labels: &[Label],
    ) -> impl Iterator<Item = Detection> {
        let row = &self.looks[index];
        let end = self
            .looks
            .get(index + 1)
            .map_or(self.detections.len(), |next| next.first as usize);
        let detections = self.detections[row.first as usize..end].iter();
        let used = detections.filter(|d| is_used[usize::from(d.label)]);
        used.map(|d| self.detection(d, &labels[usize::from(d.label)]))
    }

    /// The labels of its detections.
    pub(super) fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// For each label whether it is among `labels`.
    pub(super) fn is_among(&self, labels: &[Label]) -> Vec<bool> {
        self.labels.iter().map(|label| labels.contains(label)).collect()
    }

    fn detection(&self, row: &DetectionRow, label: &Label) -> Detection {
        let rare = self.rare.get(row.rare as usize);
        Detection {
            label: label.clone(),
            score: row.score,
            bbox: row.bbox,
            appearance: row.has_appearance.then_some(Appearance(row.appearance)),
            number: rare.and_then(|r| r.number.clone()),
            text: rare
                .and_then(|r| r.text.clone())
                .map(|(text, score)| TextReading { text, score }),
            second_looks: rare.map_or(Vec::new(), |r| r.second_looks.clone()),
            newness: row.newness.map(|share| Newness { share, since: None }),
        }
    }
}
