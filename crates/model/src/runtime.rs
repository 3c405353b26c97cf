//! ONNX Runtime's shared library: found, loaded and checked, so that a missing, wrong or old one is an error with a
//! remedy and never a panic.
//!
//! The library is loaded once in a process and stays: [`init`] gives the same [`Runtime`] from then on.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fmt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ort::{
    ep::{self, ExecutionProviderDispatch},
    session::{Session, builder::GraphOptimizationLevel},
};

use super::{Model, ModelError, Options, manifest::Provider};
use gridwatch_base::error::Class;

/// The oldest ONNX Runtime that will do: `ort` is built for API 20 (Cargo.toml).
pub const OLDEST: &str = "1.20";

/// The version that `edge-deploy/setup.sh` fetches.
const PINNED: &str = "1.31.1";

/// The loaded library with its environment, and how this box runs networks on it. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    environment: ort::environment::Environment,
    library: PathBuf,
    options: Options,
    /// Which models were said to run on something else than was asked for: once is enough, though each worker loads them.
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl Runtime {
    /// The same library for a box with these options.
    #[must_use]
    pub fn with(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// A session of a model's weights, and what it runs on.
    ///
    /// One thread unless somebody says otherwise, which is the caller's: N workers with a session each use N cores, and none
    /// spins for work between looks.
    ///
    /// Memory patterns are off: they keep one block for the largest look, which costs a session of these networks 3–13 MB and
    /// gains no time that could be measured on two cores. The arena stays: without it a session is another 7 MB smaller, but
    /// every look then asks the system for its pages again. What is left is 15–18 MB a session and 18 MB for the library.
    pub(super) fn session(&self, model: &Model) -> Result<(Session, Provider), ModelError> {
        let hints = &model.manifest.runtime;
        let threads = usize::from(self.options.threads.or(hints.threads).unwrap_or(1).max(1));
        let asked = self.options.providers.as_ref().or(hints.providers.as_ref());
        let asked = asked.map_or(&[Provider::Cpu][..], Vec::as_slice);
        let mut missing = Vec::new();
        for &provider in asked {
            if let Some(dispatch) = dispatch(provider, threads) {
                let builder = self.builder(threads).and_then(|builder| {
                    let builder = builder.with_execution_providers([dispatch.error_on_failure()])?;
                    Ok(builder)
                });
                let session = match builder {
                    Ok(mut builder) => builder.commit_from_memory(&model.bytes),
                    Err(e) => Err(e),
                };
                match session {
                    Ok(session) => return Ok((session, provider)),
                    Err(e) => missing.push(format!(
                        "{provider} is not usable here ({})",
                        first_line(&e.to_string())
                    )),
                }
                continue;
            }
            let session = self
                .builder(threads)
                .and_then(|mut b| b.commit_from_memory(&model.bytes));
            let session = session.map_err(|e| ModelError::Session {
                file: model.file.to_path_buf(),
                message: e.to_string(),
            })?;
            self.tell(model, &missing);
            return Ok((session, provider));
        }
        Err(ModelError::Provider {
            model: model.manifest.id.clone(),
            reasons: missing.join("; "),
        })
    }

    fn builder(&self, threads: usize) -> ort::Result<ort::session::builder::SessionBuilder> {
        Ok(Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_memory_pattern(false)?)
    }

    fn tell(&self, model: &Model, missing: &[String]) {
        let id = &model.manifest.id;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !missing.is_empty() && told.insert(id.clone()) {
            tracing::warn!(model = %id, "The model runs on the processor: {}.", missing.join("; "));
        }
    }

    /// The library's file.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What the library says it is: version, commit and build flags.
    pub fn build(&self) -> &'static str {
        ort::info()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ONNX Runtime from {}", self.library.display())
    }
}

/// Why ONNX Runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// It is nowhere.
    #[error(
        "ONNX Runtime's shared library was not found. Run edge-deploy/setup.sh, or name the file as `runtime.onnxruntime` \
         in the configuration or in the environment variable GRIDWATCH_ONNXRUNTIME. Looked at: {}",
        list(.looked)
    )]
    Missing {
        /// Every place that was looked at.
        looked: Vec<PathBuf>,
    },
    /// The file is no library, or not ONNX Runtime's, or for another machine.
    #[error("{}: not a usable ONNX Runtime library: {message}. Run edge-deploy/setup.sh for one that is", .path.display())]
    NotALibrary {
        /// Which file.
        path: PathBuf,
        /// What the loader says.
        message: String,
    },
    /// It is older than [`OLDEST`].
    #[error("{}: ONNX Runtime {found} is too old, {OLDEST} or newer is needed. Run edge-deploy/setup.sh for {PINNED}", .path.display())]
    TooOld {
        /// Which file.
        path: PathBuf,
        /// The version it states.
        found: String,
    },
}

