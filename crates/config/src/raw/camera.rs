//! The `[[cameras]]` section: stream, place, calibration, presets, zones.

use std::path::PathBuf;

use gridwatch_camera::{Auth, StreamSource, Transport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CameraChange, Credentials, DAY_PATTERN, GB_ID_PATTERN, ID_PATTERN, PIN_PATTERN, Span, defaults};

/// A camera.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Unique id on this box. Cases and baselines refer to it: do not reuse it for another camera.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Stream URL: `rtsp://host/path`, `rtsps://`, `file:///`, or another scheme supported by GStreamer's `uridecodebin`. Must not contain a user name or password.
    pub url: String,
    /// User name and password for the camera.
    #[serde(default)]
    #[schemars(extend("x-secret" = true))]
    pub credentials: Option<Credentials>,
    /// Login schemes that are answered. `auto` (the default): Digest and Basic, but once the camera has asked for Digest, Basic over unencrypted `rtsp` is refused, because it sends the password readably. `digest`: Digest only, so the password itself is never sent. `basic`: Basic only, for cameras whose Digest is broken.
    #[serde(default)]
    pub auth: Auth,
    /// For `rtsps`: PEM file of the CA that signed the camera's certificate, or of the certificate itself if it is self-signed. Only
    /// this CA is trusted then, and the host name in the certificate is not checked. Unset: the system's CAs.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// For `rtsps`: SHA-256 of the camera's certificate, 64 hex digits. Only this certificate is trusted then, self-signed or not, whatever its name and dates. `gridwatch check` prints the hash of a certificate that is not trusted: compare it with the camera's. Not together with `ca_file`.
    #[serde(default)]
    #[schemars(regex(pattern = PIN_PATTERN))]
    pub pin_sha256: Option<String>,
    /// Transport of the video. Default `tcp`, which loses no packets. Use `udp` only for cameras that stall on TCP, and `http` (RTSP tunnelled through the camera's web server) where a firewall lets only HTTP through.
    #[serde(default)]
    pub transport: Transport,
    /// What receives the stream. Default `auto`: the built-in client for `rtsp` and `rtsps`, GStreamer for everything else. Set `gstreamer` for a camera that the built-in client cannot open; it costs about ten times the CPU.
    #[serde(default)]
    pub source: StreamSource,
    /// Time between two looks, 500ms to 1h. Default `10s`. Shorter intervals cost proportionally more decoding and inference; longer ones detect short events late or not at all.
    #[serde(default = "defaults::look_every")]
    pub look_every: Span,
    /// Ids of the models to run on this camera. Empty: all models.
    #[serde(default)]
    pub models: Vec<String>,
    /// Read small ads and banners in its watch zones, as set up in `[reading]`. Default false. Only for zoomed views: characters must be at least 16 pixels high.
    #[serde(default)]
    pub read_numbers: bool,
    /// GB/T 28181 device id, 20 digits, recorded in each case.
    #[serde(default)]
    #[schemars(regex(pattern = GB_ID_PATTERN))]
    pub gb_device_id: Option<String>,
    /// Address in words, recorded in each case.
    #[serde(default)]
    pub address: Option<String>,
    /// Reference of the legal and technical review of this camera (行政处罚法 art. 41). Without it, its cases are leads only.
    #[serde(default)]
    pub legal_review_ref: Option<String>,
    /// Coordinate reference system of this camera's coordinates, if it is not `grid.crs`: `EPSG:4490`, `EPSG:4326` or `GCJ-02` (used by Chinese web maps). Coordinates are converted to `grid.crs`. A wrong value displaces every case by 50 to 700 m.
    #[serde(default)]
    pub crs: Option<String>,
    /// Position of the view: the ground that the camera sees, not its pole. Required, except on a camera with presets, where each preset has its own.
    #[serde(default)]
    pub place: Option<Place>,
    /// Calibration from image to ground, from point pairs. Unset: every case is located at `place`.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// Whether the camera is fixed. Default true: the daemon detects when it has been moved. False, for a camera that turns by itself: its view is not monitored, so its zones may no longer match the scene. Ignored on a camera with presets.
    #[serde(default = "defaults::fixed")]
    pub fixed: bool,
    /// Change map of its views, where it differs from `[change]`. A camera with `fixed = false` has none.
    #[serde(default)]
    pub change: Option<CameraChange>,
    /// File of the approved signs in its view, for rules with `except_approved`, written by `gridwatch signs record`. Without it, these rules file nothing here. A file without signs means that no signs are approved.
    #[serde(default)]
    pub approved_signs: Option<PathBuf>,
    /// Groups of cameras to which it belongs, such as a district: users of the console can be restricted to groups. Empty: seen by users without restriction only.
    #[serde(default)]
    #[schemars(inner(regex(pattern = ID_PATTERN)))]
    pub groups: Vec<String>,
    /// Zones of the image. Without a watch zone, the whole image is watched.
    #[serde(default)]
    pub zones: Vec<Zone>,
    /// Presets of a PTZ camera that tours. Each preset is a view of its own, with its own address, place, calibration, approved signs and zones; frames between presets are ignored. Every preset must be learned once with `gridwatch view confirm CAMERA.PRESET`.
    #[serde(default)]
    pub presets: Vec<Preset>,
    /// For a camera with presets: the longest time until it returns to a preset, 10s to 24h. If it is away for longer, the time counts as an outage of that view.
    #[serde(default)]
    pub tour: Option<Span>,
}

