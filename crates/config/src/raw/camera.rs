//! The form of a camera: where it is, what it is called, and what is drawn into its picture.

use std::path::PathBuf;

use gridwatch_camera::Transport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Credentials, GB_ID_PATTERN, ID_PATTERN, Span, defaults};

/// One camera.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Unique name on the box.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// `rtsp://host/path`, `rtsps://`, `file:///` or what GStreamer's `uridecodebin` opens. User and password are not part of it.
    pub url: String,
    /// Who the box is to the camera.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// For `rtsps`: PEM of the authority that signed the camera's certificate, or that certificate itself where it signed itself.
    /// Nobody else is believed then; which name the certificate states does not matter. Without it, the system's authorities.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How RTP travels. TCP loses nothing; UDP suits cameras that stall on TCP.
    #[serde(default)]
    pub transport: Transport,
    /// How often it is looked at.
    #[serde(default = "defaults::look_every")]
    pub look_every: Span,
    /// Models that look at it, by manifest id. Empty: all.
    #[serde(default)]
    pub models: Vec<String>,
    /// Read telephone numbers in its watch zones, as `reading` says. For zoomed views: digits must be 14 pixels high.
    #[serde(default)]
    pub read_numbers: bool,
    /// 20-digit GB/T 28181 id, stated in each case.
    #[serde(default)]
    #[schemars(regex(pattern = GB_ID_PATTERN))]
    pub gb_device_id: Option<String>,
    /// Address in words, stated in each case.
    #[serde(default)]
    pub address: Option<String>,
    /// Reference of the legal and technical review of this camera (行政处罚法 art. 41). Without it its cases are leads only.
    #[serde(default)]
    pub legal_review_ref: Option<String>,
    /// What this camera's coordinates are in, where that is not `grid.crs`: `EPSG:4490`, `EPSG:4326` or `GCJ-02` (what Chinese web maps show). They are converted. Stating the wrong one puts every case 50 to 700 m off.
    #[serde(default)]
    pub crs: Option<String>,
    /// Where its view is: what it looks at, not where its pole stands. A camera with presets has none of its own.
    #[serde(default)]
    pub place: Option<Place>,
    /// Picture to ground, from pairs of points. Without it every case is at `place`.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// False: the camera turns by itself, and nothing tells whether its zones still lie where they were drawn. Default true: it is noticed when the camera was moved. Nothing is asked of it where there are presets.
    #[serde(default = "defaults::fixed")]
    pub fixed: bool,
    /// File of the signs that may hang in its view, for rules with `except_approved`; `gridwatch signs record` writes it. Without it those rules file nothing here: a file without signs says that there are none.
    #[serde(default)]
    pub approved_signs: Option<PathBuf>,
    /// Drawn areas. Without a watch zone the whole picture is watched.
    #[serde(default)]
    pub zones: Vec<Zone>,
    /// Where a camera that turns comes to stand. Each is judged as a camera of its own; what it looks at in between counts for nothing. Its address, place, calibration, signs and zones are then those of its presets. `gridwatch view confirm CAMERA.PRESET` shows the box each of them once.
    #[serde(default)]
    pub presets: Vec<Preset>,
    /// Of a camera with presets: the longest time until it is back at one. Away for longer, what stood there is unknown.
    #[serde(default)]
    pub tour: Option<Span>,
}

/// Where a camera that turns (a PTZ) comes to stand.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Unique within the camera; stated in each case.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Address in words of what it looks at from here, stated in each case.
    #[serde(default)]
    pub address: Option<String>,
    /// Where its view is: what it looks at, not where its pole stands.
    pub place: Place,
    /// Picture to ground, from pairs of points. Without it every case is at `place`.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// File of the signs that may hang in this view, for rules with `except_approved`.
    #[serde(default)]
    pub approved_signs: Option<PathBuf>,
    /// Drawn areas. Without a watch zone the whole picture is watched.
    #[serde(default)]
    pub zones: Vec<Zone>,
}

