//! The `[evidence]` section: masking, retention, and where the keys are.

use std::time::Duration;

use gridwatch_custody::{
    keys::{OriginalsKey, SigningKeyPlace},
    token::TokenUri,
};
use gridwatch_engine::Label;
use gridwatch_evidence as evidence;
use gridwatch_store::{Budget, Retention};

use super::{Checker, DAY, FieldPath, section};
use crate::{Evidence, raw};

impl Checker<'_> {
    fn originals_key(&mut self, at: &FieldPath, place: &raw::KeyPlace) -> Option<OriginalsKey> {
        match (&place.file, &place.credential) {
            (Some(file), None) => {
                let file = self.existing_file(&at.key("file"), file, "a file that holds the key")?;
                Some(OriginalsKey::File(file))
            }
            (None, Some(name)) => Some(OriginalsKey::Credential(name.clone())),
            _ => {
                self.fault(
                    at,
                    "exactly one of `file` and `credential` must be set",
                    "use { file = \"/etc/gridwatch/originals.key\" } or { credential = \"originals\" }",
                );
                None
            }
        }
    }

    fn signing_key(&mut self, at: &FieldPath, uri: Option<&str>) -> SigningKeyPlace {
        let Some(uri) = uri else {
            return SigningKeyPlace::Own;
        };
        match uri.parse::<TokenUri>() {
            Ok(uri) => {
                if !uri.module().is_file() {
                    self.fault(
                        at,
                        format!("the PKCS#11 module {} does not exist", uri.module().display()),
                        "install the token's module, or correct module-path",
                    );
                }
                SigningKeyPlace::Token(Box::new(uri))
            }
            Err(what) => {
                self.fault(at, what, "edge-deploy/README.md shows how to set a token up");
                SigningKeyPlace::Own
            }
        }
    }

    pub(super) fn evidence(&mut self) {
        let at = section("evidence");
        let Some(raw) = self.optional::<raw::Evidence>(&at) else {
            return;
        };
        let interval_at = at.key("min_interval");
        let secs = Duration::from_secs;
        if self.check_range(&interval_at, raw.min_interval, (secs(1), secs(3600))) && raw.min_interval.0 < secs(10) {
            self.warn(
                &interval_at,
                format!(
                    "{} is less than the 10s between two pictures that GA/T 832 requires",
                    raw.min_interval
                ),
                "use 10s or more, except for experiments",
            );
        }
        if !raw.mask {
            self.warn(
                &at.key("mask"),
                "faces and licence plates leave the box unmasked",
                "set it to true, unless the city's data protection review of these cameras allows otherwise (PIPL art. 26)",
            );
        }
        let mut mask_labels = Vec::new();
        for (i, dir) in raw.mask_models.iter().enumerate() {
            let at = at.key("mask_models").index(i);
            let Some(manifest) = self.manifest(&at, dir) else {
                continue;
            };
            let labels = manifest.engine_labels();
            let masked: Vec<Label> = labels.into_iter().filter(evidence::is_masked).collect();
            if masked.is_empty() {
                self.fault(
                    &at,
                    format!("{} detects none of the labels that are masked", manifest.id),
                    "name a model that detects face, person, car, truck, bus or motorcycle",
                );
            }
            mask_labels.extend(masked);
        }
        let key = match &raw.originals_key {
            None => Some(OriginalsKey::Own),
            Some(place) => self.originals_key(&at.key("originals_key"), place),
        };
        let signing_key = self.signing_key(&at.key("signing_key"), raw.signing_key.as_deref());
        let budget = |days: u32, mb: u32| Budget {
            keep: (days > 0).then(|| DAY * days),
            bytes: u64::from(mb) << 20,
        };
        self.draft.rest.evidence = Some(Evidence {
            jpeg_quality: raw.jpeg_quality,
            max_picture_bytes: raw.max_picture_bytes as usize,
            min_interval: raw.min_interval.0,
            mask: raw.mask,
            mask_models: raw.mask_models.iter().map(|dir| self.absolute(dir)).collect(),
            mask_labels,
            signing_key,
            originals: if raw.originals_days == 0 { None } else { key },
            retention: Retention {
                originals: budget(raw.originals_days, raw.originals_mb),
                pictures: budget(raw.pictures_days, raw.pictures_mb),
            },
        });
    }
}