/// A preset of a PTZ camera.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Unique id within the camera, recorded in each case.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Address of the view in words, recorded in each case.
    #[serde(default)]
    pub address: Option<String>,
    /// Position of the view: the ground that the camera sees, not its pole.
    pub place: Place,
    /// Calibration from image to ground, from point pairs. Unset: every case is located at `place`.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// File of the approved signs in this view, for rules with `except_approved`. Without it, these rules file nothing here.
    #[serde(default)]
    pub approved_signs: Option<PathBuf>,
    /// Zones of the image. Without a watch zone, the whole image is watched.
    #[serde(default)]
    pub zones: Vec<Zone>,
}

/// Position of a view.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Longitude in degrees, in the camera's `crs`.
    #[schemars(range(min = -180.0, max = 180.0))]
    pub lon: f64,
    /// Latitude in degrees, in the camera's `crs`.
    #[schemars(range(min = -90.0, max = 90.0))]
    pub lat: f64,
    /// Radius in metres of a circle that covers everything the view shows. Default 30.
    #[serde(default = "defaults::place_uncertainty")]
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub uncertainty_m: f64,
}

/// Calibration from image to ground.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Four or more point pairs, spread over the ground and not on one line.
    #[schemars(length(min = 4))]
    pub points: Vec<PointPair>,
    /// Coordinate reference system of the ground points, if it is not the camera's `crs`: one of the same values, or `local:LON,LAT,BEARING` for metres measured from a corner (its position in EPSG:4490, and the direction of the y axis in degrees from north).
    #[serde(default)]
    pub crs: Option<String>,
    /// Lens distortion, as estimated by `gridwatch calibrate`. Unset: none, which is inaccurate for views wider than 90 degrees.
    #[serde(default)]
    pub distortion: Option<Distortion>,
    /// Maximum position uncertainty in metres; a case with a larger one is located at the view's `place` instead. Default 15.
    #[serde(default = "defaults::max_uncertainty")]
    #[schemars(range(min = 0.5, max = 500.0))]
    pub max_uncertainty_m: f64,
}

/// Radial lens distortion: a point at radius r of the ideal image, in half diagonals from the centre, appears at r (1 + k1 r² + k2 r⁴).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distortion {
    /// First coefficient. Negative: barrel distortion, as in wide-angle lenses; positive: pincushion distortion.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub k1: f64,
    /// Second coefficient. Default 0; leave it out unless the lens was measured with a test chart.
    #[serde(default)]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub k2: f64,
    /// Aspect ratio (width / height) of the sensor image with square pixels. Default 16:9, which also holds if the camera squeezes its stream to another ratio.
    #[serde(default = "defaults::aspect")]
    #[schemars(range(min = 0.2, max = 5.0))]
    pub aspect: f64,
}

/// A file of point pairs for `gridwatch calibrate`: a calibration with its own coordinate reference system.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Points {
    /// Coordinate reference system of the ground points: `EPSG:4490`, `EPSG:4326`, `GCJ-02`, or `local:LON,LAT,BEARING`.
    pub crs: String,
    /// Four or more point pairs, spread over the ground and not on one line.
    #[schemars(length(min = 4))]
    pub points: Vec<PointPair>,
    /// Lens distortion.
    #[serde(default)]
    pub distortion: Option<Distortion>,
    /// Positions with a larger uncertainty, in metres, are marked. Default 15.
    #[serde(default = "defaults::max_uncertainty")]
    #[schemars(range(min = 0.5, max = 500.0))]
    pub max_uncertainty_m: f64,
}

/// The same point of the ground in the image and on the map.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointPair {
    /// `[x, y]` as fractions of the image size, origin top left.
    pub picture: [f64; 2],
    /// `[lon, lat]` in the calibration's `crs`, or `[x, y]` in metres if that is a local plane.
    pub ground: [f64; 2],
}

/// A zone of a camera's image.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Unique id within the view.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Meaning of the zone.
    pub kind: ZoneKind,
    /// Three or more corners `[x, y]` in order, as fractions of the image size, origin top left.
    #[schemars(length(min = 3))]
    pub polygon: Vec<[f64; 2]>,
    /// Ids of the rules it applies to. Empty: all rules.
    #[serde(default)]
    pub rules: Vec<String>,
    /// For a `permitted` zone: the schedule during which objects are permitted here.
    #[serde(default)]
    pub schedule: Option<String>,
    /// For a `permitted` zone: the first day on which objects are permitted, in local time, such as `2026-05-01`. Unset: no first day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DAY_PATTERN))]
    pub valid_from: Option<String>,
    /// For a `permitted` zone: the last day, such as `2026-10-31`; a window that begins on it is open to its end. Unset: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DAY_PATTERN))]
    pub valid_until: Option<String>,
    /// Number of the permit, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub permit: Option<String>,
    /// Note for people, such as the holder of the permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub note: Option<String>,
}

/// Meaning of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZoneKind {
    /// Objects whose foot point lies here count.
    Watch,
    /// Objects whose foot point lies here do not count.
    Exclude,
    /// Watched ground on which objects are permitted while `schedule` is open, and a problem at other times.
    Permitted,
    /// Ground of waste containers: objects here do not count, except for rules with `outside_containers = false`.
    Container,
    /// A shop's own ground, inside and in front, for rules with `beyond = "shop"`.
    Shop,
    /// Masked in every picture that leaves the box, and ignored by all rules.
    Privacy,
}
