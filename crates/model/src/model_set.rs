//! Several models that look at the same pictures.

use std::sync::Arc;

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::Found,
    detector::Detector,
    manifest::{Adapter, Input, Provider},
    preprocess::{Letterbox, Placement},
};
use gridwatch_engine::Detection;
use gridwatch_frame::{Frame, Layout, Matrix, Plane};

/// Models with a session each and the input tensors they look at. Owned by one worker thread: ONNX Runtime's sessions are
/// not shared.
///
/// Models that want the same input (most of one family do) look at the same tensor: it is filled once a picture. Each has a
/// seat, a number by which it is asked; seats are left and taken between looks.
pub struct ModelSet {
    seats: Vec<Option<Seated>>,
    canvases: Vec<Canvas>,
}

/// A model of the panel.
struct Seated {
    detector: Detector,
    /// Which of the panel's.
    canvas: usize,
}

/// An input tensor.
struct Canvas {
    /// Of the first model that wanted it.
    input: Input,
    letterbox: Letterbox,
    /// Where in it the picture lies that is being looked at; `None` before it was drawn.
    placed: Option<Placement>,
}

/// A loaded model that has judged a grey picture, so that its outputs are known to be what its manifest says. Made on any
/// thread and handed to the one that is to look with it.
pub struct LoadedModel(Detector);

impl LoadedModel {
    /// Loads a model's weights into a session of its own, run by one thread, and has it judge a grey picture.
    ///
    /// # Errors
    /// As [`ModelSet::new`].
    pub fn new(runtime: &Runtime, model: &Model) -> Result<Self, ModelError> {
        let mut alone = ModelSet::new(runtime, [model])?;
        Ok(alone.seat(0, None).expect("it was put there a line ago"))
    }
}

impl ModelSet {
    /// Loads the weights of each model into a session of its own, run by one thread. Each has judged a grey picture, so that
    /// a model whose outputs are not what its manifest says fails here and not at the first look. Their seats are numbered in
    /// the order given, from 0.
    ///
    /// # Errors
    /// [`ModelError::Session`] where ONNX Runtime refuses a file, [`ModelError::Layout`] where a model's inputs or outputs
    /// are not those of its manifest's adapter.
    pub fn new<'a>(runtime: &Runtime, models: impl IntoIterator<Item = &'a Model>) -> Result<Self, ModelError> {
        let mut panel = Self {
            seats: Vec::new(),
            canvases: Vec::new(),
        };
        for (i, model) in models.into_iter().enumerate() {
            let canvas = panel.canvas(&model.manifest().input);
            let letterbox = &mut panel.canvases[canvas].letterbox;
            let placement = letterbox.draw(&grey())?;
            let detector = Detector::new(runtime, model, letterbox.tensor(), placement.canvas)?;
            panel.seat(i, Some(LoadedModel(detector)));
            panel.shown(&grey()).detect(i)?;
        }
        Ok(panel)
    }

    /// Puts a model into a seat, or leaves the seat empty; gives back who sat there. Others keep theirs.
    pub fn seat(&mut self, i: usize, model: Option<LoadedModel>) -> Option<LoadedModel> {
        if i >= self.seats.len() {
            self.seats.resize_with(i + 1, || None);
        }
        let before = self.seats[i].take();
        if let Some(LoadedModel(detector)) = model {
            let canvas = self.canvas(&detector.manifest().input.clone());
            self.seats[i] = Some(Seated { detector, canvas });
        }
        self.drop_idle_canvases();
        before.map(|seated| LoadedModel(seated.detector))
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

    /// A tensor is megabytes: none is kept that nobody looks at.
    fn drop_idle_canvases(&mut self) {
        for i in (0..self.canvases.len()).rev() {
            let mut seated = self.seats.iter_mut().flatten();
            if seated.any(|s| s.canvas == i) {
                continue;
            }
            self.canvases.remove(i);
            for s in self.seats.iter_mut().flatten().filter(|s| s.canvas > i) {
                s.canvas -= 1;
            }
        }
    }

    fn taken(&self, i: usize) -> &Detector {
        &self.seats[i].as_ref().expect(TAKEN).detector
    }

    /// What the model in seat `i` says about itself.
    ///
    /// # Panics
    /// Where nobody sits there.
    pub fn manifest(&self, i: usize) -> &Arc<Manifest> {
        self.taken(i).manifest()
    }

    /// Every model reports what scores at least this, 0..=1, whatever its manifest's floors.
    pub fn set_floor(&mut self, floor: f32) {
        for seated in self.seats.iter_mut().flatten() {
            seated.detector.set_floor(floor);
        }
    }

    /// Shows the models one picture. Nothing is computed until one of them is asked.
    pub fn shown<'a>(&'a mut self, frame: &'a Frame) -> FrameInput<'a> {
        for canvas in &mut self.canvases {
            canvas.placed = None;
        }
        FrameInput { panel: self, frame }
    }

    /// How the outputs of the model in seat `i` are read; never [`Adapter::Auto`].
    pub fn adapter(&self, i: usize) -> Adapter {
        self.taken(i).reading().adapter()
    }

    /// What the model in seat `i` runs on.
    pub fn provider(&self, i: usize) -> Provider {
        self.taken(i).provider()
    }

    /// What the model in seat `i` finds in an input tensor `[1, 3, height, width]` that somebody else made, given its width and
    /// height; boxes in its pixels, the best first.
    ///
    /// # Errors
    /// As [`FrameInput::detect`]; a tensor of another length is [`ModelError::Run`].
    pub fn find(&mut self, i: usize, tensor: &[f32], size: (u32, u32)) -> Result<&[Found], ModelError> {
        self.seats[i].as_mut().expect(TAKEN).detector.find(tensor, size)
    }
}

const TAKEN: &str = "whoever holds a panel asks for seats that are taken";

/// A picture before a [`ModelSet`].
pub struct FrameInput<'a> {
    panel: &'a mut ModelSet,
    frame: &'a Frame,
}

impl FrameInput<'_> {
    /// How many seats there are.
    pub fn count(&self) -> usize {
        self.panel.seats.len()
    }

    /// As [`ModelSet::manifest`].
    ///
    /// # Panics
    /// Where nobody sits there.
    pub fn manifest(&self, i: usize) -> &Arc<Manifest> {
        self.panel.manifest(i)
    }

    /// What the model in seat `i` finds: labels and floors by its manifest, boxes as fractions of the picture, the best first.
    ///
    /// # Errors
    /// [`ModelError::Frame`] for a broken frame, [`ModelError::Layout`] for outputs that cannot be read (numbers that are
    /// not finite among them), [`ModelError::Run`] where ONNX Runtime itself fails.
    ///
    /// # Panics
    /// Where nobody sits there.
    pub fn detect(&mut self, i: usize) -> Result<Vec<Detection>, ModelError> {
        let Seated { detector, canvas } = self.panel.seats[i].as_mut().expect(TAKEN);
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
