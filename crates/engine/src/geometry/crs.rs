//! Coordinate reference systems of configured coordinates, and conversion between them.
//!
//! The system is always stated, never guessed: two of them differ by 50–500 m and both look plausible. Conversions go
//! through EPSG:4490. Heights are unknown, so only ground positions are converted.

use std::{fmt, str::FromStr};

use super::{super::types::LonLat, LocalPlane};

/// The ellipsoid that the published GCJ-02 formula names (Krasovsky 1940): semi-major axis in metres.
const GCJ_SEMI_MAJOR_M: f64 = 6_378_245.0;
/// Its first eccentricity squared, as the published formula has it.
const GCJ_ECCENTRICITY_SQUARED: f64 = 0.006_693_421_622_965_943;
/// West, south, east and north limits of the rectangle in which the published formula applies, degrees.
const GCJ_RECTANGLE: [f64; 4] = [72.004, 0.8293, 137.8347, 55.8271];
/// Convergence limit of the GCJ-02 inverse, degrees; callers are promised 10⁻⁹ (a tenth of a millimetre).
const GCJ_PRECISION: f64 = 1e-10;
/// Maximum iterations of that inverse. The shift changes by less than 2 % of a step, so each iteration gains almost two
/// digits and six suffice. (At 105° E it has a kink smaller than the convergence limit.)
const GCJ_STEPS: usize = 20;
/// Largest distance from a local plane's origin, metres: there [`LocalPlane`] is off by 1 in 10⁴, i.e. one metre.
const LOCAL_REACH_M: f64 = 10_000.0;

/// A coordinate reference system for ground positions.
///
/// EPSG:4490 (CGCS2000) and EPSG:4326 (WGS 84) are treated as identical: both follow the International Terrestrial
/// Reference Frame, their ellipsoids differ by a tenth of a millimetre, and their epochs (2000.0 and the present)
/// differ by China's plate motion, 3 cm a year, which stays below a metre until about 2033. Maps are read to 0.5 m.
/// They keep separate names because a city that states one and configures the other has mixed up two files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crs {
    /// EPSG:4490: degrees.
    Cgcs2000,
    /// EPSG:4326: degrees.
    Wgs84,
    /// GCJ-02, used by Chinese web maps: degrees, shifted from the two above by 50–700 m depending on the place.
    ///
    /// Converted with the widely used formula that was published anonymously (`eviltransform`, `coordtransform` and
    /// others agree on it); the official one is not public. Where the two were compared they agree within a few metres.
    /// Not suitable for surveying.
    Gcj02,
    /// Metres in a local plane, such as a survey or tape measurements from a kerb.
    Local(LocalFrame),
}

/// A plane in metres, tangent to the ground at its origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalFrame {
    /// Its origin, in EPSG:4490.
    pub origin: LonLat,
    /// Direction of the second axis (`y`), degrees clockwise from north. The first axis (`x`) points to its right.
    pub bearing: f64,
}

/// An unknown reference system, or a position outside one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CrsError {
    /// Unknown reference system.
    #[error(
        "unknown coordinate reference system {0:?}: use EPSG:4490, EPSG:4326, GCJ-02, or local:LON,LAT,BEARING (a plane in \
         metres: its origin in EPSG:4490, and where its y axis points in degrees from north)"
    )]
    Unknown(String),
    /// Invalid parameters of a local plane.
    #[error("invalid local plane {0:?}: use local:LON,LAT,BEARING in degrees, such as local:120.001,30.0009,12.5")]
    BadPlane(String),
    /// Not a position of the system.
    #[error("[{0}, {1}] is not a valid position in {2}: {3}")]
    OutOfRange(f64, f64, Crs, &'static str),
}

impl Crs {
    /// True for longitude and latitude, false for metres.
    pub fn is_degrees(self) -> bool {
        !matches!(self, Self::Local(_))
    }

    /// Converts `position` (`[lon, lat]` in degrees, or `[x, y]` in metres for a local plane) to longitude and latitude
    /// in `to`.
    ///
    /// Bit-identical between systems that are treated as identical.
    ///
    /// # Errors
    /// [`CrsError::OutOfRange`] if `position` is not valid in this system, or `to` is not in degrees.
    pub fn to_degrees(self, position: [f64; 2], to: Self) -> Result<LonLat, CrsError> {
        let [x, y] = position;
        let refused = |why| CrsError::OutOfRange(x, y, self, why);
        if let Self::Local(frame) = self {
            // The range check also rejects NaN.
            if !(0.0..=LOCAL_REACH_M).contains(&x.hypot(y)) {
                return Err(refused(
                    "a local plane reaches 10 km from its origin; are these degrees?",
                ));
            }
            return Self::Cgcs2000.to_degrees(frame.to_4490(position).into(), to);
        }
        if !((-180.0..=180.0).contains(&x) && (-90.0..=90.0).contains(&y)) {
            return Err(refused("write [lon, lat] in degrees"));
        }
        let at = LonLat { lon: x, lat: y };
        match (self, to) {
            (Self::Gcj02, Self::Gcj02) => Ok(at),
            (Self::Gcj02, Self::Cgcs2000 | Self::Wgs84) => Ok(gcj_to_wgs(at)),
            (_, Self::Gcj02) => Ok(wgs_to_gcj(at)),
            (_, Self::Cgcs2000 | Self::Wgs84) => Ok(at),
            (_, Self::Local(_)) => Err(refused("a local plane has no degrees")),
        }
    }

