//! Picture captions in Chinese and English: what the picture shows, the category (or that the object is unidentified), the camera and the
//! local time.

use std::fmt;

use super::{Bilingual, CaseRecord, EvidenceItem, EvidenceRole, When};

/// The occasion on which a picture was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    FirstSeen,
    Confirmed,
    Verified,
}

impl CaseRecord {
    /// Adds captions to the pictures of a new case: the newest were taken when it was confirmed, the others when it was first
    /// seen.
    pub(super) fn caption_filed(&mut self) {
        let newest = self.evidence.iter().map(|item| item.captured_at.timestamp()).max();
        let occasion = |item: &EvidenceItem| match Some(item.captured_at.timestamp()) == newest {
            true => Occasion::Confirmed,
            false => Occasion::FirstSeen,
        };
        let captions: Vec<_> = self
            .evidence
            .iter()
            .map(|item| self.caption(item, occasion(item)))
            .collect();
        for (item, caption) in self.evidence.iter_mut().zip(captions) {
            item.caption = Some(caption);
        }
    }

    /// Caption of a verification picture.
    pub fn caption_verified(&self, item: &EvidenceItem) -> Bilingual {
        self.caption(item, Occasion::Verified)
    }

    fn caption(&self, item: &EvidenceItem, occasion: Occasion) -> Bilingual {
        let (zh, en) = content(item.role, occasion);
        // Records of older versions have the category name in one language only.
        let name = |names: fn(&Bilingual) -> &String| self.category_names.as_ref().map_or(&self.category_name, names);
        let (name_zh, name_en) = match self.unidentified {
            true => ("不明物体", "unidentified object"),
            false => (name(|n| &n.zh).as_str(), name(|n| &n.en).as_str()),
        };
        let (camera, at) = (&self.camera.local_id, LocalTime(item.captured_at));
        let (preset_zh, preset_en) = match &self.camera.preset_id {
            Some(preset) => (format!("，预置位{preset}"), format!(", preset {preset}")),
            None => Default::default(),
        };
        Bilingual {
            zh: format!("{zh}：{name_zh}，点位{camera}{preset_zh}，{at}"),
            en: format!("{en}: {name_en}, camera {camera}{preset_en}, {at}"),
        }
    }
}

fn content(role: EvidenceRole, occasion: Occasion) -> (&'static str, &'static str) {
    use EvidenceRole::{After, Before, Closeup, Overlay, Scene};
    match (role, occasion) {
        (Before, _) => ("处置前全景", "Before, full view"),
        (After, _) | (Scene, Occasion::Verified) => ("核查时全景", "Verification, full view"),
        (Scene, Occasion::FirstSeen) => ("首次发现时全景", "First seen, full view"),
        (Scene, Occasion::Confirmed) => ("确认时全景", "Confirmed, full view"),
        (Overlay, Occasion::FirstSeen) => ("首次发现时全景（标注）", "First seen, full view, annotated"),
        (Overlay, Occasion::Confirmed) => ("确认时全景（标注）", "Confirmed, full view, annotated"),
        (Overlay, Occasion::Verified) => ("核查时全景（标注）", "Verification, full view, annotated"),
        (Closeup, Occasion::FirstSeen) => ("首次发现时近景", "First seen, close-up"),
        (Closeup, Occasion::Confirmed) => ("确认时近景", "Confirmed, close-up"),
        (Closeup, Occasion::Verified) => ("核查时近景", "Verification, close-up"),
    }
}

/// Formats a timestamp in local time with its UTC offset: `2026-05-01 08:30:00 UTC+08:00`.
struct LocalTime(When);

impl fmt::Display for LocalTime {
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
    fn the_time_is_local_with_its_utc_offset() {
        let at = Timestamp::from_second(1_777_595_400).unwrap_or_else(|e| panic!("{e}"));
        for (zone, text) in [
            ("Asia/Shanghai", "2026-05-01 08:30:00 UTC+08:00"),
            ("Asia/Kathmandu", "2026-05-01 06:15:00 UTC+05:45"),
            ("America/St_Johns", "2026-04-30 22:00:00 UTC-02:30"),
            ("UTC", "2026-05-01 00:30:00 UTC+00:00"),
        ] {
            let zone = TimeZone::get(zone).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(LocalTime(When::new(at, &zone)).to_string(), text);
        }
    }
}
