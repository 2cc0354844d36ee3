//! The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

mod arguments;
mod messages;
mod monitoring;
mod network;
mod output;
mod services;
mod status;
mod streams;

use std::future::Future;
use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::sync::Arc;

use betanet_node::daemon::looks::Looks;
use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use self::arguments::{AuthorityCommand, Cli, Command, LocalnetCommand, NetCommand};
use self::output::Failure;
use self::streams::{check_output, write_output};

/// Parses the arguments, runs the command and says how it went.
pub(crate) fn run() -> ExitCode {
    let (json, outcome) = match Cli::try_parse() {
        Ok(cli) => (cli.command.json(), dispatch(cli.command)),
        Err(unparsed) => (false, explain(&unparsed)),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            failure.tell(json);
            ExitCode::from(failure.code())
        }
    }
}

/// Gives the help or the version that was asked for, or says what is wrong with the arguments.
fn explain(unparsed: &clap::Error) -> Result<ExitCode, Failure> {
    if unparsed.use_stderr() {
        let _ = unparsed.print();
        return Ok(ExitCode::from(2));
    }
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let text = unparsed.render();
    let text = if stdout().is_terminal() && !plain { text.ansi().to_string() } else { text.to_string() };
    write_output(text.as_bytes())
        .map_err(|err| Failure::Error(format!("cannot write what was asked for to standard output: {err}")))?;
    Ok(ExitCode::SUCCESS)
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    if command.answers() {
        check_output().map_err(|err| Failure::Error(format!("cannot write to standard output: {err}")))?;
    }
    match command {
        Command::Node(arguments) => {
            services::prepare(&arguments.service, "betanet-mixnodes", &arguments.dir)?;
            let looks = Arc::<Looks>::default();
            // Where one thread unwraps, one serves the sockets: more would only wake each other up.
            let runtime = if arguments.workers == 1 { looking_thread(&looks) } else { threads() };
            finish(runtime, services::node(arguments, looks))
        }
        Command::Authority(AuthorityCommand::Run(arguments)) => {
            services::prepare(&arguments.service, "betanet-authority", &arguments.dir)?;
            finish(threads(), services::authority(arguments))
        }
        Command::Authority(AuthorityCommand::Token(arguments)) => finish(one_thread(), network::token(arguments)),
        Command::Authority(AuthorityCommand::Tokens(arguments)) => finish(one_thread(), network::tokens(arguments)),
        Command::Authority(AuthorityCommand::Revoke(arguments)) => finish(one_thread(), network::revoke(arguments)),
        Command::Net(NetCommand::Show(arguments)) => finish(one_thread(), network::show(arguments)),
        Command::Localnet(LocalnetCommand::Run(arguments)) => {
            services::prepare(&arguments.service, "betanet-localnet", &arguments.dir)?;
            // One thread, the main one: the kernel ties children to the thread that starts them.
            finish(one_thread(), services::localnet(arguments))
        }
        Command::Localnet(LocalnetCommand::Status(arguments)) => {
            finish(one_thread(), services::localnet_status(arguments))
        }
        Command::Health(arguments) => finish(one_thread(), monitoring::health(arguments)),
        Command::Metrics(arguments) => monitoring::metrics(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Address(arguments) => finish(threads(), messages::address(arguments)),
        Command::Send(arguments) => finish(threads(), messages::send(arguments)),
        Command::Recv(arguments) => finish(threads(), messages::recv(arguments)),
        Command::Ping(arguments) => finish(threads(), messages::ping(arguments)),
        Command::Status(arguments) => finish(threads(), status::status(arguments)),
    }
}

/// Runs a command to its end.
fn finish(
    runtime: std::io::Result<Runtime>,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<ExitCode, Failure> {
    let runtime = runtime.map_err(|err| Failure::Error(format!("cannot start threads: {err}")))?;
    let outcome = runtime.block_on(command);
    // What still waits for a reader of standard output is given up.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

fn one_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// One thread, which rests between its looks at the sockets where packets come densely.
fn looking_thread(looks: &Arc<Looks>) -> std::io::Result<Runtime> {
    let looks = Arc::clone(looks);
    Builder::new_current_thread().enable_all().on_thread_park(move || looks.rest()).build()
}

fn threads() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
