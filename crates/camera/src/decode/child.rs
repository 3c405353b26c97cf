//! The worker's side: a process that decodes what it is sent, or reads a source, confined by [`super::cage`].

use std::{
    collections::BTreeMap,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    DecodeError, WorkerKind,
    cage::{self, Cage, Confinement},
    pipeline::{self, PipelineDecoder},
    protocol::{self, Answer, Enforced, Failure, ForkRequest, Request, SINGLE_USE, Shape, Transfer, UnitInfo},
    shared_memory::{Mapping, WritableMapping},
    source_cage::SourceAccess,
    stream::{self, StreamDecoder},
};
use crate::{
    Backend, Codec, Keyframe, gst_frame,
    gst_source::SourceError,
    source_pipeline::{Next, SourcePipeline, SourceSetup},
};
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;

/// The daemon ends a worker that takes too long.
const NO_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs a worker on its standard input, which is a socket to the daemon, until the daemon closes it. Threads are named after `name`.
///
/// # Errors
/// Standard input is not such a socket, or the worker cannot be confined.
pub fn run(kind: WorkerKind, name: &str, backend: Backend) -> io::Result<()> {
    cage::shed(name)?;
    let socket = io::stdin();
    let socket = socket.as_fd();
    let prepared = match kind {
        WorkerKind::Template => return run_template(socket),
        WorkerKind::Keyframes => prepare_keyframes(name, backend),
        WorkerKind::Stream => Ok((Work::Stream(None), Cage::Decoder, String::new())),
        WorkerKind::Source => {
            let (message, _) = protocol::receive(socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let setup = serde_json::from_slice(&message).map_err(io::Error::other)?;
            prepare_source(setup)
        }
    };
    let confined = prepared.and_then(|(work, cage, hardware)| {
        cage::trim_heap();
        let confinement = cage::confine(&cage).map_err(|e| broken(format!("cannot confine the decode worker: {e}")))?;
        Ok((work, hardware, confinement))
    });
    let (mut worker, answer) = match confined {
        Ok((work, hardware, Confinement { landlock, seccomp })) => {
            let answer = Answer::Ready {
                landlock,
                seccomp,
                hardware,
            };
            (Worker::new(work, seccomp == Enforced::Fully), answer)
        }
        Err(answer) => return protocol::send(socket, &answer.encode(), &[]),
    };
    protocol::send(socket, &answer.encode(), &[])?;
    while let Some((message, fds)) = protocol::receive(socket)? {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "invalid request");
        let request = Request::decode(&message).ok_or_else(invalid)?;
        let answer = worker.serve(request, fds)?;
        protocol::send(socket, &answer, &[])?;
    }
    Ok(())
}

/// Loads what decode workers need, and forks one for each request.
fn run_template(socket: BorrowedFd<'_>) -> io::Result<()> {
    let answer = match pipeline::preload() {
        Ok(hardware) => Answer::Loaded {
            hardware: hardware.join(", "),
        },
        Err(error) => return protocol::send(socket, &broken(error).encode(), &[]),
    };
    cage::trim_heap();
    protocol::send(socket, &answer.encode(), &[])?;
    while let Some((message, mut fds)) = protocol::receive(socket)? {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "invalid request");
        let worker = ForkRequest::decode(&message).ok_or_else(invalid)?;
        let theirs = fds.pop().ok_or_else(missing)?;
        let answer = match cage::fork() {
            Ok(None) => {
                cage::set_standard_input(theirs)?;
                return run(worker.kind, &worker.name, worker.backend);
            }
            Ok(Some(id)) => Answer::Forked { id },
            Err(error) => broken(error.to_string()),
        };
        protocol::send(socket, &answer.encode(), &[])?;
    }
    Ok(())
}

/// What a worker does.
enum Work {
    Keyframes(PipelineDecoder),
    /// The first access unit tells the codec.
    Stream(Option<StreamDecoder>),
    Source {
        setup: SourceSetup,
        pipeline: Option<SourcePipeline>,
    },
}

/// The work, its confinement, and the hardware decoders it may use.
type Prepared = Result<(Work, Cage, String), Answer>;

fn prepare_keyframes(name: &str, backend: Backend) -> Prepared {
    let mut decoder = PipelineDecoder::new(name, backend, NO_TIMEOUT).map_err(|e| broken(e.to_string()))?;
    let hardware = decoder.prepare();
    let cage = if hardware.is_empty() {
        Cage::Decoder
    } else {
        Cage::HardwareDecoder
    };
    Ok((Work::Keyframes(decoder), cage, hardware.join(", ")))
}

