//! One session: a graph on ONNX Runtime, owned by one worker. It is fed pictures in whatever type and order of axes the graph
//! takes and gives its outputs as plain numbers; what they mean is for whoever asked.

use std::sync::Arc;

use half::f16;
use ort::{
    session::{Session, SessionInputValue},
    value::{DynValue, Outlet, Tensor, TensorElementType as Type, TensorRef},
};

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::{LayoutError, Output, Port},
    graph::Graph,
    manifest::{Axes, Input, Provider, Shape},
};

/// A graph that can be run.
pub(super) struct Network {
    manifest: Arc<Manifest>,
    graph: Graph,
    provider: Provider,
    session: Session,
    picture: Picture,
    /// The graph's other inputs, in its order.
    extras: Vec<Extra>,
    /// Outputs of another type than `f32`, converted; by output. Used again and again.
    converted: Vec<Vec<f32>>,
}

/// The input that takes the picture.
struct Picture {
    /// Which of the graph's inputs.
    index: usize,
    element: Element,
    axes: Axes,
    /// Pictures that the graph takes at once; all but the first are left empty.
    batch: usize,
    /// The picture in the graph's own type and order, where that is not `f32 [1, 3, H, W]`. Used again and again.
    f32: Vec<f32>,
    f16: Vec<f16>,
    u8: Vec<u8>,
    i8: Vec<i8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    F32,
    F16,
    U8,
    I8,
}

/// An input beside the picture.
enum Extra {
    /// Width and height of the input: RT-DETR scales its boxes by them.
    Size,
    /// The same as Paddle has it, height first.
    ImageShape,
    /// Paddle divides its boxes by it: 1 leaves them in pixels of the input.
    ScaleFactor,
    /// DETR's: every pixel counts. Its shape, with -1 where batch, height or width go.
    Mask(Vec<i64>),
}

impl Network {
    /// Loads a model's weights.
    ///
    /// # Errors
    /// [`ModelError::Session`] where the file is damaged or ONNX Runtime refuses it, [`ModelError::Layout`] where its inputs are
    /// not those of its manifest, [`ModelError::Provider`] where nothing that it may run on is there.
    pub(super) fn open(runtime: &Runtime, model: &Model) -> Result<Self, ModelError> {
        let refused = |message: String| ModelError::Session {
            file: model.file.to_path_buf(),
            message,
        };
        let graph = Graph::read(&model.bytes).map_err(|e| refused(e.to_string()))?;
        if graph.has_external_data {
            return Err(refused(
                "its weights are in another file: save it as one, with save_as_external_data=False".into(),
            ));
        }
        let (session, provider) = runtime.session(model)?;
        let manifest = Arc::clone(&model.manifest);
        let inputs: Vec<Port> = session.inputs().iter().map(port).collect();
        let (picture, extras) = feeds(&inputs, &manifest.input).map_err(|source| ModelError::Layout {
            model: manifest.id.clone(),
            source,
        })?;
        Ok(Self {
            converted: vec![Vec::new(); session.outputs().len()],
            manifest,
            graph,
            provider,
            session,
            picture,
            extras,
        })
    }

    pub(super) fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// What the file says about itself.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What it runs on.
    pub(super) fn provider(&self) -> Provider {
        self.provider
    }

    /// What it takes.
    pub(super) fn inputs(&self) -> Vec<Port> {
        self.session.inputs().iter().map(port).collect()
    }

    /// What it gives, with the shapes that it gave for one picture.
    pub(super) fn outputs(&self, given: &[Vec<i64>]) -> Vec<Port> {
        let ports = self.session.outputs().iter().map(port).zip(given);
        ports
            .map(|(port, shape)| Port {
                shape: shape.clone(),
                ..port
            })
            .collect()
    }

