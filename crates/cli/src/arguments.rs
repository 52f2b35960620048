//! The command line. Doc comments are the help.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Breaks AI workloads on purpose, takes everything back, and says with proof what that did.
#[derive(Debug, Parser)]
#[command(
    name = "squall",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an experiment: plan, live progress, verdict, path of the report
    Run(Run),
    /// Check an experiment file: all problems at once, each with its place and remedy
    Check(Check),
    /// Show what an experiment would touch, by which mechanism and how far; touches nothing
    Plan(Plan),
    /// Show what is running and what is outstanding on this host; exit 40 when anything is outstanding
    Status(Status),
    /// Take back what a crashed run left
    Undo(Undo),
    /// List the runs on this host
    Runs(Runs),
    /// Show the report of a run
    Report(Report),
    /// Say what past jobs lost, from their logs and Slurm's accounting; touches nothing
    Ettr(Ettr),
    /// Stand between clients and a service, and make it misbehave; speaks Toxiproxy's API
    Proxy(Proxy),
    /// List the faults, or explain one
    Faults(Faults),
    /// Say what this host can do, and what it lacks for which faults
    Doctor(Plain),
    /// Print the JSON schema of the experiment file, the report, the policy file or the pattern file
    Schema(Schema),
    #[command(hide = true)]
    Guard(Inner),
    #[command(hide = true)]
    Agent(Inner),
    #[command(hide = true)]
    ServeFault(Inner),
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For machines
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The experiment file
    pub(crate) file: PathBuf,
    /// Do not ask before injecting
    #[arg(long)]
    pub(crate) yes: bool,
    /// Use this seed instead of the file's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How to print: lines for people, or one JSON object a line for machines
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The experiment file
    pub(crate) file: PathBuf,
    /// How to print the problems
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The experiment file
    pub(crate) file: PathBuf,
    /// Use this seed instead of the file's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Undo {
    /// The run, by its id or the start of it; `last` for the newest
    #[arg(group = "what")]
    pub(crate) run: Option<String>,
    /// Every run that nobody holds any more
    #[arg(long, group = "what")]
    pub(crate) all: bool,
    /// Also what carries Squall's name and has no journal at all
    #[arg(long, group = "what")]
    pub(crate) sweep: bool,
    /// With --sweep: also take back what cannot be attributed to a run. With RUN: also where it was made on a machine that is gone,
    /// or when nobody can tell who holds it; never a live one
    #[arg(long, conflicts_with = "all")]
    pub(crate) force: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How to print a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people at a terminal
    Text,
    /// squall.report/1
    Json,
    /// For CI servers
    Junit,
    /// For tickets and pull requests
    Markdown,
    /// One self-contained page
    Html,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The run, by its id or the start of it; `last` for the newest
    pub(crate) run: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Ettr {
    /// Logs of jobs, one a job, and what `sacct --parsable2 --duplicates` printed
    #[arg(required = true)]
    pub(crate) logs: Vec<PathBuf>,
    /// What lines of the logs mean: a pattern file
    #[arg(long)]
    pub(crate) patterns: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Proxy {
    /// The proxy file, or the JSON list that Toxiproxy starts with; without it and `--upstream`, proxies come by the API
    pub(crate) file: Option<PathBuf>,
    /// Where clients connect: a free port of 127.0.0.1 unless given
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "file")]
    pub(crate) listen: Option<String>,
    /// The service to lead to: HOST:PORT, http://HOST:PORT, https://HOST, tls://HOST:PORT, or `mock`, which answers as a model's service would
    #[arg(long, value_name = "SERVICE", conflicts_with = "file")]
    pub(crate) upstream: Option<String>,
    /// The same as `--upstream mock`
    #[arg(long, conflicts_with_all = ["file", "upstream"])]
    pub(crate) mock: bool,
    /// Certificates (PEM) that vouch for a service with TLS, in place of the system's
    #[arg(long, value_name = "PATH", requires = "upstream")]
    pub(crate) ca: Option<PathBuf>,
    /// The name that the certificate of a service with TLS must have: that of the upstream unless given
    #[arg(long, value_name = "NAME", requires = "upstream")]
    pub(crate) server_name: Option<String>,
    /// Speak TLS to clients, with a certificate of the test CA in this folder; one is made where there is none
    #[arg(long, value_name = "FOLDER", conflicts_with = "file")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Where the API answers; off loopback it needs a token, which is in the state folder
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8474")]
    pub(crate) api: std::net::SocketAddr,
    /// Answer no API
    #[arg(long)]
    pub(crate) no_api: bool,
    /// Keep those oddities of Toxiproxy that a client may depend on
    #[arg(long)]
    pub(crate) strict_compat: bool,
    /// Use this seed instead of the file's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Write every record to this file, one JSON object a line
    #[arg(long, value_name = "PATH")]
    pub(crate) log: Option<PathBuf>,
    /// Threads that carry traffic: as many as processors, at most 4, unless given
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) workers: Option<u8>,
}

/// How to print the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CatalogueFormat {
    /// For people at a terminal
    Text,
    /// For machines
    Json,
    /// The reference page
    Markdown,
}

#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// A fault, or the beginning of its name
    pub(crate) name: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = CatalogueFormat::Text)]
    pub(crate) format: CatalogueFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Plain {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Which schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// The experiment file
    Experiment,
    /// The report
    Report,
    /// The policy file
    Policy,
    /// The pattern file of `squall ettr`
    Patterns,
    /// The proxy file
    Proxy,
}

#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which schema
    #[arg(value_enum, default_value_t = SchemaOf::Experiment)]
    pub(crate) of: SchemaOf,
}

#[derive(Debug, Args)]
pub(crate) struct Inner {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}