fn prepare_source(setup: SourceSetup) -> Prepared {
    gst_frame::init().map_err(|e| failed_source(SourceError::Missing(e.to_string())))?;
    let cage = Cage::Source(SourceAccess::of(&setup));
    let work = Work::Source { setup, pipeline: None };
    Ok((work, cage, String::new()))
}

struct Worker {
    work: Work,
    camera: CameraId,
    input: Option<Mapping>,
    buffers: BTreeMap<u8, WritableMapping>,
    /// A picture that waits for a larger buffer.
    waiting: Option<Decoded>,
    #[cfg_attr(
        not(debug_assertions),
        expect(dead_code, reason = "faults are injected in debug builds only")
    )]
    is_confined: bool,
}

/// A picture to hand over.
struct Decoded {
    frame: Frame,
    age: Duration,
    element: String,
}

impl Worker {
    fn new(work: Work, is_confined: bool) -> Self {
        Self {
            work,
            camera: CameraId::from(""),
            input: None,
            buffers: BTreeMap::new(),
            waiting: None,
            is_confined,
        }
    }

    /// The answer to a request.
    fn serve(&mut self, request: Request, fds: Vec<OwnedFd>) -> io::Result<Vec<u8>> {
        let mut fds = fds.into_iter();
        let (outcome, buffer) = match request {
            Request::Decode { codec, transfer } => {
                let data = self.data(transfer, fds.next())?;
                #[cfg(debug_assertions)]
                if let Some(answer) = super::faults::obey(&data, self.is_confined) {
                    return Ok(answer);
                }
                (self.decode(codec, data)?, transfer.buffer)
            }
            Request::Unit { codec, info, transfer } => {
                let data = self.data(transfer, fds.next())?;
                #[cfg(debug_assertions)]
                if let Some(answer) = super::faults::obey(&data, self.is_confined) {
                    return Ok(answer);
                }
                (self.decode_unit(codec, info, data)?, transfer.buffer)
            }
            Request::Next { buffer, wait_ms } => {
                #[cfg(debug_assertions)]
                if let Work::Source { setup, .. } = &self.work
                    && let Some(answer) = super::faults::obey(setup.url.as_bytes(), self.is_confined)
                {
                    return Ok(answer);
                }
                (self.next(Duration::from_millis(wait_ms.into()))?, buffer)
            }
            Request::Buffer { buffer } => {
                // The old one first, so that both do not take memory at once.
                self.buffers.remove(&buffer);
                let fd = fds.next().ok_or_else(missing)?;
                self.buffers.insert(buffer, Mapping::writable(fd)?);
                (Ok(self.waiting.take().ok_or_else(missing)?), buffer)
            }
        };
        Ok(match outcome {
            Ok(decoded) => self.hand_over(decoded, buffer),
            Err(answer) => answer,
        }
        .encode())
    }

    fn data(&mut self, transfer: Transfer, fd: Option<OwnedFd>) -> io::Result<Bytes> {
        if transfer.input {
            self.input = None;
            self.input = Some(Mapping::read_only(fd.ok_or_else(missing)?)?);
        }
        let data = self
            .input
            .as_ref()
            .and_then(|i| i.as_ref().get(..transfer.len as usize));
        Ok(Bytes::copy_from_slice(data.ok_or_else(missing)?))
    }

    fn decode(&mut self, codec: Codec, data: Bytes) -> io::Result<Result<Decoded, Answer>> {
        let Work::Keyframes(decoder) = &mut self.work else {
            return Err(unfit());
        };
        let keyframe = Keyframe {
            camera: self.camera.clone(),
            seq: 0,
            captured_at: Timestamp::UNIX_EPOCH,
            codec,
            data,
        };
        Ok(match decoder.decode(&keyframe) {
            Ok(frame) => Ok(Decoded {
                frame,
                age: Duration::ZERO,
                element: decoder.element(codec).unwrap_or_default().to_owned(),
            }),
            Err(error) => Err(failed(error)),
        })
    }

