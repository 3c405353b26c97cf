//! YOLO and COCO data sets are read, and every invalid label is reported with its place.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{fs, path::Path};

use gridwatch_model::eval::data::{DatasetError, read};

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn faults(dir: &Path, error: &DatasetError) -> Vec<String> {
    let root = format!("{}/", dir.display());
    error.to_string().lines().map(|l| l.replace(&root, "")).collect()
}

#[test]
fn a_yolo_folder_with_boxes_and_outlines_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("classes.txt", "garbage\nbin\n"),
            ("set/b.JPG", ""),
            ("set/b.txt", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.3 0.1 0.3 0.6\n"),
            ("set/a.png", ""),
            ("set/notes.md", "not a picture"),
        ],
    );
    let set = read(&dir.path().join("set")).unwrap();
    assert_eq!(set.names, ["garbage", "bin"]);
    assert_eq!((set.pictures.len(), set.unlabelled), (2, 1));
    let [empty, full] = &set.pictures[..] else { panic!() };
    assert_eq!(empty.classes().count(), 0);
    let truths = full.truths((200, 100), Some);
    let near = |a: [f64; 4], b: [f64; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
    assert_eq!([truths[0].class, truths[1].class], [1, 0]);
    assert!(near(truths[0].corners, [80.0, 30.0, 120.0, 70.0]), "{truths:?}");
    assert!(near(truths[1].corners, [20.0, 10.0, 60.0, 60.0]), "{truths:?}");
    assert!((truths[0].area - 1600.0).abs() < 1e-9);
    // Objects of a class that the model lacks are left out.
    assert_eq!(full.truths((200, 100), |c| (c == 1).then_some(7))[0].class, 7);
}

#[test]
fn class_names_are_read_from_data_yaml() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[("valid/images/a.jpg", ""), ("valid/labels/a.txt", "1 0.5 0.5 1 1")],
    );
    for (yaml, names) in [
        (
            "train: ../train/images\nnc: 2\nnames: ['garbage', \"street bin\"]\n",
            &["garbage", "street bin"][..],
        ),
        ("names:\n- 垃圾\n- bin # a comment\n", &["垃圾", "bin"]),
        (
            "path: x\nnames:\n  0: garbage\n  1: bin\n  2: overflow\n",
            &["garbage", "bin", "overflow"],
        ),
    ] {
        fs::write(dir.path().join("data.yaml"), yaml).unwrap();
        for folder in ["valid", "valid/images"] {
            assert_eq!(read(&dir.path().join(folder)).unwrap().names, names, "{folder}: {yaml}");
        }
    }
    for (yaml, expected) in [
        ("names:\n  0: garbage\n  2: bin\n", "class 1 is missing"),
        ("nc: 2\n", "no valid class names"),
        ("names: [garbage\n", "no valid class names"),
    ] {
        fs::write(dir.path().join("data.yaml"), yaml).unwrap();
        let error = read(&dir.path().join("valid")).unwrap_err();
        let faults = faults(dir.path(), &error);
        assert!(
            faults[0].starts_with("data.yaml: ") && faults[0].contains(expected),
            "{faults:?}"
        );
    }
}

#[test]
fn labels_in_a_separate_folder_are_found() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("images/a.jpg", ""),
            ("labels/a.txt", "0 0.5 0.5 1 1"),
            ("obj.names", "garbage"),
        ],
    );
    let set = read(dir.path()).unwrap();
    assert_eq!(set.names, ["garbage"]);
    assert_eq!(set.pictures[0].classes().count(), 1);
}

#[test]
fn every_invalid_label_line_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("a.jpg", ""),
            (
                "a.txt",
                "garbage 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1\n0 0.5 x 0.1 0.1\n0 120 80 20 20\n0 0.5 0.5 0 0.1\n",
            ),
        ],
    );
    let error = read(dir.path()).unwrap_err();
    assert_eq!(
        faults(dir.path(), &error),
        [
            "a.txt:1: \"garbage\" is not a class index; write its number, from 0",
            "a.txt:2: 3 numbers after the class; a box has 4 (centre, width and height), an outline 3 or more pairs",
            "a.txt:3: \"x\" is not a number",
            "a.txt:4: the box exceeds the picture; coordinates are fractions of the picture, 0 to 1",
            "a.txt:5: the box is empty",
        ]
    );
}

#[test]
fn a_coco_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let coco = r#"{"images": [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}],
        "categories": [{"id": 3, "name": "garbage"}, {"id": 9, "name": "bin"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 9, "bbox": [10, 5, 20, 10], "area": 150.5, "iscrowd": 1}]}"#;
    write(dir.path(), &[("images/a.jpg", ""), ("set.json", coco)]);
    let set = read(&dir.path().join("set.json")).unwrap();
    assert_eq!(set.names, ["garbage", "bin"]);
    let [truth] = &set.pictures[0].truths((100, 50), Some)[..] else {
        panic!()
    };
    assert_eq!(
        (truth.class, truth.corners, truth.area),
        (1, [10.0, 5.0, 30.0, 15.0], 150.5)
    );
    assert!(truth.is_crowd);
}

#[test]
fn an_inconsistent_coco_file_is_reported_with_all_faults() {
    let dir = tempfile::tempdir().unwrap();
    let coco = r#"{"images": [{"id": 7, "file_name": "a.jpg"}], "categories": [{"id": 3, "name": "garbage"}],
        "annotations": [{"image_id": 8, "category_id": 3, "bbox": [1, 1, 2, 2]}, {"image_id": 7, "category_id": 4, "bbox": [1, 1, 2, 2]},
            {"image_id": 7, "category_id": 3, "bbox": [1, 1, 0, 2]}]}"#;
    write(dir.path(), &[("a.jpg", ""), ("set.json", coco)]);
    let file = dir.path().join("set.json");
    assert_eq!(
        faults(dir.path(), &read(&file).unwrap_err()),
        [
            "set.json: annotations[0]: no picture with id 8",
            "set.json: annotations[1]: no category with id 4",
            "set.json: annotations[2]: the box is empty",
        ]
    );
    fs::write(&file, coco.replace("a.jpg", "b.jpg")).unwrap();
    let faults = faults(dir.path(), &read(&file).unwrap_err());
    assert_eq!(
        faults[0],
        "set.json: picture b.jpg not found beside the file or in images/"
    );
    fs::write(&file, "{").unwrap();
    assert!(
        read(&file)
            .unwrap_err()
            .to_string()
            .contains("set.json:1: not a COCO file")
    );
    assert!(
        read(&dir.path().join("none"))
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(
        read(empty.path())
            .unwrap_err()
            .to_string()
            .contains("contains no pictures")
    );
}
