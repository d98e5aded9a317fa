//! The arguments of `run`.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use clap::Args;
use wasi_guard_policy::Mode;

use super::{EngineOptions, Result, exit};
use crate::audit;
use crate::protocol::Options;
use crate::supervisor::Error;

const ABOUT: &str = "\
Run a WASI module or component under a policy.

MODULE is a WASI preview 1 module or a preview 2 component, binary (.wasm) or text (.wat). ARGS, its \
environment, stdin, stdout, stderr and its exit code are as with `wasmtime run`; options stand \
before MODULE. This takes root, and a host that passes `wasi-guard doctor`; the guest itself runs \
without any privilege.

Without --policy, the options --dir, --env and -S of `wasmtime run` are the policy, and the kernel \
enforces that one: what they do not grant is denied.

With --policy, SIGHUP makes it read the policy file again: see `wasi-guard policy reload --help`. \
Other signals, and SIGHUP without --policy, end the run.";

const EXAMPLES: &str = concat!(
    "\
Examples:
  wasi-guard run --policy app.toml app.wasm input.csv
  wasi-guard run --dir ./data::/data app.wasm
  wasi-guard run --policy app.toml --mode audit --audit denied.jsonl app.wasm

",
    exit::run_help!()
);

/// `wasi-guard run`.
#[derive(Clone, Debug, Args)]
#[command(
    about = "Run a WASI module or component under a policy",
    long_about = ABOUT,
    after_long_help = EXAMPLES,
    override_usage = "wasi-guard run [OPTIONS] MODULE [ARGS]..."
)]
pub struct RunArgs {
    /// Policy file (TOML) that says what the guest may touch
    #[arg(short, long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Without --policy: give the guest a directory of the host, with everything below it
    ///
    /// GUEST is the guest's name for it; without GUEST, the name is HOST. May be repeated.
    #[arg(long = "dir", value_name = "HOST[::GUEST]", value_parser = parse_dir)]
    pub dirs: Vec<Dir>,

    /// Set an environment variable for the guest, or pass on one of yours
    ///
    /// Without =VALUE the variable has the value that it has here; if it is not set here, it is
    /// not set there. May be repeated.
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = parse_env)]
    env: Vec<EnvGrant>,

    /// The guest's argument 0; MODULE's file name if not given
    #[arg(long, value_name = "NAME")]
    pub argv0: Option<String>,

    /// Refused, see [`RunArgs::check`].
    #[arg(long, value_name = "FUNCTION", hide = true)]
    invoke: Option<String>,

    /// Append audit records (JSON lines) to this file
    ///
    /// Beats the policy's [audit] file. Without both, records go to stderr.
    #[arg(long, value_name = "FILE", conflicts_with = "audit_fd")]
    pub audit: Option<PathBuf>,

    /// Write audit records to this open file descriptor
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub audit_fd: Option<i32>,

    /// Beat the policy's mode
    ///
    /// `audit` records what would be denied and lets it pass: to find out what a guest needs. It
    /// protects nothing.
    #[arg(long, value_name = "MODE", value_parser = ["enforce", "audit"])]
    mode: Option<String>,

    /// Keep compiled modules in this directory
    ///
    /// Default: /var/cache/wasi-guard for root, wasi-guard in the user's cache directory for
    /// others.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Show the debug log of the BPF programs on stderr
    #[arg(long)]
    pub bpf_log: bool,

    /// Say more: the steps of the start, and the details of errors
    #[arg(short, long)]
    pub verbose: bool,

    /// Options that go to wasmtime.
    #[command(flatten)]
    pub engine: EngineOptions,

    /// The module, and the guest's arguments; what looks like an option there is the guest's
    #[arg(value_name = "MODULE [ARGS]", required = true, trailing_var_arg = true)]
    module_and_args: Vec<OsString>,
}

/// A directory that `--dir` grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    /// On the host, relative to the current directory.
    pub host: PathBuf,
    /// The guest's name.
    pub guest: String,
}

