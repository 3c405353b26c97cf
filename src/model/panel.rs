//! Several models that look at the same pictures.

use std::sync::Arc;

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::Found,
    detector::Detector,
    manifest::{Adapter, Input, Provider},
    preprocess::{Letterbox, Placement},
};
use crate::{
    engine::Detection,
    frame::{Frame, Layout, Matrix, Plane},
};

/// Models with a session each and the input tensors they look at. Owned by one worker thread: ONNX Runtime's sessions are
/// not shared.
///
/// Models that want the same input (most of one family do) look at the same tensor: it is filled once a picture.
pub struct Panel {
    /// Each with the index of its canvas.
    detectors: Vec<(Detector, usize)>,
    canvases: Vec<Canvas>,
}

/// An input tensor.
struct Canvas {
    /// Of the first model that wanted it.
    input: Input,
    letterbox: Letterbox,
    /// Where in it the picture lies that is being looked at; `None` before it was drawn.
    placed: Option<Placement>,
}

impl Panel {
    /// Loads the weights of each model into a session of its own, run by one thread. Each has judged a grey picture, so that
    /// a model whose outputs are not what its manifest says fails here and not at the first look.
    ///
    /// # Errors
    /// [`ModelError::Session`] where ONNX Runtime refuses a file, [`ModelError::Layout`] where a model's inputs or outputs
    /// are not those of its manifest's adapter.
    pub fn new<'a>(runtime: &Runtime, models: impl IntoIterator<Item = &'a Model>) -> Result<Self, ModelError> {
        let mut panel = Self {
            detectors: Vec::new(),
            canvases: Vec::new(),
        };
        for model in models {
            let i = panel.detectors.len();
            let canvas = panel.canvas(&model.manifest().input);
            let letterbox = &mut panel.canvases[canvas].letterbox;
            let placement = letterbox.draw(&grey())?;
            let detector = Detector::new(runtime, model, letterbox.tensor(), placement.canvas)?;
            panel.detectors.push((detector, canvas));
            panel.shown(&grey()).detect(i)?;
        }
        Ok(panel)
    }

    fn canvas(&mut self, input: &Input) -> usize {
        let alike = |canvas: &Canvas| {
            // What the graph calls its input, and its order of axes, do not change what is drawn.
            let name = input.name.clone();
            Input {
                name,
                layout: input.layout,
                ..canvas.input.clone()
            } == *input
        };
        self.canvases.iter().position(alike).unwrap_or_else(|| {
            self.canvases.push(Canvas {
                input: input.clone(),
                letterbox: Letterbox::new(input),
                placed: None,
            });
            self.canvases.len() - 1
        })
    }

    /// What the model at `i`, in the order given to [`Self::new`], says about itself.
    pub fn manifest(&self, i: usize) -> &Arc<Manifest> {
        self.detectors[i].0.manifest()
    }

    /// Every model reports what scores at least this, 0..=1, whatever its manifest's floors.
    pub fn set_floor(&mut self, floor: f32) {
        for (detector, _) in &mut self.detectors {
            detector.set_floor(floor);
        }
    }

    /// Shows the models one picture. Nothing is computed until one of them is asked.
    pub fn shown<'a>(&'a mut self, frame: &'a Frame) -> Shown<'a> {
        for canvas in &mut self.canvases {
            canvas.placed = None;
        }
        Shown { panel: self, frame }
    }

    /// How the outputs of the model at `i` are read; never [`Adapter::Auto`].
    pub fn adapter(&self, i: usize) -> Adapter {
        self.detectors[i].0.reading().adapter()
    }

    /// What the model at `i` runs on.
    pub fn provider(&self, i: usize) -> Provider {
        self.detectors[i].0.provider()
    }

    /// What the model at `i` finds in an input tensor `[1, 3, height, width]` that somebody else made, given its width and
    /// height; boxes in its pixels, the best first.
    ///
    /// # Errors
    /// As [`Shown::detect`]; a tensor of another length is [`ModelError::Run`].
    pub fn find(&mut self, i: usize, tensor: &[f32], size: (u32, u32)) -> Result<&[Found], ModelError> {
        self.detectors[i].0.find(tensor, size)
    }
}

/// A picture before a [`Panel`].
pub struct Shown<'a> {
    panel: &'a mut Panel,
    frame: &'a Frame,
}

impl Shown<'_> {
    /// How many models look.
    pub fn count(&self) -> usize {
        self.panel.detectors.len()
    }

    /// As [`Panel::manifest`].
    pub fn manifest(&self, i: usize) -> &Arc<Manifest> {
        self.panel.manifest(i)
    }

    /// What the model at `i` finds: labels and floors by its manifest, boxes as fractions of the picture, the best first.
    ///
    /// # Errors
    /// [`ModelError::Frame`] for a broken frame, [`ModelError::Layout`] for outputs that cannot be read (numbers that are
    /// not finite among them), [`ModelError::Run`] where ONNX Runtime itself fails.
    pub fn detect(&mut self, i: usize) -> Result<Vec<Detection>, ModelError> {
        let (detector, canvas) = &mut self.panel.detectors[i];
        let canvas = &mut self.panel.canvases[*canvas];
        let placement = match canvas.placed {
            Some(placement) => placement,
            None => *canvas.placed.insert(canvas.letterbox.draw(self.frame)?),
        };
        detector.detect(canvas.letterbox.tensor(), placement)
    }
}

/// A small grey picture, for a model's first look.
pub(super) fn grey() -> Frame {
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
