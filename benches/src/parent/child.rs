//! Builds the programs of the peers and runs them, one at a time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::parent::peer::Peer;

/// A built program.
#[derive(Clone, Debug)]
pub struct Program {
    /// The allocator it runs on.
    pub peer: Peer,
    path: PathBuf,
    /// Set for its runs, where the environment does not say otherwise.
    defaults: Vec<(&'static str, &'static str)>,
}

/// The target directory that this bench or experiment was built in: `<target>/release/deps/<bench>`.
///
/// # Errors
/// If this program's path is not known, or not of that kind.
pub fn target_dir() -> Result<PathBuf, String> {
    let exe = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let dir = exe.ancestors().nth(3).ok_or("this program does not lie in a target directory")?;
    Ok(dir.to_path_buf())
}

/// Runs this program again, and reads the line of JSON that it prints. `what` names the run in errors.
///
/// # Errors
/// If it cannot be run, fails, or prints anything else.
pub fn run_self(words: &[&str], variables: &[(&str, &str)], what: &str) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    json_from(Command::new(program).args(words).envs(variables.iter().copied()), what)
}

/// Runs a command, and reads the line of JSON that it prints. What it says on stderr goes to this process's.
fn json_from(command: &mut Command, what: &str) -> Result<Value, String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot run {what}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{what}: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{what} printed no JSON: {error}"))
}

/// Path of the example that cargo's JSON messages name.
fn executable(messages: &str, example: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let matches = message["target"]["name"] == example;
        message["executable"].as_str().filter(|_| matches).map(PathBuf::from)
    })
}

/// Builds the peer's program with the profile of the benches.
///
/// # Errors
/// If cargo cannot be run or the build fails. What cargo says goes to stderr.
pub fn build(peer: Peer) -> Result<Program, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--profile", "bench", "--message-format", "json-render-diagnostics"]);
    command.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target_dir()?);
    command.args(["--example", peer.example, "--features", &peer.features.join(",")]);
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cannot build {}: {}", peer.example, output.status));
    }
    let path = executable(&String::from_utf8_lossy(&output.stdout), peer.example);
    let path = path.ok_or_else(|| format!("cargo names no executable for {}", peer.example))?;
    Ok(Program { peer, path, defaults: Vec::new() })
}

impl Program {
    /// Sets an environment variable for the runs, unless the user has set it.
    #[must_use]
    pub fn with_default(mut self, name: &'static str, value: &'static str) -> Self {
        if std::env::var_os(name).is_none() {
            self.defaults.push((name, value));
        }
        self
    }

    /// Runs the program, and reads the line of JSON that it prints.
    ///
    /// # Errors
    /// If it cannot be run, fails, or prints anything else.
    pub fn run(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(&self.path);
        command.args(arguments).envs(self.defaults.iter().copied());
        json_from(&mut command, &format!("{} {}", self.peer.example, arguments.join(" ")))
    }

    /// The allocator's version, as the program knows it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn version(&self) -> Result<String, String> {
        let value = self.run(&["version"])?;
        Ok(value["version"].as_str().unwrap_or("unknown").to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_prints_json_or_is_an_error() {
        let child = |script: &str| json_from(Command::new("sh").args(["-c", script]), "the child");
        assert_eq!(child("echo '{\"ns\": 3}'").map(|value| value["ns"].as_u64()), Ok(Some(3)));
        for (script, error) in
            [("exit 3", "the child: exit status: 3"), ("echo fast", "the child printed no JSON")]
        {
            assert!(child(script).is_err_and(|said| said.starts_with(error)), "{script}");
        }
        let missing = json_from(&mut Command::new("/no/such/program"), "the child");
        assert!(missing.is_err_and(|said| said.starts_with("cannot run the child")));
    }
}
