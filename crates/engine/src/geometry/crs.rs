//! Coordinate reference systems that what is typed may be in, and the ways between them.
//!
//! A system is stated, never guessed: two of them differ by 50–500 m and both look right. All ways lead through EPSG:4490;
//! heights are not known here, so every conversion is of positions on the ground.

use std::{fmt, str::FromStr};

use super::{super::types::LonLat, LocalPlane};

/// The ellipsoid that the published GCJ-02 formula names (Krasovsky 1940): semi-major axis in metres.
const GCJ_SEMI_MAJOR_M: f64 = 6_378_245.0;
/// Its first eccentricity squared, as the published formula has it.
const GCJ_ECCENTRICITY_SQUARED: f64 = 0.006_693_421_622_965_943;
/// West, south, east and north ends of the rectangle that the published formula takes for China, degrees.
const GCJ_RECTANGLE: [f64; 4] = [72.004, 0.8293, 137.8347, 55.8271];
/// Where the inverse of GCJ-02 stops, degrees: a tenth of a millimetre, as the promise to callers is 10⁻⁹.
const GCJ_PRECISION: f64 = 1e-10;
/// Steps of that inverse, at most. The shift changes by less than 2 % of a step, so each wins almost two digits: six do.
/// (At 105° E it has a kink, whose height is below the precision.)
const GCJ_STEPS: usize = 20;
/// How far from its origin a local plane is believed, metres: there [`LocalPlane`] is wrong by 1 in 10⁴, a metre.
const LOCAL_REACH_M: f64 = 10_000.0;

/// A coordinate reference system of positions on the ground.
///
/// EPSG:4490 (CGCS2000) and EPSG:4326 (WGS 84) are taken as one: both follow the International Terrestrial Reference Frame,
/// their ellipsoids differ by a tenth of a millimetre, and their epochs (2000.0 and today's) by the drift of the plates that
/// China lies on, 3 cm a year and so below a metre until about 2033, where a map is read to 0.5 m. They keep separate names,
/// for a city that states one and configures the other has mixed up two files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crs {
    /// EPSG:4490: degrees.
    Cgcs2000,
    /// EPSG:4326: degrees.
    Wgs84,
    /// What Chinese web maps show: degrees, shifted by 50–700 m from the two above, differently from place to place.
    ///
    /// Converted by the formula that was published anonymously after a vendor's library and is in general use
    /// (`eviltransform`, `coordtransform` and others agree on it). The authority's own is not public. Where the two were
    /// compared, they agree within some metres at worst; do not survey with it.
    Gcj02,
    /// Metres in a plane of one's own: a survey, a tape from a corner of the pavement.
    Local(LocalFrame),
}

/// A plane in metres that touches the ground at its origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalFrame {
    /// Where its origin lies, in EPSG:4490.
    pub origin: LonLat,
    /// Where its second axis (`y`) points: degrees clockwise from north. The first axis (`x`) is to the right of it.
    pub bearing: f64,
}

/// What is no reference system, or no position in one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CrsError {
    /// Not one of those known.
    #[error(
        "{0:?} is no reference system known here: write EPSG:4490, EPSG:4326, GCJ-02, or local:LON,LAT,BEARING (a plane in \
         metres: its origin in EPSG:4490, and where its y axis points in degrees from north)"
    )]
    Unknown(String),
    /// A local plane whose parameters are none.
    #[error("{0:?} is no local plane: write local:LON,LAT,BEARING, in degrees, such as local:120.001,30.0009,12.5")]
    BadPlane(String),
    /// Not a position of the system.
    #[error("[{0}, {1}] is no position in {2}: {3}")]
    OutOfRange(f64, f64, Crs, &'static str),
}

impl Crs {
    /// True for longitude and latitude, false for metres.
    pub fn is_degrees(self) -> bool {
        !matches!(self, Self::Local(_))
    }

