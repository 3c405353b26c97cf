//! A Tokio runtime that can be dropped in an async context, such as a failed start: dropping a plain one there panics.

use tokio::runtime::{Handle, Runtime};

/// Ends its tasks on drop, without waiting for them.
pub(super) struct OwnedRuntime(Option<Runtime>);

impl OwnedRuntime {
    pub(super) fn new(runtime: Runtime) -> Self {
        Self(Some(runtime))
    }

    pub(super) fn handle(&self) -> &Handle {
        self.0.as_ref().expect(PRESENT).handle()
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect(PRESENT).block_on(future)
    }
}

const PRESENT: &str = "only drop takes the runtime";

impl Drop for OwnedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_can_be_dropped_in_an_async_context() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        drop(OwnedRuntime::new(runtime));
    }
}
