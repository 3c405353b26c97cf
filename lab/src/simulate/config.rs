//! Writes the configuration of a simulated town: the town's cameras, with the rules and settings of the shipped configs/edge.toml
//! or of a given file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{
    error::SimulateError,
    kinds::{SIGN, UNLABELLED},
    town::{Corner, Ground, StreetCamera, Town},
};
use gridwatch_base::{digest::sha256_hex, file};
use gridwatch_config::raw;
use gridwatch_engine::{BBox, ScheduleId};

const EDGE: &str = include_str!("../../../configs/edge.toml");
const CATEGORIES: &str = include_str!("../../../configs/categories/default.toml");
const CALENDAR: &str = include_str!("../../../configs/calendar/cn-2026.toml");
/// The category file's path, in edge.toml and in the output.
const CATEGORIES_PATH: &str = "categories/default.toml";

/// The id of the opening hours of the town's permitted pitches.
pub(super) const MARKET: &str = "simulated-market";
/// Locations less certain than this are filed at the view's fixed place, as in configs/edge.toml.
const MAX_UNCERTAINTY_M: f64 = 8.0;
/// Location uncertainty of a view without a calibration.
const VIEW_M: f64 = 20.0;
/// Sections taken over from the given configuration; the others are the town's.
const SECTIONS: [&str; 10] = [
    "rules",
    "change",
    "schedules",
    "intake",
    "view",
    "evidence",
    "decode",
    "telemetry",
    "calendar",
    "runtime",
];

const HEAD: &str = "\
# A simulated town, not a real one, written by `gridwatch-lab simulate`. The rules are those of the given configuration; the
# cameras, cells and models do not exist. For `gridwatch replay` and `gridwatch tune`, not for a daemon.

";

/// Signs are recorded without the detector's noise, since `gridwatch signs record` takes the median of many looks.
const RECORDED: &str = "2026-01-01T12:00:00+08:00";

/// The content of the placeholder model file.
const NO_NETWORK: &str = "Placeholder: the simulated detector has no network, and gridwatch replay needs none.\n";

/// A written configuration.
pub(super) struct WrittenConfig {
    pub(super) path: PathBuf,
    /// `[change]`, or its defaults.
    pub(super) change: raw::Change,
}

/// Writes `config.toml` and the files that it names into `out`. Without `has_change_map`, it has no change map, and its rules do not
/// ask what is new.
pub(super) fn write(
    out: &Path,
    town: &Town,
    rules: Option<&Path>,
    look_every: raw::Span,
    has_change_map: bool,
) -> Result<WrittenConfig, SimulateError> {
    let source = Source::read(rules)?;
    let mut config = source.sections()?;
    if !has_change_map {
        remove_newness(&mut config);
    }
    remove_text(&mut config);
    let change = source.change(&config)?;
    source.write_categories(out)?;
    source.write_calendars(out)?;
    rename_calendars(&mut config);
    write_file(&out.join("grid.geojson"), &format!("{:#}\n", town.cells))?;
    set_town(&mut config, source.timezone());
    let rules = source.rules(&config)?;
    set_schedules(&mut config, &rules);
    write_model(out, &rules)?;
    config.insert("models".into(), Value::Array(vec![table([("dir", "model".into())])]));
    // There are no pictures, so there is nothing to mask.
    let evidence = config.entry("evidence").or_insert_with(|| Value::Table(Table::new()));
    if let Some(evidence) = evidence.as_table_mut() {
        evidence.remove("mask_models");
        evidence.insert("mask".into(), Value::Boolean(false));
    }
    let cameras = write_cameras(out, town, &rules, look_every)?;
    config.insert("cameras".into(), cameras);

    let path = out.join("config.toml");
    let text = toml::to_string(&config).map_err(|e| SimulateError::Bug(e.to_string()))?;
    write_file(&path, &format!("{HEAD}{text}"))?;
    Ok(WrittenConfig { path, change })
}

