//! Helpers of the camera tests: test clips, a farm of one camera, and waiting for conditions.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file compiles all of it and uses a part"
)]

pub mod clips;
pub mod fmp4;
pub mod http_camera;
pub mod http_tunnel;
pub mod odd_camera;
pub mod scripted_camera;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gridwatch_base::secret::{CredentialSource, Credentials};
use gridwatch_camera::{
    CameraState, Keyframe, Picture, Slot, Transport,
    decode::{CrashLog, DecodeMode, DecodeWorkers},
    receive::{LoginPolicy, Receiver, ReceiverSettings, Timeouts, Trust},
};
use gridwatch_farm::{Auth, Clip, Farm, FarmConfig, MountConfig};

/// Longest wait for a condition; only a failing test waits this long.
pub const TIMEOUT: Duration = Duration::from_secs(180);

/// Polls `condition` until it returns a value. Panics with `goal` after [`TIMEOUT`].
pub fn until<T>(goal: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "timed out after {TIMEOUT:?}: {goal}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A farm of one camera named `cam`.
pub fn farm(clip: &Arc<Clip>, auth: Option<Auth>) -> Farm {
    Farm::start(FarmConfig {
        port: None,
        auth,
        certificate: None,
        mounts: vec![mount("cam", clip)],
    })
    .unwrap()
}

/// The configuration of a farm camera.
pub fn mount(name: &str, clip: &Arc<Clip>) -> MountConfig {
    MountConfig {
        name: name.into(),
        clip: Arc::clone(clip),
        offset: Duration::ZERO,
    }
}

/// Receiver settings with a short idle timeout and a look period of one second.
pub fn settings(url: &str) -> ReceiverSettings {
    ReceiverSettings {
        camera: "cam".into(),
        url: url.parse().unwrap(),
        credentials: None,
        login: LoginPolicy::default(),
        trust: Trust::System,
        transport: Transport::Tcp,
        look_every: Duration::from_secs(1),
        timeouts: Timeouts {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(5),
        },
        full_decoding: DecodeMode::InProcess,
    }
}

/// Decoding in workers of the real program.
pub fn workers() -> DecodeMode {
    DecodeMode::Workers(DecodeWorkers::new(
        env!("CARGO_BIN_EXE_gridwatch").into(),
        CrashLog::default(),
    ))
}

/// Credentials from a user and a password.
pub fn credentials(user: &str, password: &str) -> Option<CredentialSource> {
    Some(CredentialSource::Fixed(Credentials {
        user: user.into(),
        password: password.into(),
    }))
}

/// A receiver on a runtime of its own.
pub struct Camera {
    // Dropped before the runtime that its task runs on.
    receiver: Receiver,
    _runtime: tokio::runtime::Runtime,
}

impl Camera {
    pub fn receive(settings: ReceiverSettings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("receive")
            .enable_all()
            .build()
            .unwrap();
        let slot = Slot::new(settings.camera.clone(), Arc::default());
        let receiver = Receiver::spawn(settings, slot, runtime.handle());
        Self {
            receiver,
            _runtime: runtime,
        }
    }

    pub fn slot(&self) -> &Arc<Slot> {
        self.receiver.slot()
    }

    /// Waits for a keyframe numbered above `after` and returns the newest.
    pub fn keyframe_after(&self, after: u64) -> Arc<Keyframe> {
        until("a keyframe", || match self.slot().latest() {
            Some((seq, Picture::Keyframe(k))) if seq > after => Some(k),
            _ => None,
        })
    }

    /// Waits until there is no connection, and returns why.
    pub fn wait_down(&self) -> String {
        until("the camera is down", || match self.slot().state() {
            CameraState::Down { error, .. } | CameraState::Refused { error, .. } => Some(error.to_string()),
            _ => None,
        })
    }

    pub fn wait_live(&self) {
        until("the camera is live", || {
            (self.slot().state() == CameraState::Live).then_some(())
        });
    }
}
