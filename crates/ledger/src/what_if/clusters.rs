//! Clusters of cameras that can be judged apart: at the same time, on all cores, and each with its own cases only.
//!
//! # Why it is exact
//!
//! Cameras affect each other through the cases of one site, and through the daily caps. Two cameras can share a site only if places of
//! their candidates and cases lie within reach of a rule. A first guess puts cameras together by what they look at. Each run then
//! knows where candidates were compared with cases; clusters that come within reach of each other are joined and judged again, and stay
//! joined. Caps are counted afterwards over all clusters; if one may have been met, all cameras are judged together (`judge`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Task, WhatIfError, result::RunResult, run::RunRequest, table::LookTable};
use gridwatch_engine::{CameraId, CameraPlan, Place, Plan, Point, SiteExtent};

/// Points across a calibrated picture for the first guess of what it shows.
const SAMPLES: u32 = 8;

/// Cameras that are judged together.
#[derive(Debug)]
pub(super) struct Cluster {
    /// For each camera of the table whether it is one of them.
    has: Vec<bool>,
    /// Their looks.
    looks: Looks,
}

#[derive(Debug)]
enum Looks {
    /// The number of looks.
    All(u32),
    /// By index.
    Some(Vec<u32>),
}

impl Cluster {
    fn whole(table: &LookTable) -> Self {
        Self {
            has: vec![true; table.cameras.len()],
            looks: Looks::All(table.looks.len() as u32),
        }
    }

    /// True if it has the camera with this number.
    pub(super) fn has(&self, camera: usize) -> bool {
        self.has.get(camera).is_some_and(|has| *has)
    }

    pub(super) fn contains(&self, table: &LookTable, camera: &CameraId) -> bool {
        let number = table.cameras.iter().position(|id| id == camera);
        number.is_some_and(|number| self.has(number))
    }

    /// The indices of its looks, ascending.
    pub(super) fn looks(&self) -> impl Iterator<Item = u32> {
        let (all, some) = match &self.looks {
            Looks::All(count) => (0..*count, &[][..]),
            Looks::Some(looks) => (0..0, &looks[..]),
        };
        all.chain(some.iter().copied())
    }

    fn count(&self) -> usize {
        match &self.looks {
            Looks::All(count) => *count as usize,
            Looks::Some(looks) => looks.len(),
        }
    }
}

/// The clusters as they are known so far.
#[derive(Debug)]
pub(super) struct Clusters {
    all: RwLock<Vec<Arc<Cluster>>>,
    whole: Arc<Cluster>,
}

impl Clusters {
    /// A first guess.
    pub(super) fn new(table: &LookTable, plan: &Plan) -> Self {
        let radius = merge_radius_m(plan);
        let extents: Vec<Option<SiteExtent>> = table
            .cameras
            .iter()
            .map(|id| plan.cameras.get(id).map(view_extent))
            .collect();
        // Cameras that are not configured any more have no candidates, only cases.
        let group = grouped(&extents, radius);
        Self {
            all: RwLock::new(clusters(table, &group)),
            whole: Arc::new(Cluster::whole(table)),
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.all.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Runs a request on up to so many threads: by clusters, or all cameras together.
    pub(super) fn run(
        &self,
        request: &RunRequest<'_>,
        is_whole: bool,
        threads: usize,
        task: &Task<'_>,
        progress: &(dyn Fn(f64) + Sync),
    ) -> Result<RunResult, WhatIfError> {
        if is_whole {
            let whole = vec![Arc::clone(&self.whole)];
            let mut results = run_each(request, &whole, threads, task, progress)?;
            return Ok(results.pop().map(|(_, result)| result).unwrap_or_default());
        }
        let radius = merge_radius_m(request.plan);
        let mut due = self.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut results: Vec<(Arc<Cluster>, RunResult)> = Vec::new();
        loop {
            results.extend(run_each(request, &due, threads, task, progress)?);
            let extents: Vec<Option<SiteExtent>> = results.iter().map(|(_, result)| result.extent).collect();
            let group = grouped(&extents, radius);
            let mut groups: BTreeMap<usize, Vec<(Arc<Cluster>, RunResult)>> = BTreeMap::new();
            for (group, result) in group.into_iter().zip(results) {
                groups.entry(group).or_default().push(result);
            }
            (due, results) = (Vec::new(), Vec::new());
            for mut of_group in groups.into_values() {
                if of_group.len() == 1 {
                    results.append(&mut of_group);
                    continue;
                }
                let mut of_camera = vec![1; request.table.cameras.len()];
                for (camera, group) in of_camera.iter_mut().enumerate() {
                    if of_group.iter().any(|(cluster, _)| cluster.has(camera)) {
                        *group = 0;
                    }
                }
                due.extend(clusters(request.table, &of_camera).into_iter().take(1));
            }
            if due.is_empty() {
                break;
            }
            let known = results.iter().map(|(cluster, _)| cluster).chain(&due);
            *self.all.write().unwrap_or_else(PoisonError::into_inner) = known.cloned().collect();
        }
        let mut all = RunResult::default();
        for (_, result) in results {
            all.join(result);
        }
        // A look is one of one cluster, so this keeps the order of its changes.
        all.changes.sort_by_key(|change| change.look);
        Ok(all)
    }
}

/// Runs the request for each cluster, on up to so many threads.
fn run_each(
    request: &RunRequest<'_>,
    clusters: &[Arc<Cluster>],
    threads: usize,
    task: &Task<'_>,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Vec<(Arc<Cluster>, RunResult)>, WhatIfError> {
    let total: usize = clusters.iter().map(|cluster| cluster.count()).sum();
    let done = AtomicUsize::new(0);
    // The largest first, so that none is left over at the end.
    let mut order: Vec<&Arc<Cluster>> = clusters.iter().collect();
    order.sort_by_key(|cluster| std::cmp::Reverse(cluster.count()));
    in_parallel(order.len(), threads, |index| {
        let result = request.run(order[index], task, |looks| {
            let done = done.fetch_add(looks, Ordering::Relaxed) + looks;
            progress(done as f64 / total.max(1) as f64);
        });
        Ok((Arc::clone(order[index]), result?))
    })
}

/// The results of `work` for `0..count`, in order, on up to so many threads.
pub(super) fn in_parallel<T: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> Result<T, WhatIfError> + Sync,
) -> Result<Vec<T>, WhatIfError> {
    let threads = threads.min(count);
    if threads <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(results);
            }
            results.push((index, work(index)?));
        }
    };
    let results: Vec<Result<Vec<(usize, T)>, WhatIfError>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(WhatIfError::Cancelled)));
        joined.collect()
    });
    let all = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<_> = all.into_iter().flatten().collect();
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

