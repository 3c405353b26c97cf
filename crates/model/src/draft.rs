//! Inspects an ONNX file without a manifest: its metadata, its inputs and outputs in one run on an empty image, the layouts that fit,
//! and the usual preprocessing of its family, which is a guess.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::{LayoutError, NetworkFacts, OutputLayout, TensorInfo, unsupported},
    graph::{EMBED_WEIGHTS, Graph, NotOnnx},
    manifest::{Adapter, Axes, Colour, Fit, Input, RuntimeHints, Shape},
    network::Network,
};
use gridwatch_base::{digest::sha256_hex, error::Class, file};

/// Findings about an ONNX file.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Header of the file.
    pub graph: Graph,
    /// Inputs of the graph.
    pub inputs: Vec<TensorInfo>,
    /// Outputs for an empty image, with complete shapes.
    pub outputs: Vec<TensorInfo>,
    /// Adapters that fit, each with the number of classes.
    pub layouts: BTreeSet<(Adapter, usize)>,
    /// Why no adapter fits; `None` if one does.
    pub refusal: Option<String>,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Name of the image input.
    pub input: String,
    /// Width and height of the test image.
    pub size: (u32, u32),
    /// True if the graph accepts any width and height.
    pub takes_any_size: bool,
}

/// Facts supplied by the caller.
#[derive(Debug, Clone, Default)]
pub struct DraftHints {
    /// The classes, in the network's order.
    pub labels: Option<Vec<String>>,
    /// The adapter, if known.
    pub adapter: Option<Adapter>,
    /// Width and height of the input, for graphs with dynamic sizes.
    pub size: Option<(u32, u32)>,
}

/// The file cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The file is not an ONNX file.
    #[error("{file}: {source}")]
    NotOnnx {
        /// The file.
        file: String,
        /// The parse error.
        source: NotOnnx,
    },
    /// The weights are in another file.
    #[error("{file}: {EMBED_WEIGHTS}")]
    ExternalData {
        /// The file.
        file: String,
    },
    /// The graph has no image input.
    #[error("no input is an image [1, 3, height, width] or [1, height, width, 3]; the graph takes {inputs}")]
    NoPicture {
        /// Inputs of the graph.
        inputs: String,
    },
    /// The input size is unknown.
    #[error(
        "the graph accepts any input size and its metadata has no imgsz; pass the training size, for example --size 640x640"
    )]
    NoSize,
    /// The network fails on an empty picture of this size, which a graph that takes any size may not support.
    #[error(
        "the network does not run on a picture of {}x{}: {message}; pass the size that it was trained with, for example --size 320x48",
        .size.0, .size.1
    )]
    WrongSize {
        /// Width and height that were tried.
        size: (u32, u32),
        /// ONNX Runtime's message.
        message: String,
    },
    /// The graph cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl DraftError {
    /// Error class, which decides between retry, quarantine and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::Model(e) => e.class(),
            Self::Read { .. }
            | Self::NotOnnx { .. }
            | Self::ExternalData { .. }
            | Self::NoPicture { .. }
            | Self::NoSize
            | Self::WrongSize { .. } => Class::Config,
        }
    }
}

/// Inspects an ONNX file.
///
/// # Errors
/// A file that is not ONNX, cannot be run, or has no image input.
pub fn inspect(runtime: &Runtime, file: &Path, hints: &DraftHints) -> Result<Draft, DraftError> {
    let name = || file.display().to_string();
    let bytes = file::read(file, file::MAX_MODEL).map_err(|source| DraftError::Read { file: name(), source })?;
    let graph = Graph::read(&bytes).map_err(|source| DraftError::NotOnnx { file: name(), source })?;
    if graph.has_external_data {
        return Err(DraftError::ExternalData { file: name() });
    }
    let sha256 = sha256_hex(&bytes);
    let mut model = Model {
        manifest: blank(&sha256).into(),
        file: file.into(),
        bytes: bytes.into(),
    };
    let (session, _) = runtime.session(&model)?;
    let inputs: Vec<TensorInfo> = session.inputs().iter().map(super::network::tensor_info).collect();
    drop(session);
    let is_image = |port: &&TensorInfo| {
        let fits = |axis: usize| port.shape.get(axis) == Some(&3);
        port.shape.len() == 4 && (fits(1) || fits(3) || port.shape[1..].iter().all(|n| *n < 0))
    };
    let Some(port) = inputs.iter().find(is_image) else {
        let inputs = super::adapter::list(&inputs);
        return Err(DraftError::NoPicture { inputs });
    };
    let axes = if port.shape[1] == 3 { Axes::Nchw } else { Axes::Nhwc };
    let (down, across) = match axes {
        Axes::Nchw => (port.shape[2], port.shape[3]),
        Axes::Nhwc => (port.shape[1], port.shape[2]),
    };
    let fixed = |side: i64| u32::try_from(side).ok().filter(|n| *n > 0);
    let size = match (fixed(across), fixed(down)) {
        (Some(width), Some(height)) => (width, height),
        // Recognisers of text fix their height alone.
        (width, height) => {
            let free = hints.size.or_else(|| graph.image_size()).ok_or(DraftError::NoSize)?;
            (width.unwrap_or(free.0), height.unwrap_or(free.1))
        }
    };
    let mut manifest = (*model.manifest).clone();
    manifest.input.name.clone_from(&port.name);
    (manifest.input.width, manifest.input.height) = size;
    model.manifest = manifest.into();
    let mut network = Network::open(runtime, &model)?;
    let tensor = vec![0.0; 3 * size.0 as usize * size.1 as usize];
    let shapes = network.run(&tensor, size, |outputs| {
        Ok(outputs
            .iter()
            .map(|o| o.dimensions().collect())
            .collect::<Vec<Vec<i64>>>())
    });
    let shapes = shapes.map_err(|e| match e {
        ModelError::Run { message, .. } => DraftError::WrongSize { size, message },
        other => other.into(),
    })?;
    let outputs = network.outputs(&shapes);
    let labels = hints.labels.clone().or_else(|| graph.class_names());
    let facts = NetworkFacts {
        inputs: &inputs,
        outputs: &outputs,
        metadata: &graph.metadata,
        classes: 1,
        size,
    };
    let (layouts, refusal) = fitting_layouts(&facts, labels.map(|l| l.len()), hints.adapter.unwrap_or_default());
    Ok(Draft {
        input: port.name.clone(),
        takes_any_size: across <= 0 || down <= 0,
        graph,
        outputs,
        layouts,
        refusal,
        sha256,
        size,
        inputs,
    })
}

