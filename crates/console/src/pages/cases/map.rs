//! The map of cells: a drawing made here, which every browser shows, over which MapLibre draws one that can be moved; a table with the same
//! contents; and the basemap, a PMTiles file of the operator's from which the browser reads parts.

use std::{fmt::Write as _, fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc, time::UNIX_EPOCH};

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE},
    },
    response::{IntoResponse, Response},
};
use gridwatch_base::message;
use gridwatch_web::{Actor, Rejection};
use tokio::task;

use super::list::{Filters, ListQuery};
use crate::{
    app::App,
    cell_map::{self, CellMap, MAX_CASES},
    error,
    page::Page,
};

/// Bytes of the basemap in an answer, at most: a tile has some 100 kB, a directory less.
const MAX_RANGE: u64 = 4 << 20;

/// A cell in the drawing.
struct DrawnCell {
    /// Path in the drawing's coordinates.
    path: String,
    class: &'static str,
    title: String,
    /// Query of the list of its cases; empty if it has none.
    query: String,
}

struct Mark {
    x: String,
    y: String,
    class: &'static str,
    title: String,
}

struct CellRow {
    code: String,
    cases: u32,
    open: u32,
    cameras: Vec<String>,
    query: String,
}

#[derive(Template)]
#[template(path = "cases_map.html")]
struct MapTemplate<'a> {
    page: &'a Page,
    filters: Filters,
    /// Query with the filters, for the data.
    query: String,
    has_basemap: bool,
    view_box: String,
    cells: Vec<DrawnCell>,
    cameras: Vec<Mark>,
    rows: Vec<CellRow>,
    notes: Vec<String>,
}

/// Class of a cell by the number of its cases; `assets/css/cases.css` and `web/src/pages/cell-map.ts` have the same steps.
fn class_of(cases: u32) -> &'static str {
    match cases {
        0 => "none",
        1..5 => "few",
        5..20 => "some",
        _ => "many",
    }
}

/// From longitude and latitude to the coordinates of the drawing: metres from its north-west corner, nearly.
struct Projection {
    west: f64,
    north: f64,
    /// Metres in a degree of longitude and of latitude.
    scale: (f64, f64),
    size: (f64, f64),
}

impl Projection {
    fn of(map: &CellMap) -> Option<Self> {
        let rings = map
            .cells
            .features
            .iter()
            .flat_map(|cell| cell.geometry.coordinates.iter().flatten());
        let corners = rings.flatten().copied();
        let cameras = map.cameras.iter().map(|camera| [camera.lon, camera.lat]);
        let extent = corners.chain(cameras).fold(None, |extent, [lon, lat]| {
            let (west, south, east, north) = extent.unwrap_or((lon, lat, lon, lat));
            Some((west.min(lon), south.min(lat), east.max(lon), north.max(lat)))
        });
        let (west, south, east, north) = extent?;
        let degree = 111_320.0;
        let scale = (degree * f64::midpoint(south, north).to_radians().cos(), degree);
        // A single point still has a neighbourhood.
        let margin = 20.0;
        let size = (
            (east - west) * scale.0 + 2.0 * margin,
            (north - south) * scale.1 + 2.0 * margin,
        );
        Some(Self {
            west: west - margin / scale.0,
            north: north + margin / scale.1,
            scale,
            size,
        })
    }

    fn at(&self, lon: f64, lat: f64) -> (f64, f64) {
        ((lon - self.west) * self.scale.0, (self.north - lat) * self.scale.1)
    }
}

fn path(projection: &Projection, polygons: &[Vec<Vec<[f64; 2]>>]) -> String {
    let mut path = String::new();
    for ring in polygons.iter().flatten() {
        for (i, [lon, lat]) in ring.iter().enumerate() {
            let (x, y) = projection.at(*lon, *lat);
            // Writing to a String cannot fail.
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        path.push('Z');
    }
    path
}

/// `GET /cases/map`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let map = cell_map::of(&app, &actor, query.to_store(&page, &app, &actor, MAX_CASES)?).await?;
    let t = &page.t.cases;
    let projection = Projection::of(&map);
    let cells = map.cells.features.iter().filter_map(|cell| {
        let (known, projection) = (&cell.properties, projection.as_ref()?);
        let title = t.map_cell_cases.with("cell", &known.code).with("n", known.cases);
        Some(DrawnCell {
            path: path(projection, &cell.geometry.coordinates),
            class: class_of(known.cases),
            title: title.to_string(),
            query: match known.cases {
                0 => String::new(),
                _ => query.with(&[("cell", &known.code)]),
            },
        })
    });
    let cells = cells.collect();
    let cameras = map.cameras.iter().filter_map(|camera| {
        let (x, y) = projection.as_ref()?.at(camera.lon, camera.lat);
        Some(Mark {
            x: format!("{x:.1}"),
            y: format!("{y:.1}"),
            class: "camera",
            title: camera.view.clone(),
        })
    });
    let cameras = cameras.collect();
    let rows = map.cells.features.iter().filter_map(|cell| {
        let known = &cell.properties;
        let is_told = known.cases > 0 || !known.cameras.is_empty();
        is_told.then(|| CellRow {
            code: known.code.clone(),
            cases: known.cases,
            open: known.open,
            cameras: known.cameras.clone(),
            query: query.with(&[("cell", &known.code)]),
        })
    });
    let rows = rows.collect();
    let mut notes = Vec::new();
    if map.cells_truncated {
        notes.push(t.map_truncated.to_string());
    }
    if map.cases_truncated {
        notes.push(t.map_points_truncated.with("n", MAX_CASES).to_string());
    }
    let size = projection.as_ref().map_or((1.0, 1.0), |projection| projection.size);
    page.show(&MapTemplate {
        page: &page,
        query: query.with(&[]),
        has_basemap: app.config().console.basemap.is_some(),
        view_box: format!("0 0 {:.0} {:.0}", size.0, size.1),
        cells,
        cameras,
        rows,
        notes,
        filters: Filters::new(&page, &app, &actor, query, true),
    })
}

