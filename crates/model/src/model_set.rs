//! Runs several models on the same frames, sharing input tensors where their preprocessing is equal.

use std::sync::Arc;

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::RawDetection,
    detector::Detector,
    manifest::{Adapter, Input, Provider},
    preprocess::{Letterbox, Placement},
};
use gridwatch_engine::Detection;
use gridwatch_frame::{Frame, Layout, Matrix, Plane};

/// A set of models with one session each, and their input tensors. Owned by one worker thread: ONNX Runtime's sessions are not
/// shared.
///
/// Models with equal preprocessing (most models of one family) share an input tensor, which is filled once per frame. Each model
/// occupies a numbered slot; slots are filled and emptied between looks.
pub struct ModelSet {
    slots: Vec<Option<Slot>>,
    inputs: Vec<InputTensor>,
}

/// An occupied slot.
struct Slot {
    detector: Detector,
    /// Index into `ModelSet::inputs`.
    input: usize,
}

/// An input tensor, shared by every model with the same preprocessing.
struct InputTensor {
    /// Specification of the first model that used it.
    spec: Input,
    letterbox: Letterbox,
    /// Placement of the current frame; `None` until the frame is drawn.
    placement: Option<Placement>,
}

/// A loaded model whose outputs were checked against its manifest by one inference on a grey frame. Can be created on any
/// thread and sent to the worker that uses it.
pub struct LoadedModel(Detector);

impl LoadedModel {
    /// Loads a model's weights into its own session and runs it once on a grey frame.
    ///
    /// # Errors
    /// As [`ModelSet::new`].
    pub fn new(runtime: &Runtime, model: &Model) -> Result<Self, ModelError> {
        let mut set = ModelSet::new(runtime, [model])?;
        Ok(set.replace(0, None).expect("`ModelSet::new` filled slot 0"))
    }
}

impl ModelSet {
    /// Loads each model into its own session and runs it once on a grey frame, so that a model whose outputs do not match its
    /// manifest fails here rather than at the first look. Slots are numbered from 0 in the given order.
    ///
    /// # Errors
    /// [`ModelError::Session`] if ONNX Runtime cannot load a file, [`ModelError::Layout`] if a model's inputs or outputs do not
    /// match its manifest.
    pub fn new<'a>(runtime: &Runtime, models: impl IntoIterator<Item = &'a Model>) -> Result<Self, ModelError> {
        let mut set = Self {
            slots: Vec::new(),
            inputs: Vec::new(),
        };
        for (i, model) in models.into_iter().enumerate() {
            let input = set.input_index(&model.manifest().input);
            let letterbox = &mut set.inputs[input].letterbox;
            let placement = letterbox.draw(&grey_frame())?;
            let detector = Detector::new(runtime, model, letterbox.tensor(), placement.canvas)?;
            set.replace(i, Some(LoadedModel(detector)));
            set.input(&grey_frame()).detect(i)?;
        }
        Ok(set)
    }

    /// Puts a model into slot `i`, or empties the slot; returns the previous model. Other slots are unaffected.
    pub fn replace(&mut self, i: usize, model: Option<LoadedModel>) -> Option<LoadedModel> {
        if i >= self.slots.len() {
            self.slots.resize_with(i + 1, || None);
        }
        let previous = self.slots[i].take();
        if let Some(LoadedModel(detector)) = model {
            let input = self.input_index(&detector.manifest().input.clone());
            self.slots[i] = Some(Slot { detector, input });
        }
        self.drop_unused_inputs();
        previous.map(|slot| LoadedModel(slot.detector))
    }

    /// Index of the input tensor for `spec`, created if there is none yet.
    fn input_index(&mut self, spec: &Input) -> usize {
        let is_same = |input: &InputTensor| {
            // The input's name and axis order do not affect what is drawn.
            let name = spec.name.clone();
            Input {
                name,
                layout: spec.layout,
                ..input.spec.clone()
            } == *spec
        };
        self.inputs.iter().position(is_same).unwrap_or_else(|| {
            self.inputs.push(InputTensor {
                spec: spec.clone(),
                letterbox: Letterbox::new(spec),
                placement: None,
            });
            self.inputs.len() - 1
        })
    }

    /// Frees input tensors without a model; each takes megabytes.
    fn drop_unused_inputs(&mut self) {
        for i in (0..self.inputs.len()).rev() {
            let mut slots = self.slots.iter_mut().flatten();
            if slots.any(|s| s.input == i) {
                continue;
            }
            self.inputs.remove(i);
            for s in self.slots.iter_mut().flatten().filter(|s| s.input > i) {
                s.input -= 1;
            }
        }
    }

    fn detector(&self, i: usize) -> &Detector {
        &self.slots[i].as_ref().expect(EMPTY_SLOT).detector
    }

    /// Manifest of the model in slot `i`.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn manifest(&self, i: usize) -> &Arc<Manifest> {
        self.detector(i).manifest()
    }

    /// Overrides the score floors of every loaded model's manifest, 0..=1.
    pub fn set_floor(&mut self, floor: f32) {
        for slot in self.slots.iter_mut().flatten() {
            slot.detector.set_floor(floor);
        }
    }

    /// Prepares a frame for inference. Nothing is computed until [`FrameInput::detect`].
    pub fn input<'a>(&'a mut self, frame: &'a Frame) -> FrameInput<'a> {
        for input in &mut self.inputs {
            input.placement = None;
        }
        FrameInput { set: self, frame }
    }

    /// The recognised adapter of the model in slot `i`; never [`Adapter::Auto`].
    pub fn adapter(&self, i: usize) -> Adapter {
        self.detector(i).layout().adapter()
    }

    /// Execution provider of the model in slot `i`.
    pub fn provider(&self, i: usize) -> Provider {
        self.detector(i).provider()
    }

    /// Runs the model in slot `i` on a prepared input tensor `[1, 3, height, width]`, where `size` is (width, height). Boxes are
    /// in pixels of the tensor, highest score first.
    ///
    /// # Errors
    /// As [`FrameInput::detect`]; a tensor whose length does not match `size` is [`ModelError::Run`].
    pub fn detect_tensor(&mut self, i: usize, tensor: &[f32], size: (u32, u32)) -> Result<&[RawDetection], ModelError> {
        self.slots[i]
            .as_mut()
            .expect(EMPTY_SLOT)
            .detector
            .detect_tensor(tensor, size)
    }
}

