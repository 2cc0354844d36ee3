//! The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

mod arguments;
mod messages;
mod output;
mod services;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

use self::arguments::{Cli, Command, LocalnetCommand};
use self::output::{Failure, complain};

/// Parses the arguments, runs the command and says how it went.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => ExitCode::from(130),
        Err(Failure::Error(message)) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Node(arguments) => {
            services::prepare(arguments.service)?;
            threads()?.block_on(services::node(arguments))
        }
        Command::Authority(arguments) => {
            services::prepare(arguments.service)?;
            threads()?.block_on(services::authority(arguments))
        }
        Command::Localnet(LocalnetCommand::Run(arguments)) => {
            services::prepare(arguments.service)?;
            // One thread, the main one: the kernel ties children to the thread that starts them.
            Builder::new_current_thread().enable_all().build()?.block_on(services::localnet(arguments))
        }
        Command::Localnet(LocalnetCommand::Status(arguments)) => {
            Builder::new_current_thread().enable_all().build()?.block_on(services::localnet_status(arguments))
        }
        Command::Address(arguments) => threads()?.block_on(messages::address(arguments)),
        Command::Send(arguments) => threads()?.block_on(messages::send(arguments)),
        Command::Recv(arguments) => threads()?.block_on(messages::recv(arguments)),
        Command::Ping(arguments) => threads()?.block_on(messages::ping(arguments)),
    }
}

fn threads() -> std::io::Result<tokio::runtime::Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
