//! The daemon's side of a process that reads a source with GStreamer.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    DecodeWorkers, WorkerKind,
    process::{Lost, WorkerProcess},
    protocol::{Answer, Failure, Request},
};
use crate::{
    Backend,
    gst_source::SourceError,
    source_pipeline::{Next, SourceSetup},
};
use gridwatch_engine::CameraId;

/// Beyond the wait for a frame: opening a source can block for a moment.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A process that reads one source. It is closed on drop.
pub(crate) struct SourceWorker {
    process: Option<WorkerProcess>,
    workers: DecodeWorkers,
    camera: CameraId,
    setup: SourceSetup,
}

impl SourceWorker {
    /// Starts the process.
    pub(crate) fn start(workers: &DecodeWorkers, camera: &CameraId, setup: &SourceSetup) -> Result<Self, SourceError> {
        let message = serde_json::to_vec(setup).map_err(|e| SourceError::NoWorker(e.to_string()))?;
        let name = format!("source-{camera}");
        let process = WorkerProcess::execute(
            &workers.program,
            WorkerKind::Source,
            &name,
            Backend::Software,
            Some(&message),
        )
        .map_err(SourceError::NoWorker)?;
        Ok(Self {
            process: Some(process),
            workers: workers.clone(),
            camera: camera.clone(),
            setup: setup.clone(),
        })
    }

    /// The newest frame that was not returned yet. Waits for it, no longer than `longest`.
    pub(crate) fn next(&mut self, longest: Duration) -> Result<Next, SourceError> {
        let Some(process) = &mut self.process else {
            return Err(SourceError::NoWorker("it has ended".into()));
        };
        let request = |buffer, longest: Duration| Request::Next {
            buffer,
            wait_ms: u32::try_from(longest.as_millis()).unwrap_or(u32::MAX),
        };
        let answered = process.exchange(None, longest + ANSWER_TIMEOUT, |t| request(t.buffer, longest));
        let lost = match answered {
            Ok((Answer::Picture { shape, age, .. }, Some(buffer))) => {
                match process.frame(shape, buffer, Timestamp::now() - age) {
                    Some(frame) => return Ok(Next::Frame(frame)),
                    None => Lost::Invalid,
                }
            }
            Ok((Answer::Nothing, _)) => return Ok(Next::Nothing),
            Ok((Answer::Ended, _)) => return Ok(Next::Ended),
            Ok((Answer::Failed { failure, text }, _)) => return Err(self.failed(failure, text)),
            Ok(_) => Lost::Invalid,
            Err(Lost::Shortage(error)) => return Err(SourceError::NoWorker(error.to_string())),
            Err(lost) => lost,
        };
        let cause = self
            .process
            .take()
            .and_then(|p| p.cause_of(&lost, longest + ANSWER_TIMEOUT));
        Err(match cause {
            Some(cause) => SourceError::Crashed {
                set_aside_until: self.workers.crashes.record_camera(&self.camera),
                cause,
            },
            None => SourceError::NoWorker("killed by the system, which may be out of memory".into()),
        })
    }

    fn failed(&self, failure: Failure, text: String) -> SourceError {
        match failure {
            Failure::Refused => SourceError::Refused(text),
            Failure::Untrusted => SourceError::UntrustedCertificate(text),
            Failure::Missing => SourceError::Missing(text),
            Failure::CaFile => SourceError::CaFile {
                path: self.setup.ca_file.clone().unwrap_or_default(),
                what: text,
            },
            _ => SourceError::Pipeline(text),
        }
    }
}

impl Drop for SourceWorker {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.close();
        }
    }
}
