//! The binary: hands the command line to the library, and its outcome to the shell.

use std::process::ExitCode;

use cridge::linux::fdstore::Inherited;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How jemalloc starts (its manual, "TUNING"): what a burst of pods took goes back to the kernel within a second or so.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 86] =
    b"narenas:2,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,tcache_max:4096\0";

fn main() -> ExitCode {
    // While this is the only thread, and has no child.
    let inherited = Inherited::take();
    match serve_or_ask(inherited) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Two threads serve a node's pods; what blocks runs on threads of its own.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn serve_or_ask(inherited: Inherited) -> anyhow::Result<ExitCode> {
    cridge::cli::run(inherited).await
}
