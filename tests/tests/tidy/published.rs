//! What an archive of a published package must hold: a README of its own that names its rooms, and both licences.

use std::fs;

use crate::rooms::PACKAGES;
use crate::source::root;

/// The packages that go to the registry.
const PUBLISHED: [&str; 4] = ["alloc", "map", "runtime", "runtime/cli"];

pub(crate) fn findings() -> Vec<String> {
    let mut findings = Vec::new();
    for package in PUBLISHED {
        let folder = root().join(package);
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let (own, ours) = (fs::read(folder.join(licence)), fs::read(root().join(licence)));
            if own.ok() != ours.ok() {
                findings.push(format!("{package}/{licence} is missing, or is not the workspace's"));
            }
        }
        match fs::read_to_string(folder.join("README.md")) {
            Ok(readme) => findings.extend(unnamed_rooms(package, &readme)),
            Err(error) => findings.push(format!("{package}/README.md: {error}")),
        }
    }
    findings
}

/// Rooms that the README does not name as `` `room/` ``.
fn unnamed_rooms(package: &str, readme: &str) -> Vec<String> {
    let rooms = PACKAGES.iter().filter(|(folder, _)| *folder == format!("{package}/src"));
    let unnamed = rooms.flat_map(|(_, rooms)| *rooms).filter(|room| !readme.contains(&format!("`{room}/`")));
    unnamed.map(|room| format!("{package}/README.md does not name the room `{room}/`")).collect()
}
