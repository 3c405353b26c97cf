//! Long computations that requests share: whoever asks for the same thing waits for the same run, and finds its result for some time after.
//!
//! A run ends early when nobody has waited for it for some seconds: the browser went, or asks for something else. Runs and results are
//! bounded in number; results are dropped when nobody has asked for them for some time. A run is on a thread of its own and is told to end by
//! [`Task::cancelled`].

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use gridwatch_ledger::history::Task;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task,
    time::{Instant, sleep, timeout},
};

use super::LedgerFault;

/// A run that nobody has waited for this long is ended. A page that shows progress asks again within a second.
const ABANDONED: Duration = Duration::from_secs(6);
/// If another run needs its place, that of a run that nobody has waited for this long is taken.
const DISPLACED: Duration = Duration::from_secs(2);
/// A failure is kept this long, so that a page that asks again learns of it instead of starting anew.
const KEEP_FAILURE: Duration = Duration::from_secs(10);
/// How often runs and results are looked after.
const TICK: Duration = Duration::from_millis(500);

/// How much is kept, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkLimits {
    /// Runs at the same time.
    pub(crate) running: usize,
    /// Runs and results together; at least `running`.
    pub(crate) entries: usize,
    /// A result that nobody has asked for this long is dropped.
    pub(crate) keep: Duration,
    /// An older result is computed anew when it is asked for.
    pub(crate) max_age: Duration,
}

/// Shared runs and their results.
pub(crate) struct SharedWork<K, T> {
    limits: WorkLimits,
    places: Arc<Semaphore>,
    entries: Mutex<Vec<(K, Arc<Run<T>>)>>,
}

/// How far a run is.
pub(crate) enum Progress<T> {
    /// Its result.
    Done(Arc<T>),
    /// The finished share, in thousandths.
    Running(u32),
}

type RunResult<T> = Option<Result<Arc<T>, LedgerFault>>;

struct Run<T> {
    started_at: Instant,
    cancelled: AtomicBool,
    /// In thousandths.
    progress: AtomicU32,
    usage: Mutex<Usage>,
    result: watch::Sender<RunResult<T>>,
}

struct Usage {
    waiting: usize,
    last_at: Instant,
}

/// Somebody who waits for a run, or uses its result.
struct Waiter<'a, T>(&'a Run<T>);

impl<'a, T> Waiter<'a, T> {
    fn new(run: &'a Run<T>) -> Self {
        run.usage().waiting += 1;
        Self(run)
    }
}

impl<T> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        let mut usage = self.0.usage();
        usage.waiting -= 1;
        usage.last_at = Instant::now();
    }
}

