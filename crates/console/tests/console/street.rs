//! A daemon with cameras, as the console sees it, and a console that is served on a free port.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use gridwatch_base::secret::Secret;
use gridwatch_camera::{Slot, live::LiveLimits};
use gridwatch_config::{self as config, Config, diff, raw};
use gridwatch_console::{
    Console, Daemon, RouteSummary,
    daemon::{
        Change, ConfigurationStatus, Connection, Finding, LinkStatus, LiveView, Look, LookError, Masking, NotAvailable,
        Picture, PictureError, Readiness, ReloadAnswer, THUMBNAIL_BYTES, TriedPicture, VideoCodec, ViewStatus,
    },
};
use gridwatch_contract::EvidenceRole;
use gridwatch_engine::{BBox, CameraId, Light, View};
use gridwatch_store::{Store, evidence_file};
use gridwatch_web::{
    Role,
    accounts::{Accounts, NewUser},
    audit::{Act, RecordError},
};
use jiff::Timestamp;
use tokio::{
    runtime::Runtime,
    sync::{broadcast, oneshot},
};

use crate::{
    case,
    http::{Client, Response},
};

pub(crate) const PASSWORD: &str = "correct horse battery";

/// A daemon without threads: a test sets what its cameras show.
pub(crate) struct Street {
    config: Mutex<Arc<Config>>,
    views: Mutex<Vec<ViewStatus>>,
    looks: Mutex<BTreeMap<CameraId, Arc<Look>>>,
    changes: broadcast::Sender<Change>,
    readiness: Mutex<Readiness>,
    pub(crate) acts: Mutex<Vec<Act>>,
    /// The audit log cannot be written.
    pub(crate) is_unrecordable: Mutex<bool>,
    pub(crate) masks_fail: Mutex<bool>,
    /// The camera whose live video is shown, whatever the view.
    pub(crate) live: Mutex<Option<(Arc<Slot>, LiveLimits)>>,
    /// Why files without faults are not put into force.
    pub(crate) reload_error: Mutex<Option<String>>,
    /// Why no model passes its self-test.
    pub(crate) model_refusal: Mutex<Option<String>>,
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) metrics: Mutex<String>,
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

impl Street {
    pub(crate) fn new(config: Config) -> Self {
        let views = config
            .cameras
            .iter()
            .flat_map(|camera| &camera.presets)
            .map(|preset| ViewStatus {
                view: preset.view.clone(),
                connection: Connection::Live,
                connection_since: at(0),
                connection_detail: None,
                sight: Some(View::Clear),
                sight_since: Some(at(0)),
                looked_at: Some(at(10)),
                candidates: 0,
                open_cases: 0,
            });
        let views: Vec<ViewStatus> = views.collect();
        let look = Arc::new(Look {
            at: at(10),
            sight: View::Clear,
            light: Light::Day,
            size: (1280, 720),
            detections: vec![Finding {
                label: "garbage".into(),
                score: 0.87,
                bbox: BBox {
                    x1: 0.25,
                    y1: 0.5,
                    x2: 0.5,
                    y2: 0.75,
                },
                counts: true,
            }],
        });
        Self {
            looks: Mutex::new(
                views
                    .iter()
                    .map(|view| (view.view.clone(), Arc::clone(&look)))
                    .collect(),
            ),
            views: Mutex::new(views),
            config: Mutex::new(Arc::new(config)),
            changes: broadcast::channel(256).0,
            readiness: Mutex::new(Readiness {
                ready: true,
                blockers: Vec::new(),
            }),
            acts: Mutex::default(),
            is_unrecordable: Mutex::default(),
            masks_fail: Mutex::default(),
            live: Mutex::default(),
            reload_error: Mutex::default(),
            model_refusal: Mutex::default(),
            log: Mutex::new(vec![
                "INFO Connected to MQTT broker".into(),
                "WARN Camera down camera=gate".into(),
            ]),
            metrics: Mutex::new("gridwatch_ready 1\n".into()),
        }
    }

