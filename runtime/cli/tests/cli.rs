//! The `ebbtide` command as its users meet it: what it prints, where, and its exit codes. Each test runs the binary.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PHASES: [&str; 6] = ["start", "filled", "deleted", "shrunk", "released", "refilled"];
const FIELDS: [&str; 10] = [
    "phase",
    "len",
    "capacity",
    "logical_bytes",
    "heap_inuse_bytes",
    "heap_free_bytes",
    "heap_released_bytes",
    "rss_bytes",
    "elapsed_ns",
    "max_pause_ns",
];

fn ebbtide(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command.args(arguments).env_remove("EBBTIDE_POLICY").env_remove("EBBTIDE_TRACE");
    command
}

fn run(arguments: &[&str]) -> Output {
    ebbtide(arguments).output().expect("it starts")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

/// The document that a successful run printed, which is all that it printed.
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    assert_eq!(stderr(output), "");
    serde_json::from_str(stdout(output)).expect("nothing but JSON")
}

fn lens(document: &Value) -> Vec<u64> {
    let phases = document["phases"].as_array().expect("a list");
    phases.iter().map(|phase| phase["len"].as_u64().expect("a number")).collect()
}

/// It fails as bad usage does, with one line on stderr that says `about`.
fn assert_refused(output: &Output, about: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert_eq!(stdout(output), "");
    assert_eq!(stderr(output).lines().count(), 1, "{}", stderr(output));
    assert!(stderr(output).contains(about), "{}", stderr(output));
}

#[test]
fn json_has_the_schema_and_the_phases_in_order() {
    let document = json(&run(&["demo", "--entries", "2000", "--json"]));
    let object = document.as_object().expect("an object");
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["phases", "policy", "schema"]);
    assert_eq!((&document["schema"], &document["policy"]), (&Value::from(1), &Value::from("off")));
    let phases = document["phases"].as_array().expect("a list");
    let names: Vec<&str> = phases.iter().filter_map(|phase| phase["phase"].as_str()).collect();
    assert_eq!(names, PHASES);
    for phase in phases {
        let fields = phase.as_object().expect("an object");
        assert_eq!(fields.len(), FIELDS.len());
        assert!(FIELDS.iter().skip(1).all(|field| fields[*field].is_u64()), "{phase}");
        assert!(fields["rss_bytes"].as_u64() > Some(0));
    }
    assert_eq!(lens(&document), [0, 2000, 100, 100, 100, 2000]);
}

#[test]
fn demo_is_what_runs_without_a_subcommand() {
    let document = json(&run(&["--json", "--entries", "100", "--keep", "50", "--policy", "percent:25"]));
    assert_eq!(lens(&document), [0, 100, 50, 50, 50, 100]);
    assert_eq!(document["policy"], "percent:25");
}

#[test]
fn input_files_and_folders_are_indexed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("one.txt");
    std::fs::write(&file, "ebb and flow, flow and ebb").expect("written");
    let more = folder.path().join("more");
    std::fs::create_dir(&more).expect("made");
    std::fs::write(more.join("two.txt"), "tide and time").expect("written");
    let paths = [file.to_str().expect("text"), more.to_str().expect("text")];
    let document = json(&run(&["--json", "--input", paths[0], paths[1]]));
    assert_eq!(lens(&document), [0, 5, 1, 1, 1, 5]);
}

#[test]
fn a_missing_input_is_one_line_that_names_it() {
    assert_refused(&run(&["--input", "/no/such/input.txt"]), "/no/such/input.txt");
    let here = env!("CARGO_MANIFEST_DIR");
    assert_refused(&run(&["--json", "--input", here, "/no/such/input.txt"]), "/no/such/input.txt");
}

#[test]
fn values_out_of_range_are_refused() {
    for (option, value) in
        [("--keep", "101"), ("--keep", "-5"), ("--entries", "none"), ("--policy", "percent:x")]
    {
        let output = run(&[option, value]);
        assert_eq!(output.status.code(), Some(2), "{option} {value}");
        assert!(stderr(&output).contains(option) && stdout(&output).is_empty(), "{}", stderr(&output));
    }
}

#[test]
fn people_get_a_table_and_a_sentence() {
    let output = run(&["--entries", "2000"]);
    assert!(output.status.success());
    let text = stdout(&output);
    assert!(PHASES.iter().all(|phase| text.contains(phase)), "{text}");
    assert!(
        text.contains("The logical shrink changed RSS by ") && text.contains(" MiB of live data."),
        "{text}"
    );
    assert_eq!(stderr(&output), "", "no progress bar where there is no terminal");
}

