//! Keeps the shared object that holds this copy of the allocator in memory until the process ends.
//!
//! A plugin that has its own copy may be unloaded while threads go on that used it: the destructor of their thread key,
//! handlers around forks, a background thread and event callbacks all lie in it, and its heap would be lost with it, a
//! terabyte of address space each time. Loaded again, a pinned plugin is the same object with the same heap.
//!
//! glibc finds an object that is loaded by the string under which it was loaded, so this works when the path is relative
//! and the directory has changed since, or when the file is gone. An object in a namespace of its own (`dlmopen`) is
//! looked for in that one. Where glibc refuses, the object is unloaded as any other. musl never unloads.
//!
//! Invariant: errno is afterwards what it was before. Called from a constructor, under the loader's lock, which is
//! recursive; or from a thread's first allocation, without any lock of ours. What the loader allocates is libc's.

#![allow(unsafe_code, reason = "asks libc's loader")]

#[cfg(all(target_env = "gnu", not(target_feature = "crt-static"), not(miri)))]
pub(super) fn pin() {
    use core::mem::MaybeUninit;

    /// The object that holds an address: where it begins, and its name.
    fn object_of(address: *const libc::c_void) -> Option<libc::Dl_info> {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: `info` is valid for writes; any address may be asked for.
        let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0;
        // SAFETY: all zeros are a valid value, and dladdr writes only valid ones.
        found.then(|| unsafe { info.assume_init() })
    }

    // SAFETY: the call looks up a number. 0 is no address of an object.
    let program = unsafe { libc::getauxval(libc::AT_PHDR) } as *const libc::c_void;
    let Some(own) = object_of(pin as fn() as *const libc::c_void) else { return };
    let is_program = object_of(program).is_some_and(|program| program.dli_fbase == own.dli_fbase);
    if is_program || own.dli_fname.is_null() {
        return;
    }
    // SAFETY: the place of errno is valid for the thread's life.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; only this thread uses it.
    let before = unsafe { *errno };
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: the name is a string of the loader's that lives as long as the object, whose code this is. Nothing is
    // loaded, so no constructor runs.
    if unsafe { libc::dlopen(own.dli_fname, flags) }.is_null() {
        // SAFETY: takes the message back, which the program did not cause.
        unsafe { libc::dlerror() };
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Nothing is ever unloaded.
#[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"), not(miri))))]
pub(super) fn pin() {}
