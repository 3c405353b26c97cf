//! Decodes in a worker process: hands it keyframes or the access units of one stream, takes frames, and replaces it when it ends or hangs.
//!
//! A worker that ends while it decodes is blamed on what it was sent last, with one exception: SIGKILL that the daemon did not send comes from
//! the system, for want of memory as a rule.

use std::time::{Duration, Instant};

use super::{
    DECODE_TIMEOUT, DecodeError, DecodeWorkers, WorkerKind, pipeline,
    process::{Buffer, Lost, WorkerProcess},
    protocol::{Answer, Failure, Request, Transfer, UnitInfo},
};
use crate::{Backend, Codec, Keyframe};
use gridwatch_base::backoff::Backoff;
use gridwatch_frame::Frame;

/// Longest time for the first keyframe of a hardware decoder, which starts with it.
const HARDWARE_START_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed start.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Largest keyframe.
const MAX_KEYFRAME: usize = 32 << 20;

/// Decodes in a worker process.
pub(crate) struct WorkerDecoder {
    kind: WorkerKind,
    name: String,
    backend: Backend,
    workers: DecodeWorkers,
    worker: Option<WorkerProcess>,
    has_decoded: bool,
    backoff: Backoff,
    /// After a failed start; with the reason.
    paused: Option<(Instant, String)>,
    elements: [Option<String>; 2],
}

