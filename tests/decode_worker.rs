//! Decode workers, run by the real program: they give the frames that decoding in the own process gives, and what goes wrong in one costs one look.
#![cfg(all(feature = "gst", feature = "ort"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use gridwatch_base::error::Class;
use gridwatch_camera::{
    Backend, Codec, Keyframe,
    decode::{CrashLog, DecodeError, DecodeMode, DecodeWorkers, Decoder},
};
use gridwatch_frame::Frame;

const H264: &[u8] = include_bytes!("../src/cli/check/keyframe.h264");
const H265: &[u8] = include_bytes!("../src/cli/check/keyframe.h265");

fn mode() -> DecodeMode {
    mode_of(env!("CARGO_BIN_EXE_gridwatch").into())
}

fn mode_of(program: PathBuf) -> DecodeMode {
    DecodeMode::Workers(DecodeWorkers::new(program, CrashLog::default()))
}

fn decoder(mode: &DecodeMode) -> Decoder {
    Decoder::with_mode("decode0", Backend::Software, mode).unwrap()
}

fn keyframe(camera: &str, codec: Codec, data: &[u8]) -> Keyframe {
    Keyframe {
        camera: camera.into(),
        seq: 1,
        captured_at: jiff::Timestamp::UNIX_EPOCH,
        codec,
        data: data.to_vec().into(),
    }
}

/// An order to a debug build's worker; `n` tells pictures apart.
#[cfg(debug_assertions)]
fn fault(camera: &str, order: &str, n: u32) -> Keyframe {
    // Behind an intact picture, in a unit that decoders skip (filler data): damaged pictures are refused before a worker sees them.
    let unit = format!("\0\0\0\x01\x0cgridwatch-test-fault:{order} {n}");
    keyframe(camera, Codec::H264, &[H264, unit.as_bytes()].concat())
}

fn assert_same_picture(a: &Frame, b: &Frame) {
    assert_eq!((a.width, a.height, a.full_range), (b.width, b.height, b.full_range));
    assert!(a.layout == b.layout && a.matrix == b.matrix);
    assert_eq!(a.to_rgb().unwrap().into_raw(), b.to_rgb().unwrap().into_raw());
}

#[test]
fn a_worker_gives_the_same_frames_as_this_process() {
    let mut worker = decoder(&mode());
    let mut here = Decoder::new("decode0", Backend::Software).unwrap();
    // Twice: the second time the buffers exist.
    for (codec, data) in [
        (Codec::H264, H264),
        (Codec::H265, H265),
        (Codec::H264, H264),
        (Codec::H265, H265),
    ] {
        let keyframe = keyframe("cam", codec, data);
        assert_same_picture(&worker.decode(&keyframe).unwrap(), &here.decode(&keyframe).unwrap());
        assert_eq!(worker.element(codec), here.element(codec));
    }
}

#[test]
fn frames_that_are_kept_do_not_hold_up_the_next_and_are_not_overwritten() {
    let mut worker = decoder(&mode());
    let (a, b) = (keyframe("a", Codec::H264, H264), keyframe("b", Codec::H265, H265));
    let (first, other) = (worker.decode(&a).unwrap(), worker.decode(&b).unwrap());
    let before = (first.to_rgb().unwrap(), other.to_rgb().unwrap());
    assert_ne!(before.0, before.1);
    let kept: Vec<Frame> = (0..12).map(|_| worker.decode(&b).unwrap()).collect();
    assert!(kept.iter().all(|frame| frame.to_rgb().unwrap() == before.1));
    assert_eq!(first.to_rgb().unwrap(), before.0);
    drop((worker, kept));
    assert_eq!(other.to_rgb().unwrap(), before.1, "a frame outlives its worker");
}

