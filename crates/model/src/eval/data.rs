//! Reads labelled data sets: a YOLO folder or a COCO file.
//!
//! - **YOLO** (Ultralytics, "Object Detection Datasets Overview"): beside each picture, or in `labels/` if it is in `images/`, a text
//!   file of the same name with one line per object: the class, then centre and sides of its box as fractions of the picture, or the
//!   points of its outline. A picture without a label file has no objects. Class names come from `classes.txt` or `obj.names`, one per
//!   line, or from `names` in `data.yaml`.
//! - **COCO** (cocodataset.org, "Data format"): one JSON file; pictures are searched beside it and in `images/`.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Corners, GroundTruth};
use gridwatch_base::file;

/// A labelled data set.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledSet {
    /// Class names; empty if the set does not name them.
    pub names: Vec<String>,
    /// Pictures, sorted by path.
    pub pictures: Vec<LabelledPicture>,
    /// Number of pictures without a label file, which count as empty.
    pub unlabelled: usize,
}

/// A picture with its annotations.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledPicture {
    /// Path of the picture.
    pub path: PathBuf,
    annotations: Vec<Annotation>,
}

#[derive(Debug, Clone, PartialEq)]
struct Annotation {
    class: usize,
    bounds: Bounds,
    is_crowd: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bounds {
    /// Corners as fractions of the picture.
    Fractions(Corners),
    /// Corners and area in pixels.
    Pixels(Corners, f64),
}

impl LabelledPicture {
    /// The annotated objects in pixels, for a picture of this width and height. `class_of` maps the set's classes to the model's;
    /// objects mapped to `None` are left out.
    pub fn truths(&self, (width, height): (u32, u32), class_of: impl Fn(usize) -> Option<usize>) -> Vec<GroundTruth> {
        let (w, h) = (f64::from(width), f64::from(height));
        let truth = |annotation: &Annotation| {
            let (corners, area) = match annotation.bounds {
                Bounds::Fractions([x1, y1, x2, y2]) => {
                    let corners = [x1 * w, y1 * h, x2 * w, y2 * h];
                    (corners, (corners[2] - corners[0]) * (corners[3] - corners[1]))
                }
                Bounds::Pixels(corners, area) => (corners, area),
            };
            Some(GroundTruth {
                class: class_of(annotation.class)?,
                corners,
                area,
                is_crowd: annotation.is_crowd,
            })
        };
        self.annotations.iter().filter_map(truth).collect()
    }

