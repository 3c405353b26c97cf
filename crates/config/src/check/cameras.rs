//! Cameras: stream, credentials, models, presets, zones.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::civil::Date;
use serde_json::Value;
use url::Url;

use super::{Checker, FieldPath, Survey, draft::is_or_is_in, models::ModelFacts, rules::RuleFacts, section};
use crate::{Aim, Camera, Preset, polygon, raw};
use gridwatch_base::{
    document::{Fault, schema::nearest},
    file, message,
};
use gridwatch_camera::{StreamSource, Transport, receive::is_rtsp};
use gridwatch_engine::{CameraId, CameraPlan, Point, RuleId, Validity, Zone, ZoneId, ZoneKind, geometry::Crs};

/// Limits of `look_every`: two looks per second are what a small core can decode and analyse for one camera; beyond an hour, most
/// problems come and go unseen.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3600));

/// Supported URL schemes: the built-in client handles `rtsp` and `rtsps`, GStreamer's `uridecodebin` the others.
const SCHEMES: [&str; 8] = ["rtsp", "rtsps", "file", "http", "https", "rtmp", "srt", "udp"];

/// Limits of `tour`: a camera that is away for more than a day monitors nothing.
const TOUR: (Duration, Duration) = (Duration::from_secs(10), Duration::from_hours(24));

/// Zones of a view, at most: many times what a person draws. Each object of each look is tested against all zones of its view, and the
/// console shows all of them.
const MAX_ZONES: usize = 200;

/// Zones with their kind; `None` is a privacy zone, which the engine does not see.
type Zones = Vec<(Option<ZoneKind>, Zone)>;

/// The fields of one view, taken from a camera without presets or from one preset.
pub(super) struct ViewDraft {
    /// The table of the camera or preset.
    pub(super) at: FieldPath,
    preset: Option<String>,
    address: Option<String>,
    pub(super) place: raw::Place,
    pub(super) calibration: Option<raw::Calibration>,
    approved_signs: Option<PathBuf>,
    zones: Zones,
}

/// The fields of a camera that no connection to it depends on.
const UNRELATED_TO_CONNECTION: [&str; 17] = [
    "id",
    "look_every",
    "models",
    "read_numbers",
    "gb_device_id",
    "legal_review_ref",
    "groups",
    "fixed",
    "change",
    "tour",
    "presets",
    "crs",
    "place",
    "calibration",
    "address",
    "approved_signs",
    "zones",
];

fn without(mut table: Value, fields: &[&str]) -> Value {
    if let Some(map) = table.as_object_mut() {
        map.retain(|key, _| !fields.contains(&key.as_str()));
    }
    table
}

