//! Files of the kernel: read by lines, or held open and read again and again.
//!
//! Locks: none. A [`HeldFile`] has one user at a time, which the caller sees to.
#![allow(unsafe_code, reason = "libc calls")]

use super::errno;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// The descriptor is not open, or not ours; and what says that a file is not there: no such name, a part of it that is no
/// folder, a control group that is gone.
pub(crate) use libc::{EBADF, ENODEV, ENOENT, ENOTDIR};

/// Longer lines are cut to this many bytes.
const LINE: usize = 1024;

/// Calls `line` with each line of a file, without its end.
///
/// # Errors
/// The errno. Lines before the one that could not be read were handed on.
pub(crate) fn each_line(path: &CStr, line: &mut dyn FnMut(&[u8])) -> Result<(), i32> {
    let file = open(path)?;
    let opened = identity(file);
    let result = lines_of(file, line);
    close_if(file, opened);
    result
}

fn lines_of(file: i32, line: &mut dyn FnMut(&[u8])) -> Result<(), i32> {
    let (mut buffer, mut held, mut long) = ([0_u8; LINE], 0, false);
    loop {
        let room = buffer.get_mut(held..).unwrap_or_default();
        let read = unless_interrupted(|| {
            // SAFETY: pointer and length are those of a live slice.
            (unsafe { libc::read(file, room.as_mut_ptr().cast(), room.len()) }) as i64
        })?;
        let read = read as usize;
        let end = held + read;
        let mut from = 0;
        while let Some(rest) = buffer.get(from..end)
            && let Some(len) = rest.iter().position(|byte| *byte == b'\n')
        {
            // The rest of a line whose beginning was handed on already is no line.
            if !core::mem::take(&mut long) {
                line(rest.get(..len).unwrap_or_default());
            }
            from += len + 1;
        }
        buffer.copy_within(from..end, 0);
        held = end - from;
        let full = held == LINE;
        if (read == 0 || full) && held > 0 && !long {
            line(buffer.get(..held).unwrap_or_default());
        }
        if full {
            (held, long) = (0, true);
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Calls again what a signal has interrupted, a few times at most.
fn unless_interrupted(mut call: impl FnMut() -> i64) -> Result<i64, i32> {
    for _ in 0..8 {
        let result = call();
        if result >= 0 {
            return Ok(result);
        }
        if errno() != libc::EINTR {
            break;
        }
    }
    Err(errno())
}

/// Opens a file to read it, as the lowest descriptor that is free.
fn open(path: &CStr) -> Result<i32, i32> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: the path ends with a 0.
    unless_interrupted(|| i64::from(unsafe { libc::open(path.as_ptr(), flags) })).map(|file| file as i32)
}

/// Closes a descriptor that was opened here, unless it has become the program's: then it leads to another file than was
/// `opened`.
fn close_if(file: i32, opened: Option<(u64, u64)>) {
    if identity(file) == opened {
        close(file);
    }
}

fn close(file: i32) {
    // SAFETY: the call takes a number alone. The caller opened it, and has seen that it leads to what was opened. A program
    // that closes descriptors which it does not own may get this one for a file of its own between that look and
    // this call; that file is closed then, as the comment of `HeldFile` says, and no memory of Rust depends on it.
    unsafe { libc::close(file) };
}

/// From here on descriptors are held: programs and tests count on low numbers.
const HIGH: u64 = 500;
/// Where the limit on descriptors is lower, they are held among the last so many.
const LAST: u64 = 32;

/// Gives a descriptor a high number. If there is none it keeps what it has: a program with so many open files does not
/// count on low ones.
fn moved_high(file: i32) -> i32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` may be written to. On failure it stays 0, and so does the least number that is asked for.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let least = HIGH.min(limit.rlim_cur.saturating_sub(LAST)) as i32;
    // SAFETY: the call takes numbers alone.
    let high = unsafe { libc::fcntl(file, libc::F_DUPFD_CLOEXEC, least) };
    if high < 0 {
        return file;
    }
    close_if(file, identity(high));
    high
}

/// The device and the inode behind a descriptor, if it is open.
fn identity(file: i32) -> Option<(u64, u64)> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // By number: `fstat` of some versions of glibc makes the call that finds files by name. On the 64-bit Linux targets
    // the kernel's structure is libc's.
    // SAFETY: `status` has room for the structure that the kernel writes.
    let result = unsafe { libc::syscall(libc::SYS_fstat, file, status.as_mut_ptr()) };
    // SAFETY: zeros are a valid value already.
    let status = unsafe { status.assume_init() };
    (result == 0).then_some((status.st_dev, status.st_ino))
}

/// No descriptor.
const NONE: i32 = -1;

/// A file that stays open, so that it can be read again where nothing may be opened.
///
/// The descriptor is closed on `exec` and has a high number. The program may close it nevertheless (daemons close all), and
/// get its number for a file of its own: so every use compares the file's identity with the one that was opened, and a
/// descriptor that is not ours any more is neither read nor closed.
///
/// Between that look and the use another thread may still put a file of its own there; the kernel has no call that does
/// both. A read then takes that file's content, unless the look after it tells, and changes nothing. A close closes the
/// program's file. That takes a program which closes descriptors that it does not own and opens one in the same few
/// hundred nanoseconds, on another thread. To make it rarer still, a file that is found to be the same again keeps its
/// descriptor: one is closed only if the file was replaced or is not wanted any more. Never inside an allocation or a free.
#[derive(Debug)]
pub(crate) struct HeldFile {
    // All orderings are SeqCst: rare.
    number: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

impl HeldFile {
    pub(crate) const fn new() -> Self {
        Self { number: AtomicI32::new(NONE), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    /// Opens a file and holds it instead of the one before. If that is the same one, it keeps its descriptor.
    ///
    /// # Errors
    /// The errno; then the one before is held, if there is one.
    pub(crate) fn open(&self, path: &CStr) -> Result<(), i32> {
        let file = open(path)?;
        let opened = identity(file);
        // Asked before the new one gets its number, which may be one that was held until the program closed it.
        let before = self.ours();
        if before.is_some() && opened == Some(self.opened()) {
            close_if(file, opened);
            return Ok(());
        }
        let file = moved_high(file);
        let Some((device, inode)) = identity(file).filter(|found| Some(*found) == opened) else {
            return Err(EBADF);
        };
        if let Some(before) = before.filter(|before| *before != file) {
            close_if(before, Some(self.opened()));
        }
        self.device.store(device, Ordering::SeqCst);
        self.inode.store(inode, Ordering::SeqCst);
        self.number.store(file, Ordering::SeqCst);
        Ok(())
    }

    /// Reads from the file's beginning. Returns how many bytes there are, at most as many as fit.
    ///
    /// # Errors
    /// The errno; `EBADF` if no file is held, or its descriptor is the program's now.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, i32> {
        let file = self.ours().ok_or(EBADF)?;
        let read = unless_interrupted(|| {
            // SAFETY: pointer and length are those of a live slice.
            (unsafe { libc::pread(file, buffer.as_mut_ptr().cast(), buffer.len(), 0) }) as i64
        })?;
        // What was closed and opened meanwhile is told here.
        self.ours().ok_or(EBADF)?;
        Ok(read as usize)
    }

    /// Whether a file was opened and is held since. It asks nobody.
    pub(crate) fn is_held(&self) -> bool {
        self.number.load(Ordering::SeqCst) != NONE
    }

    /// Holds nothing any more.
    pub(crate) fn close(&self) {
        if let Some(file) = self.ours() {
            close(file);
        }
        self.number.store(NONE, Ordering::SeqCst);
    }

    /// The descriptor, if it still is that of the file which was opened.
    fn ours(&self) -> Option<i32> {
        let file = Some(self.number.load(Ordering::SeqCst)).filter(|file| *file != NONE)?;
        (identity(file) == Some(self.opened())).then_some(file)
    }

    /// The device and the inode of the file that was opened last.
    fn opened(&self) -> (u64, u64) {
        (self.device.load(Ordering::SeqCst), self.inode.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::io::Write as _;

    fn path_of(file: &tempfile::NamedTempFile) -> CString {
        CString::new(file.path().as_os_str().as_encoded_bytes()).expect("no zero")
    }

    fn file_of(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a place for files");
        file.write_all(content).expect("room for it");
        file
    }

    fn lines_in(content: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        each_line(&path_of(&file_of(content)), &mut |line| lines.push(line.to_vec())).expect("readable");
        lines
    }

    #[test]
    fn files_are_read_by_lines() {
        assert!(lines_in(b"").is_empty());
        assert_eq!(lines_in(b"a\n\nbc"), [b"a".as_slice(), b"", b"bc"]);
        let long = [b"x\n".as_slice(), &[b'y'; 5000], b"\nz\n"].concat();
        assert_eq!(lines_in(&long), [b"x".as_slice(), &[b'y'; LINE], b"z"], "long lines are cut");
        let many = "0123456789\n".repeat(1000);
        assert_eq!(lines_in(many.as_bytes()).len(), 1000);
        assert_eq!(each_line(c"/no such file", &mut |_| panic!("no line")), Err(ENOENT));
        assert_eq!(each_line(c"/proc/self", &mut |_| panic!("a folder")), Err(libc::EISDIR));
    }

    fn text_of(file: &HeldFile) -> Result<Vec<u8>, i32> {
        let mut buffer = [0; 16];
        file.read(&mut buffer).map(|len| buffer[..len].to_vec())
    }

    #[test]
    fn a_held_file_is_read_again_and_out_of_the_way() {
        let (held, mut file) = (HeldFile::new(), file_of(b"one"));
        assert_eq!(text_of(&held), Err(EBADF), "nothing is held yet");
        held.open(&path_of(&file)).expect("readable");
        let number = held.number.load(Ordering::SeqCst);
        assert!(number >= 500, "{number}");
        // SAFETY: the call takes numbers alone.
        assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, libc::FD_CLOEXEC);
        assert_eq!(text_of(&held).as_deref(), Ok(b"one".as_slice()));
        file.write_all(b"two").expect("room for it");
        assert_eq!(text_of(&held).as_deref(), Ok(b"onetwo".as_slice()));
        assert_eq!(held.open(c"/no such file"), Err(ENOENT));
        assert_eq!(text_of(&held).as_deref(), Ok(b"onetwo".as_slice()), "the one before stays");
        let other = file_of(b"other");
        held.open(&path_of(&other)).expect("readable");
        assert_eq!(text_of(&held).as_deref(), Ok(b"other".as_slice()));
        let (number, opened) = (held.number.load(Ordering::SeqCst), held.opened());
        held.close();
        // Another test may have the number by now.
        assert_ne!(identity(number), Some(opened), "closed");
        assert_eq!(text_of(&held), Err(EBADF));
    }

    #[test]
    fn a_file_that_is_still_the_same_keeps_its_descriptor() {
        let (held, file) = (HeldFile::new(), file_of(b"ours"));
        held.open(&path_of(&file)).expect("readable");
        let number = held.number.load(Ordering::SeqCst);
        // A mark that a new descriptor would not have.
        // SAFETY: the call takes numbers alone.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        held.open(&path_of(&file)).expect("readable");
        assert_eq!(held.number.load(Ordering::SeqCst), number);
        // SAFETY: the call takes numbers alone.
        assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, 0, "it was not closed");
        held.close();
    }

    #[test]
    fn a_number_that_the_program_takes_while_a_file_is_read_is_not_closed() {
        let (file, other) = (file_of(b"a\nb\n"), file_of(b"theirs"));
        let opened = identity(std::os::fd::AsRawFd::as_raw_fd(&file));
        let theirs = std::os::fd::AsRawFd::as_raw_fd(&other);
        let mut number = NONE;
        each_line(&path_of(&file), &mut |_| {
            let own = std::os::fd::AsRawFd::as_raw_fd(&file);
            let found = (3..400).find(|number| *number != own && identity(*number) == opened);
            number = found.unwrap_or(number);
            // SAFETY: the number is that of the file which is being read, and this test copes with that.
            unsafe { libc::dup2(theirs, number) };
        })
        .expect("readable");
        assert_ne!(number, NONE);
        assert_eq!(identity(number), identity(theirs), "not ours to close");
        close(number);
    }

    #[test]
    fn a_descriptor_that_has_become_the_programs_is_neither_read_nor_closed() {
        let (held, file, other) = (HeldFile::new(), file_of(b"ours"), file_of(b"theirs"));
        held.open(&path_of(&file)).expect("readable");
        let number = held.number.load(Ordering::SeqCst);
        // SAFETY: the number is held by this test's file, which copes with that.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&other), number) };
        assert_eq!(text_of(&held), Err(EBADF));
        held.close();
        assert!(identity(number).is_some(), "not ours to close");
        close(number);
        held.open(&path_of(&file)).expect("readable");
        close(held.number.load(Ordering::SeqCst));
        assert_eq!(text_of(&held), Err(EBADF), "closed behind our back");
        held.open(&path_of(&file)).expect("readable");
        assert_eq!(text_of(&held).as_deref(), Ok(b"ours".as_slice()));
        held.close();
    }
}