const EMPTY_SLOT: &str = "callers use occupied slots only";

/// A frame prepared for a [`ModelSet`].
pub struct FrameInput<'a> {
    set: &'a mut ModelSet,
    frame: &'a Frame,
}

impl FrameInput<'_> {
    /// Number of slots, occupied or not.
    pub fn slot_count(&self) -> usize {
        self.set.slots.len()
    }

    /// As [`ModelSet::manifest`].
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn manifest(&self, i: usize) -> &Arc<Manifest> {
        self.set.manifest(i)
    }

    /// Runs the model in slot `i`: labels and score floors as in its manifest, boxes as fractions of the picture, highest score
    /// first.
    ///
    /// # Errors
    /// [`ModelError::Frame`] for a malformed frame, [`ModelError::Layout`] for outputs that cannot be decoded (non-finite values
    /// included), [`ModelError::Run`] if ONNX Runtime fails.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn detect(&mut self, i: usize) -> Result<Vec<Detection>, ModelError> {
        let Slot { detector, input } = self.set.slots[i].as_mut().expect(EMPTY_SLOT);
        let input = &mut self.set.inputs[*input];
        let placement = match input.placement {
            Some(placement) => placement,
            None => *input.placement.insert(input.letterbox.draw(self.frame)?),
        };
        detector.detect(input.letterbox.tensor(), placement)
    }
}

/// A small grey frame for a model's first inference.
pub(super) fn grey_frame() -> Frame {
    let plane = |offset, stride| Plane { offset, stride };
    Frame {
        width: 64,
        height: 64,
        layout: Layout::I420,
        matrix: Matrix::Bt601,
        full_range: true,
        planes: [plane(0, 64), plane(4096, 32), plane(5120, 32)],
        data: bytes::Bytes::from(vec![128; 6144]),
        captured_at: jiff::Timestamp::UNIX_EPOCH,
    }
}
