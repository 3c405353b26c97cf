//! `gridwatch-hub run`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use gridwatch_base::secret::Credentials;
use gridwatch_mqtt::{Protocol, ServerTrust, Tls, TlsClientConfig};
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::{
    HubError,
    dispatch::DispatchTable,
    metric,
    service::{self, ServiceSettings, Storage},
    session::{BrokerAddress, WORDING},
};

/// Receive from the broker, until stopped.
///
/// Announces that it gives receipts, so that boxes keep each case until it is committed here. Messages that cannot be taken are kept as dead
/// letters. Stop it with Ctrl-C or SIGTERM; it may be killed at any time without losing a case. Several hubs may share the work: give each the
/// same --database, --objects and --group, and a --client-id of its own.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The broker: `mqtt://HOST:PORT`, or `mqtts://HOST:PORT` with --broker-ca or --broker-pin.
    #[arg(
        long,
        value_name = "URL",
        env = "GRIDWATCH_HUB_BROKER",
        hide_env_values = true,
        default_value = "mqtt://127.0.0.1:1883"
    )]
    broker: String,
    /// MQTT version: 5 or 3.1.1. Shared subscriptions need 5.
    #[arg(long, value_name = "VERSION", value_parser = protocol, default_value = "5")]
    broker_protocol: Protocol,
    /// File with `USER:PASSWORD`, which only its owner may read.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_HUB_BROKER_CREDENTIALS")]
    broker_credentials: Option<PathBuf>,
    /// PEM file of the CA that signed the broker's certificate, or of the certificate itself.
    #[arg(long, value_name = "FILE", conflicts_with = "broker_pin")]
    broker_ca: Option<PathBuf>,
    /// SHA-256 of the broker's certificate: no other is accepted, and this one whatever its name and dates.
    #[arg(long, value_name = "HEX")]
    broker_pin: Option<String>,
    /// Client certificate in PEM, for a broker that asks for one.
    #[arg(long, value_name = "FILE", requires = "broker_key")]
    broker_cert: Option<PathBuf>,
    /// Its private key in PEM.
    #[arg(long, value_name = "FILE", requires = "broker_cert")]
    broker_key: Option<PathBuf>,
    /// Client id at the broker, which keeps the subscriptions and what is queued for it.
    #[arg(long, value_name = "ID", default_value = "gridwatch-hub")]
    client_id: String,
    /// Share the messages with the other hubs of this group, by a shared subscription (MQTT 5).
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Topic levels before `/v1/`, as `broker.topic_prefix` of the boxes.
    #[arg(long, value_name = "PREFIX", default_value = "gridwatch")]
    prefix: String,
    /// Who gives receipts, in the announcement to the boxes.
    #[arg(long, value_name = "NAME", default_value = "gridwatch-hub")]
    name: String,
    /// Close a case without a person when the box found its place cleared, after the unit's report or a request.
    #[arg(long)]
    close_cleared: bool,
    /// Dispatch accepted cases without a person, as this table says: units, cells and time limits （自动派遣）.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_HUB_DISPATCH")]
    dispatch: Option<PathBuf>,
    /// Serve metrics for Prometheus at this address, such as 127.0.0.1:9470.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// What is logged, such as `info` or `gridwatch_hub=debug,info`.
    #[arg(long, value_name = "FILTER", env = "GRIDWATCH_HUB_LOG", default_value = "info")]
    log: String,
    /// How it is logged.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let known = [Protocol::V5, Protocol::V311];
    let found = known.into_iter().find(|protocol| protocol.as_str() == text);
    found.ok_or_else(|| "expected 5 or 3.1.1".to_owned())
}