impl<T> Run<T> {
    fn new() -> Self {
        Self {
            started_at: Instant::now(),
            cancelled: AtomicBool::new(false),
            progress: AtomicU32::new(0),
            usage: Mutex::new(Usage {
                waiting: 0,
                last_at: Instant::now(),
            }),
            result: watch::Sender::new(None),
        }
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long nobody has waited for it or asked for its result.
    fn unused_for(&self) -> Duration {
        let usage = self.usage();
        match usage.waiting {
            0 => usage.last_at.elapsed(),
            _ => Duration::ZERO,
        }
    }

    fn is_done(&self) -> bool {
        self.result.borrow().is_some()
    }

    fn has_failed(&self) -> bool {
        matches!(&*self.result.borrow(), Some(Err(_)))
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl<K, T> SharedWork<K, T>
where
    K: PartialEq + Send + 'static,
    T: Send + Sync + 'static,
{
    pub(crate) fn new(limits: WorkLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            places: Arc::new(Semaphore::new(limits.running)),
            entries: Mutex::default(),
        })
    }

    /// The result of `work`, or of a run with the same key that there was already, after waiting for at most `patience`.
    ///
    /// # Errors
    /// That of the work. Without a place for another run in time, it is as if the run had begun: whoever asks again gets one at last.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: K,
        patience: Duration,
        work: impl FnOnce(Task<'_>) -> Result<T, LedgerFault> + Send + 'static,
    ) -> Result<Progress<T>, LedgerFault> {
        let run = match self.find(&key) {
            Some(run) => run,
            None => {
                let Some(place) = self.place(patience).await else {
                    return Ok(Progress::Running(0));
                };
                // Another request may have started it while this one waited for a place.
                match self.find(&key) {
                    Some(run) => run,
                    None => self.start(key, place, work),
                }
            }
        };
        let _waiter = Waiter::new(&run);
        let mut result = run.result.subscribe();
        let done = timeout(patience, result.wait_for(Option::is_some)).await;
        match done {
            Err(_) => Ok(Progress::Running(run.progress.load(Ordering::Relaxed))),
            Ok(Err(_)) => Err(LedgerFault::Cancelled),
            Ok(Ok(result)) => match &*result {
                Some(Ok(value)) => Ok(Progress::Done(Arc::clone(value))),
                Some(Err(fault)) => Err(fault.clone()),
                None => Err(LedgerFault::Cancelled),
            },
        }
    }

    /// Number of runs and results.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries().len()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<(K, Arc<Run<T>>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run with this key that can be waited for.
    fn find(&self, key: &K) -> Option<Arc<Run<T>>> {
        let mut entries = self.entries();
        let max_age = self.limits.max_age;
        entries.retain(|(known, run)| known != key || !run.is_done() || run.started_at.elapsed() < max_age);
        let found = entries.iter().find(|(known, _)| known == key)?;
        Some(Arc::clone(&found.1))
    }

    /// A place for another run; takes that of one that nobody waits for.
    async fn place(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        {
            let mut entries = self.entries();
            entries.retain(|(_, run)| {
                let is_displaced = !run.is_done() && run.unused_for() >= DISPLACED;
                if is_displaced {
                    run.cancel();
                }
                !is_displaced
            });
        }
        let place = timeout(patience, Arc::clone(&self.places).acquire_owned()).await;
        place.ok()?.ok()
    }

    fn start(
        self: &Arc<Self>,
        key: K,
        place: OwnedSemaphorePermit,
        work: impl FnOnce(Task<'_>) -> Result<T, LedgerFault> + Send + 'static,
    ) -> Arc<Run<T>> {
        let run = Arc::new(Run::new());
        {
            let mut entries = self.entries();
            // What was unused for longest makes room. A result in use lives on until its user has done with it.
            while entries.len() >= self.limits.entries {
                let done = entries.iter().enumerate().filter(|(_, (_, run))| run.is_done());
                let Some((oldest, _)) = done.max_by_key(|(_, (_, run))| run.unused_for()) else {
                    break;
                };
                entries.remove(oldest);
            }
            entries.push((key, Arc::clone(&run)));
        }
        let working = Arc::clone(&run);
        task::spawn_blocking(move || {
            let set = |share: f64| {
                working
                    .progress
                    .store((share.clamp(0.0, 1.0) * 1000.0) as u32, Ordering::Relaxed);
            };
            let result = work(Task {
                cancelled: &working.cancelled,
                progress: &set,
            });
            working.usage().last_at = Instant::now();
            working.result.send_replace(Some(result.map(Arc::new)));
            drop(place);
        });
        let (shared, watched) = (Arc::downgrade(self), Arc::clone(&run));
        task::spawn(async move {
            loop {
                sleep(TICK).await;
                let Some(shared) = shared.upgrade() else {
                    return watched.cancel();
                };
                if !shared.is_kept(&watched) {
                    return;
                }
            }
        });
        run
    }

    /// Ends a run that nobody waits for, and drops a result that nobody has asked for.
    fn is_kept(&self, run: &Arc<Run<T>>) -> bool {
        let mut entries = self.entries();
        let Some(index) = entries.iter().position(|(_, known)| Arc::ptr_eq(known, run)) else {
            // Displaced, or computed anew.
            return false;
        };
        let limit = match (run.is_done(), run.has_failed()) {
            (false, _) => ABANDONED,
            (true, true) => KEEP_FAILURE,
            (true, false) => self.limits.keep,
        };
        if run.unused_for() < limit {
            return true;
        }
        run.cancel();
        entries.remove(index);
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn work(limits: WorkLimits) -> Arc<SharedWork<u32, u32>> {
        SharedWork::new(limits)
    }

    fn limits() -> WorkLimits {
        WorkLimits {
            running: 1,
            entries: 2,
            keep: LONG,
            max_age: LONG,
        }
    }

    /// Runs until it is told to end.
    fn endless(task: Task<'_>) -> Result<u32, LedgerFault> {
        while !task.cancelled.load(Ordering::Relaxed) {
            (task.progress)(0.25);
            std::thread::yield_now();
        }
        Err(LedgerFault::Cancelled)
    }

    fn value(progress: Result<Progress<u32>, LedgerFault>) -> u32 {
        match progress.unwrap() {
            Progress::Done(value) => *value,
            Progress::Running(share) => panic!("runs: {share}"),
        }
    }

    #[tokio::test]
    async fn requests_for_the_same_thing_share_one_run() {
        let (shared, runs) = (work(limits()), Arc::new(AtomicUsize::new(0)));
        let ask = |key| {
            let (shared, runs) = (Arc::clone(&shared), Arc::clone(&runs));
            async move {
                let count = move |_: Task<'_>| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    Ok(key)
                };
                value(shared.get(key, LONG, count).await)
            }
        };
        assert_eq!(tokio::join!(ask(7), ask(7), ask(7)), (7, 7, 7));
        assert_eq!((ask(7).await, runs.load(Ordering::Relaxed)), (7, 1));
        assert_eq!((ask(8).await, runs.load(Ordering::Relaxed)), (8, 2));
        // The third makes the first go.
        assert_eq!((ask(9).await, shared.len()), (9, 2));
        assert_eq!((ask(7).await, runs.load(Ordering::Relaxed)), (7, 4));
    }

    #[tokio::test]
    async fn a_run_that_nobody_waits_for_ends_and_makes_room() {
        let shared = work(limits());
        let short = Duration::from_millis(1);
        assert!(matches!(shared.get(1, short, endless).await, Ok(Progress::Running(_))));
        assert!(matches!(
            shared.get(2, short, |_| Ok(2)).await,
            Ok(Progress::Running(0))
        ));
        // The first is displaced or abandoned in time.
        let mut answer = shared.get(2, short, |_| Ok(2)).await;
        while matches!(answer, Ok(Progress::Running(_))) {
            answer = shared.get(2, Duration::from_millis(100), |_| Ok(2)).await;
        }
        assert_eq!(value(shared.get(2, LONG, |_| Ok(3)).await), 2);
        assert_eq!(shared.len(), 1);
    }

    #[tokio::test]
    async fn a_request_that_goes_ends_its_run() {
        let shared = work(limits());
        let asking = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move { drop(shared.get(1, LONG, endless).await) }
        });
        while shared.len() == 0 {
            task::yield_now().await;
        }
        asking.abort();
        while shared.len() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(value(shared.get(1, LONG, |_| Ok(4)).await), 4);
    }

    #[tokio::test]
    async fn a_result_is_dropped_when_unused_and_computed_anew_when_old() {
        let shared = work(WorkLimits {
            keep: Duration::ZERO,
            ..limits()
        });
        assert_eq!(value(shared.get(1, LONG, |_| Ok(1)).await), 1);
        while shared.len() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        let shared = work(WorkLimits {
            max_age: Duration::ZERO,
            ..limits()
        });
        assert_eq!(value(shared.get(1, LONG, |_| Ok(1)).await), 1);
        assert_eq!(value(shared.get(1, LONG, |_| Ok(2)).await), 2);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_those_who_ask_again() {
        let shared = work(limits());
        for _ in 0..2 {
            let failed = shared.get(1, LONG, |_| Err(LedgerFault::Empty)).await;
            assert!(matches!(failed, Err(LedgerFault::Empty)));
        }
    }
}
