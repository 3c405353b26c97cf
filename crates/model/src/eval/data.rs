//! Pictures that people labelled: a folder as YOLO has it, or a file as COCO has it.
//!
//! - **YOLO** (Ultralytics, "Object Detection Datasets Overview"): beside each picture, or in `labels/` where it is in
//!   `images/`, a text file of its name with a line for each thing: class, then the middle and the sides of its box as fractions
//!   of the picture, or the corners of its outline. A picture without that file shows nothing. What the classes are called
//!   stands in `classes.txt` or `obj.names`, a line each, or under `names` in `data.yaml`.
//! - **COCO** (cocodataset.org, "Data format"): one JSON file; pictures are looked for beside it and in `images/`.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Corners, GroundTruth};

/// What a set holds.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledSet {
    /// What its classes are called; empty where nobody says.
    pub names: Vec<String>,
    /// In the order of their paths.
    pub pictures: Vec<LabelledPicture>,
    /// Pictures without a label file, which are taken to show nothing.
    pub unlabelled: usize,
}

/// One picture and what is there.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledPicture {
    /// Where it is.
    pub path: PathBuf,
    marks: Vec<Mark>,
}

#[derive(Debug, Clone, PartialEq)]
struct Mark {
    class: usize,
    place: Place,
    is_crowd: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// Corners as fractions of the picture.
    Fractions(Corners),
    /// Corners and area in pixels.
    Pixels(Corners, f64),
}

impl LabelledPicture {
    /// What is there, in pixels of the picture, which has this width and height. `class_of` gives the model's class for each of
    /// the set's; `None` leaves it out.
    pub fn truths(&self, (width, height): (u32, u32), class_of: impl Fn(usize) -> Option<usize>) -> Vec<GroundTruth> {
        let (w, h) = (f64::from(width), f64::from(height));
        let truth = |mark: &Mark| {
            let (corners, area) = match mark.place {
                Place::Fractions([x1, y1, x2, y2]) => {
                    let corners = [x1 * w, y1 * h, x2 * w, y2 * h];
                    (corners, (corners[2] - corners[0]) * (corners[3] - corners[1]))
                }
                Place::Pixels(corners, area) => (corners, area),
            };
            Some(GroundTruth {
                class: class_of(mark.class)?,
                corners,
                area,
                is_crowd: mark.is_crowd,
            })
        };
        self.marks.iter().filter_map(truth).collect()
    }

    /// The set's classes that are there, each as often as it is.
    pub fn classes(&self) -> impl Iterator<Item = usize> {
        self.marks.iter().map(|m| m.class)
    }
}

/// One thing that is wrong with a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFault {
    /// In which file.
    pub file: PathBuf,
    /// On which line, from 1, where it is known.
    pub line: Option<usize>,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for DatasetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

/// A set that cannot be used: all that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(DatasetFault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct DatasetError(pub Vec<DatasetFault>);

impl DatasetError {
    /// What to do about it.
    pub fn class(&self) -> gridwatch_base::error::Class {
        gridwatch_base::error::Class::Data
    }
}

/// Reads a set: a folder of pictures, or a COCO file.
///
/// # Errors
/// Every fault at once: labels that are none, files that cannot be read, a folder without pictures.
pub fn read(path: &Path) -> Result<LabelledSet, DatasetError> {
    let set = if path.is_file() { coco(path) } else { yolo(path) };
    match set {
        Ok(set) if set.pictures.is_empty() => Err(DatasetError(vec![DatasetFault {
            file: path.into(),
            line: None,
            message: "holds no picture (JPEG, PNG, WebP or BMP)".into(),
        }])),
        set => set,
    }
}

fn unreadable(file: &Path, error: &io::Error) -> DatasetFault {
    DatasetFault {
        file: file.into(),
        line: None,
        message: format!("cannot be read: {error}"),
    }
}