impl Checker<'_> {
    /// Checks each camera, and compiles the valid ones.
    pub(super) fn cameras(&mut self, models: &[ModelFacts], rules: &[RuleFacts]) {
        let list = section("cameras");
        if list
            .get(&self.document.value)
            .is_none_or(|cameras| cameras.as_array().is_some_and(Vec::is_empty))
        {
            self.warn(
                &list,
                "none: nothing is watched",
                "add cameras on the console (Wall, Add a camera) or as [[cameras]]",
            );
        }
        self.unique_ids(&list, "id");
        self.unique_ids(&list, "gb_device_id");
        let mut streams: BTreeMap<Url, FieldPath> = BTreeMap::new();
        for (at, value) in self.elements::<Value>(&list) {
            // Zones and presets are checked one by one, so that a faulty one does not drop its siblings or its camera.
            let zones = self.zones(&at.key("zones"), rules);
            let presets = self.presets(&at.key("presets"), rules);
            let Some(raw) = self.deserialize::<raw::Camera>(&at, &without(value, &["zones", "presets"])) else {
                continue;
            };
            self.check_range(&at.key("look_every"), raw.look_every, LOOK_EVERY);
            let url = self.camera_url(&at, &raw);
            let credentials = raw
                .credentials
                .as_ref()
                .and_then(|c| self.credentials(&at.key("credentials"), c));
            let credential_source = raw.credentials.as_ref().and_then(|c| self.credential_source(c));
            let ca_file = self.camera_ca(&at, &raw, url.as_ref());
            self.check_pin(&at, &raw, url.as_ref());
            self.check_source(&at, &raw, url.as_ref());
            let camera_models = self.camera_models(&at, &raw, models);
            self.check_read_numbers(&at, &raw);
            let crs = self.camera_crs(&at, &raw);
            let aim = self.aim(&at, &raw);
            let views = match aim {
                Aim::Tour { .. } => presets,
                Aim::Fixed | Aim::Unwatched => self.own_view(&at, &raw, zones).into_iter().collect(),
            };
            let change = self.camera_change(&at.key("change"), raw.change.as_ref(), aim);
            let presets = views.into_iter().map(|v| self.view(&raw, aim, crs, v)).collect();
            if self.is_invalid(&at.key("id")) {
                continue;
            }
            let Some(url) = url else { continue };
            let faults = self.connection_faults(&at);
            if !faults.is_empty() {
                let id = CameraId::from(raw.id.as_str());
                self.draft.connection_faults.entry(id).or_default().extend(faults);
            }
            if let Some(before) = streams.insert(url.clone(), at.clone()) {
                self.warn(
                    &at.key("url"),
                    message!("same stream as {before}", before = before.to_string()),
                    "two cameras on one stream cost twice and interfere with each other's cases; draw the zones on one camera instead",
                );
            }
            self.draft.cameras.push(Camera {
                id: CameraId::from(raw.id),
                url,
                credentials,
                credential_source,
                ca_file,
                pin_sha256: raw.pin_sha256.map(|pin| pin.replace(':', "").to_lowercase()),
                auth: raw.auth,
                transport: raw.transport,
                source: raw.source,
                look_every: raw.look_every.0,
                models: camera_models,
                read_numbers: raw.read_numbers,
                gb_device_id: raw.gb_device_id,
                legal_review_ref: raw.legal_review_ref,
                groups: raw.groups,
                aim,
                change,
                presets,
            });
        }
    }

    /// The faults of the camera's table that may concern the connection to it: all but those of the fields that only judge or
    /// describe its pictures. An unknown field may be a mistyped `ca_file`.
    fn connection_faults(&self, at: &FieldPath) -> Vec<Fault> {
        let mut faults = self.draft.faults_in(&at.to_string());
        let other = UNRELATED_TO_CONNECTION.map(|field| at.key(field).to_string());
        faults.retain(|fault| !other.iter().any(|field| is_or_is_in(&fault.path, field)));
        faults
    }

    /// Whether the camera is fixed or turns, from its `presets`, `tour` and `fixed`.
    fn aim(&mut self, at: &FieldPath, raw: &raw::Camera) -> Aim {
        let presets_at = at.key("presets");
        let has_presets = presets_at
            .get(&self.document.value)
            .and_then(Value::as_array)
            .is_some_and(|presets| !presets.is_empty());
        let tour_at = at.key("tour");
        if !has_presets {
            if raw.tour.is_some() {
                let remedy = "list its views as [[cameras.presets]], or remove the line";
                self.fault(&tour_at, "not allowed on a camera without presets", remedy);
            }
            return if raw.fixed { Aim::Fixed } else { Aim::Unwatched };
        }
        for field in ["place", "calibration", "address", "approved_signs", "zones"] {
            let at = at.key(field);
            let value = at.get(&self.document.value);
            if value.is_some_and(|v| v.as_array().is_none_or(|list| !list.is_empty())) {
                let remedy = "move it into the [[cameras.presets]], as it differs from preset to preset";
                self.fault(&at, "not allowed on a camera with presets", remedy);
            }
        }
        match raw.tour {
            Some(tour) => {
                if self.check_range(&tour_at, tour, TOUR) && tour.0 < raw.look_every.0 {
                    let message = message!(
                        "{tour} is less than look_every ({look_every})",
                        tour = tour.to_string(),
                        look_every = raw.look_every.to_string()
                    );
                    let remedy =
                        "use the longest time until the camera returns to a preset, as set in its patrol programme";
                    self.fault(&tour_at, message, remedy);
                }
                Aim::Tour { away: tour.0 }
            }
            None => {
                if !self.is_invalid(&tour_at) {
                    self.fault(
                        &tour_at,
                        "required on a camera with presets",
                        "set the longest time until the camera returns to a preset, such as \"10m\"",
                    );
                }
                Aim::Tour { away: Duration::ZERO }
            }
        }
    }

    /// The view of a camera without presets.
    fn own_view(&mut self, at: &FieldPath, raw: &raw::Camera, zones: Zones) -> Option<ViewDraft> {
        let place_at = at.key("place");
        let Some(place) = raw.place.clone() else {
            if !self.is_invalid(&place_at) {
                let remedy = "set the position of its view: place = { lon = …, lat = … }; for a PTZ camera, define [[cameras.presets]]";
                self.fault(&place_at, "missing", remedy);
            }
            return None;
        };
        Some(ViewDraft {
            at: at.clone(),
            preset: None,
            address: raw.address.clone(),
            place,
            calibration: raw.calibration.clone(),
            approved_signs: raw.approved_signs.clone(),
            zones,
        })
    }

    /// The valid presets of one camera.
    fn presets(&mut self, list: &FieldPath, rules: &[RuleFacts]) -> Vec<ViewDraft> {
        self.unique_ids(list, "id");
        let mut valid = Vec::new();
        for (at, value) in self.elements::<Value>(list) {
            let zones = self.zones(&at.key("zones"), rules);
            if let Some(raw) = self.deserialize::<raw::Preset>(&at, &without(value, &["zones"])) {
                valid.push(ViewDraft {
                    at,
                    preset: Some(raw.id),
                    address: raw.address,
                    place: raw.place,
                    calibration: raw.calibration,
                    approved_signs: raw.approved_signs,
                    zones,
                });
            }
        }
        valid
    }

    /// Checks one view and adds the engine's plan for it.
    fn view(&mut self, camera: &raw::Camera, aim: Aim, crs: Option<Crs>, view: ViewDraft) -> Preset {
        let id = match &view.preset {
            Some(preset) => CameraId::at_preset(&camera.id, preset),
            None => CameraId::from(camera.id.as_str()),
        };
        let place = crs.and_then(|crs| self.place(&view, &id, crs));
        let approved = self.approved(&view.at, id.as_str(), view.approved_signs.as_deref());
        let (privacy, zones): (Zones, Zones) = view.zones.into_iter().partition(|(kind, _)| kind.is_none());
        let calibration_version = self.draft.surveys.get(&id).map(Survey::version);
        if let Some(place) = place {
            let zones = zones
                .into_iter()
                .filter_map(|(kind, zone)| Some(Zone { kind: kind?, ..zone }))
                .collect();
            let plan = CameraPlan {
                look_every: camera.look_every.0,
                away: match aim {
                    Aim::Tour { away } => away,
                    Aim::Fixed | Aim::Unwatched => Duration::ZERO,
                },
                zones,
                place,
                approved,
            };
            self.draft.rest.plans.insert(id.clone(), plan);
        }
        Preset {
            view: id,
            id: view.preset,
            address: view.address,
            calibration_version,
            approved_signs: view.approved_signs.as_deref().map(|path| self.absolute(path)),
            privacy: privacy.into_iter().map(|(_, zone)| zone.polygon).collect(),
        }
    }

    fn camera_url(&mut self, at: &FieldPath, raw: &raw::Camera) -> Option<Url> {
        let at = at.key("url");
        let url = self.url(&at, &raw.url, "rtsp://192.0.2.10:554/stream1")?;
        let scheme = url.scheme();
        if !SCHEMES.contains(&scheme) {
            let remedy = match nearest(scheme, SCHEMES.into_iter()) {
                Some(near) => message!("did you mean {near}://?", near = near.to_string()),
                None => message!("use one of: {schemes}", schemes = SCHEMES.join(", ")),
            };
            self.fault(
                &at,
                message!("unsupported scheme {scheme}", scheme = format!("{scheme:?}")),
                remedy,
            );
            return None;
        }
        if scheme == "file" {
            match url.to_file_path() {
                Ok(path) if path.is_file() => {}
                Ok(path) => {
                    self.fault(
                        &at,
                        message!(
                            "{path} does not exist or is not a regular file",
                            path = path.display().to_string()
                        ),
                        "name an existing clip by its absolute path: file:///clips/a.mp4",
                    );
                    return None;
                }
                Err(()) => {
                    self.fault(
                        &at,
                        "not a local path",
                        "use file:// with an absolute path: file:///clips/a.mp4",
                    );
                    return None;
                }
            }
        } else if url.host_str().is_none_or(str::is_empty) {
            self.fault(&at, "missing host", "use a URL like rtsp://192.0.2.10:554/stream1");
            return None;
        }
        Some(url)
    }

    fn camera_ca(&mut self, at: &FieldPath, raw: &raw::Camera, url: Option<&Url>) -> Option<PathBuf> {
        let at = at.key("ca_file");
        let path = raw.ca_file.as_ref()?;
        // Only its content is noted here: the connection reads it, and says what is wrong with it.
        let _ = self.read_source(&at, path, file::MAX_KEY);
        let found = self.existing_file(&at, path, "the PEM file of the camera's certificate or of its CA");
        if let Some(url) = url.filter(|u| u.scheme() != "rtsps") {
            let message = message!(
                "only applies to rtsps://, but the URL is {scheme}://",
                scheme = url.scheme().to_string()
            );
            self.fault(&at, message, "use rtsps://, or remove ca_file");
        }
        found
    }

    fn check_pin(&mut self, at: &FieldPath, raw: &raw::Camera, url: Option<&Url>) {
        let at = at.key("pin_sha256");
        if raw.pin_sha256.is_none() || self.is_invalid(&at) {
            return;
        }
        if raw.ca_file.is_some() {
            let remedy = "keep pin_sha256 to trust that one certificate, or ca_file to trust what the CA signs";
            self.fault(&at, "not allowed together with ca_file", remedy);
        } else if let Some(url) = url.filter(|u| u.scheme() != "rtsps") {
            let message = message!(
                "only applies to rtsps://, but the URL is {scheme}://",
                scheme = url.scheme().to_string()
            );
            self.fault(&at, message, "use rtsps://, or remove pin_sha256");
        } else if raw.source == StreamSource::Gstreamer {
            let remedy = "use ca_file with the camera's certificate, or remove source";
            self.fault(&at, "not supported with source = \"gstreamer\"", remedy);
        }
    }

    /// What only the built-in client does has no effect with GStreamer.
    fn check_source(&mut self, at: &FieldPath, raw: &raw::Camera, url: Option<&Url>) {
        let is_built_in = raw.source == StreamSource::Auto && url.is_none_or(is_rtsp);
        if raw.transport != Transport::default() && !is_built_in && !self.is_invalid(&at.key("transport")) {
            let message = "has no effect: GStreamer receives this camera";
            self.warn(&at.key("transport"), message, "remove the line");
        }
        if raw.source == StreamSource::Gstreamer && raw.credentials.is_some() && url.is_some_and(is_rtsp) {
            let message = "not allowed with source = \"gstreamer\": over RTSP, GStreamer sends the login to any host that a redirect names";
            self.fault(
                &at.key("credentials"),
                message,
                "remove source, so that the built-in client receives the camera",
            );
        }
    }

    fn check_read_numbers(&mut self, at: &FieldPath, raw: &raw::Camera) {
        if raw.read_numbers && !self.has_reading() {
            self.fault(
                &at.key("read_numbers"),
                "needs the [reading] section",
                "add [reading] with `finder` and `speller`, or remove the line",
            );
        }
    }

    /// The camera's models, as indices into the draft's models.
    fn camera_models(&mut self, at: &FieldPath, raw: &raw::Camera, models: &[ModelFacts]) -> Vec<usize> {
        if raw.models.is_empty() {
            return (0..self.draft.models.len()).collect();
        }
        let mut indices = Vec::new();
        for (i, id) in raw.models.iter().enumerate() {
            if let Some(index) = self.draft.models.iter().position(|m| m.id == *id) {
                if !indices.contains(&index) {
                    indices.push(index);
                }
            } else if models.iter().all(|m| m.id.is_some()) {
                let known: Vec<&str> = models.iter().filter_map(|m| m.id.as_deref()).collect();
                let remedy = match nearest(id, known.iter().copied()) {
                    Some(near) => message!("did you mean {near}?", near = format!("{near:?}")),
                    None => message!(
                        "use the id from a model's model.toml: {known}",
                        known = known.join(", ")
                    ),
                };
                self.fault(
                    &at.key("models").index(i),
                    message!("unknown model {id}", id = format!("{id:?}")),
                    remedy,
                );
            }
        }
        indices
    }

    /// The valid zones of one view.
    fn zones(&mut self, list: &FieldPath, rules: &[RuleFacts]) -> Zones {
        self.unique_ids(list, "id");
        let zones = list.get(&self.document.value).and_then(Value::as_array);
        let count = zones.map_or(0, Vec::len);
        if count > MAX_ZONES {
            self.fault(
                list,
                message!("too many zones: {count}, at most {limit}", count, limit = MAX_ZONES),
                "join zones, or remove some",
            );
        }
        let mut valid = Vec::new();
        // The faults of the others are left out: there may be thousands.
        for (at, raw) in self.elements::<raw::Zone>(list).into_iter().take(MAX_ZONES) {
            let wrong = polygon::faults(&raw.polygon);
            for message in &wrong {
                self.fault(
                    &at.key("polygon"),
                    message.clone(),
                    "list the corners in order around the area, each as [x, y] from 0 to 1, without repeating the first at the end",
                );
            }
            for (i, id) in raw
                .rules
                .iter()
                .enumerate()
                .filter(|(_, id)| !rules.iter().any(|r| r.id == **id))
            {
                let remedy = match nearest(id, rules.iter().map(|r| r.id.as_str())) {
                    Some(near) => message!("did you mean {near}?", near = format!("{near:?}")),
                    None => "use the id of one of the [[rules]]".into(),
                };
                self.fault(
                    &at.key("rules").index(i),
                    message!("unknown rule {id}", id = format!("{id:?}")),
                    remedy,
                );
            }
            let kind = match raw.kind {
                raw::ZoneKind::Watch => Some(ZoneKind::Watch),
                raw::ZoneKind::Exclude => Some(ZoneKind::Exclude),
                raw::ZoneKind::Container => Some(ZoneKind::Container),
                raw::ZoneKind::Shop => Some(ZoneKind::Shop),
                raw::ZoneKind::Permitted => match self.permitted(&at, &raw, rules) {
                    Some(kind) => Some(kind),
                    None => continue,
                },
                raw::ZoneKind::Privacy => None,
            };
            if raw.schedule.is_some() && raw.kind != raw::ZoneKind::Permitted && !self.is_invalid(&at.key("kind")) {
                self.fault(
                    &at.key("schedule"),
                    "only allowed on a permitted zone",
                    "set kind = \"permitted\", or remove the line",
                );
            }
            if raw.kind != raw::ZoneKind::Permitted && !self.is_invalid(&at.key("kind")) {
                for (key, day) in [("valid_from", &raw.valid_from), ("valid_until", &raw.valid_until)] {
                    if day.is_some() {
                        let remedy = "set kind = \"permitted\", or remove the line";
                        self.fault(&at.key(key), "only allowed on a permitted zone", remedy);
                    }
                }
            }
            if kind.is_none() && !raw.rules.is_empty() {
                self.warn(
                    &at.key("rules"),
                    "has no effect: a privacy zone applies to every rule",
                    "remove the line",
                );
            }
            if wrong.is_empty() {
                valid.push((
                    kind.clone(),
                    Zone {
                        id: ZoneId::from(raw.id),
                        kind: kind.unwrap_or(ZoneKind::Exclude),
                        polygon: raw.polygon.into_iter().map(|[x, y]| Point { x, y }).collect(),
                        rules: raw.rules.into_iter().map(RuleId::from).collect(),
                    },
                ));
            }
        }
        valid
    }

    /// Resolves the schedule of a permitted zone.
    fn permitted(&mut self, at: &FieldPath, raw: &raw::Zone, rules: &[RuleFacts]) -> Option<ZoneKind> {
        if raw.rules.is_empty() && rules.len() > 1 && !self.is_invalid(&at.key("rules")) {
            self.warn(
                at,
                "exempts the objects of every rule: not only vendors, but also their garbage",
                "list the rules it is meant for: rules = [\"…\"]",
            );
        }
        let valid = self.validity(at, raw)?;
        let schedule_at = at.key("schedule");
        match &raw.schedule {
            Some(name) => self
                .schedule(&schedule_at, name)
                .map(|during| ZoneKind::Permitted { during, valid }),
            None if self.is_invalid(&schedule_at) => None,
            None => {
                self.fault(
                    &schedule_at,
                    "required on a permitted zone",
                    "name one of the [[schedules]]; for ground that is always permitted, use an exclude zone",
                );
                None
            }
        }
    }

    /// The days on which a permitted zone holds.
    fn validity(&mut self, at: &FieldPath, raw: &raw::Zone) -> Option<Validity> {
        let mut day = |key: &str, text: &Option<String>| -> Option<Option<Date>> {
            let (at, Some(text)) = (at.key(key), text) else {
                return Some(None);
            };
            if self.is_invalid(&at) {
                return None;
            }
            match text.parse::<Date>() {
                Ok(day) => Some(Some(day)),
                Err(_) => {
                    let remedy = "use YYYY-MM-DD, such as 2026-10-31";
                    let message = message!("{day} is not a date", day = format!("{text:?}"));
                    self.fault(&at, message, remedy);
                    None
                }
            }
        };
        let (from, until) = (day("valid_from", &raw.valid_from), day("valid_until", &raw.valid_until));
        let valid = Validity {
            from: from?,
            until: until?,
        };
        if let (Some(from), Some(until)) = (valid.from, valid.until)
            && until < from
        {
            let message = message!(
                "{until} is before valid_from ({from})",
                until = until.to_string(),
                from = from.to_string()
            );
            self.fault(
                &at.key("valid_until"),
                message,
                "give the last day on which it is permitted",
            );
            return None;
        }
        if let (Some(until), Some(today)) = (valid.until, self.surroundings.today)
            && until < today
        {
            let message = message!(
                "expired on {until}: what stands here is not permitted any more",
                until = until.to_string()
            );
            self.warn(
                &at.key("valid_until"),
                message,
                "set a later day if it was renewed, or remove the zone",
            );
        }
        Some(valid)
    }
}
