//! The binary `oob`; all of it is in the library.

fn main() -> std::process::ExitCode {
    oob_daemon::run(std::env::args_os())
}
