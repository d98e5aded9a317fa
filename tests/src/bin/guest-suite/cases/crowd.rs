//! Many guests at once.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::Case;
use crate::expect;
use crate::lab::{Folder, Lab};
use crate::program::{guarded, parse};

pub(super) const CASES: &[Case] =
    &[Case { name: "a_hundred_guests_at_once", run: a_hundred_guests }];

const GUESTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(900);

/// Each with a policy of its own that lets it read one file, the neighbour's being denied.
fn a_hundred_guests(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    for number in 0..GUESTS {
        folder.file(&format!("data/{number}"), format!("text {number}"))?;
        folder.file(
            &format!("{number}.toml"),
            format!(
                "version = 1\n[[preopen]]\nguest = \"/d\"\nhost = \"data\"\nread = [\"{number}\"]\n"
            ),
        )?;
    }
    guarded(&["compile", "/guests/files.wasm"]).finish()?.exits(0)?;
    let mut crowd = Vec::new();
    for number in 0..GUESTS {
        crowd.push(start(&folder, number)?);
    }
    let start = Instant::now();
    let mut results = Vec::new();
    for mut child in crowd {
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if start.elapsed() > PATIENCE {
                let _ = (child.kill(), child.wait());
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        results.push(status);
    }
    eprintln!("{GUESTS} guests at once: {:.1} s", start.elapsed().as_secs_f64());
    for (number, status) in results.into_iter().enumerate() {
        let stderr = folder.read(&format!("{number}.err"))?;
        let status = status.with_context(|| format!("guest {number} hangs: {stderr}"))?;
        ensure!(status.success(), "guest {number}: {status}: {stderr}");
        let next = (number + 1) % GUESTS;
        let expected = format!("read /d/{number}: text {number}\nread /d/{next}: EACCES\n");
        folder.holds(&format!("{number}.out"), &expected)?;
        let records = parse(&stderr)?;
        let (first, last) = records.first().zip(records.last()).context("an audit")?;
        expect::audit(&records, first, last).with_context(|| stderr.clone())?;
        ensure!(records[1]["path"] == format!("/d/{next}"), "its own denial: {stderr}");
    }
    Ok(())
}

fn start(folder: &Folder, number: usize) -> Result<Child> {
    let next = (number + 1) % GUESTS;
    Command::new("wasi-guard")
        .args(["run", "--policy", &folder.text(&format!("{number}.toml")), "/guests/files.wasm"])
        .args(["read", &format!("/d/{number}"), "read", &format!("/d/{next}")])
        .stdin(Stdio::null())
        .stdout(File::create(folder.path(&format!("{number}.out")))?)
        .stderr(File::create(folder.path(&format!("{number}.err")))?)
        .spawn()
        .context("start a guest")
}
