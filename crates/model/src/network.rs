//! One ONNX Runtime session, owned by one worker. Converts the image to the element type and axis order of the graph's input, and
//! the outputs to `f32`. Interpreting the outputs is left to the caller.

use std::sync::Arc;

use half::f16;
use ort::{
    session::{Session, SessionInputValue},
    value::{DynValue, Outlet, Tensor, TensorElementType as Type, TensorRef},
};

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::{LayoutError, Output, TensorInfo},
    graph::{EMBED_WEIGHTS, Graph},
    manifest::{Axes, Input, Provider, Shape},
};

/// A graph with its session.
pub(super) struct Network {
    manifest: Arc<Manifest>,
    graph: Graph,
    provider: Provider,
    session: Session,
    image: ImageInput,
    /// The graph's other inputs, in its order.
    extras: Vec<ExtraInput>,
    /// Reused conversion buffers, one per output, for outputs of another type than `f32`.
    converted: Vec<Vec<f32>>,
}

/// The graph's image input.
struct ImageInput {
    /// Index among the graph's inputs.
    index: usize,
    element: Element,
    axes: Axes,
    /// Batch size of the graph; only the first image of a batch is filled.
    batch: usize,
    /// Reused conversion buffers, for graphs that do not take `f32 [1, 3, H, W]`.
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

/// A further input of the graph.
enum ExtraInput {
    /// `orig_target_sizes`: width and height that RT-DETR scales its boxes to.
    Size,
    /// Paddle's `im_shape`: height and width of the input.
    ImageShape,
    /// Paddle's `scale_factor`, by which boxes are divided: 1 leaves them in pixels of the input.
    ScaleFactor,
    /// DETR's `pixel_mask`, all ones. Holds its shape, with -1 for dynamic axes.
    Mask(Vec<i64>),
}

impl Network {
    /// Loads a model's weights.
    ///
    /// # Errors
    /// [`ModelError::Session`] if the file is damaged or ONNX Runtime cannot load it, [`ModelError::Layout`] if its inputs do not
    /// match the manifest, [`ModelError::Provider`] if no execution provider is available.
    pub(super) fn open(runtime: &Runtime, model: &Model) -> Result<Self, ModelError> {
        let session_error = |message: String| ModelError::Session {
            file: model.file.to_path_buf(),
            message,
        };
        let graph = Graph::read(&model.bytes).map_err(|e| session_error(e.to_string()))?;
        if graph.has_external_data {
            return Err(session_error(EMBED_WEIGHTS.into()));
        }
        let (session, provider) = runtime.session(model)?;
        let manifest = Arc::clone(&model.manifest);
        let inputs: Vec<TensorInfo> = session.inputs().iter().map(tensor_info).collect();
        let (image, extras) = bind_inputs(&inputs, &manifest.input).map_err(|source| ModelError::Layout {
            model: manifest.id.clone(),
            source,
        })?;
        Ok(Self {
            converted: vec![Vec::new(); session.outputs().len()],
            manifest,
            graph,
            provider,
            session,
            image,
            extras,
        })
    }

    pub(super) fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Metadata of the ONNX file.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Execution provider in use.
    pub(super) fn provider(&self) -> Provider {
        self.provider
    }

    /// Inputs of the graph.
    pub(super) fn inputs(&self) -> Vec<TensorInfo> {
        self.session.inputs().iter().map(tensor_info).collect()
    }

    /// Outputs of the graph, with the shapes observed in one run.
    pub(super) fn outputs(&self, observed: &[Vec<i64>]) -> Vec<TensorInfo> {
        let outputs = self.session.outputs().iter().map(tensor_info).zip(observed);
        outputs
            .map(|(output, shape)| TensorInfo {
                shape: shape.clone(),
                ..output
            })
            .collect()
    }