/// `GET /cases/map/basemap`: a part of the PMTiles file. Without a range it is refused: the file may have gigabytes.
pub(super) async fn basemap(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Rejection> {
    let Some(file) = app.config().console.basemap.clone() else {
        return Err(Rejection::NotFound);
    };
    let range = headers.get(RANGE).and_then(|range| parse_range(range.to_str().ok()?));
    let Some((first, last)) = range else {
        return Err(Rejection::BadRequest(message!(
            "send a Range header with one range of bytes"
        )));
    };
    let place = Arc::clone(&app.readers).acquire_owned().await;
    let place = place.map_err(|error| Rejection::internal(&error))?;
    let done = task::spawn_blocking(move || {
        let part = read_part(&file, first, last);
        drop(place);
        part.map_err(|error| (file, error))
    });
    let part = match done.await.map_err(|error| Rejection::internal(&error))? {
        Ok(part) => part,
        Err((_, error)) if error.kind() == io::ErrorKind::NotFound => return Err(error::gone()),
        Err((file, error)) => {
            tracing::error!(file = %file.display(), %error, "Cannot read the basemap");
            return Err(Rejection::Internal);
        }
    };
    let Some(bytes) = part.bytes else {
        let range = format!("bytes */{}", part.total);
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, range)]).into_response());
    };
    let range = format!("bytes {first}-{}/{}", first + bytes.len() as u64 - 1, part.total);
    let fixed = [
        (CONTENT_TYPE, HeaderValue::from_static("application/vnd.pmtiles")),
        (ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        // The reader compares the tag; browsers do not keep parts reliably.
        (CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    let told = [(CONTENT_RANGE, range), (ETAG, part.tag)];
    Ok((StatusCode::PARTIAL_CONTENT, fixed, told, bytes).into_response())
}

/// First and last byte of a `Range` header with one range; `None` for everything else.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

struct Part {
    /// `None`: no such range, or a larger one than is given.
    bytes: Option<Vec<u8>>,
    total: u64,
    tag: String,
}

fn read_part(path: &Path, first: u64, last: u64) -> io::Result<Part> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let total = metadata.len();
    let modified = metadata
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let tag = format!("\"{total:x}-{:x}\"", modified.unwrap_or_default().as_nanos());
    let last = last.min(total.saturating_sub(1));
    let length = last.saturating_sub(first).saturating_add(1);
    let bytes = if first >= total || length > MAX_RANGE {
        None
    } else {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut bytes, first)?;
        Some(bytes)
    };
    Ok(Part { bytes, total, tag })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_range_is_understood() {
        assert_eq!(parse_range("bytes=0-16383"), Some((0, 16383)));
        assert_eq!(parse_range("bytes=5-5"), Some((5, 5)));
        for other in [
            "bytes=5-4",
            "bytes=-5",
            "bytes=5-",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=+1-2",
            "bytes=0-99999999999999999999999",
            "",
        ] {
            assert_eq!(parse_range(other), None, "{other}");
        }
    }

    #[test]
    fn parts_of_a_file_are_read_within_its_bounds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"0123456789").unwrap();
        let path = file.path().to_path_buf();
        let part = |first, last| read_part(&path, first, last).unwrap().bytes;
        assert_eq!(part(2, 4).unwrap(), b"234");
        assert_eq!(part(8, 100).unwrap(), b"89");
        assert_eq!(part(10, 11), None);
        assert_eq!(part(u64::MAX, u64::MAX), None);
        file.as_file().set_len(MAX_RANGE + 2).unwrap();
        assert_eq!(part(0, MAX_RANGE), None, "larger than is given");
        assert_eq!(part(0, MAX_RANGE - 1).unwrap().len() as u64, MAX_RANGE);
    }
}
