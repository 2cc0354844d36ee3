//! Commands that keep running.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::stderr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use betanet_node::authority::{self, AuthorityConfig};
use betanet_node::daemon::looks::Looks;
use betanet_node::daemon::mixer::MixerConfig;
use betanet_node::daemon::{self, DaemonConfig};
use betanet_node::localnet::{self, LocalnetConfig, LocalnetEvent};
use betanet_node::logging::Lines;
use betanet_node::process::{die_with_parent, raise_open_files, shutdown_signal};
use tracing_subscriber::EnvFilter;

use super::arguments::{AuthorityArguments, LocalnetArguments, NodeArguments, ServiceArguments, StatusArguments};
use super::output::{Failure, complain, line, tell};
use super::streams::write_output;

/// Ties the process to its parent and starts the log. Before any thread is started.
///
/// In each line stand the `service` and, unless the process was given a name, that of its folder.
pub(super) fn prepare(arguments: &ServiceArguments, service: &'static str, dir: &Path) -> Result<(), Failure> {
    if arguments.die_with_parent {
        die_with_parent()?;
    }
    // Started through /proc, it would be called "exe" in lists of processes. Where it cannot be named, it runs as well.
    let _ = std::fs::write("/proc/self/comm", "betanet");
    // A service that has lost a thread would look alive and do nothing. Its owner starts it again.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    // A line that cannot be written is lost; saying so where it could not be written would end the process.
    let named = arguments.name.clone();
    let name = named.unwrap_or_else(|| dir.file_name().unwrap_or_default().to_string_lossy().into_owned());
    tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(log_filter())
        .with_writer(stderr)
        .with_ansi(false)
        .event_format(Lines::new(arguments.json_logs, service, &name))
        .init();
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "open_files.not_raised");
    }
    Ok(())
}

fn log_filter() -> EnvFilter {
    let default = || EnvFilter::new("info");
    let Some(wanted) = std::env::var_os("RUST_LOG") else {
        return default();
    };
    EnvFilter::try_new(wanted.to_string_lossy()).unwrap_or_else(|err| {
        complain(&format!("RUST_LOG={} is not understood ({err}); logging as with RUST_LOG=info", wanted.display()));
        default()
    })
}

pub(super) async fn node(arguments: NodeArguments, looks: Arc<Looks>) -> Result<(), Failure> {
    let shutdown = shutdown_signal(arguments.service.die_with_parent)?;
    let config = DaemonConfig {
        dir: absolute(&arguments.dir)?,
        bootstrap: absolute(&arguments.bootstrap)?,
        role: arguments.role,
        token: arguments.token.as_deref().map(absolute).transpose()?,
        listen: match (arguments.listen, arguments.link_port) {
            (Some(listen), _) => listen,
            (None, Some(port)) => loopback(port),
            (None, None) => loopback(beside(arguments.http_port)?),
        },
        announce: arguments.announce,
        http: SocketAddr::new(arguments.http_ip, arguments.http_port),
        exact_metrics: arguments.exact_metrics,
        mixer: MixerConfig {
            workers: usize::from(arguments.workers),
            batch: usize::from(arguments.batch_size),
            pool: usize::try_from(arguments.pool_size)?,
            depth: usize::try_from(arguments.max_queue_depth)?,
            client_rate: arguments.packets_per_client,
        },
        looks,
        target_throughput: usize::try_from(arguments.target_throughput)?,
    };
    Ok(daemon::run(config, shutdown).await?)
}

/// For this machine alone, until others are meant.
fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The port for links where only the other one is given.
fn beside(http_port: u16) -> Result<u16, Failure> {
    match http_port {
        0 => Ok(0),
        port => port.checked_add(1000).ok_or_else(|| {
            Failure::Usage(format!("there is no port 1000 above {port} for links; give one with --listen or LINK_PORT"))
        }),
    }
}