    /// Changes the configuration in force, without its files.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.config.lock().unwrap();
        change(Arc::make_mut(&mut config));
    }

    /// Changes the state of a view, and tells it.
    pub(crate) fn change(&self, view: &str, change: impl FnOnce(&mut ViewStatus)) {
        change(
            self.views
                .lock()
                .unwrap()
                .iter_mut()
                .find(|status| status.view.as_str() == view)
                .unwrap(),
        );
        let _ = self.changes.send(Change::View(view.into()));
    }

    /// Looks at a view at a time.
    pub(crate) fn look(&self, view: &str, at: Timestamp) {
        let mut looks = self.looks.lock().unwrap();
        let mut look = (*looks[&CameraId::from(view)]).clone();
        look.at = at;
        looks.insert(view.into(), Arc::new(look));
        drop(looks);
        self.change(view, |status| status.looked_at = Some(at));
    }

    /// Shows another look at a view.
    pub(crate) fn set_look(&self, view: &str, look: Look) {
        self.looks.lock().unwrap().insert(view.into(), Arc::new(look));
    }

    pub(crate) fn block(&self, blocker: &str) {
        *self.readiness.lock().unwrap() = Readiness {
            ready: false,
            blockers: vec![gridwatch_base::message::Message::from(blocker.to_owned())],
        };
        let _ = self.changes.send(Change::Status);
    }

    /// Browsers that watch.
    pub(crate) fn watchers(&self) -> usize {
        self.changes.receiver_count()
    }

    /// Names of the recorded acts with their users.
    pub(crate) fn acts(&self) -> Vec<(&'static str, Option<String>)> {
        let acts = self.acts.lock().unwrap();
        acts.iter().map(|act| (act.name, act.by.user.clone())).collect()
    }
}

/// A picture with some contents, smaller with more compression.
pub(crate) fn jpeg(width: u32, height: u32, quality: u8) -> Bytes {
    let shade = |x: u32, y: u32| {
        image::Rgb([
            (x * 255 / width) as u8,
            (y * 255 / height) as u8,
            ((x / 16 + y / 16) % 2 * 90) as u8,
        ])
    };
    let picture = image::RgbImage::from_fn(width, height, shade);
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(&picture)
        .unwrap();
    bytes.into()
}

