//! The binary `sidestream`.

/// What a task needs is allocated by one thread and freed by another, many thousand times a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sidestream_cli::main()
}