#[test]
fn damaged_keyframes_are_errors_and_leave_the_worker_running() {
    let mut worker = decoder(&mode());
    for data in [&b""[..], b"no start code", &H264[..H264.len() / 2], &H265[..200]] {
        let result = worker.decode(&keyframe("cam", Codec::H264, data));
        assert!(matches!(result, Err(DecodeError::Damaged { .. })), "{result:?}");
    }
    worker.decode(&keyframe("cam", Codec::H264, H264)).unwrap();
}

#[test]
fn deep_samples_are_refused_by_name_before_decoding() {
    let deep = include_bytes!("fixtures/streams/gray10.h265");
    for mode in [mode(), DecodeMode::InProcess] {
        let error = decoder(&mode).decode(&keyframe("cam", Codec::H265, deep)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cam: unsupported format: 10-bit monochrome H.265 (range extensions); set the camera to 8 bit"
        );
        assert_eq!(error.class(), Class::Data);
    }
}

/// Two real streams that crash GStreamer 1.22's libav decoder: one with 10-bit monochrome samples, and one of 8 bits with one bit of its SPS flipped. Both
/// are refused by name. An SPS that is not used gets them past that check.
#[test]
fn streams_that_crash_the_native_decoder_cost_one_look() {
    let mode = mode();
    let mut worker = decoder(&mode);
    let good = keyframe("good", Codec::H265, H265);
    for (camera, stream) in [
        ("deep", &include_bytes!("fixtures/streams/gray10.h265")[..]),
        ("flipped", &include_bytes!("fixtures/streams/flipped_sps_bit.h265")[..]),
    ] {
        let error = worker.decode(&keyframe(camera, Codec::H265, stream)).unwrap_err();
        assert!(matches!(error, DecodeError::Unsupported { .. }), "{error}");
        let disguised = [sps(H265), stream].concat();
        match worker.decode(&keyframe(camera, Codec::H265, &disguised)) {
            Err(DecodeError::Crashed { cause, .. }) if cause.contains("SIGSEGV") => {}
            // A later GStreamer knows the formats, or reports them.
            Ok(_) | Err(DecodeError::Damaged { .. }) => continue,
            other => panic!("{camera}: {other:?}"),
        }
        worker.decode(&good).unwrap();
        let error = decoder(&mode)
            .decode(&keyframe("other", Codec::H265, &disguised))
            .unwrap_err();
        assert!(matches!(error, DecodeError::Known { .. }), "{error}");
    }
}

/// The SPS of an H.265 stream, with its start code.
fn sps(stream: &[u8]) -> &[u8] {
    let start = stream.windows(4).position(|w| w == [0, 0, 1, 33 << 1]).unwrap();
    let len = stream[start + 3..].windows(3).position(|w| w == [0, 0, 1]).unwrap();
    &stream[start..start + 3 + len]
}

#[test]
fn whatever_bit_of_a_parameter_set_is_flipped_the_next_keyframe_is_decoded() {
    for (codec, stream) in [(Codec::H264, H264), (Codec::H265, H265)] {
        let mut worker = decoder(&mode());
        let good = keyframe("good", codec, stream);
        let starts: Vec<usize> = (3..stream.len()).filter(|i| stream[i - 3..*i] == [0, 0, 1]).collect();
        let ends = starts[1..].iter().map(|next| next - 3);
        for (start, end) in starts.iter().copied().zip(ends) {
            let is_set = match codec {
                Codec::H264 => matches!(stream[start] & 31, 7 | 8),
                Codec::H265 => matches!(stream[start] >> 1 & 63, 32..=34),
            };
            for bit in (start * 8..end * 8).filter(|_| is_set) {
                let mut flipped = stream.to_vec();
                flipped[bit / 8] ^= 0x80 >> (bit % 8);
                let start = Instant::now();
                let result = worker.decode(&keyframe(&format!("bit-{bit}"), codec, &flipped));
                assert!(
                    !matches!(result, Err(DecodeError::NoWorker(_) | DecodeError::NoDecoder { .. })),
                    "{result:?}"
                );
                assert!(start.elapsed() < Duration::from_secs(2), "bit {bit}: {result:?}");
                worker.decode(&good).unwrap();
            }
        }
    }
}

