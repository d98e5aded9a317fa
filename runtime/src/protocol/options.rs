//! The `-W -O -C -D -S` options of `wasmtime run`, parsed by wasmtime's own parser.
//!
//! Three processes read them and must agree: the caller's (to refuse early), the one that compiles
//! and the one that runs. So all three pass the raw strings to [`check_options`].

use std::time::Duration;

use clap::Parser as _;
use wasmtime::Config;
use wasmtime_cli_flags::CommonOptions;

/// Options that were understood and that wasi-guard supports.
#[derive(Clone)]
pub struct Options {
    common: CommonOptions,
    raw: Vec<String>,
}

/// Why options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A string is not of the form `-Wkey=value`.
    #[error("`{0}` is not an option of the form -Wkey=value (groups: -W -O -C -D -S)")]
    Form(String),
    /// wasmtime does not know the option or its value.
    #[error("{0}")]
    Unknown(String),
    /// wasmtime knows the option, wasi-guard does not support it.
    #[error("`{option}` is not supported by wasi-guard: {reason}")]
    Refused {
        /// The option as it is written, for example `-S http`.
        option: &'static str,
        /// Why.
        reason: &'static str,
    },
}

/// Parses options, one a string with the letter of its group (`-Wfuel=1,timeout=2s`), and refuses
/// by name those that wasi-guard cannot honour.
///
/// `-W help` and its like print the group's options and end the process, as in wasmtime: call this
/// from a command line only.
///
/// # Errors
/// See [`OptionError`].
pub fn check_options(raw: &[String]) -> Result<Options, OptionError> {
    if raw.is_empty() {
        // Nothing to read, which for the reader is still much to do: it costs a tenth of a start.
        return Ok(Options { common: CommonOptions::new(), raw: Vec::new() });
    }
    for option in raw {
        if !is_option(option) {
            return Err(OptionError::Form(option.clone()));
        }
    }
    let arguments = std::iter::once("wasi-guard").chain(raw.iter().map(String::as_str));
    let mut common = CommonOptions::try_parse_from(arguments)
        .map_err(|error| OptionError::Unknown(clap_text(&error)))?;
    // `config` is what fills the public fields, so it comes before our own refusals; theirs have
    // the better text, so its verdict is looked at after them.
    let verdict = common.config(None);
    if let Some((option, reason)) = refused(&common) {
        return Err(OptionError::Refused { option, reason });
    }
    verdict.map_err(|error| OptionError::Unknown(format!("{error:#}")))?;
    Ok(Options { common, raw: raw.to_vec() })
}

/// `-Xsomething` with a known group; `--config`, `--target` and `-R` are none.
fn is_option(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('-')
        && matches!(chars.next(), Some('W' | 'O' | 'C' | 'D' | 'S'))
        && chars.next().is_some_and(|first| first != '=')
}

