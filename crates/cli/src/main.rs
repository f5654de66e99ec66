//! The binary `sidestream`.

fn main() -> std::process::ExitCode {
    sidestream_cli::main()
}
