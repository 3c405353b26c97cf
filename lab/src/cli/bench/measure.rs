//! CPU time and memory of a process from `/proc`, and lateness from the daemon's metrics.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use gridwatch_base::metric;

/// User plus system time in ms, by the purpose of the thread.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cpu {
    pub(super) receive_ms: f64,
    pub(super) decode_ms: f64,
    pub(super) detect_ms: f64,
    /// The whole process, including threads that have ended.
    pub(super) all_ms: f64,
}

impl Cpu {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            receive_ms: self.receive_ms - earlier.receive_ms,
            decode_ms: self.decode_ms - earlier.decode_ms,
            detect_ms: self.detect_ms - earlier.detect_ms,
            all_ms: self.all_ms - earlier.all_ms,
        }
    }

    pub(super) fn per(self, camera_seconds: f64) -> Self {
        Self {
            receive_ms: self.receive_ms / camera_seconds,
            decode_ms: self.decode_ms / camera_seconds,
            detect_ms: self.detect_ms / camera_seconds,
            all_ms: self.all_ms / camera_seconds,
        }
    }
}

/// The CPU time of a process and its children, which are the daemon's decode workers.
pub(super) fn cpu_with_workers(pid: u32) -> io::Result<Cpu> {
    let mut cpu = cpu(pid)?;
    for worker in children(pid) {
        // One that has ended is left out.
        if let Ok(used) = self::cpu(worker) {
            cpu.decode_ms += used.all_ms;
            cpu.all_ms += used.all_ms;
        }
    }
    Ok(cpu)
}

/// The processes whose parent is `pid`.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let parent = |stat: &str| -> Option<u32> {
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let processes = fs::read_dir("/proc").into_iter().flatten();
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat"));
            stat.ok().and_then(|stat| parent(&stat)) == Some(pid)
        })
        .collect()
}

/// Memory that no other process has, in MB (10⁶ bytes).
pub(super) fn unique_mb(pid: u32) -> io::Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let private = rollup.lines().filter(|l| l.starts_with("Private_"));
    let kib = private.filter_map(|l| l.split_ascii_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(kib.sum::<f64>() * 1024.0 / 1e6)
}

/// Reads `/proc/PID`. Threads are told apart by the names the daemon gives them: `receive`, `look-N`, and `decode…` for
/// the streaming threads in which GStreamer decodes.
pub(super) fn cpu(pid: u32) -> io::Result<Cpu> {
    let mut cpu = Cpu {
        all_ms: stat_ms(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?,
        ..Cpu::default()
    };
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let dir = task?.path();
        // A thread may end in between; its time is in `all_ms`.
        let (Ok(name), Ok(stat)) = (
            fs::read_to_string(dir.join("comm")),
            fs::read_to_string(dir.join("stat")),
        ) else {
            continue;
        };
        let ms = stat_ms(&stat)?;
        match name.trim() {
            n if n.starts_with("receive") => cpu.receive_ms += ms,
            n if n.starts_with("decode") => cpu.decode_ms += ms,
            n if n.starts_with("look-") => cpu.detect_ms += ms,
            _ => {}
        }
    }
    Ok(cpu)
}

/// `utime + stime` of a stat line in ms (proc_pid_stat(5), fields 14 and 15).
fn stat_ms(stat: &str) -> io::Result<f64> {
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a /proc stat line without utime and stime");
    // The second field is the name in parentheses and may hold spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(malformed)?;
    let mut fields = fields.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(utime)), Some(Ok(stime))) => Ok((utime + stime) * 1000.0 / ticks_per_second),
        _ => Err(malformed()),
    }
}

/// Resident memory in MB (10⁶ bytes).
pub(super) fn resident_mb(pid: u32) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|l| {
            l.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<f64>()
                .ok()
        })
        .map(|kib| kib * 1024.0 / 1e6)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no VmRSS in /proc status"))
}

