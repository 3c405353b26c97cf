//! Opens a camera and prints what happens until some pictures came: `open_camera URL [tcp|udp|http] [USER PASSWORD]
//! [PICTURES]`.

use std::time::Duration;

use gridwatch_base::secret::Credentials;
use gridwatch_rtsp::{ClientSettings, Event, Limits, LoginPolicy, Timeouts, Transport};

#[path = "../tests/support/driver.rs"]
mod driver;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let argument = |n: usize| arguments.get(n).map_or("", String::as_str);
    let settings = ClientSettings {
        url: argument(0).parse()?,
        credentials: (!argument(2).is_empty()).then(|| Credentials {
            user: argument(2).into(),
            password: argument(3).into(),
        }),
        login: LoginPolicy::default(),
        transport: match argument(1) {
            "udp" => Transport::Udp,
            "http" => Transport::HttpTunnel,
            _ => Transport::Tcp,
        },
        user_agent: "open_camera".into(),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(5),
        },
        limits: Limits::default(),
    };
    let wanted: u32 = argument(4).parse().unwrap_or(10);
    let mut pictures = 0;
    let end = driver::run(settings, u64::from(std::process::id()), |client, event| {
        if let Event::Unit(unit) = &event {
            pictures += 1;
            if pictures == 1 {
                println!("first picture: {} bytes", unit.data.len());
            }
            if pictures == wanted {
                println!("{:?}", client.counters());
            }
        } else {
            println!("{event:?}");
        }
        pictures < wanted
    });
    println!("{pictures} pictures; end: {end}");
    Ok(())
}
