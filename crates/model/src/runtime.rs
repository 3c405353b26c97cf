//! Locates, loads and checks ONNX Runtime's shared library, so that a missing, foreign or outdated library is an error with a
//! remedy instead of a panic.
//!
//! The library is loaded once per process: after the first success [`init`] always returns the same [`Runtime`].

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
use gridwatch_base::{digest::sha256_hex, error::Class, file};

/// Minimum version of ONNX Runtime: `ort` is built for API 20 (Cargo.toml).
pub const MIN_VERSION: &str = "1.20";

/// Version that `edge-deploy/setup.sh` installs.
pub const PINNED_VERSION: &str = "1.31.1";

/// SHA-256 of the library that `edge-deploy/setup.sh` installs; `None` on other architectures, for which it installs none.
pub const PINNED_SHA256: Option<&str> = if cfg!(target_arch = "x86_64") {
    Some("fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3")
} else if cfg!(target_arch = "aarch64") {
    Some("8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467")
} else {
    None
};
/// Largest library that is hashed; the pinned one takes 25 MB.
const MAX_LIBRARY: u64 = 256 << 20;

/// The loaded library, its environment and the inference options of this box. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    environment: ort::environment::Environment,
    library: PathBuf,
    options: Options,
    /// Ids of the models whose provider fallback was already logged: every worker loads every model.
    warned: Arc<Mutex<BTreeSet<String>>>,
}

impl Runtime {
    /// The same library with other options.
    #[must_use]
    pub fn with(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Creates a session for a model; returns it with the execution provider in use.
    ///
    /// The default is one intra-op thread, which is the calling thread: N workers with a session each use N cores. Spinning is
    /// off, so a session uses no CPU between inferences.
    ///
    /// Memory patterns are off: they reserve one block for the largest inference, 3–13 MB per session of these networks, and
    /// saved no measurable time on two cores. The arena stays on: without it a session is 7 MB smaller, but every inference
    /// requests its pages from the system again. The result is 15–18 MB per session plus 18 MB for the library.
    pub(super) fn session(&self, model: &Model) -> Result<(Session, Provider), ModelError> {
        let hints = &model.manifest.runtime;
        let threads = usize::from(self.options.threads.or(hints.threads).unwrap_or(1).max(1));
        let providers = self.options.providers.as_ref().or(hints.providers.as_ref());
        let providers = providers.map_or(&[Provider::Cpu][..], Vec::as_slice);
        let mut unavailable = Vec::new();
        for &provider in providers {
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
                    Err(e) => unavailable.push(format!("{provider} is not available ({})", first_line(&e.to_string()))),
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
            self.warn_fallback(model, &unavailable);
            return Ok((session, provider));
        }
        Err(ModelError::Provider {
            model: model.manifest.id.clone(),
            reasons: unavailable.join("; "),
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

    fn warn_fallback(&self, model: &Model, unavailable: &[String]) {
        let id = &model.manifest.id;
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if !unavailable.is_empty() && warned.insert(id.clone()) {
            tracing::warn!(model = %id, reason = unavailable.join("; "), "Model falls back to the CPU");
        }
    }

    /// Path of the shared library.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Build information of the library: version, commit and build flags.
    pub fn build(&self) -> &'static str {
        ort::info()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ONNX Runtime from {}", self.library.display())
    }
}

/// ONNX Runtime's shared library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// No library was found.
    #[error(
        "ONNX Runtime's shared library was not found; run edge-deploy/setup.sh, or set its path in `runtime.onnxruntime` of \
         the configuration or in the environment variable GRIDWATCH_ONNXRUNTIME. Searched: {}",
        list(.searched)
    )]
    Missing {
        /// Every path that was tried.
        searched: Vec<PathBuf>,
    },
    /// The file is not a shared library, not ONNX Runtime, or built for another architecture.
    #[error("{}: not a usable ONNX Runtime library: {message}; run edge-deploy/setup.sh to install one", .path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// The loader's message.
        message: String,
    },
    /// A library in a default location is not the one that `edge-deploy/setup.sh` installs there.
    #[error(
        "{}: not the ONNX Runtime {PINNED_VERSION} that edge-deploy/setup.sh installs ({what}); run it again, or name a library \
         of your own in `runtime.onnxruntime` of the configuration",
        .path.display()
    )]
    NotPinned {
        /// The file.
        path: PathBuf,
        /// Its SHA-256, or why it cannot be read.
        what: String,
    },
    /// The library is older than [`MIN_VERSION`].
    #[error("{}: ONNX Runtime {found} is too old, {MIN_VERSION} or newer is needed; run edge-deploy/setup.sh to install {PINNED_VERSION}", .path.display())]
    TooOld {
        /// The file.
        path: PathBuf,
        /// The library's version.
        found: String,
    },
}