/// Samples of a Prometheus exposition, by `name{labels}`.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Scrapes the daemon on `port`.
    pub(super) fn fetch(port: u16) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // HTTP/1.0: the response ends with the connection and is never chunked.
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(Self::parse(
            response.split_once("\r\n\r\n").map_or("", |(_, body)| body),
        ))
    }

    fn parse(body: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(
            body.lines()
                .filter(|l| !l.starts_with('#'))
                .filter_map(sample)
                .collect(),
        )
    }

    /// Number of samples of `metric` above zero.
    pub(super) fn series(&self, metric: &str) -> usize {
        self.of(metric).filter(|(_, v)| *v > 0.0).count()
    }

    /// The sum of `metric` over its labels.
    pub(super) fn total(&self, metric: &str) -> f64 {
        self.of(metric).map(|(_, v)| v).sum()
    }

    fn of<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0
            .range(metric.to_owned()..)
            .map(|(n, v)| (n.as_str(), *v))
            .take_while(move |(n, _)| n.starts_with(metric))
            .filter(move |(n, _)| {
                let rest = &n[metric.len()..];
                rest.is_empty() || rest.starts_with('{')
            })
    }

    /// The `q` quantile (0..=1) of look lateness since `earlier`, in ms, by linear interpolation inside its bucket.
    pub(super) fn lateness_ms(&self, earlier: &Self, q: f64) -> Option<f64> {
        let bucket = format!("{}_bucket", metric::LATENESS);
        let before: BTreeMap<_, _> = earlier.of(&bucket).collect();
        let mut buckets: Vec<(f64, f64)> = self
            .of(&bucket)
            .filter_map(|(name, count)| {
                let bound = name.split_once("le=\"")?.1.split('"').next()?;
                let bound = if bound == "+Inf" {
                    f64::INFINITY
                } else {
                    bound.parse().ok()?
                };
                Some((bound, count - before.get(name).copied().unwrap_or(0.0)))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rank = q * buckets.last().filter(|(_, n)| *n > 0.0)?.1;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= rank {
                let inside = if count > below {
                    (rank - below) / (count - below)
                } else {
                    1.0
                };
                let high = if bound.is_finite() { bound } else { low };
                return Some((low + (high - low) * inside) * 1000.0);
            }
            (low, below) = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let tail = "S 1 1 1 0 -1 0 0 0 0 0 30 20 0 0 20 0 1 0 0 0 0";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(stat_ms(&format!("7 (a) b) {tail}")).unwrap(), 50.0 * 1000.0 / ticks);
        assert!(stat_ms("7 nothing").is_err());
    }

    #[test]
    fn memory_and_cpu_of_the_own_process_are_read() {
        let pid = std::process::id();
        assert!(resident_mb(pid).unwrap() > 0.5);
        assert!(cpu(pid).is_ok());
    }

    #[test]
    fn lateness_counts_only_samples_since_the_earlier_scrape() {
        let text = |a, b, c| {
            format!(
                "# HELP x\n{0}_bucket{{le=\"0.01\"}} {a}\n{0}_bucket{{le=\"0.02\"}} {b}\n{0}_bucket{{le=\"+Inf\"}} {c}\n{0}_count {c}\n",
                metric::LATENESS
            )
        };
        let (first, last) = (Scrape::parse(&text(100, 100, 100)), Scrape::parse(&text(100, 110, 110)));
        assert_eq!(last.lateness_ms(&first, 0.5), Some(15.0));
        assert_eq!(first.lateness_ms(&first, 0.5), None);
    }

    #[test]
    fn a_metric_is_not_confused_with_one_that_shares_its_prefix() {
        let scrape = Scrape::parse("looks_total{camera=\"a\"} 2\nlooks_total{camera=\"b\"} 0\nlooks_total_x 9\n");
        assert_eq!((scrape.series("looks_total"), scrape.total("looks_total")), (1, 2.0));
    }
}