impl WorkerDecoder {
    pub(crate) fn new(kind: WorkerKind, name: &str, backend: Backend, workers: DecodeWorkers) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            backend,
            workers,
            worker: None,
            has_decoded: false,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            paused: None,
            elements: [None, None],
        }
    }

    pub(super) fn element(&self, codec: Codec) -> Option<&str> {
        self.elements[codec as usize].as_deref()
    }

    /// Decodes a keyframe ([`WorkerKind::Keyframes`]).
    pub(super) fn decode(&mut self, keyframe: &Keyframe) -> Result<Frame, DecodeError> {
        self.admit(keyframe)?;
        self.ensure_worker()?;
        let codec = keyframe.codec;
        let frame = self.exchange(keyframe, &keyframe.data, |transfer| Request::Decode { codec, transfer })?;
        match frame {
            Some(frame) => Ok(frame),
            None => Err(self.bury(keyframe, &Lost::Invalid)),
        }
    }

    /// Decodes the next access unit of a stream ([`WorkerKind::Stream`]), and returns the newest picture if `info` asks for it and there is a new one.
    /// A new worker gets `parameter_sets` first.
    pub(crate) fn decode_unit(
        &mut self,
        unit: &Keyframe,
        info: UnitInfo,
        parameter_sets: &[u8],
    ) -> Result<Option<Frame>, DecodeError> {
        self.admit(unit)?;
        let codec = unit.codec;
        let request = |transfer| Request::Unit { codec, info, transfer };
        if self.ensure_worker()? {
            let data = [parameter_sets, &unit.data].concat();
            self.exchange(unit, &data, request)
        } else {
            self.exchange(unit, &unit.data, request)
        }
    }

    /// Refuses what ended a worker before, and what is too large.
    fn admit(&self, keyframe: &Keyframe) -> Result<(), DecodeError> {
        if let Some(refusal) = self.workers.crashes.refusal(keyframe) {
            return Err(refusal);
        }
        if keyframe.data.len() > MAX_KEYFRAME {
            return Err(DecodeError::Damaged {
                camera: keyframe.camera.clone(),
                what: format!(
                    "it has {} bytes; no keyframe has more than {MAX_KEYFRAME}",
                    keyframe.data.len()
                ),
            });
        }
        Ok(())
    }

    /// Starts a worker if none runs, unless one failed to start a moment ago. True if it is new.
    fn ensure_worker(&mut self) -> Result<bool, DecodeError> {
        // One that ended while idle has nothing to do with the next keyframe.
        if self.worker.as_ref().is_some_and(|worker| !worker.has_ended()) {
            return Ok(false);
        }
        self.worker = None;
        let now = Instant::now();
        if let Some((until, reason)) = &self.paused
            && now < *until
        {
            let left = until.saturating_duration_since(now).as_secs() + 1;
            return Err(DecodeError::NoWorker(format!("{reason}; trying again in {left} s")));
        }
        match WorkerProcess::start(&self.workers, self.kind, &self.name, self.backend) {
            Ok(worker) => {
                self.paused = None;
                self.elements = [None, None];
                self.has_decoded = false;
                self.worker = Some(worker);
                Ok(true)
            }
            Err(reason) => {
                self.pause(&reason);
                Err(DecodeError::NoWorker(reason))
            }
        }
    }

    fn pause(&mut self, reason: &str) {
        let delay = self.backoff.next_delay(fastrand::f64());
        self.paused = Some((Instant::now() + delay, reason.to_owned()));
    }

    /// Has the worker serve `request` for `data`, which it is blamed on if it ends.
    fn exchange(
        &mut self,
        blamed: &Keyframe,
        data: &[u8],
        request: impl FnOnce(Transfer) -> Request,
    ) -> Result<Option<Frame>, DecodeError> {
        let Some(worker) = &mut self.worker else {
            return Err(DecodeError::NoWorker("it has ended".into()));
        };
        let timeout = match worker.hardware.is_empty() || self.has_decoded {
            true => DECODE_TIMEOUT,
            false => HARDWARE_START_TIMEOUT,
        };
        match worker.exchange(Some(data), timeout, request) {
            Ok((answer, buffer)) => self.take(blamed, answer, buffer),
            Err(Lost::Shortage(error)) => Err(DecodeError::NoWorker(format!("cannot hand over a keyframe: {error}"))),
            Err(lost) => Err(self.bury(blamed, &lost)),
        }
    }

    fn take(
        &mut self,
        keyframe: &Keyframe,
        answer: Answer,
        buffer: Option<Buffer>,
    ) -> Result<Option<Frame>, DecodeError> {
        let (shape, age, element) = match answer {
            Answer::Picture { shape, age, element } => (shape, age, element),
            Answer::Nothing => return Ok(None),
            Answer::Failed { failure, text } => return Err(self.failed(keyframe, failure, text)),
            _ => return Err(self.bury(keyframe, &Lost::Invalid)),
        };
        let captured_at = keyframe.captured_at - age;
        let frame = match (&self.worker, buffer) {
            (Some(worker), Some(buffer)) => worker.frame(shape, buffer, captured_at),
            _ => None,
        };
        let Some(frame) = frame else {
            return Err(self.bury(keyframe, &Lost::Invalid));
        };
        self.has_decoded = true;
        self.backoff.reset();
        let known = &mut self.elements[keyframe.codec as usize];
        if known.as_deref() != Some(element.as_str()) {
            tracing::debug!(decoder = self.name, element, codec = ?keyframe.codec, "Decoding");
            *known = Some(element);
        }
        Ok(Some(frame))
    }

    fn failed(&mut self, keyframe: &Keyframe, failure: Failure, text: String) -> DecodeError {
        match failure {
            Failure::Damaged => DecodeError::Damaged {
                camera: keyframe.camera.clone(),
                what: text,
            },
            Failure::NoDecoder | Failure::NoFiles => {
                // A confined worker cannot load what it lacks, so another one starts after a pause.
                self.worker = None;
                self.pause("no decoder worked");
                DecodeError::NoDecoder {
                    codec: keyframe.codec,
                    backend: self.backend,
                    tried: text,
                    hint: pipeline::hint(self.backend, failure == Failure::NoFiles),
                }
            }
            _ => {
                // A decoder of a stream that has failed does not go on.
                if self.kind == WorkerKind::Stream {
                    self.worker = None;
                    self.pause(&text);
                }
                DecodeError::Broken(text)
            }
        }
    }

    /// Ends the worker, and blames the keyframe if that is where the fault lies.
    fn bury(&mut self, keyframe: &Keyframe, lost: &Lost) -> DecodeError {
        let cause = match self.worker.take() {
            Some(worker) => worker.cause_of(lost, DECODE_TIMEOUT),
            None => Some("it has ended".to_owned()),
        };
        let Some(cause) = cause else {
            return DecodeError::NoWorker("killed by the system, which may be out of memory; restarting it".into());
        };
        let set_aside_until = self.workers.crashes.record(keyframe, &cause);
        DecodeError::Crashed {
            camera: keyframe.camera.clone(),
            cause,
            set_aside_until,
        }
    }
}
