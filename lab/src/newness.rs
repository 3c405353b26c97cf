//! Measures the change map on composed scenes: false regions by nuisance, and things found by size; fits the region score.
//!
//! A scene is a still picture in which light, weather and people change from look to look and things are put down. It stands
//! for a camera that looks every ten seconds.

mod canvas;
mod fit;
mod measure;
mod scene;
pub mod streets;

use std::path::{Path, PathBuf};

use self::{
    canvas::{Canvas, Cutout, SensorNoise},
    scene::Nuisance,
};
pub use self::{
    fit::{Weights, fit, solve},
    measure::{FalseRegions, Found, false_regions, found, samples},
};

/// The nuisances of one row, with its name.
pub struct Row {
    /// Its name in reports.
    pub name: &'static str,
    nuisances: &'static [Nuisance],
    /// Boxes of people are given to the map, of one person in five none.
    people_are_found: bool,
}

const fn row(name: &'static str, nuisances: &'static [Nuisance]) -> Row {
    Row {
        name,
        nuisances,
        people_are_found: false,
    }
}

/// The rows of the report on false regions.
pub const ROWS: &[Row] = &[
    row("noise and shake", &[Nuisance::Noise, Nuisance::Shake]),
    row("leaves", &[Nuisance::Leaves]),
    row("screens", &[Nuisance::Screens]),
    row("people standing", &[Nuisance::Standing]),
    row("clouds, people", &[Nuisance::Clouds, Nuisance::People]),
    row("exposure steps", &[Nuisance::Steps]),
    row("hard shadows", &[Nuisance::HardShadow]),
    row("hard shadows, bluer", &[Nuisance::HardShadow, Nuisance::Blue]),
    row("hard shadows, people", &[Nuisance::HardShadow, Nuisance::People]),
    Row {
        name: "hard shadows, people found",
        nuisances: &[Nuisance::HardShadow, Nuisance::People],
        people_are_found: true,
    },
    row("soft shadows", &[Nuisance::SoftShadow]),
    row("wet ground", &[Nuisance::Wet]),
    row("wet ground, people", &[Nuisance::Wet, Nuisance::People]),
    row("dusk, lamps", &[Nuisance::Lamps]),
    row("infrared switch", &[Nuisance::Infrared]),
    row("rain, headlights", &[Nuisance::Rain, Nuisance::Headlights]),
    row("parked bicycle", &[Nuisance::Bicycle]),
];

/// The pictures that scenes are made of.
pub struct Assets {
    backgrounds: Vec<(String, Canvas)>,
    things: Vec<Cutout>,
    people: People,
    prints: Prints,
    noise: SensorNoise,
}

/// People and goods, cut out of footage or drawn; empty unless they were read.
#[derive(Default)]
struct People {
    standing: Vec<Cutout>,
    walking: Vec<Cutout>,
    stall: Cutout,
}

/// Pictures of things that bear text, or could; empty unless they were read.
#[derive(Default)]
struct Prints {
    banners: Vec<Cutout>,
    small_ads: Vec<Cutout>,
    boards: Vec<Cutout>,
    /// Lawful: public notices and pictures.
    lawful: Vec<Cutout>,
}

/// Why the pictures could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// The folder cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The folder holds no usable picture.
    #[error("{} holds no picture that can be used here: {wanted}", .path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
}

impl Assets {
    /// Reads up to `limit` backgrounds, evenly chosen from the pictures in a folder that are wider than high, and the things
    /// that are put down: pictures with transparency.
    ///
    /// # Errors
    /// A folder cannot be read, or holds no such picture.
    pub fn read(backgrounds: &[PathBuf], things: &Path, limit: usize) -> Result<Self, AssetsError> {
        let mut all = Vec::new();
        for folder in backgrounds {
            let found = read(folder, limit, |p| p.width() > p.height() && p.width() >= 400)?;
            if found.is_empty() {
                return Err(AssetsError::Empty {
                    path: folder.clone(),
                    wanted: "wider than high, at least 400 pixels wide",
                });
            }
            all.extend(found.into_iter().map(|(name, p)| (name, Canvas::covering(&p))));
        }
        let cutouts = read(things, usize::MAX, |p| p.color().has_alpha())?;
        let cutouts: Vec<Cutout> = cutouts.into_iter().map(|(_, p)| Cutout(p.to_rgba8())).collect();
        if cutouts.is_empty() {
            return Err(AssetsError::Empty {
                path: things.to_path_buf(),
                wanted: "PNG with transparency",
            });
        }
        Ok(Self {
            backgrounds: all,
            things: cutouts,
            people: People::default(),
            prints: Prints::default(),
            noise: SensorNoise::new(),
        })
    }
}

impl Assets {
    /// Also reads the people and the stall that `demo/make_clips.py --cutouts` writes.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn with_people(mut self, folder: &Path) -> Result<Self, AssetsError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let picture = image::open(&path).map_err(|source| AssetsError::Io {
                path,
                source: std::io::Error::other(source),
            })?;
            Ok::<_, AssetsError>(Cutout(picture.to_rgba8()))
        };
        self.people = People {
            standing: vec![read("man-stands.png")?, read("woman-stands.png")?],
            walking: [
                "man-walks-1.png",
                "man-walks-2.png",
                "man-walks-3.png",
                "woman-walks.png",
            ]
            .map(read)
            .into_iter()
            .collect::<Result<_, _>>()?,
            stall: read("stall.png")?,
        };
        Ok(self)
    }

    /// Also reads the prints that `demo/make_prints.py` renders.
    ///
    /// # Errors
    /// The folder cannot be read, or a kind of print is missing.
    pub fn with_prints(mut self, folder: &Path) -> Result<Self, AssetsError> {
        let all = read(folder, usize::MAX, |_| true)?;
        let kind = |prefixes: &[&str]| {
            let is_such = |name: &str| prefixes.iter().any(|p| name.starts_with(p));
            let cutouts = all.iter().filter(|(name, _)| is_such(name));
            let cutouts: Vec<Cutout> = cutouts.map(|(_, p)| Cutout(p.to_rgba8())).collect();
            match cutouts.is_empty() {
                false => Ok(cutouts),
                true => Err(AssetsError::Empty {
                    path: folder.to_path_buf(),
                    wanted: "banner_*, small_ad_*, board_*, notice_* and blank_* as PNG",
                }),
            }
        };
        self.prints = Prints {
            banners: kind(&["banner_"])?,
            small_ads: kind(&["small_ad_"])?,
            boards: kind(&["board_"])?,
            lawful: kind(&["notice_", "blank_"])?,
        };
        Ok(self)
    }
}

fn read(
    folder: &Path,
    limit: usize,
    fits: impl Fn(&image::DynamicImage) -> bool,
) -> Result<Vec<(String, image::DynamicImage)>, AssetsError> {
    canvas::pictures_in(folder, limit, fits).map_err(|source| AssetsError::Io {
        path: folder.to_path_buf(),
        source,
    })
}

/// A street on which nothing happens.
pub const STEADY: Row = row("steady", &[]);
