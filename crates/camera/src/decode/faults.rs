//! Faults that a test orders a decode worker to have, by a picture or a source's URL that ends with [`MAGIC`] and the order. In debug builds only.

use std::{fs::File, net::TcpStream, os::unix::process::CommandExt, time::Duration};

use super::protocol::{Answer, Failure, Shape};
use gridwatch_frame::{Layout, Matrix};

const MAGIC: &[u8] = b"gridwatch-test-fault:";
const MAX_ORDER: usize = 200;

/// The answer to send, if `data` ends with an order, of which the first word counts. Some orders never return.
pub(super) fn obey(data: &[u8], is_confined: bool) -> Option<Vec<u8>> {
    // Its end only, so that measurements of a debug build hold.
    let end = &data[data.len().saturating_sub(MAX_ORDER)..];
    let order = &end[memchr::memmem::find(end, MAGIC)? + MAGIC.len()..];
    let order = std::str::from_utf8(order.split(|b| *b == b' ').next()?).ok()?;
    let picture = |width, height| {
        let shape = Shape {
            width,
            height,
            layout: Layout::I420,
            matrix: Matrix::Bt709,
            full_range: false,
        };
        let element = "liar".to_owned();
        Answer::Picture {
            shape,
            age: Duration::ZERO,
            element,
        }
        .encode()
    };
    Some(match order {
        "crash" => std::process::abort(),
        "exit" => std::process::exit(7),
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        "leak" => {
            let mut leaked = Vec::new();
            loop {
                leaked.push(Vec::<u8>::with_capacity(64 << 20));
            }
        }
        // Larger than its buffer, than any picture, and than the multiplication of its sides can take.
        "large" => picture(8192, 8192),
        "huge" => picture(u32::MAX, u32::MAX),
        "empty" => picture(0, 0),
        "noise" => vec![1, 2, 3],
        "greedy" => Answer::TooSmall { bytes: u32::MAX }.encode(),
        "insatiable" => Answer::TooSmall { bytes: 4096 }.encode(),
        "execute" => {
            let _ = std::process::Command::new("/bin/true").exec();
            std::process::abort()
        }
        _ => Answer::Failed {
            failure: Failure::Damaged,
            text: reach(is_confined),
        }
        .encode(),
    })
}

/// What the worker can still do that it should not.
fn reach(is_confined: bool) -> String {
    let mut reached = vec![format!("confined {is_confined}")];
    for path in ["/etc/passwd", "/proc/self/status", "/dev/null"] {
        if File::open(path).is_ok() {
            reached.push(format!("read {path}"));
        }
    }
    if File::create("/tmp/gridwatch-decode-worker").is_ok() {
        reached.push("wrote to /tmp".into());
    }
    if TcpStream::connect(("127.0.0.1", 9)).is_err_and(|e| e.kind() != std::io::ErrorKind::PermissionDenied) {
        reached.push("has sockets".into());
    }
    if std::env::vars_os().count() > 12 {
        reached.push("has an environment".into());
    }
    reached.join(", ")
}