    /// Class of every annotation.
    pub fn classes(&self) -> impl Iterator<Item = usize> {
        self.annotations.iter().map(|a| a.class)
    }
}

/// A fault in a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFault {
    /// The file.
    pub file: PathBuf,
    /// Line number from 1, if known.
    pub line: Option<usize>,
    /// The fault and its remedy.
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

/// An unusable data set, with every fault found.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(DatasetFault::to_string).collect::<Vec<_>>().join("\n"))]
pub struct DatasetError(pub Vec<DatasetFault>);

impl DatasetError {
    /// Always `Class::Data`.
    pub fn class(&self) -> gridwatch_base::error::Class {
        gridwatch_base::error::Class::Data
    }
}

/// Reads a data set: a folder of pictures, or a COCO file.
///
/// # Errors
/// Every fault at once: invalid labels, unreadable files, a set without pictures.
pub fn read(path: &Path) -> Result<LabelledSet, DatasetError> {
    let set = if path.is_dir() {
        read_yolo(path)
    } else {
        read_coco(path)
    };
    match set {
        Ok(set) if set.pictures.is_empty() => Err(DatasetError(vec![DatasetFault {
            file: path.into(),
            line: None,
            message: "contains no pictures (JPEG, PNG, WebP or BMP)".into(),
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

fn read_yolo(folder: &Path) -> Result<LabelledSet, DatasetError> {
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
        let labels = label_file(&path);
        let annotations = match file::read_text(&labels, file::MAX_TEXT) {
            Ok(text) => parse_labels(&labels, &text, &mut faults),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                unlabelled += 1;
                Vec::new()
            }
            Err(e) => {
                faults.push(unreadable(&labels, &e));
                Vec::new()
            }
        };
        pictures.push(LabelledPicture { path, annotations });
    }
    let names = read_class_names(folder, &mut faults);
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

/// Label file of a picture: beside it, or in `labels/` beside `images/`.
fn label_file(picture: &Path) -> PathBuf {
    let folder = picture.parent().unwrap_or(Path::new(""));
    let name = picture.with_extension("txt");
    let name = name.file_name().unwrap_or_default();
    match folder.parent() {
        Some(root) if folder.ends_with("images") && root.join("labels").is_dir() => root.join("labels").join(name),
        _ => folder.join(name),
    }
}

/// Class names from a file in the folder or an ancestor: `images/` is in the folder of a split, which is beside `data.yaml`.
fn read_class_names(folder: &Path, faults: &mut Vec<DatasetFault>) -> Vec<String> {
    let depth = if folder.ends_with("images") { 3 } else { 2 };
    let files = ["classes.txt", "obj.names", YAML];
    let files = folder
        .ancestors()
        .take(depth)
        .flat_map(|f| files.map(|name| f.join(name)));
    for file in files {
        match file::read_text(&file, file::MAX_TEXT) {
            Ok(text) if file.ends_with(YAML) => match parse_yaml_names(&text) {
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

/// Name of Ultralytics' data set description.
const YAML: &str = "data.yaml";

/// Parses `names` of a `data.yaml`: a list, or a map from class index to name.
fn parse_yaml_names(text: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Description {
        names: Names,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        List(Vec<String>),
        ByNumber(BTreeMap<usize, String>),
    }
    let description: Description = serde_saphyr::from_str(text).map_err(|e| format!("no valid class names: {e}"))?;
    match description.names {
        Names::List(names) => Ok(names),
        Names::ByNumber(names) => match names.keys().enumerate().find(|(i, number)| i != *number) {
            Some((missing, _)) => Err(format!(
                "class {missing} is missing; number the classes consecutively from 0"
            )),
            None => Ok(names.into_values().collect()),
        },
    }
}

fn parse_labels(file: &Path, text: &str, faults: &mut Vec<DatasetFault>) -> Vec<Annotation> {
    let mut annotations = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        match parse_label(line) {
            Ok(annotation) => annotations.push(annotation),
            Err(message) => faults.push(DatasetFault {
                file: file.into(),
                line: Some(i + 1),
                message,
            }),
        }
    }
    annotations
}

/// Tolerance for boxes that exceed the picture by rounding, as a fraction of it.
const EDGE_TOLERANCE: f64 = 0.01;

fn parse_label(line: &str) -> Result<Annotation, String> {
    let mut fields = line.split_whitespace();
    let class = fields.next().unwrap_or_default();
    let class = class
        .parse()
        .map_err(|_| format!("{class:?} is not a class index; write its number, from 0"))?;
    let numbers: Vec<f64> = fields
        .map(|f| f.parse().map_err(|_| format!("{f:?} is not a number")))
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
                "{} numbers after the class; a box has 4 (centre, width and height), an outline 3 or more pairs",
                numbers.len()
            ));
        }
    };
    let is_inside = |v: f64| (-EDGE_TOLERANCE..=1.0 + EDGE_TOLERANCE).contains(&v);
    if ![first, last].iter().flatten().copied().all(is_inside) {
        return Err("the box exceeds the picture; coordinates are fractions of the picture, 0 to 1".into());
    }
    if first[0] >= last[0] || first[1] >= last[1] {
        return Err("the box is empty".into());
    }
    Ok(Annotation {
        class,
        bounds: Bounds::Fractions([first[0], first[1], last[0], last[1]].map(|v| v.clamp(0.0, 1.0))),
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

fn read_coco(file: &Path) -> Result<LabelledSet, DatasetError> {
    let text = file::read_text(file, file::MAX_DATA).map_err(|e| DatasetError(vec![unreadable(file, &e)]))?;
    let fault = |line, message: String| DatasetFault {
        file: file.into(),
        line,
        message,
    };
    let whole: Coco = serde_json::from_str(&text)
        .map_err(|e| DatasetError(vec![fault(Some(e.line()), format!("not a COCO file: {e}"))]))?;
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
                        annotations: Vec::new(),
                    },
                );
            }
            None => faults.push(fault(
                None,
                format!(
                    "picture {} not found beside the file or in images/",
                    file_name.display()
                ),
            )),
        }
    }
    let all_found = faults.is_empty();
    for (i, a) in whole.annotations.iter().enumerate() {
        let [x, y, w, h] = a.bbox;
        let wrong = |what: String| fault(None, format!("annotations[{i}]: {what}"));
        match (classes.get(&a.category_id), pictures.get_mut(&a.image_id)) {
            (None, _) => faults.push(wrong(format!("no category with id {}", a.category_id))),
            // Its picture may be among the missing ones, which are already reported.
            (_, None) if !all_found => {}
            (_, None) => faults.push(wrong(format!("no picture with id {}", a.image_id))),
            _ if !(w > 0.0 && h > 0.0) => faults.push(wrong("the box is empty".into())),
            (Some(class), Some(picture)) => picture.annotations.push(Annotation {
                class: *class,
                bounds: Bounds::Pixels([x, y, x + w, y + h], a.area.unwrap_or(w * h)),
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
