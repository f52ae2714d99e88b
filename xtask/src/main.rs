//! All automation of this workspace: `cargo xtask demo`, `test`, `e2e`, `image`, `bench`,
//! `release`, `fuzz`, `soak`, `kernels`, `picture`.
//!
//! `demo` builds with cargo outside and then runs itself again inside the sandbox of the testkit,
//! where namespaces, links and rules are made; nothing of it outlives the program.

mod apt;
mod bench;
mod binary;
mod demo;
mod e2e;
mod fuzz;
mod host;
mod image;
mod kernels;
mod picture;
mod public;
mod release;
mod soak;
mod test;
mod tools;
mod uml;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use kube_proxy_testkit::output::complain;

/// Automation of the kube-proxy workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Shows kube-proxy balancing real connections between two pods, in namespaces of its own
    Demo(demo::Arguments),
    /// Checks everything: formatting, lints, tests, end-to-end tests, documentation, the demo
    Test(test::Arguments),
    /// Runs the checks of a cluster, on kind or on namespaces
    E2e(e2e::Arguments),
    /// Makes the container image, or the directory that it is made of
    Image(image::Arguments),
    /// Makes the files of a release: static programs, symbols, an image, lists of parts, checksums
    Release(release::Arguments),
    /// Measures
    Bench(bench::Arguments),
    /// Makes random changes for minutes, then compares the node with what a fresh process writes
    Soak(soak::Arguments),
    /// Looks for bytes that break what reads bytes, with libFuzzer
    Fuzz(fuzz::Arguments),
    /// Tests the nftables mode on older kernels of Debian, under emulation; takes some minutes for each
    Kernels(kernels::Arguments),
    /// Draws how a change travels, docs/change.svg
    Picture,
    /// Installs what the host lacks and checks what the kernel can do
    CheckHost,
    /// Runs a command in user-mode Linux, whose kernel has IPVS
    Uml(uml::Arguments),
    /// What user-mode Linux starts first; not for people
    #[command(hide = true)]
    UmlInside {
        exchange: std::path::PathBuf,
        /// What the kernel adds to the command line
        rest: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Task::UmlInside { exchange, .. } = &arguments.command {
        uml::run_inside(exchange);
    }
    let result = host::find_system_programs().and_then(|()| match arguments.command {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::E2e(arguments) => e2e::run(&arguments),
        Task::Image(arguments) => image::run(&arguments),
        Task::Release(arguments) => release::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Kernels(arguments) => kernels::run(&arguments),
        Task::Picture => picture::run(),
        Task::CheckHost => host::check(),
        Task::Uml(arguments) => uml::run(&arguments),
        Task::UmlInside { exchange, .. } => uml::run_inside(&exchange),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