/// A variable that `--env` grants.
#[derive(Clone, Debug, PartialEq, Eq)]
struct EnvGrant {
    name: String,
    value: Option<String>,
}

fn parse_dir(text: &str) -> std::result::Result<Dir, String> {
    let (host, guest) = text.split_once("::").unwrap_or((text, text));
    if host.is_empty() || guest.is_empty() {
        return Err("write HOST or HOST::GUEST, as in ./data::/data".into());
    }
    Ok(Dir { host: host.into(), guest: guest.into() })
}

fn parse_env(text: &str) -> std::result::Result<EnvGrant, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("write NAME or NAME=VALUE".into());
    }
    Ok(EnvGrant { name: name.into(), value })
}

impl RunArgs {
    /// Refuses combinations that have no good meaning, and reads the options for wasmtime.
    ///
    /// # Errors
    /// Names the option and what to use instead.
    pub fn check(&self) -> Result<Options> {
        if self.invoke.is_some() {
            return Err(refused(
                "use --invoke",
                "wasi-guard runs commands, which start at `_start` or `wasi:cli/run`",
                "export the function as the start of a command",
            ));
        }
        let options = self.engine.parse()?;
        if self.policy.is_some() && !self.dirs.is_empty() {
            return Err(refused(
                "use --dir together with --policy",
                "a policy names every directory that the guest gets",
                "add a [[preopen]] to the policy, or leave out --policy",
            ));
        }
        if self.policy.is_some() && options.inherit_network() {
            return Err(refused(
                "use -S inherit-network together with --policy",
                "a policy names every address that the guest may use",
                "add them to the policy's [network], or leave out --policy",
            ));
        }
        Ok(options)
    }

    /// The module's path as it was given.
    #[must_use]
    pub fn module(&self) -> &Path {
        // clap refuses an empty list.
        self.module_and_args.first().map_or(Path::new(""), Path::new)
    }

    /// The guest's arguments after its name.
    ///
    /// # Errors
    /// If one is not UTF-8, which WASI arguments have to be.
    pub fn arguments(&self) -> Result<Vec<String>> {
        self.module_and_args.iter().skip(1).map(|arg| text("an argument", arg)).collect()
    }

    /// The guest's environment, a later entry in place of an earlier one of the same name.
    /// `inherit` is `-S inherit-env`.
    ///
    /// # Errors
    /// If a value that is passed on is not UTF-8.
    pub fn environment(&self, inherit: bool) -> Result<Vec<(String, String)>> {
        let mut env: Vec<(String, String)> = Vec::new();
        let mut set = |name: String, value: String| {
            env.retain(|(known, _)| *known != name);
            env.push((name, value));
        };
        if inherit {
            for (name, value) in std::env::vars_os() {
                set(
                    text("an environment variable", &name)?,
                    text("an environment variable", &value)?,
                );
            }
        }
        for grant in &self.env {
            let value = match &grant.value {
                Some(value) => Some(value.clone()),
                None => std::env::var_os(&grant.name)
                    .map(|value| text(&format!("the environment variable {}", grant.name), &value))
                    .transpose()?,
            };
            if let Some(value) = value {
                set(grant.name.clone(), value);
            }
        }
        Ok(env)
    }

    /// A copy of the descriptor that `--audit-fd` names.
    ///
    /// # Errors
    /// If it is not open.
    pub fn audit_descriptor(&self) -> Result<Option<OwnedFd>> {
        let copy = |number| {
            audit::inherited(number).map_err(|error| {
                Error::step(format!("write audit records to descriptor {number}"), error)
                    .hint("open it in the shell, as in: --audit-fd 3 3>>audit.jsonl")
            })
        };
        self.audit_fd.map(copy).transpose()
    }

    /// The mode that beats the policy's, if one is given.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        [Mode::Enforce, Mode::Audit]
            .into_iter()
            .find(|mode| self.mode.as_deref() == Some(mode.name()))
    }
}

