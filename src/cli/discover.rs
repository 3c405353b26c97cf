//! `gridwatch discover`: finds cameras on the network.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
};

use super::{Failure, json_pretty, print, terminal::note};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config::raw::Span;
use gridwatch_onvif::{
    brand,
    discovery::{self, Discovery, DiscoverySettings, FoundDevice, GROUP, Interface, LONGEST_WAIT},
};

/// Find cameras on the network.
///
/// Asks by WS-Discovery (ONVIF) on every interface, and lists what answers: address, make, model. No login is sent. Cameras behind a
/// router do not hear it: ask them by --host, or probe their address. ONVIF is switched off in some cameras, which then do not answer.
/// What a device says of itself is not verified.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch discover
  gridwatch discover --interface eth1 --timeout 10s
  gridwatch discover --host 192.0.2.10 --host 192.0.2.11 --json

Exit codes: 0 the search was made, whatever was found; 2 an argument is invalid; 3 no such interface; 4 nothing could be asked.")]
pub struct DiscoverArgs {
    /// Interface to search on, by name or by one of its IPv4 addresses; may be repeated. [default: all but loopback]
    #[arg(long = "interface", value_name = "NAME|ADDRESS")]
    interfaces: Vec<String>,
    /// Ask this address instead of all; may be repeated.
    #[arg(long = "host", value_name = "ADDRESS[:PORT]", value_parser = host)]
    hosts: Vec<SocketAddr>,
    /// How long to wait for answers, at most 60s.
    #[arg(long, value_name = "TIME", default_value = "4s")]
    timeout: Span,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn host(text: &str) -> Result<SocketAddr, String> {
    let with_port = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, GROUP.port()));
    let parsed = text.parse().or_else(|_| with_port());
    parsed.map_err(|_| "expected an IP address, with or without a port".to_owned())
}

/// Runs the command.
///
/// # Errors
/// See the exit codes in the help.
pub fn run(args: &DiscoverArgs) -> Result<ExitCode, Failure> {
    if args.timeout.0.is_zero() || args.timeout.0 > LONGEST_WAIT {
        let message = format!("--timeout {}: from 1ms to {}s", args.timeout, LONGEST_WAIT.as_secs());
        return Err(Failure::new(Class::Config, message));
    }
    let interfaces = interfaces(args)?;
    let settings = DiscoverySettings {
        interfaces,
        group: GROUP,
        hosts: args.hosts.clone(),
        wait: args.timeout.0,
    };
    let asked = settings.interfaces.len() + settings.hosts.len();
    let found = super::block_on(discovery::discover(&settings))?;
    for fault in &found.faults {
        note(format_args!("not asked: {fault}"));
    }
    if found.faults.len() >= asked {
        return Err(Failure::new(
            Class::Transient,
            "nothing could be asked; name an interface or a host",
        ));
    }
    if args.json {
        print(&json_pretty(&found)?)?;
    } else {
        print(&table(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where to search: the named interfaces, or all, or none if hosts are named alone.
fn interfaces(args: &DiscoverArgs) -> Result<Vec<Interface>, Failure> {
    if args.interfaces.is_empty() && !args.hosts.is_empty() {
        return Ok(Vec::new());
    }
    let known = discovery::interfaces()
        .map_err(|e| Failure::new(Class::Transient, format!("cannot list the interfaces: {e}")))?;
    if args.interfaces.is_empty() {
        return match known.is_empty() {
            true => Err(Failure::new(
                Class::Transient,
                "no interface but loopback has an IPv4 address",
            )),
            false => Ok(known),
        };
    }
    let mut chosen = Vec::new();
    for name in &args.interfaces {
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            let name = known
                .iter()
                .find(|i| i.address == address)
                .map_or("address", |i| &i.name);
            chosen.push(Interface {
                name: name.to_owned(),
                address,
            });
            continue;
        }
        let before = chosen.len();
        chosen.extend(known.iter().filter(|i| i.name == *name).cloned());
        if chosen.len() == before {
            let names: Vec<&str> = known.iter().map(|i| i.name.as_str()).collect();
            let message = format!(
                "--interface {name}: no such interface with an IPv4 address; there are {}",
                names.join(", ")
            );
            return Err(Failure::new(Class::Config, message));
        }
    }
    Ok(chosen)
}

fn table(found: &Discovery) -> String {
    if found.devices.is_empty() {
        return "No device answered. Check that ONVIF is enabled in the cameras' menus and that they are on this network, or probe \
                an address: gridwatch camera probe ADDRESS\n"
            .to_owned();
    }
    let mut rows = vec![["ADDRESS", "MAKE", "MODEL", "MAC"].map(str::to_owned)];
    rows.extend(found.devices.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [address, make, model, mac] in &rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{address:a$}  {make:b$}  {model:c$}  {mac}",
            a = widths[0],
            b = widths[1],
            c = widths[2]
        );
    }
    for device in &found.devices {
        let addresses = device
            .elsewhere
            .iter()
            .map(|url| url.host_str().unwrap_or_default().to_owned());
        let others: Vec<String> = addresses
            .chain(device.also_from.iter().map(IpAddr::to_string))
            .collect();
        if !others.is_empty() {
            let _ = writeln!(text, "{} also names or answers from {}", device.from, others.join(", "));
        }
    }
    if found.is_cut_off {
        text += "More answered than are listed; search on one interface at a time.\n";
    }
    let count = counted(found.devices.len(), "device", "devices");
    text + &format!("\n{count}. Next: gridwatch camera probe ADDRESS --user NAME\n")
}

fn row(device: &FoundDevice) -> [String; 4] {
    let texts = [&device.manufacturer, &device.name, &device.hardware];
    let brand = brand::by_name(texts.into_iter().flatten().map(String::as_str));
    let make = brand.map(|brand| brand.title.of(gridwatch_base::language::Language::En).to_owned());
    let port = device.address.as_ref().and_then(url::Url::port);
    let address = match port {
        Some(port) => SocketAddr::new(device.from, port).to_string(),
        None => device.from.to_string(),
    };
    [
        address,
        make.or_else(|| device.manufacturer.clone())
            .unwrap_or_else(|| "-".into()),
        device
            .hardware
            .clone()
            .or_else(|| device.name.clone())
            .unwrap_or_else(|| "-".into()),
        device.mac.clone().unwrap_or_else(|| "-".into()),
    ]
}
