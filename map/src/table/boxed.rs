//! [`try_box`]: `Box::new` that reports a lack of memory instead of ending the process. No locks.
#![allow(unsafe_code, reason = "allocates the memory of a box")]

use core::alloc::Layout;
use core::ptr::NonNull;

use crate::generation::error::TryReserveError;

/// Moves `value` to the heap, if there is memory.
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>, TryReserveError> {
    const { assert!(size_of::<T>() > 0) };
    let layout = Layout::new::<T>();
    // SAFETY: the layout has a size. The memory has the layout of `T` and comes from the global allocator, as a box
    // wants it, and is written before it becomes one.
    unsafe {
        let memory = NonNull::new(std::alloc::alloc(layout).cast::<T>());
        let memory = memory.ok_or(TryReserveError::AllocError { layout })?;
        memory.write(value);
        Ok(Box::from_raw(memory.as_ptr()))
    }
}
