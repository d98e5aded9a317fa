//! A directory in which commands run.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Where cases and fixtures are.
pub(crate) const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli");

/// A directory of its own, in which users of any id may look around.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Self(directory);
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for case in fs::read_dir(CASES).unwrap() {
            let case = case.unwrap().path();
            let wanted = case.extension().is_some_and(|it| it == "toml" || it == "wat");
            if wanted {
                fs::copy(&case, place.path().join(case.file_name().unwrap())).unwrap();
            }
        }
        let hello = wat::parse_file(place.path().join("hello.wat")).unwrap();
        fs::write(place.path().join("hello.wasm"), hello).unwrap();
        for directory in ["data", "data/out", "data/secret"] {
            fs::create_dir(place.path().join(directory)).unwrap();
        }
        fs::write(place.path().join("data/state.db"), "state").unwrap();
        symlink("data", place.path().join("link-to-data")).unwrap();
        fs::create_dir(place.path().join("bin")).unwrap();
        // By another process: a descriptor open for writing here would be inherited by what other
        // tests start at this moment, and the file be busy until they end.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_wasi-guard"))
            .arg(env!("CARGO_BIN_EXE_wasi-guard-worker"))
            .arg(place.path().join("bin"))
            .status();
        assert!(copied.unwrap().success());
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn shell(&self, script: &str) -> Output {
        Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(self.path())
            .env_clear()
            .env("PATH", format!("{}/bin:/usr/bin:/bin:/usr/sbin:/sbin", self.path().display()))
            .env("HOME", self.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a command printed and how it ended, without what differs among machines.
    pub(crate) fn transcript(&self, script: &str) -> String {
        let output = self.shell(script);
        let mut text = format!("$ {script}\n");
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                let part = String::from_utf8(bytes.clone()).unwrap();
                let _ = writeln!(text, "--- {name}\n{}", part.trim_end_matches('\n'));
            }
        }
        let _ = writeln!(text, "--- exit {}\n", output.status.code().unwrap());
        text.replace(&self.path().display().to_string(), "TEMP")
            .replace(env!("CARGO_PKG_VERSION"), "VERSION")
    }
}
