//! [`Tree`]: files that exist nowhere else, and refuse as the kernel may.

use super::{Files, Path};
use crate::kernel::files::{EBADF, ENODEV, ENOENT};
use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Contents by path. Opening takes a descriptor, of which there may be none left.
#[derive(Default)]
pub(crate) struct Tree {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    /// The errno with which a path refuses.
    refused: RefCell<BTreeMap<String, i32>>,
    held: RefCell<BTreeMap<usize, String>>,
    /// How often something was opened.
    pub(crate) opened: Cell<usize>,
    /// Whether the process has locked itself in.
    pub(crate) locked: Cell<bool>,
}

impl Tree {
    pub(crate) fn with(self, path: &str, content: &str) -> Self {
        self.set(path, content);
        self
    }

    pub(crate) fn set(&self, path: &str, content: &str) {
        self.files.borrow_mut().insert(path.to_owned(), content.as_bytes().to_vec());
    }

    pub(crate) fn remove(&self, path: &str) {
        self.files.borrow_mut().remove(path);
    }

    /// From now on opening `path` fails; 0: no more.
    pub(crate) fn refuse(&self, path: &str, errno: i32) {
        self.refused.borrow_mut().insert(path.to_owned(), errno);
    }

    /// What is held, as paths.
    pub(crate) fn held(&self) -> Vec<String> {
        self.held.borrow().values().cloned().collect()
    }

    /// As a program that closes all descriptors.
    pub(crate) fn close_all(&self) {
        self.held.borrow_mut().clear();
    }

    /// A group of version 2, and mounts of (root, point).
    pub(crate) fn mounted(group: &str, mounts: &[(&str, &str)]) -> Self {
        let mut lines = "22 1 0:20 / /proc rw shared:1 - proc proc rw\n".to_owned();
        for (root, point) in mounts {
            let point = point.replace(' ', "\\040");
            lines += &format!(
                "30 24 0:26 {root} {point} rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
            );
        }
        Self::default()
            .with("/proc/self/cgroup", &format!("0::{group}\n"))
            .with("/proc/self/mountinfo", &lines)
    }

    pub(crate) fn two(group: &str, root: &str) -> Self {
        Self::mounted(group, &[(root, "/sys/fs/cgroup")])
    }

    pub(crate) fn one(group: &str, root: &str) -> Self {
        let mounts = format!(
            "30 24 0:26 {root} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             31 24 0:27 {root} /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
        );
        let groups = format!("5:cpu,cpuacct:/other\n4:memory:{group}\n1:name=systemd:/\n");
        Self::default().with("/proc/self/cgroup", &groups).with("/proc/self/mountinfo", &mounts)
    }

    fn open(&self, path: &Path) -> Result<String, i32> {
        self.opened.set(self.opened.get() + 1);
        let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
        match self.refused.borrow().get(&path) {
            Some(errno) if *errno != 0 => return Err(*errno),
            _ => {}
        }
        if self.files.borrow().contains_key(&path) { Ok(path) } else { Err(ENOENT) }
    }
}

impl Files for Tree {
    fn may_read(&self) -> bool {
        !self.locked.get()
    }

    fn each_line(&self, path: &Path, line: &mut dyn FnMut(&[u8])) -> Result<(), i32> {
        let path = self.open(path)?;
        let files = self.files.borrow();
        let content = &files[&path];
        let lines = content.strip_suffix(b"\n").unwrap_or(content);
        lines.split(|byte| *byte == b'\n').for_each(line);
        Ok(())
    }

    fn hold(&self, slot: usize, path: &Path) -> Result<(), i32> {
        let path = self.open(path)?;
        self.held.borrow_mut().insert(slot, path);
        Ok(())
    }

    fn read_held(&self, slot: usize, buffer: &mut [u8]) -> Result<usize, i32> {
        let held = self.held.borrow();
        let path = held.get(&slot).ok_or(EBADF)?;
        // The group of an open file may be gone.
        let files = self.files.borrow();
        let content = files.get(path).ok_or(ENODEV)?;
        let len = content.len().min(buffer.len());
        buffer[..len].copy_from_slice(&content[..len]);
        Ok(len)
    }

    fn let_go(&self, slot: usize) {
        self.held.borrow_mut().remove(&slot);
    }
}
