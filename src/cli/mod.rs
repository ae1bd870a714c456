//! Faces for people and scripts: one file per command. Results go to standard output, everything else to standard
//! error; the exit code follows the contract of the README.

mod archive;
mod backup;
mod browse;
mod check;
mod diff;
mod drill;
mod global;
mod init;
mod ledger;
mod output;
mod points;
mod prune;
mod quickstart;
mod rebuild;
mod repair;
mod restore;
mod resume;
mod status;
mod terminal;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::ground::{Failure, FailureKind, Result};
use global::Global;

/// Back up a system to a DR site, restore it, and prove by recorded drills how long that takes and what is lost.
#[derive(Debug, Parser)]
#[command(name = "lifeboat", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a sample system, back it up, archive it and drill it
    Quickstart {
        /// Where the sample system goes, or already is
        #[arg(value_name = "DIR", default_value = "quickstart-demo")]
        directory: std::path::PathBuf,
    },
    /// Write a first policy for your own data
    Init(init::Arguments),
    /// Validate policies; looks neither at the disk nor at the network
    Check(check::Arguments),
    /// Back up a system to its DR site
    Backup(backup::Arguments),
    /// Health against the objectives, last points, incidents
    Status(status::Arguments),
    /// List recovery points
    Points(points::Arguments),
    /// List a directory of a recovery point
    Ls(browse::LsArguments),
    /// Find files by name in all recovery points
    Find(browse::FindArguments),
    /// Write a file of a recovery point to standard output
    Cat(browse::CatArguments),
    /// Compare two recovery points of one source
    Diff(diff::Arguments),
    /// Restore a system, a source or some paths into a directory
    Restore(restore::Arguments),
    /// Copy recovery points into cold storage
    Archive(archive::Arguments),
    /// Check the repository and, with --read-data, every byte in it
    Verify(verify::Arguments),
    /// Remove what no recovery point needs: mark it first, delete it in a later call
    Prune(prune::Arguments),
    /// Mend a damaged repository and name what is lost; deletes and rewrites nothing that is good
    Repair(repair::Arguments),
    /// Carry out a recovery plan in isolation; measure RPO and RTO
    Drill(drill::Arguments),
    /// List drills
    Drills(drill::ListArguments),
    /// Show a drill's report
    Report(drill::ReportArguments),
    /// Read the ledger
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Bring policy and catalog back from a DR site on a new machine
    Rebuild(rebuild::Arguments),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line; the exit code follows the contract.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            report(&failure);
            ExitCode::from(exit_code(failure.kind))
        }
    }
}

fn run(cli: &Cli) -> Result<u8> {
    let global = &cli.global;
    match &cli.command {
        Command::Quickstart { directory } => quickstart::run(&quickstart::QuickstartArguments {
            dir: directory.clone(),
            json: global.json,
            quiet: global.quiet,
            no_progress: global.no_progress,
        }),
        Command::Init(arguments) => init::command(global, arguments),
        Command::Check(arguments) => check::command(global, arguments),
        Command::Backup(arguments) => backup::command(global, arguments),
        Command::Status(arguments) => status::command(global, arguments),
        Command::Points(arguments) => points::command(global, arguments),
        Command::Ls(arguments) => browse::ls(global, arguments),
        Command::Find(arguments) => browse::find(global, arguments),
        Command::Cat(arguments) => browse::cat(global, arguments),
        Command::Diff(arguments) => diff::command(global, arguments),
        Command::Restore(arguments) => restore::command(global, arguments),
        Command::Archive(arguments) => archive::command(global, arguments),
        Command::Verify(arguments) => verify::command(global, arguments),
        Command::Prune(arguments) => prune::command(global, arguments),
        Command::Repair(arguments) => repair::command(global, arguments),
        Command::Drill(arguments) => drill::command(global, arguments),
        Command::Drills(arguments) => drill::list(global, arguments),
        Command::Report(arguments) => drill::report(global, arguments),
        Command::Ledger(command) => ledger::command(global, command),
        Command::Rebuild(arguments) => rebuild::command(global, arguments),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "lifeboat", &mut std::io::stdout());
            Ok(0)
        }
    }
}

/// Exit codes of the contract.
fn exit_code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Failed => 1,
        FailureKind::WrongInput => 2,
        FailureKind::Partial => 3,
        FailureKind::Busy => 5,
        FailureKind::Interrupted => 130,
    }
}

/// Policy errors are whole lines that begin with file, line and column; everything else is one sentence.
fn report(failure: &Failure) {
    if failure.message.contains('\n') {
        eprintln!("{}", failure.message.trim_end());
    } else {
        eprintln!("error: {}", failure.message);
    }
    for hint in &failure.hints {
        eprintln!("hint: {hint}");
    }
}

/// Runs asynchronous work; Ctrl-C and a service manager's TERM end it with exit code 130 and a sentence, and the next
/// command continues what it left.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            failure = interrupted() => Err(failure),
        }
    });
    if outcome.as_ref().is_err_and(|failure| failure.kind == FailureKind::Interrupted) {
        // Worker threads may be deep in a read: they are not waited for, exactly as after a kill.
        runtime.shutdown_background();
    }
    outcome
}

async fn interrupted() -> Failure {
    use tokio::signal::unix::{SignalKind, signal};
    let came = async |kind: SignalKind| match signal(kind) {
        Ok(mut stream) => drop(stream.recv().await),
        // Then it has its usual effect, which is the same without the sentence.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = came(SignalKind::interrupt()) => {}
        () = came(SignalKind::terminate()) => {}
    }
    Failure::interrupted().hint("the next command continues what was interrupted")
}
