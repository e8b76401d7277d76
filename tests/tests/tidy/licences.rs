//! The licence of every package that the workspace depends on must be one that an MIT OR Apache-2.0 project can ship.

use std::process::Command;

use serde_json::Value;

use crate::source::root;

const ALLOWED: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Zlib",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "MPL-2.0",
];

/// What the workspace's own packages must say.
const OWN: &str = "MIT OR Apache-2.0";

/// Does the SPDX expression leave a choice that is allowed? `/` is the old spelling of OR.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) == Some(true) && rest.is_empty()
}

/// Takes `word` off the front, if it is there.
fn accept(rest: &mut &[&str], word: &str) -> bool {
    let found = rest.first() == Some(&word);
    if found {
        *rest = &rest[1..];
    }
    found
}

/// `a OR b OR ..`, which binds less than AND. None if it is no expression.
fn either(rest: &mut &[&str]) -> Option<bool> {
    let mut result = both(rest)?;
    while accept(rest, "OR") {
        result |= both(rest)?;
    }
    Some(result)
}

fn both(rest: &mut &[&str]) -> Option<bool> {
    let mut result = one(rest)?;
    while accept(rest, "AND") {
        result &= one(rest)?;
    }
    Some(result)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    if accept(rest, "(") {
        let result = either(rest)?;
        return accept(rest, ")").then_some(result);
    }
    let mut licence = (*rest.split_off_first()?).to_owned();
    if accept(rest, "WITH") {
        licence = format!("{licence} WITH {}", rest.split_off_first()?);
    }
    Some(ALLOWED.contains(&licence.as_str()))
}

fn metadata(extra: &[&str]) -> Result<Value, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--filter-platform", &host]).args(extra);
    let output =
        command.current_dir(root()).output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata is no JSON: {error}"))
}

fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    assert!(packages.len() > 5, "the workspace itself has as many");
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or("?");
        let licence = package["license"].as_str().unwrap_or("");
        // Packages of this workspace have no registry they come from.
        if package["source"].is_null() && licence != OWN {
            findings.push(format!("{name} (ours) says {licence:?}, not {OWN:?}"));
        } else if !allowed(licence) {
            findings.push(format!("{name}: {licence:?}"));
        }
    }
    findings
}

/// What is wrong with the licences: of the default build always, and of the optional peers too where cargo has them.
pub(crate) fn findings() -> Vec<String> {
    // Offline, so that a test needs no network; a package of the workspace that was never built here may be missing.
    let default =
        metadata(&["--offline"]).or_else(|_| metadata(&[])).expect("cargo knows the workspace's packages");
    let mut findings = check(&default);
    if let Ok(all) = metadata(&["--offline", "--all-features"]) {
        findings.extend(check(&all));
    }
    findings.sort();
    findings.dedup();
    findings
}

#[test]
fn expressions() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(allowed(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT OR", "(MIT", "MIT WITH something", "Proprietary"] {
        assert!(!allowed(bad), "{bad}");
    }
}
