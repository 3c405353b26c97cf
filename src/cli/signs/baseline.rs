//! Merges the detections of several looks into a baseline, and writes it as a file that the operator can edit.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use gridwatch_config::raw::{Sign, Signs};
use gridwatch_engine::{BBox, Detection, Label, PhoneNumber, TextReading, is_approved};

/// Minimum IoU of boxes of the same sign in two looks. The same value as the engine's for approved signs, so that both tell
/// neighbouring signs apart in the same way.
const SAME_SIGN_IOU: f64 = 0.5;

/// A sign with its detections in several looks.
#[derive(Debug, Clone)]
pub(super) struct SightedSign {
    pub(super) label: Label,
    pub(super) number: Option<PhoneNumber>,
    /// The text on it: of all looks, the one with the highest score.
    pub(super) text: Option<TextReading>,
    /// One per look.
    boxes: Vec<BBox>,
    scores: Vec<f32>,
}

impl SightedSign {
    /// The median of each side, which is robust against looks that saw only half of the sign or merged it with its neighbour.
    pub(super) fn bbox(&self) -> BBox {
        let median = |side: fn(&BBox) -> f32| {
            let mut values: Vec<f32> = self.boxes.iter().map(side).collect();
            values.sort_by(f32::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        BBox {
            x1: median(|b| b.x1),
            y1: median(|b| b.y1),
            x2: median(|b| b.x2),
            y2: median(|b| b.y2),
        }
    }

    /// Number of looks in which it was detected.
    pub(super) fn looks(&self) -> usize {
        self.boxes.len()
    }

    /// Mean score.
    pub(super) fn score(&self) -> f32 {
        self.scores.iter().sum::<f32>() / self.scores.len().max(1) as f32
    }
}

/// The signs detected in several looks.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    pub(super) looks: usize,
    signs: Vec<SightedSign>,
}

impl Sightings {
    /// Adds the detections of one look, sorted by descending score.
    pub(super) fn add(&mut self, found: Vec<Detection>) {
        self.looks += 1;
        let mut was_seen = vec![false; self.signs.len()];
        for Detection {
            label,
            score,
            bbox,
            number,
            text,
            ..
        } in found
        {
            let same = self
                .signs
                .iter()
                .enumerate()
                .filter(|(i, s)| s.label == label && s.number == number && !was_seen[*i]);
            let nearest = same
                .map(|(i, s)| (s.bbox().iou(&bbox), i))
                .filter(|(iou, _)| *iou >= SAME_SIGN_IOU)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((_, i)) = nearest {
                was_seen[i] = true;
                self.signs[i].boxes.push(bbox);
                self.signs[i].scores.push(score);
                let known = &mut self.signs[i].text;
                if text
                    .as_ref()
                    .is_some_and(|t| known.as_ref().is_none_or(|k| t.score >= k.score))
                {
                    *known = text;
                }
            } else {
                was_seen.push(true);
                self.signs.push(SightedSign {
                    label,
                    number,
                    text,
                    boxes: vec![bbox],
                    scores: vec![score],
                });
            }
        }
    }

