//! `gridwatch camera probe`: asks a camera over ONVIF, receives its streams for a few seconds, and judges them.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use gridwatch_base::{
    error::Class,
    language::Language,
    secret::{CredentialSource, Credentials, Secret},
};
use gridwatch_camera::{
    Auth, Transport,
    receive::{LoginSchemes, Trust},
};
use gridwatch_config::raw::Span;
use gridwatch_onvif::{
    advice::{LookNeed, Severity},
    brand::{self, StreamRole},
    probe::{self, CameraProbe, ProbeProgress, ProbeRequest, StreamOutcome, Target},
};

use super::{
    super::{Failure, block_on, json_pretty, options, password, print, starter, terminal::note},
    picture::PictureJob,
    report::{self, Shown},
};

/// Judge a camera's streams, with advice.
///
/// Asks the camera over ONVIF what it is and where its streams are, receives its main and sub stream for some seconds as the daemon
/// does, and judges codec, resolution, keyframe interval, bit rate, loss, login and clock. Prints advice, and a [[cameras]] table with
/// the stream to use. Needs no configuration and changes nothing, neither here nor in the camera.
///
/// The login goes to the host given here and to no other, whatever addresses the camera names, and only as a digest: the password
/// itself is sent with --auth auto or basic alone.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch camera probe 192.0.2.10 --user admin
  gridwatch camera probe rtsp://192.0.2.10:554/Streaming/Channels/101 --credentials-env GATE_LOGIN --id gate
  gridwatch camera probe 192.0.2.20 --credentials-file nvr.secret --brand uniview --channel 3 --language zh
  gridwatch camera probe 192.0.2.10 --user admin --picture first.jpg --json