fn clap_text(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

type Refusal = (&'static str, &'static str);

fn refused(common: &CommonOptions) -> Option<Refusal> {
    refused_wasi(common).or_else(|| refused_rest(common))
}

fn refused_wasi(common: &CommonOptions) -> Option<Refusal> {
    let wasi = &common.wasi;
    let on = |value: Option<bool>| value == Some(true);
    let not_there = "this WASI proposal is not part of wasi-guard";
    let rows = [
        (on(wasi.nn) || !wasi.nn_graph.is_empty(), "-S nn", not_there),
        (
            on(wasi.http)
                || wasi.http_outgoing_body_buffer_chunks.is_some()
                || wasi.http_outgoing_body_chunk_size.is_some()
                || wasi.max_http_fields_size.is_some(),
            "-S http",
            not_there,
        ),
        (on(wasi.config) || !wasi.config_var.is_empty(), "-S config", not_there),
        (on(wasi.keyvalue) || !wasi.keyvalue_in_memory_data.is_empty(), "-S keyvalue", not_there),
        (on(wasi.tls), "-S tls", not_there),
        (on(wasi.threads), "-S threads", not_there),
        (on(wasi.p3), "-S p3", "WASI 0.3 is not part of wasi-guard yet"),
        (
            wasi.preview2 == Some(false),
            "-S preview2=n",
            "wasmtime's older implementation of preview 1 is not part of wasi-guard",
        ),
        (
            on(wasi.listenfd),
            "-S listenfd",
            "no descriptor of the caller but stdin, stdout and stderr reaches the guest",
        ),
        (
            !wasi.tcplisten.is_empty(),
            "-S tcplisten",
            "no descriptor of the caller but stdin, stdout and stderr reaches the guest",
        ),
        (
            on(wasi.allow_ip_name_lookup),
            "-S allow-ip-name-lookup",
            "a resolver inside the guest's process needs files and servers that no policy grants; \
             use addresses",
        ),
    ];
    first(&rows)
}

fn refused_rest(common: &CommonOptions) -> Option<Refusal> {
    let on = |value: Option<bool>| value == Some(true);
    let own_cache = "wasi-guard has its own cache; see --cache";
    let no_files = "it writes files from the guest's process";
    let debug = &common.debug;
    let rows = [
        (on(common.codegen.cache), "-C cache", own_cache),
        (common.codegen.cache_config.is_some(), "-C cache-config", own_cache),
        (on(debug.logging), "-D logging", "it is not built in"),
        (on(debug.log_to_files), "-D log-to-files", no_files),
        (debug.coredump.is_some(), "-D coredump", no_files),
        (
            on(debug.guest_debug)
                || debug.debugger.is_some()
                || !debug.arg.is_empty()
                || debug.inherit_stdin.is_some()
                || debug.inherit_stdout.is_some()
                || debug.inherit_stderr.is_some(),
            "-D debugger",
            "a debugger component would run beside the guest with the guest's rights",
        ),
        (
            on(common.wasm.unknown_imports_default),
            "-W unknown-imports-default",
            "calls that silently do nothing hide what a guest asked for; \
             use -W unknown-imports-trap",
        ),
        (
            common.opts.pooling_pagemap_scan.is_some(),
            "-O pooling-pagemap-scan",
            "it reads /proc from the guest's process",
        ),
    ];
    first(&rows)
}

fn first(rows: &[(bool, &'static str, &'static str)]) -> Option<Refusal> {
    rows.iter().find(|(asked, _, _)| *asked).map(|&(_, option, reason)| (option, reason))
}

impl Options {
    /// The strings as they were given.
    #[must_use]
    pub fn raw(&self) -> &[String] {
        &self.raw
    }

    /// wasmtime's parsed form.
    #[must_use]
    pub const fn common(&self) -> &CommonOptions {
        &self.common
    }

    /// `-W timeout`.
    #[must_use]
    pub const fn timeout(&self) -> Option<Duration> {
        self.common.wasm.timeout
    }

    /// `-W fuel`.
    #[must_use]
    pub const fn fuel(&self) -> Option<u64> {
        self.common.wasm.fuel
    }

    /// `-S inherit-network`: the caller grants the host's network.
    #[must_use]
    pub fn inherit_network(&self) -> bool {
        self.common.wasi.inherit_network == Some(true)
    }

    /// `-S inherit-env`: the caller grants its whole environment.
    #[must_use]
    pub fn inherit_env(&self) -> bool {
        self.common.wasi.inherit_env == Some(true)
    }

    /// wasmtime's configuration for these options. `fuel` and `epochs` change the code that is
    /// generated: they must be the same when compiling and when running.
    ///
    /// # Errors
    /// If wasmtime does not accept a combination.
    pub fn config(
        &self,
        fuel: bool,
        epochs: bool,
        target: Option<&str>,
    ) -> wasmtime::Result<Config> {
        let mut common = self.common.clone();
        common.target = target.map(str::to_owned);
        let mut config = common.config(None)?;
        if common.wasm.async_stack_size.is_none() && common.wasm.max_wasm_stack.is_none() {
            config.async_stack_size(GUEST_STACK);
        }
        if fuel {
            config.consume_fuel(true);
        }
        if epochs {
            config.epoch_interruption(true);
        }
        Ok(config)
    }

    /// The options that change the generated code, in one canonical text: two runs with the same
    /// text can share an artifact.
    #[must_use]
    pub fn codegen_text(&self, fuel: bool, epochs: bool) -> String {
        let mut common = self.common.clone();
        common.wasi = Default::default();
        common.target = None;
        common.codegen.cache = None;
        common.codegen.parallel_compilation = None;
        common.debug.max_backtrace = None;
        let wasm = &mut common.wasm;
        wasm.fuel = None;
        wasm.epoch_interruption = None;
        wasm.timeout = None;
        wasm.max_memory_size = None;
        wasm.max_table_elements = None;
        wasm.max_instances = None;
        wasm.max_tables = None;
        wasm.max_memories = None;
        wasm.trap_on_grow_failure = None;
        wasm.unknown_exports_allow = None;
        wasm.unknown_imports_trap = None;
        wasm.unknown_imports_default = None;
        let fuel = fuel || self.common.wasm.fuel.is_some();
        let epochs = epochs || self.common.wasm.epoch_interruption == Some(true);
        format!("{common}fuel={fuel} epochs={epochs}")
    }
}

/// The stack on which a guest and the host's part of its calls run: half of it the guest's
/// (wasmtime's default), half the host's (as wasmtime-cli-flags has it where the guest's is chosen).
/// wasmtime's own default is 2 MiB, which Linux 6.7 and later gives as one huge page to each guest.
const GUEST_STACK: usize = 1 << 20;

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Options").field(&self.raw).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &[&str]) -> Result<Options, OptionError> {
        check_options(&options.iter().map(|&it| it.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_of_all_groups_are_read_as_wasmtime_reads_them() {
        let options = check(&[
            "-Wfuel=100,timeout=2s",
            "-Oopt-level=0",
            "-Ccache=n",
            "-Ddebug-info=n",
            "-Sinherit-network",
        ])
        .unwrap();
        assert_eq!(options.fuel(), Some(100));
        assert_eq!(options.timeout(), Some(Duration::from_secs(2)));
        assert!(options.inherit_network());
        assert!(!options.inherit_env());
    }

    #[test]
    fn what_would_leave_the_guests_confinement_is_refused_by_name() {
        for (option, name) in [
            ("-Snn", "-S nn"),
            ("-Shttp", "-S http"),
            ("-Shttp=y,cli=y", "-S http"),
            ("-Sconfig", "-S config"),
            ("-Skeyvalue", "-S keyvalue"),
            ("-Stls", "-S tls"),
            ("-Sthreads", "-S threads"),
            ("-Sp3", "-S p3"),
            ("-Spreview2=n", "-S preview2=n"),
            ("-Slistenfd", "-S listenfd"),
            ("-Stcplisten=127.0.0.1:1", "-S tcplisten"),
            ("-Sallow-ip-name-lookup", "-S allow-ip-name-lookup"),
            ("-Ccache", "-C cache"),
            ("-Ccache-config=x", "-C cache-config"),
            ("-Dlogging", "-D logging"),
            ("-Dlog-to-files", "-D log-to-files"),
            ("-Dcoredump=x", "-D coredump"),
            ("-Dguest-debug", "-D debugger"),
            ("-Ddebugger=x", "-D debugger"),
            ("-Wunknown-imports-default", "-W unknown-imports-default"),
            ("-Opooling-pagemap-scan=yes", "-O pooling-pagemap-scan"),
        ] {
            match check(&[option]) {
                Err(OptionError::Refused { option: refused, .. }) => assert_eq!(refused, name),
                other => panic!("{option}: {other:?}"),
            }
        }
    }

    /// Two MiB would be a huge page of its own for each guest.
    #[test]
    fn the_stack_is_less_than_a_huge_page_unless_it_was_asked_for() {
        for (options, expected) in [
            (&[][..], 1 << 20),
            (&["-Wasync-stack-size=4194304"], 4 << 20),
            (&["-Wmax-wasm-stack=2097152"], 2 << 20 | 512 << 10),
        ] {
            let config = check(options).unwrap().config(false, false, None).unwrap();
            let engine = wasmtime::Engine::new(&config).unwrap();
            assert_eq!(engine.get_async_stack_size(), expected, "{options:?}");
        }
    }

    #[test]
    fn no_options_are_what_the_parser_makes_of_none() {
        let mut parsed = CommonOptions::try_parse_from(["wasi-guard"]).unwrap();
        parsed.config(None).unwrap();
        assert_eq!(parsed.to_string(), check(&[]).unwrap().common.to_string());
    }

    #[test]
    fn unknown_options_and_other_forms_are_errors() {
        for option in ["-Wfuell=1", "-Wfuel=x", "-Onothing"] {
            assert!(matches!(check(&[option]), Err(OptionError::Unknown(_))), "{option}");
        }
        for option in ["", "-", "-W", "-W=x", "-Rpath=x", "--target=x", "--config=x", "app", "-Z1"]
        {
            assert!(matches!(check(&[option]), Err(OptionError::Form(_))), "{option}");
        }
    }

    #[test]
    fn only_what_changes_the_code_changes_the_text() {
        let plain = check(&[]).unwrap();
        let text = plain.codegen_text(false, false);
        for option in ["-Wmax-memory-size=1", "-Sinherit-network", "-Ccache=n", "-Wtimeout=1s"] {
            assert_eq!(check(&[option]).unwrap().codegen_text(false, false), text, "{option}");
        }
        for option in ["-Oopt-level=0", "-Wfuel=1", "-Wsimd=n", "-Wepoch-interruption=y"] {
            assert_ne!(check(&[option]).unwrap().codegen_text(false, false), text, "{option}");
        }
        assert_eq!(
            check(&["-Wfuel=1"]).unwrap().codegen_text(false, false),
            check(&["-Wfuel=2"]).unwrap().codegen_text(false, false)
        );
        assert_ne!(plain.codegen_text(true, false), text);
        assert_ne!(plain.codegen_text(false, true), text);
    }
}
