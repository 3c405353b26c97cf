//! The configuration that `init` and `try` start from: configs/first.toml, with the cameras of the person at the terminal.

#[cfg(all(feature = "gst", feature = "ort"))]
use std::path::Path;

use url::Url;

use super::Failure;
use gridwatch_base::{
    error::Class,
    secret::{Credentials, Secret, Zeroizing},
};
use gridwatch_config::raw;

/// The text of configs/first.toml.
pub(super) const TEMPLATE: &str = include_str!("../../configs/first.toml");

/// A place in no city, for who has not named one: the centre of the cell in configs/grid/first.geojson.
pub(super) const NOWHERE: raw::Place = raw::Place {
    lon: 121.5,
    lat: 31.23,
    uncertainty_m: 30.0,
};

/// The template, with the paths of its models and categories below `share`.
#[cfg(all(feature = "gst", feature = "ort"))]
pub(super) fn template(share: &Path) -> Result<raw::File, Failure> {
    let mut file: raw::File = toml::from_str(TEMPLATE).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
    for path in file.data_paths_mut() {
        *path = share.join("configs").join(&*path);
    }
    Ok(file)
}

/// Half the side of the made-up cell, in degrees of latitude: 500 m.
const HALF_CELL: f64 = 0.0045;

/// A GeoJSON grid of one square cell of 1 km around `place`.
pub(super) fn one_cell_grid(place: &raw::Place) -> String {
    // Near the poles a degree of longitude is short; there the cell is as wide as it can be.
    let half_lon = HALF_CELL / place.lat.to_radians().cos().max(0.01);
    let (west, east) = (place.lon - half_lon, place.lon + half_lon);
    let (south, north) = (place.lat - HALF_CELL, place.lat + HALF_CELL);
    let ring = [
        [west, south],
        [east, south],
        [east, north],
        [west, north],
        [west, south],
    ];
    let grid = serde_json::json!({
        "type": "FeatureCollection",
        "name": "one made-up cell around the cameras, until the city's grid is there",
        "crs": {"type": "name", "properties": {"name": "EPSG:4490"}},
        "features": [{
            "type": "Feature",
            "properties": {"code": "000000000000001"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }],
    });
    format!("{grid:#}\n")
}

/// A stream's URL without user name and password, and these two if it had them.
///
/// # Errors
/// It is no URL, or names no host. The message shows no password.
pub(super) fn stream_url(text: &str) -> Result<(Url, Option<Credentials>), Failure> {
    // The text is not repeated: a password with `@` or `/` in it is a usual reason why it does not parse.
    let bad = |why: &str| {
        Failure::new(
            Class::Config,
            format!(
                "not a stream URL: {why}; write rtsp://user:password@host:554/path, and %40 for @ or %2F for / in a password"
            ),
        )
    };
    let mut url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    if url.scheme() != "file" && url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it names no host"));
    }
    let decoded = |part: &str| -> Zeroizing<String> {
        percent_encoding::percent_decode_str(part)
            .decode_utf8_lossy()
            .into_owned()
            .into()
    };
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        (user, Some(password)) if !user.is_empty() && !password.is_empty() => Some(Credentials {
            user: Secret::new(&decoded(user)),
            password: Secret::new(&decoded(password)),
        }),
        _ => return Err(bad("it has a user name or a password, but not both")),
    };
    if let Some(Credentials { user, password }) = &credentials
        && (user.expose().contains(':')
            || [user, password]
                .iter()
                .any(|part| part.expose().contains(char::is_control)))
    {
        return Err(bad(
            "a user name has no colon, and neither it nor a password has control characters",
        ));
    }
    // These fail only for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok((url, credentials))
}

/// A URL for the terminal and for reports: without what a camera may take for a password.
#[cfg(all(feature = "gst", feature = "ort"))]
pub(super) fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    let hidden = if url.query().is_some() { "?…" } else { "" };
    shown.set_query(None);
    format!("{shown}{hidden}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_name_and_password_are_split_off_and_decoded() {
        let (url, credentials) = stream_url("rtsp://admin:p%40ss%3Aword@10.0.0.1:554/live?x=1").unwrap();
        assert_eq!(url.as_str(), "rtsp://10.0.0.1:554/live?x=1");
        let credentials = credentials.unwrap();
        assert_eq!(
            (credentials.user.expose(), credentials.password.expose()),
            ("admin", "p@ss:word")
        );
        assert!(stream_url("rtsp://10.0.0.1/live").unwrap().1.is_none());
    }

    #[test]
    fn an_invalid_url_is_refused_without_showing_the_password() {
        for text in [
            "rtsp://admin:hunter2@",
            "rtsp://admin:hunt/er2@host:x/",
            "hunter2",
            "rtsp://:hunter2@host/",
            "rtsp://hunter2@host/",
        ] {
            let message = stream_url(text).map(drop).unwrap_err().to_string();
            assert!(
                !message.contains("hunter2") && message.contains("rtsp://user:password@"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_template_has_the_one_cell_grid_of_its_place() {
        let file: raw::File = toml::from_str(TEMPLATE).unwrap();
        assert_eq!(
            file.cameras[0].place.as_ref().map(|p| (p.lon, p.lat)),
            Some((NOWHERE.lon, NOWHERE.lat))
        );
        let grid: serde_json::Value = serde_json::from_str(&one_cell_grid(&NOWHERE)).unwrap();
        let example: serde_json::Value =
            serde_json::from_str(include_str!("../../configs/grid/first.geojson")).unwrap();
        assert_eq!(grid["features"][0]["properties"], example["features"][0]["properties"]);
    }
}