/// Removes what needs text, because nothing in the town bears any: rules that tell what something new is by its text alone, and the text that
/// others need of objects that a model detects.
fn remove_text(config: &mut Table) {
    config.remove("reading");
    let Some(rules) = config.get_mut("rules").and_then(Value::as_array_mut) else {
        return;
    };
    rules.retain_mut(|rule| {
        let Some(rule) = rule.as_table_mut() else {
            return true;
        };
        let needs_text = |second_look: &Value| second_look.get("text").is_some_and(|t| t.as_str() != Some("any"));
        if !rule.get("second_look").is_some_and(needs_text) {
            return true;
        }
        let labels = rule.get("labels").and_then(Value::as_array);
        let is_unlabelled = labels.is_some_and(|labels| labels.iter().any(|l| l.as_str() == Some(UNLABELLED)));
        rule.remove("second_look");
        !is_unlabelled
    });
}

/// Disables the change map, and removes from the rules what needs it. A rule about unknown objects alone is removed.
fn remove_newness(config: &mut Table) {
    config.insert("change".into(), table([("enabled", false.into())]));
    let Some(rules) = config.get_mut("rules").and_then(Value::as_array_mut) else {
        return;
    };
    rules.retain_mut(|rule| {
        let Some(rule) = rule.as_table_mut() else {
            return true;
        };
        for field in [
            "appeared",
            "new_start_score",
            "new_keep_score",
            "old_start_score",
            "unidentified_dwell",
        ] {
            rule.remove(field);
        }
        let labels = rule.get_mut("labels").and_then(Value::as_array_mut);
        labels.is_none_or(|labels| {
            labels.retain(|l| l.as_str() != Some(UNLABELLED));
            !labels.is_empty()
        })
    });
}

/// The configuration that gives the rules: a file, or the built-in configs/edge.toml.
struct Source<'a> {
    /// The given file; `None`: the built-in one.
    path: Option<&'a Path>,
    given: Table,
}

impl<'a> Source<'a> {
    fn read(path: Option<&'a Path>) -> Result<Self, SimulateError> {
        let text = match path {
            None => EDGE.to_owned(),
            Some(path) => read(path)?,
        };
        let given = text.parse();
        let given = given.map_err(|e: toml::de::Error| invalid(path, e.to_string()))?;
        Ok(Self { path, given })
    }

    /// The sections that are taken over, the rules among them.
    fn sections(&self) -> Result<Table, SimulateError> {
        let sections: Table = SECTIONS
            .iter()
            .filter_map(|s| Some(((*s).to_owned(), self.given.get(*s)?.clone())))
            .collect();
        if !sections.contains_key("rules") {
            return Err(invalid(self.path, "no [[rules]] in it; add at least one rule".into()));
        }
        Ok(sections)
    }

    fn rules(&self, config: &Table) -> Result<Vec<raw::Rule>, SimulateError> {
        let rules = config["rules"].clone().try_into();
        rules.map_err(|e: toml::de::Error| invalid(self.path, e.to_string()))
    }

    fn change(&self, config: &Table) -> Result<raw::Change, SimulateError> {
        let change = config.get("change").cloned().map(Value::try_into).transpose();
        let change = change.map_err(|e: toml::de::Error| invalid(self.path, format!("change: {e}")))?;
        Ok(change.unwrap_or_default())
    }

    fn timezone(&self) -> &str {
        let timezone = self.given.get("node").and_then(|n| n.get("timezone"));
        timezone.and_then(Value::as_str).unwrap_or("Asia/Shanghai")
    }

    /// The file that `name` refers to in the given file; `None`: the built-in one.
    fn sibling(&self, name: &str) -> Option<PathBuf> {
        self.path.map(|p| p.parent().unwrap_or(Path::new("")).join(name))
    }

    fn write_categories(&self, out: &Path) -> Result<(), SimulateError> {
        let stated = self.given.get("grid").and_then(|g| g.get("categories"));
        let categories = match stated.and_then(Value::as_str).and_then(|name| self.sibling(name)) {
            Some(path) => read(&path)?,
            None => CATEGORIES.to_owned(),
        };
        write_file(&out.join(CATEGORIES_PATH), &categories)
    }

