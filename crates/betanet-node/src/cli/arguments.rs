//! What may be typed.

mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use betanet_mix::view::{LinkAddress, Role, TokenId};
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use self::values::{duration, duration_text, one_address, reachable, role, socket, token_id};

const EXAMPLES: &str = "\
Try it:
  betanet localnet run --dir /tmp/net &
  betanet address --net /tmp/net/net.json --dir /tmp/bob
  betanet recv    --net /tmp/net/net.json --dir /tmp/bob --count 1 &
  betanet send    --net /tmp/net/net.json --dir /tmp/alice --to fog1... --hops 3 'hello'

Exit codes: 0 done, 1 failed (also when the output cannot be written), 2 wrong usage, 130 interrupted.
With --json a failure is also told as {\"event\":\"error\",\"message\":...}.";

/// A mixnet: nodes that delay and re-encrypt packets so that nobody sees who talks to whom.
#[derive(Debug, Parser)]
#[command(name = "betanet", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a mix node.
    Node(NodeArguments),
    /// The directory authority that signs who belongs to the network.
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Run a whole network on this machine.
    #[command(subcommand)]
    Localnet(LocalnetCommand),
    /// The network file (net.json).
    #[command(subcommand)]
    Net(NetCommand),
    /// Ask a node or an authority on this machine whether it is well: exit code 0, or 1 and a line that says why not.
    Health(HealthArguments),
    /// List the metrics that a node or an authority exports, in the format of Prometheus.
    Metrics(MetricsArguments),
    /// Show the address under which a client is reached (made on first use).
    Address(ClientArguments),
    /// Send a message; returns once it is on disk at the recipient's edge.
    Send(SendArguments),
    /// Receive messages, one line each.
    ///
    /// A message leaves the mailbox once it is written and, in a file, on the disk. Control characters and bytes that are no
    /// text are escaped; --json gives them whole, as "body" or, where it is no text, "body_hex".
    Recv(RecvArguments),
    /// Send packets around a loop and show how long they took.
    Ping(PingArguments),
    /// Show what a client knows: the network, its edges, loss and time by the number of hops, nodes that it leaves out.
    ///
    /// Loops are sent around at 3, 5 and 7 hops first, as far as the network has as many nodes.
    Status(ClientArguments),
}

impl Command {
    /// Whether the command answers on standard output: all but those that run for others do.
    pub(super) const fn answers(&self) -> bool {
        !matches!(self, Self::Node(_) | Self::Authority(AuthorityCommand::Run(_)))
    }