pub(super) async fn run(args: RunArgs, storage: Storage) -> Result<ExitCode, HubError> {
    start_logs(&args)?;
    if let Some(address) = args.metrics {
        PrometheusBuilder::new()
            .with_http_listener(address)
            .install()
            .map_err(|e| HubError::Input(format!("--metrics {address}: {e}")))?;
        metric::describe();
    }
    let settings = ServiceSettings {
        storage,
        broker: broker(&args)?,
        prefix: args.prefix,
        group: args.group.map(group).transpose()?,
        name: args.name,
        dispatch: args.dispatch.as_deref().map(DispatchTable::read).transpose()?,
        closes_cleared: args.close_cleared,
    };
    if settings.group.is_some() && settings.broker.protocol == Protocol::V311 {
        return Err(HubError::Input(
            "--group: MQTT 3.1.1 has no shared subscriptions; use MQTT 5".into(),
        ));
    }
    service::run(settings, service::shutdown_signal()?).await?;
    Ok(ExitCode::SUCCESS)
}

fn group(name: String) -> Result<String, HubError> {
    if name.is_empty() || name.contains(['/', '+', '#']) {
        return Err(HubError::Input("--group: expected a name without /, + and #".into()));
    }
    Ok(name)
}

fn broker(args: &RunArgs) -> Result<BrokerAddress, HubError> {
    // The URL may hold a password, so that no error repeats it.
    let wrong = |what: &str| {
        HubError::Input(format!(
            "--broker: {what}; expected mqtt://HOST:PORT or mqtts://HOST:PORT"
        ))
    };
    let url = Url::parse(&args.broker).map_err(|e| wrong(&e.to_string()))?;
    let is_tls = match url.scheme() {
        "mqtt" => false,
        "mqtts" => true,
        _ => return Err(wrong("unsupported scheme")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(HubError::Input(
            "--broker: the URL has a login; put USER:PASSWORD into a file and name it with --broker-credentials".into(),
        ));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(wrong("it has a path"));
    }
    let host = url.host_str().ok_or_else(|| wrong("no host"))?;
    let trust = match (&args.broker_ca, &args.broker_pin) {
        (Some(file), _) => Some(ServerTrust::CaFile(file.clone())),
        (None, Some(pin)) => Some(ServerTrust::Pin(pin_sha256(pin)?)),
        (None, None) => None,
    };
    let client = args.broker_cert.clone().zip(args.broker_key.clone());
    let tls = match (is_tls, trust) {
        (true, Some(trust)) => {
            let loaded = TlsClientConfig::load(&Tls { trust, client }, &WORDING);
            Some(loaded.map_err(|e| HubError::Input(e.to_string()))?)
        }
        (true, None) => {
            return Err(HubError::Input(
                "--broker: mqtts:// needs --broker-ca or --broker-pin, by which the broker's certificate is trusted"
                    .into(),
            ));
        }
        (false, None) if client.is_none() => None,
        // Never in plain text what somebody wanted to be encrypted.
        (false, _) => return Err(HubError::Input("--broker: settings for TLS need mqtts://".into())),
    };
    let login = args.broker_credentials.as_deref().map(|file| {
        Credentials::read(file).map_err(|e| HubError::Input(format!("--broker-credentials {}: {e}", file.display())))
    });
    Ok(BrokerAddress {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: url.port().unwrap_or(if is_tls { 8883 } else { 1883 }),
        protocol: args.broker_protocol,
        tls,
        login: login.transpose()?,
        client_id: args.client_id.clone(),
    })
}

fn pin_sha256(text: &str) -> Result<String, HubError> {
    let pin: String = text
        .chars()
        .filter(|c| *c != ':')
        .collect::<String>()
        .to_ascii_lowercase();
    if pin.len() == 64 && pin.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(pin);
    }
    Err(HubError::Input(
        "--broker-pin: expected 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them"
            .into(),
    ))
}

fn start_logs(args: &RunArgs) -> Result<(), HubError> {
    let filter = EnvFilter::try_new(format!("sqlx=warn,{}", args.log))
        .map_err(|e| HubError::Input(format!("--log: {e}; use for example info, or gridwatch_hub=debug,info")))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match args.log_format {
        LogFormat::Text => logs.with_target(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}