fn refused(step: &str, cause: &str, hint: &str) -> Error {
    let mut error = Error::new(step).hint(hint);
    error.causes.push(cause.to_owned());
    error
}

fn text(what: &str, value: &OsStr) -> Result<String> {
    value.to_str().map(str::to_owned).ok_or_else(|| {
        refused(
            &format!("pass {what} to the guest"),
            &format!("{value:?} is not UTF-8"),
            "WASI arguments and environment are UTF-8 text",
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(args: &[&str]) -> RunArgs {
        Line::try_parse_from(std::iter::once("run").chain(args.iter().copied())).unwrap().run
    }

    #[test]
    fn options_after_the_module_are_the_guests() {
        let args = parse(&["-v", "dir/app.wasm", "--dir", "x", "-W", "--", "y"]);
        assert!(args.verbose && args.dirs.is_empty());
        assert_eq!(args.module(), Path::new("dir/app.wasm"));
        assert_eq!(args.arguments().unwrap(), ["--dir", "x", "-W", "--", "y"]);
    }

    #[test]
    fn directories_and_variables_are_read_as_wasmtime_reads_them() {
        let args = parse(&["--dir", "a", "--dir=b::/c", "--env", "X=1=2", "--env=X=3", "m"]);
        assert_eq!(args.dirs[0], Dir { host: "a".into(), guest: "a".into() });
        assert_eq!(args.dirs[1], Dir { host: "b".into(), guest: "/c".into() });
        assert_eq!(args.environment(false).unwrap(), [("X".into(), "3".into())]);
        let unset = parse(&["--env", "WASI_GUARD_TEST_NEVER_SET", "--env=PATH", "m"]);
        let env = unset.environment(false).unwrap();
        assert_eq!(env, [("PATH".into(), std::env::var("PATH").unwrap())]);
        for wrong in [&["--dir", "::x", "m"][..], &["--env", "=x", "m"], &["--audit-fd=-1", "m"]] {
            assert!(Line::try_parse_from(std::iter::once(&"run").chain(wrong)).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn a_directory_is_read_whole_or_refused(text in "(::?|/|\\.|a|ü|\\PC){0,6}") {
            let parts: Vec<&str> = text.splitn(2, "::").collect();
            let good = parts.iter().all(|part| !part.is_empty());
            match parse_dir(&text) {
                Ok(Dir { host, guest }) => {
                    proptest::prop_assert!(good);
                    proptest::prop_assert_eq!(host, Path::new(parts[0]));
                    proptest::prop_assert_eq!(guest, parts[parts.len() - 1]);
                }
                Err(message) => proptest::prop_assert!(!good && message.contains("HOST::GUEST")),
            }
        }
    }

    #[test]
    fn groups_of_options_keep_their_letters() {
        let args =
            parse(&["-Wfuel=1", "-S", "cli=y", "-Oopt-level=2", "--wasm", "timeout=1s", "m"]);
        let mut raw = args.engine.raw();
        raw.sort();
        assert_eq!(raw, ["-Oopt-level=2", "-Scli=y", "-Wfuel=1", "-Wtimeout=1s"]);
        assert_eq!(args.check().unwrap().fuel(), Some(1));
    }

    #[test]
    fn a_policy_and_grants_beside_it_are_refused() {
        for (args, word) in [
            (&["--policy=p", "--dir=a", "m"][..], "--dir"),
            (&["--policy=p", "-Sinherit-network", "m"], "inherit-network"),
            (&["--invoke=f", "m"], "--invoke"),
        ] {
            let error = parse(args).check().unwrap_err();
            assert!(error.step.contains(word), "{error:?}");
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn the_mode_is_one_of_two() {
        assert_eq!(parse(&["--mode", "audit", "m"]).mode(), Some(Mode::Audit));
        assert_eq!(parse(&["m"]).mode(), None);
        assert!(Line::try_parse_from(["run", "--mode", "off", "m"]).is_err());
    }
}