    fn write_calendars(&self, out: &Path) -> Result<(), SimulateError> {
        let files = self.given.get("calendar").and_then(|c| c.get("files"));
        let files = files.and_then(Value::as_array).into_iter().flatten();
        for file in files.filter_map(Value::as_str) {
            let text = match self.sibling(file) {
                Some(path) => read(&path)?,
                None => CALENDAR.to_owned(),
            };
            let name = Path::new(file).file_name().unwrap_or_default();
            write_file(&out.join("calendar").join(name), &text)?;
        }
        Ok(())
    }
}

fn invalid(path: Option<&Path>, reason: String) -> SimulateError {
    SimulateError::Rules {
        path: path.unwrap_or(Path::new("configs/edge.toml")).to_path_buf(),
        reason,
    }
}

/// Points the calendar files at their copies.
fn rename_calendars(config: &mut Table) {
    let Some(calendar) = config.get_mut("calendar").and_then(Value::as_table_mut) else {
        return;
    };
    let files = calendar.get_mut("files").and_then(Value::as_array_mut);
    for file in files.into_iter().flatten() {
        let name = file
            .as_str()
            .and_then(|f| Path::new(f).file_name()?.to_str().map(str::to_owned));
        *file = Value::String(format!("calendar/{}", name.unwrap_or_default()));
    }
}

/// Adds the sections of the town itself.
fn set_town(config: &mut Table, timezone: &str) {
    config.insert(
        "node".into(),
        table([
            ("id", "simulated".into()),
            ("timezone", timezone.into()),
            ("state_dir", "state".into()),
        ]),
    );
    config.insert("broker".into(), table([("url", "mqtt://127.0.0.1:1883".into())]));
    config.insert(
        "grid".into(),
        table([
            ("file", "grid.geojson".into()),
            ("crs", "EPSG:4490".into()),
            ("version", "simulated-1".into()),
            ("categories", CATEGORIES_PATH.into()),
        ]),
    );
    config.insert("ledger".into(), table([("dir", "ledger".into())]));
}

/// Keeps the schedules of the rules, without those that only the given cameras' zones refer to, and adds the market's.
fn set_schedules(config: &mut Table, rules: &[raw::Rule]) {
    let schedules = config.entry("schedules").or_insert_with(|| Value::Array(Vec::new()));
    if let Some(schedules) = schedules.as_array_mut() {
        let named: Vec<&String> = rules.iter().flat_map(|r| r.active.iter().chain(&r.pause)).collect();
        schedules.retain(|s| {
            s.get("id")
                .and_then(Value::as_str)
                .is_none_or(|id| named.iter().any(|n| *n == id))
        });
        schedules.push(market());
    }
}

/// The cameras' sections; writes their baselines of approved signs.
fn write_cameras(out: &Path, town: &Town, rules: &[raw::Rule], look_every: raw::Span) -> Result<Value, SimulateError> {
    let cameras: Vec<raw::Camera> = town
        .cameras
        .iter()
        .map(|c| camera(c, town, rules, look_every))
        .collect();
    for (camera, raw) in town.cameras.iter().zip(&cameras) {
        if let Some(path) = &raw.approved_signs {
            let text = toml::to_string(&signs(camera, town)).map_err(|e| SimulateError::Bug(e.to_string()))?;
            write_file(&out.join(path), &text)?;
        }
    }
    Value::try_from(cameras).map_err(|e| SimulateError::Bug(e.to_string()))
}

/// The schedule id of the permitted pitches.
pub(super) fn market_hours() -> ScheduleId {
    MARKET.into()
}

/// A breakfast market and, on weekends, a night market.
fn market() -> Value {
    let window = |days: &str, from: &str, to: &str| {
        table([
            ("days", Value::Array(vec![days.into()])),
            ("from", from.into()),
            ("to", to.into()),
        ])
    };
    let windows = vec![
        window("workday", "06:00", "08:30"),
        window("restday", "06:00", "11:00"),
        window("fri-sat", "18:00", "23:00"),
    ];
    table([("id", MARKET.into()), ("windows", Value::Array(windows))])
}