Exit codes: 0 a stream can be used; 1 none can as it is: the advice says what to change; 2 an argument is invalid; 3 the login is
missing or wrong, or no stream is known; 4 the camera cannot be reached; 5 it does not answer as a camera.")]
pub(super) struct ProbeArgs {
    /// A stream's URL (rtsp:// or rtsps://), a host or IP address with or without the port of ONVIF, or the URL of its device service.
    #[arg(value_name = "URL|HOST")]
    target: String,
    /// User name; the password is asked for on the terminal, or taken from GRIDWATCH_CAMERA_PASSWORD or standard input.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["credentials_env", "credentials_file"])]
    user: Option<String>,
    /// Environment variable that holds user:password.
    #[arg(long, value_name = "NAME", conflicts_with = "credentials_file")]
    credentials_env: Option<String>,
    /// File whose first line is user:password, mode 0600.
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// Logins that are answered: digest never sends the password itself; auto also answers Basic; basic answers nothing else.
    #[arg(long, value_name = "SCHEME", default_value = "digest", value_parser = auth)]
    auth: Auth,
    /// Transport of the video: tcp, udp or http.
    #[arg(long, value_name = "TRANSPORT", default_value = "tcp", value_parser = transport)]
    transport: Transport,
    /// Brand whose stream URLs are tried if the camera names none: hikvision, dahua, uniview, tp-link or generic. [default: as recognised]
    #[arg(long, value_name = "BRAND", value_parser = known_brand)]
    brand: Option<&'static brand::Brand>,
    /// Channel of a recorder, from 1.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    channel: u16,
    /// What it is to be looked at for: overview (large things near the camera), objects (the shipped rules) or text (small ads).
    #[arg(long, value_name = "NEED", default_value = "objects", value_parser = need)]
    look: LookNeed,
    /// Do not ask over ONVIF.
    #[arg(long)]
    no_onvif: bool,
    /// Another host that is this camera's, to which the login may go; may be repeated.
    #[arg(long = "confirm-host", value_name = "HOST")]
    confirmed_hosts: Vec<String>,
    /// For https and rtsps: PEM file of the CA that signed the camera's certificate, or of the certificate itself.
    #[arg(long, value_name = "FILE", conflicts_with = "pin_sha256")]
    ca_file: Option<PathBuf>,
    /// For https and rtsps: SHA-256 of the camera's certificate, 64 hex digits.
    #[arg(long, value_name = "SHA256", value_parser = pin)]
    pin_sha256: Option<String>,
    /// How long to receive, at least; up to 30s if keyframes come rarely.
    #[arg(long = "for", value_name = "TIME", default_value = "8s")]
    duration: Span,
    /// Write the first picture with what the shipped models find in it: .jpg, .png, .webp or .bmp. Faces and plates are not masked.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Id of the camera in the [[cameras]] table.
    #[arg(long, value_name = "ID", default_value = "camera-1", value_parser = super::super::init::id)]
    id: String,
    /// Language of the advice: zh or en. [default: from LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_name = "LANGUAGE", value_parser = options::language)]
    language: Option<Language>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn auth(text: &str) -> Result<Auth, String> {
    match text {
        "digest" => Ok(Auth::Digest),
        "auto" => Ok(Auth::Auto),
        "basic" => Ok(Auth::Basic),
        _ => Err("expected digest, auto or basic".into()),
    }
}

fn transport(text: &str) -> Result<Transport, String> {
    match text {
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        "http" => Ok(Transport::Http),
        _ => Err("expected tcp, udp or http".into()),
    }
}

fn need(text: &str) -> Result<LookNeed, String> {
    match text {
        "overview" => Ok(LookNeed::Overview),
        "objects" => Ok(LookNeed::Objects),
        "text" => Ok(LookNeed::Text),
        _ => Err("expected overview, objects or text".into()),
    }
}

fn known_brand(text: &str) -> Result<&'static brand::Brand, String> {
    let known = || {
        brand::brands()
            .iter()
            .map(|brand| brand.id.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    brand::by_id(text).ok_or_else(|| format!("expected one of {}", known()))
}

fn pin(text: &str) -> Result<String, String> {
    let is_hash = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    is_hash
        .then(|| text.to_ascii_lowercase())
        .ok_or_else(|| "expected 64 hex digits".into())
}

/// Runs the command.
///
/// # Errors
/// See the exit codes in the help.
pub(super) fn run(args: &ProbeArgs) -> Result<ExitCode, Failure> {
    let request = request(args)?;
    let language = args.language.unwrap_or_else(Language::of_environment);
    let mut picture = args.picture.as_deref().map(PictureJob::prepare).transpose()?;
    let expected = match &request.target {
        Target::Stream(url) => brand::recognise(url).map_or(StreamRole::Main, |found| found.role),
        Target::Device { .. } => StreamRole::Main,
    };
    note(format_args!("Asking {} …", request.target.host()));
    let probed = block_on(probe::probe(&request, |event| match event {
        ProbeProgress::Device(device) => {
            if let Some(information) = &device.information {
                note(format_args!("It is {} {}", information.manufacturer, information.model));
            }
        }
        ProbeProgress::Stream(role, url) => {
            note(format_args!(
                "Receiving the {} stream, {} …",
                report::role(role),
                report::shown(url)
            ));
        }
        ProbeProgress::Picture(role, stream) => {
            if let Some(job) = picture.as_mut().filter(|_| role == expected) {
                job.start(stream);
            }
        }
    }))?;
    let probed = probed.map_err(|e| Failure::new(e.class(), e.to_string()))?;
    let first_picture = picture.map(PictureJob::finish).transpose()?;
    let shown = Shown {
        probe: &probed,
        credentials: credentials_setting(args, &request),
        id: &args.id,
        auth: args.auth,
        transport: args.transport,
        ca_file: args.ca_file.as_deref(),
        pin_sha256: args.pin_sha256.as_deref(),
        picture: first_picture.as_ref(),
    };
    print(&match args.json {
        true => json_pretty(&shown.json(language)?)?,
        false => shown.text(language),
    })?;
    exit_code(&probed)
}

/// 0 if a stream can be used; else by what is wrong.
fn exit_code(probed: &CameraProbe) -> Result<ExitCode, Failure> {
    if probed.facts.proposed.is_none() {
        let failures = probed.facts.streams.iter().filter_map(|stream| match &stream.outcome {
            StreamOutcome::Failed { class, .. } => Some(*class),
            StreamOutcome::Received(_) => None,
        });
        // All of them: a stream that plays but has no keyframes is for the person to mend.
        if failures.clone().count() == probed.facts.streams.len() {
            let class = failures.into_iter().next().unwrap_or(Class::Transient);
            return Ok(ExitCode::from(class.exit_code()));
        }
        return Ok(ExitCode::from(1));
    }
    let of_proposed = |role: Option<StreamRole>| role.is_none() || role == probed.facts.proposed;
    let mut advice = probed.advice.iter().filter(|advice| of_proposed(advice.stream));
    let has_problem = advice.any(|advice| advice.severity == Severity::Problem);
    Ok(if has_problem {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn request(args: &ProbeArgs) -> Result<ProbeRequest, Failure> {
    let at_least = args.duration.0;
    if !(Duration::from_secs(1)..=Duration::from_mins(5)).contains(&at_least) {
        return Err(Failure::new(
            Class::Config,
            format!("--for {}: from 1s to 5m", args.duration),
        ));
    }
    let (text, in_url) = match args.target.contains("://") {
        true => {
            let (url, credentials) = starter::stream_url(&args.target)?;
            (url.to_string(), credentials)
        }
        false if args.target.contains('@') => {
            // Not repeated: it may have a password in it.
            let message = "a host has no user or password in it; use --user, or a URL";
            return Err(Failure::new(Class::Config, message));
        }
        false => (args.target.clone(), None),
    };
    let target = Target::parse(&text).map_err(|e| Failure::new(e.class(), e.to_string()))?;
    Ok(ProbeRequest {
        credentials: credentials(args, in_url)?,
        login: match args.auth {
            Auth::Digest => LoginSchemes::Digest,
            Auth::Auto => LoginSchemes::Auto,
            Auth::Basic => LoginSchemes::Basic,
        },
        trust: match (&args.pin_sha256, &args.ca_file) {
            (Some(pin), _) => Trust::Pin(pin.clone()),
            (None, Some(file)) => Trust::CaFile(file.clone()),
            (None, None) => Trust::System,
        },
        transport: args.transport,
        brand: args.brand,
        channel: args.channel,
        uses_onvif: !args.no_onvif,
        confirmed_hosts: args.confirmed_hosts.clone(),
        need: args.look,
        at_least,
        at_most: probe::AT_MOST.max(at_least + Duration::from_secs(10)),
        ..ProbeRequest::new(target)
    })
}

fn credentials(args: &ProbeArgs, in_url: Option<Credentials>) -> Result<Option<CredentialSource>, Failure> {
    if let Some(name) = &args.credentials_env {
        return Ok(Some(CredentialSource::Variable(name.clone())));
    }
    if let Some(file) = &args.credentials_file {
        return Ok(Some(CredentialSource::File(file.clone())));
    }
    if let Some(user) = &args.user {
        if user.is_empty() || user.contains(':') || user.contains(char::is_control) {
            let message = "--user: a user name has no colon and no control characters";
            return Err(Failure::new(Class::Config, message));
        }
        let password = password::ask(user)?;
        let user = Secret::new(user);
        return Ok(Some(Credentials { user, password }.into()));
    }
    Ok(in_url.map(CredentialSource::Fixed))
}

/// How the configuration is to name the login; `None` without one. It never has the login in it.
fn credentials_setting(args: &ProbeArgs, request: &ProbeRequest) -> Option<report::CredentialsSetting> {
    request.credentials.as_ref()?;
    Some(match (&args.credentials_env, &args.credentials_file) {
        (Some(name), _) => report::CredentialsSetting::Variable(name.clone()),
        (None, Some(file)) => {
            report::CredentialsSetting::File(std::path::absolute(file).unwrap_or_else(|_| file.clone()))
        }
        (None, None) => report::CredentialsSetting::NewFile(PathBuf::from(format!("{}.secret", args.id))),
    })
}