/// Adapters that fit the outputs, or why none does. If the number of classes is unknown, every number that the shapes of the outputs
/// allow is tried.
fn fitting_layouts(
    facts: &NetworkFacts<'_>,
    classes: Option<usize>,
    adapter: Adapter,
) -> (BTreeSet<(Adapter, usize)>, Option<String>) {
    let dimensions = facts.outputs.iter().flat_map(|o| &o.shape).copied();
    // Values per row besides the classes: box, objectness, background class, distributions.
    let counts: BTreeSet<usize> = match classes {
        Some(classes) => [classes].into(),
        None => dimensions
            .flat_map(|n| [0, 1, 4, 5, 32].map(|others| n - others))
            .filter(|n| (1..=2000).contains(n))
            .map(|n| n as usize)
            .chain([1])
            .collect(),
    };
    let (mut layouts, mut refusal) = (BTreeSet::new(), None);
    for count in counts {
        let facts = NetworkFacts {
            classes: count,
            ..facts.clone()
        };
        match OutputLayout::resolve(adapter, &facts) {
            Ok(layout) => drop(layouts.insert((layout.adapter(), count))),
            Err(LayoutError::Ambiguous { choices, .. }) => layouts.extend(choices.into_iter().map(|c| (c, count))),
            Err(e @ LayoutError::Task { .. }) => refusal = Some(e.to_string()),
            Err(e) if classes.is_some() => refusal = Some(e.to_string()),
            // Of a number of classes that was only tried.
            Err(_) => {}
        }
    }
    if !layouts.is_empty() {
        return (layouts, None);
    }
    let refusal = refusal.unwrap_or_else(|| {
        let looks_like = unsupported::describe(facts, None).map(|what| format!(" It looks like {what}."));
        format!(
            "no adapter fits {} with any number of classes.{} {}",
            super::adapter::list(facts.outputs),
            looks_like.unwrap_or_default(),
            unsupported::SUPPORTED
        )
    });
    (layouts, Some(refusal))
}

fn blank(sha256: &str) -> Manifest {
    Manifest {
        id: "draft".into(),
        version: "0".into(),
        sha256: sha256.into(),
        licence: "unknown".into(),
        source: "unknown".into(),
        adapter: Adapter::Auto,
        labels: Vec::new(),
        rename: BTreeMap::new(),
        ignore: Vec::new(),
        score_floor: 0.1,
        label_floors: BTreeMap::new(),
        nms_iou: None,
        alphabet: None,
        input: default_input(Adapter::Auto),
        runtime: RuntimeHints::default(),
        self_test: Vec::new(),
    }
}

/// Default preprocessing of a family, as in its reference implementation (see `docs/models.md`). The preprocessing that a particular
/// network was trained with may differ.
pub fn default_input(adapter: Adapter) -> Input {
    const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
    const STD: [f32; 3] = [58.395, 57.12, 57.375];
    let flipped = |v: [f32; 3]| [v[2], v[1], v[0]];
    let plain = Input {
        name: String::new(),
        width: 0,
        height: 0,
        shape: Shape::Fixed,
        layout: None,
        colour: Colour::Rgb,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
        fit: Fit::Stretch,
        pad: 0,
    };
    match adapter {
        Adapter::Yolox | Adapter::YoloxDecoded => Input {
            colour: Colour::Bgr,
            fit: Fit::TopLeft,
            pad: 114,
            ..plain
        },
        Adapter::Yolov5 | Adapter::Yolov8 | Adapter::End2end => Input {
            scale: 255.0,
            fit: Fit::Centre,
            pad: 114,
            ..plain
        },
        Adapter::Rtdetr | Adapter::RtdetrUltralytics | Adapter::Dfine => Input { scale: 255.0, ..plain },
        Adapter::Detr | Adapter::Rfdetr | Adapter::Ssd => Input {
            mean: MEAN,
            std: STD,
            ..plain
        },
        Adapter::Nanodet | Adapter::NanodetPlus | Adapter::Picodet => Input {
            colour: Colour::Bgr,
            mean: flipped(MEAN),
            std: flipped(STD),
            ..plain
        },
        Adapter::PicodetNms => Input {
            mean: MEAN,
            std: STD,
            ..plain
        },
        Adapter::SsdRaw => Input {
            mean: [127.0; 3],
            std: [128.0; 3],
            ..plain
        },
        Adapter::Fastestdet => Input {
            colour: Colour::Bgr,
            scale: 255.0,
            ..plain
        },
        Adapter::Yunet => Input {
            colour: Colour::Bgr,
            fit: Fit::TopLeft,
            ..plain
        },
        Adapter::SsdTf | Adapter::Auto | Adapter::Db | Adapter::Ctc => plain,
    }
}