fn merge_radius_m(plan: &Plan) -> f64 {
    plan.rules.iter().map(|rule| rule.merge_radius_m).fold(0.0, f64::max)
}

/// About what a camera's candidates lie in.
fn view_extent(camera: &CameraPlan) -> SiteExtent {
    let (fixed, calibrated) = match &camera.place {
        Place::Fixed(fixed) => (fixed, None),
        Place::Calibrated {
            calibration,
            max_uncertainty_m,
            fallback,
        } => (fallback, Some((calibration, *max_uncertainty_m))),
    };
    let mut extent = SiteExtent::at(fixed.at, fixed.uncertainty_m);
    if let Some((calibration, limit)) = calibrated {
        for n in 0..(SAMPLES + 1) * (SAMPLES + 1) {
            let share = |n: u32| f64::from(n) / f64::from(SAMPLES);
            let point = Point {
                x: share(n % (SAMPLES + 1)),
                y: share(n / (SAMPLES + 1)),
            };
            if let Some((at, uncertainty_m)) = calibration.ground(point).filter(|(_, m)| *m <= limit) {
                extent.join(&SiteExtent::at(at, uncertainty_m));
            }
        }
    }
    extent
}

/// For each extent the number of its group: those that may share a site, directly or through others. What has none is by itself.
fn grouped(extents: &[Option<SiteExtent>], radius: f64) -> Vec<usize> {
    let mut group: Vec<usize> = (0..extents.len()).collect();
    for (a, first) in extents.iter().enumerate() {
        for (b, second) in extents.iter().enumerate().skip(a + 1) {
            let (Some(first), Some(second)) = (first, second) else {
                continue;
            };
            let (of_a, of_b) = (group[a], group[b]);
            if of_a != of_b && first.may_share_site(second, radius) {
                let least = of_a.min(of_b);
                group
                    .iter_mut()
                    .filter(|g| **g == of_a || **g == of_b)
                    .for_each(|g| *g = least);
            }
        }
    }
    group
}

/// The clusters of the groups that `group` puts each camera into, by group.
fn clusters(table: &LookTable, group: &[usize]) -> Vec<Arc<Cluster>> {
    let groups = group.iter().max().map_or(0, |max| max + 1);
    let mut looks = vec![Vec::new(); groups];
    for (index, row) in (0..).zip(&table.looks) {
        looks[group[usize::from(row.camera)]].push(index);
    }
    let of_groups = looks.into_iter().enumerate().map(|(number, looks)| Cluster {
        has: group.iter().map(|g| *g == number).collect(),
        looks: Looks::Some(looks),
    });
    of_groups
        .filter(|cluster| cluster.has.iter().any(|has| *has))
        .map(Arc::new)
        .collect()
}
