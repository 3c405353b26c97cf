//! Keys that models must be signed with.

use std::fs;

use crate::config_support::*;
use gridwatch_config as config;
use gridwatch_custody::SigningKey;

#[test]
fn an_invalid_registry_key_does_not_leave_a_registry_that_trusts_every_package() {
    let draft = Folder::new().with("[grid]", "[registry]\nkeys = [\"not a key\"]\n[grid]");
    assert!(draft.registry().is_none());
    assert_eq!(messages(&draft.faults).len(), 1, "{:?}", draft.faults);
}

#[test]
fn with_registry_keys_the_models_of_the_file_must_be_signed_too() {
    let folder = Folder::new();
    let model = folder.dir.path().join("model");
    fs::create_dir(&model).unwrap();
    for name in ["model.toml", "model.onnx"] {
        fs::copy(format!("models/yolox_nano_416_coco/{name}"), model.join(name)).unwrap();
    }
    let (_, key) = SigningKey::generate().unwrap();
    let keys = format!("[registry]\nkeys = [\"{}\"]\n[grid]", key.public());
    let good = fs::read_to_string("tests/golden/good.toml").unwrap();
    let text = good
        .replace("[grid]", &keys)
        .replace("@ROOT@/models/yolox_nano_416_coco", model.to_str().unwrap());
    let faults = || messages(&config::examine_with(&folder.write(&text), &variable).faults);
    let [unsigned] = &faults()[..] else {
        panic!("{:?}", faults())
    };
    assert!(
        unsigned.starts_with("models[0].dir: ") && unsigned.contains("model.sig is missing"),
        "{unsigned}"
    );
    let manifest = fs::read(model.join("model.toml")).unwrap();
    let (_, other) = SigningKey::generate().unwrap();
    fs::write(model.join("model.sig"), other.sign(&manifest)).unwrap();
    assert!(faults()[0].contains("does not match"), "{:?}", faults());
    fs::write(model.join("model.sig"), key.sign(&manifest)).unwrap();
    assert_eq!(faults(), [""; 0]);
}
