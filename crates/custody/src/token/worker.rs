//! A thread that owns a token, so that a module that hangs takes its thread and not the daemon's.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

use super::TokenError;
use crate::{PublicKey, keys::KeyError};

/// What signs, on the worker's thread.
pub(super) trait Device {
    /// Signs; Ed25519 in 64 bytes, ECDSA in DER.
    fn sign(&mut self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

struct Job {
    message: Vec<u8>,
    reply: SyncSender<Result<Vec<u8>, KeyError>>,
}

/// A handle to the thread, which ends with it: a module must not be in use while the process exits and the module's destructors run.
/// A token that hangs is not waited for longer than a signature.
pub(super) struct Worker {
    /// Taken when dropped.
    jobs: Mutex<Option<SyncSender<Job>>>,
    /// Disconnected once the thread has closed the device.
    ended: Mutex<Receiver<()>>,
    /// A job is being worked on, perhaps for ever.
    is_busy: Arc<AtomicBool>,
    limit: Duration,
}

impl Worker {
    /// Starts the thread and opens the device on it. The limits are those of opening and of a signature.
    pub(super) fn spawn<D: Device>(
        (open_limit, limit): (Duration, Duration),
        open: impl FnOnce() -> Result<(D, PublicKey), KeyError> + Send + 'static,
    ) -> Result<(Self, PublicKey), KeyError> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        let (opened, is_open) = mpsc::sync_channel(1);
        let (running, ended) = mpsc::channel::<()>();
        let is_busy = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_busy);
        let work = move || {
            let mut device = match open() {
                Ok((device, public)) => {
                    let _ = opened.send(Ok(public));
                    device
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            for job in queue {
                let signature = device.sign(&job.message);
                busy.store(false, Ordering::Release);
                // The signer may have given up.
                let _ = job.reply.send(signature);
            }
            drop(device);
            drop(running);
        };
        thread::Builder::new()
            .name("token".into())
            .spawn(work)
            .map_err(|e| unavailable(&format!("cannot start its thread: {e}")))?;
        let public = wait(&is_open, open_limit)?;
        let worker = Self {
            jobs: Mutex::new(Some(jobs)),
            ended: Mutex::new(ended),
            is_busy,
            limit,
        };
        Ok((worker, public))
    }

    /// Signs within the limit.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        // One at a time: another signer waits for this one's limit at most.
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_busy.swap(true, Ordering::Acquire) {
            // An earlier job was given up; what comes after it would only wait, too.
            return Err(TokenError::Hangs { limit: self.limit }.into());
        }
        let (reply, answer) = mpsc::sync_channel(1);
        let job = Job {
            message: message.to_vec(),
            reply,
        };
        let sent = jobs.as_ref().and_then(|jobs| jobs.send(job).ok());
        sent.ok_or_else(|| unavailable("its thread ended"))?;
        wait(&answer, self.limit)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: disconnected, or too late.
        let _ = ended.recv_timeout(self.limit);
    }
}

fn wait<T>(answer: &mpsc::Receiver<Result<T, KeyError>>, limit: Duration) -> Result<T, KeyError> {
    match answer.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(TokenError::Hangs { limit }.into()),
        Err(RecvTimeoutError::Disconnected) => Err(unavailable("its thread ended")),
    }
}

fn unavailable(reason: &str) -> KeyError {
    TokenError::Unavailable { reason: reason.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    /// A device that takes its answers from a channel, and hangs while the channel is empty.
    struct Scripted(mpsc::Receiver<Result<Vec<u8>, KeyError>>);

    impl Device for Scripted {
        fn sign(&mut self, _: &[u8]) -> Result<Vec<u8>, KeyError> {
            self.0.recv().unwrap()
        }
    }

    fn public() -> PublicKey {
        SigningKey::generate().unwrap().1.public()
    }

    #[test]
    fn a_token_that_hangs_blocks_nobody_for_ever_and_signs_again_once_it_answers() {
        let (script, answers) = mpsc::channel();
        let limits = (Duration::from_secs(60), Duration::from_millis(50));
        let (worker, _) = Worker::spawn(limits, move || Ok((Scripted(answers), public()))).unwrap();
        script.send(Ok(vec![1])).unwrap();
        assert_eq!(worker.sign(b"message").unwrap(), [1]);
        for _ in 0..3 {
            let error = worker.sign(b"message").unwrap_err();
            assert!(matches!(error, KeyError::Token(TokenError::Hangs { .. })), "{error}");
        }
        // The answer to the first that was given up; the others were never sent.
        script.send(Ok(vec![2])).unwrap();
        script.send(Ok(vec![3])).unwrap();
        let signature = loop {
            match worker.sign(b"message") {
                Ok(signature) => break signature,
                Err(_) => thread::yield_now(),
            }
        };
        assert_eq!(
            signature,
            [3],
            "a late signature is not taken for that of another message"
        );
    }

    #[test]
    fn a_module_that_never_opens_is_given_up() {
        let (script, answers) = mpsc::channel::<()>();
        let limits = (Duration::from_millis(50), Duration::from_millis(50));
        let open = move || -> Result<(Scripted, PublicKey), KeyError> {
            let _ = answers.recv();
            Err(unavailable("too late"))
        };
        let error = Worker::spawn(limits, open).err().unwrap();
        assert!(matches!(error, KeyError::Token(TokenError::Hangs { .. })), "{error}");
        drop(script);
    }
}
