//! Manifests, adapters, the registry, text recognition and evaluation.

#[path = "../support/packages.rs"]
mod packages;

mod adapter_families;
mod adapter_layouts;
mod eval_data;
mod eval_reference;
mod goldens;
mod letterbox_reference;
mod manifest;
mod ocr_goldens;
mod registry;
mod spoiled;