    fn decode_unit(&mut self, codec: Codec, info: UnitInfo, data: Bytes) -> io::Result<Result<Decoded, Answer>> {
        let Work::Stream(decoder) = &mut self.work else {
            return Err(unfit());
        };
        let decoder = match decoder {
            Some(running) => running,
            None => match StreamDecoder::new("stream", codec) {
                Ok(new) => decoder.insert(new),
                Err(error) => return Ok(Err(broken(error))),
            },
        };
        // The daemon replaces the process: a new decoder needs the parameter sets, which the daemon has.
        if let Err(error) = decoder.decode(data, info) {
            return Ok(Err(broken(error)));
        }
        let picture = if info.wants_picture {
            decoder.take_picture()
        } else {
            None
        };
        Ok(picture.ok_or(Answer::Nothing).map(|frame| Decoded {
            age: stream::age(info, &frame),
            frame,
            element: pipeline::software_element(codec).to_owned(),
        }))
    }

    fn next(&mut self, longest: Duration) -> io::Result<Result<Decoded, Answer>> {
        let Work::Source { setup, pipeline } = &mut self.work else {
            return Err(unfit());
        };
        let running = match pipeline {
            Some(running) => running,
            None => match SourcePipeline::start(setup) {
                Ok(started) => pipeline.insert(started),
                Err(error) => return Ok(Err(failed_source(error))),
            },
        };
        Ok(match running.next(longest) {
            Ok(Next::Frame(frame)) => Ok(Decoded {
                age: Timestamp::now().duration_since(frame.captured_at).unsigned_abs(),
                frame,
                element: String::new(),
            }),
            Ok(Next::Nothing) => Err(Answer::Nothing),
            Ok(Next::Ended) => Err(Answer::Ended),
            Err(error) => Err(failed_source(error)),
        })
    }

    /// Copies the picture into the buffer, or keeps it until a larger one comes.
    fn hand_over(&mut self, decoded: Decoded, buffer: u8) -> Answer {
        let frame = &decoded.frame;
        let shape = Shape {
            width: frame.width,
            height: frame.height,
            layout: frame.layout,
            matrix: frame.matrix,
            full_range: frame.full_range,
        };
        let Some((planes, bytes)) = shape.planes() else {
            return broken(format!("a picture of {}×{} is too large", frame.width, frame.height));
        };
        let output = self.buffers.get_mut(&buffer).filter(|b| b.len() >= bytes);
        let Some(output) = output else {
            self.waiting = Some(decoded);
            return Answer::TooSmall { bytes: bytes as u32 };
        };
        let output = output.as_mut();
        for (i, to) in planes.iter().enumerate() {
            let (row, rows) = shape.rows(i);
            let from = frame.planes[i];
            if from.stride == to.stride && rows > 0 {
                // The padding after the last row is optional in the decoder's buffer.
                let len = from.stride * (rows - 1) + row;
                output[to.offset..][..len].copy_from_slice(&frame.data[from.offset..][..len]);
                continue;
            }
            for y in 0..rows {
                let source = &frame.data[from.offset + y * from.stride..][..row];
                output[to.offset + y * to.stride..][..row].copy_from_slice(source);
            }
        }
        if buffer == SINGLE_USE {
            self.buffers.remove(&buffer);
        }
        Answer::Picture {
            shape,
            age: decoded.age,
            element: decoded.element,
        }
    }
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing")
}

fn unfit() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a request for another kind of worker")
}

/// Tells why a source cannot be read.
fn failed_source(error: SourceError) -> Answer {
    let (failure, text) = match error {
        SourceError::Refused(text) => (Failure::Refused, text),
        SourceError::UntrustedCertificate(text) => (Failure::Untrusted, text),
        SourceError::Missing(text) => (Failure::Missing, text),
        SourceError::CaFile { what, .. } => (Failure::CaFile, what),
        other => (Failure::Broken, other.to_string()),
    };
    Answer::Failed { failure, text }
}

fn broken(text: String) -> Answer {
    Answer::Failed {
        failure: Failure::Broken,
        text,
    }
}

fn failed(error: DecodeError) -> Answer {
    match error {
        DecodeError::Damaged { what, .. } => Answer::Failed {
            failure: Failure::Damaged,
            text: what,
        },
        DecodeError::NoDecoder { tried, hint, .. } => Answer::Failed {
            failure: if hint.contains("LimitNOFILE") {
                Failure::NoFiles
            } else {
                Failure::NoDecoder
            },
            text: tried,
        },
        other => broken(other.to_string()),
    }
}

/// Ends the process without running destructors: stopping pipelines takes time to no purpose.
pub fn exit(result: io::Result<()>) -> ! {
    let code = match result {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: decode worker: {error}");
            70
        }
    };
    std::process::exit(code)
}