    /// Converts `position` to `to`: `[lon, lat]`, or `[x, y]` if `to` is a local plane.
    ///
    /// # Errors
    /// [`CrsError::OutOfRange`] if `position` is not valid in this system.
    pub fn convert(self, position: [f64; 2], to: Self) -> Result<[f64; 2], CrsError> {
        match to {
            Self::Local(_) if self == to => self.to_degrees(position, Self::Cgcs2000).map(|_| position),
            Self::Local(frame) => Ok(frame.of_4490(self.to_degrees(position, Self::Cgcs2000)?)),
            degrees => self.to_degrees(position, degrees).map(Into::into),
        }
    }
}

impl LocalFrame {
    fn to_4490(self, [x, y]: [f64; 2]) -> LonLat {
        let (sin, cos) = self.bearing.to_radians().sin_cos();
        LocalPlane::at(self.origin).lon_lat(x * cos + y * sin, y * cos - x * sin)
    }

    fn of_4490(self, at: LonLat) -> [f64; 2] {
        let (sin, cos) = self.bearing.to_radians().sin_cos();
        let (east, north) = LocalPlane::at(self.origin).metres(at);
        [east * cos - north * sin, east * sin + north * cos]
    }
}

impl fmt::Display for Crs {
    /// In the form that [`FromStr`] parses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgcs2000 => f.write_str("EPSG:4490"),
            Self::Wgs84 => f.write_str("EPSG:4326"),
            Self::Gcj02 => f.write_str("GCJ-02"),
            Self::Local(LocalFrame { origin, bearing }) => write!(f, "local:{},{},{bearing}", origin.lon, origin.lat),
        }
    }
}

impl FromStr for Crs {
    type Err = CrsError;

    /// `EPSG:4490`, `urn:ogc:def:crs:EPSG::4490` (a version between the colons is allowed),
    /// `http://www.opengis.net/def/crs/EPSG/0/4490`, and CRS84, which is EPSG:4326 with longitude first as GeoJSON has it;
    /// `GCJ-02`; `local:LON,LAT,BEARING`.
    fn from_str(text: &str) -> Result<Self, CrsError> {
        let name = text.trim().to_ascii_uppercase();
        if matches!(name.as_str(), "GCJ-02" | "GCJ02") {
            return Ok(Self::Gcj02);
        }
        if let Some(parameters) = name.strip_prefix("LOCAL") {
            return local_frame(parameters)
                .map(Self::Local)
                .ok_or_else(|| CrsError::BadPlane(text.into()));
        }
        let parts: Vec<&str> = name.split([':', '/']).collect();
        match parts.last() {
            Some(&"4490") if parts.contains(&"EPSG") => Ok(Self::Cgcs2000),
            Some(&"4326") if parts.contains(&"EPSG") => Ok(Self::Wgs84),
            Some(&"CRS84") if parts.contains(&"OGC") => Ok(Self::Wgs84),
            _ => Err(CrsError::Unknown(text.into())),
        }
    }
}

impl From<LonLat> for [f64; 2] {
    fn from(at: LonLat) -> Self {
        [at.lon, at.lat]
    }
}

fn local_frame(parameters: &str) -> Option<LocalFrame> {
    let numbers: Option<Vec<f64>> = parameters
        .strip_prefix(':')?
        .split(',')
        .map(|n| n.trim().parse().ok())
        .collect();
    let [lon, lat, bearing] = numbers?[..] else { return None };
    // East has no direction at a pole.
    let is_sound = (-180.0..=180.0).contains(&lon) && (-89.0..=89.0).contains(&lat) && bearing.abs() <= 360.0;
    is_sound.then_some(LocalFrame {
        origin: LonLat { lon, lat },
        bearing,
    })
}

/// EPSG:4490 or EPSG:4326 to GCJ-02 by the published formula; positions outside its rectangle are not shifted.
fn wgs_to_gcj(at: LonLat) -> LonLat {
    if !is_shifted(at) {
        return at;
    }
    let (dlon, dlat) = gcj_shift(at);
    LonLat {
        lon: at.lon + dlon,
        lat: at.lat + dlat,
    }
}

