//! What the camera tests share: clips made once, a farm, and waiting for conditions.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file compiles all of it and uses a part"
)]

pub mod clips;
pub mod scripted_camera;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gridwatch_camera::{
    Keyframe, Picture, Slot, State, Transport,
    receive::{Patience, Receiver, Settings},
};
use gridwatch_farm::{Auth, Clip, Farm, FarmConfig, MountConfig};

/// Longest wait for anything. Only a test that fails takes it.
pub const LONG: Duration = Duration::from_secs(60);

/// Waits until `what` holds. Panics with `goal` after [`LONG`].
pub fn until<T>(goal: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < end, "waited {LONG:?} in vain: {goal}");
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

/// A camera of a farm.
pub fn mount(name: &str, clip: &Arc<Clip>) -> MountConfig {
    MountConfig {
        name: name.into(),
        clip: Arc::clone(clip),
        offset: Duration::ZERO,
    }
}

/// Settings with short patience, for a camera looked at every second.
pub fn settings(url: &str) -> Settings {
    Settings {
        camera: "cam".into(),
        url: url.parse().unwrap(),
        credentials: None,
        transport: Transport::Tcp,
        look_every: Duration::from_secs(1),
        patience: Patience {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(5),
        },
    }
}

/// A user and a password.
pub fn credentials(user: &str, password: &str) -> Option<gridwatch_base::secret::Credentials> {
    Some(gridwatch_base::secret::Credentials {
        user: user.into(),
        password: password.into(),
    })
}

/// A receiver on a runtime of its own.
pub struct Camera {
    // Dropped first: its task lives on the runtime.
    receiver: Receiver,
    _runtime: tokio::runtime::Runtime,
}

impl Camera {
    pub fn receive(settings: Settings) -> Self {
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

    /// The newest keyframe once its number is greater than `after`.
    pub fn keyframe_after(&self, after: u64) -> Arc<Keyframe> {
        until("a keyframe", || match self.slot().latest() {
            Some((seq, Picture::Keyframe(k))) if seq > after => Some(k),
            _ => None,
        })
    }

    pub fn wait_down(&self) -> String {
        until("the camera is down", || match self.slot().state() {
            State::Down { error, .. } => Some(error),
            _ => None,
        })
    }

    pub fn wait_live(&self) {
        until("the camera is live", || {
            (self.slot().state() == State::Live).then_some(())
        });
    }
}
