//! Which cameras a user sees: those of their groups.

use gridwatch_config::{Camera, Config, find_view};
use gridwatch_engine::CameraId;
use gridwatch_web::Actor;

use crate::daemon::{ConfigurationStatus, Daemon, Readiness};

/// What an [`Actor`] may see of the cameras.
pub(crate) trait CameraAccess {
    /// True if they may see this camera.
    fn sees(&self, camera: &Camera) -> bool;

    /// The camera of a view, if there is one and they may see it.
    fn camera_of<'a>(&self, config: &'a Config, view: &CameraId) -> Option<&'a Camera>;

    /// The readiness and the state of the configuration as they may see them: without the details and faults, which name cameras.
    fn standing(&self, daemon: &dyn Daemon) -> (Readiness, ConfigurationStatus);

    /// Ids of the cameras that they may see, for queries; `None`: all, also those that the configuration does not have any more.
    fn cameras(&self, config: &Config) -> Option<Vec<String>>;

    /// True if they may see pictures without masks.
    fn sees_unmasked(&self, config: &Config) -> bool;
}

impl CameraAccess for Actor {
    fn sees(&self, camera: &Camera) -> bool {
        self.sees_any_of(&camera.groups)
    }

    fn camera_of<'a>(&self, config: &'a Config, view: &CameraId) -> Option<&'a Camera> {
        let (camera, _) = find_view(&config.cameras, view.as_str())?;
        self.sees(camera).then_some(camera)
    }

    fn standing(&self, daemon: &dyn Daemon) -> (Readiness, ConfigurationStatus) {
        let (mut readiness, mut configuration) = (daemon.readiness(), daemon.configuration());
        if self.is_restricted() {
            for blocker in &mut readiness.blockers {
                *blocker = blocker.leading();
            }
            configuration.refused.clear();
            configuration.awaits_restart.clear();
        }
        (readiness, configuration)
    }

    fn cameras(&self, config: &Config) -> Option<Vec<String>> {
        if !self.is_restricted() {
            return None;
        }
        let seen = config.cameras.iter().filter(|camera| self.sees(camera));
        Some(seen.map(|camera| camera.id.as_str().to_owned()).collect())
    }

    fn sees_unmasked(&self, config: &Config) -> bool {
        config.console.unmasked_roles.contains(&self.role)
    }
}