    /// The signs detected in at least `share` of the looks, from left to right.
    pub(super) fn steady(self, share: f64) -> Vec<SightedSign> {
        let min_looks = share * self.looks as f64;
        let mut steady: Vec<SightedSign> = self.signs;
        steady.retain(|s| s.looks() as f64 >= min_looks);
        steady.sort_by(|a, b| a.bbox().centre().x.total_cmp(&b.bbox().centre().x));
        steady
    }
}

/// The difference between a recording and an existing baseline.
#[derive(Debug)]
pub(super) struct Merge {
    /// Signs that are not in the baseline yet.
    pub(super) added: Vec<SightedSign>,
    /// Numbers, from 1, of approved signs that were not seen.
    pub(super) unseen: Vec<usize>,
}

/// Compares the signs seen with the approved ones.
pub(super) fn merge(seen: Vec<SightedSign>, before: Option<&Signs>) -> Merge {
    let approved = before.map(Signs::approved).unwrap_or_default();
    let was_seen = |sign: &gridwatch_engine::ApprovedSign| {
        seen.iter().any(|s| match &sign.number {
            Some(_) => s.number == sign.number,
            None => is_approved(std::slice::from_ref(sign), &s.label, &s.bbox()),
        })
    };
    let unseen = approved
        .iter()
        .enumerate()
        .filter(|(_, s)| !was_seen(s))
        .map(|(i, _)| i + 1);
    let unseen = unseen.collect();
    let mut added = seen;
    added.retain(|s| match &s.number {
        Some(_) => !approved.iter().any(|sign| sign.number == s.number),
        None => !is_approved(&approved, &s.label, &s.bbox()),
    });
    Merge { added, unseen }
}

/// The text of the baseline file: the existing text with the new signs appended, or a new file.
///
/// `signs` is the complete baseline; `before` is the existing file's text and the number of signs in it, which come first in `signs`.
pub(super) fn text(signs: &Signs, before: Option<(&str, usize)>) -> String {
    let (mut text, known) = match before {
        Some((text, known)) => (with_head(text, signs), known),
        None => (head(signs), 0),
    };
    for (i, sign) in signs.signs.iter().enumerate().skip(known) {
        let Sign {
            corners: [x1, y1, x2, y2],
            label,
            number,
            text: read,
            note,
            permit,
            valid_until,
            added,
        } = sign;
        let quoted = |text: &Option<String>| toml::Value::from(text.clone().unwrap_or_default()).to_string();
        let line = |key: &str, value: &Option<String>| {
            let value = value
                .as_ref()
                .map(|v| format!("{key} = {}\n", toml::Value::from(v.as_str())));
            value.unwrap_or_default()
        };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n# {}\n[[signs]]\nbox = [{x1:.4}, {y1:.4}, {x2:.4}, {y2:.4}]\nlabel = {}\n{}{}note = {}\n{}{}added = {}\n",
            i + 1,
            toml::Value::from(label.as_str()),
            line("number", number),
            line("text", read),
            quoted(note),
            line("permit", permit),
            line("valid_until", valid_until),
            quoted(added),
        );
    }
    text
}

fn head(signs: &Signs) -> String {
    format!(
        "# Approved signs in this camera's view. Rules with except_approved file a case for any other sign, so delete the blocks of\n\
         # signs that are not approved, and write the owner and permit of the others to `note`. A box is [left, top, right, bottom]\n\
         # as fractions of the picture. `gridwatch signs record` appends new signs and leaves the rest unchanged.\n\
         camera = {}\nrecorded = {}\nmodel = {}\n",
        toml::Value::from(signs.camera.as_str()),
        toml::Value::from(signs.recorded.as_str()),
        toml::Value::from(signs.model.as_str())
    )
}