#[test]
fn help_lists_the_exit_codes() {
    for arguments in [&["--help"][..], &["demo", "--help"]] {
        let output = run(arguments);
        assert!(output.status.success() && stdout(&output).contains("Exit codes:"), "{}", stdout(&output));
    }
}

#[test]
fn the_report_is_one_page_that_needs_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.html");
    let output = run(&["--entries", "2000", "--json", "--report", path.to_str().expect("text")]);
    assert_eq!(lens(&json(&output)).len(), 6);
    let page = std::fs::read_to_string(&path).expect("written");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"));
    let references = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    assert!(
        !references.contains("http://") && !references.contains("https://") && !references.contains("src=")
    );
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_the_work() {
    let missing = "/no/such/folder/report.html";
    // So many entries would take minutes.
    let output = run(&["--entries", "100000000", "--report", missing]);
    assert_refused(&output, missing);
    assert!(!Path::new(missing).exists());
}

#[test]
fn an_unreadable_policy_is_one_line_before_main() {
    let output = ebbtide(&["--version"]).env("EBBTIDE_POLICY", "sometimes").output().expect("it starts");
    assert!(output.status.success());
    let expected = "ebbtide: EBBTIDE_POLICY=\"sometimes\" ignored: expected off, percent:N or background:N; using \
                    percent:10\n";
    assert_eq!(stderr(&output), expected);
    assert!(stdout(&output).starts_with("ebbtide "));
}

#[test]
fn an_unreadable_trace_is_one_line() {
    let output = ebbtide(&["--version"]).env("EBBTIDE_TRACE", "everything").output().expect("it starts");
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("EBBTIDE_TRACE=\"everything\""));
}

#[test]
fn the_forced_release_is_traced() {
    let output = ebbtide(&["--entries", "2000", "--json"])
        .env("EBBTIDE_TRACE", "release")
        .output()
        .expect("it starts");
    let lines: Vec<&str> = stderr(&output).lines().collect();
    let [line] = lines[..] else { panic!("one release, one line: {lines:?}") };
    assert!(line.starts_with("ebbtide release 1 @") && line.ends_with(" calls (forced)"), "{line}");
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok(), "stdout stays JSON");
}

#[test]
fn releases_by_policy_are_traced() {
    let mut command = ebbtide(&["--entries", "200000", "--json", "--policy", "percent:10"]);
    let output = command.env("EBBTIDE_TRACE", "release").output().expect("it starts");
    let by_policy = stderr(&output).lines().filter(|line| line.ends_with(" calls (policy)")).count();
    let forced = stderr(&output).lines().filter(|line| line.ends_with(" calls (forced)")).count();
    assert!(by_policy > 0 && forced == 1, "{}", stderr(&output));
    let off = ebbtide(&["--entries", "200000", "--json"])
        .env("EBBTIDE_TRACE", "release")
        .output()
        .expect("it starts");
    assert!(!stderr(&off).contains("(policy)"), "{}", stderr(&off));
}

#[test]
fn the_life_of_the_map_is_traced() {
    let output =
        ebbtide(&["--entries", "20000", "--json"]).env("EBBTIDE_TRACE", "map").output().expect("it starts");
    for kind in ["grow", "shrink"] {
        let found = stderr(&output).lines().any(|line| {
            line.starts_with("ebbtide map \"words\" @") && line.contains(&format!("s: {kind} 2^"))
        });
        assert!(found, "{kind}: {}", stderr(&output));
    }
}

#[test]
fn under_policy_off_only_the_release_changes_rss() {
    let document = json(&run(&["--entries", "300000", "--json"]));
    let phase = |nth: usize, field: &str| document["phases"][nth][field].as_f64().expect("a number");
    let rss = |nth| phase(nth, "rss_bytes");
    // 5 % either way: the demo's own samples and the allocator's tables.
    assert!((rss(3) / rss(1) - 1.0).abs() < 0.05, "logical: {} -> {}", rss(1), rss(3));
    // 8 MiB: the program's code and tables, which no release reaches.
    let need = phase(4, "logical_bytes") * 1.3 + f64::from(8 << 20);
    assert!(rss(4) <= need, "physical: {} for {need}", rss(4));
}

#[test]
fn a_reader_who_leaves_is_no_panic() {
    let mut command = ebbtide(&["--entries", "2000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(stderr(&output), "");
}

#[test]
fn output_that_cannot_be_written_is_exit_code_1() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = ebbtide(&["--entries", "100", "--json"]).stdout(full).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}
