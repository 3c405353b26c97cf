//! A farm of RTSP cameras on this box: clips served by gst-rtsp-server, endlessly, without re-encoding.
//!
//! Owns a server on the loopback address, its GLib main loop and one thread for it. `demo`, `bench cameras` and the
//! tests use it; the daemon never does. It serves what is in the clip and judges nothing.
//!
//! A mount is one shared pipeline however many clients it has: `appsrc ! rtph264pay`, the access units read once
//! ([`Clip`]) and pushed by reference, so that fifty mounts of 4 Mb/s fit beside the receiver on two cores.
//! gst-rtsp-server's usual `filesrc ! qtdemux` neither loops nor is cheap; MPEG-TS with `multifilesrc loop=true`
//! serves nothing.

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

/// Why a farm does not serve.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// GStreamer itself does not start.
    #[error("GStreamer does not start: {0}; install the packages that edge-deploy/setup.sh names")]
    Init(#[from] glib::Error),
    /// The clip cannot be read.
    #[error("clip {path}: {what}")]
    Clip {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The address is taken, or the loopback device is missing.
    #[error("the farm cannot listen on 127.0.0.1:{port}: {what}")]
    Listen {
        /// 0 where the system was to choose.
        port: u16,
        /// What the system said.
        what: String,
    },
    /// No mount of that name.
    #[error("the farm has no camera named {0}")]
    NoMount(String),
    /// A running camera does not change its codec: its description (SDP) is already given out.
    #[error("camera {name} serves {has:?} and cannot change to {wanted:?} while it runs; stop it first")]
    Codec {
        /// Which camera.
        name: String,
        /// What it serves.
        has: gridwatch_camera::Codec,
        /// What the new clip is coded in.
        wanted: gridwatch_camera::Codec,
    },
}

impl FarmError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Init(_) | Self::Clip { .. } | Self::NoMount(_) | Self::Codec { .. } => Class::Config,
            Self::Listen { .. } => Class::Transient,
        }
    }
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// RFC 7617: the password in clear, as many cameras still do.
    Basic,
    /// RFC 7616 with MD5.
    Digest,
}

/// What a farm asks of its clients.
#[derive(Clone)]
pub struct Auth {
    /// How.
    pub method: AuthMethod,
    /// Who.
    pub user: String,
    /// With what.
    pub password: String,
}

/// Who a farm is to its clients. Both files are PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate.
    pub file: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// One camera of the farm.
#[derive(Clone)]
pub struct MountConfig {
    /// The path without its slash: `cam1` is served at `rtsp://127.0.0.1:PORT/cam1`.
    pub name: String,
    /// What it shows; many mounts may share one clip.
    pub clip: Arc<Clip>,
    /// Where in the clip it starts; real cameras do not have their keyframes at the same instant.
    pub offset: Duration,
}

/// The farm to start.
#[derive(Clone, Default)]
pub struct FarmConfig {
    /// `None`: the system chooses a free one. Some(port): that one, so that a dead farm can come back where it was.
    pub port: Option<u16>,
    /// The same for all its cameras. `None`: anybody may look.
    pub auth: Option<Auth>,
    /// Serve over TLS (`rtsps`) with this certificate.
    pub certificate: Option<Certificate>,
    /// Its cameras.
    pub mounts: Vec<MountConfig>,
}

/// A running farm. Dropping it closes every connection and frees the port.
pub struct Farm {
    server: rtsp::RTSPServer,
    points: rtsp::RTSPMountPoints,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    source: Option<glib::SourceId>,
    thread: Option<JoinHandle<()>>,
    mounts: Vec<Arc<Mount>>,
    guarded: bool,
    scheme: &'static str,
    port: u16,
}

/// The permission role of clients that the farm let in.
const ROLE: &str = "viewer";

impl Farm {
    /// Serves the mounts of `config` on 127.0.0.1.
    ///
    /// # Errors
    /// [`FarmError::Init`] without GStreamer, [`FarmError::Listen`] where the port is taken.
    pub fn start(config: FarmConfig) -> Result<Self, FarmError> {
        gstreamer::init()?;
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        let wanted = config.port.unwrap_or(0);
        server.set_service(&wanted.to_string());
        // One client thread per core: the default of one thread for all clients is the bottleneck of a bench.
        if let Some(pool) = server.thread_pool() {
            pool.set_max_threads(2);
        }
        let listen = |what: String| FarmError::Listen { port: wanted, what };
        let guarded = config.auth.is_some() || config.certificate.is_some();
        if guarded {
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
            .map_err(|e| listen(format!("{e}; another program has the port")))?;
        let port = u16::try_from(server.bound_port())
            .ok()
            .filter(|p| *p != 0)
            .ok_or_else(|| listen("the server is not bound".into()))?;
        let thread = std::thread::Builder::new()
            .name("farm".into())
            .spawn({
                let (context, main_loop) = (context.clone(), main_loop.clone());
                move || {
                    // Fails only if another thread owns a context that was made two lines above.
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
            guarded,
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

    /// The address of the camera `name`, without user and password.
    pub fn url(&self, name: &str) -> String {
        format!("{}://127.0.0.1:{}/{name}", self.scheme, self.port)
    }

    /// The camera dies where it stands, be it in the middle of a GOP: its connections are closed, its path is gone.
    ///
    /// # Errors
    /// [`FarmError::NoMount`].
    pub fn stop(&self, name: &str) -> Result<(), FarmError> {
        let mount = self.mount(name)?;
        self.points.remove_factory(&mount.path());
        self.disconnect(Some(&mount.path()));
        Ok(())
    }

    /// A stopped camera is back, on the same port, from the start of its clip.
    ///
    /// # Errors
    /// [`FarmError::NoMount`].
    pub fn revive(&self, name: &str) -> Result<(), FarmError> {
        let mount = self.mount(name)?;
        self.publish(mount);
        Ok(())
    }

    /// From its next access unit on the camera shows another clip, its clients connected: what a camera does when its
    /// resolution is changed.
    ///
    /// # Errors
    /// [`FarmError::NoMount`]; [`FarmError::Codec`] where the clips are coded differently.
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
        if self.guarded {
            let role = gstreamer::Structure::builder(ROLE)
                .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
                .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
                .build();
            factory.add_role_from_structure(&role);
        }
        self.points.add_factory(&mount.path(), factory);
    }

    /// Closes the connections of the clients of `path`, or all.
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
        // Neither filter may be called from inside another: both lock the client. So the sessions are listed first.
        let clients = self.server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Ref));
        for client in clients {
            let sessions = client.session_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Ref));
            if path.is_none() || sessions.iter().any(uses) {
                client.close();
            }
        }
        // A session over UDP outlives its connection and would go on sending.
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

/// Reads `path` once, for as many mounts as like it.
///
/// # Errors
/// See [`Clip::open`].
pub fn clip(path: impl AsRef<Path>) -> Result<Arc<Clip>, FarmError> {
    Clip::open(path.as_ref()).map(Arc::new)
}
