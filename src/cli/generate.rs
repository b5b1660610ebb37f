//! `pgshift completions` and `pgshift man`

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::context::App;
use super::exit::Exit;
use crate::error::{Error, Result};
use crate::report::out;

/// Write completions for a shell to standard output.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write the manual: one page to standard output, or a page for each command to a folder.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit> {
    let mut command = super::Cli::command();
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "pgshift", &mut text);
    out::stdout(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Success)
}

pub(super) fn man(app: &App, args: &ManArgs) -> Result<Exit> {
    let command = super::Cli::command();
    let Some(dir) = &args.dir else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut text)
            .map_err(|e| Error::internal(format!("the manual cannot be made: {e}")))?;
        out::stdout(&String::from_utf8_lossy(&text))?;
        return Ok(Exit::Success);
    };
    let failed = |e: std::io::Error| Error::usage(format!("{}: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(command, dir).map_err(failed)?;
    app.say(&format!("wrote the manual to {}", dir.display()));
    Ok(Exit::Success)
}
