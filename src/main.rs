//! The binary: hands the command line to the library, and its outcome to the shell.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Two threads serve a node's pods; what blocks runs on threads of its own.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match cridge::cli::run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}