impl Daemon for Street {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap())
    }

    fn views(&self) -> Vec<ViewStatus> {
        self.views.lock().unwrap().clone()
    }

    fn newest_look(&self, view: &CameraId) -> Option<Arc<Look>> {
        self.looks.lock().unwrap().get(view).cloned()
    }

    fn thumbnail(&self, view: &CameraId) -> BoxFuture<'_, Result<Picture, PictureError>> {
        let look = self.newest_look(view);
        Box::pin(async move {
            let jpeg = jpeg(320, 180, 40);
            assert!(jpeg.len() <= THUMBNAIL_BYTES, "{}", jpeg.len());
            Ok(Picture {
                jpeg,
                at: look.ok_or(PictureError::NotYet)?.at,
            })
        })
    }

    fn picture(&self, view: &CameraId, masking: Masking) -> BoxFuture<'_, Result<Picture, PictureError>> {
        let look = self.newest_look(view);
        Box::pin(async move {
            if *self.masks_fail.lock().unwrap() && masking == Masking::Masked {
                return Err(PictureError::Failed("the model for faces is missing".into()));
            }
            let quality = if masking == Masking::Masked { 80 } else { 90 };
            Ok(Picture {
                jpeg: jpeg(1280, 720, quality),
                at: look.ok_or(PictureError::NotYet)?.at,
            })
        })
    }

    fn learned_picture(&self, view: &CameraId) -> BoxFuture<'_, Result<Picture, PictureError>> {
        let look = self.newest_look(view);
        Box::pin(async move {
            if *self.masks_fail.lock().unwrap() {
                return Err(PictureError::Failed("the model for faces is missing".into()));
            }
            Ok(Picture {
                jpeg: jpeg(320, 180, 70),
                at: look.ok_or(PictureError::NotYet)?.at,
            })
        })
    }

    fn look_now(&self, view: &CameraId) -> BoxFuture<'_, Result<(), LookError>> {
        let view = view.clone();
        Box::pin(async move {
            let status = self.view(&view).ok_or(LookError::NoSuchView)?;
            if status.connection != Connection::Live {
                return Err(LookError::NoPicture);
            }
            self.look(view.as_str(), at(5000));
            Ok(())
        })
    }

    fn readiness(&self) -> Readiness {
        self.readiness.lock().unwrap().clone()
    }

    fn configuration(&self) -> ConfigurationStatus {
        ConfigurationStatus {
            sha256: self.config().config_sha256.clone(),
            since: at(0),
            refused: self
                .reload_error
                .lock()
                .unwrap()
                .iter()
                .cloned()
                .map(gridwatch_base::message::Message::from)
                .collect(),
            awaits_restart: Vec::new(),
        }
    }

    fn reload(&self, dry_run: bool) -> BoxFuture<'_, ReloadAnswer> {
        let before = self.config();
        let mut answer = ReloadAnswer {
            accepted: false,
            changes: Vec::new(),
            faults: Vec::new(),
            error: None,
            removed: Vec::new(),
        };
        let error = self.reload_error.lock().unwrap().clone();
        if error.is_some() {
            return Box::pin(std::future::ready(ReloadAnswer { error, ..answer }));
        }
        match config::load(&before.file) {
            Ok(new) => {
                answer.accepted = true;
                answer.changes = diff::changes(&before, &new);
                if !dry_run {
                    *self.config.lock().unwrap() = Arc::new(new);
                    let _ = self.changes.send(Change::Configured);
                }
            }
            Err(faults) => answer.faults = faults.0,
        }
        Box::pin(std::future::ready(answer))
    }

    fn live(&self, _: &CameraId) -> Result<LiveView, NotAvailable> {
        let live = self.live.lock().unwrap();
        let (slot, limits) = live.as_ref().ok_or(NotAvailable::NotReceived)?;
        slot.watch(limits)
    }

    fn try_picture(&self, keyframe: Bytes, _: VideoCodec) -> BoxFuture<'_, Result<TriedPicture, PictureError>> {
        Box::pin(async move {
            if *self.masks_fail.lock().unwrap() {
                return Err(PictureError::Failed("the model for faces is missing".into()));
            }
            assert!(keyframe.starts_with(&[0, 0]), "Annex B");
            let look = self.looks.lock().unwrap().values().next().cloned();
            Ok(TriedPicture {
                jpeg: jpeg(640, 360, 80),
                size: (640, 360),
                findings: look.map(|look| look.detections.clone()).unwrap_or_default(),
            })
        })
    }

    fn link(&self) -> LinkStatus {
        LinkStatus {
            connected: true,
            down_since: None,
            error: None,
            waiting: 3,
            quarantined: 0,
        }
    }

    fn log_tail(&self, max: usize) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log[log.len().saturating_sub(max)..].to_vec()
    }

    fn metrics(&self) -> String {
        self.metrics.lock().unwrap().clone()
    }

    fn started_at(&self) -> Option<Timestamp> {
        Some(at(0))
    }

    fn onnxruntime(&self) -> Option<String> {
        Some("1.23.0".into())
    }

    fn test_model(&self, _: &gridwatch_model::Model) -> Result<(), String> {
        self.model_refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn record(&self, act: Act) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async move {
            if *self.is_unrecordable.lock().unwrap() {
                return Err(RecordError("the disk is full".into()));
            }
            self.acts.lock().unwrap().push(act);
            Ok(())
        })
    }
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The demo's configuration with its state in `dir`.
pub(crate) fn configuration(dir: &Path, edit: impl FnOnce(&mut raw::File)) -> Config {
    let configs = root().join("configs");
    let mut file: raw::File = toml::from_str(&fs::read_to_string(configs.join("demo.toml")).unwrap()).unwrap();
    file.node.state_dir = dir.join("state");
    for path in file.data_paths_mut() {
        *path = configs.join(&*path);
    }
    edit(&mut file);
    let path = dir.join("edge.toml");
    fs::write(&path, toml::to_string(&file).unwrap()).unwrap();
    config::load(&path).unwrap_or_else(|e| panic!("{e}"))
}

/// A served console; it ends when dropped.
pub(crate) struct Served {
    pub(crate) street: Arc<Street>,
    pub(crate) address: SocketAddr,
    pub(crate) routes: Vec<RouteSummary>,
    pub(crate) fingerprint: Option<String>,
    dir: tempfile::TempDir,
    end: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
}