pub(super) async fn authority(arguments: AuthorityArguments) -> Result<(), Failure> {
    let shutdown = shutdown_signal(arguments.service.die_with_parent)?;
    let config = AuthorityConfig {
        dir: absolute(&arguments.dir)?,
        net_file: arguments.net_file.as_deref().map(absolute).transpose()?,
        network: arguments.network,
        expect: usize::from(arguments.expect),
        epoch: arguments.epoch,
        mean_delay: arguments.mean_delay,
        one_operator: arguments.one_operator,
        listen: arguments.listen,
        announce: arguments.announce,
        http: arguments.http_port.map(|port| SocketAddr::new(arguments.http_ip, port)),
    };
    Ok(authority::run(config, shutdown).await?)
}

pub(super) async fn localnet(arguments: LocalnetArguments) -> Result<(), Failure> {
    let shutdown = shutdown_signal(arguments.service.die_with_parent)?;
    let json = arguments.json;
    let config = LocalnetConfig {
        dir: absolute(&arguments.dir)?,
        program: own_program()?,
        entry: arguments.entry,
        middle: arguments.middle,
        exit: arguments.exit,
        ip: arguments.ip,
        listen: arguments.listen,
        epoch: arguments.epoch,
        mean_delay: arguments.mean_delay,
        exact_metrics: arguments.exact_metrics,
        json_logs: arguments.service.json_logs,
    };
    let tell = |event: &LocalnetEvent| {
        let text = match event {
            LocalnetEvent::Ready { net, nodes, seconds, notice } => {
                format!("{nodes} nodes are ready after {:.1} s ({notice}).\nClients: --net {}", seconds, net.display())
            }
            LocalnetEvent::Stopping if json => String::new(),
            LocalnetEvent::Stopping => {
                complain("stopping; press Ctrl-C again to kill");
                return Ok(());
            }
        };
        write_output(&line(json, event, &text)?)
    };
    Ok(localnet::run(config, shutdown, tell).await?)
}

pub(super) async fn localnet_status(arguments: StatusArguments) -> Result<(), Failure> {
    let nodes = tokio::time::timeout(Duration::from_secs(30), localnet::status(&absolute(&arguments.dir)?)).await??;
    let mut text = String::from("name        pid      epoch        state");
    for node in &nodes {
        let pid = node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let (epoch, state) = match (&node.health, node.http) {
            (Some(health), _) if health.healthy => (health.epoch, "ok"),
            (Some(health), _) if health.trouble.is_some() => (health.epoch, "no network"),
            (Some(health), _) => (health.epoch, "starting"),
            (None, Some(_)) => (None, "does not answer"),
            (None, None) => (None, "-"),
        };
        let epoch = epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        let _ = write!(text, "\n{:<11} {pid:<8} {epoch:<12} {state}", node.name);
    }
    let troubles = nodes.iter().filter_map(|node| node.health.as_ref()?.trouble.as_deref());
    for trouble in troubles.collect::<BTreeSet<_>>() {
        let _ = write!(text, "\n{trouble}");
    }
    text.push_str("\none operator: no anonymity");
    tell(arguments.json, &serde_json::json!({"one_operator": true, "nodes": nodes}), &text, "the status").await
}

/// This very program, also once its file was replaced or removed: a child that comes back is of the
/// same version as its neighbours.
fn own_program() -> Result<PathBuf, Failure> {
    let program = PathBuf::from("/proc/self/exe");
    match std::fs::metadata(&program) {
        Ok(_) => Ok(program),
        Err(err) => {
            Err(Failure::Error(format!("cannot start processes of this program: {}: {err}", program.display())))
        }
    }
}

/// The path from the root; a relative one means nothing where the current folder is gone.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|err| {
        let path = path.display();
        Failure::Error(format!(
            "cannot tell where {path} is: the current folder was removed or cannot be read ({err}); \
             go to another folder, or begin the path with a /"
        ))
    })
}
