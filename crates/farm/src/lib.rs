//! A farm of simulated RTSP cameras on this box: gst-rtsp-server serves clips in a loop, without re-encoding.
//!
//! A farm owns a server on the loopback address, its GLib main loop and a thread for it. It is used by `demo`,
//! `bench cameras` and the tests, never by the daemon.
//!
//! Each mount has one pipeline shared by all its clients: `appsrc ! rtph264pay`. The access units are read once ([`Clip`])
//! and pushed by reference, so that fifty mounts of 4 Mb/s fit on two cores together with the receiver. The usual
//! `filesrc ! qtdemux` of gst-rtsp-server costs more and cannot loop; MPEG-TS with `multifilesrc loop=true` does not work.

#![cfg(feature = "gst")]

mod clip;
mod mount;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use gstreamer::glib;
use gstreamer_rtsp_server::{self as rtsp, gst_rtsp, prelude::*};

pub use clip::{AccessUnit, Clip};
use mount::Mount;

use gridwatch_base::error::Class;

/// Why a farm operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// GStreamer cannot be initialised.
    #[error("cannot initialise GStreamer: {0}; install the packages listed in edge-deploy/setup.sh")]
    Init(#[from] glib::Error),
    /// The clip cannot be read.
    #[error("clip {path}: {what}")]
    Clip {
        /// The file.
        path: PathBuf,
        /// The fault.
        what: String,
    },
    /// The port is taken, or there is no loopback device.
    #[error("cannot listen on 127.0.0.1:{port}: {what}")]
    Listen {
        /// The port; 0 if the system was to choose one.
        port: u16,
        /// The cause.
        what: String,
    },
    /// There is no mount of this name.
    #[error("the farm has no camera named {0}")]
    NoMount(String),
    /// A camera cannot change its codec while it runs, because clients already have its SDP.
    #[error("camera {name} serves {has:?} and cannot change to {wanted:?} while it runs; stop it first")]
    Codec {
        /// The camera.
        name: String,
        /// Its codec.
        has: gridwatch_camera::Codec,
        /// The codec of the new clip.
        wanted: gridwatch_camera::Codec,
    },
}

impl FarmError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Init(_) | Self::Clip { .. } | Self::NoMount(_) | Self::Codec { .. } => Class::Config,
            Self::Listen { .. } => Class::Transient,
        }
    }
}

/// Authentication scheme of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// RFC 7617. The password is sent in clear, as many cameras still require.
    Basic,
    /// RFC 7616 with MD5.
    Digest,
}

