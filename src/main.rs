//! The `pgshift` command. All of it lives in the library's [`pgshift::cli`].

fn main() -> std::process::ExitCode {
    pgshift::cli::main()
}