impl LibraryError {
    /// Always [`Class::Config`]: an operator has to fix it.
    pub fn class(&self) -> Class {
        Class::Config
    }
}

fn list(paths: &[PathBuf]) -> String {
    let texts: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    texts.join(", ")
}

/// The environment must outlive every session and can be created only once per process.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// Loads the library: `configured`, else the path in `GRIDWATCH_ONNXRUNTIME`, else the first existing file of
/// [`search_paths`], which must have the pinned content, because nobody asked for it by name. Once a library is loaded, later calls return it and ignore the argument.
///
/// # Errors
/// [`LibraryError`]; a later call may try another file.
pub fn init(configured: Option<&Path>) -> Result<Runtime, LibraryError> {
    // A panic under the lock leaves `None`, which is a valid state.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        return Ok(runtime.clone());
    }
    let runtime = load(&locate(configured, env::var_os("GRIDWATCH_ONNXRUNTIME"))?)?;
    tracing::debug!(library = %runtime.library.display(), build = runtime.build(), "Loaded ONNX Runtime");
    Ok(loaded.insert(runtime).clone())
}

/// Default locations of the library, in search order: the directory of the executable; the cache that `edge-deploy/setup.sh` fills in
/// a working copy (of the executable, or of the workspace under `cargo test`); the installed library. Never the working directory,
/// which may be anybody's.
pub fn search_paths() -> Vec<PathBuf> {
    let file = format!("libonnxruntime.so.{PINNED_VERSION}");
    let cached = Path::new(".cache/onnxruntime").join(PINNED_VERSION).join(&file);
    let executable = env::current_exe().unwrap_or_default();
    // Cargo sets this to the folder of the package; the cache is in that of the workspace, as it is for a program in its `target`.
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let workspace = [&executable, &package].into_iter().flat_map(|path| path.ancestors());
    let workspace = workspace.filter(|dir| dir.is_absolute()).map(|dir| dir.join(&cached));
    let beside = executable.parent().map(|dir| dir.join(&file));
    let installed = Path::new("/usr/lib/gridwatch").join(&file);
    beside.into_iter().chain(workspace).chain([installed]).collect()
}

fn locate(configured: Option<&Path>, variable: Option<OsString>) -> Result<PathBuf, LibraryError> {
    let named = configured
        .map(Path::to_path_buf)
        .or_else(|| variable.filter(|v| !v.is_empty()).map(PathBuf::from));
    let is_named = named.is_some();
    // An explicit path is never replaced by a default location.
    let searched = match named {
        Some(path) => vec![std::path::absolute(&path).unwrap_or(path)],
        None => search_paths(),
    };
    let Some(found) = searched.iter().find(|path| path.is_file()) else {
        return Err(LibraryError::Missing { searched });
    };
    if let Some(pinned) = PINNED_SHA256.filter(|_| !is_named) {
        check_content(found, pinned)?;
    }
    Ok(found.clone())
}

fn check_content(path: &Path, pinned: &str) -> Result<(), LibraryError> {
    let what = match file::read(path, MAX_LIBRARY) {
        Ok(content) => match sha256_hex(&content) {
            sha256 if sha256 == pinned => return Ok(()),
            sha256 => format!("its SHA-256 is {sha256}"),
        },
        Err(error) => error.to_string(),
    };
    Err(LibraryError::NotPinned {
        path: path.to_owned(),
        what,
    })
}

fn load(path: &Path) -> Result<Runtime, LibraryError> {
    let not_a_library = |message: String| LibraryError::NotALibrary {
        path: path.to_owned(),
        message,
    };
    // ort asserts when a library exports OrtGetApiBase but returns null; that panic must not end the daemon.
    let environment = panic::catch_unwind(AssertUnwindSafe(|| {
        let builder = ort::init_from(path).map_err(|e| match e {
            ort::LoadDynamicError::BadVersion { version_str, .. } => LibraryError::TooOld {
                path: path.to_owned(),
                found: version_str,
            },
            ort::LoadDynamicError::Dlopen { error, .. } => not_a_library(dlopen_reason(&error)),
            other => not_a_library(other.to_string()),
        })?;
        // Only Microsoft's Windows builds send telemetry; off in any case.
        builder
            .with_name("gridwatch")
            .with_telemetry(false)
            .build()
            .map_err(|e| not_a_library(e.to_string()))
    }))
    .map_err(|_| not_a_library("OrtGetApiBase returned no interface".into()))??;
    // ONNX Runtime would format lower levels for every node of every inference, only to discard them.
    environment.set_log_level(ort::logging::LogLevel::Warning);
    Ok(Runtime {
        environment,
        library: path.to_owned(),
        options: Options::default(),
        warned: Arc::default(),
    })
}

/// The provider to register with ONNX Runtime; `None` for the CPU, which is always registered.
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

/// libloading's message says only that dlopen failed; the loader's reason is its source.
fn dlopen_reason(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