/// The login that a farm requires.
#[derive(Clone)]
pub struct Auth {
    /// Authentication scheme.
    pub method: AuthMethod,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

/// TLS certificate of a farm. Both files are PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate.
    pub file: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// One camera of the farm.
#[derive(Clone)]
pub struct MountConfig {
    /// The path without its slash: `cam1` is served at `rtsp://127.0.0.1:PORT/cam1`.
    pub name: String,
    /// The clip to serve. Mounts may share a clip.
    pub clip: Arc<Clip>,
    /// Start position in the clip, since the keyframes of real cameras are not simultaneous either.
    pub offset: Duration,
}

/// Configuration of a farm.
#[derive(Clone, Default)]
pub struct FarmConfig {
    /// Port to listen on; `None` lets the system choose a free one.
    pub port: Option<u16>,
    /// Login for all cameras; `None` allows everybody.
    pub auth: Option<Auth>,
    /// Serve over TLS (`rtsps`) with this certificate.
    pub certificate: Option<Certificate>,
    /// The cameras.
    pub mounts: Vec<MountConfig>,
}

/// A running farm. On drop it closes all connections and frees the port.
pub struct Farm {
    server: rtsp::RTSPServer,
    points: rtsp::RTSPMountPoints,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    source: Option<glib::SourceId>,
    thread: Option<JoinHandle<()>>,
    mounts: Vec<Arc<Mount>>,
    has_roles: bool,
    scheme: &'static str,
    port: u16,
}

/// The permission role of clients that have logged in.
const ROLE: &str = "viewer";

impl Farm {
    /// Serves the mounts of `config` on 127.0.0.1.
    ///
    /// # Errors
    /// [`FarmError::Init`] if GStreamer cannot be initialised, [`FarmError::Listen`] if the port is taken.
    pub fn start(config: FarmConfig) -> Result<Self, FarmError> {
        gstreamer::init()?;
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        let wanted = config.port.unwrap_or(0);
        server.set_service(&wanted.to_string());
        // The default of one thread for all clients would be the bottleneck of a benchmark.
        if let Some(pool) = server.thread_pool() {
            pool.set_max_threads(2);
        }
        let listen = |what: String| FarmError::Listen { port: wanted, what };
        let has_roles = config.auth.is_some() || config.certificate.is_some();
        if has_roles {
            let auth = authentication(config.auth.as_ref());
            if let Some(Certificate { file, key }) = &config.certificate {
                auth.set_tls_certificate(Some(&gio::TlsCertificate::from_files(file, key)?));
            }
            server.set_auth(Some(&auth));
        }
        let points = server
            .mount_points()
            .ok_or_else(|| listen("the server has no mount points".into()))?;

        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let source = server
            .attach(Some(&context))
            .map_err(|e| listen(format!("{e}; the port is probably in use")))?;
        let port = u16::try_from(server.bound_port())
            .ok()
            .filter(|p| *p != 0)
            .ok_or_else(|| listen("the server has no bound port".into()))?;
        let thread = std::thread::Builder::new()
            .name("farm".into())
            .spawn({
                let (context, main_loop) = (context.clone(), main_loop.clone());
                move || {
                    // Cannot fail: no other thread owns this new context.
                    let _ = context.with_thread_default(|| main_loop.run());
                }
            })
            .map_err(|e| listen(e.to_string()))?;

        let farm = Self {
            server,
            points,
            context,
            main_loop,
            source: Some(source),
            thread: Some(thread),
            mounts: config.mounts.into_iter().map(Mount::new).collect(),
            has_roles,
            scheme: if config.certificate.is_some() { "rtsps" } else { "rtsp" },
            port,
        };
        for mount in &farm.mounts {
            farm.publish(mount);
        }
        Ok(farm)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the camera `name`, without user and password.
    pub fn url(&self, name: &str) -> String {
        format!("{}://127.0.0.1:{}/{name}", self.scheme, self.port)
    }

    /// Stops a camera at once, even mid-GOP: closes its connections and removes its path.
    ///
    /// # Errors
    /// [`FarmError::NoMount`].
    pub fn stop(&self, name: &str) -> Result<(), FarmError> {
        let mount = self.mount(name)?;
        self.points.remove_factory(&mount.path());
        self.disconnect(Some(&mount.path()));
        Ok(())
    }

    /// Restarts a stopped camera, on the same port and from the start of its clip.
    ///
    /// # Errors
    /// [`FarmError::NoMount`].
    pub fn restart(&self, name: &str) -> Result<(), FarmError> {
        let mount = self.mount(name)?;
        self.publish(mount);
        Ok(())
    }

    /// Switches a camera to another clip from its next access unit on, on the same connections, as a camera does when its
    /// resolution is changed.
    ///
    /// # Errors
    /// [`FarmError::NoMount`]; [`FarmError::Codec`] if the clips differ in codec.
    pub fn swap(&self, name: &str, clip: Arc<Clip>) -> Result<(), FarmError> {
        self.mount(name)?.swap(clip)
    }

    fn mount(&self, name: &str) -> Result<&Arc<Mount>, FarmError> {
        self.mounts
            .iter()
            .find(|m| m.name() == name)
            .ok_or_else(|| FarmError::NoMount(name.to_owned()))
    }

    fn publish(&self, mount: &Arc<Mount>) {
        let factory = mount.factory();
        if self.has_roles {
            let role = gstreamer::Structure::builder(ROLE)
                .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
                .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
                .build();
            factory.add_role_from_structure(&role);
        }
        self.points.add_factory(&mount.path(), factory);
    }

    /// Closes the connections of the clients of `path`, or of all clients.
    fn disconnect(&self, path: Option<&str>) {
        let uses = |session: &rtsp::RTSPSession| {
            path.is_none_or(|path| {
                !session
                    .filter(Some(&mut |_, media| match media.matches(path) {
                        Some(_) => rtsp::RTSPFilterResult::Ref,
                        None => rtsp::RTSPFilterResult::Keep,
                    }))
                    .is_empty()
            })
        };
        // Both filters lock the client, so they must not be nested. The sessions are listed first.
        let clients = self.server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Ref));
        for client in clients {
            let sessions = client.session_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Ref));
            if path.is_none() || sessions.iter().any(uses) {
                client.close();
            }
        }
        // UDP sessions outlive their connection and would continue to send.
        if let Some(pool) = self.server.session_pool() {
            for session in pool.filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Ref)) {
                if uses(&session) {
                    let _ = pool.remove(&session);
                }
            }
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        for mount in &self.mounts {
            self.points.remove_factory(&mount.path());
        }
        self.disconnect(None);
        if let Some(source) = self.source.take()
            && let Some(source) = self.context.find_source_by_id(&source)
        {
            source.destroy();
        }
        self.main_loop.quit();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn authentication(auth: Option<&Auth>) -> rtsp::RTSPAuth {
    let it = rtsp::RTSPAuth::new();
    let token = rtsp::RTSPToken::builder()
        .field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, ROLE)
        .build();
    let Some(auth) = auth else {
        it.set_default_token(Some(&mut token.clone()));
        return it;
    };
    match auth.method {
        AuthMethod::Basic => {
            let basic = rtsp::RTSPAuth::make_basic(&auth.user, &auth.password);
            it.set_supported_methods(gst_rtsp::RTSPAuthMethod::Basic);
            it.add_basic(&basic, &token);
        }
        AuthMethod::Digest => {
            it.set_supported_methods(gst_rtsp::RTSPAuthMethod::Digest);
            it.add_digest(&auth.user, &auth.password, &token);
        }
    }
    it
}

/// Reads the clip at `path`, to be shared by mounts.
///
/// # Errors
/// See [`Clip::open`].
pub fn clip(path: impl AsRef<Path>) -> Result<Arc<Clip>, FarmError> {
    Clip::open(path.as_ref()).map(Arc::new)
}