fn yolo(folder: &Path) -> Result<LabelledSet, DatasetError> {
    let inner = folder.join("images");
    let folder_of_pictures = if inner.is_dir() { inner } else { folder.into() };
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder_of_pictures)
        .and_then(|entries| entries.map(|e| Ok(e?.path())).collect())
        .map_err(|e| DatasetError(vec![unreadable(&folder_of_pictures, &e)]))?;
    paths.retain(|p| is_picture(p));
    paths.sort();
    let (mut faults, mut unlabelled) = (Vec::new(), 0);
    let mut pictures = Vec::with_capacity(paths.len());
    for path in paths {
        let labels = labels_of(&path);
        let marks = match fs::read_to_string(&labels) {
            Ok(text) => marks(&labels, &text, &mut faults),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                unlabelled += 1;
                Vec::new()
            }
            Err(e) => {
                faults.push(unreadable(&labels, &e));
                Vec::new()
            }
        };
        pictures.push(LabelledPicture { path, marks });
    }
    let names = names_beside(folder, &mut faults);
    if faults.is_empty() {
        Ok(LabelledSet {
            names,
            pictures,
            unlabelled,
        })
    } else {
        Err(DatasetError(faults))
    }
}

fn is_picture(path: &Path) -> bool {
    let end = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    end.is_some_and(|e| ["jpg", "jpeg", "png", "webp", "bmp"].contains(&e.as_str()))
}

/// Beside the picture, or in `labels/` beside `images/`.
fn labels_of(picture: &Path) -> PathBuf {
    let folder = picture.parent().unwrap_or(Path::new(""));
    let name = picture.with_extension("txt");
    let name = name.file_name().unwrap_or_default();
    match folder.parent() {
        Some(root) if folder.ends_with("images") && root.join("labels").is_dir() => root.join("labels").join(name),
        _ => folder.join(name),
    }
}

/// What the classes are called, by a file of the folder or of one around it: `images/` lies in a split's folder, and that
/// beside the set's `data.yaml`.
fn names_beside(folder: &Path, faults: &mut Vec<DatasetFault>) -> Vec<String> {
    let depth = if folder.ends_with("images") { 3 } else { 2 };
    let files = ["classes.txt", "obj.names", YAML];
    let files = folder
        .ancestors()
        .take(depth)
        .flat_map(|f| files.map(|name| f.join(name)));
    for file in files {
        match fs::read_to_string(&file) {
            Ok(text) if file.ends_with(YAML) => match names_in(&text) {
                Ok(names) => return names,
                Err(message) => {
                    faults.push(DatasetFault {
                        file,
                        line: None,
                        message,
                    });
                    return Vec::new();
                }
            },
            Ok(text) => {
                return text
                    .lines()
                    .map(|l| l.trim().to_owned())
                    .filter(|l| !l.is_empty())
                    .collect();
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => faults.push(unreadable(&file, &e)),
        }
    }
    Vec::new()
}

/// How a set's description is called by Ultralytics and by who exports for them.
const YAML: &str = "data.yaml";

/// `names` of a `data.yaml`: a list, or each class's number with its name.
fn names_in(text: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Described {
        names: Names,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        List(Vec<String>),
        ByNumber(BTreeMap<usize, String>),
    }
    let described: Described = serde_saphyr::from_str(text).map_err(|e| format!("names no classes: {e}"))?;
    match described.names {
        Names::List(names) => Ok(names),
        Names::ByNumber(names) => match names.keys().enumerate().find(|(i, number)| i != *number) {
            Some((missing, _)) => Err(format!(
                "names no class {missing}, and others behind it: name them from 0 on"
            )),
            None => Ok(names.into_values().collect()),
        },
    }
}

fn marks(file: &Path, text: &str, faults: &mut Vec<DatasetFault>) -> Vec<Mark> {
    let mut marks = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        match mark(line) {
            Ok(mark) => marks.push(mark),
            Err(message) => faults.push(DatasetFault {
                file: file.into(),
                line: Some(i + 1),
                message,
            }),
        }
    }
    marks
}

/// How far a box may reach out of the picture by rounding, as a share of it.
const SLACK: f64 = 0.01;