/// Writes a model folder whose manifest lists the rules' labels.
fn write_model(out: &Path, rules: &[raw::Rule]) -> Result<(), SimulateError> {
    let mut labels: Vec<&str> = Vec::new();
    for rule in rules {
        let by = rule.attended.iter().flat_map(|a| &a.by);
        for label in rule.labels.iter().chain(by).filter(|l| *l != UNLABELLED) {
            if !labels.contains(&label.as_str()) {
                labels.push(label);
            }
        }
    }
    let manifest = format!(
        "# Placeholder for the simulator's detector, without a network: `gridwatch check` cannot load it; `gridwatch replay` does not.\n\
         id = \"simulated\"\nversion = \"1.0.0\"\nsha256 = \"{}\"\nlicence = \"Apache-2.0\"\nsource = \"gridwatch-lab simulate\"\n\
         adapter = \"yolox\"\nlabels = {}\nscore_floor = 0.1\nnms_iou = 0.45\n\n\
         [input]\nname = \"images\"\nwidth = 416\nheight = 416\ncolour = \"bgr\"\nfit = \"top_left\"\npad = 114\n",
        sha256_hex(NO_NETWORK.as_bytes()),
        Value::Array(labels.into_iter().map(Value::from).collect()),
    );
    write_file(&out.join("model/model.toml"), &manifest)?;
    write_file(&out.join("model/model.onnx"), NO_NETWORK)
}

fn camera(camera: &StreetCamera, town: &Town, rules: &[raw::Rule], look_every: raw::Span) -> raw::Camera {
    let corner = &town.corners[camera.corner];
    let middle = corner.lon_lat((0.0, 0.0));
    let is_calibrated = !camera.pairs.is_empty();
    raw::Camera {
        id: camera.id.clone(),
        url: format!("rtsp://192.0.2.1/{}", camera.id),
        credentials: None,
        ca_file: None,
        pin_sha256: None,
        auth: Default::default(),
        transport: gridwatch_camera::Transport::Tcp,
        source: gridwatch_camera::StreamSource::Auto,
        look_every,
        models: Vec::new(),
        read_numbers: false,
        gb_device_id: None,
        address: None,
        legal_review_ref: None,
        groups: Vec::new(),
        fixed: true,
        change: None,
        approved_signs: rules
            .iter()
            .any(|r| r.except_approved)
            .then(|| format!("signs/{}.toml", camera.id).into()),
        crs: None,
        place: Some(raw::Place {
            lon: degrees(middle.lon),
            lat: degrees(middle.lat),
            uncertainty_m: VIEW_M,
        }),
        presets: Vec::new(),
        tour: None,
        calibration: is_calibrated.then(|| raw::Calibration {
            points: camera
                .pairs
                .iter()
                .map(|(p, g)| raw::PointPair {
                    picture: [p.x, p.y].map(|v| (v * 1e5).round() / 1e5),
                    ground: [degrees(g.lon), degrees(g.lat)],
                })
                .collect(),
            crs: None,
            distortion: None,
            max_uncertainty_m: MAX_UNCERTAINTY_M,
        }),
        zones: zones(camera, corner, rules, is_calibrated),
    }
}

/// The approved signs in the camera's view.
fn signs(camera: &StreetCamera, town: &Town) -> raw::Signs {
    let sign_places = town.corners[camera.corner]
        .places
        .iter()
        .filter(|p| p.ground == Ground::Sign);
    let boxes = sign_places.flat_map(|place| {
        SIGN.iter()
            .map(|part| (part, camera.lens.project_box(place.at, part.size_m, part.up_m)))
    });
    let signs = boxes.filter_map(|(part, bbox)| {
        let BBox { x1, y1, x2, y2 } = bbox?.within_picture()?;
        Some(raw::Sign {
            corners: [x1, y1, x2, y2],
            label: part.label.into(),
            number: None,
            text: None,
            note: None,
            permit: None,
            valid_until: None,
            added: None,
        })
    });
    raw::Signs {
        camera: camera.id.clone(),
        recorded: RECORDED.into(),
        model: "simulated 1.0.0".into(),
        signs: signs.collect(),
    }
}

