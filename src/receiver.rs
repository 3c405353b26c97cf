//! The settings of the built-in client from the configuration, for the daemon and for `check`.

use gridwatch_camera::{
    Auth, StreamSource,
    receive::{LoginPolicy, LoginSchemes, ReceiverSettings, Timeouts, Trust, is_rtsp},
};
use gridwatch_config as config;

/// Whether the built-in client receives `camera`.
pub(crate) fn is_built_in(camera: &config::Camera) -> bool {
    camera.source == StreamSource::Auto && is_rtsp(&camera.url)
}

/// How the built-in client receives `camera`.
pub(crate) fn receiver_settings(
    camera: &config::Camera,
    timeouts: Timeouts,
    #[cfg(feature = "gst")] full_decoding: gridwatch_camera::decode::DecodeMode,
) -> ReceiverSettings {
    ReceiverSettings {
        credentials: camera.credential_source.clone(),
        login: LoginPolicy::new(match camera.auth {
            Auth::Auto => LoginSchemes::Auto,
            Auth::Digest => LoginSchemes::Digest,
            Auth::Basic => LoginSchemes::Basic,
        }),
        trust: match (&camera.pin_sha256, &camera.ca_file) {
            (Some(pin), _) => Trust::Pin(pin.clone()),
            (None, Some(file)) => Trust::CaFile(file.clone()),
            (None, None) => Trust::System,
        },
        transport: camera.transport,
        timeouts,
        #[cfg(feature = "gst")]
        full_decoding,
        // With all features every field is given above; the camera crate may have more of them than this one.
        ..ReceiverSettings::new(camera.id.clone(), camera.url.clone(), camera.look_every)
    }
}