/// The place of a view.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Longitude, degrees, in the camera's `crs`.
    #[schemars(range(min = -180.0, max = 180.0))]
    pub lon: f64,
    /// Latitude, degrees, in the camera's `crs`.
    #[schemars(range(min = -90.0, max = 90.0))]
    pub lat: f64,
    /// Radius that holds all the view shows, in metres.
    #[serde(default = "defaults::place_uncertainty")]
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub uncertainty_m: f64,
}

/// Picture to ground.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Four pairs or more, spread over the ground, not in one line.
    #[schemars(length(min = 4))]
    pub points: Vec<PointPair>,
    /// What the pairs' ground points are in, where that is not the camera's `crs`: one of those, or `local:LON,LAT,BEARING` for metres measured from a corner (its place in EPSG:4490, and where y points in degrees from north).
    #[serde(default)]
    pub crs: Option<String>,
    /// How the lens bends. Unset: as if it did not, which a view wider than 90 degrees does not forgive. `gridwatch calibrate` finds it.
    #[serde(default)]
    pub distortion: Option<Distortion>,
    /// A case less certain than this is filed at the view's `place`, in metres.
    #[serde(default = "defaults::max_uncertainty")]
    #[schemars(range(min = 0.5, max = 500.0))]
    pub max_uncertainty_m: f64,
}

/// How a lens bends: a point at r half diagonals from the middle of a perfect picture is shown at r (1 + k1 r² + k2 r⁴).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distortion {
    /// Below 0 a barrel, as wide lenses have it; above 0 a cushion.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub k1: f64,
    /// The next term; leave it out unless the lens was measured with a chart.
    #[serde(default)]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub k2: f64,
    /// Width by height of what the sensor sees, with square pixels. Default 16:9, also where the camera squeezes its stream into another.
    #[serde(default = "defaults::aspect")]
    #[schemars(range(min = 0.2, max = 5.0))]
    pub aspect: f64,
}

/// A file of point pairs for `gridwatch calibrate`: a calibration that says by itself what it is in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Points {
    /// `EPSG:4490`, `EPSG:4326`, `GCJ-02`, or `local:LON,LAT,BEARING`.
    pub crs: String,
    /// Four pairs or more, spread over the ground, not in one line.
    #[schemars(length(min = 4))]
    pub points: Vec<PointPair>,
    /// How the lens bends.
    #[serde(default)]
    pub distortion: Option<Distortion>,
    /// Places less certain than this are marked, in metres.
    #[serde(default = "defaults::max_uncertainty")]
    #[schemars(range(min = 0.5, max = 500.0))]
    pub max_uncertainty_m: f64,
}

/// The same point of the ground in the picture and on the map.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointPair {
    /// `[x, y]` as fractions of the picture, origin top left.
    pub picture: [f64; 2],
    /// `[lon, lat]` in the calibration's `crs`, or `[x, y]` in metres where that is a local plane.
    pub ground: [f64; 2],
}

/// A drawn area of a camera's picture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Unique within the camera.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// What the area means.
    pub kind: ZoneKind,
    /// Corners `[x, y]` as fractions of the picture, three or more, in order.
    #[schemars(length(min = 3))]
    pub polygon: Vec<[f64; 2]>,
    /// Rules it is for, by id. Empty: all.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Of a `permitted` zone: the schedule while which what stands here is lawful.
    #[serde(default)]
    pub schedule: Option<String>,
}

/// What a drawn area means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZoneKind {
    /// Problems whose foot stands here count.
    Watch,
    /// Problems whose foot stands here do not count.
    Exclude,
    /// Watched ground where what stands is lawful while `schedule` is open, and a problem outside its hours.
    Permitted,
    /// Containers' ground: does not count, but for rules with `outside_containers = false`.
    Container,
    /// A shop's lawful ground, inside and in front, for rules with `beyond = "shop"`.
    Shop,
    /// Masked in every picture that leaves the box, and never judged.
    Privacy,
}