impl Served {
    /// The demo's three cameras, on loopback, without users.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {}, |_| {})
    }

    /// With the users `admin`, `operator`, `viewer`, and `east`, a viewer of the group with the camera street-b.
    pub(crate) fn with_users() -> Self {
        Self::with_users_and(|_| {})
    }

    pub(crate) fn with_users_and(edit: impl FnOnce(&mut raw::File)) -> Self {
        Self::start_with(
            |file| {
                for camera in &mut file.cameras {
                    if camera.id == "street-b" {
                        camera.groups = vec!["east".into()];
                    }
                }
                edit(file);
            },
            |accounts| {
                for (name, role, group) in [
                    ("admin", Role::Admin, None),
                    ("operator", Role::Operator, None),
                    ("viewer", Role::Viewer, None),
                    ("east", Role::Viewer, Some("east".to_owned())),
                ] {
                    accounts
                        .add(&NewUser {
                            name,
                            role,
                            groups: group.into_iter().collect(),
                            password: Some(&Secret::new(PASSWORD)),
                        })
                        .unwrap();
                }
            },
        )
    }

    pub(crate) fn start_with(edit: impl FnOnce(&mut raw::File), prepare: impl FnOnce(&Accounts)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = configuration(dir.path(), |file| {
            file.console.listen = "127.0.0.1:0".into();
            edit(file);
        });
        prepare(&gridwatch_console::accounts(&config.state_dir));
        let street = Arc::new(Street::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let console = Console::new(Arc::clone(&street) as Arc<dyn Daemon>).unwrap();
        let listener = runtime.block_on(console.bind()).unwrap().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let address = listener.local_addr().unwrap();
        let (routes, fingerprint) = (console.routes().to_vec(), console.fingerprint().map(str::to_owned));
        runtime.spawn(console.serve(listener, async {
            let _ = ended.await;
        }));
        Self {
            street,
            address,
            routes,
            fingerprint,
            dir,
            end: Some(end),
            runtime: Some(runtime),
        }
    }

    /// Ends the console as the daemon's shutdown does.
    pub(crate) fn end(&mut self) {
        self.end.take();
    }

    /// The main file of the configuration.
    pub(crate) fn main(&self) -> PathBuf {
        self.dir.path().join("edge.toml")
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.street.config()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn accounts(&self) -> Accounts {
        gridwatch_console::accounts(&self.state_dir())
    }

    /// A browser at this console.
    pub(crate) fn browser(&self) -> Client {
        Client::new(self.address)
    }

    /// A browser with this user's session.
    pub(crate) fn logged_in(&self, user: &str) -> Client {
        let mut browser = self.browser();
        let answer = browser.log_in(user, PASSWORD);
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    /// Files a case of a camera, and returns its id.
    pub(crate) fn file_case(&self, n: u32, camera: &str, is_masked: bool) -> String {
        fs::create_dir_all(self.state_dir()).unwrap();
        // The console's folder is there before the daemon's first start.
        let mut store = open_store(&self.state_dir());
        let roles = [EvidenceRole::Scene, EvidenceRole::Closeup, EvidenceRole::Overlay];
        let pictures = roles.into_iter().enumerate().map(|(i, role)| {
            let bytes = jpeg(320, 180, 60 + 10 * i as u8 + (n % 10) as u8);
            let sha256 = evidence_file::write(store.dir(), &bytes).unwrap();
            let mut item = case::evidence_item(i, role, bytes.len(), sha256);
            item.masked = is_masked;
            item
        });
        let pictures = pictures.collect();
        let case = case::case(n);
        let mut record = case::record(&case, pictures);
        record.camera.local_id = camera.to_owned();
        store.commit_case(&record, &case, &case::form()).unwrap();
        record.case_id
    }

    /// Posts a form with the code of the page at `page`.
    pub(crate) fn post(&self, browser: &mut Client, page: &str, path: &str, fields: &[(&str, &str)]) -> Response {
        let code = browser.get(page).csrf();
        let mut fields = fields.to_vec();
        fields.push(("csrf", &code));
        browser.post(path, &fields)
    }

    /// Puts the files into force, as after a person has changed them.
    pub(crate) fn reload(&self) {
        let answer = self.runtime.as_ref().unwrap().block_on(self.street.reload(false));
        assert!(answer.accepted, "{answer:?}");
    }

    /// Waits until something holds.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Street) -> bool) {
        for _ in 0..6000 {
            if holds(&self.street) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("timed out: {what}");
    }
}

pub(crate) fn open_store(dir: &Path) -> Store {
    Store::open(dir).unwrap()
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