    /// Runs one image `[3, height, width]` and passes the outputs to `read`, in the graph's order.
    ///
    /// # Errors
    /// [`ModelError::Run`] if ONNX Runtime fails, for example on a tensor of the wrong length; [`ModelError::Layout`] if an output
    /// is not a numeric tensor, or as returned by `read`.
    pub(super) fn run<R>(
        &mut self,
        tensor: &[f32],
        size: (u32, u32),
        read: impl FnOnce(&[Output<'_>]) -> Result<R, LayoutError>,
    ) -> Result<R, ModelError> {
        let Self {
            manifest,
            session,
            image,
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
        let batch = image.batch;
        let index = image.index;
        let mut values = Vec::with_capacity(extras.len() + 1);
        for extra in extras.iter() {
            values.push(extra.value(batch, size).map_err(failed)?);
        }
        values.insert(index, image.value(tensor, size).map_err(failed)?);
        let results = session.run(&values[..]).map_err(failed)?;
        // The outputs borrow from these.
        let results: Vec<_> = results.iter().collect();
        let mut outputs = Vec::with_capacity(converted.len());
        for ((name, value), scratch) in results.iter().zip(converted) {
            let output = read_output(name, value, scratch).map_err(layout)?;
            outputs.push(first_of_batch(output, batch));
        }
        read(&outputs).map_err(layout)
    }
}

impl ExtraInput {
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

impl ImageInput {
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

/// Writes an image `[3, pixels]` to the first place of a batch, converted and in the given axis order. The rest stays zero.
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

pub(super) fn tensor_info(outlet: &Outlet) -> TensorInfo {
    let dtype = outlet.dtype();
    TensorInfo {
        name: outlet.name().to_owned(),
        element: dtype.tensor_type().map_or_else(|| dtype.to_string(), |t| t.to_string()),
        shape: dtype.tensor_shape().map(|s| s.to_vec()).unwrap_or_default(),
    }
}

/// Assigns the graph's inputs: the image, and the known further inputs.
fn bind_inputs(inputs: &[TensorInfo], input: &Input) -> Result<(ImageInput, Vec<ExtraInput>), LayoutError> {
    let found = || super::adapter::list(inputs);
    let wrong = |expected: String| LayoutError::Input {
        expected,
        found: found(),
    };
    let Some(index) = inputs.iter().position(|i| i.name == input.name) else {
        return Err(wrong(format!("an image input named {}", input.name)));
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
                why: "an image input must be f32, f16, u8 or i8; export the model accordingly",
            });
        }
    };
    let is_normalised = input.scale != 1.0 || input.mean != [0.0; 3] || input.std != [1.0; 3];
    if matches!(element, Element::U8 | Element::I8) && is_normalised {
        return Err(LayoutError::Element {
            port: port.to_string(),
            why: "it takes integer samples, so the graph normalises them itself; remove scale, mean and std from model.toml",
        });
    }
    let sides = match input.shape {
        Shape::Fixed => [i64::from(input.height), i64::from(input.width)],
        Shape::Picture => [-1, -1],
    };
    let has_axes = |axes: Axes| {
        let [height, width] = sides;
        let expected = match axes {
            Axes::Nchw => [3, height, width],
            Axes::Nhwc => [height, width, 3],
        };
        // -1 is a dynamic axis.
        let fits = |(have, want): (&i64, i64)| *have == want || *have == -1;
        port.shape.len() == 4 && port.shape[1..].iter().zip(expected).all(fits)
    };
    let Some(axes) = input.layout.map_or_else(
        || [Axes::Nchw, Axes::Nhwc].into_iter().find(|axes| has_axes(*axes)),
        |axes| has_axes(axes).then_some(axes),
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
            ("orig_target_sizes", "i64") => ExtraInput::Size,
            ("im_shape", "f32") => ExtraInput::ImageShape,
            ("scale_factor", "f32") => ExtraInput::ScaleFactor,
            ("pixel_mask", "i64") if port.shape.len() == 3 => ExtraInput::Mask(port.shape.clone()),
            _ => {
                return Err(wrong(format!(
                    "only {}; input {} is not supported",
                    input.name, port.name
                )));
            }
        })
    });
    let image = ImageInput {
        index,
        element,
        axes,
        batch: port.shape[0].max(1) as usize,
        f32: Vec::new(),
        f16: Vec::new(),
        u8: Vec::new(),
        i8: Vec::new(),
    };
    Ok((image, extras.collect::<Result<_, _>>()?))
}

/// Values of an output, converted through `scratch` unless they are `f32`. Counts and class indices are far below 2^24, the limit
/// up to which `f32` represents every integer.
fn read_output<'a>(name: &str, value: &'a DynValue, scratch: &'a mut Vec<f32>) -> Result<Output<'a>, LayoutError> {
    let dtype = value.dtype();
    let cannot = |why| LayoutError::Element {
        port: format!("output {name}, {dtype},"),
        why,
    };
    const UNREADABLE: &str = "ONNX Runtime cannot extract its values";
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
            "8-bit outputs need their scale and zero point, which stay inside the graph; keep the last DequantizeLinear",
        )),
        _ => Err(cannot("only f32, f16, f64, i64 and i32 outputs are supported")),
    }
}

/// The output of the first image of a batch.
fn first_of_batch(output: Output<'_>, batch: usize) -> Output<'_> {
    let Output { shape, data } = output;
    match shape {
        [n, ..] if batch > 1 && *n == batch as i64 => Output {
            shape,
            data: &data[..data.len() / batch],
        },
        _ => output,
    }
}
