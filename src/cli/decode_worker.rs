//! `gridwatch decode-worker`: the process in which the daemon decodes. Internal.

use gridwatch_camera::{
    Backend,
    decode::{self, WorkerKind},
};

/// Decode, or read a source, for the daemon; internal.
///
/// The daemon starts it with a socket as standard input. It confines itself before it reads from it.
#[derive(Debug, clap::Args)]
pub struct DecodeWorkerArgs {
    /// What it is for.
    kind: WorkerKind,
    /// The name of the decoder and of its threads.
    name: String,
    /// `decode.backend`.
    backend: Backend,
}

/// Runs the worker; never returns.
pub fn run(args: &DecodeWorkerArgs) -> ! {
    decode::exit_worker(decode::run_worker(args.kind, &args.name, args.backend))
}
