//! An object detector: a network whose output layout is recognised at load time and decoded at every look.

use std::sync::Arc;

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::{LayoutError, NetworkFacts, OutputLayout, RawDetection},
    manifest::{ClassMapping, Provider},
    network::Network,
    preprocess::Placement,
};
use gridwatch_engine::{Detection, Label};

/// One model's session, owned by one worker thread.
pub(super) struct Detector {
    network: Network,
    layout: OutputLayout,
    mappings: Vec<ClassMapping>,
    labels: Vec<Label>,
    found: Vec<RawDetection>,
}

impl Detector {
    /// Loads the weights and runs them on `tensor`, an input of `size`, to recognise the layout of the outputs.
    pub(super) fn new(runtime: &Runtime, model: &Model, tensor: &[f32], size: (u32, u32)) -> Result<Self, ModelError> {
        let mut network = Network::open(runtime, model)?;
        let manifest = Arc::clone(network.manifest());
        let layout = |source| ModelError::Layout {
            model: manifest.id.clone(),
            source,
        };
        check_class_names(&manifest, network.graph().class_names()).map_err(layout)?;
        let shapes: Vec<Vec<i64>> = network.run(tensor, size, |outputs| {
            Ok(outputs.iter().map(|o| o.dimensions().collect()).collect())
        })?;
        let (inputs, outputs) = (network.inputs(), network.outputs(&shapes));
        let facts = NetworkFacts {
            inputs: &inputs,
            outputs: &outputs,
            metadata: &network.graph().metadata,
            classes: manifest.labels.len(),
            size,
        };
        Ok(Self {
            layout: OutputLayout::resolve(manifest.adapter, &facts).map_err(layout)?,
            mappings: manifest.class_mappings(),
            labels: manifest.engine_labels(),
            found: Vec::new(),
            network,
        })
    }

    pub(super) fn manifest(&self) -> &Arc<Manifest> {
        self.network.manifest()
    }

    /// Layout of the network's outputs.
    pub(super) fn layout(&self) -> &OutputLayout {
        &self.layout
    }

    /// Execution provider in use.
    pub(super) fn provider(&self) -> Provider {
        self.network.provider()
    }

    pub(super) fn set_floor(&mut self, floor: f32) {
        for mapping in self.mappings.iter_mut().filter(|m| m.floor.is_finite()) {
            mapping.floor = floor;
        }
    }

    /// Runs the network on a picture drawn into `tensor` at `placement`. Boxes are fractions of the picture.
    pub(super) fn detect(&mut self, tensor: &[f32], placement: Placement) -> Result<Vec<Detection>, ModelError> {
        self.detect_tensor(tensor, placement.canvas)?;
        let detection = |found: &RawDetection| {
            let label = self.labels[found.label].clone();
            Some(Detection::new(label, found.score, found.in_picture(placement)?))
        };
        Ok(self.found.iter().filter_map(detection).collect())
    }

    pub(super) fn detect_tensor(&mut self, tensor: &[f32], size: (u32, u32)) -> Result<&[RawDetection], ModelError> {
        let Self {
            network,
            layout,
            mappings,
            found,
            ..
        } = self;
        let nms_iou = network.manifest().nms_iou;
        network.run(tensor, size, |outputs| {
            layout.decode(size, mappings, nms_iou, outputs, found)
        })?;
        Ok(found)
    }
}

/// Compares the class names in the file's metadata with the manifest's: an off-by-one in the list would file every case under
/// the wrong category.
fn check_class_names(manifest: &Manifest, metadata: Option<Vec<String>>) -> Result<(), LayoutError> {
    let Some(metadata) = metadata.filter(|names| *names != manifest.labels) else {
        return Ok(());
    };
    let name_at = |names: &[String], i: usize| names.get(i).cloned().unwrap_or_default();
    let count = metadata.len().max(manifest.labels.len());
    let Some(index) = (0..count).find(|i| name_at(&metadata, *i) != name_at(&manifest.labels, *i)) else {
        return Ok(());
    };
    Err(LayoutError::Names {
        index,
        metadata: name_at(&metadata, index),
        manifest: name_at(&manifest.labels, index),
        remedy: "copy the names of the file into `labels`, and map them to gridwatch's labels under [rename]",
    })
}
