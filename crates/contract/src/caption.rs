//! What is written below a picture, in Chinese and in English: what it shows, of what, which camera, and when by the city's clocks.

use std::fmt;

use super::{Bilingual, CaseRecord, EvidenceItem, EvidenceRole, When};

/// Which look a picture is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    First,
    Confirmed,
    Again,
}

impl CaseRecord {
    /// Captions for the pictures that the case was filed with.
    pub(super) fn caption_filed(&mut self) {
        let newest = self.evidence.iter().map(|item| item.captured_at.timestamp()).max();
        let moment = |item: &EvidenceItem| match Some(item.captured_at.timestamp()) == newest {
            true => Moment::Confirmed,
            false => Moment::First,
        };
        let captions: Vec<_> = self
            .evidence
            .iter()
            .map(|item| self.caption(item, moment(item)))
            .collect();
        for (item, caption) in self.evidence.iter_mut().zip(captions) {
            item.caption = Some(caption);
        }
    }

    /// The caption of a picture that answers whether the thing is still there.
    pub fn caption_verified(&self, item: &EvidenceItem) -> Bilingual {
        self.caption(item, Moment::Again)
    }

    fn caption(&self, item: &EvidenceItem, moment: Moment) -> Bilingual {
        let (zh, en) = shows(item.role, moment);
        // A record of an older version has its category's name in one language alone.
        let name = |names: fn(&Bilingual) -> &String| self.category_names.as_ref().map_or(&self.category_name, names);
        let (name_zh, name_en) = (name(|n| &n.zh), name(|n| &n.en));
        let (camera, at) = (&self.camera.local_id, Local(item.captured_at));
        let (preset_zh, preset_en) = match &self.camera.preset_id {
            Some(preset) => (format!("，预置位{preset}"), format!(", preset {preset}")),
            None => Default::default(),
        };
        Bilingual {
            zh: format!("{zh}：{name_zh}，摄像机{camera}{preset_zh}，{at}"),
            en: format!("{en}: {name_en}, camera {camera}{preset_en}, {at}"),
        }
    }
}

fn shows(role: EvidenceRole, moment: Moment) -> (&'static str, &'static str) {
    use EvidenceRole::{After, Before, Closeup, Overlay, Scene};
    match (role, moment) {
        (Before, _) => ("处理前全景", "Before, whole view"),
        (After, _) | (Scene, Moment::Again) => ("复查时全景", "When looked at again, whole view"),
        (Scene, Moment::First) => ("首次发现时全景", "When first seen, whole view"),
        (Scene, Moment::Confirmed) => ("确认时全景", "When confirmed, whole view"),
        (Overlay, Moment::First) => (
            "首次发现时全景，框出位置",
            "When first seen, whole view with the place boxed",
        ),
        (Overlay, Moment::Confirmed) => (
            "确认时全景，框出位置",
            "When confirmed, whole view with the place boxed",
        ),
        (Overlay, Moment::Again) => (
            "复查时全景，框出位置",
            "When looked at again, whole view with the place boxed",
        ),
        (Closeup, Moment::First) => ("首次发现时近景", "When first seen, close-up"),
        (Closeup, Moment::Confirmed) => ("确认时近景", "When confirmed, close-up"),
        (Closeup, Moment::Again) => ("复查时近景", "When looked at again, close-up"),
    }
}

/// A moment as people in the city read it: `2026-05-01 08:30:00 UTC+08:00`.
struct Local(When);

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zoned = self.0.offset().to_datetime(self.0.timestamp());
        write!(f, "{} UTC", zoned.strftime("%Y-%m-%d %H:%M:%S"))?;
        let seconds = self.0.offset().seconds();
        let sign = if seconds < 0 { '-' } else { '+' };
        let minutes = seconds.abs() / 60;
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};

    use super::*;

    #[test]
    fn the_time_is_the_citys_own_and_says_so() {
        let at = Timestamp::from_second(1_777_595_400).unwrap_or_else(|e| panic!("{e}"));
        for (zone, text) in [
            ("Asia/Shanghai", "2026-05-01 08:30:00 UTC+08:00"),
            ("Asia/Kathmandu", "2026-05-01 06:15:00 UTC+05:45"),
            ("America/St_Johns", "2026-04-30 22:00:00 UTC-02:30"),
            ("UTC", "2026-05-01 00:30:00 UTC+00:00"),
        ] {
            let zone = TimeZone::get(zone).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(Local(When::new(at, &zone)).to_string(), text);
        }
    }
}
