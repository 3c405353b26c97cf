//! `gridwatch init`: writes a small, valid configuration for the cameras given.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, BufRead, IsTerminal, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Table, Value, value};
use url::Url;

use super::{
    Failure, json_pretty,
    options::must_be_new,
    print,
    share::share,
    starter::{self, NOWHERE, TEMPLATE},
    terminal::{self, note},
};
use gridwatch_base::{
    error::Class,
    file,
    secret::{Credentials, Zeroizing},
};
use gridwatch_config::{self as config, raw};

/// The configuration's file in the new folder.
const CONFIG: &str = "gridwatch.toml";

/// Write a first configuration.
///
/// Writes a folder with a small configuration (gridwatch.toml) for the cameras given, a made-up grid of one cell around them, the
/// city's categories to be replaced, and a file for each camera's user name and password, which only you can read. Without --camera
/// it asks on the terminal. Nothing is contacted; `gridwatch check` does that next.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch init --camera gate=rtsp://admin:secret@192.0.2.10:554/stream --local-broker --dwell 1m
  gridwatch init --camera gate=rtsp://192.0.2.10/1 --camera lane=rtsp://192.0.2.11/1 --place 121.4737,31.2304 --language en
  gridwatch init --camera gate=rtsp://192.0.2.10/1 --broker mqtts://broker.example --ca-file ca.pem

Exit codes: 0 written; 2 an argument is invalid; 3 a setting is invalid, the folder exists, or something in it cannot be
written. Nothing is left behind unless all is written.")]
pub struct InitArgs {
    /// Folder to create.
    #[arg(long, value_name = "DIR", default_value = "gridwatch")]
    out: PathBuf,
    /// A camera: an id (letters, digits, - and _) and its stream, with user name and password if it needs them; may be repeated.
    /// Those are written to a file of their own, never into the configuration.
    #[arg(long = "camera", value_name = "ID=URL")]
    cameras: Vec<String>,
    /// Where the cameras look: longitude and latitude in degrees (CGCS2000 or WGS 84, not GCJ-02). [default: a made-up place]
    #[arg(long, value_name = "LON,LAT", value_parser = place, allow_hyphen_values = true)]
    place: Option<raw::Place>,
    /// Id of this box, unique in the city.
    #[arg(long, value_name = "ID", default_value = "box-01", value_parser = id)]
    node: String,
    /// Broker of the platform. [default: mqtt://127.0.0.1:1883]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// For a broker with TLS (mqtts://): PEM file of the CA that signed its certificate, or of the certificate itself. It stays
    /// where it is; the configuration names it.
    #[arg(long, value_name = "FILE", requires = "broker")]
    ca_file: Option<PathBuf>,
    /// Also write mosquitto.conf, for a broker on this machine that only this machine can reach.
    #[arg(long, conflicts_with = "broker")]
    local_broker: bool,
    /// Time zone of the city.
    #[arg(long, value_name = "ZONE", default_value = "Asia/Shanghai")]
    timezone: String,
    /// Language of the case texts: zh or en.
    #[arg(long, value_name = "LANGUAGE", default_value = "zh", value_parser = ["zh", "en"])]
    language: String,
    /// How long a problem must stay before a case is filed, for every rule; `1m` shows a first case soon. [default: 30m for garbage,
    /// 5m for vendors]
    #[arg(long, value_name = "TIME")]
    dwell: Option<raw::Span>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct CameraArg {
    id: String,
    url: Url,
    credentials: Option<Credentials>,
}

impl FromStr for CameraArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = text
            .split_once('=')
            .ok_or("expected ID=URL, such as gate=rtsp://192.0.2.10/stream")?;
        let (url, credentials) = starter::stream_url(url).map_err(|e| e.message)?;
        Ok(Self {
            id: id(name)?,
            url,
            credentials,
        })
    }
}

pub(super) fn id(text: &str) -> Result<String, String> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match text {
        _ if (1..=64).contains(&text.len()) && text.chars().all(is_valid) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no id: 1 to 64 letters, digits, - and _")),
    }
}

fn place(text: &str) -> Result<raw::Place, String> {
    let degrees = |text: &str, max: f64| text.trim().parse::<f64>().ok().filter(|d| d.abs() <= max);
    let (lon, lat) = text.split_once([',', ' ']).unwrap_or((text, ""));
    match (degrees(lon, 180.0), degrees(lat, 90.0)) {
        (Some(lon), Some(lat)) => Ok(raw::Place { lon, lat, ..NOWHERE }),
        _ => Err("expected longitude and latitude in degrees, such as 121.4737,31.2304".to_owned()),
    }
}