    /// `position` (`[lon, lat]` in degrees, or `[x, y]` in metres for a local plane) as longitude and latitude in `to`.
    ///
    /// The same position, to the last bit, where the two systems are taken as one.
    ///
    /// # Errors
    /// [`CrsError::OutOfRange`] where `position` is none of this system, or `to` has no degrees.
    pub fn to_degrees(self, position: [f64; 2], to: Self) -> Result<LonLat, CrsError> {
        let [x, y] = position;
        let refused = |why| CrsError::OutOfRange(x, y, self, why);
        if let Self::Local(frame) = self {
            // A range holds no NaN.
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

    /// `position` of this system as one of `to`: `[lon, lat]`, or `[x, y]` where `to` is a local plane.
    ///
    /// # Errors
    /// [`CrsError::OutOfRange`] where `position` is none of this system.
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
    /// As it is parsed.
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
    // At a pole east has no direction.
    let is_sound = (-180.0..=180.0).contains(&lon) && (-89.0..=89.0).contains(&lat) && bearing.abs() <= 360.0;
    is_sound.then_some(LocalFrame {
        origin: LonLat { lon, lat },
        bearing,
    })
}

/// EPSG:4490 or EPSG:4326 to GCJ-02, by the published formula; outside its rectangle nothing is shifted.
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

/// The other way, by taking the shift at the newest estimate off again until nothing changes. Which rectangle applies is asked
/// of `at` itself, so within a kilometre of its ends, all of them abroad or at sea, there and back is not the same.
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

/// Degrees of longitude and latitude that GCJ-02 adds at a place in WGS 84: metres as a polynomial with waves, counted from
/// 105° E 35° N, divided by the length of a degree on the Krasovsky ellipsoid.
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
    fn gcj_02_is_the_published_one() {
        // The test vectors of googollee/eviltransform, WGS 84 and GCJ-02. It takes 6 378 137 m for the axis, which makes
        // 2·10⁻⁵ of the shift: hence a tolerance of 10⁻⁶ degree, its own.
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
    fn nothing_is_shifted_outside_china() {
        for place in [[-104.9903, 39.7392], [2.35, 48.86], [151.2, -33.87]] {
            assert_eq!(Crs::Wgs84.convert(place, Crs::Gcj02).unwrap(), place);
            assert_eq!(Crs::Gcj02.convert(place, Crs::Wgs84).unwrap(), place);
        }
    }

    #[test]
    fn a_local_plane_is_turned_and_in_metres() {
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
    fn systems_are_read_and_written_alike() {
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
            let told = text.parse::<Crs>().unwrap_err().to_string();
            for known in ["EPSG:4490", "EPSG:4326", "GCJ-02", "local:"] {
                assert!(told.contains(known), "{told}");
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
    fn what_is_no_position_is_refused() {
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
        let told = Crs::Wgs84
            .to_degrees([120.0, 30.0], local(120.0, 30.0, 0.0))
            .unwrap_err();
        assert!(told.to_string().contains("has no degrees"), "{told}");
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
        fn every_way_leads_back(from in any_crs(), to in any_crs(), lon in 113.55f64..113.65, lat in 34.65f64..34.75) {
            let start = Crs::Cgcs2000.convert([lon, lat], from).unwrap();
            let there = from.convert(start, to).unwrap();
            let back = to.convert(there, from).unwrap();
            let precision = if from.is_degrees() { 1e-9 } else { 1e-4 };
            prop_assert!((back[0] - start[0]).abs() < precision && (back[1] - start[1]).abs() < precision,
                "{from} {start:?} → {to} {there:?} → {back:?}");
        }

        #[test]
        fn gcj_02_and_back_all_over_the_country(lon in 73.0f64..135.5, lat in 3.0f64..54.0) {
            let gcj = Crs::Wgs84.convert([lon, lat], Crs::Gcj02).unwrap();
            let back = Crs::Gcj02.convert(gcj, Crs::Wgs84).unwrap();
            prop_assert!((back[0] - lon).abs() < 1e-9 && (back[1] - lat).abs() < 1e-9);
            let shift = distance_m(LonLat { lon, lat }, LonLat { lon: gcj[0], lat: gcj[1] });
            prop_assert!(shift < 1500.0, "{shift}");
        }
    }
}