    /// Whether a program reads the answer.
    pub(super) const fn json(&self) -> bool {
        match self {
            Self::Authority(AuthorityCommand::Tokens(arguments)) => arguments.json,
            Self::Node(_) | Self::Authority(_) | Self::Metrics(_) => false,
            Self::Health(arguments) => arguments.json,
            Self::Net(NetCommand::Show(arguments)) => arguments.json,
            Self::Localnet(LocalnetCommand::Run(arguments)) => arguments.json,
            Self::Localnet(LocalnetCommand::Status(arguments)) => arguments.json,
            Self::Address(arguments) | Self::Status(arguments) => arguments.json,
            Self::Send(arguments) => arguments.client.json,
            Self::Recv(arguments) => arguments.client.json,
            Self::Ping(arguments) => arguments.client.json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum AuthorityCommand {
    /// Run it. net.json for nodes and clients is written into its folder.
    Run(AuthorityArguments),
    /// Make an admission token, on standard output: whoever has it may run nodes as this operator.
    Token(TokenArguments),
    /// Show the tokens that were given out, and who came with them.
    Tokens(TokensArguments),
    /// Take a token back: nobody comes in with it any more, and whoever did is listed no longer.
    Revoke(RevokeArguments),
}

#[derive(Debug, Subcommand)]
pub(super) enum NetCommand {
    /// Explain one.
    Show(NetArguments),
}

#[derive(Args, Debug)]
pub(super) struct NetArguments {
    /// The network file.
    #[arg(long)]
    pub(super) net: PathBuf,
    /// Answer as one line of JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum LocalnetCommand {
    /// Start a network and keep it running until Ctrl-C.
    ///
    /// The end of the terminal stops it too, unless SIGHUP is ignored when it starts, as under `nohup`.
    Run(LocalnetArguments),
    /// Show a running network.
    Status(StatusArguments),
}

/// For everything that keeps running.
#[derive(Args, Clone, Debug)]
pub(super) struct ServiceArguments {
    /// End when the parent process dies or closes the pipe on standard input.
    #[arg(long)]
    pub(super) die_with_parent: bool,
    /// Write logs as JSON lines (RUST_LOG sets how much).
    #[arg(long)]
    pub(super) json_logs: bool,
    /// What its log lines call this process, to tell it from others of its kind [default: the name of its folder].
    #[arg(long, env = "NODE_NAME")]
    pub(super) name: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct NodeArguments {
    /// State folder: identity, packet keys, replay logs, mailboxes.
    #[arg(long, env = "NODE_DIR")]
    pub(super) dir: PathBuf,
    /// The network's bootstrap file.
    #[arg(long, env = "NODE_BOOTSTRAP", default_value = "net.json")]
    pub(super) bootstrap: PathBuf,
    /// entry and exit nodes serve clients, middle nodes mix in between.
    #[arg(long, env = "NODE_TYPE", default_value = "middle", value_parser = role)]
    pub(super) role: Role,
    /// The admission token that the authority's owner gave out; a network on one machine needs none.
    #[arg(long, env = "NODE_TOKEN_FILE", value_name = "FILE")]
    pub(super) token: Option<PathBuf>,
    /// Address and port to listen on for links; port 0 takes a free one and keeps it
    /// [default: 127.0.0.1 with the link port].
    #[arg(long, env = "NODE_LISTEN", value_name = "ADDR:PORT", value_parser = socket)]
    pub(super) listen: Option<SocketAddr>,
    /// Where others reach the links, if that is not where they listen: an address or a name, and a port.
    #[arg(long, env = "NODE_ANNOUNCE", value_name = "HOST:PORT")]
    pub(super) announce: Option<LinkAddress>,
    /// Address for /health and /metrics. Counters help whoever watches the traffic: leave it on loopback.
    #[arg(long, env = "NODE_HTTP_IP", default_value = "127.0.0.1")]
    pub(super) http_ip: IpAddr,
    /// Port for /health and /metrics; 0 takes a free one and keeps it.
    #[arg(long, env = "NODE_PORT", default_value_t = 9001)]
    pub(super) http_port: u16,
    /// Port for links where --listen gives none; 0 takes a free one and keeps it [default: HTTP port + 1000].
    #[arg(long, env = "LINK_PORT")]
    pub(super) link_port: Option<u16>,
    /// Threads that unwrap packets.
    #[arg(long, env = "PIPELINE_WORKERS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) workers: u16,
    /// Packets that a thread takes at once.
    #[arg(long, env = "BATCH_SIZE", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) batch_size: u16,
    /// Packet buffers that are kept for their next use.
    #[arg(long, env = "POOL_SIZE", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(super) pool_size: u32,
    /// Packets that may wait to be unwrapped, and as many for their delay.
    #[arg(long, env = "MAX_QUEUE_DEPTH", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) max_queue_depth: u32,
    /// Packets per second that an edge reads of one client's address at most; less while packets leave late.
    #[arg(long, env = "PACKETS_PER_CLIENT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) packets_per_client: u32,
    /// Packets per second that replay memory is made for.
    #[arg(long, env = "TARGET_THROUGHPUT", default_value_t = 25_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(super) target_throughput: u32,
    /// Export exact counters. For debugging: they help whoever watches the traffic.
    #[arg(long, env = "NODE_EXACT_METRICS", value_parser = FalseyValueParser::new())]
    pub(super) exact_metrics: bool,
    #[command(flatten)]
    pub(super) service: ServiceArguments,
}

#[derive(Args, Debug)]
pub(super) struct AuthorityArguments {
    /// State folder: key, descriptors, consensuses.
    #[arg(long, env = "AUTHORITY_DIR")]
    pub(super) dir: PathBuf,
    /// Where net.json is written, for who may not see the state folder [default: net.json in the state folder].
    #[arg(long, env = "AUTHORITY_NET_FILE", value_name = "FILE")]
    pub(super) net_file: Option<PathBuf>,
    /// The network's name.
    #[arg(long, env = "AUTHORITY_NETWORK")]
    pub(super) network: String,
    /// Nodes that the first consensus waits for.
    #[arg(long, env = "AUTHORITY_EXPECT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) expect: u16,
    /// How long an epoch lasts: packet keys change with it. Fixed for good by the first start
    /// [default for a new network: 600s].
    #[arg(long, env = "AUTHORITY_EPOCH", value_parser = duration)]
    pub(super) epoch: Option<Duration>,
    /// Mean delay of a packet at each hop; changes with the next epoch
    /// [default: as before, for a new network 15ms].
    #[arg(long, env = "AUTHORITY_MEAN_DELAY", value_parser = duration)]
    pub(super) mean_delay: Option<Duration>,
    /// One party runs all nodes, so there is no anonymity against it.
    #[arg(long, env = "AUTHORITY_ONE_OPERATOR", value_parser = FalseyValueParser::new())]
    pub(super) one_operator: bool,
    /// Address and port to listen on for links; port 0 takes a free one and keeps it.
    #[arg(long, env = "AUTHORITY_LISTEN", value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = socket)]
    pub(super) listen: SocketAddr,
    /// Where others reach the links, if that is not where they listen: an address or a name, and a port.
    #[arg(long, env = "AUTHORITY_ANNOUNCE", value_name = "HOST:PORT")]
    pub(super) announce: Option<LinkAddress>,
    /// Address for /health and /metrics.
    #[arg(long, env = "AUTHORITY_HTTP_IP", default_value = "127.0.0.1")]
    pub(super) http_ip: IpAddr,
    /// Port for /health and /metrics; 0 takes a free one and keeps it [default: neither is served].
    #[arg(long, env = "AUTHORITY_HTTP_PORT")]
    pub(super) http_port: Option<u16>,
    #[command(flatten)]
    pub(super) service: ServiceArguments,
}

/// Whose metrics.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Of {
    /// A mix node.
    Node,
    /// A directory authority.
    Authority,
}

#[derive(Args, Debug)]
pub(super) struct MetricsArguments {
    /// Whose.
    pub(super) of: Of,
}

#[derive(Args, Debug)]
pub(super) struct HealthArguments {
    /// The port where it answers /health.
    #[arg(long, env = "NODE_PORT", default_value_t = 9001)]
    pub(super) port: u16,
    /// The address where it answers.
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) host: IpAddr,
    /// Answer as one line of JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct TokenArguments {
    /// State folder of the authority, which may be running.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Who will run the nodes; operators do not repeat on a path.
    #[arg(long)]
    pub(super) operator: String,
    /// What the nodes may be; may be given more than once [default: any].
    #[arg(long = "role", value_parser = role)]
    pub(super) roles: Vec<Role>,
    /// How many nodes may come with it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) uses: u32,
    /// For how long it lets in nodes; those that came with it stay.
    #[arg(long, default_value = "168h", value_parser = duration)]
    pub(super) expires: Duration,
}

#[derive(Args, Debug)]
pub(super) struct TokensArguments {
    /// State folder of the authority, which may be running.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Answer as one line of JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct RevokeArguments {
    /// The token's id.
    #[arg(value_parser = token_id)]
    pub(super) token: TokenId,
    /// State folder of the authority, which may be running.
    #[arg(long)]
    pub(super) dir: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct LocalnetArguments {
    /// Folder of the network; net.json for clients is written there.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Entry nodes.
    #[arg(long, default_value_t = 2)]
    pub(super) entry: usize,
    /// Middle nodes.
    #[arg(long, default_value_t = 6)]
    pub(super) middle: usize,
    /// Exit nodes.
    #[arg(long, default_value_t = 2)]
    pub(super) exit: usize,
    /// Address that the authority and the nodes listen on, for links, /health and /metrics alike: ::1
    /// on a machine without IPv4.
    #[arg(long, default_value = "127.0.0.1", value_parser = one_address)]
    pub(super) ip: IpAddr,
    /// Address of this machine on which the links listen instead, so that clients on other machines get
    /// there; no other node is let in without a token.
    #[arg(long, value_name = "ADDR", value_parser = reachable)]
    pub(super) listen: Option<IpAddr>,
    /// How long an epoch lasts. Fixed for good by the first start [default for a new network: 600s].
    #[arg(long, value_parser = duration_text)]
    pub(super) epoch: Option<String>,
    /// Mean delay of a packet at each hop; changes with the next epoch
    /// [default: as before, for a new network 15ms].
    #[arg(long, value_parser = duration_text)]
    pub(super) mean_delay: Option<String>,
    /// Export exact counters.
    #[arg(long)]
    pub(super) exact_metrics: bool,
    /// Say what happens as JSON lines.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) service: ServiceArguments,
}

#[derive(Args, Debug)]
pub(super) struct StatusArguments {
    /// Folder of the network.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Answer as one line of JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// For everything that acts as a client.
#[derive(Args, Debug)]
pub(super) struct ClientArguments {
    /// The network's bootstrap file.
    #[arg(long)]
    pub(super) net: PathBuf,
    /// The client's folder: its keys and its address. One process at a time.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// Answer as JSON lines.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct SendArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// The recipient's address (fog1...).
    #[arg(long)]
    pub(super) to: String,
    /// Nodes on the way, 1 to 7.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(super) hops: u8,
    /// Send a large message in bulk: fast, observable, and only to a recipient whose client runs.
    #[arg(long)]
    pub(super) bulk: bool,
    /// Send what this file holds now.
    #[arg(long, conflicts_with = "message")]
    pub(super) file: Option<PathBuf>,
    /// The message; standard input if it is left out or `-`.
    #[arg(default_value = "-")]
    pub(super) message: String,
}

#[derive(Args, Debug)]
pub(super) struct RecvArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// End after this many messages, 1 or more.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Give up when no message comes for this long.
    #[arg(long, value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// Save each message as a file in this folder, named after its id, and show where.
    #[arg(long)]
    pub(super) into: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct PingArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    /// Nodes on the way, 1 to 7.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(super) hops: u8,
    /// Packets to send, one after the other, 1 or more.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) count: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use clap::CommandFactory;

    use super::*;

    /// What the nodes of a local network take over from its environment, and a port that they are always told.
    const SIZES: [&str; 7] = [
        "BATCH_SIZE",
        "LINK_PORT",
        "MAX_QUEUE_DEPTH",
        "PACKETS_PER_CLIENT",
        "PIPELINE_WORKERS",
        "POOL_SIZE",
        "TARGET_THROUGHPUT",
    ];

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_of_one_process_are_not_those_of_a_whole_network() {
        for (command, prefix) in [(["node"].as_slice(), "NODE_"), (&["authority", "run"], "AUTHORITY_")] {
            let mut found = Cli::command();
            for word in command {
                found = found.find_subcommand(word).unwrap().clone();
            }
            let own: Vec<_> = found
                .get_arguments()
                .filter_map(|argument| argument.get_env()?.to_str())
                .filter(|name| !SIZES.contains(name) && *name != "NODE_NAME")
                .collect();
            assert!(own.len() >= 9, "{own:?}");
            assert!(own.iter().all(|name| name.starts_with(prefix)), "{own:?}");
        }
    }
}
