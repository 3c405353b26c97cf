//! A network that finds things: what its outputs mean, recognised once and read at every look.

use std::sync::Arc;

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::{Facts, Found, LayoutError, Reading},
    manifest::{Provider, Wanted},
    network::Network,
    preprocess::Placement,
};
use gridwatch_engine::{Detection, Label};

/// One model's session, for one worker thread.
pub(super) struct Detector {
    network: Network,
    reading: Reading,
    wanted: Vec<Wanted>,
    labels: Vec<Label>,
    found: Vec<Found>,
}

impl Detector {
    /// Loads the weights and looks at `tensor`, an input of `size`, to recognise the layout of what comes out.
    pub(super) fn new(runtime: &Runtime, model: &Model, tensor: &[f32], size: (u32, u32)) -> Result<Self, ModelError> {
        let mut network = Network::open(runtime, model)?;
        let manifest = Arc::clone(network.manifest());
        let layout = |source| ModelError::Layout {
            model: manifest.id.clone(),
            source,
        };
        same_names(&manifest, network.graph().class_names()).map_err(layout)?;
        let shapes: Vec<Vec<i64>> = network.run(tensor, size, |outputs| {
            Ok(outputs.iter().map(|o| o.dimensions().collect()).collect())
        })?;
        let (inputs, outputs) = (network.inputs(), network.outputs(&shapes));
        let facts = Facts {
            inputs: &inputs,
            outputs: &outputs,
            metadata: &network.graph().metadata,
            classes: manifest.labels.len(),
            size,
        };
        Ok(Self {
            reading: Reading::resolve(manifest.adapter, &facts).map_err(layout)?,
            wanted: manifest.wanted(),
            labels: manifest.engine_labels(),
            found: Vec::new(),
            network,
        })
    }

    pub(super) fn manifest(&self) -> &Arc<Manifest> {
        self.network.manifest()
    }

    /// How its outputs are read.
    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// What it runs on.
    pub(super) fn provider(&self) -> Provider {
        self.network.provider()
    }

    pub(super) fn set_floor(&mut self, floor: f32) {
        for wanted in self.wanted.iter_mut().filter(|w| w.floor.is_finite()) {
            wanted.floor = floor;
        }
    }

    /// What lies in the picture that was drawn into `tensor` at `placement`, boxes as fractions of the picture.
    pub(super) fn detect(&mut self, tensor: &[f32], placement: Placement) -> Result<Vec<Detection>, ModelError> {
        self.find(tensor, placement.canvas)?;
        let detection = |found: &Found| {
            Some(Detection {
                label: self.labels[found.label].clone(),
                score: found.score,
                bbox: found.in_picture(placement)?,
                appearance: None,
                number: None,
                second_look: None,
            })
        };
        Ok(self.found.iter().filter_map(detection).collect())
    }

    pub(super) fn find(&mut self, tensor: &[f32], size: (u32, u32)) -> Result<&[Found], ModelError> {
        let Self {
            network,
            reading,
            wanted,
            found,
            ..
        } = self;
        let nms_iou = network.manifest().nms_iou;
        network.run(tensor, size, |outputs| {
            reading.decode(size, wanted, nms_iou, outputs, found)
        })?;
        Ok(found)
    }
}

/// The classes that the exporter left in the file against the manifest's: one name shifted, and every case is of the wrong kind.
fn same_names(manifest: &Manifest, metadata: Option<Vec<String>>) -> Result<(), LayoutError> {
    let Some(metadata) = metadata.filter(|names| *names != manifest.labels) else {
        return Ok(());
    };
    let of = |names: &[String], i: usize| names.get(i).cloned().unwrap_or_default();
    let count = metadata.len().max(manifest.labels.len());
    let Some(index) = (0..count).find(|i| of(&metadata, *i) != of(&manifest.labels, *i)) else {
        return Ok(());
    };
    Err(LayoutError::Names {
        index,
        metadata: of(&metadata, index),
        manifest: of(&manifest.labels, index),
        remedy: "write `labels` as the file has them, and what gridwatch is to call them under [rename]",
    })
}
