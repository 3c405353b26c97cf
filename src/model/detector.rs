//! One session: a network and its adapter, owned by one worker.

use std::sync::Arc;

use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::{Found, LayoutError, Output},
    preprocess::Placement,
};
use crate::engine::{Detection, Label};

/// One model's session, for one worker thread.
pub(super) struct Detector {
    network: Network,
    labels: Vec<Label>,
    found: Vec<Found>,
}

/// The session and what is needed to read its outputs.
struct Network {
    manifest: Arc<Manifest>,
    session: Session,
    floors: Vec<f32>,
}

impl Detector {
    pub(super) fn new(runtime: &Runtime, model: &Model) -> Result<Self, ModelError> {
        let manifest = Arc::clone(&model.manifest);
        let session = session(runtime, &model.bytes).map_err(|e| ModelError::Session {
            file: model.file.to_path_buf(),
            message: e.to_string(),
        })?;
        check_input(&session, &manifest).map_err(|source| ModelError::Layout {
            model: manifest.id.clone(),
            source,
        })?;
        Ok(Self {
            labels: manifest.engine_labels(),
            found: Vec::new(),
            network: Network {
                floors: manifest.floors(),
                manifest,
                session,
            },
        })
    }

    pub(super) fn manifest(&self) -> &Arc<Manifest> {
        &self.network.manifest
    }

    pub(super) fn set_floor(&mut self, floor: f32) {
        self.network.floors.fill(floor);
    }

    /// What lies in the picture that was drawn into `tensor` at `placement`, boxes as fractions of the picture.
    pub(super) fn detect(&mut self, tensor: &[f32], placement: Placement) -> Result<Vec<Detection>, ModelError> {
        self.network.find(tensor, &mut self.found)?;
        let detection = |found: &Found| {
            Some(Detection {
                label: self.labels[found.class].clone(),
                score: found.score,
                bbox: found.in_picture(placement)?,
                appearance: None,
                number: None,
            })
        };
        Ok(self.found.iter().filter_map(detection).collect())
    }

    pub(super) fn find(&mut self, tensor: &[f32]) -> Result<&[Found], ModelError> {
        self.network.find(tensor, &mut self.found)?;
        Ok(&self.found)
    }
}

impl Network {
    fn find(&mut self, tensor: &[f32], found: &mut Vec<Found>) -> Result<(), ModelError> {
        let Self {
            manifest,
            session,
            floors,
        } = self;
        let failed = |e: ort::Error| ModelError::Run {
            model: manifest.id.clone(),
            message: e.to_string(),
        };
        let input = &manifest.input;
        let shape = [1_i64, 3, i64::from(input.height), i64::from(input.width)];
        let tensor = TensorRef::from_array_view((shape, tensor)).map_err(failed)?;
        let values = session.run(ort::inputs![tensor]).map_err(failed)?;
        // The views borrow from these.
        let values: Vec<_> = values.values().collect();
        let outputs = values
            .iter()
            .map(|value| {
                let (shape, data) = value.try_extract_tensor::<f32>().map_err(failed)?;
                Ok(Output { shape, data })
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        manifest
            .adapter
            .decode(input, floors, manifest.nms_iou, &outputs, found)
            .map_err(|source| ModelError::Layout {
                model: manifest.id.clone(),
                source,
            })
    }
}

/// One thread, which is the caller's: N workers with a session each use N cores, and none spins for work between looks.
///
/// Memory patterns are off: they keep one block for the largest look, which costs a session of these networks 3–13 MB and
/// gains no time that could be measured on two cores. The arena stays: without it a session is another 7 MB smaller, but
/// every look then asks the system for its pages again. What is left is 15–18 MB a session and 18 MB for the library.
fn session(runtime: &Runtime, bytes: &[u8]) -> ort::Result<Session> {
    Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_memory_pattern(false)?
        .commit_from_memory(bytes)
}

fn check_input(session: &Session, manifest: &Manifest) -> Result<(), LayoutError> {
    let input = &manifest.input;
    let wanted = [1, 3, i64::from(input.height), i64::from(input.width)];
    // -1 is an axis of any length: the batch, as a rule.
    let fits =
        |shape: &[i64]| shape.len() == 4 && shape.iter().zip(wanted).all(|(&have, want)| have == want || have == -1);
    let good = match session.inputs() {
        [only] => only.name() == input.name && only.dtype().tensor_shape().is_some_and(|shape| fits(shape)),
        _ => false,
    };
    if good {
        return Ok(());
    }
    let inputs: Vec<_> = session
        .inputs()
        .iter()
        .map(|i| format!("{} {}", i.name(), i.dtype()))
        .collect();
    Err(LayoutError::Input {
        expected: format!("one {} of float32 {wanted:?}", input.name),
        found: inputs.join(", "),
    })
}
