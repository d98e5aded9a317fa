//! The `-W -O -C -D -S` options, shared by `run` and `compile`.

use clap::Args;

use super::Result;
use crate::protocol::{OptionError, Options, check_options};
use crate::supervisor::Error;

const HEADING: &str = "Options of wasmtime";

/// Options of `wasmtime run` that go to wasmtime as they are, by group.
#[derive(Clone, Debug, Default, Args)]
pub struct EngineOptions {
    /// WASI options; `-S help` lists them
    #[arg(help_heading = HEADING, short = 'S', long = "wasi", value_name = "KEY[=VAL[,..]]", allow_hyphen_values = true)]
    wasi: Vec<String>,
    /// Options about WebAssembly semantics, such as fuel and timeout; `-W help` lists them
    #[arg(help_heading = HEADING, short = 'W', long = "wasm", value_name = "KEY[=VAL[,..]]", allow_hyphen_values = true)]
    wasm: Vec<String>,
    /// Optimization options; `-O help` lists them
    #[arg(help_heading = HEADING, short = 'O',
        long = "optimize",
        value_name = "KEY[=VAL[,..]]",
        allow_hyphen_values = true
    )]
    optimize: Vec<String>,
    /// Code generation options; `-C help` lists them
    #[arg(help_heading = HEADING, short = 'C',
        long = "codegen",
        value_name = "KEY[=VAL[,..]]",
        allow_hyphen_values = true
    )]
    codegen: Vec<String>,
    /// Debug options; `-D help` lists them
    #[arg(help_heading = HEADING, short = 'D', long = "debug", value_name = "KEY[=VAL[,..]]", allow_hyphen_values = true)]
    debug: Vec<String>,
}

impl EngineOptions {
    /// The options as [`check_options`] takes them, one a string with its letter. The order among
    /// groups is not kept: no group looks at another.
    #[must_use]
    pub fn raw(&self) -> Vec<String> {
        [
            ('S', &self.wasi),
            ('W', &self.wasm),
            ('O', &self.optimize),
            ('C', &self.codegen),
            ('D', &self.debug),
        ]
        .into_iter()
        .flat_map(|(letter, values)| values.iter().map(move |value| format!("-{letter}{value}")))
        .collect()
    }

    /// Parses the options and refuses those that wasi-guard cannot honour. `-W help` and its like
    /// print their list and end the process, as in wasmtime.
    ///
    /// # Errors
    /// See [`OptionError`].
    pub fn parse(&self) -> Result<Options> {
        check_options(&self.raw()).map_err(|error| {
            let hint = match &error {
                OptionError::Refused { .. } => "leave it out",
                _ => "-S help, -W help, -O help, -C help and -D help list the options",
            };
            Error::step("use the options for wasmtime", error).hint(hint)
        })
    }
}