/// Zones as a careful operator draws them: containers, permitted pitches and bus stops wherever they are visible; and, in a view
/// without a calibration, the two pavements, so that objects on one are told from those on the other.
fn zones(camera: &StreetCamera, corner: &Corner, rules: &[raw::Rule], is_calibrated: bool) -> Vec<raw::Zone> {
    let rules_for = |category: &str| -> Vec<String> {
        let of_it = rules.iter().filter(|r| r.category == category);
        of_it.map(|r| r.id.clone()).collect()
    };
    let mut zones = Vec::new();
    let mut add_zone = |id: String, kind, ground: &[(f64, f64)], rules: Vec<String>, schedule: Option<&str>| {
        if let Some(polygon) = camera.lens.outline(ground) {
            zones.push(raw::Zone {
                id,
                kind,
                polygon,
                rules,
                schedule: schedule.map(str::to_owned),
                valid_from: None,
                valid_until: None,
                permit: None,
                note: None,
            });
        }
    };
    // Wall objects are watched everywhere, and shop spill-over only in front of a shop.
    let is_of_the_ground = |r: &&raw::Rule| r.stands == raw::Stands::Ground && r.beyond.is_none();
    let ground: Vec<String> = rules.iter().filter(is_of_the_ground).map(|r| r.id.clone()).collect();
    let spill_rules: Vec<String> = rules
        .iter()
        .filter(|r| r.beyond.is_some())
        .map(|r| r.id.clone())
        .collect();
    if !is_calibrated && !ground.is_empty() {
        for (side, pavement) in ["left", "right"].into_iter().zip(Corner::pavements()) {
            add_zone(
                format!("pavement-{side}"),
                raw::ZoneKind::Watch,
                &pavement,
                ground.clone(),
                None,
            );
        }
    }
    // These zones permit or exclude vendors, not garbage.
    let vendors = rules_for("0501");
    for (n, place) in corner.places.iter().enumerate() {
        let outline = place.outline();
        let mut add = |name: &str, kind, rules: &[String], schedule| {
            add_zone(format!("{name}-{n}"), kind, &outline, rules.to_vec(), schedule);
        };
        match place.ground {
            Ground::Containers => add("containers", raw::ZoneKind::Container, &[], None),
            Ground::Market if !vendors.is_empty() => {
                add("market", raw::ZoneKind::Permitted, &vendors, Some(MARKET));
            }
            Ground::BusStop if !vendors.is_empty() => add("stop", raw::ZoneKind::Exclude, &vendors, None),
            // A table in front of a shop belongs to the shop, not to a vendor.
            Ground::Frontage | Ground::Shop if !spill_rules.is_empty() => {
                let kind = if place.ground == Ground::Shop {
                    raw::ZoneKind::Shop
                } else {
                    raw::ZoneKind::Watch
                };
                add("shop", kind, &spill_rules, None);
                if !vendors.is_empty() {
                    add("of-the-shop", raw::ZoneKind::Exclude, &vendors, None);
                }
            }
            _ => {}
        }
    }
    zones
}

/// Rounds to seven decimals (1 cm).
fn degrees(value: f64) -> f64 {
    (value * 1e7).round() / 1e7
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn read(path: &Path) -> Result<String, SimulateError> {
    file::read_text(path, file::MAX_TEXT).map_err(|source| SimulateError::Io {
        doing: "read",
        path: path.to_path_buf(),
        source,
    })
}

/// Writes a file and creates its parent folders.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), SimulateError> {
    let failed = |source| SimulateError::Io {
        doing: "write",
        path: path.to_path_buf(),
        source,
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}