fn mark(line: &str) -> Result<Mark, String> {
    let mut fields = line.split_whitespace();
    let class = fields.next().unwrap_or_default();
    let class = class
        .parse()
        .map_err(|_| format!("{class:?} is no class: write its number, from 0"))?;
    let numbers: Vec<f64> = fields
        .map(|f| f.parse().map_err(|_| format!("{f:?} is no number")))
        .collect::<Result<_, _>>()?;
    let (first, last) = match numbers[..] {
        [x, y, w, h] => ([x - w / 2.0, y - h / 2.0], [x + w / 2.0, y + h / 2.0]),
        _ if numbers.len() >= 6 && numbers.len().is_multiple_of(2) => {
            let every = |axis: usize| numbers.iter().skip(axis).step_by(2).copied();
            let (low, high) = (
                |axis| every(axis).fold(f64::MAX, f64::min),
                |axis| every(axis).fold(f64::MIN, f64::max),
            );
            ([low(0), low(1)], [high(0), high(1)])
        }
        _ => {
            return Err(format!(
                "{} numbers after the class: a box has 4 (its middle, its width and height), an outline pairs of 3 or more",
                numbers.len()
            ));
        }
    };
    let is_inside = |v: f64| (-SLACK..=1.0 + SLACK).contains(&v);
    if ![first, last].iter().flatten().copied().all(is_inside) {
        return Err("the box lies outside the picture: numbers are fractions of it, 0 to 1".into());
    }
    if first[0] >= last[0] || first[1] >= last[1] {
        return Err("the box is empty".into());
    }
    Ok(Mark {
        class,
        place: Place::Fractions([first[0], first[1], last[0], last[1]].map(|v| v.clamp(0.0, 1.0))),
        is_crowd: false,
    })
}

#[derive(Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    #[serde(default)]
    annotations: Vec<CocoAnnotation>,
    categories: Vec<CocoCategory>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: u64,
    file_name: PathBuf,
}

#[derive(Deserialize)]
struct CocoAnnotation {
    image_id: u64,
    category_id: u64,
    bbox: Corners,
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct CocoCategory {
    id: u64,
    name: String,
}

fn coco(file: &Path) -> Result<LabelledSet, DatasetError> {
    let text = fs::read_to_string(file).map_err(|e| DatasetError(vec![unreadable(file, &e)]))?;
    let fault = |line, message: String| DatasetFault {
        file: file.into(),
        line,
        message,
    };
    let whole: Coco = serde_json::from_str(&text)
        .map_err(|e| DatasetError(vec![fault(Some(e.line()), format!("is no COCO file: {e}"))]))?;
    let classes: BTreeMap<u64, usize> = whole.categories.iter().enumerate().map(|(i, c)| (c.id, i)).collect();
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut faults = Vec::new();
    let mut pictures: BTreeMap<u64, LabelledPicture> = BTreeMap::new();
    for CocoImage { id, file_name } in whole.images {
        let places = [folder.join(&file_name), folder.join("images").join(&file_name)];
        match places.into_iter().find(|p| p.is_file()) {
            Some(path) => {
                pictures.insert(
                    id,
                    LabelledPicture {
                        path,
                        marks: Vec::new(),
                    },
                );
            }
            None => faults.push(fault(
                None,
                format!(
                    "picture {} is neither beside the file nor in images/",
                    file_name.display()
                ),
            )),
        }
    }
    let is_whole = faults.is_empty();
    for (i, a) in whole.annotations.iter().enumerate() {
        let [x, y, w, h] = a.bbox;
        let wrong = |what: String| fault(None, format!("annotations[{i}]: {what}"));
        match (classes.get(&a.category_id), pictures.get_mut(&a.image_id)) {
            (None, _) => faults.push(wrong(format!("no category has the id {}", a.category_id))),
            // Its picture may be the one that is missing.
            (_, None) if !is_whole => {}
            (_, None) => faults.push(wrong(format!("no picture has the id {}", a.image_id))),
            _ if !(w > 0.0 && h > 0.0) => faults.push(wrong("its box is empty".into())),
            (Some(class), Some(picture)) => picture.marks.push(Mark {
                class: *class,
                place: Place::Pixels([x, y, x + w, y + h], a.area.unwrap_or(w * h)),
                is_crowd: a.iscrowd == 1,
            }),
        }
    }
    if !faults.is_empty() {
        return Err(DatasetError(faults));
    }
    let mut pictures: Vec<LabelledPicture> = pictures.into_values().collect();
    pictures.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(LabelledSet {
        names: whole.categories.into_iter().map(|c| c.name).collect(),
        pictures,
        unlabelled: 0,
    })
}