/// The existing text with `recorded` and `model` updated; everything else stays byte for byte.
fn with_head(text: &str, signs: &Signs) -> String {
    let mut is_head = true;
    let line = |line: &str| {
        is_head &= !line.trim_start().starts_with('[');
        let key = line.split('=').next().unwrap_or_default().trim();
        match key {
            "recorded" if is_head => format!("recorded = {}\n", toml::Value::from(signs.recorded.as_str())),
            "model" if is_head => format!("model = {}\n", toml::Value::from(signs.model.as_str())),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// Replaces `file` by `text` atomically.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    let dir: PathBuf = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.into(),
        _ => ".".into(),
    };
    fs::create_dir_all(&dir)?;
    let mut new = tempfile::Builder::new().permissions(mode()).tempfile_in(&dir)?;
    io::Write::write_all(&mut new, text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file).map_err(|e| e.error)?;
    Ok(())
}

/// World-readable, because the daemon may run as another user than the one who recorded it.
fn mode() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(x1: f32, x2: f32, score: f32) -> Detection {
        Detection {
            appearance: None,
            number: None,
            text: None,
            second_looks: Vec::new(),
            newness: None,
            label: "sign".into(),
            score,
            bbox: BBox {
                x1,
                y1: 0.2,
                x2,
                y2: 0.3,
            },
        }
    }

    fn baseline(signs: Vec<Sign>) -> Signs {
        Signs {
            camera: "gate".into(),
            recorded: "2026-11-22T10:00:00+08:00".into(),
            model: "m@1".into(),
            signs,
        }
    }

    fn sign(x1: f32, x2: f32) -> Sign {
        Sign {
            corners: [x1, 0.2, x2, 0.3],
            label: "sign".into(),
            number: None,
            text: None,
            note: Some("the \"baker\"".into()),
            permit: None,
            valid_until: None,
            added: Some("2026-11-22".into()),
        }
    }

    #[test]
    fn signs_in_most_looks_are_kept_at_their_median_box() {
        let mut sightings = Sightings::default();
        for n in 0..10u8 {
            let mut found = vec![seen(0.1 + f32::from(n % 3) * 0.01, 0.4, 0.8)];
            // Lettering on a van that stands there for a while.
            if n < 4 {
                found.push(seen(0.6, 0.9, 0.7));
            }
            sightings.add(found);
        }
        let steady = sightings.steady(0.5);
        assert_eq!(steady.len(), 1);
        assert_eq!(steady[0].looks(), 10);
        assert!((steady[0].bbox().x1 - 0.11).abs() < 1e-6);
    }

    #[test]
    fn overlapping_boxes_of_one_look_are_two_signs() {
        let mut sightings = Sightings::default();
        sightings.add(vec![seen(0.1, 0.4, 0.8), seen(0.12, 0.41, 0.6)]);
        assert_eq!(sightings.steady(0.5).len(), 2);
    }

    #[test]
    fn a_merge_adds_new_signs_and_reports_unseen_ones() {
        let mut sightings = Sightings::default();
        sightings.add(vec![seen(0.1, 0.4, 0.8), seen(0.5, 0.6, 0.8)]);
        let before = baseline(vec![sign(0.11, 0.41), sign(0.8, 0.9)]);
        let merge = merge(sightings.steady(0.5), Some(&before));
        assert_eq!((merge.added.len(), merge.unseen), (1, vec![2]));
        assert!((merge.added[0].bbox().x1 - 0.5).abs() < 1e-6);
    }

    #[test]
    fn small_ads_are_matched_by_their_phone_number_and_written_with_it() {
        let ad = |x1: f32, number: &str| Detection {
            label: "small_ad".into(),
            number: Some(number.into()),
            ..seen(x1, x1 + 0.1, 0.9)
        };
        let mut sightings = Sightings::default();
        sightings.add(vec![
            ad(0.1, "13800138000"),
            ad(0.1, "4008123123"),
            ad(0.5, "037167890123"),
        ]);
        let known = Sign {
            label: "small_ad".into(),
            number: Some("037167890123".into()),
            ..sign(0.8, 0.9)
        };
        let before = baseline(vec![known]);
        let merge = merge(sightings.steady(0.5), Some(&before));
        assert_eq!(
            (merge.added.len(), merge.unseen),
            (2, vec![]),
            "an approved number is approved anywhere in view"
        );
        let numbers: Vec<_> = merge.added.iter().filter_map(|s| s.number.as_ref()).collect();
        assert_eq!(numbers.len(), 2);
        let read: Signs = toml::from_str(&text(&before, None)).unwrap();
        assert_eq!(read.signs[0].number.as_deref(), Some("037167890123"));
    }

    #[test]
    fn the_operators_comments_survive_a_recording() {
        let mut signs = baseline(vec![sign(0.1, 0.4)]);
        let first = text(&signs, None);
        let edited = first.replace("# 1\n", "# the baker's, asked on Monday\n");
        signs.recorded = "2026-12-01T10:00:00+08:00".into();
        signs.signs.push(sign(0.5, 0.6));
        let second = text(&signs, Some((&edited, 1)));
        assert!(second.contains("# the baker's, asked on Monday\n"), "{second}");
        assert!(
            second.contains("recorded = \"2026-12-01T10:00:00+08:00\"\n"),
            "{second}"
        );
        assert_eq!(second.matches("recorded =").count(), 1, "{second}");
        let read: Signs = toml::from_str(&second).unwrap();
        assert_eq!(read.signs.len(), 2);
        assert_eq!(read.signs[1].note.as_deref(), Some("the \"baker\""));
    }
}
