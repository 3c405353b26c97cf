//! `gridwatch-lab cameras`: serves clips as RTSP cameras until it is stopped.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use crate::cli::farm_failure;
use gridwatch::cli::{
    Failure, print,
    service::{StopSignal, block_on},
    share::share,
};
use gridwatch_base::error::Class;
use gridwatch_farm::{self as farm, Auth, AuthMethod, Farm, FarmConfig, MountConfig};

/// Serve clips as RTSP cameras on this machine, to try `camera probe`, the console or a configuration
///
/// Each clip is served in an endless loop, as it is, at rtsp://127.0.0.1:PORT/NAME, where NAME is the file's name without its
/// ending. Prints the URLs once the cameras answer. Ctrl-C stops them.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gridwatch-lab cameras                        the three cameras of the demo
  gridwatch-lab cameras street.mp4 --count 8   eight cameras that show the same street")]
pub struct CamerasArgs {
    /// Clips: MP4 files with H.264 or H.265. Default: those of the demo.
    #[arg(value_name = "CLIP")]
    clips: Vec<PathBuf>,
    /// Serve each clip so many times, as NAME-1, NAME-2 … with keyframes at different moments.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Port to listen on. Default: a free one.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Ask for this user name (digest authentication).
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// Ask for this password. Other users of this machine see it in the list of processes.
    #[arg(long, value_name = "PASSWORD", requires = "user")]
    password: Option<String>,
    /// Print the cameras as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// A camera that is served.
#[derive(Debug, Serialize)]
struct ServedCamera {
    name: String,
    url: String,
}

/// Serves the cameras until SIGINT or SIGTERM.
///
/// # Errors
/// If a clip cannot be read or the port is taken.
pub fn run(args: CamerasArgs) -> Result<ExitCode, Failure> {
    let mounts = mounts(&args)?;
    let names: Vec<_> = mounts.iter().map(|mount| mount.name.clone()).collect();
    let auth = args.user.zip(args.password).map(|(user, password)| Auth {
        method: AuthMethod::Digest,
        user,
        password,
    });
    block_on(async {
        let mut stop = StopSignal::listen()?;
        let farm = Farm::start(FarmConfig {
            port: args.port,
            auth,
            mounts,
            ..FarmConfig::default()
        })
        .map_err(farm_failure)?;
        let cameras: Vec<_> = names
            .into_iter()
            .map(|name| ServedCamera {
                url: farm.url(&name),
                name,
            })
            .collect();
        print(&if args.json {
            serde_json::to_string(&cameras).map_err(|e| Failure::new(Class::Bug, e.to_string()))? + "\n"
        } else {
            cameras.iter().map(|camera| format!("{}\n", camera.url)).collect()
        })?;
        stop.wait(|| ()).await;
        Ok(ExitCode::SUCCESS)
    })
}

fn mounts(args: &CamerasArgs) -> Result<Vec<MountConfig>, Failure> {
    let clips = match args.clips.is_empty() {
        false => args.clips.clone(),
        true => {
            let folder = share()?.join("demo/clips");
            ["street-a", "street-b", "square-c"]
                .map(|name| folder.join(name).with_extension("mp4"))
                .to_vec()
        }
    };
    let mut taken = BTreeSet::new();
    let mut mounts = Vec::new();
    for path in &clips {
        let clip = farm::clip(path).map_err(farm_failure)?;
        let stem = name_of(path)?;
        for i in 1..=args.count {
            let name = match args.count {
                1 => stem.to_owned(),
                _ => format!("{stem}-{i}"),
            };
            if !taken.insert(name.clone()) {
                return Err(Failure::new(
                    Class::Config,
                    format!("{}: another clip is served as {name}; rename one", path.display()),
                ));
            }
            mounts.push(MountConfig {
                name,
                clip: clip.clone(),
                // Like real cameras, they do not send their keyframes at the same instant.
                offset: Duration::from_millis(u64::from(i - 1) * 137 % 10_000),
            });
        }
    }
    Ok(mounts)
}

/// The name under which a clip is served. It is part of a URL, so only characters that need no escape are taken.
fn name_of(path: &Path) -> Result<&str, Failure> {
    let name = path.file_stem().and_then(|stem| stem.to_str());
    let plain = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    name.filter(plain).ok_or_else(|| {
        Failure::new(
            Class::Config,
            format!(
                "{}: the file's name becomes part of a URL; use letters, digits, - and _",
                path.display()
            ),
        )
    })
}