#[test]
fn a_program_that_is_no_worker_is_a_failed_start_and_blames_no_keyframe() {
    for program in ["/bin/true", "/does/not/exist"] {
        let mut decoder = decoder(&mode_of(program.into()));
        let error = decoder.decode(&keyframe("cam", Codec::H264, H264)).unwrap_err();
        assert!(matches!(error, DecodeError::NoWorker(_)), "{error}");
        let error = decoder.decode(&keyframe("cam", Codec::H264, H264)).unwrap_err();
        assert!(error.to_string().contains("trying again in"), "{error}");
        assert_eq!(error.class(), Class::Transient);
        std::thread::sleep(Duration::from_millis(1100));
        let error = decoder.decode(&keyframe("cam", Codec::H264, H264)).unwrap_err();
        assert!(!error.to_string().contains("trying again in"), "{error}");
    }
}

/// The picture of each order is refused the next time without a worker seeing it, and other cameras go on at once.
#[cfg(debug_assertions)]
#[test]
fn a_worker_that_crashes_hangs_leaks_or_lies_costs_one_look() {
    let orders = [
        ("crash", "signal: 6"),
        ("exit", "exit status: 7"),
        ("execute", "signal: 31"),
        ("hang", "no answer for 3s"),
        ("spin", "no answer for 3s"),
        ("leak", "signal: 6"),
        ("large", "invalid answer"),
        ("huge", "invalid answer"),
        ("empty", "invalid answer"),
        ("noise", "invalid answer"),
        ("greedy", "invalid answer"),
        ("insatiable", "invalid answer"),
    ];
    let mode = mode();
    let mut worker = decoder(&mode);
    let good = keyframe("good", Codec::H264, H264);
    worker.decode(&good).unwrap();
    for (i, (order, cause)) in orders.into_iter().enumerate() {
        let bad = fault(&format!("bad-{i}"), order, 0);
        let start = Instant::now();
        match worker.decode(&bad) {
            Err(DecodeError::Crashed { cause: found, .. }) if found.contains(cause) => {}
            other => panic!("{order}: {other:?}"),
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{order}: {:?}",
            start.elapsed()
        );
        worker.decode(&good).unwrap();
        // Nor by the decoder of another look worker, nor from another camera.
        let again = fault("other", order, 0);
        let error = decoder(&mode).decode(&again).unwrap_err();
        assert!(matches!(error, DecodeError::Known { .. }), "{order}: {error}");
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_camera_that_ends_three_workers_is_set_aside_and_the_others_go_on() {
    let mut worker = decoder(&mode());
    for n in 0..3 {
        match worker.decode(&fault("bad", "crash", n)) {
            Err(DecodeError::Crashed { set_aside_until, .. }) => assert_eq!(set_aside_until.is_some(), n == 2),
            other => panic!("{other:?}"),
        }
    }
    let error = worker.decode(&keyframe("bad", Codec::H264, H264)).unwrap_err();
    assert!(matches!(error, DecodeError::SetAside { .. }), "{error}");
    worker.decode(&keyframe("good", Codec::H264, H264)).unwrap();
}

/// The worker tries to read, write and connect, and names what it could.
#[cfg(debug_assertions)]
#[test]
fn a_worker_reaches_no_files_and_no_network() {
    let mut worker = decoder(&mode());
    match worker.decode(&fault("cam", "reach", 0)) {
        Err(DecodeError::Damaged { what, .. }) => assert_eq!(what, "confined true"),
        other => panic!("{other:?}"),
    }
}

/// The process of a worker, as the kernel shows it.
#[test]
fn a_worker_has_its_socket_and_no_more_and_ends_with_its_decoder() {
    let mut worker = Decoder::with_mode("alone", Backend::Software, &mode()).unwrap();
    worker.decode(&keyframe("cam", Codec::H264, H264)).unwrap();
    let pid = child("alone");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    assert_eq!(
        (field("Name"), field("NoNewPrivs"), field("Seccomp")),
        ("alone".into(), "1".into(), "2".into())
    );
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_ascii_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(
        ["Max core file size", "Max file size", "Max open files"].map(limit),
        ["0", "0", "64"]
    );
    for bounded in ["Max address space", "Max data size"] {
        assert_ne!(limit(bounded), "unlimited", "{bounded}");
    }
    let descriptors: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap().display().to_string())
        .collect();
    // Its standard streams, and the pairs of sockets that GStreamer wakes its threads with.
    let is_known = |d: &String| ["socket:", "/dev/null", "anon_inode:"].iter().any(|k| d.starts_with(k));
    assert!(descriptors.iter().all(is_known), "{descriptors:?}");
    let others = std::fs::read_to_string("/proc/net/unix").unwrap();
    let inode = |d: &str| d.trim_start_matches("socket:[").trim_end_matches(']').to_owned();
    for socket in descriptors.iter().filter(|d| d.starts_with("socket:")) {
        assert!(others.contains(&inode(socket)), "a UNIX socket: {socket}");
    }
    drop(worker);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

/// The child process of this name.
fn child(name: &str) -> u32 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let children = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    let children: Vec<u32> = children
        .flat_map(|ids| {
            ids.split_ascii_whitespace()
                .map(|id| id.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .filter(|id| std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name))
        .collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

/// What a worker costs beside decoding in the own process, in turns on the same 1080p keyframes: CPU time of both processes, and the memory
/// that only the worker has. `GRIDWATCH_CLIP` names the clip, `GRIDWATCH_PROGRAM` another program for the worker; `cargo test --release --test decode_worker price -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn price_of_a_worker() {
    let clip = std::env::var("GRIDWATCH_CLIP").expect("GRIDWATCH_CLIP names a clip");
    let clip = gridwatch_farm::clip(clip).unwrap();
    let keyframes: Vec<Keyframe> = clip
        .units()
        .iter()
        .filter(|u| u.keyframe)
        .map(|u| keyframe("cam", clip.codec(), &u.data))
        .collect();
    let program = std::env::var_os("GRIDWATCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_gridwatch").into());
    let mode = mode_of(program.into());
    let mut worker = decoder(&mode);
    let mut here = Decoder::new("decode0", Backend::Software).unwrap();
    // Buffers, libraries and caches are warm before it counts.
    for keyframe in &keyframes {
        assert_same_picture(&worker.decode(keyframe).unwrap(), &here.decode(keyframe).unwrap());
    }
    let pid = child("decode0");
    // Another process of the program, as the daemon is one: it shares the code.
    let mut other = Decoder::with_mode("decode1", Backend::Software, &mode).unwrap();
    other.decode(&keyframes[0]).unwrap();
    let cpu_ms = |pid: &str| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let ns = tasks.filter_map(|t| {
            let text = std::fs::read_to_string(t.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        ns.sum::<u64>() as f64 / 1e6
    };
    let both = || cpu_ms("self") + cpu_ms(&pid.to_string());
    let looks = 20 * keyframes.len();
    let (mut in_worker, mut in_process) = (0.0, 0.0);
    for _ in 0..20 {
        for keyframe in &keyframes {
            let before = both();
            worker.decode(keyframe).unwrap();
            let between = both();
            here.decode(keyframe).unwrap();
            (in_worker, in_process) = (in_worker + between - before, in_process + both() - between);
        }
    }
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|l| l.starts_with("Private_"));
    let kib: f64 = private
        .map(|l| l.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap())
        .sum();
    println!(
        "{looks} looks: in this process {:.2} ms, in a worker {:.2} ms ({:+.1} %); worker alone {:.1} MB",
        in_process / looks as f64,
        in_worker / looks as f64,
        100.0 * (in_worker / in_process - 1.0),
        kib * 1024.0 / 1e6
    );
}