/// The inverse, by fixed-point iteration on the shift. Whether the rectangle applies is decided on `at` itself, so the
/// round trip is not exact within a kilometre of its limits, which all lie abroad or at sea.
fn gcj_to_wgs(at: LonLat) -> LonLat {
    if !is_shifted(at) {
        return at;
    }
    let mut found = at;
    for _ in 0..GCJ_STEPS {
        let (dlon, dlat) = gcj_shift(found);
        let (lon, lat) = (at.lon - dlon, at.lat - dlat);
        let step = (lon - found.lon).abs().max((lat - found.lat).abs());
        found = LonLat { lon, lat };
        if step < GCJ_PRECISION {
            break;
        }
    }
    found
}

fn is_shifted(at: LonLat) -> bool {
    let [west, south, east, north] = GCJ_RECTANGLE;
    (west..=east).contains(&at.lon) && (south..=north).contains(&at.lat)
}

/// Degrees of longitude and latitude that GCJ-02 adds to a WGS 84 position: a polynomial with sine terms in metres,
/// relative to 105° E 35° N, divided by the length of a degree on the Krasovsky ellipsoid.
fn gcj_shift(at: LonLat) -> (f64, f64) {
    let (x, y) = (at.lon - 105.0, at.lat - 35.0);
    let wave = |metres: f64, times: f64, along: f64| metres * (times * along * std::f64::consts::PI).sin();
    let root = x.abs().sqrt();
    let fine = wave(20.0, 6.0, x) + wave(20.0, 2.0, x);
    let north = -100.0
        + 2.0 * x
        + 3.0 * y
        + 0.2 * y * y
        + 0.1 * x * y
        + 0.2 * root
        + 2.0 / 3.0
            * (fine
                + wave(20.0, 1.0, y)
                + wave(40.0, 1.0 / 3.0, y)
                + wave(160.0, 1.0 / 12.0, y)
                + wave(320.0, 1.0 / 30.0, y));
    let east = 300.0
        + x
        + 2.0 * y
        + 0.1 * x * x
        + 0.1 * x * y
        + 0.1 * root
        + 2.0 / 3.0
            * (fine
                + wave(20.0, 1.0, x)
                + wave(40.0, 1.0 / 3.0, x)
                + wave(150.0, 1.0 / 12.0, x)
                + wave(300.0, 1.0 / 30.0, x));
    let (sin, cos) = at.lat.to_radians().sin_cos();
    let under = 1.0 - GCJ_ECCENTRICITY_SQUARED * sin * sin;
    let n = GCJ_SEMI_MAJOR_M / under.sqrt();
    let m = n * (1.0 - GCJ_ECCENTRICITY_SQUARED) / under;
    (east / (n * cos).to_radians(), north / m.to_radians())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geometry::distance_m;

    fn local(lon: f64, lat: f64, bearing: f64) -> Crs {
        Crs::Local(LocalFrame {
            origin: LonLat { lon, lat },
            bearing,
        })
    }

    #[test]
    fn gcj_02_matches_the_published_test_vectors() {
        // Test vectors of googollee/eviltransform, WGS 84 and GCJ-02. It uses 6 378 137 m as the axis, which changes
        // the shift by 2·10⁻⁵; hence its own tolerance of 10⁻⁶ degree.
        for (wgs, gcj) in [
            (
                [121.527_210_6, 31.177_427_6],
                [121.531_541_859_215, 31.175_303_983_645_97],
            ),
            (
                [113.912_316, 22.543_847],
                [113.917_176_480_836_3, 22.540_796_131_694_766],
            ),
            (
                [116.377_817, 39.911_954],
                [116.384_047_224_556_57, 39.913_345_455_360_69],
            ),
        ] {
            let found = Crs::Wgs84.convert(wgs, Crs::Gcj02).unwrap();
            assert!(
                (found[0] - gcj[0]).abs() < 1e-6 && (found[1] - gcj[1]).abs() < 1e-6,
                "{found:?}"
            );
            let back = Crs::Gcj02.convert(gcj, Crs::Cgcs2000).unwrap();
            assert!(
                (back[0] - wgs[0]).abs() < 1e-6 && (back[1] - wgs[1]).abs() < 1e-6,
                "{back:?}"
            );
        }
    }

    #[test]
    fn positions_outside_china_are_not_shifted() {
        for place in [[-104.9903, 39.7392], [2.35, 48.86], [151.2, -33.87]] {
            assert_eq!(Crs::Wgs84.convert(place, Crs::Gcj02).unwrap(), place);
            assert_eq!(Crs::Gcj02.convert(place, Crs::Wgs84).unwrap(), place);
        }
    }

    #[test]
    fn a_local_plane_is_rotated_and_in_metres() {
        // 90°: y points east, x south.
        let plane = local(120.0, 30.0, 90.0);
        let at = plane.to_degrees([0.0, 100.0], Crs::Cgcs2000).unwrap();
        let origin = LonLat { lon: 120.0, lat: 30.0 };
        assert!((distance_m(origin, at) - 100.0).abs() < 1e-3);
        assert!(at.lon > 120.001 && (at.lat - 30.0).abs() < 1e-9, "{at:?}");
        let at = plane.to_degrees([100.0, 0.0], Crs::Cgcs2000).unwrap();
        assert!(at.lat < 29.9991 && (at.lon - 120.0).abs() < 1e-9, "{at:?}");
    }

    #[test]
    fn systems_parse_and_format_symmetrically() {
        for (text, crs) in [
            ("EPSG:4490", Crs::Cgcs2000),
            ("epsg:4490", Crs::Cgcs2000),
            ("urn:ogc:def:crs:EPSG:9.0:4490", Crs::Cgcs2000),
            ("http://www.opengis.net/def/crs/EPSG/0/4490", Crs::Cgcs2000),
            ("EPSG:4326", Crs::Wgs84),
            ("urn:ogc:def:crs:OGC:1.3:CRS84", Crs::Wgs84),
            ("GCJ-02", Crs::Gcj02),
            ("gcj02", Crs::Gcj02),
            ("local:120.001, 30.5,-12.5", local(120.001, 30.5, -12.5)),
        ] {
            assert_eq!(text.parse(), Ok(crs), "{text}");
            assert_eq!(crs.to_string().parse(), Ok(crs), "{crs}");
        }
        for text in ["", "EPSG:4547", "4490", "BD-09", "WGS84"] {
            let message = text.parse::<Crs>().unwrap_err().to_string();
            for known in ["EPSG:4490", "EPSG:4326", "GCJ-02", "local:"] {
                assert!(message.contains(known), "{message}");
            }
        }
        for text in [
            "local",
            "local:",
            "local:120,30",
            "local:120,95,0",
            "local:120,30,NaN",
            "local:120,30,1,2",
        ] {
            assert_eq!(text.parse::<Crs>(), Err(CrsError::BadPlane(text.into())));
        }
    }

    #[test]
    fn invalid_positions_are_rejected() {
        for (crs, position) in [
            (Crs::Cgcs2000, [200.0, 30.0]),
            (Crs::Gcj02, [30.0, 120.0]),
            (Crs::Wgs84, [f64::NAN, 30.0]),
            (local(120.0, 30.0, 0.0), [20_000.0, 0.0]),
            (local(120.0, 30.0, 0.0), [f64::NAN, 0.0]),
        ] {
            assert!(crs.convert(position, Crs::Cgcs2000).is_err(), "{crs} {position:?}");
            assert!(crs.convert(position, crs).is_err(), "{crs} {position:?}");
        }
        let message = Crs::Wgs84
            .to_degrees([120.0, 30.0], local(120.0, 30.0, 0.0))
            .unwrap_err();
        assert!(message.to_string().contains("has no degrees"), "{message}");
    }

    fn any_crs() -> impl Strategy<Value = Crs> {
        prop_oneof![
            Just(Crs::Cgcs2000),
            Just(Crs::Wgs84),
            Just(Crs::Gcj02),
            (-360.0f64..360.0).prop_map(|bearing| local(113.6, 34.7, bearing)),
        ]
    }

    proptest! {
        #[test]
        fn conversions_round_trip(from in any_crs(), to in any_crs(), lon in 113.55f64..113.65, lat in 34.65f64..34.75) {
            let start = Crs::Cgcs2000.convert([lon, lat], from).unwrap();
            let there = from.convert(start, to).unwrap();
            let back = to.convert(there, from).unwrap();
            let precision = if from.is_degrees() { 1e-9 } else { 1e-4 };
            prop_assert!((back[0] - start[0]).abs() < precision && (back[1] - start[1]).abs() < precision,
                "{from} {start:?} → {to} {there:?} → {back:?}");
        }

        #[test]
        fn gcj_02_round_trips_all_over_china(lon in 73.0f64..135.5, lat in 3.0f64..54.0) {
            let gcj = Crs::Wgs84.convert([lon, lat], Crs::Gcj02).unwrap();
            let back = Crs::Gcj02.convert(gcj, Crs::Wgs84).unwrap();
            prop_assert!((back[0] - lon).abs() < 1e-9 && (back[1] - lat).abs() < 1e-9);
            let shift = distance_m(LonLat { lon, lat }, LonLat { lon: gcj[0], lat: gcj[1] });
            prop_assert!(shift < 1500.0, "{shift}");
        }
    }
}
