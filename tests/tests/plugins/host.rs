//! What a host does: finds a plugin, loads it, calls its functions, unloads it. And what the kernel says of the process.
#![allow(unsafe_code, reason = "dlopen and what it loads are C")]

use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};

pub(crate) const ONE: &str = "plugin_one";
pub(crate) const TWO: &str = "plugin_two";
pub(crate) const MIB: u64 = 1 << 20;

/// Where the build put a plugin: in the folder of the examples beside that of this program.
pub(crate) fn path_of(plugin: &str) -> PathBuf {
    let program = std::env::current_exe().expect("a program has a path");
    let folder = program.ancestors().nth(2).expect("target/PROFILE/deps/PROGRAM").join("examples");
    let path = folder.join(format!("lib{plugin}.so"));
    assert!(path.exists(), "{} is missing: cargo build -p ebbtide-tests --examples", path.display());
    path
}

/// A plugin that is loaded. It stays so until it is unloaded.
#[derive(Debug)]
pub(crate) struct Plugin(*mut c_void);

// SAFETY: a handle of dlopen may be used by any thread.
unsafe impl Send for Plugin {}

/// A function of a plugin. May be called after the host has unloaded the plugin, if that stays in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function(extern "C" fn(u64) -> u64);

impl Function {
    pub(crate) fn call(self, argument: u64) -> u64 {
        self.0(argument)
    }
}

impl Plugin {
    #[track_caller]
    pub(crate) fn load(path: &Path) -> Self {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero");
        // SAFETY: the plugins' constructors have no precondition.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        // SAFETY: after a failure dlerror returns a string.
        assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
        Self(handle)
    }

    /// Loads it with all that it depends on into a new namespace.
    pub(crate) fn load_apart(path: &Path) -> Self {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero");
        // SAFETY: as in `load`.
        let handle = unsafe { libc::dlmopen(libc::LM_ID_NEWLM, name.as_ptr(), libc::RTLD_NOW) };
        // SAFETY: after a failure dlerror returns a string.
        assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
        Self(handle)
    }

    fn address(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is that of a loaded object, the name a string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!address.is_null(), "{name:?} is missing");
        address
    }

    pub(crate) fn function(&self, name: &CStr) -> Function {
        // SAFETY: the plugins' functions of one argument have this signature.
        Function(unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(u64) -> u64>(self.address(name)) })
    }

    pub(crate) fn call(&self, name: &CStr, argument: u64) -> u64 {
        self.function(name).call(argument)
    }

    /// The function `plugin_burst`.
    pub(crate) fn burst(&self, policy: u64, mib: u64) -> u64 {
        let address = self.address(c"plugin_burst");
        // SAFETY: the function has this signature.
        let burst = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(u64, u64) -> u64>(address) };
        burst(policy, mib)
    }

    pub(crate) fn unload(self) {
        // SAFETY: the handle was not closed before.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}

/// A number of `/proc/self/status`, in bytes.
pub(crate) fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse::<u64>().ok()).expect("a number of KiB") * 1024
}
