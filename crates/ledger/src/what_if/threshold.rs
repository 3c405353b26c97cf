//! The numeric thresholds of a rule: their names in the configuration, ranges, and values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use gridwatch_engine::Rule;

/// A numeric threshold of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is documented at the field of `Rule` that it changes")]
pub enum Threshold {
    StartScore,
    KeepScore,
    NightStartScore,
    NightKeepScore,
    NewStartScore,
    NewKeepScore,
    OldStartScore,
    SecondLook,
    ExceptScore,
    Dwell,
    UnidentifiedDwell,
    SeenN,
    SeenM,
    PresentShare,
    MaxMove,
    MaxMoveM,
    MinArea,
    MinAreaM2,
    MinCount,
    Gather,
    AttendedWithin,
    AttendedShare,
    AttendedMinSize,
    ForgetAfter,
    MaxGap,
    MergeRadiusM,
}

/// Range of a threshold, in its unit: a score or share 0..=1, seconds, metres, square metres, looks, boxes or diagonals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ThresholdRange {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Useful step between values.
    pub step: f64,
    /// Only whole numbers.
    pub is_whole: bool,
}

/// Why a value cannot be set.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    /// Outside the range.
    #[error("{} = {value}: out of range; use {} to {}", .threshold.as_str(), .range.min, .range.max)]
    OutOfRange {
        /// The threshold.
        threshold: Threshold,
        /// The value.
        value: f64,
        /// Its range.
        range: ThresholdRange,
    },
    /// The rule does not have it.
    #[error("rule {rule} has no {}; configure it first", .threshold.as_str())]
    Absent {
        /// The threshold.
        threshold: Threshold,
        /// The rule.
        rule: String,
    },
}