/// What was asked for or taken from the arguments.
struct NewSettings {
    place: raw::Place,
    ca_file: Option<PathBuf>,
}

/// What was written.
#[derive(Debug, serde::Serialize)]
struct InitReport {
    config: PathBuf,
    files: Vec<PathBuf>,
    /// No --place was given.
    made_up_place: bool,
}

/// Runs the command.
///
/// # Errors
/// No camera, a folder that exists or cannot be written, or gridwatch's own files not found.
pub fn run(args: &InitArgs) -> Result<ExitCode, Failure> {
    must_be_new(&args.out)?;
    let share = share()?;
    let parsed: Result<Vec<CameraArg>, String> = args.cameras.iter().map(|camera| camera.parse()).collect();
    let mut cameras = match parsed {
        Ok(cameras) => cameras,
        // Not by clap, which would repeat the argument with the password in it.
        Err(why) => {
            note(format_args!("error: --camera: {why}"));
            return Ok(ExitCode::from(2));
        }
    };
    let broker_has_secret = |url: &Url| !url.username().is_empty() || url.password().is_some();
    if args
        .broker
        .as_ref()
        .and_then(|url| Url::parse(url).ok())
        .is_some_and(|url| broker_has_secret(&url))
    {
        let message = "--broker: leave user name and password out of the URL, and name them under `broker.credentials` in the configuration";
        return Err(Failure::new(Class::Config, message));
    }
    let ca_file = broker_ca(args)?;
    let mut where_to = args.place.clone();
    if cameras.is_empty() {
        if !io::stdin().is_terminal() {
            let message = "no camera given; use --camera ID=URL, or run this on a terminal, where it asks";
            return Err(Failure::new(Class::Config, message));
        }
        cameras = ask_cameras()?;
        if where_to.is_none() {
            where_to = ask(
                "Where do they look (longitude,latitude; empty: a made-up place)?",
                place,
            )?;
        }
    }
    let mut ids = BTreeSet::new();
    if let Some(twice) = cameras.iter().find(|camera| !ids.insert(&camera.id)) {
        return Err(Failure::new(
            Class::Config,
            format!("two cameras have the id {:?}", twice.id),
        ));
    }

    let made_up_place = where_to.is_none();
    let folder = Folder::create(&args.out)?;
    let settings = NewSettings {
        place: where_to.unwrap_or(NOWHERE),
        ca_file,
    };
    let config = write(args, &cameras, &settings, &share, &folder)?;
    config::load_offline(&config).map_err(|faults| {
        let failure = Failure::from(faults);
        let (temporary, out) = (folder.dir.path().display().to_string(), args.out.display().to_string());
        Failure::new(failure.class, failure.message.replace(&temporary, &out))
    })?;
    let report = InitReport {
        config: args.out.join(CONFIG),
        files: folder.finish(&args.out)?,
        made_up_place,
    };
    let text = if args.json {
        json_pretty(&report)?
    } else {
        next_steps(&report, args)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The CA file for the broker, if it has TLS: absolute, and with a certificate in it.
fn broker_ca(args: &InitArgs) -> Result<Option<PathBuf>, Failure> {
    let is_tls = args.broker.as_ref().and_then(|url| Url::parse(url).ok());
    let is_tls = is_tls.is_some_and(|url| url.scheme() == "mqtts");
    let fault = |message: String| Err(Failure::new(Class::Config, message));
    match &args.ca_file {
        None if is_tls => fault(
            "--broker mqtts://…: give --ca-file FILE, the PEM file of the CA that signed the broker's certificate, or of the \
             certificate itself if it is self-signed; on Debian, all public CAs are in /etc/ssl/certs/ca-certificates.crt"
                .into(),
        ),
        Some(_) if !is_tls => fault("--ca-file: only for a broker with TLS, mqtts://".into()),
        None => Ok(None),
        Some(path) => {
            let text = match file::read_text(path, file::MAX_KEY) {
                Ok(text) => text,
                Err(e) => return fault(format!("--ca-file {}: {e}", path.display())),
            };
            if !text.contains("-----BEGIN CERTIFICATE-----") {
                return fault(format!(
                    "--ca-file {}: no certificate in it; name a PEM file, which has a line -----BEGIN CERTIFICATE-----",
                    path.display()
                ));
            }
            std::path::absolute(path)
                .map(Some)
                .or_else(|e| fault(format!("--ca-file {}: {e}", path.display())))
        }
    }
}

fn write(
    args: &InitArgs,
    cameras: &[CameraArg],
    settings: &NewSettings,
    share: &Path,
    folder: &Folder,
) -> Result<PathBuf, Failure> {
    for camera in cameras {
        if let Some(Credentials { user, password }) = &camera.credentials {
            folder.write(
                &secret_file(camera),
                &Zeroizing::new(format!("{}:{}\n", user.expose(), password.expose())),
                0o600,
            )?;
        }
    }
    folder.write("grid.geojson", &starter::one_cell_grid(&settings.place), 0o644)?;
    let categories = share.join("configs/categories/default.toml");
    let categories = fs::read_to_string(&categories)
        .map_err(|e| Failure::new(Class::Config, format!("{}: {e}", categories.display())))?;
    folder.write("categories.toml", &categories, 0o644)?;
    if args.local_broker {
        folder.write("mosquitto.conf", "# A broker that only this machine can reach: mosquitto -c FILE\nlistener 1883 127.0.0.1\nallow_anonymous true\n", 0o644)?;
    }
    // A camera may take its password in the query.
    let mode = if cameras.iter().any(|camera| camera.url.query().is_some()) {
        0o600
    } else {
        0o644
    };
    folder.write(CONFIG, &document(args, cameras, settings, share)?, mode)
}

fn secret_file(camera: &CameraArg) -> String {
    format!("{}.secret", camera.id)
}

/// The template with the settings given, its comments kept.
fn document(args: &InitArgs, cameras: &[CameraArg], new: &NewSettings, share: &Path) -> Result<String, Failure> {
    let bug = |e: &dyn std::fmt::Display| Failure::new(Class::Bug, format!("configs/first.toml: {e}"));
    // The comment about the template itself and the schema's relative path do not hold for a copy.
    let (_, settings) = TEMPLATE.split_once("\n\n").ok_or_else(|| bug(&"no head"))?;
    let head = format!(
        "# Written by `gridwatch init` {}. Every setting is explained in {}.\n\n",
        env!("CARGO_PKG_VERSION"),
        share.join("configs/edge.toml").display()
    );
    let mut file: DocumentMut = settings.parse().map_err(|e: toml_edit::TomlError| bug(&e))?;
    set(&mut file["node"]["id"], args.node.as_str());
    set(&mut file["node"]["timezone"], args.timezone.as_str());
    set(&mut file["node"]["language"], args.language.as_str());
    if let Some(broker) = &args.broker {
        set(&mut file["broker"]["url"], broker.as_str());
    }
    if let Some(ca_file) = &new.ca_file {
        file["broker"]["ca_file"] = value(ca_file.to_string_lossy().as_ref());
    }
    set(&mut file["grid"]["file"], "grid.geojson");
    set(&mut file["grid"]["categories"], "categories.toml");
    let absolute = |path: &str| {
        share
            .join("configs")
            .join(path)
            .canonicalize()
            .map_err(|e| Failure::new(Class::Config, format!("{path}: {e}")))
    };
    if let Some(models) = file["evidence"]["mask_models"].as_array_mut() {
        for model in models.iter_mut() {
            let path = absolute(model.as_str().unwrap_or_default())?;
            let decor = model.decor().clone();
            *model = Value::from(path.to_string_lossy().as_ref());
            *model.decor_mut() = decor;
        }
    }
    for model in file["models"]
        .as_array_of_tables_mut()
        .into_iter()
        .flat_map(ArrayOfTables::iter_mut)
    {
        let path = absolute(model["dir"].as_str().unwrap_or_default())?;
        set(&mut model["dir"], path.to_string_lossy().as_ref());
    }
    if let Some(dwell) = &args.dwell {
        for rule in file["rules"]
            .as_array_of_tables_mut()
            .into_iter()
            .flat_map(ArrayOfTables::iter_mut)
        {
            set(&mut rule["dwell"], dwell.to_string().as_str());
        }
    }
    file["cameras"] = cameras
        .iter()
        .map(|camera| camera_table(camera, &new.place))
        .collect::<ArrayOfTables>()
        .into();
    Ok(format!("{head}{file}"))
}

/// Sets a value and keeps the comment beside it.
fn set<'a>(item: &mut toml_edit::Item, new: impl Into<&'a str>) {
    let decor = item.as_value().map(|old| old.decor().clone());
    *item = value(new.into());
    if let (Some(decor), Some(new)) = (decor, item.as_value_mut()) {
        *new.decor_mut() = decor;
    }
}

fn camera_table(camera: &CameraArg, place: &raw::Place) -> Table {
    let mut table = Table::new();
    table.insert("id", value(&camera.id));
    table.insert("url", value(camera.url.as_str()));
    if camera.credentials.is_some() {
        table.insert(
            "credentials",
            value(InlineTable::from_iter([("file", secret_file(camera))])),
        );
    }
    table.insert(
        "place",
        value(InlineTable::from_iter([("lon", place.lon), ("lat", place.lat)])),
    );
    table
}

/// The new folder under a temporary name beside its own, and the names of what was written into it.
struct Folder {
    dir: tempfile::TempDir,
    written: std::cell::RefCell<Vec<String>>,
}

impl Folder {
    fn create(out: &Path) -> Result<Self, Failure> {
        let parent = out
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let failure = |e: io::Error| Failure::new(Class::Config, format!("cannot create {}: {e}", out.display()));
        fs::create_dir_all(parent).map_err(failure)?;
        let mut temporary = tempfile::Builder::new();
        let temporary = temporary
            .prefix(".gridwatch-init-")
            .permissions(fs::Permissions::from_mode(0o755));
        Ok(Self {
            dir: temporary.tempdir_in(parent).map_err(failure)?,
            written: std::cell::RefCell::default(),
        })
    }

    /// Gives the folder its name; returns the paths of its files.
    fn finish(self, out: &Path) -> Result<Vec<PathBuf>, Failure> {
        fs::rename(self.dir.path(), out)
            .map_err(|e| Failure::new(Class::Config, format!("cannot create {}: {e}", out.display())))?;
        Ok(self.written.into_inner().iter().map(|name| out.join(name)).collect())
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<PathBuf, Failure> {
        let path = self.dir.path().join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|e| Failure::new(Class::Config, format!("cannot write {}: {e}", path.display())))?;
        self.written.borrow_mut().push(name.to_owned());
        Ok(path)
    }
}

fn next_steps(report: &InitReport, args: &InitArgs) -> String {
    let config = quoted(&report.config);
    let mut text = format!("{config} is written.\n");
    if report.made_up_place {
        text += "Its place is made up, because no --place was given: set `place` of the cameras before a platform receives their cases.\n";
    }
    text += "Next:\n";
    if args.local_broker {
        text += &format!("  mosquitto -c {} &\n", quoted(&args.out.join("mosquitto.conf")));
    }
    text + &format!(
        "  gridwatch check --config {config}        what is right, what is wrong, how to fix it\n  \
         gridwatch run --config {config}          file cases; its log says each minute what it sees\n  \
         gridwatch cases list --config {config}   what was filed\n"
    )
}

/// A path as an argument in a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn ask_cameras() -> Result<Vec<CameraArg>, Failure> {
    let mut cameras: Vec<CameraArg> = Vec::new();
    loop {
        let number = cameras.len() + 1;
        let question = match number {
            1 => "Stream of the first camera (rtsp://user:password@host:554/path):".to_owned(),
            _ => format!("Stream of camera {number} (empty: no more):"),
        };
        let parse = |text: &str| CameraArg::from_str(&format!("camera-{number}={text}"));
        match ask(&question, parse)? {
            Some(camera) => cameras.push(camera),
            None if !cameras.is_empty() => return Ok(cameras),
            None => {}
        }
    }
}

/// Asks until the answer is valid; `None` for an empty one.
fn ask<T>(question: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Failure> {
    loop {
        let mut out = terminal::stderr();
        // Without a terminal to write to, the answers still count.
        let _ = write!(out, "{question} ").and_then(|()| out.flush());
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        match read.map_err(|e| Failure::new(Class::Transient, format!("standard input: {e}")))? {
            0 => {
                return Err(Failure::new(
                    Class::Config,
                    "standard input ended before every question was answered",
                ));
            }
            _ if line.trim().is_empty() => return Ok(None),
            _ => match parse(line.trim()) {
                Ok(answer) => return Ok(Some(answer)),
                Err(why) => drop(writeln!(out, "{why}")),
            },
        }
    }
}