    /// Runs one picture `[3, height, width]` through the graph and shows its outputs to `read`, in the graph's order.
    ///
    /// # Errors
    /// [`ModelError::Run`] where ONNX Runtime fails, as with a tensor of another length; [`ModelError::Layout`] where an output
    /// is no tensor of numbers, or as `read` says.
    pub(super) fn run<R>(
        &mut self,
        tensor: &[f32],
        size: (u32, u32),
        read: impl FnOnce(&[Output<'_>]) -> Result<R, LayoutError>,
    ) -> Result<R, ModelError> {
        let Self {
            manifest,
            session,
            picture,
            extras,
            converted,
            ..
        } = self;
        let failed = |e: ort::Error| ModelError::Run {
            model: manifest.id.clone(),
            message: e.to_string(),
        };
        let layout = |source| ModelError::Layout {
            model: manifest.id.clone(),
            source,
        };
        let batch = picture.batch;
        let index = picture.index;
        let mut values = Vec::with_capacity(extras.len() + 1);
        for extra in extras.iter() {
            values.push(extra.value(batch, size).map_err(failed)?);
        }
        values.insert(index, picture.value(tensor, size).map_err(failed)?);
        let given = session.run(&values[..]).map_err(failed)?;
        // The views borrow from these.
        let given: Vec<_> = given.iter().collect();
        let mut outputs = Vec::with_capacity(converted.len());
        for ((name, value), scratch) in given.iter().zip(converted) {
            let output = numbers(name, value, scratch).map_err(layout)?;
            outputs.push(first_of(output, batch));
        }
        read(&outputs).map_err(layout)
    }
}

impl Extra {
    fn value(&self, batch: usize, (width, height): (u32, u32)) -> ort::Result<SessionInputValue<'static>> {
        let (width, height) = (i64::from(width), i64::from(height));
        let twice = |pair: [f32; 2]| ([batch, 2], pair.repeat(batch));
        Ok(match self {
            Self::Size => Tensor::from_array(([batch, 2], [width, height].repeat(batch)))?.into(),
            Self::ImageShape => Tensor::from_array(twice([height as f32, width as f32]))?.into(),
            Self::ScaleFactor => Tensor::from_array(twice([1.0, 1.0]))?.into(),
            Self::Mask(shape) => {
                let full = [batch as i64, height, width];
                let shape: Vec<i64> = shape
                    .iter()
                    .zip(full)
                    .map(|(n, full)| if *n < 0 { full } else { *n })
                    .collect();
                let ones = vec![1_i64; shape.iter().product::<i64>() as usize];
                Tensor::from_array((shape, ones))?.into()
            }
        })
    }
}

impl Picture {
    fn value<'a>(&'a mut self, tensor: &'a [f32], (width, height): (u32, u32)) -> ort::Result<SessionInputValue<'a>> {
        let (w, h) = (width as usize, height as usize);
        let shape = match self.axes {
            Axes::Nchw => [self.batch, 3, h, w],
            Axes::Nhwc => [self.batch, h, w, 3],
        };
        let all = self.batch * tensor.len();
        let axes = self.axes;
        Ok(match self.element {
            Element::F32 if self.batch == 1 && axes == Axes::Nchw => {
                TensorRef::from_array_view((shape, tensor))?.into()
            }
            Element::F32 => {
                fill(&mut self.f32, all, tensor, axes, |v| v);
                TensorRef::from_array_view((shape, &self.f32[..]))?.into()
            }
            Element::F16 => {
                fill(&mut self.f16, all, tensor, axes, f16::from_f32);
                TensorRef::from_array_view((shape, &self.f16[..]))?.into()
            }
            Element::U8 => {
                fill(&mut self.u8, all, tensor, axes, |v| v.round() as u8);
                TensorRef::from_array_view((shape, &self.u8[..]))?.into()
            }
            Element::I8 => {
                fill(&mut self.i8, all, tensor, axes, |v| (v.round() - 128.0) as i8);
                TensorRef::from_array_view((shape, &self.i8[..]))?.into()
            }
        })
    }
}

/// Puts a picture `[3, pixels]` into the first place of a batch, converted and its axes in order; the other places are empty.
fn fill<T: Copy + Default>(into: &mut Vec<T>, all: usize, tensor: &[f32], axes: Axes, convert: impl Fn(f32) -> T) {
    into.resize(all, T::default());
    match axes {
        Axes::Nchw => into.iter_mut().zip(tensor).for_each(|(to, v)| *to = convert(*v)),
        Axes::Nhwc => {
            let pixels = tensor.len() / 3;
            let (first, rest) = tensor.split_at(pixels);
            let (second, third) = rest.split_at(pixels);
            let samples = first.iter().zip(second).zip(third);
            for (to, ((a, b), c)) in into.chunks_exact_mut(3).zip(samples) {
                to.copy_from_slice(&[convert(*a), convert(*b), convert(*c)]);
            }
        }
    }
}

pub(super) fn port(outlet: &Outlet) -> Port {
    let dtype = outlet.dtype();
    Port {
        name: outlet.name().to_owned(),
        element: dtype.tensor_type().map_or_else(|| dtype.to_string(), |t| t.to_string()),
        shape: dtype.tensor_shape().map(|s| s.to_vec()).unwrap_or_default(),
    }
}

/// What each input of the graph is given.
fn feeds(inputs: &[Port], input: &Input) -> Result<(Picture, Vec<Extra>), LayoutError> {
    let found = || super::adapter::list(inputs);
    let wrong = |expected: String| LayoutError::Input {
        expected,
        found: found(),
    };
    let Some(index) = inputs.iter().position(|i| i.name == input.name) else {
        return Err(wrong(format!("a picture as {}", input.name)));
    };
    let port = &inputs[index];
    let element = match port.element.as_str() {
        "f32" => Element::F32,
        "f16" => Element::F16,
        "u8" => Element::U8,
        "i8" => Element::I8,
        _ => {
            return Err(LayoutError::Element {
                port: port.to_string(),
                why: "a picture goes in as f32, f16, u8 or i8: export it so",
            });
        }
    };
    let is_normalised = input.scale != 1.0 || input.mean != [0.0; 3] || input.std != [1.0; 3];
    if matches!(element, Element::U8 | Element::I8) && is_normalised {
        return Err(LayoutError::Element {
            port: port.to_string(),
            why: "it takes whole samples, so leave scale, mean and std out of model.toml: the graph itself normalises",
        });
    }
    let sides = match input.shape {
        Shape::Fixed => [i64::from(input.height), i64::from(input.width)],
        Shape::Picture => [-1, -1],
    };
    let is = |axes: Axes| {
        let [height, width] = sides;
        let wanted = match axes {
            Axes::Nchw => [3, height, width],
            Axes::Nhwc => [height, width, 3],
        };
        // -1 is an axis of any length.
        let fits = |(have, want): (&i64, i64)| *have == want || *have == -1;
        port.shape.len() == 4 && port.shape[1..].iter().zip(wanted).all(fits)
    };
    let Some(axes) = input.layout.map_or_else(
        || [Axes::Nchw, Axes::Nhwc].into_iter().find(|axes| is(*axes)),
        |axes| is(axes).then_some(axes),
    ) else {
        let side = |n: i64| if n < 0 { "any".to_owned() } else { n.to_string() };
        let [height, width] = sides.map(side);
        let axes = match input.layout {
            Some(Axes::Nhwc) => format!("[1, {height}, {width}, 3]"),
            Some(Axes::Nchw) => format!("[1, 3, {height}, {width}]"),
            None => format!("[1, 3, {height}, {width}] or [1, {height}, {width}, 3]"),
        };
        return Err(wrong(format!("{} {axes}", input.name)));
    };
    let extras = inputs.iter().filter(|i| i.name != input.name).map(|port| {
        Ok(match (port.name.as_str(), port.element.as_str()) {
            ("orig_target_sizes", "i64") => Extra::Size,
            ("im_shape", "f32") => Extra::ImageShape,
            ("scale_factor", "f32") => Extra::ScaleFactor,
            ("pixel_mask", "i64") if port.shape.len() == 3 => Extra::Mask(port.shape.clone()),
            _ => {
                return Err(wrong(format!(
                    "{} alone; what {} is for is not known",
                    input.name, port.name
                )));
            }
        })
    });
    let picture = Picture {
        index,
        element,
        axes,
        batch: port.shape[0].max(1) as usize,
        f32: Vec::new(),
        f16: Vec::new(),
        u8: Vec::new(),
        i8: Vec::new(),
    };
    Ok((picture, extras.collect::<Result<_, _>>()?))
}

/// An output's numbers, converted into `scratch` where they are no `f32`. Counts and classes are far below 2^24, up to which
/// every whole number is an `f32`.
fn numbers<'a>(name: &str, value: &'a DynValue, scratch: &'a mut Vec<f32>) -> Result<Output<'a>, LayoutError> {
    let dtype = value.dtype();
    let cannot = |why| LayoutError::Element {
        port: format!("output {name}, {dtype},"),
        why,
    };
    const UNREADABLE: &str = "ONNX Runtime does not give its numbers";
    macro_rules! convert {
        ($type:ty, $to:expr) => {{
            let (shape, data) = value.try_extract_tensor::<$type>().map_err(|_| cannot(UNREADABLE))?;
            scratch.clear();
            scratch.extend(data.iter().map($to));
            Ok(Output { shape, data: scratch })
        }};
    }
    match dtype.tensor_type() {
        Some(Type::Float32) => {
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(|_| cannot(UNREADABLE))?;
            Ok(Output { shape, data })
        }
        Some(Type::Float16) => convert!(f16, |v| v.to_f32()),
        Some(Type::Float64) => convert!(f64, |v| *v as f32),
        Some(Type::Int64) => convert!(i64, |v| *v as f32),
        Some(Type::Int32) => convert!(i32, |v| *v as f32),
        Some(Type::Int8 | Type::Uint8) => Err(cannot(
            "whole numbers need their scale and zero point, which stay inside the graph: keep the last DequantizeLinear",
        )),
        _ => Err(cannot("only f32, f16, f64, i64 and i32 are read")),
    }
}

/// Of a batch the first picture's.
fn first_of(output: Output<'_>, batch: usize) -> Output<'_> {
    let Output { shape, data } = output;
    match shape {
        [n, ..] if batch > 1 && *n == batch as i64 => Output {
            shape,
            data: &data[..data.len() / batch],
        },
        _ => output,
    }
}