impl Threshold {
    /// Every threshold.
    pub const ALL: [Self; 26] = [
        Self::StartScore,
        Self::KeepScore,
        Self::NightStartScore,
        Self::NightKeepScore,
        Self::NewStartScore,
        Self::NewKeepScore,
        Self::OldStartScore,
        Self::SecondLook,
        Self::ExceptScore,
        Self::Dwell,
        Self::UnidentifiedDwell,
        Self::SeenN,
        Self::SeenM,
        Self::PresentShare,
        Self::MaxMove,
        Self::MaxMoveM,
        Self::MinArea,
        Self::MinAreaM2,
        Self::MinCount,
        Self::Gather,
        Self::AttendedWithin,
        Self::AttendedShare,
        Self::AttendedMinSize,
        Self::ForgetAfter,
        Self::MaxGap,
        Self::MergeRadiusM,
    ];

    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartScore => "start_score",
            Self::KeepScore => "keep_score",
            Self::NightStartScore => "night_start_score",
            Self::NightKeepScore => "night_keep_score",
            Self::NewStartScore => "new_start_score",
            Self::NewKeepScore => "new_keep_score",
            Self::OldStartScore => "old_start_score",
            Self::SecondLook => "second_look",
            Self::ExceptScore => "except_score",
            Self::Dwell => "dwell",
            Self::UnidentifiedDwell => "unidentified_dwell",
            Self::SeenN => "seen_n",
            Self::SeenM => "seen_m",
            Self::PresentShare => "present_share",
            Self::MaxMove => "max_move",
            Self::MaxMoveM => "max_move_m",
            Self::MinArea => "min_area",
            Self::MinAreaM2 => "min_area_m2",
            Self::MinCount => "min_count",
            Self::Gather => "gather",
            Self::AttendedWithin => "attended_within",
            Self::AttendedShare => "attended_share",
            Self::AttendedMinSize => "attended_min_size",
            Self::ForgetAfter => "forget_after",
            Self::MaxGap => "max_gap",
            Self::MergeRadiusM => "merge_radius_m",
        }
    }

    /// The threshold with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == name)
    }

    /// Its range. Durations are in seconds.
    pub fn range(self) -> ThresholdRange {
        let range = |min, max, step| ThresholdRange {
            min,
            max,
            step,
            is_whole: false,
        };
        match self {
            Self::SeenN | Self::SeenM => ThresholdRange {
                is_whole: true,
                ..range(1.0, 64.0, 1.0)
            },
            Self::MinCount => ThresholdRange {
                is_whole: true,
                ..range(1.0, 20.0, 1.0)
            },
            Self::Dwell | Self::UnidentifiedDwell | Self::ForgetAfter | Self::MaxGap => range(1.0, 7.0 * 86400.0, 30.0),
            Self::MaxMove | Self::Gather | Self::AttendedWithin => range(0.0, 10.0, 0.05),
            Self::MaxMoveM | Self::MergeRadiusM => range(0.0, 1000.0, 0.5),
            Self::MinAreaM2 => range(0.0, 1000.0, 0.05),
            Self::MinArea => range(0.0, 1.0, 0.0005),
            Self::AttendedMinSize => range(0.0, 100.0, 0.05),
            _ => range(0.0, 1.0, 0.05),
        }
    }

    /// Its value in `rule`, in seconds for durations; `None` if the rule does not have it.
    pub fn get(self, rule: &Rule) -> Option<f64> {
        let appeared = rule.appeared;
        let seconds = |d: Duration| Some(d.as_secs_f64());
        let float = |x: f32| Some(exact(x));
        match self {
            Self::StartScore => float(rule.day.start),
            Self::KeepScore => float(rule.day.keep),
            Self::NightStartScore => float(rule.night.start),
            Self::NightKeepScore => float(rule.night.keep),
            Self::NewStartScore => float(appeared?.new_start),
            Self::NewKeepScore => float(appeared?.new_keep?),
            Self::OldStartScore => float(appeared?.old_start?),
            Self::SecondLook => float(rule.second_look?),
            Self::ExceptScore => float(rule.except_labels.as_ref()?.score),
            Self::Dwell => seconds(rule.dwell),
            Self::UnidentifiedDwell => seconds(rule.unidentified_dwell?),
            Self::SeenN => Some(rule.seen_n.into()),
            Self::SeenM => Some(rule.seen_m.into()),
            Self::PresentShare => float(rule.present_share),
            Self::MaxMove => float(rule.max_move),
            Self::MaxMoveM => rule.max_move_m,
            Self::MinArea => float(rule.min_area),
            Self::MinAreaM2 => rule.min_area_m2,
            Self::MinCount => Some(rule.min_count?.into()),
            Self::Gather => float(rule.gather),
            Self::AttendedWithin => float(rule.attended.as_ref()?.within),
            Self::AttendedShare => float(rule.attended.as_ref()?.share),
            Self::AttendedMinSize => float(rule.attended.as_ref()?.min_size),
            Self::ForgetAfter => seconds(rule.forget_after),
            Self::MaxGap => seconds(rule.max_gap),
            Self::MergeRadiusM => Some(rule.merge_radius_m),
        }
    }

    /// Sets it in `rule`. Another threshold that would contradict the value is moved with it: a keep score is lowered to a start score
    /// below it, `seen_n` to `seen_m`, and so on; where day and night scores were equal they stay equal.
    ///
    /// # Errors
    /// [`ThresholdError`]; the rule is unchanged.
    pub fn set(self, rule: &mut Rule, value: f64) -> Result<(), ThresholdError> {
        let range = self.range();
        let is_valid = (range.min..=range.max).contains(&value) && (!range.is_whole || value.fract() == 0.0);
        if !is_valid {
            return Err(ThresholdError::OutOfRange {
                threshold: self,
                value,
                range,
            });
        }
        if self.get(rule).is_none() {
            return Err(ThresholdError::Absent {
                threshold: self,
                rule: rule.id.to_string(),
            });
        }
        let (score, seconds, whole) = (value as f32, Duration::from_secs_f64(value), value as u32);
        let has_one_light = rule.day == rule.night;
        match self {
            Self::StartScore => rule.day.start = score,
            Self::KeepScore => rule.day.keep = score,
            Self::NightStartScore => rule.night.start = score,
            Self::NightKeepScore => rule.night.keep = score,
            Self::Dwell => rule.dwell = seconds,
            Self::UnidentifiedDwell => rule.unidentified_dwell = Some(seconds.max(rule.dwell)),
            Self::SeenN => rule.seen_n = whole,
            Self::SeenM => rule.seen_m = whole,
            Self::PresentShare => rule.present_share = score,
            Self::MaxMove => rule.max_move = score,
            Self::MaxMoveM => rule.max_move_m = Some(value),
            Self::MinArea => rule.min_area = score,
            Self::MinAreaM2 => rule.min_area_m2 = Some(value),
            Self::MinCount => rule.min_count = Some(whole),
            Self::Gather => rule.gather = score,
            Self::SecondLook => rule.second_look = Some(score),
            Self::ForgetAfter => rule.forget_after = seconds,
            Self::MaxGap => rule.max_gap = seconds,
            Self::MergeRadiusM => rule.merge_radius_m = value,
            Self::NewStartScore | Self::NewKeepScore | Self::OldStartScore => self.set_appeared(rule, score),
            Self::ExceptScore | Self::AttendedWithin | Self::AttendedShare | Self::AttendedMinSize => {
                self.set_beside(rule, score);
            }
        }
        match self {
            Self::StartScore | Self::NightStartScore => {
                rule.day.keep = rule.day.keep.min(rule.day.start);
                rule.night.keep = rule.night.keep.min(rule.night.start);
            }
            Self::KeepScore | Self::NightKeepScore => {
                rule.day.start = rule.day.start.max(rule.day.keep);
                rule.night.start = rule.night.start.max(rule.night.keep);
            }
            Self::SeenN => rule.seen_m = rule.seen_m.max(whole),
            Self::SeenM => rule.seen_n = rule.seen_n.min(whole),
            Self::Dwell => rule.unidentified_dwell = rule.unidentified_dwell.map(|d| d.max(seconds)),
            _ => {}
        }
        if has_one_light {
            match self {
                Self::StartScore | Self::KeepScore => rule.night = rule.day,
                Self::NightStartScore | Self::NightKeepScore => rule.day = rule.night,
                _ => {}
            }
        }
        Ok(())
    }

    fn set_appeared(self, rule: &mut Rule, score: f32) {
        let Some(appeared) = &mut rule.appeared else { return };
        match self {
            Self::NewStartScore => appeared.new_start = score,
            Self::NewKeepScore => appeared.new_keep = Some(score),
            _ => appeared.old_start = Some(score),
        }
    }

    fn set_beside(self, rule: &mut Rule, value: f32) {
        match (self, &mut rule.except_labels, &mut rule.attended) {
            (Self::ExceptScore, Some(except), _) => except.score = value,
            (Self::AttendedWithin, _, Some(by)) => by.within = value,
            (Self::AttendedShare, _, Some(by)) => by.share = value,
            (Self::AttendedMinSize, _, Some(by)) => by.min_size = value,
            _ => {}
        }
    }
}

/// The number as it is written: 0.3, not 0.30000001192092896.
fn exact(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| x.into())
}
