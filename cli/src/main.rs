//! `conveyorctl`: reads settings, runs one command, turns its outcome into an exit code.

use std::process::ExitCode;

use conveyor_cli::settings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !conveyor_connectors::file::decoder_running() {
            usual(panic);
        }
    }));
    let args = match settings::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(code) => return ExitCode::from(code),
    };
    conveyor_cli::logging::init(&args.global);
    conveyor_cli::crash::arm_from_environment();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::from(1);
        }
    };
    let code = runtime.block_on(conveyor_cli::commands::execute(args));
    // Readers of standard input and other blocking calls must not hold up the exit.
    runtime.shutdown_background();
    ExitCode::from(code)
}
