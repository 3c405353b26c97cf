//! The decode worker's side: a process that decodes the keyframes it is sent, confined by [`super::cage`].

use std::{
    collections::BTreeMap,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    DecodeError,
    cage::{self, Confinement},
    pipeline::PipelineDecoder,
    protocol::{self, Answer, Enforced, Failure, Request, SINGLE_USE, Shape},
    shared_memory::{Mapping, WritableMapping},
};
use crate::{Backend, Codec, Keyframe};
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;

/// The daemon ends a worker that takes too long.
const NO_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs a decode worker on its standard input, which is a socket to the daemon, until the daemon closes it. Threads are named after `name`.
///
/// # Errors
/// Standard input is not such a socket, or the worker cannot be confined.
pub fn run(name: &str, backend: Backend) -> io::Result<()> {
    cage::shed(name)?;
    let socket = io::stdin();
    let socket = socket.as_fd();
    let started = PipelineDecoder::new(name, backend, NO_TIMEOUT).map_err(|e| (Failure::Broken, e.to_string()));
    let confined = started.and_then(|mut decoder| {
        let hardware = decoder.prepare();
        cage::trim_heap();
        let confinement = cage::confine(!hardware.is_empty())
            .map_err(|e| (Failure::Broken, format!("cannot confine the decode worker: {e}")))?;
        Ok((decoder, hardware, confinement))
    });
    let (mut worker, answer) = match confined {
        Ok((decoder, hardware, Confinement { landlock, seccomp })) => {
            let answer = Answer::Ready {
                landlock,
                seccomp,
                hardware: hardware.join(", "),
            };
            let confined = seccomp == Enforced::Fully;
            (Worker::new(decoder, confined), answer)
        }
        Err((failure, text)) => {
            let answer = Answer::Failed { failure, text };
            return protocol::send(socket, &answer.encode(), &[]);
        }
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

struct Worker {
    decoder: PipelineDecoder,
    camera: CameraId,
    input: Option<Mapping>,
    buffers: BTreeMap<u8, WritableMapping>,
    /// A picture that waits for a larger buffer.
    waiting: Option<(Codec, Frame)>,
    #[cfg_attr(
        not(debug_assertions),
        expect(dead_code, reason = "faults are injected in debug builds only")
    )]
    is_confined: bool,
}

impl Worker {
    fn new(decoder: PipelineDecoder, is_confined: bool) -> Self {
        Self {
            decoder,
            camera: CameraId::from(""),
            input: None,
            buffers: BTreeMap::new(),
            waiting: None,
            is_confined,
        }
    }

    fn serve(&mut self, request: Request, fds: Vec<OwnedFd>) -> io::Result<Vec<u8>> {
        let mut fds = fds.into_iter();
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing");
        let (codec, frame, buffer) = match request {
            Request::Decode {
                codec,
                len,
                buffer,
                input,
            } => {
                if input {
                    self.input = None;
                    self.input = Some(Mapping::read_only(fds.next().ok_or_else(missing)?)?);
                }
                let data = self.input.as_ref().and_then(|i| i.as_ref().get(..len as usize));
                let data = Bytes::copy_from_slice(data.ok_or_else(missing)?);
                #[cfg(debug_assertions)]
                if let Some(answer) = super::faults::obey(&data, self.is_confined) {
                    return Ok(answer);
                }
                let keyframe = Keyframe {
                    camera: self.camera.clone(),
                    seq: 0,
                    captured_at: Timestamp::UNIX_EPOCH,
                    codec,
                    data,
                };
                match self.decoder.decode(&keyframe) {
                    Ok(frame) => (codec, frame, buffer),
                    Err(error) => return Ok(failed(error).encode()),
                }
            }
            Request::Buffer { buffer } => {
                self.map_buffer(buffer, fds.next().ok_or_else(missing)?)?;
                let (codec, frame) = self.waiting.take().ok_or_else(missing)?;
                (codec, frame, buffer)
            }
        };
        let shape = Shape {
            width: frame.width,
            height: frame.height,
            layout: frame.layout,
            matrix: frame.matrix,
            full_range: frame.full_range,
        };
        let Some((planes, bytes)) = shape.planes() else {
            return Ok(broken(format!("a picture of {}×{} is too large", frame.width, frame.height)).encode());
        };
        let output = self.buffers.get_mut(&buffer).filter(|b| b.len() >= bytes);
        let Some(output) = output else {
            self.waiting = Some((codec, frame));
            return Ok(Answer::TooSmall { bytes: bytes as u32 }.encode());
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
        let element = self.decoder.element(codec).unwrap_or_default().to_owned();
        Ok(Answer::Picture { shape, element }.encode())
    }

    fn map_buffer(&mut self, buffer: u8, fd: OwnedFd) -> io::Result<()> {
        // First, so that both do not take memory at once.
        self.buffers.remove(&buffer);
        self.buffers.insert(buffer, Mapping::writable(fd)?);
        Ok(())
    }
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