impl LibraryError {
    /// Always [`Class::Config`]: it does not mend itself.
    pub fn class(&self) -> Class {
        Class::Config
    }
}

fn list(paths: &[PathBuf]) -> String {
    let texts: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    texts.join(", ")
}

/// The environment must outlive every session and can be made only once in a process.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// Loads the library: the file given, else the one in `GRIDWATCH_ONNXRUNTIME`, else the first that is there of
/// [`places`]. Once one was loaded, every later call returns that.
///
/// # Errors
/// [`LibraryError`]; a later call may try another file.
pub fn init(configured: Option<&Path>) -> Result<Runtime, LibraryError> {
    // A panic while it was held left it empty, which is a state like any other.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        return Ok(runtime.clone());
    }
    let runtime = load(&locate(configured, env::var_os("GRIDWATCH_ONNXRUNTIME"))?)?;
    tracing::debug!(library = %runtime.library.display(), build = runtime.build(), "ONNX Runtime is loaded.");
    Ok(loaded.insert(runtime).clone())
}

/// Where the library is looked for when nobody names it, the first place first: what `edge-deploy/setup.sh` fetched for
/// a working copy (below the working directory, below the package under `cargo test`), what it installed, and beside
/// the program.
pub fn places() -> Vec<PathBuf> {
    let file = format!("libonnxruntime.so.{PINNED}");
    let cached = Path::new(".cache/onnxruntime").join(PINNED).join(&file);
    // Set by `cargo test` and `cargo run`, to the package's folder; the cache lies in the workspace's.
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let workspace = package
        .ancestors()
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(&cached));
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(&file)));
    // An absolute path, or the loader would search the system's own folders for it.
    let here = env::current_dir().ok().map(|dir| dir.join(&cached));
    let installed = Path::new("/usr/lib/gridwatch").join(&file);
    here.into_iter()
        .chain(workspace)
        .chain([installed])
        .chain(beside)
        .collect()
}

fn locate(configured: Option<&Path>, variable: Option<OsString>) -> Result<PathBuf, LibraryError> {
    let named = configured
        .map(Path::to_path_buf)
        .or_else(|| variable.filter(|v| !v.is_empty()).map(PathBuf::from));
    // What was named is meant: another one is not taken in its stead.
    let looked = match named {
        Some(path) => vec![std::path::absolute(&path).unwrap_or(path)],
        None => places(),
    };
    match looked.iter().find(|path| path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(LibraryError::Missing { looked }),
    }
}

fn load(path: &Path) -> Result<Runtime, LibraryError> {
    let not_a_library = |message: String| LibraryError::NotALibrary {
        path: path.to_owned(),
        message,
    };
    // ort asserts where a library exports the right name but returns nothing; the panic must not end the daemon.
    let environment = panic::catch_unwind(AssertUnwindSafe(|| {
        let builder = ort::init_from(path).map_err(|e| match e {
            ort::LoadDynamicError::BadVersion { version_str, .. } => LibraryError::TooOld {
                path: path.to_owned(),
                found: version_str,
            },
            ort::LoadDynamicError::Dlopen { error, .. } => not_a_library(dlopen_reason(&error)),
            other => not_a_library(other.to_string()),
        })?;
        // Telemetry is Microsoft's, in its builds for Windows; off all the same, nothing leaves the box.
        builder
            .with_name("gridwatch")
            .with_telemetry(false)
            .build()
            .map_err(|e| not_a_library(e.to_string()))
    }))
    .map_err(|_| not_a_library("it returns no interface".into()))??;
    // Everything below would be formatted for each node at each look, to be thrown away.
    environment.set_log_level(ort::logging::LogLevel::Warning);
    Ok(Runtime {
        environment,
        library: path.to_owned(),
        options: Options::default(),
        told: Arc::default(),
    })
}

/// What ONNX Runtime is asked for; nothing for the processor, which is always there.
fn dispatch(provider: Provider, threads: usize) -> Option<ExecutionProviderDispatch> {
    match provider {
        Provider::Cpu => None,
        Provider::Cuda => Some(ep::CUDA::default().build()),
        Provider::Tensorrt => Some(ep::TensorRT::default().build()),
        Provider::Openvino => Some(ep::OpenVINO::default().with_num_threads(threads).build()),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// libloading's own text says only that dlopen failed; the loader's reason is its source.
fn dlopen_reason(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
